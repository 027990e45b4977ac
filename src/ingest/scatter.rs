//! Reads the logs and scatters their rows to temporary files by hash.
//!
//! One thread reads blocks (`reading`); others parse them, each with its own buffers, caches and counts, so that no row takes a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::budget::{Budget, partition_of};
use super::contexts::{Contexts, SeenContexts};
use super::error::IngestError;
use super::events::{EXPOSURE, Events, SeenEvents};
use super::histogram::Histogram;
use super::ids::{self, HEAD, SeenIds};
use super::options::{IngestOptions, OnError};
use super::pipeline::Whole;
use super::read::{BadRow, Reason, Row, RowSink, Scratch, Source};
use super::read_state::{ReadState, RowCounts};
use super::reading::{Job, Message, Place, Plan, Reader};
use super::record::{Layout, Places, Record, Tags};
use super::rejects::{self, Rejects};
use super::spill::{Gather, Spill, TempSpace};
use crate::context::{Context, Stage, Unit};
use crate::dataset::{self, ContextTable, Part, id_hash};
use crate::storage::StorageError;

/// How long a thread waits before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// The rows on disk, by partition of their users; the ids, by partition of their own.
pub(super) struct Scattered {
    pub(super) layout: Layout,
    pub(super) records: Vec<Spill>,
    pub(super) users: Vec<Spill>,
    pub(super) items: Vec<Spill>,
    pub(super) counts: RowCounts,
    pub(super) histogram: Option<Histogram>,
    pub(super) sources: Vec<dataset::Source>,
    pub(super) events: Vec<String>,
    /// A type of exposures that no row has.
    pub(super) misspelt: Option<IngestError>,
    /// What combinations of context there are, if any are asked for.
    pub(super) contexts: Option<ContextTable>,
    pub(super) places: Places,
}

/// How reading is made durable.
pub(super) struct Checkpoints<'a> {
    /// What an earlier run left.
    pub(super) resume: Option<ReadState>,
    /// The time between two of them.
    pub(super) every: Duration,
    /// Called when all that the state names is durable.
    pub(super) save: &'a dyn Fn(ReadState) -> Result<(), IngestError>,
}

/// What the parsers share.
struct Shared<'a> {
    options: &'a IngestOptions,
    whole: Whole,
    parts: Vec<Part>,
    budget: &'a Budget,
    /// Records, users' ids and items' ids.
    spills: [Vec<Spill>; 3],
    events: Events,
    contexts: Contexts,
    /// Bytes that combinations of context may take.
    context_bytes: usize,
    rejects: &'a Rejects,
    rows: Vec<AtomicU64>,
    bytes: Vec<AtomicU64>,
    /// The error that comes first in the log, with its block's number.
    failed: Mutex<Option<(u64, IngestError)>>,
    stop: AtomicBool,
    done: Mutex<Done>,
    stage: Stage<'a>,
    by_bytes: bool,
    ctx: &'a Context,
}

#[derive(Default)]
struct Done {
    layout: Layout,
    counts: RowCounts,
    histogram: Option<Histogram>,
}

