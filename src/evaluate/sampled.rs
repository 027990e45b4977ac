//! The sampled protocol: each held-out item alone among negatives drawn for it.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

use super::EvaluateError;
use super::listed::ListFile;
use super::options::Protocol;
use super::popular::Popular;
use super::subject::{Measured, Subject};
use super::tally::{Sums, Tally};
use crate::context::{ByteSize, Context, Interrupted, Unit};
use crate::negatives::Proposal;
use crate::rank::{Candidate, RankError, not_a_number, program_bytes, user_seed, workers};

/// Users a block.
const BLOCK: usize = 32;
/// Held-out items a wave where the table of items need not be read for each, and where it does.
const WAVE: usize = 1 << 14;
const WAVE_FROM_DISK: usize = 1 << 24;
/// What a held-out item takes beside its negatives: its list, its share of tasks, blocks and their totals.
const LIST_BYTES: usize = size_of::<List>() + size_of::<Task>() + 64;

/// What to measure, in waves that fit the budget: the negatives of all of a wave's held-out items are drawn or read, then
/// scored in one pass over the items, so that a table that does not fit is not read from all over for each.
pub(super) struct Plan<'a> {
    subject: &'a Subject<'a>,
    source: Source<'a>,
    /// Held-out items a wave at most.
    wave: usize,
}

