//! The bootstrap over users: how far a mean over these users may be from that over others like them.

use crate::mix::{GOLDEN, mix};

/// Replicates of a bootstrap.
const REPLICATES: usize = 1000;

/// Draws from one hash: 16 bits each.
const DRAWS: usize = 4;

/// Values in 0..=1 as integers, whose sums no order of users can change.
pub(super) const ONE: f32 = (1u32 << 31) as f32;

/// How often a user counts in each replicate of the Poisson bootstrap (Hanley & MacGibbon, 2006; Chamandy et al., 2012):
/// Poisson(1) times.
///
/// That depends on the user and the replicate alone. So replicates of two models on the same users are paired: their
/// differences, replicate by replicate, are the bootstrap of the users' differences, and nothing has to be kept of the
/// users. Takes 65 KiB, and O(replicates) time a user.
pub(super) struct Draws {
    /// How often a draw of 16 bits counts.
    counts: Vec<u8>,
    user: Option<u32>,
    drawn: Vec<u8>,
}

impl Draws {
    /// What they take.
    pub(super) const BYTES: usize = (1 << 16) + REPLICATES;

    pub(super) fn new() -> Self {
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
        Self { counts, user: None, drawn: vec![0; REPLICATES] }
    }

    /// How often `user` counts in each replicate.
    pub(super) fn of(&mut self, user: u32) -> &[u8] {
        if self.user != Some(user) {
            self.user = Some(user);
            let own = mix((u64::from(user) + 1).wrapping_mul(GOLDEN));
            for (number, drawn) in (1u64..).zip(self.drawn.chunks_mut(DRAWS)) {
                let mut hash = mix(own.wrapping_add(number.wrapping_mul(GOLDEN)));
                for count in drawn {
                    *count = self.counts[(hash & 0xFFFF) as usize];
                    hash >>= 16;
                }
            }
        }
        &self.drawn
    }
}

/// Means over users drawn again, as often as there are replicates.
#[derive(Clone)]
pub(super) struct Replicates {
    sums: Vec<u64>,
    weights: Vec<u32>,
}

impl Replicates {
    /// What it takes.
    pub(super) const BYTES: usize = REPLICATES * (size_of::<u64>() + size_of::<u32>());

    /// Of no user yet.
    pub(super) fn new() -> Self {
        Self { sums: vec![0; REPLICATES], weights: vec![0; REPLICATES] }
    }

    /// Adds a value in 0..=1 of a user who counts as `draws` say.
    pub(super) fn add(&mut self, draws: &[u8], value: f32) {
        let value = (value * ONE) as u32;
        for ((sum, weight), count) in self.sums.iter_mut().zip(&mut self.weights).zip(draws) {
            *sum += u64::from(*count) * u64::from(value);
            *weight += u32::from(*count);
        }
    }

    /// The mean of each replicate; those in which nobody counts are left out.
    pub(super) fn means(&self) -> Vec<f64> {
        let drawn = self.sums.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0);
        drawn.map(|(sum, weight)| *sum as f64 / f64::from(ONE) / f64::from(*weight)).collect()
    }
}

/// The middle 95 % of replicates; `None` without any.
pub(crate) fn interval(mut replicates: Vec<f64>) -> Option<[f64; 2]> {
    replicates.sort_by(f64::total_cmp);
    let last = replicates.len().checked_sub(1)?;
    let at = |share: f64| {
        let place = share * last as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        replicates[below] + part * (replicates[(below + 1).min(last)] - replicates[below])
    };
    Some([at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_poisson_distribution() {
        let counts = Draws::new().counts;
        let share = |count: u8| counts.iter().filter(|c| **c == count).count() as f64 / 65536.0;
        for (count, expected) in [(0, 0.36788), (1, 0.36788), (2, 0.18394), (3, 0.06131), (4, 0.01533)] {
            assert!((share(count) - expected).abs() < 2e-5, "{count}: {}", share(count));
        }
        let mean = counts.iter().map(|c| f64::from(*c)).sum::<f64>() / 65536.0;
        assert!((mean - 1.0).abs() < 1e-3, "{mean}");
    }

    #[test]
    fn replicates_spread_as_the_standard_error_says_and_pair_what_is_equal() {
        let value = |user: u32| mix(u64::from(user) + 99) as u32 as f32 / u32::MAX as f32 / 2.0;
        let (mut one, mut shifted, mut draws) = (Replicates::new(), Replicates::new(), Draws::new());
        let users = 2000;
        for user in 0..users {
            one.add(draws.of(user), value(user));
            shifted.add(draws.of(user), value(user) + 0.25);
        }
        let means = one.means();
        let mean = means.iter().sum::<f64>() / means.len() as f64;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / means.len() as f64;
        // Half of uniform numbers: a variance of 1/48.
        let expected = (1.0 / 48.0 / f64::from(users)).sqrt();
        assert!((mean - 0.25).abs() < 4.0 * expected, "{mean}");
        assert!((variance.sqrt() / expected - 1.0).abs() < 0.1, "{} {expected}", variance.sqrt());
        for (a, b) in means.iter().zip(shifted.means()) {
            assert!((b - a - 0.25).abs() < 1e-6, "the difference is the same in every replicate");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_definition() {
        let hundred = (0..=1000).rev().map(f64::from).collect();
        assert_eq!(interval(hundred), Some([25.0, 975.0]));
        assert_eq!(interval(vec![3.0]), Some([3.0, 3.0]));
        assert_eq!(interval(Vec::new()), None);
    }
}
