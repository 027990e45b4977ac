//! The ranking itself: wave after wave of users, each in one pass over the items.
//!
//! All threads rank the users of a wave for the same region of items before they go on to the next, so that a table
//! that is larger than memory is read from the disk in its order, once a wave and at most once more to prepare it,
//! whatever the number of threads.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use rkyv::rend::u32_le;

use super::tiling::STACK;
use super::{Paging, RankError, Scorer, Seen, Tiling, Tops};
use crate::context::{Context, Interrupted};
use crate::dataset::Dataset;
use crate::storage::return_large_buffers;

/// What is made of rankings, block by block.
pub(crate) trait Outcomes: Sync {
    /// What a block carries while it is ranked.
    type Own: Send;
    /// What is made of a block.
    type Outcome: Send;

    /// Whether items have to be seen once before they are ranked, by [`Outcomes::prepare`].
    const PREPARES: bool;

    /// How many held-out items and the like of `user` [`Outcomes::prepare`] looks up.
    fn lookups(&self, user: u32) -> usize;
    /// What `user` takes beyond what [`super::Needs`] says of every user, in bytes.
    fn extra(&self, user: u32) -> usize;
    /// Begins a block.
    fn begin(&self, users: &[u32]) -> Self::Own;
    /// Prepares the ranking of a region of items, before any item is ranked: what it looks up there lies close together,
    /// and is not read from all over a table that does not fit.
    fn prepare(&self, own: &mut Self::Own, users: &[u32], region: Range<u32>);
    /// Sees every tile of scores of the block's user at `index`, the items from `first`, masked items at −∞.
    fn visit(&self, own: &mut Self::Own, index: usize, first: u32, scores: &[f32]);

    /// Whose items have to be gone through once more when everything is ranked; by
    /// [`Outcomes::follow`].
    fn follows(&self) -> Option<&dyn Scorer> {
        None
    }
    /// Takes note of a block's rankings, if [`Outcomes::follows`].
    fn ranked(&self, own: &mut Self::Own, users: &[u32], tops: &mut Tops) {
        let _ = (own, users, tops);
    }
    /// Sees a region of items after all have been ranked, if [`Outcomes::follows`].
    fn follow(&self, own: &mut Self::Own, region: Range<u32>) {
        let _ = (own, region);
    }
    /// Ends a block.
    fn finish(&self, users: &[u32], tops: &mut Tops, own: Self::Own) -> Self::Outcome;
}

/// Ranks the whole catalogue for users: their best `k` items that are not in `seen`.
pub(crate) struct Ranking<'a> {
    pub(crate) scorer: &'a dyn Scorer,
    pub(crate) dataset: &'a Dataset,
    pub(crate) seen: &'a Seen<'a>,
    pub(crate) paging: &'a Paging<'a>,
    pub(crate) k: usize,
    /// Breaks ties.
    pub(crate) seed: u64,
    pub(crate) tiling: Tiling,
}

/// Users who are ranked together by one thread at a time.
struct Block<'a, E> {
    users: &'a [u32],
    tops: &'a mut Tops,
    /// What is left to mask of each user's lists.
    masks: Vec<&'a [u32_le]>,
    own: E,
}

