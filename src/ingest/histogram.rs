//! A histogram of times that starts exact and coarsens only when it must.

use serde::{Deserialize, Serialize};

use crate::mix::GOLDEN;

/// Distinct keys up to which times are told apart.
const MAX_KEYS: usize = 1 << 17;

/// Counts times by `time >> shift`, for the smallest shift that leaves at most 131,072 distinct keys. What it ends with
/// depends on the times only: neither on their order nor on how they were spread over the histograms absorbed.
///
/// Memory: 16 bytes a slot, at most 4 MiB.
pub(super) struct Histogram {
    shift: u32,
    max_keys: usize,
    keys: usize,
    /// Open addressing; a count of 0 marks a free slot.
    slots: Vec<(i64, u64)>,
}

/// A histogram on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct Counted {
    shift: u32,
    counts: Vec<(i64, u64)>,
}

impl Counted {
    /// Times counted; `None` if no histogram counts so.
    pub(super) fn total(&self) -> Option<u64> {
        let possible = self.shift < 64 && self.counts.iter().all(|(_, count)| *count > 0);
        let sum = || self.counts.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count));
        if possible { sum() } else { None }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::with_keys(MAX_KEYS)
    }
}

impl Histogram {
    fn with_keys(max_keys: usize) -> Self {
        Self { shift: 0, max_keys, keys: 0, slots: vec![(0, 0); 64] }
    }

    /// What to write to disk.
    pub(super) fn counted(&self) -> Counted {
        Counted { shift: self.shift, counts: self.slots.iter().copied().filter(|(_, count)| *count > 0).collect() }
    }

    /// The histogram that was written.
    pub(super) fn restore(counted: &Counted) -> Self {
        let mut histogram = Self { shift: counted.shift, ..Self::default() };
        counted.counts.iter().for_each(|(key, count)| histogram.add_key(*key, *count));
        histogram
    }

    /// Counts a time.
    pub(super) fn add(&mut self, time: i64) {
        self.add_key(time >> self.shift, 1);
    }

    fn add_key(&mut self, key: i64, count: u64) {
        self.insert(key, count);
        if self.keys * 2 > self.slots.len() {
            self.rebuild(self.slots.len() * 2, 0);
        }
        while self.keys > self.max_keys {
            self.rebuild(self.slots.len(), 1);
        }
    }

    fn insert(&mut self, key: i64, count: u64) {
        let at = self.slot(key);
        self.keys += usize::from(self.slots[at].1 == 0);
        self.slots[at] = (key, self.slots[at].1 + count);
    }

    fn slot(&self, key: i64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = ((key as u64).wrapping_mul(GOLDEN) >> 32) as usize & mask;
        while self.slots[at].1 != 0 && self.slots[at].0 != key {
            at = (at + 1) & mask;
        }
        at
    }

    fn rebuild(&mut self, size: usize, coarser: u32) {
        let old = std::mem::replace(&mut self.slots, vec![(0, 0); size]);
        self.shift += coarser;
        self.keys = 0;
        for (key, count) in old.into_iter().filter(|(_, count)| *count > 0) {
            self.insert(key >> coarser, count);
        }
    }

    /// Adds what `other` counted.
    pub(super) fn absorb(&mut self, other: &Self) {
        while self.shift < other.shift {
            self.rebuild(self.slots.len(), 1);
        }
        for (key, count) in other.slots.iter().filter(|(_, count)| *count > 0) {
            self.add_key(key >> (self.shift - other.shift), *count);
        }
    }

    /// A threshold such that about `fraction` of the times before `end` are at or after it.
    pub(super) fn threshold(&self, fraction: f64, end: Option<i64>) -> Option<i64> {
        let mut keys: Vec<(i64, u64)> = self.slots.iter().copied().filter(|(_, count)| *count > 0).collect();
        keys.sort_unstable();
        let end = end.map(|e| e >> self.shift);
        keys.retain(|(key, _)| end.is_none_or(|e| *key < e));
        let total: u64 = keys.iter().map(|(_, count)| count).sum();
        let wanted = (total as f64 * fraction).round() as u64;
        let mut after = 0;
        let mut best: Option<(u64, i64)> = None;
        for (key, count) in keys.iter().rev() {
            after += count;
            let distance = after.abs_diff(wanted);
            if best.is_none_or(|(d, _)| distance < d) {
                best = Some((distance, *key));
            }
        }
        best.map(|(_, key)| key << self.shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_and_threads_do_not_matter(
            times in proptest::collection::vec(-5000i64..5000, 1..400),
            cut in 0usize..400,
            keys in 2usize..50,
            fraction in 0.05f64..0.95,
        ) {
            let fill = |times: &mut dyn Iterator<Item = &i64>| {
                let mut h = Histogram::with_keys(keys);
                times.for_each(|t| h.add(*t));
                h
            };
            let one = fill(&mut times.iter());
            let cut = cut.min(times.len());
            let mut two = fill(&mut times[cut..].iter().rev());
            two.absorb(&fill(&mut times[..cut].iter()));
            prop_assert_eq!(one.shift, two.shift);
            prop_assert_eq!(one.threshold(fraction, None), two.threshold(fraction, None));
        }

        #[test]
        fn exact_times_give_the_exact_quantile(times in proptest::collection::btree_set(0i64..100_000, 2..300)) {
            let mut h = Histogram::default();
            times.iter().for_each(|t| h.add(*t));
            let threshold = h.threshold(0.25, None).unwrap();
            let after = times.iter().filter(|t| **t >= threshold).count();
            let wanted = (times.len() as f64 * 0.25).round().max(1.0) as usize;
            prop_assert_eq!(after, wanted);
        }
    }
}