/// Reads `sources` in turn, with `context_bytes` beside the budget for combinations of context; rows of the second of each pair belong to that part. `rejects` goes on where `checkpoints` do.
#[allow(clippy::too_many_arguments)] // what to read, how, and within what
pub(super) fn scatter(
    sources: Vec<(Source, Part)>,
    options: &IngestOptions,
    whole: Whole,
    (budget, context_bytes): (&Budget, usize),
    space: &Arc<TempSpace>,
    rejects: &Rejects,
    checkpoints: Checkpoints<'_>,
    ctx: &Context,
) -> Result<Scattered, IngestError> {
    let begun = Instant::now();
    let Checkpoints { resume, every, save } = checkpoints;
    let total = sources.iter().map(|(s, _)| s.bytes()).sum::<Option<u64>>();
    let names: Vec<(String, Option<u64>)> = sources.iter().map(|(s, _)| (s.name().to_string(), s.bytes())).collect();
    let stage = match total {
        Some(_) => ctx.stage("reading", total, Unit::Bytes),
        None => ctx.stage("reading", None, Unit::Rows),
    };
    let zeros = || names.iter().map(|_| AtomicU64::new(0)).collect();
    let mut shared = Shared {
        options,
        whole,
        parts: sources.iter().map(|(_, part)| *part).collect(),
        budget,
        spills: [(); 3].map(|()| Spill::several(space, budget.partitions)),
        events: Events::new(options),
        contexts: Contexts::new(options, context_bytes),
        context_bytes,
        rejects,
        rows: zeros(),
        bytes: zeros(),
        failed: Mutex::new(None),
        stop: AtomicBool::new(false),
        done: Mutex::default(),
        stage,
        by_bytes: total.is_some(),
        ctx,
    };
    let mut durable = resume.is_some();
    let mut place = Place::default();
    if let Some(state) = resume {
        place = shared.restore(state, space)?;
    }
    if place.source < sources.len() {
        let plan = Plan {
            read: options.read.clone(),
            others: match whole {
                Whole::All => None,
                Whole::Piece(others) => Some(others),
            },
            by_time: options.split.is_by_time() || options.valid_split.is_by_time(),
            exposed: options.has_exposures(),
            limits: budget.limits,
            queue: budget.queue,
            leg: every,
            sources,
            ctx: ctx.clone(),
        };
        durable |= shared.read(plan, place, space, save)?;
        // What takes less time than lies between two checkpoints is done again.
        if durable || begun.elapsed() >= every {
            save(shared.state(Place::end(names.len()), space)?)?;
        }
    }
    let Shared { spills: [records, users, items], parts, events, contexts, rows, bytes, done, stage, .. } = shared;
    drop(stage);
    let Done { layout, counts, histogram } = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for spill in records.iter().chain(&users).chain(&items) {
        spill.seal();
    }
    let misspelt = events.check_exposures().err().filter(|_| counts.kept > 0);
    let (events, places_of_events) = events.finish();
    let (contexts, places_of_contexts) = contexts.finish();
    let places = Places { events: places_of_events, contexts: places_of_contexts };
    let sources = names
        .into_iter()
        .zip(parts)
        .zip(rows.iter().zip(&bytes))
        .map(|(((name, size), part), (rows, bytes))| dataset::Source {
            name,
            part: Some(part).filter(|part| *part != Part::Train),
            bytes: size.unwrap_or(bytes.load(Ordering::Relaxed)),
            rows: rows.load(Ordering::Relaxed),
        })
        .collect();
    Ok(Scattered { layout, records, users, items, counts, histogram, sources, events, misspelt, contexts, places })
}

/// Stops the other parsers when one panics: they may be waiting for the turn of a block that will never be handed in.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared<'_> {
    /// Reads leg by leg, and saves the state between two of them; returns whether there was a between.
    fn read(
        &self,
        plan: Plan,
        place: Place,
        space: &TempSpace,
        save: &dyn Fn(ReadState) -> Result<(), IngestError>,
    ) -> Result<bool, IngestError> {
        let count = plan.sources.len();
        let (reader, legs) = Reader::new(plan, place);
        let reader = std::thread::Builder::new().name("reader".into()).spawn(move || reader.run());
        let reader =
            reader.map_err(|e| StorageError::Io { path: "reader".into(), action: "start the thread", source: e })?;
        let mut saved = false;
        while let Ok(leg) = legs.recv() {
            std::thread::scope(|scope| {
                for _ in 0..self.budget.workers {
                    scope.spawn(|| self.work(&leg.blocks));
                }
            });
            self.ctx.check()?;
            if let Some((_, error)) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(error);
            }
            match leg.end.recv() {
                Ok(place) if place.source < count => save(self.state(place, space)?)?,
                _ => break,
            }
            saved = true;
        }
        // Joined only here, where it has sent all: after Ctrl-C a pipe may keep it waiting for ever. If it panicked, what
        // was read is not the whole log.
        if let Err(panic) = reader.join() {
            std::panic::resume_unwind(panic);
        }
        Ok(saved)
    }

    /// Makes durable what has been scattered, while no parser runs. `place` is where reading goes on.
    fn state(&self, place: Place, space: &TempSpace) -> Result<ReadState, IngestError> {
        let mut lengths: [Vec<u64>; 3] = Default::default();
        for (lengths, spills) in lengths.iter_mut().zip(&self.spills) {
            *lengths = spills.iter().map(Spill::sync).collect::<Result<_, _>>()?;
        }
        space.sync()?;
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let numbers = |of: &[AtomicU64]| of.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        Ok(ReadState {
            place,
            layout: done.layout,
            counts: done.counts.clone(),
            histogram: done.histogram.as_ref().map(Histogram::counted),
            events: self.events.seen(),
            exposures: self.events.exposures_seen(),
            contexts: self.contexts.seen(),
            rows: numbers(&self.rows),
            bytes: numbers(&self.bytes),
            spills: lengths,
            rejects: self.rejects.sync()?,
        })
    }

    /// Takes up what was durable; returns where reading goes on.
    fn restore(&mut self, state: ReadState, space: &TempSpace) -> Result<Place, IngestError> {
        space.remove_from(3 * self.budget.partitions as u64)?;
        for (spills, lengths) in self.spills.iter().zip(&state.spills) {
            for (spill, bytes) in spills.iter().zip(lengths) {
                spill.restore(*bytes).map_err(|error| match error {
                    StorageError::Damaged { path, reason } => IngestError::Journal { path, reason },
                    other => other.into(),
                })?;
            }
        }
        self.events = Events::restore(self.options, &state.events, &state.exposures);
        self.contexts = Contexts::restore(self.options, self.context_bytes, &state.contexts);
        self.rows = state.rows.iter().map(|n| AtomicU64::new(*n)).collect();
        self.bytes = state.bytes.iter().map(|n| AtomicU64::new(*n)).collect();
        self.stage.add(if self.by_bytes { state.bytes.iter().sum() } else { state.rows() });
        let histogram = state.histogram.as_ref().map(Histogram::restore);
        self.done = Mutex::new(Done { layout: state.layout, counts: state.counts, histogram });
        Ok(state.place)
    }

    /// Whether the parsers should end early.
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.ctx.cancelled()
    }

    /// What a parsing thread does.
    fn work(&self, receive: &Receiver<Message>) {
        let _stop = StopOnPanic(&self.stop);
        let mut parser = Parser::new(self);
        let mut scratch = Scratch::default();
        let result = loop {
            if self.stopped() {
                return;
            }
            match receive.recv_timeout(PATIENCE) {
                Ok(Ok(job)) => {
                    if let Err(error) = parser.job(&job, &mut scratch) {
                        break Err((job.number, error));
                    }
                }
                // A reading error comes after all blocks before it.
                Ok(Err(error)) => break Err((u64::MAX, error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            }
        };
        if let Err((number, error)) = result.and_then(|()| parser.finish().map_err(|e| (u64::MAX, e))) {
            // Blocks are taken in order, so all before this one are done or being parsed; none after it matters.
            self.stop.store(true, Ordering::Relaxed);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.as_ref().is_none_or(|(other, _)| number < *other) {
                *failed = Some((number, error));
            }
        }
    }
}

/// One thread's share of the work.
struct Parser<'a> {
    shared: &'a Shared<'a>,
    layout: Layout,
    part: Part,
    /// Number of the block being parsed.
    block: u64,
    records: Gather,
    user_ids: Gather,
    item_ids: Gather,
    seen_users: SeenIds,
    seen_items: SeenIds,
    /// The last row's user and its hash; ids are not empty.
    last_user: (Vec<u8>, u64),
    events: SeenEvents,
    contexts: SeenContexts,
    counts: RowCounts,
    histogram: Option<Histogram>,
    rejected: Vec<u8>,
    bits: u32,
    hash_seed: u64,
    min_weight: f32,
}

