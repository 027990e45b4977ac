//! Deterministic training: the same seed gives the same bits, whatever the number of threads.
//!
//! Threads take cells of a [`Grid`]; each cell has a generator of its own, and is sampled and trained by one thread in
//! one go. All that a cell reads and writes are rows of its own users and items, by samplers that go by scores, too, so
//! that timing decides nothing. Where negatives come from the whole catalogue there is one cell a window.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::grid::{Grid, Task};
use super::lane::{Done, Epoch, stream_seed};
use super::place::Position;
use super::plan::TrainPlan;
use crate::negatives::{Batch, Sampling};
use crate::stream::{Buckets, Partition, Portion, divide};

/// Strata that every catalogue but a tiny one is worth.
const FEW: usize = 16;
/// Strata at most.
pub(super) const MANY: usize = 64;
/// A cell has at least about this many interactions, so that handing it out costs nothing.
const CELL: u64 = 4096;
/// A block has at least this many items, and this many for each negative.
const BLOCK_ITEMS: u32 = 128;
const PER_NEGATIVE: u32 = 4;

/// Items in a block, at most, so that there are several blocks: `fitting` is what suits the cache.
pub(super) fn block_items(items: u32, fitting: u32, negatives: usize) -> u32 {
    fitting.min(items.div_ceil(FEW as u32)).max(BLOCK_ITEMS).max(PER_NEGATIVE * negatives as u32).min(items)
}

/// Strata of a window: they depend on the dataset and the configuration, and never on the machine.
fn strata_of(blocks: usize, window: u64) -> usize {
    ((window / (blocks as u64 * CELL)) as usize).clamp(FEW, MANY).min(blocks)
}

/// How many strata and blocks deterministic training as planned divides a dataset of so many items into.
pub(super) fn strata_in(items: u32, plan: &TrainPlan) -> (usize, usize) {
    let blocks = Partition::new(items, plan.block_items).blocks();
    (strata_of(blocks, plan.window), blocks)
}

/// A round's blocks, and the users of its strata.
struct Deal {
    partition: Partition,
    portions: Vec<Vec<Portion>>,
}

/// The interactions of some users, and what has been done with them in this epoch.
#[derive(Default)]
struct Stratum {
    buckets: Buckets,
    done: Done,
}

/// A thread's own.
struct Worker<'a> {
    sampling: Sampling<'a>,
    batch: Batch,
}

/// What deterministic training keeps from epoch to epoch.
pub(super) struct Strata<'a> {
    /// Of even and of odd rounds.
    deals: [RwLock<Deal>; 2],
    strata: Vec<Mutex<Stratum>>,
    workers: Vec<Worker<'a>>,
    /// Interactions that a stratum's buckets may keep room for.
    kept_room: u64,
}

/// The grid and who waits for it.
struct Board {
    grid: Mutex<(Grid, bool)>,
    moved: Condvar,
}

/// Locks, whoever panicked: a panic ends the run in any case.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Waits for something to do; `None` when there is nothing left, or someone gave up.
    fn take(&self) -> Option<Task> {
        let mut state = lock(&self.grid);
        loop {
            let (grid, given_up) = &mut *state;
            if *given_up || grid.is_over() {
                return None;
            }
            if let Some(task) = grid.take() {
                return Some(task);
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, task: Task) {
        lock(&self.grid).0.finish(task);
        self.moved.notify_all();
    }
}

/// Wakes everyone for good when its thread leaves before the work is over, be it by a panic.
struct Leaving<'a>(&'a Board);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        lock(&self.0.grid).1 = true;
        self.0.moved.notify_all();
    }
}

impl<'a> Strata<'a> {
    /// For windows of some `window` interactions, worked on by `threads`.
    pub(super) fn new((items, block_items): (u32, u32), plan: &TrainPlan, sampling: &Sampling<'a>) -> Self {
        let deal = || RwLock::new(Deal { partition: Partition::new(items, block_items), portions: Vec::new() });
        let deals = [deal(), deal()];
        let partition = Partition::new(items, block_items);
        let strata: Vec<_> = (0..strata_of(partition.blocks(), plan.window)).map(|_| Mutex::default()).collect();
        let worker = |_| Worker { sampling: sampling.clone(), batch: Batch::default() };
        let kept_room = plan.kept_room() / strata.len() as u64;
        Self { deals, strata, workers: (0..plan.threads).map(worker).collect(), kept_room }
    }

