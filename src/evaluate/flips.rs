//! The randomization test of paired means: the sign of each user's difference, flipped at random again and again.

use crate::mix::{GOLDEN, mix};

/// Random assignments of signs, a multiple of 64. With the observed one, p-values are multiples of 1/4096.
const FLIPS: usize = 4095 + 1;
const WORDS: usize = FLIPS / 64;

/// Sums of a value over users, once as it is and once for each random assignment of signs to the users.
///
/// The sum of signed differences is the difference of signed sums. So two scorers are measured one after the other, and
/// nothing has to be kept of the users; a user's signs depend on the user alone. Sums are of integers, and exact.
#[derive(Clone)]
pub(super) struct Flips {
    total: i64,
    signed: Vec<i64>,
}

/// The signs of a user: a bit for each assignment.
pub(super) fn signs(user: u32) -> [u64; WORDS] {
    // Another stream than that of the bootstrap.
    let own = mix(!(u64::from(user) + 1).wrapping_mul(GOLDEN));
    std::array::from_fn(|word| mix(own.wrapping_add((word as u64 + 1).wrapping_mul(GOLDEN))))
}

impl Flips {
    /// What it takes.
    pub(super) const BYTES: usize = FLIPS * size_of::<i64>();

    pub(super) fn new() -> Self {
        Self { total: 0, signed: vec![0; FLIPS] }
    }

    /// Adds a user's value.
    pub(super) fn add(&mut self, signs: &[u64; WORDS], value: i64) {
        self.total += value;
        for (sums, word) in self.signed.chunks_exact_mut(64).zip(signs) {
            for (bit, sum) in sums.iter_mut().enumerate() {
                // 0 or all ones: the value, or its two's complement.
                let flip = ((word >> bit) & 1).wrapping_neg() as i64;
                *sum += (value ^ flip) - flip;
            }
        }
    }

    /// The two-sided p-value of the difference between two: how often flipped differences are as large as the observed
    /// one, which counts as one of them (Fisher 1935; Smucker, Allan & Carterette 2007, "A Comparison of Statistical
    /// Significance Tests for Information Retrieval Evaluation").
    ///
    /// With a `margin`, of the difference between the larger and 1 + `margin` times the smaller: 1 if it is not that large.
    pub(super) fn p_value(&self, other: &Self, margin: f64) -> f64 {
        let (high, low) = if self.total >= other.total { (self, other) } else { (other, self) };
        // Whole numbers as they are: without a margin nothing is rounded.
        let enlarged = |sum: i64| sum + (sum as f64 * margin).round() as i64;
        let observed = high.total - enlarged(low.total);
        if observed < 0 {
            return 1.0;
        }
        // The last assignment is left out: the observed one takes its place.
        let flipped = high.signed.iter().zip(&low.signed).take(FLIPS - 1);
        let as_large = flipped.filter(|(high, low)| (*high - enlarged(**low)).abs() >= observed).count();
        (as_large + 1) as f64 / FLIPS as f64
    }
}

/// Holm's correction of p-values for their number (Holm 1979), in their order.
pub(super) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut corrected = vec![0.0; p.len()];
    let mut least = 0f64;
    for (rank, at) in order.iter().enumerate() {
        least = least.max((p[*at] * (p.len() - rank) as f64).min(1.0));
        corrected[*at] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holm_is_that_of_an_example_worked_out_by_hand() {
        let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (got, want) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - want).abs() < 1e-12, "{corrected:?}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }

    #[test]
    fn flipped_sums_are_those_of_single_signs_and_equals_are_equal() {
        let values = [5i64, -3, 11, 0, 7];
        let (mut flips, mut zero) = (Flips::new(), Flips::new());
        for (user, value) in values.iter().enumerate() {
            flips.add(&signs(user as u32), *value);
            zero.add(&signs(user as u32), 0);
        }
        for at in [0, 1, 63, 64, 4000] {
            let sign = |user: usize| if signs(user as u32)[at / 64] >> (at % 64) & 1 == 1 { -1 } else { 1 };
            let sum: i64 = values.iter().enumerate().map(|(user, value)| sign(user) * value).sum();
            assert_eq!(flips.signed[at], sum);
        }
        assert_eq!(flips.p_value(&flips, 0.0), 1.0);
        // |±5 ±3 ±11 ±7| ≥ 20, the sum: of the 16 ways, +5 −3 +11 +7, its negative, and all of one sign.
        let p = flips.p_value(&zero, 0.0);
        assert!((p - 4.0 / 16.0).abs() < 0.03, "{p}");
    }

    #[test]
    fn no_difference_is_found_as_often_as_five_percent_say() {
        // 400 experiments of 300 users without a difference: p-values are uniform.
        let noise = |n: u64| (mix(n.wrapping_mul(GOLDEN)) >> 40) as i64;
        let mut found = 0;
        let mut at_half = 0;
        for experiment in 0..400u64 {
            let (mut a, mut b) = (Flips::new(), Flips::new());
            for user in 0..300u32 {
                let signs = signs(user + experiment as u32 * 1000);
                a.add(&signs, noise(experiment * 10_000 + u64::from(user) * 2));
                b.add(&signs, noise(experiment * 10_000 + u64::from(user) * 2 + 1));
            }
            found += u32::from(a.p_value(&b, 0.0) < 0.05);
            at_half += u32::from(a.p_value(&b, 0.0) < 0.5);
        }
        // 20 and 200 expected; deviations of 4.4 and 10.
        assert!((5..=38).contains(&found) && (160..=240).contains(&at_half), "{found} {at_half}");
    }

    #[test]
    fn a_margin_asks_for_a_difference_that_is_larger() {
        // Of 400 users one scorer has 1.03 ± .25 each, the other 1 ± .25: the difference has a deviation of some .02.
        let noise = |n: u64| (mix(n.wrapping_mul(GOLDEN)) >> 44) as i64 / 2;
        let (mut a, mut b) = (Flips::new(), Flips::new());
        for user in 0..40_000u32 {
            let signs = signs(user);
            a.add(&signs, 1_030_000 + noise(2 * u64::from(user)));
            b.add(&signs, 1_000_000 + noise(2 * u64::from(user) + 1));
        }
        // Means are some 1.29 and 1.26, of deviations of .0015 each: 2.4 % of difference, known to .2 %.
        let p = |margin| (a.p_value(&b, margin), b.p_value(&a, margin));
        for (margin, tells) in [(0.0, true), (0.01, true), (0.02, true), (0.0235, false), (0.03, false)] {
            let (one, other) = p(margin);
            assert_eq!(one, other, "whichever is asked");
            assert_eq!(one < 0.05, tells, "{margin}: {one}");
        }
        assert_eq!(p(0.05).0, 1.0);
    }
}