impl Ranking<'_> {
    /// Ranks for `users`, and hands what `outcomes` makes of each block to `consume`, in the order of users, while the
    /// next wave is being ranked. O(users × items) time; memory as [`Tiling`] shares it out.
    pub(crate) fn run<O: Outcomes, X: From<RankError>>(
        &self,
        users: impl Iterator<Item = u32> + Send,
        outcomes: &O,
        ctx: &Context,
        mut consume: impl FnMut(O::Outcome) -> Result<(), X>,
    ) -> Result<(), X> {
        let pool = workers(ctx)?;
        let stopped = &AtomicBool::new(false);
        // Without room: one wave is consumed, one may wait, one is being ranked.
        let (send, receive) = crossbeam_channel::bounded(0);
        let rank_all = move || {
            let buffers: Vec<_> = (0..ctx.threads()).map(|_| Mutex::new(Vec::new())).collect();
            let mut tops = Vec::new();
            let mut users = users.peekable();
            while let Some(wave) = self.gather(&mut users, outcomes) {
                let check = || if stopped.load(Ordering::Relaxed) { Err(Interrupted) } else { ctx.check() };
                while tops.len() < wave.len() {
                    tops.push(Tops::new(self.k));
                }
                let count = wave.iter().map(Vec::len).sum();
                let users = || wave.iter().flatten().copied();
                let ends = (users().min().unwrap_or_default(), users().max().unwrap_or_default());
                self.paging.ask(self.scorer, ends, count);
                let ranked = pool.install(|| self.rank_wave(&wave, &mut tops, outcomes, &buffers, &check));
                self.paging.release(self.scorer, ends);
                let failed = ranked.is_err();
                if send.send(ranked).is_err() || failed {
                    break;
                }
            }
        };
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("rank".into()).stack_size(STACK);
            builder
                .spawn_scoped(scope, rank_all)
                .map_err(|e| RankError::Threads { threads: 1, reason: e.to_string() })?;
            let consumed = receive.into_iter().try_for_each(|wave| wave?.into_iter().try_for_each(&mut consume));
            stopped.store(true, Ordering::Relaxed);
            consumed
        })
    }

    /// The users of the next wave, block by block.
    fn gather<O: Outcomes>(
        &self,
        users: &mut std::iter::Peekable<impl Iterator<Item = u32>>,
        outcomes: &O,
    ) -> Option<Vec<Vec<u32>>> {
        let Tiling { wave, block, extra, .. } = self.tiling;
        let mut blocks: Vec<Vec<u32>> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count < wave {
            let Some(user) = users.peek().copied() else { break };
            bytes += outcomes.extra(user);
            if count > 0 && bytes > extra {
                break;
            }
            users.next();
            match blocks.last_mut().filter(|b| b.len() < block) {
                Some(last) => last.push(user),
                None => {
                    let mut first = Vec::with_capacity(block.min(wave - count));
                    first.push(user);
                    blocks.push(first);
                }
            }
            count += 1;
        }
        (count > 0).then_some(blocks)
    }

    fn rank_wave<'b, O: Outcomes>(
        &self,
        wave: &'b [Vec<u32>],
        tops: &'b mut [Tops],
        outcomes: &O,
        buffers: &[Mutex<Vec<f32>>],
        check: &(impl Fn() -> Result<(), Interrupted> + Sync),
    ) -> Result<Vec<O::Outcome>, RankError> {
        let begin = |(users, tops): (&'b Vec<u32>, &'b mut Tops)| {
            tops.begin(self.seed, users);
            let masks = users.iter().flat_map(|user| self.seen.lists(*user)).collect();
            Block { users, tops, masks, own: outcomes.begin(users) }
        };
        let mut blocks: Vec<_> = wave.par_iter().zip(tops).map(begin).collect();
        if O::PREPARES {
            let lookups = wave.iter().flatten().map(|user| outcomes.lookups(*user) as u64).sum();
            self.paging.by_regions(self.scorer, self.tiling.region, lookups, |region| {
                let prepare = |b: &mut Block<'_, O::Own>| outcomes.prepare(&mut b.own, b.users, region.clone());
                blocks.par_iter_mut().for_each(prepare);
                Ok(check()?)
            })?;
        }
        self.paging.by_regions(self.scorer, self.tiling.region, u64::MAX, |region| {
            let each = |block: &mut Block<'_, O::Own>| {
                let buffer = rayon::current_thread_index().and_then(|t| buffers.get(t)).unwrap_or(&buffers[0]);
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                self.rank_region(block, region.clone(), outcomes, &mut buffer, check)
            };
            // All results, and then the first: which error is reported does not depend on the threads.
            let ranked: Vec<_> = blocks.par_iter_mut().map(each).collect();
            ranked.into_iter().collect()
        })?;
        if let Some(followed) = outcomes.follows() {
            blocks.par_iter_mut().for_each(|b| outcomes.ranked(&mut b.own, b.users, b.tops));
            let rows = blocks.iter().map(|b| (b.users.len() * self.k) as u64).sum();
            self.paging.by_regions(followed, self.paging.region(followed), rows, |region| {
                blocks.par_iter_mut().for_each(|b| outcomes.follow(&mut b.own, region.clone()));
                Ok(check()?)
            })?;
        }
        let finish = |block: Block<'_, O::Own>| outcomes.finish(block.users, block.tops, block.own);
        Ok(blocks.into_par_iter().map(finish).collect())
    }

    fn rank_region<O: Outcomes>(
        &self,
        block: &mut Block<'_, O::Own>,
        region: Range<u32>,
        outcomes: &O,
        buffer: &mut Vec<f32>,
        check: &impl Fn() -> Result<(), Interrupted>,
    ) -> Result<(), RankError> {
        let Block { users, tops, masks, own } = block;
        let (tile, parts) = (self.tiling.tile, self.seen.parts());
        buffer.resize(self.tiling.block * tile, 0.0);
        for start in region.clone().step_by(tile) {
            check()?;
            let range = start..(start as usize + tile).min(region.end as usize) as u32;
            let scores = &mut buffer[..users.len() * range.len()];
            self.scorer.score(users, range.clone(), scores);
            for (u, row) in scores.chunks_exact_mut(range.len()).enumerate() {
                for list in &mut masks[u * parts..(u + 1) * parts] {
                    while let Some((item, rest)) = list.split_first().filter(|(i, _)| i.to_native() < range.end) {
                        row[(item.to_native() - start) as usize] = f32::NEG_INFINITY;
                        *list = rest;
                    }
                }
                tops.offer(u, start, row).map_err(|item| not_a_number(self.dataset, users[u], item))?;
                outcomes.visit(own, u, start, row);
            }
        }
        Ok(())
    }
}

/// The pool that blocks are ranked in. What is ranked is given back to the system when it is freed, from here on.
pub(crate) fn workers(ctx: &Context) -> Result<rayon::ThreadPool, RankError> {
    return_large_buffers();
    let threads = ctx.threads();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK)
        .thread_name(|i| format!("rank-{i}"))
        .build()
        .map_err(|e| RankError::Threads { threads, reason: e.to_string() })
}

/// The error that names whose score is NaN.
pub(crate) fn not_a_number(dataset: &Dataset, user: u32, item: u32) -> RankError {
    let name = |id: Option<&str>| id.unwrap_or_default().to_string();
    RankError::NotANumber { user: name(dataset.users().id(user)), item: name(dataset.items().id(item)) }
}
