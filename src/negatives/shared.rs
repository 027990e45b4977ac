//! Negatives that a block of positives shares: distinct items, each user's positives among them masked exactly.

use rand::Rng;

use super::Distribution;
use crate::dataset::Interactions;

/// Candidates to draw for each negative wanted, before a block makes do with fewer.
const TRIES: usize = 16;

/// Positives, their users and items, and the negatives that they share. Positions point into `users` and `items`.
#[derive(Debug, Default)]
pub(crate) struct SharedBlock {
    /// Users of the block, each once.
    pub(crate) users: Vec<u32>,
    /// Items of the block, each once; the negatives first.
    pub(crate) items: Vec<u32>,
    /// How many items are negatives.
    pub(crate) negatives: usize,
    /// Position of each positive's user.
    pub(crate) user_of: Vec<u32>,
    /// Position of each positive's item.
    pub(crate) item_of: Vec<u32>,
    /// (positive, negative) pairs where the negative is a positive of the user.
    pub(crate) masked: Vec<(u32, u32)>,
    /// ln of how often each item is expected among the negatives, less the smallest; empty without correction.
    pub(crate) corrections: Vec<f32>,
    /// The confidence in each positive; empty where all are 1.
    pub(crate) confidence: Vec<f32>,
    /// The learning rate to train it at.
    pub(crate) learning_rate: f32,
    /// The seed of its dropout.
    pub(crate) seed: u64,
}

/// Where each key of a block is, by open addressing; emptied without a walk over the slots that were never used.
#[derive(Debug)]
struct Positions {
    slots: Vec<(u32, u32)>,
    used: Vec<u32>,
    shift: u32,
}

const FREE: u32 = u32::MAX;

impl Positions {
    /// Room for `len` keys, a quarter full.
    fn new(len: usize) -> Self {
        let bits = (len.max(4) * 4).next_power_of_two().trailing_zeros();
        Self { slots: vec![(0, FREE); 1 << bits], used: Vec::with_capacity(len), shift: 32 - bits }
    }

    fn clear(&mut self) {
        for slot in self.used.drain(..) {
            self.slots[slot as usize].1 = FREE;
        }
    }

    /// The slot that `key` is in, or would be in.
    #[inline(always)]
    fn slot(&self, key: u32) -> usize {
        // Fibonacci hashing: ids of neighbours fall far apart.
        let mut slot = (key.wrapping_mul(0x9E37_79B9) >> self.shift) as usize;
        while self.slots[slot].1 != FREE && self.slots[slot].0 != key {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        slot
    }

    #[inline(always)]
    fn get(&self, key: u32) -> Option<u32> {
        let (_, position) = self.slots[self.slot(key)];
        (position != FREE).then_some(position)
    }

    /// The position of `key`, and whether it is new: then it is `position`.
    #[inline(always)]
    fn insert(&mut self, key: u32, position: u32) -> (u32, bool) {
        let slot = self.slot(key);
        if self.slots[slot].1 != FREE {
            return (self.slots[slot].1, false);
        }
        self.slots[slot] = (key, position);
        self.used.push(slot as u32);
        (position, true)
    }
}

/// Makes blocks of positives and shared negatives.
pub(crate) struct SharedSampler<P> {
    proposal: P,
    count: usize,
    items: Vec<u32>,
    allow_positives: bool,
    /// ln of an item's chance in one draw is `ln weight + offset`; `None` without correction.
    offset: Option<f64>,
    item_positions: Positions,
    user_positions: Positions,
}

impl<P: Distribution> SharedSampler<P> {
    /// `count` negatives (fewer, where the catalogue has fewer) for blocks of at most `positives`, out of `items` items.
    /// With `log_q` the blocks carry corrections.
    pub(crate) fn new(
        proposal: P,
        (positives, count): (usize, usize),
        items: u32,
        allow_positives: bool,
        log_q: bool,
    ) -> Self {
        let total: f64 = if log_q { (0..items).map(|i| proposal.weight(i)).sum() } else { 1.0 };
        Self {
            proposal,
            count: count.min(items as usize),
            items: (0..items).collect(),
            allow_positives,
            offset: log_q.then(|| -total.ln()),
            item_positions: Positions::new(count.min(items as usize) + positives),
            user_positions: Positions::new(positives),
        }
    }

    /// Bytes that a sampler takes.
    pub(crate) fn bytes(positives: usize, count: usize, items: u32) -> u64 {
        u64::from(items) * 4 + (count + 2 * positives) as u64 * 8 * 9
    }