/// Where negatives come from.
enum Source<'a> {
    Uniform(usize),
    Popular(usize, Popular<'a>),
    Listed(ListFile<'a>),
}

/// Some of a user's held-out items: those of a wave.
#[derive(Clone, Copy)]
struct Task {
    user: u32,
    from: u32,
    to: u32,
    /// Whether they are the user's last.
    ends: bool,
}

/// A held-out item among its negatives: where they end in the block, how far they are scored, and which it is.
struct List {
    user: u32,
    own: usize,
    end: usize,
    scored: usize,
}

/// What is drawn for some tasks. Items ascend in each list.
#[derive(Default)]
struct Block {
    lists: Vec<List>,
    items: Vec<u32>,
    scores: Vec<f32>,
    /// Users who end here, and those of them with fewer candidates than negatives.
    users: u64,
    short: u64,
}

impl Block {
    /// Adds a list: the negatives from `start`, ascending, get the held-out item among them.
    fn end_list(&mut self, user: u32, positive: u32, start: usize) {
        let own = start + self.items[start..].partition_point(|item| *item < positive);
        self.items.insert(own, positive);
        self.lists.push(List { user, own, end: self.items.len(), scored: start });
    }
}

impl<'a> Plan<'a> {
    /// Refuses a budget that does not do, whichever users are sampled, and a list that is none.
    pub(super) fn new(subject: &'a Subject<'a>, ctx: &Context) -> Result<Self, EvaluateError> {
        let Subject { scorer, cases, dataset, options, paging, .. } = *subject;
        let items = dataset.items().len() as usize;
        let (source, negatives, held) = match &options.protocol {
            Protocol::Listed(path) => {
                let list = ListFile::scan(path, dataset, cases, ctx)?;
                let (longest, held) = (list.longest(), list.bytes());
                (Source::Listed(list), longest, held)
            }
            Protocol::Sampled { negatives, proposal: Proposal::Popularity } => {
                let popular = Popular::new(dataset.popularity());
                let held = popular.bytes();
                // A draw that is short of items weighs all that are left: its best so far.
                (Source::Popular(*negatives, popular), *negatives, held + ctx.threads() * negatives.min(&items) * 16)
            }
            Protocol::Sampled { negatives, .. } => (Source::Uniform(*negatives), *negatives, 0),
            Protocol::Full => (Source::Uniform(0), 0, 0),
        };
        let drawn = negatives.min(items);
        let seen = |user: u32| dataset.parts().map(|(_, p)| p.user(user).items.len()).sum::<usize>();
        let most_seen = cases.users().map(seen).max().unwrap_or(0);
        // What is seen, which may grow by doubling, and the ranks of negatives.
        let a_thread = drawn * 4 + most_seen * 8;
        let taken = subject.taken() + held + a_thread * ctx.threads();
        let fixed = program_bytes(ctx.threads()).saturating_add(taken);
        let kept = subject.shape().ranking_bytes(subject.slices.most_of_a_user(1));
        let list = LIST_BYTES + kept + (drawn + 1) * (size_of::<u32>() + size_of::<f32>());
        let needed = ByteSize(fixed.saturating_add(list) as u64);
        if needed > ctx.memory() {
            return Err(RankError::Memory { needed, threads: ctx.threads(), given: ctx.memory() }.into());
        }
        let budget = usize::try_from(ctx.memory().0).unwrap_or(usize::MAX);
        // Half of the budget, if it holds anything, for the rest serves the system as cache.
        let room = (budget / 2).checked_sub(fixed).map(|room| room / list).filter(|wave| *wave > 0);
        let most = if paging.region(scorer).is_some() { WAVE_FROM_DISK } else { WAVE };
        let wave = room.unwrap_or((budget - fixed) / list).min(most);
        Ok(Self { subject, source, wave })
    }

    /// What is to be said of the list that negatives come from.
    pub(super) fn notes(&self) -> Vec<String> {
        match &self.source {
            Source::Listed(list) => list.notes(),
            _ => Vec::new(),
        }
    }

    /// The metrics, and how many users have fewer candidates than negatives.
    pub(super) fn measure(&self, ctx: &Context) -> Result<Measured, EvaluateError> {
        let Subject { scorer, cases, options, paging, .. } = *self.subject;
        let total = match &self.source {
            Source::Listed(list) => list.len(),
            _ => cases.users,
        };
        let stage = ctx.stage(self.subject.name, Some(total), Unit::Users);
        let pool = workers(ctx)?;
        let (mut sums, mut short) = (Sums::new(self.subject.shape()), 0);
        let mut tasks = self.tasks().peekable();
        let mut rows = match &self.source {
            Source::Listed(list) => Some(list.rows()?),
            _ => None,
        };
        loop {
            let (mut blocks, ends) = match &mut rows {
                Some(rows) => {
                    let (mut blocks, mut ends) = (Vec::new(), (u32::MAX, 0));
                    for at in 0..self.wave {
                        let Some(row) = rows.next().transpose()? else { break };
                        if at.is_multiple_of(BLOCK) {
                            ctx.check()?;
                            blocks.push(Block::default());
                        }
                        let Some(block) = blocks.last_mut() else { break };
                        let start = block.items.len();
                        block.items.extend(row.negatives);
                        block.end_list(row.user, row.positive, start);
                        block.users += 1;
                        ends = (ends.0.min(row.user), ends.1.max(row.user));
                    }
                    blocks.iter_mut().for_each(|block: &mut Block| block.scores.resize(block.items.len(), 0.0));
                    (blocks, ends)
                }
                None => {
                    let (mut wave, mut room) = (Vec::new(), self.wave);
                    while let Some(task) = tasks.next_if(|task| (task.to - task.from) as usize <= room) {
                        room -= (task.to - task.from) as usize;
                        wave.push(task);
                    }
                    let ends = (wave.first().map_or(0, |t| t.user), wave.last().map_or(0, |t| t.user));
                    let draw = |tasks: &[Task]| ctx.check().map(|()| self.draw_block(tasks));
                    if !wave.is_empty() {
                        paging.ask(scorer, ends, wave.len());
                    }
                    let drawn =
                        pool.install(|| wave.par_chunks(BLOCK).map(draw).collect::<Result<Vec<_>, Interrupted>>());
                    (drawn.map_err(RankError::from)?, ends)
                }
            };
            if blocks.is_empty() {
                break;
            }
            let rows = blocks.iter().map(|block| block.items.len() as u64).sum();
            paging.by_regions(scorer, paging.region(scorer), rows, |region| {
                pool.install(|| blocks.par_iter_mut().for_each(|block| self.score(block, &region)));
                Ok(ctx.check()?)
            })?;
            // All results, and then the first: which error is reported does not depend on the threads.
            let measured: Vec<_> = pool.install(|| blocks.par_iter().map(|block| self.finish(block)).collect());
            for (block, measured) in blocks.iter().zip(measured) {
                sums.merge(measured?);
                short += block.short;
                stage.add(block.users);
            }
            paging.release(scorer, ends);
        }
        let short = (!matches!(self.source, Source::Listed(_))).then_some(short);
        Ok(Measured { metrics: sums.totals[0].means(&options.k), sums, short })
    }

    /// All held-out items, those of a user in one task if they fit a wave.
    fn tasks(&self) -> impl Iterator<Item = Task> + '_ {
        self.subject.cases.users().flat_map(|user| {
            let count = self.subject.cases.held_out.user(user).items.len();
            let wave = self.wave;
            (0..count).step_by(wave).map(move |from| {
                let to = (from + wave).min(count);
                Task { user, from: from as u32, to: to as u32, ends: to == count }
            })
        })
    }

    fn draw_block(&self, tasks: &[Task]) -> Block {
        let Subject { cases, dataset, options, .. } = *self.subject;
        let negatives = match &self.source {
            Source::Uniform(negatives) | Source::Popular(negatives, _) => *negatives,
            Source::Listed(_) => 0,
        };
        let count: usize = tasks.iter().map(|task| (task.to - task.from) as usize).sum();
        let room = count * (negatives.min(dataset.items().len() as usize) + 1);
        let mut block = Block { lists: Vec::with_capacity(count), items: Vec::with_capacity(room), ..Block::default() };
        let mut seen: Vec<u32> = Vec::new();
        for task in tasks {
            let user = task.user;
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(user_seed(options.seed, user));
            seen.clear();
            seen.extend(dataset.parts().flat_map(|(_, p)| p.user(user).items).map(|i| i.to_native()));
            seen.sort_unstable();
            // Parts share no pair; that opening leaves to `verify`, and drawing must not depend on it.
            seen.dedup();
            let mut short = false;
            for (at, positive) in cases.held_out.user(user).items[..task.to as usize].iter().enumerate() {
                let start = block.items.len();
                match &self.source {
                    Source::Popular(_, popular) => popular.draw(negatives, &seen, &mut rng, &mut block.items),
                    _ => {
                        let candidates = dataset.items().len() - seen.len() as u32;
                        draw(candidates, negatives.min(candidates as usize), &seen, &mut rng, &mut block.items);
                    }
                }
                short |= block.items.len() - start < negatives;
                if at < task.from as usize {
                    // Of an earlier task: drawn for what follows to be the same.
                    block.items.truncate(start);
                    continue;
                }
                block.end_list(user, positive.to_native(), start);
            }
            block.users += u64::from(task.ends);
            block.short += u64::from(task.ends && short);
        }
        block.scores.resize(block.items.len(), 0.0);
        block
    }

    /// Scores the items of `region`; those below it are scored.
    fn score(&self, block: &mut Block, region: &Range<u32>) {
        for list in &mut block.lists {
            let rest = &block.items[list.scored..list.end];
            let end = list.scored + rest.partition_point(|item| *item < region.end);
            if end > list.scored {
                let range = list.scored..end;
                self.subject.scorer.score_items(list.user, &block.items[range.clone()], &mut block.scores[range]);
                list.scored = end;
            }
        }
    }

    /// One ranking for each list.
    fn finish(&self, block: &Block) -> Result<Tally<'a>, RankError> {
        let Subject { cases, dataset, options, slices, .. } = *self.subject;
        let mut tally = Tally::new(self.subject.shape());
        let mut start = 0;
        for list in &block.lists {
            let range = start..list.end;
            start = list.end;
            if let Some(at) = range.clone().find(|at| block.scores[*at].is_nan()) {
                return Err(not_a_number(dataset, list.user, block.items[at]));
            }
            let own_seed = user_seed(options.seed, list.user);
            let place = |at: usize| Candidate::new(block.scores[at], block.items[at], own_seed);
            let own = place(list.own);
            let rank = 1 + range.filter(|at| place(*at) > own).count() as u32;
            let held_out = cases.held_out.user(list.user);
            let at = held_out.items.partition_point(|item| item.to_native() < block.items[list.own]);
            let groups = slices.of_user(list.user).chain(slices.of_interaction(&held_out, at));
            for group in std::iter::once(0).chain(groups) {
                tally.add(list.user, group, (&[rank], 1, None));
            }
        }
        Ok(tally)
    }
}

