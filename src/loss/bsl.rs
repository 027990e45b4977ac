//! Bilateral softmax loss (Wu et al., "BSL: Understanding and Improving Softmax Loss for Recommendation", ICDE 2024),
//! with one positive at a time: the two temperatures of the paper then come down to one and an exponent.
//!
//! L = −s⁺/τ + c ln mean_j e^(sⱼ/τ), the positive not in the denominator. With p the softmax over the negatives,
//! ∂L/∂s⁺ = −1/τ, ∂L/∂sⱼ = c pⱼ/τ. With a log-Q correction each term is divided by how often its item is drawn.

use super::Entropy;
use super::listwise::{Listwise, Outcome, Positive};
use super::math::exp;

/// Softmax with an exponent on the negatives' mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bsl {
    pub(crate) inverse_temperature: f32,
    /// c: above 1 negatives weigh more than the positive.
    pub(crate) exponent: f32,
    /// Regularization by the entropy of the softmax over the negatives.
    pub(crate) entropy: Option<Entropy>,
}

impl Listwise for Bsl {
    const NEEDS_MAX: bool = true;
    const SEPARATE: bool = true;

    #[inline(always)]
    fn shift(&self, _: f32, max: f32) -> f32 {
        max * self.inverse_temperature
    }

    #[inline(always)]
    fn negative(&self, score: f32, correction: f32, shift: f32) -> (f32, f32) {
        let e = exp(score * self.inverse_temperature - correction - shift);
        (e, e)
    }

    #[inline(always)]
    fn entropy(&self) -> Option<Entropy> {
        self.entropy
    }

    #[inline(always)]
    fn finish(&self, positive: Positive, terms: f32, _: f32, count: f32) -> Outcome {
        let t = self.inverse_temperature;
        let mean = (terms / count).ln() + positive.shift;
        Outcome { loss: self.exponent * mean - positive.score * t, positive: -t, scale: self.exponent * t / terms }
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
            positive in -1f32..1.0, negatives in proptest::collection::vec((-1f32..1.0, 0f32..2.0), 1..8),
            t in 1f32..8.0, exponent in 0.5f32..2.0, weight in -0.2f32..1.0,
        ) {
            let loss = Bsl { inverse_temperature: t, exponent, entropy: None };
            check_gradient(loss, (positive, 0.0), &negatives);
            check_masked(loss, positive, &negatives);
            let entropy = Entropy { weight, inverse_temperature: t };
            check_gradient(Bsl { entropy: Some(entropy), ..loss }, (positive, 0.0), &negatives);
            check_masked(Bsl { entropy: Some(entropy), ..loss }, positive, &negatives);
        }
    }
}
