//! How much is ranked at once, so that everything stays within the budget.

use super::{RankError, Tops};
use crate::context::{ByteSize, Context};

/// Users a block and items a tile where memory allows: the tile's scores, 512 KiB, stay in L2.
const BLOCK: usize = 512;
const TILE: usize = 256;
const SMALLEST_TILE: usize = 32;
/// Blocks a thread in a wave: enough that threads end together. Where the item table has to be read from the disk
/// again for each wave, more.
const BLOCKS: usize = 16;
const BLOCKS_FROM_DISK: usize = 64;
/// What the program takes before anything is ranked: its data, manifests, the index of chunks, output buffers.
const PROGRAM: usize = 4 << 20;
/// Stack of a thread that ranks.
pub(crate) const STACK: usize = 512 << 10;
/// What a thread takes beside its tile of scores: its stack, its part of the heap, a panel of factors.
const THREAD: usize = STACK + (128 << 10);

/// What the program and its threads take before anything is ranked.
pub(crate) fn program_bytes(threads: usize) -> usize {
    PROGRAM + THREAD.saturating_mul(threads)
}

/// What is to be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Users to rank for.
    pub(crate) users: u64,
    /// Items of each ranking.
    pub(crate) k: usize,
    /// Bytes in use as long as anything is ranked.
    pub(crate) taken: usize,
    /// Bytes that a user takes beside the ranking.
    pub(crate) user_bytes: usize,
    /// The most that one user may take in addition.
    pub(crate) largest: usize,
}

/// Sizes of waves, blocks and tiles. A wave is all users who are ranked in one pass over the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Users a wave at most.
    pub(crate) wave: usize,
    /// Users a block at most: what one thread ranks at a time.
    pub(crate) block: usize,
    /// Items a tile.
    pub(crate) tile: usize,
    /// What the users of a wave may take in addition to what each takes.
    pub(crate) extra: usize,
    /// Items to rank before those behind are let go of; `None` where all of them fit the budget.
    pub(crate) region: Option<usize>,
}

impl Tiling {
    /// The largest sizes at which `ctx.threads()` threads stay within `ctx.memory()`, where items are ranked in regions
    /// of `region`.
    pub(crate) fn new(needs: &Needs, region: Option<usize>, ctx: &Context) -> Result<Self, RankError> {
        let threads = ctx.threads();
        let user = Tops::bytes(needs.k).saturating_add(needs.user_bytes);
        let needed = |wave: usize, block: usize, tile: usize| {
            let fixed = program_bytes(threads).saturating_add(needs.taken).saturating_add(needs.largest);
            let tiles = (block * tile * size_of::<f32>()).saturating_mul(threads);
            fixed.saturating_add(wave.saturating_mul(user)).saturating_add(tiles)
        };
        let budget = usize::try_from(ctx.memory().0).unwrap_or(usize::MAX);
        // Half is enough for waves: the rest serves the system as cache of what is mapped.
        let soft = budget / 2;
        let most = usize::try_from(needs.users).unwrap_or(usize::MAX).max(1);
        // Some blocks a thread, so that the last ones end together.
        let mut block = most.div_ceil(threads * 4).clamp(1, BLOCK);
        let largest_wave = most.min(block * threads * if region.is_some() { BLOCKS_FROM_DISK } else { BLOCKS });
        let mut wave = largest_wave;
        let mut tile = TILE;
        loop {
            let (limit, room) = if wave > block * threads { (soft, soft + budget / 8) } else { (budget, budget) };
            let now = needed(wave, block, tile);
            if now <= limit {
                // What halving left over is for more users, so that the items are gone through less often.
                let more = ((limit - now) / user.max(1)).min(largest_wave - wave);
                let (wave, now) = (wave + more, now + more * user);
                let region = region.map(|items| items.next_multiple_of(tile));
                return Ok(Self { wave, block, tile, extra: needs.largest + (room - now), region });
            }
            if wave > block * threads {
                wave = (wave / 2).max(block * threads);
            } else if block > 1 {
                block /= 2;
                wave = wave.min(block * threads);
            } else if wave > 1 {
                wave = 1;
            } else if tile > SMALLEST_TILE {
                tile /= 2;
            } else {
                return Err(RankError::Memory { needed: ByteSize(now as u64), threads, given: ctx.memory() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_smallest_budget_is_named_exactly_and_every_larger_one_will_do(
            users in 1u64..3_000_000, k in 1usize..5000, taken in 0usize..1 << 24, user_bytes in 0usize..4096,
            largest in 0usize..1 << 24, threads in 1usize..70, more in (1u64..1 << 34, 0u32..34).prop_map(|(more, shift)| more >> shift),
        ) {
            let needs = Needs { users, k, taken, user_bytes, largest };
            let tiling = |bytes| Tiling::new(&needs, Some(16_384), &Context::new(threads, ByteSize(bytes)));
            let Err(RankError::Memory { needed, .. }) = tiling(1) else { panic!("one byte will not do") };
            prop_assert!(tiling(needed.0 - 1).is_err());
            let least = tiling(needed.0).unwrap();
            prop_assert_eq!((least.wave, least.block, least.tile), (1, 1, SMALLEST_TILE));
            let ample = tiling(needed.0 + more).unwrap();
            // Where half of the budget does not hold the least, no room for another user is left over.
            let most = (users as usize).min(threads * BLOCK * BLOCKS_FROM_DISK);
            let spare = ample.extra - largest;
            prop_assert!(more >= needed.0 || ample.wave == most || spare < Tops::bytes(k) + user_bytes, "{:?}", ample);
            prop_assert!(ample.wave >= 1 && ample.block <= ample.wave && ample.extra >= largest);
            prop_assert!(ample.region.is_none_or(|items| items > 0 && items.is_multiple_of(ample.tile)));
        }
    }
}
