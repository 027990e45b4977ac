//! Negatives by popularity, without replacement.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rkyv::rend::u32_le;

/// Counts between one sum that is kept and the next.
const STEP: usize = 64;

/// Draws items in proportion to their train interactions, from sums of every 64 counts: an eighth of a byte an item.
pub(super) struct Popular<'a> {
    counts: &'a [u32_le],
    /// Of all counts before each step, and at last of all.
    sums: Vec<u64>,
}

impl<'a> Popular<'a> {
    pub(super) fn new(counts: &'a [u32_le]) -> Self {
        let mut sums = vec![0];
        let mut sum = 0u64;
        for step in counts.chunks(STEP) {
            sum += step.iter().map(|count| u64::from(count.to_native())).sum::<u64>();
            sums.push(sum);
        }
        Self { counts, sums }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.sums)
    }

    fn one(&self, rng: &mut Xoshiro256PlusPlus) -> u32 {
        let mut target = rng.random_range(0..self.sums.last().copied().unwrap_or(0).max(1));
        let step = self.sums.partition_point(|sum| *sum <= target) - 1;
        target -= self.sums[step];
        let mut item = (step * STEP).min(self.counts.len() - 1);
        while item + 1 < self.counts.len() && target >= u64::from(self.counts[item].to_native()) {
            target -= u64::from(self.counts[item].to_native());
            item += 1;
        }
        item as u32
    }

    /// Appends `count` items that are not in `seen` (ascending), or all that there are, ascending: each next one in
    /// proportion to the train interactions of those that are left. Items without any are never drawn.
    ///
    /// Items that do not do are drawn again. Where that goes on for too long, because `seen` holds most of the
    /// interactions, all items that are left get an exponential clock, and the first to ring are taken: the same
    /// distribution (Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir").
    pub(super) fn draw(&self, count: usize, seen: &[u32], rng: &mut Xoshiro256PlusPlus, items: &mut Vec<u32>) {
        let mut drawn: Vec<u32> = Vec::with_capacity(count.min(self.counts.len()));
        let mut tries = 8 * count + 64;
        // What the clocks draw must not depend on how many items had to be drawn again: a stream of its own.
        let mut clocks = Xoshiro256PlusPlus::seed_from_u64(rng.random());
        while drawn.len() < count && tries > 0 && self.sums.last().is_some_and(|sum| *sum > 0) {
            tries -= 1;
            let item = self.one(rng);
            if let (Err(_), Err(at)) = (seen.binary_search(&item), drawn.binary_search(&item)) {
                drawn.insert(at, item);
            }
        }
        let missing = count - drawn.len();
        if missing > 0 {
            let mut first: BinaryHeap<(u64, Reverse<u32>)> =
                BinaryHeap::with_capacity(missing.min(self.counts.len()) + 1);
            for (item, weight) in (0..).zip(self.counts).filter(|(_, weight)| weight.to_native() > 0) {
                if seen.binary_search(&item).is_ok() || drawn.binary_search(&item).is_ok() {
                    continue;
                }
                let uniform: f64 = 1.0 - clocks.random::<f64>();
                // Not negative, so that its bits are in the order of numbers.
                let rings = (-uniform.ln() / f64::from(weight.to_native())).to_bits();
                first.push((rings, Reverse(item)));
                if first.len() > missing {
                    first.pop();
                }
            }
            drawn.extend(first.into_iter().map(|(_, Reverse(item))| item));
            drawn.sort_unstable();
        }
        items.extend(drawn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_popularity_and_nothing_is_drawn_twice_nor_what_is_seen() {
        let counts: Vec<u32_le> = (0..300u32).map(|i| u32_le::from_native(if i % 3 == 0 { 0 } else { i })).collect();
        let popular = Popular::new(&counts);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let seen = [1, 100, 299];
        let draws = 60_000;
        let mut times = vec![0f64; 300];
        for _ in 0..draws {
            let mut items = vec![7];
            popular.draw(1, &seen, &mut rng, &mut items);
            times[items[1] as usize] += 1.0;
        }
        let total: f64 = (0..300u32).filter(|i| i % 3 != 0 && !seen.contains(i)).map(f64::from).sum();
        for item in 0..300u32 {
            let expected =
                if item % 3 == 0 || seen.contains(&item) { 0.0 } else { f64::from(item) / total * f64::from(draws) };
            let off = (times[item as usize] - expected).abs();
            assert!(off <= 5.0 * expected.sqrt(), "{item}: {} {expected}", times[item as usize]);
        }
        let mut items = Vec::new();
        popular.draw(150, &seen, &mut rng, &mut items);
        assert!(items.is_sorted_by(|a, b| a < b) && items.len() == 150);
    }

    #[test]
    fn the_clocks_draw_as_the_rejections_do() {
        // One item has nearly all interactions and is seen: rejections never end, clocks take over.
        let weights = [1_000_000_000u32, 1, 2, 3, 4];
        let counts: Vec<u32_le> = weights.iter().map(|w| u32_le::from_native(*w)).collect();
        let popular = Popular::new(&counts);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
        let mut times = [0f64; 5];
        for _ in 0..4000 {
            let mut items = Vec::new();
            popular.draw(1, &[0], &mut rng, &mut items);
            times[items[0] as usize] += 1.0;
        }
        for item in 1..5 {
            assert!((times[item] - item as f64 * 400.0).abs() < 100.0, "{times:?}");
        }
        let mut all = Vec::new();
        popular.draw(9, &[0], &mut rng, &mut all);
        assert_eq!(all, [1, 2, 3, 4]);
    }
}