impl<'a> Parser<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        let Budget { partitions, spill_buffer, cache_slots, .. } = *shared.budget;
        let options = shared.options;
        let is_fraction = |split| matches!(split, super::split::Split::TimeFraction(_));
        Self {
            shared,
            layout: Layout::default(),
            part: Part::Train,
            block: 0,
            records: Gather::new(partitions, spill_buffer),
            user_ids: Gather::new(partitions, spill_buffer),
            item_ids: Gather::new(partitions, spill_buffer),
            seen_users: SeenIds::new(cache_slots),
            seen_items: SeenIds::new(cache_slots),
            last_user: (Vec::new(), 0),
            events: SeenEvents::default(),
            contexts: SeenContexts::default(),
            counts: RowCounts::default(),
            histogram: (is_fraction(options.split) || is_fraction(options.valid_split)).then(Histogram::default),
            rejected: Vec::new(),
            bits: shared.budget.bits(),
            hash_seed: options.hash_seed,
            min_weight: options.min_weight.unwrap_or(0.0),
        }
    }

    fn job(&mut self, job: &Job, scratch: &mut Scratch) -> Result<(), IngestError> {
        self.layout = job.layout;
        self.part = self.shared.parts[job.source];
        self.block = job.number;
        let rows = job.block.parse(scratch, self)?;
        let lines = std::mem::take(&mut self.rejected);
        self.shared.rejects.block(job.number, rows.bad, lines, || self.shared.stopped())?;
        let consumed = job.block.consumed();
        self.shared.rows[job.source].fetch_add(rows.good + rows.bad, Ordering::Relaxed);
        self.shared.bytes[job.source].fetch_add(consumed, Ordering::Relaxed);
        self.shared.stage.add(if self.shared.by_bytes { consumed } else { rows.good + rows.bad });
        Ok(())
    }

    fn finish(self) -> Result<(), IngestError> {
        self.records.finish(&self.shared.spills[0])?;
        self.user_ids.finish(&self.shared.spills[1])?;
        self.item_ids.finish(&self.shared.spills[2])?;
        let mut done = self.shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        if self.layout != Layout::default() {
            done.layout = self.layout;
        }
        done.counts.absorb(&self.counts);
        match (&mut done.histogram, self.histogram) {
            (Some(all), Some(mine)) => all.absorb(&mine),
            (none, mine) => *none = none.take().or(mine),
        }
        Ok(())
    }
}

