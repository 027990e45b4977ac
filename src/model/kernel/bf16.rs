//! bfloat16 (the upper half of an f32), stochastic rounding, and the generator that rounding draws from.
//!
//! This is the definition: every instruction set does the same on sixteen numbers at once, bit for bit.

/// Multiplier and increment of the generator of noise: a full-period linear congruential one, modulo 2³². Only its
/// upper sixteen bits are used, the good ones.
pub(crate) const MULTIPLIER: u32 = 747_796_405;
pub(crate) const INCREMENT: u32 = 2_891_336_453;
/// What NaN is stored as.
pub(crate) const NAN: u16 = 0x7FC0;

/// The next state of a generator; the noise is its upper sixteen bits.
#[inline(always)]
pub(crate) fn next(state: u32) -> u32 {
    state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)
}

/// The number that `half` stands for, exactly.
#[inline(always)]
pub(crate) fn widen(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// One of the two bfloat16 around `value`, each with the probability that makes the mean `value`, if `noise` is uniform
/// from 0 to 65,535 (Gupta et al., "Deep Learning with Limited Numerical Precision", 2015).
///
/// What bfloat16 can represent stays as it is, infinities included; NaN stays NaN. Above the largest bfloat16 the
/// neighbour is infinity.
#[inline(always)]
pub(crate) fn round(value: f32, noise: u16) -> u16 {
    if value.is_nan() { NAN } else { ((value.to_bits() + u32::from(noise)) >> 16) as u16 }
}

/// The bfloat16 nearest to `value`; of two that are equally near, the one further from zero.
pub(crate) fn nearest(value: f32) -> u16 {
    round(value, 0x8000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_exact_stays_and_nan_and_infinity_keep_their_kind() {
        for half in 0..=u16::MAX {
            let value = widen(half);
            for noise in [0, 1, 0x7FFF, 0x8000, u16::MAX] {
                let rounded = round(value, noise);
                assert!(if value.is_nan() { widen(rounded).is_nan() } else { rounded == half }, "{value} {noise}");
            }
        }
        for nan in [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0001, 0xFFFF_FFFF] {
            assert!([0, u16::MAX].iter().all(|noise| widen(round(f32::from_bits(nan), *noise)).is_nan()));
        }
    }

    proptest! {
        #[test]
        fn the_mean_of_all_roundings_is_the_value(value in prop_oneof![-2f32..2.0, -1e-30f32..1e-30, -1e30f32..1e30]) {
            let sum: f64 = (0..=u16::MAX).map(|noise| f64::from(widen(round(value, noise)))).sum();
            let mean = sum / 65_536.0;
            prop_assert!((mean - f64::from(value)).abs() <= 1e-9 * f64::from(value.abs()), "{mean} of {value}");
            let gap = (f64::from(widen(nearest(value))) - f64::from(value)).abs();
            prop_assert!(gap <= f64::from(value.abs()) / 256.0 || value.abs() < 1e-37);
        }
    }

    #[test]
    fn the_mean_of_roundings_by_the_generator_is_the_value() {
        for (k, value) in [0.123_456f32, -0.001_234_5, 3.999, 1.000_01, 1e-20].into_iter().enumerate() {
            let (mut state, rounds) = (k as u32 * 77 + 1, 200_000);
            let (mut sum, mut squares) = (0f64, 0f64);
            for _ in 0..rounds {
                state = next(state);
                let error = f64::from(widen(round(value, (state >> 16) as u16))) - f64::from(value);
                sum += error;
                squares += error * error;
            }
            let (mean, n) = (sum / f64::from(rounds), f64::from(rounds));
            let standard_error = (squares / n - mean * mean).sqrt() / n.sqrt();
            assert!(mean.abs() < 4.0 * standard_error, "{value}: off by {mean}, standard error {standard_error}");
        }
    }
}
