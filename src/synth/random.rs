//! Random numbers as pure functions of (seed, purpose, index), and the approximations the generator affords itself.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::mix::{GOLDEN, mix};

/// What a random number is for. Two purposes never share a number, so adding one leaves the others' draws as they are.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// How active a user is.
    Activity = 1,
    /// The second number of the activity's normal deviate.
    ActivityAngle = 2,
    /// How a user's expected number of rows is rounded.
    Rounding = 3,
    /// A user's taste factors.
    Taste = 4,
    /// The rows of a user.
    Rows = 5,
    /// When a user joins and leaves.
    Window = 6,
    /// The factors of the item clusters.
    Clusters = 7,
    /// Which cluster an item belongs to.
    Membership = 8,
    /// The numbering of the items.
    Numbering = 9,
}

/// 64 well-mixed bits that depend on all three arguments: a step of SplitMix64 for each in turn.
pub(super) fn hash(seed: u64, purpose: Purpose, index: u64) -> u64 {
    finalize(finalize(seed ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)) ^ index)
}

fn finalize(bits: u64) -> u64 {
    mix(bits.wrapping_add(GOLDEN))
}

/// A generator of its own for each (seed, purpose, index).
pub(super) fn stream(seed: u64, purpose: Purpose, index: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(hash(seed, purpose, index))
}

/// A uniform number in [0, 1) with 53 bits.
pub(super) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A standard normal deviate from two words (Box and Muller, 1958).
pub(super) fn normal(radius: u64, angle: u64) -> f64 {
    (-2.0 * (1.0 - unit(radius)).ln()).sqrt() * (std::f64::consts::TAU * unit(angle)).cos()
}

/// A nearly normal deviate of mean 0 and variance 1: the sum of the four 16-bit quarters of a word. Its tails end at
/// ±3.5, which is no loss for factors and costs a tenth of a true normal.
pub(super) fn rough_normal(bits: u64) -> f32 {
    let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
    // Four uniforms on 0..65536 have mean 2·65535 and variance 4·65536²/12.
    (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
}

/// eˣ within 1e-6 relatively, for |x| ≤ 60; larger arguments are clamped. Plain arithmetic, so that the compiler makes
/// vector code of a loop over it and each platform computes the same bits.
pub(super) fn exp(x: f32) -> f32 {
    let scaled = x.clamp(-60.0, 60.0) * std::f32::consts::LOG2_E;
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let whole = (scaled + ROUND) - ROUND;
    let t = (scaled - whole) * std::f32::consts::LN_2;
    let poly = 1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0 + t * (1.0 / 24.0 + t * (1.0 / 120.0 + t * (1.0 / 720.0))))));
    let exponent = (whole as i32 + 127) << 23;
    poly * f32::from_bits(exponent as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for step in -6000..=6000 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            // The argument's own rounding is worth |x|·2⁻²³.
            assert!(error < 1e-6 + f64::from(x.abs()) * 2.4e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(1e9).is_finite() && exp(-1e9) > 0.0);
    }

    #[test]
    fn deviates_have_the_moments_of_a_normal() {
        let n = 200_000u64;
        let draw = |i, exact: bool| {
            let bits = hash(7, Purpose::Activity, i);
            if exact { normal(bits, hash(7, Purpose::ActivityAngle, i)) } else { f64::from(rough_normal(bits)) }
        };
        for exact in [true, false] {
            let mean = (0..n).map(|i| draw(i, exact)).sum::<f64>() / n as f64;
            let variance = (0..n).map(|i| draw(i, exact).powi(2)).sum::<f64>() / n as f64;
            assert!(mean.abs() < 0.01, "mean {mean}");
            assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
        }
    }

    #[test]
    fn purposes_and_indices_do_not_share_numbers() {
        let mut all = std::collections::HashSet::new();
        for purpose in [Purpose::Activity, Purpose::Taste, Purpose::Rows] {
            for index in 0..1000 {
                assert!(all.insert(hash(1, purpose, index)));
                assert!(all.insert(hash(2, purpose, index)));
            }
        }
    }
}
