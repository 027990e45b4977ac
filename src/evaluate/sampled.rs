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
    /// Held-out items a wave at most, and the items of each list at most.
    wave: usize,
    room: usize,
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
struct Block<'w> {
    lists: Vec<List>,
    /// Room for the lists of these tasks, and how much of it is taken.
    items: &'w mut [u32],
    scores: &'w mut [f32],
    taken: usize,
    /// Users who end here, and those of them with fewer candidates than negatives.
    users: u64,
    short: u64,
}

impl<'w> Block<'w> {
    fn new(lists: usize, items: &'w mut [u32], scores: &'w mut [f32]) -> Self {
        Self { lists: Vec::with_capacity(lists), items, scores, taken: 0, users: 0, short: 0 }
    }

    /// Adds a list: the held-out item among its `negatives`, which ascend.
    fn add(&mut self, user: u32, positive: u32, negatives: &[u32]) {
        let (start, end) = (self.taken, self.taken + negatives.len() + 1);
        let (below, above) = negatives.split_at(negatives.partition_point(|item| *item < positive));
        let own = start + below.len();
        self.items[start..own].copy_from_slice(below);
        self.items[own] = positive;
        self.items[own + 1..end].copy_from_slice(above);
        self.taken = end;
        self.lists.push(List { user, own, end, scored: start });
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
        // What is seen, which may grow by doubling, the negatives and their ranks.
        let a_thread = drawn * 8 + most_seen * 8;
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
        Ok(Self { subject, source, wave, room: drawn + 1 })
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
        // Of the whole wave, and kept from wave to wave: many small ones would leave the heaps of all threads full of holes.
        let lists = match &self.source {
            Source::Listed(list) => list.len(),
            _ => cases.interactions,
        };
        let all = self.wave.min(usize::try_from(lists).unwrap_or(usize::MAX)) * self.room;
        let (mut items, mut scores) = (vec![0u32; all], vec![0f32; all]);
        let mut tasks = self.tasks().peekable();
        let mut rows = match &self.source {
            Source::Listed(list) => Some(list.rows()?),
            _ => None,
        };
        loop {
            let (mut blocks, ends) = match &mut rows {
                Some(rows) => {
                    let (mut blocks, mut ends) = (Vec::new(), (u32::MAX, 0));
                    let size = BLOCK * self.room;
                    let mut free = items.chunks_mut(size).zip(scores.chunks_mut(size));
                    for at in 0..self.wave {
                        let Some(row) = rows.next().transpose()? else { break };
                        if at.is_multiple_of(BLOCK) {
                            ctx.check()?;
                            blocks.extend(free.next().map(|(items, scores)| Block::new(BLOCK, items, scores)));
                        }
                        let Some(block) = blocks.last_mut() else { break };
                        block.add(row.user, row.positive, &row.negatives);
                        block.users += 1;
                        ends = (ends.0.min(row.user), ends.1.max(row.user));
                    }
                    (blocks, ends)
                }
                None => {
                    let (mut wave, mut room) = (Vec::new(), self.wave);
                    while let Some(task) = tasks.next_if(|task| (task.to - task.from) as usize <= room) {
                        room -= (task.to - task.from) as usize;
                        wave.push(task);
                    }
                    let ends = (wave.first().map_or(0, |t| t.user), wave.last().map_or(0, |t| t.user));
                    let (mut free, mut free_scores) = (&mut items[..], &mut scores[..]);
                    let blocks: Vec<_> = wave
                        .chunks(BLOCK)
                        .map(|tasks| {
                            let lists = tasks.iter().map(|task| (task.to - task.from) as usize).sum();
                            let (own, rest) = std::mem::take(&mut free).split_at_mut(lists * self.room);
                            let (own_scores, rest_scores) =
                                std::mem::take(&mut free_scores).split_at_mut(lists * self.room);
                            (free, free_scores) = (rest, rest_scores);
                            (tasks, Block::new(lists, own, own_scores))
                        })
                        .collect();
                    let draw = |(tasks, block)| ctx.check().map(|()| self.draw_block(tasks, block));
                    if !wave.is_empty() {
                        paging.ask(scorer, ends, wave.len());
                    }
                    let drawn =
                        pool.install(|| blocks.into_par_iter().map(draw).collect::<Result<Vec<_>, Interrupted>>());
                    (drawn.map_err(RankError::from)?, ends)
                }
            };
            if blocks.is_empty() {
                break;
            }
            let rows = blocks.iter().map(|block| block.taken as u64).sum();
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

    fn draw_block<'w>(&self, tasks: &[Task], mut block: Block<'w>) -> Block<'w> {
        let Subject { cases, dataset, options, .. } = *self.subject;
        let negatives = match &self.source {
            Source::Uniform(negatives) | Source::Popular(negatives, _) => *negatives,
            Source::Listed(_) => 0,
        };
        let (mut seen, mut drawn): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::with_capacity(self.room));
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
                drawn.clear();
                match &self.source {
                    Source::Popular(_, popular) => popular.draw(negatives, &seen, &mut rng, &mut drawn),
                    _ => {
                        let candidates = dataset.items().len() - seen.len() as u32;
                        draw(candidates, negatives.min(candidates as usize), &seen, &mut rng, &mut drawn);
                    }
                }
                short |= drawn.len() < negatives;
                // Those of an earlier task are drawn for what follows to be the same.
                if at >= task.from as usize {
                    block.add(user, positive.to_native(), &drawn);
                }
            }
            block.users += u64::from(task.ends);
            block.short += u64::from(task.ends && short);
        }
        block
    }

    /// Scores the items of `region`; those below it are scored.
    fn score(&self, block: &mut Block<'_>, region: &Range<u32>) {
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
    fn finish(&self, block: &Block<'_>) -> Result<Tally<'a>, RankError> {
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
            // What is never recommended enters no ranking, however short that is.
            let ranks = if block.scores[list.own] == f32::NEG_INFINITY { &[][..] } else { &[rank] };
            let held_out = cases.held_out.user(list.user);
            let at = held_out.items.partition_point(|item| item.to_native() < block.items[list.own]);
            let groups = slices.of_user(list.user).chain(slices.of_interaction(&held_out, at));
            for group in std::iter::once(0).chain(groups) {
                tally.add(list.user, group, (ranks, 1, None));
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
