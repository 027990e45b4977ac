//! Sampled softmax (Bengio & Senécal, 2008; for recommendation: Wu et al., "On the Effectiveness of Sampled Softmax Loss
//! for Item Recommendation", TOIS 2024).
//!
//! With zᵢ = sᵢ/τ − ln qᵢ, qᵢ being how often item i is expected among the negatives (the log-Q correction; without
//! it, or where all items are as likely, it cancels): L = −z⁺ + ln(e^z⁺ + Σ e^zⱼ); with p the softmax over all of them,
//! ∂L/∂s⁺ = −(1 − p⁺)/τ, ∂L/∂sⱼ = pⱼ/τ.

use super::Entropy;
use super::listwise::{Listwise, Outcome, Positive};
use super::math::exp;

/// Sampled softmax, the positive in the denominator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax {
    pub(crate) inverse_temperature: f32,
    /// Regularization by the entropy of the softmax over the negatives.
    pub(crate) entropy: Option<Entropy>,
}

impl Listwise for Softmax {
    const NEEDS_MAX: bool = true;
    const SEPARATE: bool = true;

    #[inline(always)]
    fn shift(&self, positive: f32, max: f32) -> f32 {
        max.max(positive) * self.inverse_temperature
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
    fn finish(&self, positive: Positive, terms: f32, _: f32, _: f32) -> Outcome {
        let t = self.inverse_temperature;
        let z = positive.score * t - positive.correction - positive.shift;
        let own = exp(z);
        let all = terms + own;
        Outcome { loss: all.ln() - z, positive: -t * (terms / all), scale: t / all }
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
            positive in (-1f32..1.0, 0f32..2.0), negatives in proptest::collection::vec((-1f32..1.0, 0f32..2.0), 1..8),
            t in 1f32..8.0, weight in -0.2f32..1.0,
        ) {
            let loss = Softmax { inverse_temperature: t, entropy: None };
            check_gradient(loss, positive, &negatives);
            check_masked(loss, positive.0, &negatives);
            let entropy = Entropy { weight, inverse_temperature: t };
            check_gradient(Softmax { entropy: Some(entropy), ..loss }, positive, &negatives);
            check_masked(Softmax { entropy: Some(entropy), ..loss }, positive.0, &negatives);
        }
    }
}
