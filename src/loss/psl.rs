//! Pairwise softmax loss (Yang et al., "PSL: Rethinking and Improving Softmax Loss from Pairwise Perspective for
//! Recommendation", NeurIPS 2024): softmax with another surrogate σ in the place of the exponential.
//!
//! With dⱼ = (sⱼ − s⁺)/2, which for cosines is from −1 to 1: L = ln mean_j σ(dⱼ)^(1/τ), σ being tanh + 1, atan + 1 or
//! max(0, 1 + d). With tⱼ = σ(dⱼ)^(1/τ): ∂L/∂sⱼ = tⱼ σ′(dⱼ) / (2τ σ(dⱼ) Σ t), ∂L/∂s⁺ = −Σⱼ ∂L/∂sⱼ.

use serde::{Deserialize, Serialize};

use super::listwise::{Listwise, Outcome, Positive};
use super::math::{atan, exp, ln};

/// What the pairwise softmax loss has in the place of the exponential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Surrogate {
    /// tanh(d) + 1.
    #[default]
    Tanh,
    /// atan(d) + 1.
    Atan,
    /// max(0, d + 1).
    Relu,
}

/// The numbers of a surrogate, as a type: the choice is made once, not for each score.
pub(crate) trait Shape: Copy + Send + Sync {
    /// σ(d), at least a tiny positive number, and σ′(d).
    fn at(self, d: f32) -> (f32, f32);
}

const TINY: f32 = 1e-12;

/// tanh + 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tanh;
/// atan + 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Atan;
/// max(0, 1 + d).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relu;

impl Shape for Tanh {
    #[inline(always)]
    fn at(self, d: f32) -> (f32, f32) {
        // tanh(d) + 1 = 2 / (1 + e^−2d).
        let value = 2.0 / (1.0 + exp(-2.0 * d));
        (value.max(TINY), value * (2.0 - value))
    }
}

impl Shape for Atan {
    #[inline(always)]
    fn at(self, d: f32) -> (f32, f32) {
        ((atan(d) + 1.0).max(TINY), 1.0 / (1.0 + d * d))
    }
}

impl Shape for Relu {
    #[inline(always)]
    fn at(self, d: f32) -> (f32, f32) {
        let value = d + 1.0;
        (value.max(TINY), if value > 0.0 { 1.0 } else { 0.0 })
    }
}

/// Softmax over pairs with the surrogate `S`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Psl<S> {
    pub(crate) inverse_temperature: f32,
    pub(crate) surrogate: S,
}

impl<S: Shape> Listwise for Psl<S> {
    const NEEDS_MAX: bool = false;
    const SEPARATE: bool = false;

    #[inline(always)]
    fn shift(&self, positive: f32, _: f32) -> f32 {
        positive
    }

    #[inline(always)]
    fn negative(&self, score: f32, _: f32, shift: f32) -> (f32, f32) {
        let (value, derivative) = self.surrogate.at(0.5 * (score - shift));
        let term = exp(self.inverse_temperature * ln(value));
        (term, term * derivative / value)
    }

    #[inline(always)]
    fn finish(&self, _: Positive, terms: f32, slopes: f32, count: f32) -> Outcome {
        let terms = terms.max(1e-30);
        let scale = 0.5 * self.inverse_temperature / terms;
        Outcome { loss: (terms / count).ln(), positive: -scale * slopes, scale }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listwise::tests::{check_gradient, check_masked};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_differences(
            positive in -0.9f32..0.9, negatives in proptest::collection::vec(-0.9f32..0.9, 1..8), t in 1f32..8.0,
        ) {
            let negatives: Vec<_> = negatives.into_iter().map(|s| (s, 0.0)).collect();
            fn check<S: Shape>(surrogate: S, t: f32, positive: f32, negatives: &[(f32, f32)]) {
                let loss = Psl { inverse_temperature: t, surrogate };
                check_gradient(loss, (positive, 0.0), negatives);
                check_masked(loss, positive, negatives);
            }
            check(Tanh, t, positive, &negatives);
            check(Atan, t, positive, &negatives);
            check(Relu, t, positive, &negatives);
        }
    }
}
