//! The grid of deterministic training: which cell may be worked on now.
//!
//! In each round (a window) the users are divided into strata and the items into blocks; a cell is a stratum's
//! interactions with a block's items. Two cells of different strata and blocks touch no common row, and so commute.
//! Stratum s goes through the blocks s, s + 1, … around the circle, and each block through the strata that meet it in
//! the order of their steps: with every pair of cells that share a row in a fixed order, the outcome does not depend
//! on who works when (Gemulla et al., KDD 2011, train the same strata with a barrier after each step). There is no
//! barrier within a round: a cell starts as soon as the cells before it in its row and its column are done.

/// What a worker can be given to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Deal the items of a round into blocks, and its users into strata.
    Deal { round: usize },
    /// Read a stratum's interactions.
    Read { round: usize, stratum: usize },
    /// Train on a cell.
    Train { round: usize, stratum: usize, block: usize },
}

/// How far every stratum is.
#[derive(Debug)]
pub(super) struct Grid {
    blocks: usize,
    rounds: usize,
    /// Steps that each stratum has finished, over all rounds: one to read, then one for each block.
    done: Vec<usize>,
    busy: Vec<bool>,
    /// Strata that are in the middle of a round, of which they have to read their interactions once more.
    again: Vec<bool>,
    /// Rounds dealt. A deal lives in one of two places, so that the next round's is made while one is trained.
    dealt: usize,
    dealing: bool,
}

impl Grid {
    /// A cell for each stratum and each of `blocks`, in each of `rounds`, where each stratum has finished so many steps
    /// already, as [`Grid::steps_done`] gave them. There are at most as many strata as blocks.
    pub(super) fn new(mut done: Vec<usize>, blocks: usize, rounds: usize) -> Self {
        let strata = done.len();
        debug_assert!(0 < strata && strata <= blocks);
        let steps = 1 + blocks;
        // What was read and not trained on is read again.
        done.iter_mut().filter(|done| **done % steps == 1).for_each(|done| *done -= 1);
        let again = done.iter().map(|done| done % steps > 1).collect();
        let mut grid = Self { blocks, rounds, done, busy: vec![false; strata], again, dealt: 0, dealing: false };
        grid.dealt = grid.finished();
        grid
    }

    /// Whether `done` are steps that [`Grid::steps_done`] can give: all that has to come before a step is done when that is.
    /// From anywhere else the grid might stand still.
    pub(super) fn is_place(done: &[usize], blocks: usize, rounds: usize) -> bool {
        let steps = 1 + blocks;
        let Some(finished) = done.iter().min().map(|least| least / steps) else { return false };
        let grid = Self {
            blocks,
            rounds,
            done: done.to_vec(),
            busy: Vec::new(),
            again: Vec::new(),
            dealt: finished,
            dealing: false,
        };
        let (start, end) = (finished.saturating_mul(steps), rounds.saturating_mul(steps));
        done.iter().enumerate().all(|(stratum, done)| match done - start {
            _ if *done > end => false,
            // The last of its cells; those before have what they need where this has.
            trained @ 2.. if trained <= steps => grid.comes_after_others(stratum, trained - 2, finished),
            // Of the round that follows it can only have been read.
            ahead => ahead <= steps + 1,
        })
    }

    /// Whether the cell of `stratum` at `step` of `round` has those behind it that share its block.
    fn comes_after_others(&self, stratum: usize, step: usize, round: usize) -> bool {
        let before = self.before(stratum, step);
        before.is_none_or(|(other, its_step)| self.done[other] > round * self.steps() + 1 + its_step)
    }

    /// Steps that each stratum has finished, when nobody is at work.
    pub(super) fn steps_done(&self) -> &[usize] {
        &self.done
    }

    /// Steps of a stratum in a round.
    fn steps(&self) -> usize {
        1 + self.blocks
    }

    /// Rounds that every stratum has finished.
    fn finished(&self) -> usize {
        self.done.iter().min().map_or(0, |least| least / self.steps())
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        self.finished() == self.rounds
    }

