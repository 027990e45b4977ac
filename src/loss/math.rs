//! Exponentials that vectorize: branch-free polynomials, accurate to a few units in the last place of f32.

/// e^x, relative error below 3e-7 for |x| ≤ 87; beyond, the value at ±87.
///
/// Cody–Waite reduction to [−ln2/2, ln2/2] and a Taylor polynomial of degree 7 by Horner's rule.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let n = (x * std::f32::consts::LOG2_E + 12_582_912.0) - 12_582_912.0; // rounds to the nearest integer
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // 2^n: an integer in −126..=126, shifted into the exponent.
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
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

#[cfg(test)]
mod tests {
    use super::*;

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