impl Parser<'_> {
    /// Writes an exposure. Its item is one of the dataset's; its user only if there are positives, which say so, be it in the
    /// dataset that the rows are merged into.
    fn exposure(&mut self, row: Row<'_>) -> Result<(), IngestError> {
        let (shared, seed, bits) = (self.shared, self.hash_seed, self.bits);
        let user = if self.last_user.0 == row.user { self.last_user.1 } else { id_hash(row.user, seed) };
        if shared.whole != Whole::All {
            note_id(row.user, user, seed, bits, &mut self.seen_users, &mut self.user_ids, &shared.spills[1])?;
        }
        let item = id_hash(row.item, seed);
        note_id(row.item, item, seed, bits, &mut self.seen_items, &mut self.item_ids, &shared.spills[2])?;
        let time = row.time.unwrap_or(0);
        let record = Record { user, item, time, weight: 0.0, tags: Tags::exposure(self.part) };
        let at = partition_of(user, bits);
        self.records.make_room(at, self.layout.width(), &shared.spills[0])?;
        self.layout.put(&record, self.records.buffer(at));
        self.counts.kept += 1;
        self.counts.exposed += 1;
        Ok(())
    }
}

/// A hash that knows nothing of the one that orders the dictionary.
#[inline]
pub(super) fn check_hash(id: &[u8], seed: u64) -> u64 {
    id_hash(id, seed ^ 0x5bd1_e995_9d1b_87a3)
}

/// Writes an id to its partition unless it was seen lately.
#[inline]
fn note_id(
    id: &[u8],
    hash: u64,
    seed: u64,
    bits: u32,
    seen: &mut SeenIds,
    gather: &mut Gather,
    spills: &[Spill],
) -> Result<(), StorageError> {
    if seen.is_new(hash, check_hash(id, seed)) {
        let at = partition_of(hash, bits);
        gather.make_room(at, HEAD + id.len(), spills)?;
        ids::put(hash, id, gather.buffer(at));
        // A long id may have made the buffer grow.
        gather.make_room(at, 0, spills)?;
    }
    Ok(())
}

impl RowSink for Parser<'_> {
    type Error = IngestError;

    fn row(&mut self, row: Row<'_>) -> Result<(), IngestError> {
        let shared = self.shared;
        let event = match row.event {
            Some(name) => match self.events.number(name, &shared.events)? {
                Some(number) => number,
                None => {
                    self.counts.by_event += 1;
                    return Ok(());
                }
            },
            None => 0,
        };
        if event == EXPOSURE {
            return self.exposure(row);
        }
        let weight = row.weight.unwrap_or(1.0);
        if weight < self.min_weight {
            self.counts.by_weight += 1;
            return Ok(());
        }
        let context = row.context.map_or(Ok(0), |key| self.contexts.number(key, &shared.contexts))?;
        let time = row.time.unwrap_or(0);
        if let Some(histogram) = &mut self.histogram
            && self.part == Part::Train
        {
            histogram.add(time);
        }
        let (seed, bits) = (self.hash_seed, self.bits);
        let item = id_hash(row.item, seed);
        // Logs often come user by user, or session by session.
        if self.last_user.0 != row.user {
            let user = id_hash(row.user, seed);
            note_id(row.user, user, seed, bits, &mut self.seen_users, &mut self.user_ids, &shared.spills[1])?;
            self.last_user.0.clear();
            self.last_user.0.extend_from_slice(row.user);
            self.last_user.1 = user;
        }
        let user = self.last_user.1;
        note_id(row.item, item, seed, bits, &mut self.seen_items, &mut self.item_ids, &shared.spills[2])?;
        let at = partition_of(user, bits);
        self.records.make_room(at, self.layout.width(), &shared.spills[0])?;
        let record = Record { user, item, time, weight, tags: Tags::new(self.part, event, context) };
        self.layout.put(&record, self.records.buffer(at));
        self.counts.kept += 1;
        Ok(())
    }

    fn bad(&mut self, bad: BadRow<'_>) -> Result<(), IngestError> {
        let shared = self.shared;
        if bad.reason == Reason::UnclosedQuote {
            return Err(IngestError::OpenQuote { row: bad.to_string() });
        }
        if shared.options.on_error == OnError::Fail {
            return Err(IngestError::BadRow { row: bad.to_string() });
        }
        *self.counts.rejected.entry(rejects::kind(&bad.reason).into()).or_default() += 1;
        rejects::put(&bad, &mut self.rejected);
        if self.rejected.len() > rejects::MAX_LINES {
            shared.rejects.lines(self.block, &mut self.rejected, || shared.stopped())?;
        }
        Ok(())
    }
}