    /// Forgets what was made of tables that are no longer: for whoever goes on from elsewhere.
    pub(super) fn forget(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.sampling.forget());
    }

    /// Whether the run can be gone on with, to the bit, at `progress`, where an epoch begins, or inside of one.
    pub(super) fn can_be_kept(&self, progress: Option<f64>) -> bool {
        self.workers.first().is_none_or(|worker| !worker.sampling.remembers(progress))
    }

    /// Trains an epoch from where it stands, to its end or as far as it may, and adds to `parts` what each stratum has
    /// done. `rate` is the learning rate of a window by its number. `None` if a thread panicked.
    pub(super) fn train(
        &mut self,
        work: &Epoch<'_>,
        rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
        parts: &mut Vec<Done>,
    ) -> Option<Position> {
        let Self { deals, strata, workers, kept_room } = self;
        if let Some(worker) = workers.first().filter(|_| work.from.is_start()) {
            // Between epochs, by one thread: the same for any number of them.
            work.renew(&worker.sampling, work.progress.0, (1, true));
        }
        let blocks = deals[0].get_mut().unwrap_or_else(PoisonError::into_inner).partition.blocks();
        let mut steps = work.from.steps.clone();
        steps.resize(strata.len(), 0);
        let grid = Grid::new(steps, blocks, work.windows.len());
        let board = &Board { grid: Mutex::new((grid, false)), moved: Condvar::new() };
        parts.resize(strata.len(), Done::default());
        strata.iter().zip(&mut *parts).for_each(|(s, part)| lock(s).done = std::mem::take(part));
        let rounds = &Rounds { work, deals, strata, kept_room: *kept_room };
        std::thread::scope(|scope| {
            let running: Vec<_> = workers
                .iter_mut()
                .map(|worker| {
                    scope.spawn(move || {
                        let _leaving = Leaving(board);
                        while !work.stopped()
                            && let Some(task) = work.stage.waiting(|| board.take())
                            && rounds.carry_out(task, worker, rate).is_continue()
                        {
                            board.finish(task);
                        }
                    })
                })
                .collect();
            running.into_iter().try_for_each(|thread| thread.join().ok())
        })?;
        let windows = work.windows.len();
        (windows.saturating_sub(2)..windows).for_each(|window| work.let_go(Some(window)));
        strata.iter().zip(parts).for_each(|(s, part)| *part = std::mem::take(&mut lock(s).done));
        let (grid, _) = &*lock(&board.grid);
        let next = if grid.is_over() { windows } else { 0 };
        Some(Position { next, open: Vec::new(), steps: grid.steps_done().to_vec() })
    }
}

/// An epoch's work, with the memory for it.
struct Rounds<'a> {
    work: &'a Epoch<'a>,
    deals: &'a [RwLock<Deal>; 2],
    strata: &'a [Mutex<Stratum>],
    kept_room: u64,
}

impl Rounds<'_> {
    /// The generator of a part of `round`: 0 deals, then every stratum reads, then every cell is drawn.
    fn generator(&self, round: usize, part: usize) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(stream_seed(stream_seed(self.work.seed, round as u64), part as u64))
    }

    /// Does what `task` says; breaks off where the run is to stop.
    fn carry_out(&self, task: Task, worker: &mut Worker<'_>, rate: impl Fn(usize) -> f32) -> ControlFlow<()> {
        match task {
            Task::Deal { round } => {
                // The round before the last used this deal: it is over.
                self.work.let_go(round.checked_sub(2));
                let mut deal = self.deals[round % 2].write().unwrap_or_else(PoisonError::into_inner);
                deal.partition.deal(&mut self.generator(round, 0));
                deal.portions = divide(self.work.interactions, &self.work.windows[round], self.strata.len());
                ControlFlow::Continue(())
            }
            Task::Read { round, stratum } => {
                self.read(round, stratum);
                ControlFlow::Continue(())
            }
            Task::Train { round, stratum, block } => self.cell(worker, round, (stratum, block), rate(round)),
        }
    }

    fn read(&self, round: usize, number: usize) {
        let deal = self.deals[round % 2].read().unwrap_or_else(PoisonError::into_inner);
        let mut stratum = lock(&self.strata[number]);
        let mut rng = self.generator(round, 1 + number);
        stratum.buckets.trim(self.kept_room);
        stratum.buckets.clear(&deal.partition);
        for Portion { chunk, users } in &deal.portions[number] {
            let chunk_number = *chunk as usize;
            let chunk = self.work.interactions.chunk(chunk_number);
            stratum.buckets.read(&deal.partition, &chunk, users.clone(), &mut rng);
            if users.end as usize == chunk.users() {
                self.work.interactions.release(chunk_number);
                self.work.paging.read(&[chunk_number as u32]);
            }
        }
        // Each stratum asks for a share of the window after this one.
        let next = self.work.windows.get(round + 1).into_iter().flatten();
        next.skip(number).step_by(self.strata.len()).for_each(|chunk| self.work.paging.ask(&[*chunk]));
    }

    fn cell(
        &self,
        worker: &mut Worker<'_>,
        round: usize,
        (number, block): (usize, usize),
        learning_rate: f32,
    ) -> ControlFlow<()> {
        let deal = self.deals[round % 2].read().unwrap_or_else(PoisonError::into_inner);
        let mut stratum = lock(&self.strata[number]);
        let Stratum { buckets, done } = &mut *stratum;
        let (items, blocks) = (deal.partition.block(block), deal.partition.blocks());
        let mut rng = self.generator(round, 1 + self.strata.len() + number * blocks + block);
        let mut rest = buckets.bucket(block);
        let Worker { sampling, batch } = worker;
        // What a sampler holds, another cell has left there: it must begin with this one's.
        sampling.begin(self.work.progress_at(round), rest, &mut rng);
        while !rest.is_empty() {
            batch.clear();
            batch.learning_rate = learning_rate;
            rest = self.work.draw(sampling, (items, rest), &mut rng, batch, done);
            self.work.learn_from(batch, done);
            if self.work.alarm.is_raised() || self.work.halt.is_out_of_time() {
                self.work.halt.break_off();
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}
