//! A lane: one producer and one trainer, joined by a bounded channel, working through windows of their own.
//!
//! All batches of a block go down one lane, so that the block's rows stay in the cache of the core that trains them,
//! and two lanes hardly ever write the same row. Both threads of a lane block when the other is behind: with one lane
//! a core, the operating system gives each core to whichever of them has work, and nothing needs tuning.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::confidence::Confidence;
use super::divergence::{Alarm, LOOKED_AT};
use super::gauges::Gauges;
use super::halt::Halt;
use super::live::Live;
use super::objective::Margins;
use super::paging::Paging;
use super::place::{OpenWindow, Position};
use super::update::Selection;
use crate::context::Context;
use crate::dataset::Interactions;
use crate::mix::{GOLDEN, mix};
use crate::model::{Adjust, InstructionSet, KernelLoss, LossSample, Runs, Tables, Update, train};
use crate::negatives::{Auditor, Batch, Health, Renewal, Sampling, Watch};
use crate::stream::Window;

/// Batches on their way between a producer and its trainer.
pub(super) const IN_FLIGHT: usize = 4;
/// Positives in a batch, about: large enough that a hand-over costs nothing, small enough to stay in cache.
pub(super) const BATCH: usize = 4096;

/// What a lane keeps from epoch to epoch.
pub(super) struct Lane<'a> {
    pub(super) window: Window,
    pub(super) sampling: Sampling<'a>,
    spare: Vec<Batch>,
    /// Interactions that the window's buckets may keep room for.
    pub(super) kept_room: u64,
    /// The last window handed over, whose rows may be let go of once the trainer is done with it.
    trained: Option<usize>,
    /// The window at hand, if it was left in its middle.
    at_hand: Option<AtHand>,
}

/// A window that a lane works through.
pub(super) struct AtHand {
    number: usize,
    rng: Xoshiro256PlusPlus,
    /// Its blocks in the order in which they are trained on, once it is known.
    order: Vec<usize>,
    /// How many of them are over, and interactions of the next that are.
    blocks: usize,
    taken: usize,
    /// Interactions handed over, and those that had been before the run was gone on with: they are drawn, but not
    /// handed over again.
    handed: u64,
    skip: u64,
}

impl<'a> Lane<'a> {
    pub(super) fn new(window: Window, sampling: Sampling<'a>, kept_room: u64) -> Self {
        Self { window, sampling, spare: Vec::new(), kept_room, trained: None, at_hand: None }
    }

    /// The window that was left in its middle, if any was.
    pub(super) fn open(&self) -> Option<OpenWindow> {
        let AtHand { number, handed, skip, .. } = *self.at_hand.as_ref()?;
        Some(OpenWindow { number, trained: handed.max(skip) })
    }

    /// Forgets the window at hand, and what was made of tables that are no longer: for whoever goes on from elsewhere.
    pub(super) fn forget(&mut self) {
        self.at_hand = None;
        self.trained = None;
        self.sampling.forget();
    }
}

/// One epoch's work, shared by all lanes.
pub(super) struct Epoch<'a> {
    pub(super) interactions: &'a Interactions,
    pub(super) windows: Vec<Vec<u32>>,
    /// The next window that nobody has taken.
    pub(super) next: AtomicUsize,
    /// Windows that were left in their middle, which no lane has at hand.
    pub(super) open: Mutex<Vec<OpenWindow>>,
    /// Where the epoch is gone on with.
    pub(super) from: Position,
    pub(super) halt: Halt<'a>,
    pub(super) alarm: Alarm,
    /// Seed of this epoch; each window derives its own from it, so that no draw depends on which lane takes it.
    pub(super) seed: u64,
    pub(super) tables: &'a Tables,
    pub(super) paging: Paging<'a>,
    /// Lanes at work: so many windows are being filled or trained on at a time.
    pub(super) lanes: usize,
    pub(super) set: InstructionSet,
    pub(super) loss: KernelLoss,
    pub(super) update: Update,
    pub(super) negatives_each: usize,
    /// The share of the run that is over when the epoch begins, and when it ends.
    pub(super) progress: (f64, f64),
    pub(super) confidence: Option<&'a Confidence<'a>>,
    pub(super) margins: Option<&'a Margins<'a>>,
    pub(super) watch: &'a Watch<'a>,
    /// Which positives are trained on, if not all.
    pub(super) selection: Option<&'a Selection>,
    /// Who asks how negatives came about.
    pub(super) audit: Option<&'a dyn Auditor>,
    pub(super) ctx: &'a Context,
    pub(super) stage: &'a Gauges<'a>,
}

