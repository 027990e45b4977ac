//! Exponentials that vectorize: branch-free polynomials, accurate to a few units in the last place of f32.

/// e^x, relative error below 3e-7 for |x| ≤ 87; beyond, the value at ±87.
///
/// Cody–Waite reduction to [−ln2/2, ln2/2] and a Taylor polynomial of degree 7.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    // 1.5 × 2²³ rounds to the nearest integer n, which then stands in the lowest bits.
    let rounded = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = rounded - 12_582_912.0;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Estrin's scheme: four short chains instead of a long one, which processors work on side by side.
    let (square, low, high) = (r * r, 1.0 / 6.0 * r + 0.5, 1.0 / 120.0 * r + 1.0 / 24.0);
    let highest = 1.0 / 5040.0 * r + 1.0 / 720.0;
    let p = (highest * square + high) * (square * square) + (low * square + (r + 1.0));
    // 2^n: the lowest bits, −126 to 126, shifted into the exponent. A conversion of n would look for NaN number by number,
    // and so keep all of it from becoming vectors.
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

/// 1 / (1 + e^−x).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// ln(1 + e^x), without overflow.
#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    x.max(0.0) + exp(-x.abs()).ln_1p()
}

/// ln x for normal x above 0, absolute error below 2e-6 where |ln x| is small, relative error below 3e-7 elsewhere.
///
/// x = 2ⁿm with m from √½ to √2; ln m = 2 atanh((m − 1)/(m + 1)) by its series to the 9th power.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    // Shifted so that the mantissa is counted from √½ on.
    let bits = x.to_bits().wrapping_sub(0x3F35_04F3) as i32;
    let n = (bits >> 23) as f32;
    let m = f32::from_bits(((bits & 0x007F_FFFF) + 0x3F35_04F3) as u32);
    let r = (m - 1.0) / (m + 1.0);
    let square = r * r;
    let p = 2.0 / 9.0;
    let p = p * square + 2.0 / 7.0;
    let p = p * square + 2.0 / 5.0;
    let p = p * square + 2.0 / 3.0;
    let p = p * square + 2.0;
    n * std::f32::consts::LN_2 + p * r
}

/// atan x, absolute error below 1e-5 (Abramowitz & Stegun 4.4.49 on [0, 1], and atan x = π/2 − atan 1/x beyond).
#[inline(always)]
pub(super) fn atan(x: f32) -> f32 {
    let size = x.abs();
    let beyond = size > 1.0;
    let r = if beyond { 1.0 / size } else { size };
    let square = r * r;
    let p = 0.002_866_225_7;
    let p = p * square - 0.016_165_737;
    let p = p * square + 0.042_909_614;
    let p = p * square - 0.075_289_64;
    let p = p * square + 0.106_562_64;
    let p = p * square - 0.142_089;
    let p = p * square + 0.199_935_5;
    let p = p * square - 0.333_331_45;
    let a = r + r * square * p;
    (if beyond { std::f32::consts::FRAC_PI_2 - a } else { a }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_and_atan_are_accurate() {
        for i in 1..40_000 {
            let x = (i as f32 / 20_000.0).powi(3);
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() < 2e-6 + 3e-7 * exact.abs(), "ln({x}) = {} {exact}", ln(x));
            let x = (i - 20_000) as f32 / 2_000.0;
            assert!((f64::from(atan(x)) - f64::from(x).atan()).abs() < 1e-5, "atan({x})");
        }
        assert!((ln(1e-12) - 1e-12f32.ln()).abs() < 1e-5);
        assert!((atan(-1e9) + std::f32::consts::FRAC_PI_2).abs() < 1e-6);
    }

    #[test]
    fn exp_and_sigmoid_are_accurate() {
        for i in -8700..=8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "exp({x})");
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) - exact).abs() < 2e-7, "sigmoid({x})");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(softplus(500.0), 500.0);
        assert!(sigmoid(-1e9) >= 0.0 && sigmoid(1e9) <= 1.0);
    }
}
