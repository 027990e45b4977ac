//! Alias tables: draws from any discrete distribution in O(1) (Walker 1977; construction by Vose 1991).

use std::sync::Arc;

/// Draws index i with probability proportional to weight i. Clones share the table.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    /// The chance, out of 2³², to keep a slot, and the index to take otherwise.
    slots: Arc<[(u32, u32)]>,
}

impl Alias {
    /// O(n). Weights are finite and not negative; where all are zero the distribution is uniform.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let total: f64 = weights.iter().sum();
        let mean = if total > 0.0 { total / n as f64 } else { 1.0 };
        let mut share: Vec<f64> = weights.iter().map(|w| if total > 0.0 { w / mean } else { 1.0 }).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..n as u32).partition(|i| share[*i as usize] < 1.0);
        let mut slots: Vec<(u32, u32)> = (0..n as u32).map(|i| (u32::MAX, i)).collect();
        while let (Some(low), Some(&high)) = (small.pop(), large.last()) {
            slots[low as usize] = ((share[low as usize] * 4_294_967_296.0) as u32, high);
            share[high as usize] -= 1.0 - share[low as usize];
            if share[high as usize] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        drop((share, small, large));
        Self { slots: slots.into() }
    }

    /// The index that two random words pick.
    #[inline(always)]
    pub(crate) fn pick(&self, slot: u32, keep: u32) -> u32 {
        let slot = ((u64::from(slot) * self.slots.len() as u64) >> 32) as u32;
        let (chance, other) = self.slots[slot as usize];
        if keep <= chance { slot } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn draws_follow_the_weights() {
        let weights: Vec<f64> = (0..50).map(|i| if i % 7 == 0 { 0.0 } else { f64::from(i).powf(1.3) }).collect();
        let alias = Alias::new(&weights);
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(3);
        let draws = 500_000;
        let mut counts = vec![0f64; 50];
        for _ in 0..draws {
            counts[alias.pick(rng.next_u32(), rng.next_u32()) as usize] += 1.0;
        }
        let total: f64 = weights.iter().sum();
        let mut chi2 = 0.0;
        for (count, weight) in counts.iter().zip(&weights) {
            if *weight == 0.0 {
                assert_eq!(*count, 0.0);
            } else {
                let expected = weight / total * f64::from(draws);
                chi2 += (count - expected).powi(2) / expected;
            }
        }
        // 41 degrees of freedom: 99.9 % of the time below 74.7.
        assert!(chi2 < 74.7, "χ² {chi2}");
    }
}
