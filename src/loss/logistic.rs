//! Logistic loss on positives and sampled negatives (He et al., "Neural Collaborative Filtering", 2017, eq. 7).
//!
//! L = Σ softplus(−s⁺) + Σ softplus(s⁻); ∂L/∂s⁺ = σ(s⁺) − 1, ∂L/∂s⁻ = σ(s⁻).
//!
//! With label smoothing ε (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, for
//! two classes) labels are 1 − ε/2 and ε/2: each score costs ε/2 × itself more, or less, and the gradient shifts by
//! that: ∂L/∂s⁺ = σ(s⁺) − 1 + ε/2, ∂L/∂s⁻ = σ(s⁻) − ε/2.

use super::math::{sigmoid, softplus};
use super::{Loss, OfLists, Terms};

/// Scores are divided by a temperature first: 1 for dot products, lower for cosines, which span only −1 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logistic {
    pub(crate) inverse_temperature: f32,
    /// ε: 0 for labels of 1 and 0.
    pub(crate) smoothing: f32,
}

impl Loss for Logistic {
    #[inline(always)]
    fn terms(&self) -> Terms {
        Terms::Scores
    }

    #[inline(always)]
    fn gradient(
        &self,
        positives: &[f32],
        negatives: &[f32],
        _: OfLists<'_>,
        positive_gradient: &mut [f32],
        negative_gradient: &mut [f32],
    ) {
        let t = self.inverse_temperature;
        let half = 0.5 * self.smoothing;
        for (s, g) in positives.iter().zip(positive_gradient) {
            *g = t * (sigmoid(t * s) - 1.0 + half);
        }
        for (s, g) in negatives.iter().zip(negative_gradient) {
            *g = t * (sigmoid(t * s) - half);
        }
    }

    #[inline(always)]
    fn value(&self, positives: &[f32], negatives: &[f32], _: OfLists<'_>) -> f32 {
        let t = self.inverse_temperature;
        let half = 0.5 * self.smoothing;
        positives.iter().map(|s| softplus(-t * s) + half * t * s).sum::<f32>()
            + negatives.iter().map(|s| softplus(t * s) - half * t * s).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_differences(p in proptest::collection::vec(-3f32..3.0, 1..5), each in 1usize..4, t in 0.5f32..2.0, smoothing in 0f32..0.9) {
            let negatives: Vec<f32> = (0..p.len() * each).map(|j| (j as f32 * 0.7).sin() * 2.0).collect();
            super::super::check_gradient(Logistic { inverse_temperature: t, smoothing }, &p, &negatives);
        }
    }
}