    /// Something that may be done now, by the stratum that is most behind; `None` if there is nothing before somebody
    /// finishes. O(strata).
    pub(super) fn take(&mut self) -> Option<Task> {
        let finished = self.finished();
        if !self.dealing && self.dealt < self.rounds.min(finished + 2) {
            self.dealing = true;
            return Some(Task::Deal { round: self.dealt });
        }
        let ready = (0..self.done.len()).filter_map(|stratum| Some((stratum, self.next_of(stratum, finished)?)));
        let (stratum, task) = ready.min_by_key(|(stratum, _)| self.done[*stratum])?;
        self.busy[stratum] = true;
        Some(task)
    }

    /// The next step of `stratum`, if it may be done now.
    fn next_of(&self, stratum: usize, finished: usize) -> Option<Task> {
        let (round, step) = (self.done[stratum] / self.steps(), self.done[stratum] % self.steps());
        if self.busy[stratum] || round == self.rounds {
            return None;
        }
        if self.again[stratum] {
            return (round < self.dealt).then_some(Task::Read { round, stratum });
        }
        let Some(step) = step.checked_sub(1) else {
            return (round < self.dealt).then_some(Task::Read { round, stratum });
        };
        // The items are dealt anew, so that a cell shares rows with nearly all of the round before.
        let free = finished == round && self.comes_after_others(stratum, step, round);
        free.then(|| Task::Train { round, stratum, block: (stratum + step) % self.blocks })
    }

    /// The stratum that meets the block of `stratum`'s `step` before it does, and at which of its own steps.
    fn before(&self, stratum: usize, step: usize) -> Option<(usize, usize)> {
        if stratum + 1 < self.done.len() {
            // One ahead on the circle, one step earlier.
            Some((stratum + 1, step.checked_sub(1)?))
        } else {
            // Ahead of the last stratum lie the blocks where none began, and then stratum 0.
            Some((0, step.checked_sub(self.blocks - stratum)?))
        }
    }