    /// Fills `block` with the positives of `pairs` (`user << 32 | item`) and negatives for them.
    #[inline(always)]
    pub(crate) fn fill(
        &mut self,
        pairs: &[u64],
        interactions: &Interactions,
        rng: &mut impl Rng,
        block: &mut SharedBlock,
    ) {
        let SharedBlock { users, items, user_of, item_of, masked, corrections, .. } = block;
        users.clear();
        items.clear();
        user_of.clear();
        item_of.clear();
        masked.clear();
        corrections.clear();
        self.item_positions.clear();
        self.user_positions.clear();

        let mut draws = 0;
        if self.count == self.items.len() {
            for &item in &self.items {
                self.item_positions.insert(item, item);
            }
            items.extend_from_slice(&self.items);
            draws = self.count;
        }
        while items.len() < self.count && draws < self.count * TRIES {
            // A position in the block of all items is an item.
            let item = self.proposal.draw(&self.items, rng);
            draws += 1;
            if self.item_positions.insert(item, items.len() as u32).1 {
                items.push(item);
            }
        }
        block.negatives = items.len();
        for pair in pairs {
            let (user, item) = ((pair >> 32) as u32, *pair as u32);
            let (at, new) = self.user_positions.insert(user, users.len() as u32);
            if new {
                users.push(user);
            }
            user_of.push(at);
            let (at, new) = self.item_positions.insert(item, items.len() as u32);
            if new {
                items.push(item);
            }
            item_of.push(at);
        }
        if !self.allow_positives {
            for (p, &user) in user_of.iter().enumerate() {
                let user = users[user as usize];
                self.mask(p as u32, user, block.negatives, items, interactions, masked);
                // What stands in for a positive is none itself, and yet no negative of its own.
                let own = |item: u32| interactions.user(user).items.binary_search_by_key(&item, |i| i.to_native());
                if (item_of[p] as usize) < block.negatives && own(items[item_of[p] as usize]).is_err() {
                    masked.push((p as u32, item_of[p]));
                }
            }
        }
        if let Some(offset) = self.offset {
            // The chance to be among distinct negatives after so many draws (as TensorFlow's samplers have it).
            let expected = |item: u32| {
                let q = (self.proposal.weight(item).max(1e-300).ln() + offset).exp();
                (-(draws as f64 * (-q.min(1.0 - 1e-12)).ln_1p()).exp_m1()).ln()
            };
            corrections.extend(items.iter().map(|i| expected(*i) as f32));
            let least = corrections.iter().copied().fold(f32::MAX, f32::min);
            corrections.iter_mut().for_each(|c| *c -= least);
        }
    }

