//! Which positives of an epoch are looked at: those whose hashes are lowest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::mix::{GOLDEN, mix};
use crate::negatives::{Auditor, Candidate, Decision};

/// Candidates of an epoch that are kept at most.
const MOST: usize = 1 << 15;

/// Keeps the decisions whose positives have the lowest hashes, as many as have [`MOST`] candidates together: the same
/// ones, whichever thread came first.
pub(super) struct AuditSample {
    seed: u64,
    one_in: u32,
    epoch: u32,
    /// Hashes above are not taken: those of one positive in so many at first, and fewer when there are too many.
    below: AtomicU64,
    /// Positives that were not taken for that.
    refused: AtomicU64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By hash, user and item.
    decisions: BTreeMap<(u64, u32, u32), Decision>,
    candidates: usize,
    left_out: u64,
}

impl AuditSample {
    /// Bytes of what is kept of an epoch, at most, and of the handles that sort it.
    pub(super) const BYTES: usize = MOST * (size_of::<Candidate>() * 2 + 160);

    pub(super) fn new(seed: u64, one_in: u32) -> Self {
        Self {
            seed,
            one_in: one_in.max(1),
            epoch: 0,
            below: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            kept: Mutex::default(),
        }
    }

    pub(super) fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
        *self.below.get_mut() = self.threshold();
        *self.refused.get_mut() = 0;
        *self.kept.get_mut().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// The epoch, its decisions by user and positive, and how many were left out.
    pub(super) fn end(&mut self) -> (u32, Vec<Decision>, u64) {
        let kept = std::mem::take(self.kept.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut decisions: Vec<_> = kept.decisions.into_values().collect();
        decisions.sort_unstable_by_key(|d| (d.user, d.positive));
        (self.epoch, decisions, kept.left_out + *self.refused.get_mut())
    }

    fn threshold(&self) -> u64 {
        u64::MAX / u64::from(self.one_in)
    }

    fn hash(&self, user: u32, item: u32) -> u64 {
        let epoch = mix(self.seed ^ u64::from(self.epoch).wrapping_mul(GOLDEN));
        mix(epoch ^ (u64::from(user) << 32 | u64::from(item)).wrapping_mul(GOLDEN))
    }
}

impl Auditor for AuditSample {
    fn takes(&self, user: u32, item: u32) -> bool {
        let hash = self.hash(user, item);
        if hash > self.threshold() {
            return false;
        }
        let taken = hash <= self.below.load(Ordering::Relaxed);
        self.refused.fetch_add(u64::from(!taken), Ordering::Relaxed);
        taken
    }

    fn keep(&self, mut decision: Decision) {
        decision.candidates.shrink_to_fit();
        let hash = self.hash(decision.user, decision.positive);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have lowered it since the decision began.
        if hash > self.below.load(Ordering::Relaxed) {
            kept.left_out += 1;
            return;
        }
        kept.candidates += decision.candidates.len();
        kept.decisions.insert((hash, decision.user, decision.positive), decision);
        while kept.candidates > MOST {
            let Some(((hash, ..), last)) = kept.decisions.pop_last() else { break };
            kept.candidates -= last.candidates.len();
            kept.left_out += 1;
            // What comes later must not take the place of one that came before and was lower.
            self.below.store(hash.saturating_sub(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decision(user: u32, positive: u32, candidates: usize) -> Decision {
        let one = Candidate {
            slot: 0,
            component: 0,
            item: 1,
            score: 0.0,
            noise: 0.0,
            filtered: None,
            chosen: None,
            weight: 1.0,
            correction: 0.0,
        };
        Decision { user, positive, score: 0.0, candidates: vec![one; candidates] }
    }

    fn sampled(order: &[u32], one_in: u32, seed: u64) -> (Vec<(u32, u32)>, u64) {
        let mut sample = AuditSample::new(seed, one_in);
        sample.begin(3);
        for user in order {
            for item in 0..40 {
                if sample.takes(*user, item) {
                    sample.keep(decision(*user, item, 100 + (user * 37 + item * 101) as usize % 3000));
                }
            }
        }
        let (_, decisions, left_out) = sample.end();
        assert!(decisions.iter().map(|d| d.candidates.len()).sum::<usize>() <= MOST);
        (decisions.iter().map(|d| (d.user, d.positive)).collect(), left_out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_same_positives_are_kept_whatever_the_order(
            order in Just((0..60u32).collect::<Vec<_>>()).prop_shuffle(), one_in in 1u32..40, seed: u64,
        ) {
            let sorted: Vec<u32> = (0..60).collect();
            let kept = sampled(&order, one_in, seed);
            prop_assert_eq!(&kept, &sampled(&sorted, one_in, seed));
            prop_assert!(!kept.0.is_empty());
        }
    }

    #[test]
    fn one_in_so_many_is_taken_and_others_in_every_epoch() {
        let mut sample = AuditSample::new(5, 16);
        let mut taken = |epoch| {
            sample.begin(epoch);
            (0..40_000u32).filter(|i| sample.takes(i / 200, i % 200)).collect::<Vec<u32>>()
        };
        let (first, second) = (taken(1), taken(2));
        // 2,500 expected, a deviation of 48.
        assert!((2_300..2_700).contains(&first.len()), "{}", first.len());
        assert!(first.iter().filter(|i| second.contains(i)).count() < first.len() / 8);
        assert_eq!(first, taken(1));
    }
}