    /// Counts `task` as done.
    pub(super) fn finish(&mut self, task: Task) {
        match task {
            Task::Deal { .. } => {
                self.dealing = false;
                self.dealt += 1;
            }
            Task::Read { stratum, .. } | Task::Train { stratum, .. } => {
                self.busy[stratum] = false;
                if !std::mem::take(&mut self.again[stratum]) {
                    self.done[stratum] += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    /// Works a grid off with `workers` whose tasks take random times; returns the tasks as they began and ended.
    fn simulate(grid: &mut Grid, workers: usize, seed: u64) -> Vec<(Task, u64, u64)> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut running: Vec<Option<(Task, u64, u64)>> = vec![None; workers];
        let (mut now, mut log) = (0, Vec::new());
        while !grid.is_over() {
            for idle in running.iter_mut().filter(|r| r.is_none()) {
                *idle = grid.take().map(|task| (task, now, now + rng.random_range(1..20)));
            }
            let next = (0..workers).filter(|w| running[*w].is_some()).min_by_key(|w| running[*w].unwrap().2);
            let (task, began, ended) = running[next.expect("someone can always go on")].take().unwrap();
            now = ended;
            grid.finish(task);
            log.push((task, began, ended));
        }
        log
    }

    /// The share of the time that `workers` are at work when tasks take random times.
    fn busy(strata: usize, blocks: usize, workers: usize) -> f64 {
        let log = simulate(&mut Grid::new(vec![0; strata], blocks, 5), workers, 1);
        let (work, end) = (log.iter().map(|(_, began, ended)| ended - began).sum::<u64>(), log.last().unwrap().2);
        work as f64 / (end * workers as u64) as f64
    }

    #[test]
    fn uneven_cells_leave_few_workers_idle_while_there_are_twice_as_many_strata() {
        // Over 20 rounds 0.999, 0.999, 0.996, 1.000 and 1.000; with a worker for each stratum, 0.70, 0.83 and 0.72.
        for (workers, strata, blocks, least) in [
            (2, 16, 16, 0.98),
            (4, 16, 16, 0.98),
            (8, 16, 16, 0.98),
            (16, 64, 64, 0.98),
            (32, 64, 245, 0.98),
            (16, 16, 16, 0.6),
            (16, 16, 245, 0.6),
            (64, 64, 245, 0.6),
        ] {
            let share = busy(strata, blocks, workers);
            assert!(share > least, "{workers} workers, {strata} strata, {blocks} blocks: {share}");
        }
    }

    proptest! {
        #[test]
        fn from_whatever_is_taken_for_a_place_the_grid_gets_to_its_end(
            blocks in 1usize..4, rounds in 1usize..4, done in proptest::collection::vec(0usize..14, 1..4),
        ) {
            let strata = done.len().min(blocks);
            let done = &done[..strata];
            if Grid::is_place(done, blocks, rounds) {
                let mut grid = Grid::new(done.to_vec(), blocks, rounds);
                simulate(&mut grid, 2, 1);
                prop_assert!(grid.is_over());
            }
        }

        #[test]
        fn cells_that_share_rows_come_one_after_the_other_and_in_the_same_order_for_any_workers(
            strata in 1usize..7, more in 0usize..4, rounds in 0usize..4, workers in 1usize..9, seed: u64,
        ) {
            let blocks = strata + more;
            let log = simulate(&mut Grid::new(vec![0; strata], blocks, rounds), workers, seed);
            prop_assert_eq!(log.len(), rounds * (1 + strata * (1 + blocks)));
            let order = |log: &[(Task, u64, u64)], key: &dyn Fn(usize, usize) -> bool| -> Vec<Task> {
                let mut tasks: Vec<_> = log
                    .iter()
                    .filter(|(task, ..)| matches!(task, Task::Train { stratum, block, .. } if key(*stratum, *block)))
                    .collect();
                tasks.sort_by_key(|(_, began, _)| *began);
                assert!(tasks.windows(2).all(|two| two[0].2 <= two[1].1), "two at once: {tasks:?}");
                tasks.into_iter().map(|(task, ..)| *task).collect()
            };
            let alone = simulate(&mut Grid::new(vec![0; strata], blocks, rounds), 1, 0);
            // Stopped after any number of tasks, and gone on with: no cell is left out, or comes twice.
            let mut stopped = Grid::new(vec![0; strata], blocks, rounds);
            let mut cells = Vec::new();
            for _ in 0..seed % (log.len() as u64 + 1) {
                let Some(task) = stopped.take() else { break };
                stopped.finish(task);
                cells.push(task);
            }
            prop_assert!(Grid::is_place(stopped.steps_done(), blocks, rounds));
            let rest = simulate(&mut Grid::new(stopped.steps_done().to_vec(), blocks, rounds), workers, seed);
            cells.extend(rest.iter().map(|(task, ..)| *task));
            cells.retain(|task| matches!(task, Task::Train { .. }));
            prop_assert_eq!(cells.len(), rounds * strata * blocks);
            for s in 0..strata {
                let ours = |task: &&Task| matches!(task, Task::Train { stratum, .. } if *stratum == s);
                let whole = order(&alone, &|stratum, _| stratum == s);
                prop_assert!(cells.iter().filter(ours).eq(whole.iter()));
            }
            for s in 0..strata {
                let ours = order(&log, &|stratum, _| stratum == s);
                prop_assert_eq!(ours.len(), rounds * blocks);
                prop_assert_eq!(ours, order(&alone, &|stratum, _| stratum == s));
            }
            for b in 0..blocks {
                prop_assert_eq!(order(&log, &|_, block| block == b), order(&alone, &|_, block| block == b));
            }
            // Rounds do not mix; reading and dealing come before what needs them, and do not overwrite what is in use.
            let round_of = |task: &Task| match *task {
                Task::Deal { round } | Task::Read { round, .. } | Task::Train { round, .. } => round,
            };
            let is_cell = |task: &Task| matches!(task, Task::Train { .. });
            for (task, began, _) in &log {
                for (earlier, _, ended) in &log {
                    let (here, there) = (round_of(task), round_of(earlier));
                    let needs = match (task, earlier) {
                        (Task::Train { .. }, Task::Train { .. }) => there < here,
                        (Task::Train { stratum: a, .. }, Task::Read { stratum: b, .. }) => a == b && there <= here,
                        (Task::Read { stratum: a, .. }, Task::Train { stratum: b, .. }) => a == b && there < here,
                        (Task::Read { .. }, Task::Deal { .. }) => there <= here,
                        (Task::Deal { .. }, _) => is_cell(earlier) && there + 1 < here,
                        _ => false,
                    };
                    prop_assert!(!needs || ended <= began, "{task:?} before {earlier:?} was done");
                }
            }
        }
    }
}
