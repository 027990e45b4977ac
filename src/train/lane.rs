//! A lane: one producer and one trainer, joined by a bounded channel, working through windows of their own.
//!
//! All batches of a block go down one lane, so that the block's rows stay in the cache of the core that trains them,
//! and two lanes hardly ever write the same row. Both threads of a lane block when the other is behind: with one lane
//! a core, the operating system gives each core to whichever of them has work, and nothing needs tuning.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::confidence::Confidence;
use super::live::Live;
use crate::context::{Context, Stage};
use crate::dataset::Interactions;
use crate::loss::Loss;
use crate::mix::{GOLDEN, mix};
use crate::model::{Adjust, InstructionSet, LossSample, Runs, Tables, Update, train};
use crate::negatives::{Batch, Health, Run, Sampling, Watch};
use crate::stream::Window;

/// Batches on their way between a producer and its trainer.
pub(super) const IN_FLIGHT: usize = 4;
/// Positives in a batch, about: large enough that a hand-over costs nothing, small enough to stay in cache.
const BATCH: usize = 4096;

/// What a lane keeps from epoch to epoch.
pub(super) struct Lane<'a> {
    pub(super) window: Window,
    sampling: Sampling<'a>,
    spare: Vec<Batch>,
}

impl<'a> Lane<'a> {
    pub(super) fn new(window: Window, sampling: Sampling<'a>) -> Self {
        Self { window, sampling, spare: Vec::new() }
    }
}

/// One epoch's work, shared by all lanes.
pub(super) struct Epoch<'a, L> {
    pub(super) interactions: &'a Interactions,
    pub(super) windows: Vec<Vec<u32>>,
    /// The next window that nobody has taken.
    pub(super) next: AtomicUsize,
    /// Set when a loss is no number any more.
    pub(super) diverged: AtomicBool,
    /// Seed of this epoch; each window derives its own from it, so that no draw depends on which lane takes it.
    pub(super) seed: u64,
    pub(super) tables: &'a Tables,
    pub(super) set: InstructionSet,
    pub(super) loss: L,
    pub(super) update: Update,
    pub(super) negatives_each: usize,
    /// The share of the run that is over when the epoch begins, and when it ends.
    pub(super) progress: (f64, f64),
    pub(super) confidence: Option<&'a Confidence<'a>>,
    pub(super) watch: &'a Watch<'a>,
    pub(super) ctx: &'a Context,
    pub(super) stage: &'a Stage<'a>,
}

/// What a lane has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub(super) positives: u64,
    pub(super) skipped: u64,
    pub(super) loss: LossSample,
    pub(super) health: Health,
}

impl Done {
    /// Adds what another has done.
    pub(super) fn add(&mut self, other: &Self) {
        self.positives += other.positives;
        self.skipped += other.skipped;
        self.loss.sum += other.loss.sum;
        self.loss.terms += other.loss.terms;
        self.health.add(&other.health);
    }
}

impl<L: Loss> Epoch<'_, L> {
    fn stopped(&self) -> bool {
        self.ctx.cancelled() || self.diverged.load(Ordering::Relaxed)
    }

    /// Produces and trains until no window is left. `rate` is the learning rate of a window by its number.
    pub(super) fn run(&self, lane: &mut Lane<'_>, rate: impl Fn(usize) -> f32 + Send) -> Option<Done> {
        if self.ctx.threads() == 1 && lane.sampling.reads_scores() {
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
            let send =
                |batch| if full.send(batch).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            let mut produced = Done::default();
            self.produce(lane, || spare.try_recv().ok(), send, rate, &mut produced);
            drop(full);
            produced.add(&trainer.join().ok()?);
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
        let Lane { window, sampling, .. } = lane;
        let scores = Live { tables: self.tables, set: self.set, similarity: self.update.similarity };
        while let Some((number, mut rng)) = self.fill(window) {
            let learning_rate = rate(number);
            let (start, end) = self.progress;
            let progress = start + (end - start) * number as f64 / self.windows.len() as f64;
            for block in window.block_order(&mut rng) {
                let items = window.partition.block(block);
                let mut rest = window.bucket(block);
                sampling.begin(progress, rest, &mut rng);
                while !rest.is_empty() {
                    let mut batch = spare().unwrap_or_default();
                    batch.clear();
                    batch.learning_rate = learning_rate;
                    let pool = &rest[..rest.len().min(BATCH)];
                    while batch.positives.len() < BATCH && !rest.is_empty() {
                        let user = rest[0] >> 32;
                        let end = rest.iter().position(|pair| pair >> 32 != user).unwrap_or(rest.len());
                        let (pairs, later) = rest.split_at(end);
                        let run = Run { user: user as u32, pairs, block: items, pool };
                        sampling.run(run, &scores, &mut rng, &mut batch);
                        rest = later;
                    }
                    if let Some(confidence) = self.confidence {
                        confidence.fill(&mut batch);
                    }
                    done.skipped += batch.skipped;
                    self.watch.look(&batch, &scores, &mut done.health);
                    if self.stopped() || emit(batch).is_break() {
                        return;
                    }
                }
            }
        }
    }

    /// Takes the next window and fills `window` with it; returns its number, and its own generator. `None` when all are
    /// taken, or when told to stop.
    pub(super) fn fill(&self, window: &mut Window) -> Option<(usize, Xoshiro256PlusPlus)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let chunks = self.windows.get(number).filter(|_| !self.stopped())?;
        for chunk in self.windows.get(number + 1).into_iter().flatten() {
            self.interactions.will_need(*chunk as usize);
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(self.seed, number as u64));
        window.fill(self.interactions, chunks, &mut rng);
        Some((number, rng))
    }

    /// Updates the tables by one batch.
    pub(super) fn learn(&self, batch: &Batch) -> LossSample {
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
        let update = Update { learning_rate: batch.learning_rate, ..self.update };
        train(self.set, self.tables, runs, self.loss, update)
    }

    /// Updates the tables by one batch, and keeps count.
    fn learn_from(&self, batch: &Batch, done: &mut Done) {
        let sample = self.learn(batch);
        if !sample.sum.is_finite() {
            self.diverged.store(true, Ordering::Relaxed);
        }
        done.loss.sum += sample.sum;
        done.loss.terms += sample.terms;
        done.positives += batch.positives.len() as u64;
        self.stage.add(batch.negatives.len() as u64);
    }

    fn train(&self, batches: &Receiver<Batch>, empty: &Sender<Batch>) -> Done {
        let mut done = Done::default();
        for batch in batches {
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
