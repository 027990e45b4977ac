//! What a run shows of itself while it goes: counted by its threads at next to no cost, read by whoever writes the run log.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Deref};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::TrainConfig;
use super::live::Live;
use super::objective::any_loss;
use super::plan::TrainPlan;
use super::probe::{Before, Norms, Probe};
use crate::context::Stage;
use crate::model::LossSample;
use crate::negatives::{Batch, Scheduled, SharedBlock};

/// One batch in so many is looked at; of blocks, which take longer to look at, fewer.
const BATCHES: u64 = 8;
const BLOCKS: u64 = 32;

/// The stage that users see, and counters beside it.
pub(super) struct Gauges<'a> {
    stage: Stage<'a>,
    probe: Probe,
    counters: Arc<Counters>,
}

/// What threads count.
pub(super) struct Counters {
    /// Lanes, and whether they have producers and trainers.
    threads: u64,
    has_producers: bool,
    batches: AtomicU64,
    triples: AtomicU64,
    /// Epochs that are over, and the triples that had been trained when the last of them ended.
    epochs: AtomicU32,
    before: AtomicU64,
    /// Of an epoch, at most.
    each_epoch: u64,
    total_epochs: u32,
    /// Nanoseconds that producers and trainers were blocked.
    producers: AtomicU64,
    trainers: AtomicU64,
    learning_rate: AtomicU32,
    validating: AtomicBool,
    sums: Mutex<Totals>,
    /// Numbers that follow a schedule.
    schedules: Vec<(String, Scheduled)>,
}

/// Sums over some time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    loss: LossSample,
    norms: Norms,
}

/// Sums since a moment, and since an epoch began.
#[derive(Default)]
struct Totals {
    now: Sums,
    epoch: Sums,
    /// When the epoch began, and the time that threads had been blocked by then.
    began: Option<(Instant, Blocked)>,
}

/// Nanoseconds that producers and trainers were blocked so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocked(u64, u64);

/// Means over some time, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Means {
    pub(super) loss: Option<f64>,
    pub(super) gradient: Option<f64>,
    pub(super) update: Option<f64>,
    pub(super) row: Option<f64>,
    pub(super) producers_blocked: Option<f64>,
    pub(super) trainers_blocked: Option<f64>,
}

impl<'a> Gauges<'a> {
    pub(super) fn new(stage: Stage<'a>, config: &TrainConfig, plan: &TrainPlan) -> Self {
        let shares = config.shares_negatives();
        let each = if shares { config.negatives().min(plan.counts.items as usize) } else { config.negatives() };
        let counters = Counters {
            threads: plan.threads.max(1) as u64,
            has_producers: shares || !config.deterministic,
            batches: AtomicU64::new(0),
            triples: AtomicU64::new(0),
            epochs: AtomicU32::new(0),
            before: AtomicU64::new(0),
            each_epoch: (plan.counts.interactions * each as u64).max(1),
            total_epochs: config.epochs,
            producers: AtomicU64::new(0),
            trainers: AtomicU64::new(0),
            learning_rate: AtomicU32::new(0),
            validating: AtomicBool::new(false),
            sums: Mutex::default(),
            schedules: schedules(config),
        };
        Self { stage, probe: Probe::new(any_loss(config)), counters: Arc::new(counters) }
    }

    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The run goes on where `epochs` are over and `triples` were trained, of which `of_epoch` in the epoch at hand.
    pub(super) fn stand_at(&self, epochs: u32, triples: u64, of_epoch: u64) {
        let counters = &self.counters;
        counters.epochs.store(epochs, Ordering::Relaxed);
        counters.triples.store(triples, Ordering::Relaxed);
        counters.before.store(triples - of_epoch, Ordering::Relaxed);
    }

    /// An epoch begins, or goes on.
    pub(super) fn begin_epoch(&self) {
        let blocked = self.counters.blocked();
        self.counters.lock().began.get_or_insert((Instant::now(), blocked));
    }

    /// An epoch has ended: what was measured in it.
    pub(super) fn end_epoch(&self) -> Means {
        let counters = &self.counters;
        counters.before.store(counters.triples.load(Ordering::Relaxed), Ordering::Relaxed);
        counters.epochs.fetch_add(1, Ordering::Relaxed);
        let mut totals = counters.lock();
        let sums = std::mem::take(&mut totals.epoch);
        let (began, blocked) = totals.began.take().unwrap_or((Instant::now(), counters.blocked()));
        counters.means(sums, blocked, began.elapsed().as_secs_f64())
    }

    /// Whether the valid part is being measured.
    pub(super) fn validating(&self, validating: bool) {
        self.counters.validating.store(validating, Ordering::Relaxed);
    }

    /// Looks at some rows of `batch`, if it is one to look at, before it is trained.
    pub(super) fn look(&self, live: &Live<'_>, batch: &Batch, each: usize) -> Option<Before> {
        let number = self.counters.batches.fetch_add(1, Ordering::Relaxed);
        number.is_multiple_of(BATCHES).then(|| self.probe.look(live, batch, each))
    }

    /// The same of a block.
    pub(super) fn look_at_shared(&self, live: &Live<'_>, block: &SharedBlock) -> Option<Before> {
        let number = self.counters.batches.fetch_add(1, Ordering::Relaxed);
        number.is_multiple_of(BLOCKS).then(|| self.probe.look_at_shared(live, block))
    }

