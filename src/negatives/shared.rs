//! Negatives that a block of positives shares: distinct items, each user's positives among them masked exactly.

use rand::Rng;

use super::Propose;
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
    /// The learning rate to train it at.
    pub(crate) learning_rate: f32,
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

impl<P: Propose> SharedSampler<P> {
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
                self.mask(p as u32, users[user as usize], block.negatives, items, interactions, masked);
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
