//! The bootstrap over users: how far a mean over these users may be from that over others like them.

use crate::mix::{GOLDEN, mix};

/// Replicates of a bootstrap.
const REPLICATES: usize = 1000;

/// Draws from one hash: 16 bits each.
const DRAWS: usize = 4;

/// Means over users drawn again, as often as there are replicates: the Poisson bootstrap (Hanley & MacGibbon, 2006;
/// Chamandy et al., 2012), in which each user counts Poisson(1) times in a replicate.
///
/// How often a user counts depends on the user and the replicate alone. So replicates of two models on the same users
/// are paired: their differences, replicate by replicate, are the bootstrap of the users' differences, and nothing has
/// to be kept of the users. Takes 80 KiB, and O(replicates) time a user.
pub(crate) struct Replicates {
    /// How often a draw of 16 bits counts.
    counts: Vec<u8>,
    sums: Vec<f64>,
    weights: Vec<u64>,
}

impl Replicates {
    /// Of no user yet.
    pub(crate) fn new() -> Self {
        // The distribution function of Poisson(1), in 65,536ths.
        let mut counts = vec![0u8; 1 << 16];
        let (mut probability, mut below) = ((-1f64).exp(), 0.0);
        let mut from = 0;
        for count in 0..=8u8 {
            below += probability;
            let to = if count == 8 { counts.len() } else { (below * 65536.0).round() as usize };
            counts[from..to].fill(count);
            from = to;
            probability /= f64::from(count) + 1.0;
        }
        Self { counts, sums: vec![0.0; REPLICATES], weights: vec![0; REPLICATES] }
    }

    /// Adds a user with a value.
    pub(crate) fn add(&mut self, user: u32, value: f64) {
        let own = mix((u64::from(user) + 1).wrapping_mul(GOLDEN));
        let cells = self.sums.chunks_mut(DRAWS).zip(self.weights.chunks_mut(DRAWS));
        for (number, (sums, weights)) in (1u64..).zip(cells) {
            let mut hash = mix(own.wrapping_add(number.wrapping_mul(GOLDEN)));
            for (sum, weight) in sums.iter_mut().zip(weights) {
                let count = self.counts[(hash & 0xFFFF) as usize];
                hash >>= 16;
                *sum += f64::from(count) * value;
                *weight += u64::from(count);
            }
        }
    }

    /// The mean of each replicate.
    pub(crate) fn means(&self) -> Vec<f32> {
        self.sums.iter().zip(&self.weights).map(|(sum, weight)| (sum / (*weight).max(1) as f64) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_poisson_distribution() {
        let counts = Replicates::new().counts;
        let share = |count: u8| counts.iter().filter(|c| **c == count).count() as f64 / 65536.0;
        for (count, expected) in [(0, 0.36788), (1, 0.36788), (2, 0.18394), (3, 0.06131), (4, 0.01533)] {
            assert!((share(count) - expected).abs() < 2e-5, "{count}: {}", share(count));
        }
        let mean = counts.iter().map(|c| f64::from(*c)).sum::<f64>() / 65536.0;
        assert!((mean - 1.0).abs() < 1e-3, "{mean}");
    }

    #[test]
    fn replicates_spread_as_the_standard_error_says_and_pair_what_is_equal() {
        let value = |user: u32| f64::from(mix(u64::from(user) + 99) as u32) / f64::from(u32::MAX);
        let (mut one, mut shifted) = (Replicates::new(), Replicates::new());
        let users = 2000;
        for user in 0..users {
            one.add(user, value(user));
            shifted.add(user, value(user) + 0.25);
        }
        let means = one.means();
        let mean = means.iter().map(|m| f64::from(*m)).sum::<f64>() / means.len() as f64;
        let variance = means.iter().map(|m| (f64::from(*m) - mean).powi(2)).sum::<f64>() / means.len() as f64;
        // Uniform numbers: a variance of 1/12.
        let expected = (1.0 / 12.0 / f64::from(users)).sqrt();
        assert!((mean - 0.5).abs() < 4.0 * expected, "{mean}");
        assert!((variance.sqrt() / expected - 1.0).abs() < 0.1, "{} {expected}", variance.sqrt());
        for (a, b) in means.iter().zip(shifted.means()) {
            assert!((b - a - 0.25).abs() < 1e-6, "the difference is the same in every replicate");
        }
    }
}
