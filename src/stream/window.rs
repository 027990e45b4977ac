//! Windows: some chunks of users drawn at random, their interactions bucketed by random blocks of items.
//!
//! All rows of a block fit the cache of one core, and a user's positives of a block lie side by side, so that both
//! updates and exact rejection stay in cache. The items are dealt into blocks anew for every window: given a positive,
//! every other item is equally likely to share its block, so that a uniform negative of the block is, over windows, a
//! uniform negative of the catalogue. With a single block a window is its users in random order.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::dataset::{Chunk, Interactions};

/// Draws the windows of an epoch: all chunks in random order, cut where a window has its share.
///
/// `lanes` take a window each whenever they have finished one. A window has about `target` interactions, but never
/// more than half of a lane's share of what is left, nor fewer than `least`: so that windows shrink towards the end and
/// all lanes finish at nearly the same time (guided self-scheduling; Polychronopoulos & Kuck 1987).
pub(crate) fn plan(interactions: &Interactions, sizes: Sizes, lanes: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let mut chunks: Vec<u32> = (0..interactions.chunks() as u32).collect();
    chunks.shuffle(rng);
    let chunks = chunks.into_iter().map(|c| (c, interactions.chunk(c as usize).items().len() as u64));
    cut(chunks, interactions.len(), sizes, lanes)
}

/// Interactions in a window: what is wanted, and at the end of an epoch at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) target: u64,
    pub(crate) least: u64,
}

impl Sizes {
    /// Interactions in the next window when `left` remain, about: a window ends with a whole chunk.
    pub(crate) fn next(self, left: u64, lanes: usize) -> u64 {
        (left / (2 * lanes as u64)).max(self.least).min(self.target)
    }
}

/// Cuts `chunks`, each with its number of interactions, of `left` in all.
fn cut(chunks: impl Iterator<Item = (u32, u64)>, mut left: u64, sizes: Sizes, lanes: usize) -> Vec<Vec<u32>> {
    let mut windows = Vec::new();
    let mut window = Vec::new();
    let mut size = 0;
    for (chunk, interactions) in chunks {
        window.push(chunk);
        size += interactions;
        if size >= sizes.next(left, lanes) {
            windows.push(std::mem::take(&mut window));
            left -= size;
            size = 0;
        }
    }
    if !window.is_empty() {
        windows.push(window);
    }
    windows
}

/// The items, dealt into blocks of nearly equal size.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Items, block after block.
    order: Vec<u32>,
    /// Block and position in the block of each item: `block << shift | position`.
    place: Vec<u32>,
    /// Where each block begins in `order`, and the end.
    bounds: Vec<u32>,
    shift: u32,
}

impl Partition {
    /// Blocks of at most `block_items` of `items` items.
    pub(crate) fn new(items: u32, block_items: u32) -> Self {
        let mut blocks = items.div_ceil(block_items.max(1)).max(1);
        // A place is 32 bits wide; fewer, larger blocks where it would overflow.
        let shift = |blocks: u32| 32 - items.div_ceil(blocks).saturating_sub(1).leading_zeros();
        while blocks > 1 && u64::from(blocks) << shift(blocks) > 1 << 32 {
            blocks = blocks.div_ceil(2);
        }
        let bounds = (0..=u64::from(blocks)).map(|b| (b * u64::from(items) / u64::from(blocks)) as u32).collect();
        let mut partition =
            Self { order: (0..items).collect(), place: vec![0; items as usize], bounds, shift: shift(blocks) };
        partition.index();
        partition
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The items of block `index`, by position.
    pub(crate) fn block(&self, index: usize) -> &[u32] {
        &self.order[self.bounds[index] as usize..self.bounds[index + 1] as usize]
    }

    /// Items of the largest block.
    pub(crate) fn largest(&self) -> usize {
        (0..self.blocks()).map(|b| self.block(b).len()).max().unwrap_or(0)
    }

    /// Deals the items anew, whatever they were dealt like before: so a deal is known by its generator alone. A single
    /// block stays in the order of ids.
    pub(crate) fn deal(&mut self, rng: &mut impl Rng) {
        if self.blocks() > 1 {
            self.order.iter_mut().zip(0..).for_each(|(item, id)| *item = id);
            self.order.shuffle(rng);
            self.index();
        }
    }

    fn index(&mut self) {
        for (b, bounds) in self.bounds.windows(2).enumerate() {
            let (start, end) = (bounds[0] as usize, bounds[1] as usize);
            for (position, item) in self.order[start..end].iter().enumerate() {
                self.place[*item as usize] = ((b as u64) << self.shift) as u32 | position as u32;
            }
        }
    }
}

/// Interactions as (user, position in the block) pairs, bucketed by the blocks of a partition, users staying together.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: Vec<Vec<u64>>,
    users: Vec<u32>,
}