/// What has been done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) positives: u64,
    pub(super) skipped: u64,
    pub(super) loss: LossSample,
    pub(super) health: Health,
}

impl Done {
    /// Counts `other`, too.
    pub(super) fn add(&mut self, other: &Self) {
        self.positives += other.positives;
        self.skipped += other.skipped;
        self.add_loss(other.loss);
        self.health.add(&other.health);
    }

    /// Counts a batch's loss, too.
    pub(super) fn add_loss(&mut self, loss: LossSample) {
        self.loss.sum += loss.sum;
        self.loss.terms += loss.terms;
    }
}

impl Epoch<'_> {
    /// Whether to leave the epoch at a place where it can be gone on with.
    pub(super) fn stopped(&self) -> bool {
        self.halt.is_due() || self.alarm.is_raised()
    }

    /// The scores of the moment.
    fn scores(&self) -> Live<'_> {
        Live { tables: self.tables, set: self.set, similarity: self.update.similarity }
    }

    /// Lets a sampler renew what it has made of the tables when the share `progress` of the run is over: with so many
    /// `threads`, `alone` where nobody draws meanwhile.
    pub(super) fn renew(&self, sampling: &Sampling<'_>, progress: f64, (threads, alone): (usize, bool)) {
        sampling.renew(Renewal { progress, threads, alone }, &self.scores(), self.ctx);
    }

    /// The share of the run that is over when window `number` begins.
    pub(super) fn progress_at(&self, number: usize) -> f64 {
        let (start, end) = self.progress;
        start + (end - start) * number as f64 / self.windows.len() as f64
    }

    /// Fills `batch` with the runs at the front of the bucket `rest` of the block `items`, until it is full, with their
    /// negatives and the confidence in them; adds the positives that were skipped, and the health of the negatives, to
    /// `done`. Returns what is left of the bucket.
    pub(super) fn draw<'b>(
        &self,
        sampling: &mut Sampling<'_>,
        (items, rest): (&[u32], &'b [u64]),
        rng: &mut Xoshiro256PlusPlus,
        batch: &mut Batch,
        done: &mut Done,
    ) -> &'b [u64] {
        let scores = self.scores();
        if self.update.regularization.draws() {
            batch.seed = rng.next_u64();
        }
        let selected = self.selection.map(|selection| |user, item| selection.keeps(self.seed, user, item));
        let looks = (&scores, self.audit, selected.as_ref().map(|selected| selected as &dyn Fn(u32, u32) -> bool));
        // Of what is not trained on a batch has no limit: then all that is left of the block goes for the batch.
        let pool = if self.selection.is_some() { rest } else { &rest[..rest.len().min(BATCH)] };
        let rest = sampling.fill((items, rest, pool), BATCH, looks, rng, batch);
        if let Some(confidence) = self.confidence {
            confidence.fill(batch);
        }
        if let Some(margins) = self.margins {
            margins.fill(batch);
        }
        done.skipped += batch.skipped;
        self.watch.look(batch, &scores, &mut done.health);
        rest
    }

    /// Produces and trains until no window is left. `rate` is the learning rate of a window by its number.
    pub(super) fn run(&self, lane: &mut Lane<'_>, rate: impl Fn(usize) -> f32 + Send) -> Option<Done> {
        if self.ctx.threads() == 1 && (lane.sampling.reads_scores() || self.audit.is_some()) {
            return Some(self.in_turn(lane, rate));
        }
        let (full, batches) = bounded::<Batch>(IN_FLIGHT);
        let (empty, spare) = bounded::<Batch>(IN_FLIGHT + 2);
        for batch in lane.spare.drain(..) {
            // Never more than were in use before, so that there is room.
            let _ = empty.try_send(batch);
        }
        let kept = spare.clone();
        let done = std::thread::scope(|scope| {
            let trainer = scope.spawn(move || self.train(&batches, &empty));
            let send = |batch| self.stage.send(&full, batch);
            let mut produced = Done::default();
            self.produce(lane, || spare.try_recv().ok(), send, rate, &mut produced);
            drop(full);
            produced.add(&trainer.join().ok()?);
            self.let_go(lane.trained.take());
            Some(produced)
        });
        lane.spare.extend(kept.try_iter());
        done
    }

    /// Produces a batch and trains on it in turn: what samplers read of the tables then depends on nothing else.
    fn in_turn(&self, lane: &mut Lane<'_>, rate: impl Fn(usize) -> f32) -> Done {
        let spare = Cell::new(None);
        let (mut done, mut produced) = (Done::default(), Done::default());
        let emit = |batch| {
            self.learn_from(&batch, &mut done);
            spare.set(Some(batch));
            ControlFlow::Continue(())
        };
        self.produce(lane, || spare.take(), emit, rate, &mut produced);
        self.let_go(lane.trained.take());
        done.add(&produced);
        done
    }

    /// Fills windows, draws negatives and hands batches to `emit` until no window is left or `emit` says to stop;
    /// adds the positives that were skipped, and the health of the negatives, to `done`. `spare` yields batches whose
    /// memory is free again.
    pub(super) fn produce(
        &self,
        lane: &mut Lane<'_>,
        mut spare: impl FnMut() -> Option<Batch>,
        mut emit: impl FnMut(Batch) -> ControlFlow<()>,
        rate: impl Fn(usize) -> f32,
        done: &mut Done,
    ) {
        let Lane { window, sampling, kept_room, trained, at_hand, .. } = lane;
        while let Some(mut at) = at_hand.take().or_else(|| self.fill(window, *kept_room)) {
            let (learning_rate, progress) = (rate(at.number), self.progress_at(at.number));
            if at.order.is_empty() {
                // The other lanes go on meanwhile.
                self.renew(sampling, progress, (1, self.lanes == 1));
                at.order = window.block_order(&mut at.rng);
            }
            // So many batches later the trainer is done with the window before: there is no room for more between.
            let mut before = IN_FLIGHT + 2;
            while let Some(block) = at.order.get(at.blocks) {
                let (items, bucket) = (window.partition.block(*block), window.bucket(*block));
                if at.taken == bucket.len() {
                    (at.blocks, at.taken) = (at.blocks + 1, 0);
                    continue;
                }
                if self.stopped() {
                    *at_hand = Some(at);
                    return;
                }
                if at.taken == 0 {
                    sampling.begin(progress, bucket, &mut at.rng);
                }
                let mut batch = spare().unwrap_or_default();
                batch.clear();
                batch.learning_rate = learning_rate;
                let drawn_before = at.handed < at.skip;
                let done = if drawn_before { &mut Done::default() } else { &mut *done };
                let rest = self.draw(sampling, (items, &bucket[at.taken..]), &mut at.rng, &mut batch, done);
                at.handed += (bucket.len() - at.taken - rest.len()) as u64;
                at.taken = bucket.len() - rest.len();
                if !drawn_before && emit(batch).is_break() {
                    return;
                }
                before = before.saturating_sub(1);
                if before == 0 {
                    self.let_go(trained.take());
                }
            }
            self.let_go(trained.replace(at.number));
        }
    }

    /// The next window: one that was left in its middle, or one that nobody has begun, and how much of it is over.
    /// `None` when there is none, or when told to stop.
    fn take(&self) -> Option<OpenWindow> {
        if self.stopped() {
            return None;
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop();
        open.or_else(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            (number < self.windows.len()).then_some(OpenWindow { number, trained: 0 })
        })
    }

    /// Takes the next window and fills `window` with it. `None` when all are taken, or when told to stop.
    pub(super) fn fill(&self, window: &mut Window, kept_room: u64) -> Option<AtHand> {
        let OpenWindow { number, trained } = self.take()?;
        let chunks = self.windows.get(number)?;
        let first = if number == 0 { 0 } else { number + self.lanes };
        for soon in first..=number + self.lanes {
            self.paging.ask(self.windows.get(soon).map_or(&[], Vec::as_slice));
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(self.seed, number as u64));
        window.trim(kept_room);
        window.fill(self.interactions, chunks, &mut rng);
        if let Some(selection) = self.selection {
            window.retain_runs(|user, item| selection.keeps(self.seed, user, item));
        }
        self.paging.read(chunks);
        Some(AtHand { number, rng, order: Vec::new(), blocks: 0, taken: 0, handed: 0, skip: trained })
    }

    /// What is left of the windows after `lanes` have left them.
    pub(super) fn position(&self, lanes: &[Lane<'_>]) -> Position {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.extend(lanes.iter().filter_map(Lane::open));
        open.sort_unstable_by_key(|open| open.number);
        let next = self.next.load(Ordering::Relaxed).min(self.windows.len());
        Position { next, open, steps: Vec::new() }
    }

    /// Lets go of the rows of a window that has been trained on.
    pub(super) fn let_go(&self, window: Option<usize>) {
        if let Some(chunks) = window.and_then(|number| self.windows.get(number)) {
            self.paging.trained(chunks);
        }
    }

    /// Updates the tables by one batch, and notes if they diverge.
    pub(super) fn learn(&self, batch: &Batch) -> LossSample {
        if batch.positives.is_empty() {
            return LossSample::default();
        }
        let adjust = Adjust {
            positive_weights: &batch.confidence,
            negative_weights: &batch.weights,
            positive_offsets: &batch.positive_offsets,
            negative_offsets: &batch.negative_offsets,
        };
        let runs = Runs {
            users: &batch.users,
            ends: &batch.ends,
            positives: &batch.positives,
            negatives: &batch.negatives,
            negatives_each: self.negatives_each,
            adjust: (!adjust.is_empty()).then_some(adjust),
        };
        let update = Update { learning_rate: batch.learning_rate, seed: batch.seed, ..self.update };
        let sample = train(self.set, self.tables, runs, self.loss, update);
        let looked_at = || (0..batch.positives.len()).step_by(LOOKED_AT);
        let user_of = |positive| batch.users[batch.ends.partition_point(|end| *end as usize <= positive)];
        let items_of = |positive| [batch.positives[positive], batch.negatives[positive * self.negatives_each]];
        let seen = (sample.sum, batch.learning_rate);
        self.alarm.look((self.set, self.tables), seen, looked_at().map(user_of), looked_at().flat_map(items_of));
        sample
    }

    /// Updates the tables by one batch, and keeps count.
    pub(super) fn learn_from(&self, batch: &Batch, done: &mut Done) {
        let (live, triples) = (self.scores(), batch.negatives.len() as u64);
        let looked = self.stage.look(&live, batch, self.negatives_each);
        let sample = self.learn(batch);
        self.stage.learnt(&live, looked, (sample, batch.learning_rate), triples);
        done.add_loss(sample);
        done.positives += batch.positives.len() as u64;
        self.halt.count(triples);
    }

    fn train(&self, batches: &Receiver<Batch>, empty: &Sender<Batch>) -> Done {
        let mut done = Done::default();
        while let Some(batch) = self.stage.receive(batches) {
            self.learn_from(&batch, &mut done);
            // A full or closed return channel only means that this batch's memory is not needed again.
            let _ = empty.try_send(batch);
        }
        done
    }
}

/// The seed of a stream of its own, for each `stream` of `seed`.
pub(super) fn stream_seed(seed: u64, stream: u64) -> u64 {
    mix(seed ^ stream.wrapping_add(1).wrapping_mul(GOLDEN))
}
