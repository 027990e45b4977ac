//! The best K of a stream of scores, in a buffer behind a threshold.

use std::cmp::Reverse;

use super::user_seed;
use crate::mix::{GOLDEN, mix};
use crate::model::first_not_below;

/// An item in the running. Its order is that of the ranking: by score, equal scores by a hash of (seed, user, item).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    /// The score as bits that order as scores do, then 32 bits of hash.
    key: u64,
    item: Reverse<u32>,
}

impl Candidate {
    /// `item`, scored by a user whose seed is `user_seed`. A constant scorer thereby ranks at random, and the order of
    /// the catalogue, which may well follow popularity or time, favours nobody.
    pub(crate) fn new(score: f32, item: u32, user_seed: u64) -> Self {
        // Adding 0.0 turns -0.0 into 0.0, so that the two tie.
        let bits = (score + 0.0).to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        let hash = mix(user_seed ^ (u64::from(item) + 1).wrapping_mul(GOLDEN)) >> 32;
        Self { key: u64::from(ordered) << 32 | hash, item: Reverse(item) }
    }

    pub(crate) fn item(self) -> u32 {
        self.item.0
    }

    pub(crate) fn score(self) -> f32 {
        let ordered = (self.key >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }
}

/// The best `k` candidates of one user so far. Memory: [`Top::bytes`].
#[derive(Clone, Debug)]
pub(crate) struct Top {
    k: usize,
    user_seed: u64,
    /// Up to `capacity` candidates, among them the best `k` of all that were offered.
    candidates: Vec<Candidate>,
    /// The `k`-th best when the buffer was last cut; what does not beat it is not kept.
    floor: Option<Candidate>,
    threshold: f32,
}

impl Top {
    pub(crate) fn new(k: usize, seed: u64, user: u32) -> Self {
        Self {
            k,
            user_seed: user_seed(seed, user),
            candidates: Vec::with_capacity(Self::capacity(k)),
            floor: None,
            threshold: f32::NEG_INFINITY,
        }
    }

    fn capacity(k: usize) -> usize {
        k * 2 + 16
    }

    /// Bytes that one takes.
    pub(crate) fn bytes(k: usize) -> usize {
        Self::capacity(k) * size_of::<Candidate>() + size_of::<Self>()
    }

    /// Offers the scores of consecutive items from `first`. Returns the item whose score is NaN, if there is one.
    pub(crate) fn offer(&mut self, first: u32, scores: &[f32]) -> Result<(), u32> {
        let mut at = 0;
        while let Some(step) = first_not_below(&scores[at..], self.threshold) {
            let (score, item) = (scores[at + step], first + (at + step) as u32);
            if score.is_nan() {
                return Err(item);
            }
            if score > f32::NEG_INFINITY {
                self.push(Candidate::new(score, item, self.user_seed));
            }
            at += step + 1;
        }
        Ok(())
    }

    fn push(&mut self, candidate: Candidate) {
        if self.floor.is_some_and(|floor| candidate < floor) {
            return;
        }
        self.candidates.push(candidate);
        if self.candidates.len() == Self::capacity(self.k) {
            self.cut();
        }
    }

    /// Keeps the best `k`.
    fn cut(&mut self) {
        let (_, kth, _) = self.candidates.select_nth_unstable_by_key(self.k - 1, |c| Reverse(*c));
        let kth = *kth;
        self.candidates.truncate(self.k);
        self.floor = Some(kth);
        self.threshold = kth.score();
    }

    /// The best `k`, best first; fewer where fewer were offered.
    pub(crate) fn into_sorted(mut self) -> Vec<Candidate> {
        self.candidates.sort_unstable_by_key(|c| Reverse(*c));
        self.candidates.truncate(self.k);
        self.candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_full_sort_with_ties(
            scores in proptest::collection::vec(
                prop_oneof![(-3i8..4).prop_map(f32::from), any::<f32>().prop_filter("a number", |s| !s.is_nan())], 1..400),
            k in 1usize..60, tile in 1usize..130, seed: u64, user: u32,
        ) {
            let mut top = Top::new(k, seed, user);
            for (t, tile_scores) in scores.chunks(tile).enumerate() {
                top.offer((t * tile) as u32, tile_scores).unwrap();
            }
            let own = user_seed(seed, user);
            let mut all: Vec<Candidate> = (0..scores.len())
                .filter(|i| scores[*i] > f32::NEG_INFINITY)
                .map(|i| Candidate::new(scores[i], i as u32, own))
                .collect();
            all.sort_by(|a, b| {
                b.score().partial_cmp(&a.score()).unwrap().then(b.key.cmp(&a.key)).then(a.item().cmp(&b.item()))
            });
            all.truncate(k);
            let best = top.into_sorted();
            for c in &best {
                prop_assert_eq!(c.score(), scores[c.item() as usize]);
            }
            prop_assert_eq!(best, all);
        }

        #[test]
        fn nan_is_found_wherever_it_is(at in 0usize..200, k in 1usize..20) {
            let mut scores: Vec<f32> = (0..200).map(|i| -(i as f32)).collect();
            scores[at] = f32::NAN;
            prop_assert_eq!(Top::new(k, 1, 1).offer(1000, &scores), Err(1000 + at as u32));
        }
    }

    #[test]
    fn negative_zero_ties_with_zero() {
        assert_eq!(Candidate::new(-0.0, 7, 1), Candidate::new(0.0, 7, 1));
    }
}
