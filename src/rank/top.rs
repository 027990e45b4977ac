//! The best K of a stream of scores, for a block of users: each in its part of a buffer, behind a threshold.

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

/// The best `k` candidates of each of some users so far, in one buffer that is used again and again. Memory:
/// [`Tops::bytes`] a user.
#[derive(Debug)]
pub(crate) struct Tops {
    k: usize,
    rankings: Vec<State>,
    /// `capacity` places a user, of which the first are taken: among them the best `k` of all that were offered.
    places: Vec<Candidate>,
}

/// One user's ranking.
#[derive(Clone, Copy, Debug)]
struct State {
    user_seed: u64,
    len: usize,
    /// The `k`-th best when the places were last cut; what does not beat it is not kept.
    floor: Option<Candidate>,
    threshold: f32,
}

impl Tops {
    /// Without users as yet.
    pub(crate) fn new(k: usize) -> Self {
        Self { k, rankings: Vec::new(), places: Vec::new() }
    }

    fn capacity(k: usize) -> usize {
        k * 2 + 16
    }

    /// Bytes that a user takes.
    pub(crate) fn bytes(k: usize) -> usize {
        Self::capacity(k).saturating_mul(size_of::<Candidate>()).saturating_add(size_of::<State>())
    }

    /// Begins the rankings of `users`. `seed` breaks ties.
    pub(crate) fn begin(&mut self, seed: u64, users: &[u32]) {
        let places = users.len() * Self::capacity(self.k);
        if places > self.places.len() {
            // Not by doubling, and the old ones go first: the budget counts with no more than these.
            self.places = Vec::new();
            self.places = vec![Candidate { key: 0, item: Reverse(0) }; places];
        }
        self.rankings.clear();
        self.rankings.reserve_exact(users.len());
        self.rankings.extend(users.iter().map(|user| State {
            user_seed: user_seed(seed, *user),
            len: 0,
            floor: None,
            threshold: f32::NEG_INFINITY,
        }));
    }

    /// Offers the scores of consecutive items from `first` to the user at `index`. Returns the item whose score is NaN,
    /// if there is one.
    pub(crate) fn offer(&mut self, index: usize, first: u32, scores: &[f32]) -> Result<(), u32> {
        let capacity = Self::capacity(self.k);
        let (state, places) = (&mut self.rankings[index], &mut self.places[index * capacity..(index + 1) * capacity]);
        let mut at = 0;
        while let Some(step) = first_not_below(&scores[at..], state.threshold) {
            let (score, item) = (scores[at + step], first + (at + step) as u32);
            if score.is_nan() {
                return Err(item);
            }
            if score > f32::NEG_INFINITY {
                state.push(Candidate::new(score, item, state.user_seed), self.k, places);
            }
            at += step + 1;
        }
        Ok(())
    }

    /// The best `k` of the user at `index`, best first; fewer where fewer were offered. Ends this ranking.
    pub(crate) fn sorted(&mut self, index: usize) -> &[Candidate] {
        let capacity = Self::capacity(self.k);
        let places = &mut self.places[index * capacity..][..self.rankings[index].len];
        places.sort_unstable_by_key(|c| Reverse(*c));
        &places[..self.k.min(places.len())]
    }
}

impl State {
    fn push(&mut self, candidate: Candidate, k: usize, places: &mut [Candidate]) {
        if self.floor.is_some_and(|floor| candidate < floor) {
            return;
        }
        places[self.len] = candidate;
        self.len += 1;
        if self.len == places.len() {
            // Keeps the best k.
            let (_, kth, _) = places.select_nth_unstable_by_key(k - 1, |c| Reverse(*c));
            self.len = k;
            self.floor = Some(*kth);
            self.threshold = kth.score();
        }
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
            let mut tops = Tops::new(k);
            // Twice: what is left of an earlier ranking, and what lies beside, must not matter.
            for seed in [!seed, seed] {
                tops.begin(seed, &[user ^ 1, user]);
                for (t, tile_scores) in scores.chunks(tile).enumerate() {
                    tops.offer(0, (t * tile) as u32, &tile_scores[..tile_scores.len() / 2]).unwrap();
                    tops.offer(1, (t * tile) as u32, tile_scores).unwrap();
                }
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
            let best = tops.sorted(1).to_vec();
            for c in &best {
                prop_assert_eq!(c.score(), scores[c.item() as usize]);
            }
            prop_assert_eq!(best, all);
        }

        #[test]
        fn nan_is_found_wherever_it_is(at in 0usize..200, k in 1usize..20) {
            let mut scores: Vec<f32> = (0..200).map(|i| -(i as f32)).collect();
            scores[at] = f32::NAN;
            let mut tops = Tops::new(k);
            tops.begin(1, &[1]);
            prop_assert_eq!(tops.offer(0, 1000, &scores), Err(1000 + at as u32));
        }
    }

    #[test]
    fn negative_zero_ties_with_zero() {
        assert_eq!(Candidate::new(-0.0, 7, 1), Candidate::new(0.0, 7, 1));
    }
}