    /// Counts what was trained at a learning rate; `looked` are the rows that were looked at before.
    pub(super) fn learnt(
        &self,
        live: &Live<'_>,
        looked: Option<Before>,
        (sample, learning_rate): (LossSample, f32),
        triples: u64,
    ) {
        self.stage.add(triples);
        let counters = &self.counters;
        counters.triples.fetch_add(triples, Ordering::Relaxed);
        counters.learning_rate.store(learning_rate.to_bits(), Ordering::Relaxed);
        let norms = looked.map(|before| before.after(live)).unwrap_or_default();
        // Whoever comes while another is counting is not in the sample: nobody ever waits here.
        if let Ok(mut totals) = counters.sums.try_lock() {
            let sums = Sums { loss: sample, norms };
            totals.now.add(&sums);
            totals.epoch.add(&sums);
        }
    }

    /// Sends, and counts the time that a producer is blocked; breaks where nobody receives any more.
    pub(super) fn send<T>(&self, to: &Sender<T>, value: T) -> ControlFlow<()> {
        let value = match to.try_send(value) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(TrySendError::Disconnected(_)) => return ControlFlow::Break(()),
            Err(TrySendError::Full(value)) => value,
        };
        let began = Instant::now();
        let sent = to.send(value);
        count(&self.counters.producers, began);
        if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    /// Receives, and counts the time that a trainer is blocked; `None` where nobody sends any more.
    pub(super) fn receive<T>(&self, from: &Receiver<T>) -> Option<T> {
        match from.try_recv() {
            Ok(value) => Some(value),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => self.waiting(|| from.recv().ok()),
        }
    }

    /// Does what a thread that trains may have to wait in, and counts the time.
    pub(super) fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let waited = wait();
        count(&self.counters.trainers, began);
        waited
    }
}

impl<'a> Deref for Gauges<'a> {
    type Target = Stage<'a>;

    fn deref(&self) -> &Stage<'a> {
        &self.stage
    }
}

impl Counters {
    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blocked(&self) -> Blocked {
        Blocked(self.producers.load(Ordering::Relaxed), self.trainers.load(Ordering::Relaxed))
    }

    pub(super) fn triples(&self) -> u64 {
        self.triples.load(Ordering::Relaxed)
    }

    /// Epochs that are over, with the share of the one at hand.
    pub(super) fn epochs(&self) -> f64 {
        let of_epoch = self.triples().saturating_sub(self.before.load(Ordering::Relaxed));
        // One that is at its end is not over yet.
        let share = (of_epoch as f64 / self.each_epoch as f64).min(0.9999);
        f64::from(self.epochs.load(Ordering::Relaxed)) + share
    }

    /// The learning rate of the last batch, if there was one.
    pub(super) fn learning_rate(&self) -> Option<f64> {
        let bits = self.learning_rate.load(Ordering::Relaxed);
        (bits != 0).then(|| f64::from(f32::from_bits(bits)))
    }

    pub(super) fn is_validating(&self) -> bool {
        self.validating.load(Ordering::Relaxed)
    }

    /// What follows a schedule, at the moment.
    pub(super) fn scheduled(&self) -> BTreeMap<String, f64> {
        let progress = self.epochs() / f64::from(self.total_epochs.max(1));
        self.schedules.iter().map(|(key, number)| (key.clone(), number.at(progress))).collect()
    }

    /// What was summed since the last call.
    pub(super) fn take(&self) -> Sums {
        std::mem::take(&mut self.lock().now)
    }

    /// The means of `sums` over so many seconds, at whose beginning threads had been `blocked` for so long.
    pub(super) fn means(&self, sums: Sums, blocked: Blocked, seconds: f64) -> Means {
        let now = self.blocked();
        let all = self.threads as f64 * seconds.max(1e-9) * 1e9;
        // The whole time that a thread was blocked counts where it ends.
        let share = |now: u64, then: u64| ((now - then) as f64 / all).min(1.0);
        let Norms { gradient, update, row, count } = sums.norms;
        let mean = |sum: f64| Some(sum / count as f64).filter(|mean| mean.is_finite());
        Means {
            loss: Some(sums.loss.sum / sums.loss.terms as f64).filter(|loss| loss.is_finite()),
            gradient: mean(gradient),
            update: mean(update),
            row: mean(row),
            producers_blocked: self.has_producers.then(|| share(now.0, blocked.0)),
            trainers_blocked: Some(share(now.1, blocked.1)),
        }
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.loss.sum += other.loss.sum;
        self.loss.terms += other.loss.terms;
        self.norms.add(&other.norms);
    }
}

fn count(to: &AtomicU64, began: Instant) {
    to.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
}

/// The numbers of `config` that change over the run, but for the learning rate, by key.
fn schedules(config: &TrainConfig) -> Vec<(String, Scheduled)> {
    let mut all = Vec::new();
    for (i, component) in config.negatives.mix.iter().enumerate() {
        let numbers = [
            ("share", Some(&component.share)),
            ("rebuild", component.rebuild.as_ref()),
            ("candidates", component.candidates.as_ref()),
            ("top", component.top.as_ref()),
            ("temperature", component.temperature.as_ref()),
            ("hardness", component.hardness.as_ref()),
            ("margin", component.margin.as_ref()),
            ("noise", component.noise.as_ref()),
        ];
        for (name, number) in numbers {
            if let Some(number @ Scheduled::Over(_)) = number {
                all.push((format!("negatives.mix.{i}.{name}"), number.clone()));
            }
        }
    }
    all
}