/// Appends `count` of the `candidates` items that are not in `seen` (ascending): uniformly, without replacement.
///
/// Floyd's algorithm (Bentley & Floyd 1987) draws ranks among the candidates, so that nothing is ever rejected.
pub(super) fn draw(candidates: u32, count: usize, seen: &[u32], rng: &mut Xoshiro256PlusPlus, items: &mut Vec<u32>) {
    let mut drawn: Vec<u32> = Vec::with_capacity(count);
    for last in candidates - count as u32..candidates {
        let rank = rng.random_range(0..=last);
        match drawn.binary_search(&rank) {
            Err(at) => drawn.insert(at, rank),
            // `last` is greater than all that were drawn.
            Ok(_) => drawn.push(last),
        }
    }
    // The item of rank r is r + j, where j seen items lie below it.
    items.extend(drawn.into_iter().map(|rank| {
        let (mut low, mut high) = (0, seen.len());
        while low < high {
            let middle = (low + high) / 2;
            if seen[middle] - middle as u32 <= rank { low = middle + 1 } else { high = middle }
        }
        rank + low as u32
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn negatives_are_uniform_never_seen_and_never_repeated() {
        let seen = [0, 1, 5, 9, 10, 11, 23, 39];
        let free: Vec<u32> = (0..40).filter(|i| !seen.contains(i)).collect();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let (draws, count) = (20_000, 10);
        let mut counts = [0u32; 40];
        for _ in 0..draws {
            let mut items = Vec::new();
            draw(free.len() as u32, count, &seen, &mut rng, &mut items);
            assert_eq!(items.iter().collect::<HashSet<_>>().len(), count);
            items.iter().for_each(|i| counts[*i as usize] += 1);
        }
        assert!(seen.iter().all(|i| counts[*i as usize] == 0));
        // Drawing without replacement shrinks the variance by (1 − n/N): the statistic, scaled so, is χ² with 31
        // degrees of freedom, whose 99.9 % quantile is 61.1.
        let share = count as f64 / free.len() as f64;
        let expected = draws as f64 * share;
        let chi: f64 = free.iter().map(|i| (f64::from(counts[*i as usize]) - expected).powi(2) / expected).sum();
        let chi = chi / (1.0 - share) * (free.len() - 1) as f64 / free.len() as f64;
        assert!(chi < 61.1, "χ² = {chi}");
    }

    #[test]
    fn all_candidates_are_used_where_there_are_no_more() {
        let mut items = Vec::new();
        draw(3, 3, &[1, 2, 4], &mut Xoshiro256PlusPlus::seed_from_u64(1), &mut items);
        items.sort_unstable();
        assert_eq!(items, [0, 3, 5]);
    }
}