impl Buckets {
    /// Empties every bucket, keeping its memory; there is one for each block of `partition` then.
    pub(crate) fn clear(&mut self, partition: &Partition) {
        self.buckets.resize_with(partition.blocks(), Vec::new);
        self.buckets.iter_mut().for_each(Vec::clear);
    }

    /// Lets go of the buckets' memory if they have room for more than `interactions`: which bucket is the largest changes
    /// from window to window, so that together they would come to have room for several windows.
    pub(crate) fn trim(&mut self, interactions: u64) {
        if self.buckets.iter().map(|bucket| bucket.capacity() as u64).sum::<u64>() > interactions {
            self.buckets.iter_mut().for_each(|bucket| *bucket = Vec::new());
        }
    }

    /// Adds the interactions of some `users` of a chunk, counted from its first, in random order.
    pub(crate) fn read(&mut self, partition: &Partition, chunk: &Chunk<'_>, users: Range<u32>, rng: &mut impl Rng) {
        let shift = partition.shift;
        let mask = (1u64 << shift).wrapping_sub(1) as u32;
        let (offsets, items, first_user) = (chunk.offsets(), chunk.items(), u64::from(chunk.first_user()));
        self.users.clear();
        self.users.extend(users);
        self.users.shuffle(rng);
        for &u in &self.users {
            let range = offsets[u as usize].to_native() as usize..offsets[u as usize + 1].to_native() as usize;
            let user = (first_user + u64::from(u)) << 32;
            if self.buckets.len() == 1 {
                // One block: positions are item ids.
                self.buckets[0].extend(items[range].iter().map(|i| user | u64::from(i.to_native())));
                continue;
            }
            for item in &items[range] {
                let place = partition.place[item.to_native() as usize];
                self.buckets[(place >> shift) as usize].push(user | u64::from(place & mask));
            }
        }
    }

    /// The pairs of block `index`: `user << 32 | position`, the pairs of a user side by side.
    pub(crate) fn bucket(&self, index: usize) -> &[u64] {
        &self.buckets[index]
    }
}

/// A window: the items dealt into blocks, and interactions bucketed by them.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) partition: Partition,
    buckets: Buckets,
}

impl Window {
    /// An empty window over `items` items in blocks of at most `block_items`.
    pub(crate) fn new(items: u32, block_items: u32) -> Self {
        Self { partition: Partition::new(items, block_items), buckets: Buckets::default() }
    }

    /// Deals the items into blocks anew and reads `chunks`, the users of each in random order. O(items + interactions).
    pub(crate) fn fill(&mut self, interactions: &Interactions, chunks: &[u32], rng: &mut impl Rng) {
        self.partition.deal(rng);
        self.buckets.clear(&self.partition);
        for &c in chunks {
            let chunk = interactions.chunk(c as usize);
            self.buckets.read(&self.partition, &chunk, 0..chunk.users() as u32, rng);
            interactions.release(c as usize);
        }
    }

    /// Leaves out the runs (the pairs of a user in a block) of which `keeps(user, item)` wants none. The others stay whole:
    /// what is a positive is told by the run.
    pub(crate) fn retain_runs(&mut self, keeps: impl Fn(u32, u32) -> bool) {
        for (block, bucket) in self.buckets.buckets.iter_mut().enumerate() {
            let items = self.partition.block(block);
            let (mut kept, mut start) = (0, 0);
            while let Some(first) = bucket.get(start) {
                let user = first >> 32;
                let end = start + bucket[start..].iter().take_while(|pair| **pair >> 32 == user).count();
                if bucket[start..end].iter().any(|pair| keeps(user as u32, items[*pair as u32 as usize])) {
                    bucket.copy_within(start..end, kept);
                    kept += end - start;
                }
                start = end;
            }
            bucket.truncate(kept);
        }
    }

    /// As [`Buckets::trim`].
    pub(crate) fn trim(&mut self, interactions: u64) {
        self.buckets.trim(interactions);
    }

    /// The pairs of block `index`: `user << 32 | position`, the pairs of a user side by side.
    pub(crate) fn bucket(&self, index: usize) -> &[u64] {
        self.buckets.bucket(index)
    }

