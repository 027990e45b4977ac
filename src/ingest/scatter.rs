//! Reads the logs and scatters their rows to temporary files by hash.
//!
//! One thread reads blocks; others parse them, each with its own buffers, caches and counts, so that no row takes a lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::budget::{Budget, partition_of};
use super::error::IngestError;
use super::events::{Events, SeenEvents};
use super::histogram::Histogram;
use super::ids::{self, HEAD, SeenIds};
use super::options::{IngestOptions, OnError};
use super::read::{
    BadRow, Block, Compression, ReadOptions, Reason, Roles, Row, RowSink, Scratch, Source, SourceInfo, open,
};
use super::record::{Layout, Record};
use super::rejects::{self, Rejects};
use super::spill::{Gather, Spill, TempSpace};
use crate::context::{Context, Stage, Unit};
use crate::dataset::{self, Part, id_hash};
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
    /// Place in `events` of each number in the records.
    pub(super) places: Vec<u8>,
}

/// What became of the rows read.
#[derive(Clone, Debug, Default)]
pub(super) struct RowCounts {
    pub(super) kept: u64,
    pub(super) rejected: BTreeMap<&'static str, u64>,
    pub(super) by_event: u64,
    pub(super) by_weight: u64,
}

impl RowCounts {
    fn absorb(&mut self, other: &Self) {
        self.kept += other.kept;
        self.by_event += other.by_event;
        self.by_weight += other.by_weight;
        for (reason, count) in &other.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
    }
}

/// A block with its place in the whole input.
struct Job {
    number: u64,
    source: usize,
    layout: Layout,
    block: Block,
}

type Message = Result<Job, IngestError>;

/// What the parsers share.
struct Shared<'a> {
    options: &'a IngestOptions,
    parts: Vec<Part>,
    budget: &'a Budget,
    records: Vec<Spill>,
    users: Vec<Spill>,
    items: Vec<Spill>,
    events: Events,
    rejects: Option<&'a Rejects>,
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

