//! Hinge on pairs (Weston et al., "WSABIE: Scaling Up to Large Vocabulary Image Annotation", IJCAI 2011; Hsieh et al.,
//! "Collaborative Metric Learning", WWW 2017).
//!
//! L = Σ max(0, m − (s⁺ − s⁻)); where a pair violates its margin, s⁺ − s⁻ < m: ∂L/∂s⁺ = −1, ∂L/∂s⁻ = 1.
//!
//! With rank weights and negatives searched for until one violates it is WARP. A margin of a positive's own, mᵢ, is a
//! score that the loss sees lower by mᵢ − m: that comes with the scores.

use super::{Loss, OfLists, Terms};

/// Positives above negatives by a margin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hinge {
    pub(crate) margin: f32,
}

impl Loss for Hinge {
    #[inline(always)]
    fn terms(&self) -> Terms {
        Terms::Pairs
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
        let each = negatives.len() / positives.len().max(1);
        for (k, (p, pg)) in positives.iter().zip(positive_gradient).enumerate() {
            let mut sum = 0.0;
            for j in k * each..(k + 1) * each {
                let g = if self.margin - p + negatives[j] > 0.0 { 1.0 } else { 0.0 };
                negative_gradient[j] = g;
                sum += g;
            }
            *pg = -sum;
        }
    }

    #[inline(always)]
    fn value(&self, positives: &[f32], negatives: &[f32], _: OfLists<'_>) -> f32 {
        let each = (negatives.len() / positives.len().max(1)).max(1);
        let pairs = negatives.iter().enumerate().map(|(j, n)| (positives[j / each], n));
        pairs.map(|(p, n)| (self.margin - p + n).max(0.0)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_differences(
            p in proptest::collection::vec(-3f32..3.0, 1..5), each in 1usize..4, margin in 0.1f32..2.0,
        ) {
            let negatives: Vec<f32> = (0..p.len() * each).map(|j| (j as f32 * 0.7).sin() * 2.0).collect();
            // Not at a kink, where there is no gradient.
            let far = |(j, n): (usize, &f32)| (margin - p[j / each] + n).abs() > 5e-3;
            prop_assume!(negatives.iter().enumerate().all(far));
            super::super::check_gradient(Hinge { margin }, &p, &negatives);
        }
    }
}
