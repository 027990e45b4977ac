//! Bayesian personalized ranking (Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", 2009).
//!
//! L = Σ softplus(−(s⁺ − s⁻)); ∂L/∂s⁺ = −σ(−(s⁺ − s⁻)), ∂L/∂s⁻ = σ(−(s⁺ − s⁻)).

use super::math::{sigmoid, softplus};
use super::{Loss, OfLists, Terms};

/// Scores are divided by a temperature first: 1 for dot products, lower for cosines, which span only −1 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bpr {
    pub(crate) inverse_temperature: f32,
}

impl Loss for Bpr {
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
        let t = self.inverse_temperature;
        if positives.len() == negatives.len() {
            for (((p, n), pg), ng) in
                positives.iter().zip(negatives).zip(positive_gradient).zip(negative_gradient.iter_mut())
            {
                let g = t * sigmoid(t * (n - p));
                *pg = -g;
                *ng = g;
            }
            return;
        }
        let each = negatives.len() / positives.len().max(1);
        for (k, (p, pg)) in positives.iter().zip(positive_gradient).enumerate() {
            let mut sum = 0.0;
            for j in k * each..(k + 1) * each {
                let g = t * sigmoid(t * (negatives[j] - p));
                negative_gradient[j] = g;
                sum += g;
            }
            *pg = -sum;
        }
    }

    #[inline(always)]
    fn value(&self, positives: &[f32], negatives: &[f32], _: OfLists<'_>) -> f32 {
        let each = negatives.len() / positives.len().max(1);
        let pairs = negatives.iter().enumerate().map(|(j, n)| (positives[j / each.max(1)], n));
        pairs.map(|(p, n)| softplus(self.inverse_temperature * (n - p))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_differences(p in proptest::collection::vec(-3f32..3.0, 1..5), each in 1usize..4, t in 0.5f32..2.0) {
            let negatives: Vec<f32> = (0..p.len() * each).map(|j| (j as f32 * 0.7).sin() * 2.0).collect();
            super::super::check_gradient(Bpr { inverse_temperature: t }, &p, &negatives);
        }
    }
}
