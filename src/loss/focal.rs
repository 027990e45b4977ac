//! Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4), without the weights of classes:
//! logistic loss in which scores that are right already count less.
//!
//! With x = s⁺ for a positive, x = −s⁻ for a negative, and p = σ(x): L = −(1 − p)^γ ln p,
//! ∂L/∂x = (1 − p)^γ (γ p ln p − (1 − p)). With γ = 0 it is the logistic loss.

use super::math::{exp, ln};
use super::{Loss, OfLists, Terms};

/// Scores are divided by a temperature first: 1 for dot products, lower for cosines, which span only −1 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Focal {
    pub(crate) inverse_temperature: f32,
    /// γ: how much less.
    pub(crate) gamma: f32,
}

impl Focal {
    /// The loss at x, and its derivative.
    #[inline(always)]
    fn at(&self, x: f32) -> (f32, f32) {
        let tail = ln(1.0 + exp(-x.abs()));
        // ln p and ln(1 − p).
        let (right, wrong) = (x.min(0.0) - tail, (-x).min(0.0) - tail);
        let (p, q) = (exp(right), exp(wrong));
        let focus = exp(self.gamma * wrong);
        (-focus * right, focus * (self.gamma * p * right - q))
    }
}

impl Loss for Focal {
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
        for (s, g) in positives.iter().zip(positive_gradient) {
            *g = t * self.at(t * s).1;
        }
        for (s, g) in negatives.iter().zip(negative_gradient) {
            *g = -t * self.at(-t * s).1;
        }
    }

    #[inline(always)]
    fn value(&self, positives: &[f32], negatives: &[f32], _: OfLists<'_>) -> f32 {
        let t = self.inverse_temperature;
        positives.iter().map(|s| self.at(t * s).0).sum::<f32>()
            + negatives.iter().map(|s| self.at(-t * s).0).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Logistic;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_differences(
            p in proptest::collection::vec(-3f32..3.0, 1..5), each in 1usize..4, t in 0.5f32..2.0, gamma in 0f32..5.0,
        ) {
            let negatives: Vec<f32> = (0..p.len() * each).map(|j| (j as f32 * 0.7).sin() * 2.0).collect();
            super::super::check_gradient(Focal { inverse_temperature: t, gamma }, &p, &negatives);
        }

        #[test]
        fn without_focus_it_is_the_logistic_loss(p in -20f32..20.0, n in -20f32..20.0) {
            let (focal, logistic) = (
                Focal { inverse_temperature: 1.0, gamma: 0.0 }, Logistic { inverse_temperature: 1.0, smoothing: 0.0 },
            );
            let (a, b) = [focal.value(&[p], &[n], OfLists::default()), logistic.value(&[p], &[n], OfLists::default())].into();
            prop_assert!((a - b).abs() < 1e-5 * (1.0 + b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_right_already_hardly_counts() {
        let focal = Focal { inverse_temperature: 1.0, gamma: 2.0 };
        let (_, right) = focal.at(3.0);
        let (_, wrong) = focal.at(-3.0);
        assert!(right.abs() < 1e-3 && wrong < -1.0, "{right} {wrong}");
        assert!(focal.at(1e4) == (0.0, 0.0) || focal.at(1e4).0.abs() < 1e-30);
        assert!((focal.at(-1e4).0 - 1e4).abs() < 1.0);
    }
}