/// Reads `sources` in turn; rows of the second of each pair belong to that part.
pub(super) fn scatter(
    sources: Vec<(Source, Part)>,
    options: &IngestOptions,
    budget: &Budget,
    space: &Arc<TempSpace>,
    rejects: Option<&Rejects>,
    ctx: &Context,
) -> Result<Scattered, IngestError> {
    let total = sources.iter().map(|(s, _)| s.bytes()).sum::<Option<u64>>();
    let names: Vec<(String, Option<u64>)> = sources.iter().map(|(s, _)| (s.name().to_string(), s.bytes())).collect();
    let stage = match total {
        Some(_) => ctx.stage("reading", total, Unit::Bytes),
        None => ctx.stage("reading", None, Unit::Rows),
    };
    let shared = Shared {
        options,
        parts: sources.iter().map(|(_, part)| *part).collect(),
        budget,
        records: Spill::several(space, budget.partitions),
        users: Spill::several(space, budget.partitions),
        items: Spill::several(space, budget.partitions),
        events: Events::new(&options.keep_events),
        rejects,
        rows: names.iter().map(|_| AtomicU64::new(0)).collect(),
        bytes: names.iter().map(|_| AtomicU64::new(0)).collect(),
        failed: Mutex::new(None),
        stop: AtomicBool::new(false),
        done: Mutex::default(),
        stage,
        by_bytes: total.is_some(),
        ctx,
    };
    let (send, receive) = bounded(budget.queue);
    let reader = Reader {
        read: options.read.clone(),
        by_time: options.split.is_by_time() || options.valid_split.is_by_time(),
        limits: budget.limits,
        ready_made: shared.parts.iter().any(|p| *p != Part::Train),
        sources,
        first: None,
        send,
        ctx: ctx.clone(),
    };
    let reader = std::thread::Builder::new().name("reader".into()).spawn(move || reader.run());
    let reader =
        reader.map_err(|e| StorageError::Io { path: "reader".into(), action: "start the thread", source: e })?;
    std::thread::scope(|scope| {
        for _ in 0..budget.workers {
            let receive = receive.clone();
            let shared = &shared;
            scope.spawn(move || shared.work(&receive));
        }
    });
    drop(receive);
    let Shared { records, users, items, events, rows, bytes, failed, done, stage, .. } = shared;
    drop(stage);
    ctx.check()?;
    if let Some((_, error)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    // Joined only here, where it has sent all: after Ctrl-C a pipe may keep it waiting for ever. If it panicked, what was
    // read is not the whole log.
    if let Err(panic) = reader.join() {
        std::panic::resume_unwind(panic);
    }
    let Done { layout, counts, histogram } = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for spill in records.iter().chain(&users).chain(&items) {
        spill.seal();
    }
    let (events, places) = events.finish();
    let sources = names
        .into_iter()
        .zip(rows.iter().zip(&bytes))
        .map(|((name, size), (rows, bytes))| dataset::Source {
            name,
            bytes: size.unwrap_or(bytes.load(Ordering::Relaxed)),
            rows: rows.load(Ordering::Relaxed),
        })
        .collect();
    Ok(Scattered { layout, records, users, items, counts, histogram, sources, events, places })
}

/// The thread that reads.
struct Reader {
    sources: Vec<(Source, Part)>,
    read: ReadOptions,
    by_time: bool,
    limits: super::read::Limits,
    ready_made: bool,
    /// Layout and name of the first source that has rows.
    first: Option<(Layout, String)>,
    send: Sender<Message>,
    ctx: Context,
}

impl Reader {
    fn run(mut self) {
        let mut number = 0;
        for at in 0..self.sources.len() {
            match self.source(at, &mut number) {
                Ok(true) => {}
                // Nobody receives any more.
                Ok(false) => return,
                Err(error) => {
                    let _ = self.send.send(Err(error));
                    return;
                }
            }
        }
    }

    fn source(&mut self, at: usize, number: &mut u64) -> Result<bool, IngestError> {
        let blocks = open(&self.sources[at].0, &self.read, self.limits)?;
        let Some(columns) = &blocks.info().columns else { return Ok(true) };
        let layout = Layout {
            time: columns.time.is_some(),
            weight: columns.weight.is_some(),
            event: columns.event.is_some(),
            part: self.ready_made,
        };
        let name = blocks.info().name.to_string();
        if self.by_time && !layout.time {
            return Err(IngestError::Options(format!(
                "{name} has no time column, which a split by time needs; name it by --time-column"
            )));
        }
        if self.first.is_none() {
            self.ctx.message(&describe(blocks.info()));
        }
        let (first, other) = self.first.get_or_insert_with(|| (layout, name.clone()));
        if *first != layout {
            let (role, has) = match () {
                () if first.time != layout.time => ("time", layout.time),
                () if first.weight != layout.weight => ("weight", layout.weight),
                () => ("event", layout.event),
            };
            let has = if has { "a" } else { "no" };
            return Err(IngestError::Columns { name, has, role, other: other.clone() });
        }
        for block in blocks {
            let job = Job { number: *number, source: at, layout, block: block? };
            *number += 1;
            if self.send.send(Ok(job)).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What was found out about a source.
fn describe(info: &SourceInfo) -> String {
    let mut text = format!("{}: {}", info.name, info.format);
    if info.compression != Compression::None {
        text += &format!(" in {}", info.compression);
    }
    if let Some(delimiter) = &info.delimiter {
        let header = if info.header { "a header" } else { "no header" };
        text += &format!(" with {header}, delimiter '{delimiter}'");
    }
    if let Some(Roles { user, item, time, weight, event }) = &info.columns {
        text += &format!("; users from column {user}, items from {item}");
        for (what, column) in [("times", time), ("weights", weight), ("events", event)] {
            match column {
                Some(column) => text += &format!(", {what} from {column}"),
                None => text += &format!(", no {what}"),
            }
        }
    }
    text
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
    events: SeenEvents,
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
            events: SeenEvents::default(),
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
        if let Some(rejects) = self.shared.rejects {
            rejects.block(job.number, rows.bad, std::mem::take(&mut self.rejected), || self.shared.stopped())?;
        }
        let consumed = job.block.consumed();
        self.shared.rows[job.source].fetch_add(rows.good + rows.bad, Ordering::Relaxed);
        self.shared.bytes[job.source].fetch_add(consumed, Ordering::Relaxed);
        self.shared.stage.add(if self.shared.by_bytes { consumed } else { rows.good + rows.bad });
        Ok(())
    }

    fn finish(self) -> Result<(), IngestError> {
        self.records.finish(&self.shared.records)?;
        self.user_ids.finish(&self.shared.users)?;
        self.item_ids.finish(&self.shared.items)?;
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

/// A hash that knows nothing of the one that orders the dictionary.
#[inline]
fn check_hash(id: &[u8], seed: u64) -> u64 {
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
        let weight = row.weight.unwrap_or(1.0);
        if weight < self.min_weight {
            self.counts.by_weight += 1;
            return Ok(());
        }
        let time = row.time.unwrap_or(0);
        if let Some(histogram) = &mut self.histogram
            && self.part == Part::Train
        {
            histogram.add(time);
        }
        let (seed, bits) = (self.hash_seed, self.bits);
        let (user, item) = (id_hash(row.user, seed), id_hash(row.item, seed));
        note_id(row.user, user, seed, bits, &mut self.seen_users, &mut self.user_ids, &shared.users)?;
        note_id(row.item, item, seed, bits, &mut self.seen_items, &mut self.item_ids, &shared.items)?;
        let at = partition_of(user, bits);
        self.records.make_room(at, self.layout.width(), &shared.records)?;
        let record = Record { user, item, time, weight, event, part: self.part };
        self.layout.put(&record, self.records.buffer(at));
        self.counts.kept += 1;
        Ok(())
    }

    fn bad(&mut self, bad: BadRow<'_>) -> Result<(), IngestError> {
        if bad.reason == Reason::UnclosedQuote {
            return Err(IngestError::OpenQuote { row: bad.to_string() });
        }
        if self.shared.options.on_error == OnError::Fail {
            return Err(IngestError::BadRow { row: bad.to_string() });
        }
        *self.counts.rejected.entry(rejects::kind(&bad.reason)).or_default() += 1;
        rejects::put(&bad, &mut self.rejected);
        if let Some(rejects) = self.shared.rejects
            && self.rejected.len() > rejects::MAX_LINES
        {
            rejects.lines(self.block, &mut self.rejected, || self.shared.stopped())?;
        }
        Ok(())
    }
}
