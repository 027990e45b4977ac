//! Cosine contrastive loss (Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021).
//!
//! L = max(0, 1 − s⁺) + (w/N) Σ max(0, sⱼ − m); ∂L/∂s⁺ = −1 where s⁺ < 1, ∂L/∂sⱼ = w/N where sⱼ > m.

use super::listwise::{Listwise, Outcome, Positive};

/// Hinges: positives toward 1, negatives below a margin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ccl {
    /// m: negatives below it cost nothing.
    pub(crate) margin: f32,
    /// w: what the mean over the negatives is multiplied by.
    pub(crate) weight: f32,
}

impl Listwise for Ccl {
    const NEEDS_MAX: bool = false;
    const SEPARATE: bool = true;

    #[inline(always)]
    fn shift(&self, _: f32, _: f32) -> f32 {
        self.margin
    }

    #[inline(always)]
    fn negative(&self, score: f32, _: f32, shift: f32) -> (f32, f32) {
        let over = score - shift;
        (over.max(0.0), if over > 0.0 { 1.0 } else { 0.0 })
    }

    #[inline(always)]
    fn finish(&self, positive: Positive, terms: f32, _: f32, count: f32) -> Outcome {
        let scale = self.weight / count;
        let short = 1.0 - positive.score;
        Outcome { loss: short.max(0.0) + scale * terms, positive: if short > 0.0 { -1.0 } else { 0.0 }, scale }
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
            positive in -2f32..2.0, negatives in proptest::collection::vec(-1f32..1.0, 1..8), margin in -0.5f32..0.9,
            weight in 0.5f32..5.0,
        ) {
            // Not at a kink, where there is no gradient.
            let negatives: Vec<_> = negatives.into_iter().filter(|s| (s - margin).abs() > 5e-3).map(|s| (s, 0.0)).collect();
            prop_assume!((positive - 1.0).abs() > 5e-3 && !negatives.is_empty());
            let loss = Ccl { margin, weight };
            check_gradient(loss, (positive, 0.0), &negatives);
            check_masked(loss, positive, &negatives);
        }
    }
}
