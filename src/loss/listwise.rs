//! What a listwise loss is: one positive against many negatives, in a form that leaves the sums to matrix products.

use super::Entropy;

/// A loss L(s⁺, s₁ … sₙ) of one positive's score and its negatives', with ∂L/∂sⱼ = scale × slope(sⱼ): the slopes are
/// found score by score, the scale from their sums. The scores' matrix is then read once, and multiplied as it is.
pub(crate) trait Listwise: Copy + Send + Sync {
    /// Whether [`Listwise::shift`] wants the largest score of the negatives.
    const NEEDS_MAX: bool;

    /// Whether terms of negatives are the same for every positive, once the positive has no say in [`Listwise::shift`]: then
    /// positives that share negatives share the sums, too.
    const SEPARATE: bool;

    /// What every negative's score is compared with, given the positive's score and the largest negative's.
    fn shift(&self, positive: f32, max: f32) -> f32;

    /// A negative's term and its slope. `correction` is the log of how much more often it is drawn than others.
    fn negative(&self, score: f32, correction: f32, shift: f32) -> (f32, f32);

    /// Entropy regularization of the softmax over the negatives; only where slopes are terms.
    #[inline(always)]
    fn entropy(&self) -> Option<Entropy> {
        None
    }

    /// The loss and its gradient, given the sums of all terms and slopes of `count` negatives (at least one).
    fn finish(&self, positive: Positive, terms: f32, slopes: f32, count: f32) -> Outcome;
}

/// The positive of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Positive {
    pub(crate) score: f32,
    /// As for negatives.
    pub(crate) correction: f32,
    /// From [`Listwise::shift`].
    pub(crate) shift: f32,
}

/// What comes of one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) loss: f32,
    /// ∂L/∂s⁺.
    pub(crate) positive: f32,
    /// What slopes are multiplied by.
    pub(crate) scale: f32,
}

/// A score so low that no loss sees it: what masked negatives are given.
pub(crate) const MASKED: f32 = -1e9;

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{OfLists, list};
    use super::*;

    /// The loss of one list, and its gradient by the positive and by each negative.
    fn list(loss: impl Listwise, positive: (f32, f32), negatives: &[(f32, f32)]) -> (f32, f32, Vec<f32>) {
        let scores: Vec<f32> = negatives.iter().map(|n| n.0).collect();
        let offsets: Vec<f32> = negatives.iter().map(|n| -n.1).collect();
        let lists = OfLists { positive_offsets: &[-positive.1], negative_offsets: &offsets, ..OfLists::default() };
        let (mut by_positive, mut by_negative) = ([0.0], vec![0.0; scores.len()]);
        list::gradient(loss, &[positive.0], &scores, lists, &mut by_positive, &mut by_negative);
        (list::value(loss, &[positive.0], &scores, lists), by_positive[0], by_negative)
    }

    /// Compares the gradient with central differences.
    pub(crate) fn check_gradient(loss: impl Listwise, positive: (f32, f32), negatives: &[(f32, f32)]) {
        let (_, by_positive, by_negative) = list(loss, positive, negatives);
        let h = 1e-3f32;
        let check = |analytic: f32, up: f32, down: f32| {
            let numeric = (up - down) / (2.0 * h);
            let error = (analytic - numeric).abs();
            assert!(error < 1e-2 * (1.0 + numeric.abs()), "gradient {analytic}, by differences {numeric}");
        };
        let at = |s: f32| list(loss, (s, positive.1), negatives).0;
        check(by_positive, at(positive.0 + h), at(positive.0 - h));
        for (j, gradient) in by_negative.iter().enumerate() {
            let at = |h: f32| {
                let mut moved = negatives.to_vec();
                moved[j].0 += h;
                list(loss, positive, &moved).0
            };
            check(*gradient, at(h), at(-h));
        }
    }

    /// Masked negatives change neither the loss (but for their count) nor a gradient.
    pub(crate) fn check_masked(loss: impl Listwise, positive: f32, negatives: &[(f32, f32)]) {
        let masked: Vec<_> = negatives.iter().copied().chain([(MASKED, 0.0)]).collect();
        let (_, by_positive, by_negative) = list(loss, (positive, 0.0), negatives);
        let (_, with_masked, others) = list(loss, (positive, 0.0), &masked);
        assert!((others[negatives.len()]).abs() < 1e-6, "{others:?}");
        assert!(with_masked.is_finite() && (with_masked - by_positive).abs() < 1e-4 * (1.0 + by_positive.abs()));
        assert_eq!(others.len(), by_negative.len() + 1);
    }
}