    /// Finds the user's positives among the negatives: by a walk over them, or a search for each negative, whichever is
    /// shorter.
    #[inline(always)]
    fn mask(
        &self,
        positive: u32,
        user: u32,
        negatives: usize,
        items: &[u32],
        interactions: &Interactions,
        masked: &mut Vec<(u32, u32)>,
    ) {
        let taken = interactions.user(user).items;
        if taken.len() / 16 > negatives {
            for (j, item) in items[..negatives].iter().enumerate() {
                if taken.binary_search_by_key(item, |i| i.to_native()).is_ok() {
                    masked.push((positive, j as u32));
                }
            }
            return;
        }
        for item in taken {
            if let Some(position) = self.item_positions.get(item.to_native()).filter(|p| (*p as usize) < negatives) {
                masked.push((positive, position));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Popularity, Uniform};
    use super::*;
    use crate::dataset::{Dataset, Part};
    use crate::rank::fixture;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    fn dataset(folder: &tempfile::TempDir, items: usize, users: Vec<Vec<u32>>) -> Dataset {
        fixture::dataset(&folder.path().join("d"), items, &[(Part::Train, users)])
    }

    #[test]
    fn shared_negatives_follow_the_proposal() {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(&folder, 50, vec![vec![1, 2]]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut block = SharedBlock::default();
        let rounds = 20_000;
        // One negative a block: the proposal itself. Many: still every item alike.
        for count in [1, 20] {
            let mut sampler = SharedSampler::new(Uniform, (4, count), 50, false, false);
            let mut seen = [0f64; 50];
            for _ in 0..rounds {
                sampler.fill(&[1], data.train(), &mut rng, &mut block);
                block.items[..block.negatives].iter().for_each(|i| seen[*i as usize] += 1.0);
            }
            let expected = f64::from(rounds) * count as f64 / 50.0;
            let chi2: f64 = seen.iter().map(|s| (s - expected).powi(2) / expected).sum();
            // 49 degrees of freedom: 99.9 % of the time below 85.4; without replacement it varies less.
            assert!(chi2 < 85.4, "χ² {chi2}");
        }
        let weights: Vec<u32> = (0..50).map(|i| i % 9).collect();
        let mut sampler = SharedSampler::new(Popularity::new(weights.iter().copied(), 1.0), (4, 1), 50, true, true);
        let mut seen = [0f64; 50];
        for _ in 0..rounds {
            sampler.fill(&[3], data.train(), &mut rng, &mut block);
            seen[block.items[0] as usize] += 1.0;
        }
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let mut chi2 = 0.0;
        for (seen, weight) in seen.iter().zip(&weights) {
            let expected = f64::from(*weight) / total * f64::from(rounds);
            if expected == 0.0 { assert_eq!(*seen, 0.0) } else { chi2 += (seen - expected).powi(2) / expected }
        }
        // 43 degrees of freedom: 99.9 % of the time below 77.4.
        assert!(chi2 < 77.4, "χ² {chi2}");
    }

    #[test]
    fn corrections_are_the_logs_of_how_often_items_come() {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(&folder, 30, vec![vec![4]]);
        let weights: Vec<u32> = (1..=30).collect();
        let mut sampler = SharedSampler::new(Popularity::new(weights.into_iter(), 1.0), (1, 6), 30, true, true);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let mut block = SharedBlock::default();
        let rounds = 30_000;
        let (mut seen, mut corrections) = ([0f64; 30], vec![Vec::new(); 30]);
        for _ in 0..rounds {
            sampler.fill(&[4], data.train(), &mut rng, &mut block);
            assert_eq!((block.negatives, block.corrections.len()), (6, block.items.len()));
            let own = block.corrections[block.item_of[0] as usize];
            for (i, c) in block.items.iter().zip(&block.corrections).take(6) {
                seen[*i as usize] += 1.0;
                corrections[*i as usize].push(f64::from(c - own));
            }
        }
        for item in [0usize, 9, 20, 29] {
            let mean = corrections[item].iter().sum::<f64>() / corrections[item].len() as f64;
            let observed = (seen[item] / seen[4]).ln();
            assert!((mean - observed).abs() < 0.1, "item {item}: corrected by {mean}, observed {observed}");
        }
    }

    #[test]
    fn a_catalogue_that_is_too_small_gives_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(&folder, 5, vec![(0..5).collect(), vec![2]]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut block = SharedBlock::default();
        let mut sampler = SharedSampler::new(Uniform, (2, 800), 5, false, false);
        sampler.fill(&[1, 1 << 32 | 2], data.train(), &mut rng, &mut block);
        assert_eq!((block.negatives, block.items.len()), (5, 5));
        let of = |p: u32| block.masked.iter().filter(|m| m.0 == p).count();
        assert_eq!((of(0), of(1)), (5, 1), "one user has everything: all of it is masked, and nothing hangs");
        // Two items have all the popularity.
        let counts = (0..5).map(|i| u32::from(i < 2));
        let mut sampler = SharedSampler::new(Popularity::new(counts, 1.0), (2, 4), 5, false, true);
        sampler.fill(&[1], data.train(), &mut rng, &mut block);
        assert_eq!(block.negatives, 2);
    }

    proptest! {
        #[test]
        fn blocks_are_consistent_and_masks_exact(
            users in proptest::collection::vec(proptest::collection::btree_set(0u32..300, 1..290), 1..6),
            count in 1usize..120, picks in proptest::collection::vec(any::<u32>(), 1..40), seed: u64,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let users: Vec<Vec<u32>> = users.into_iter().map(|u| u.into_iter().collect()).collect();
            let data = dataset(&folder, 300, users.clone());
            let pairs: Vec<u64> = picks.iter().map(|pick| {
                let user = *pick as usize % users.len();
                (user as u64) << 32 | u64::from(users[user][*pick as usize / 7 % users[user].len()])
            }).collect();
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut block = SharedBlock::default();
            let mut sampler = SharedSampler::new(Uniform, (pairs.len(), count), 300, false, false);
            // The second use must not see what the first left.
            for _ in 0..2 {
                sampler.fill(&pairs, data.train(), &mut rng, &mut block);
                let distinct = |list: &[u32]| list.iter().collect::<std::collections::BTreeSet<_>>().len() == list.len();
                prop_assert!(distinct(&block.items) && distinct(&block.users));
                prop_assert_eq!(block.negatives, count);
                let mut expected = Vec::new();
                for (p, pair) in pairs.iter().enumerate() {
                    prop_assert_eq!(block.users[block.user_of[p] as usize], (pair >> 32) as u32);
                    prop_assert_eq!(block.items[block.item_of[p] as usize], *pair as u32);
                    let taken = &users[(pair >> 32) as usize];
                    let hit = |j: &usize| taken.contains(&block.items[*j]);
                    expected.extend((0..count).filter(hit).map(|j| (p as u32, j as u32)));
                }
                let mut masked = block.masked.clone();
                prop_assert!(masked.is_sorted_by_key(|m| m.0));
                masked.sort_unstable();
                prop_assert_eq!(masked, expected);
            }
        }
    }
}
