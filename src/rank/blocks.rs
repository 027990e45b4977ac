//! Blocks of users × tiles of items: how large they may be, and the ranking of one block.

use rkyv::rend::u32_le;

use super::{RankError, Scorer, Top};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Interactions};

/// Users a block and items a tile where memory allows: the tile's scores, 512 KiB, stay in L2.
const BLOCK: usize = 512;
const TILE: usize = 256;
const SMALLEST_TILE: usize = 32;

/// Sizes of blocks and tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Users a block at most.
    pub(crate) block: usize,
    /// Items a tile.
    pub(crate) tile: usize,
    /// What a block may use beside scores and rankings.
    pub(crate) spare: usize,
}

impl Tiling {
    /// The largest sizes at which `ctx.threads()` blocks at once stay within `ctx.memory()`, of which `taken` bytes
    /// are in use. `user_bytes` is what a user takes beside scores and the ranking, and `spare` what a block may have
    /// to take in addition.
    pub(crate) fn new(
        users: usize,
        k: usize,
        taken: usize,
        user_bytes: usize,
        spare: usize,
        ctx: &Context,
    ) -> Result<Self, RankError> {
        let threads = ctx.threads();
        let needed = |block: usize, tile: usize| {
            let user = tile * 4 + Top::bytes(k) + 3 * size_of::<&[u32_le]>() + user_bytes;
            taken.saturating_add(block.saturating_mul(user).saturating_add(spare).saturating_mul(threads))
        };
        let budget = usize::try_from(ctx.memory().0).unwrap_or(usize::MAX);
        // Some blocks a thread, so that the last ones end together.
        let mut block = users.div_ceil(threads * 4).clamp(1, BLOCK);
        let mut tile = TILE;
        while needed(block, tile) > budget {
            if block > 1 {
                block /= 2;
            } else if tile > SMALLEST_TILE {
                tile /= 2;
            } else {
                let needed = ByteSize(needed(block, tile) as u64);
                return Err(RankError::Memory { needed, threads, given: ctx.memory() });
            }
        }
        Ok(Self { block, tile, spare: (budget - needed(block, tile)) / threads + spare })
    }
}

/// What a user has interacted with already: the lists to mask, each ascending.
pub(crate) struct Seen<'a> {
    parts: Vec<&'a Interactions>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(parts: Vec<&'a Interactions>) -> Self {
        Self { parts }
    }

    /// The lists of `user`.
    pub(crate) fn lists(&self, user: u32) -> impl Iterator<Item = &'a [u32_le]> {
        self.parts.iter().map(move |part| part.user(user).items)
    }

    /// How many items are masked for `user`. No pair is in two parts.
    pub(crate) fn len(&self, user: u32) -> usize {
        self.lists(user).map(<[u32_le]>::len).sum()
    }
}

/// The pool that blocks are ranked in.
pub(crate) fn workers(ctx: &Context) -> Result<rayon::ThreadPool, RankError> {
    let threads = ctx.threads();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("rank-{i}"))
        .build()
        .map_err(|e| RankError::Threads { threads, reason: e.to_string() })
}

/// Ranks the whole catalogue for `users`: their best `k` items that are not in `seen`.
///
/// `visit(index, scores)` sees every tile of every user, masked items at −∞. O(users × items) time,
/// O(users × (tile + k)) memory.
#[allow(clippy::too_many_arguments)] // each is one plain thing
pub(crate) fn rank_block(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    users: &[u32],
    seen: &Seen<'_>,
    (k, seed): (usize, u64),
    tile: usize,
    ctx: &Context,
    mut visit: impl FnMut(usize, &[f32]),
) -> Result<Vec<Top>, RankError> {
    let items = scorer.items();
    let mut tops: Vec<Top> = users.iter().map(|user| Top::new(k, seed, *user)).collect();
    // What is left to mask of each user's lists.
    let mut masks: Vec<&[u32_le]> = users.iter().flat_map(|user| seen.lists(*user)).collect();
    let parts = seen.parts.len();
    let mut scores = vec![0.0f32; users.len() * tile.min(items)];
    for start in (0..items).step_by(tile) {
        ctx.check()?;
        let range = start as u32..(start + tile).min(items) as u32;
        let scores = &mut scores[..users.len() * range.len()];
        scorer.score(users, range.clone(), scores);
        for (u, (row, top)) in scores.chunks_exact_mut(range.len()).zip(&mut tops).enumerate() {
            for list in &mut masks[u * parts..(u + 1) * parts] {
                while let Some((item, rest)) = list.split_first().filter(|(i, _)| i.to_native() < range.end) {
                    row[item.to_native() as usize - start] = f32::NEG_INFINITY;
                    *list = rest;
                }
            }
            top.offer(range.start, row).map_err(|item| not_a_number(dataset, users[u], item))?;
            visit(u, row);
        }
    }
    Ok(tops)
}

/// The error that names whose score is NaN.
pub(crate) fn not_a_number(dataset: &Dataset, user: u32, item: u32) -> RankError {
    let name = |id: Option<&str>| id.unwrap_or_default().to_string();
    RankError::NotANumber { user: name(dataset.users().id(user)), item: name(dataset.items().id(item)) }
}