    /// The blocks in random order: which rows are trained last should not be the same ones each time.
    pub(crate) fn block_order(&self, rng: &mut impl Rng) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.partition.blocks()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn a_partition_holds_every_item_once() {
        for (items, block) in [(1, 1), (10, 3), (1000, 64), (1000, 5000), (77, 1)] {
            let mut partition = Partition::new(items, block);
            partition.deal(&mut Xoshiro256PlusPlus::seed_from_u64(1));
            let mut all: Vec<u32> = (0..partition.blocks()).flat_map(|b| partition.block(b).to_vec()).collect();
            for b in 0..partition.blocks() {
                for (position, item) in partition.block(b).iter().enumerate() {
                    let place = partition.place[*item as usize];
                    assert_eq!(
                        (place >> partition.shift, place & ((1 << partition.shift) - 1)),
                        (b as u32, position as u32)
                    );
                }
            }
            all.sort_unstable();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
            assert!(partition.largest() <= block as usize);
        }
    }

    #[test]
    fn runs_stay_whole_or_go() {
        let folder = tempfile::tempdir().unwrap();
        let users: Vec<Vec<u32>> = (0..40).map(|u| (0..60).filter(|i| (u * 7 + i * 3) % 5 < 2).collect()).collect();
        let parts = [(crate::dataset::Part::Train, users)];
        let data = crate::rank::fixture::dataset(&folder.path().join("d"), 60, &parts);
        let chunks: Vec<u32> = (0..data.train().chunks() as u32).collect();
        for block_items in [7, 60] {
            let keeps = |user: u32, item: u32| (user + item).is_multiple_of(13);
            let [mut whole, mut window] = [(); 2].map(|()| Window::new(60, block_items));
            for window in [&mut whole, &mut window] {
                window.fill(data.train(), &chunks, &mut Xoshiro256PlusPlus::seed_from_u64(3));
            }
            window.retain_runs(keeps);
            for block in 0..whole.partition.blocks() {
                let items = whole.partition.block(block);
                let kept: Vec<u64> = whole
                    .bucket(block)
                    .chunk_by(|a, b| a >> 32 == b >> 32)
                    .filter(|run| run.iter().any(|p| keeps((p >> 32) as u32, items[*p as u32 as usize])))
                    .flatten()
                    .copied()
                    .collect();
                assert_eq!(window.bucket(block), kept);
            }
        }
    }

    /// The share of the time that `lanes` are at work, each taking the next window when it has finished one.
    fn busy(windows: &[Vec<u32>], chunk: u64, lanes: usize) -> f64 {
        let mut ends = vec![0; lanes];
        for window in windows {
            let first = (0..lanes).min_by_key(|lane| ends[*lane]).unwrap();
            ends[first] += window.len() as u64 * chunk;
        }
        ends.iter().sum::<u64>() as f64 / (lanes as u64 * ends.iter().max().unwrap()) as f64
    }

    #[test]
    fn windows_shrink_towards_the_end_so_that_all_lanes_finish_together() {
        let chunk = 1 << 16;
        for (chunks, target) in [(303, 1 << 20), (1_000, 1 << 24), (20_000, 1 << 25)] {
            for lanes in [1, 2, 3, 16, 64] {
                let sizes = Sizes { target, least: chunk };
                let windows = cut((0..chunks).map(|c| (c, chunk)), u64::from(chunks) * chunk, sizes, lanes);
                assert_eq!(windows.concat(), (0..chunks).collect::<Vec<_>>());
                assert!(windows.iter().all(|w| w.len() as u64 * chunk <= target));
                // Whole chunks cannot be shared out better than this.
                let best = f64::from(chunks) / (f64::from(chunks.div_ceil(lanes as u32)) * lanes as f64);
                let share = busy(&windows, chunk, lanes);
                assert!(share > 0.97 * best, "{chunks} chunks, {lanes} lanes: {share}, at best {best}");
            }
        }
    }

    #[test]
    fn any_two_items_share_a_block_equally_often() {
        let mut partition = Partition::new(40, 8);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut together = [0f64; 40];
        let rounds = 40_000;
        for _ in 0..rounds {
            partition.deal(&mut rng);
            let block = partition.place[3] >> partition.shift;
            partition.block(block as usize).iter().for_each(|i| together[*i as usize] += 1.0);
        }
        let expected = f64::from(rounds) * 7.0 / 39.0;
        let chi2: f64 = (0..40).filter(|i| *i != 3).map(|i| (together[i] - expected).powi(2) / expected).sum();
        // 38 degrees of freedom: 99.9 % of the time below 70.7.
        assert!(chi2 < 70.7, "χ² {chi2}");
    }
}
