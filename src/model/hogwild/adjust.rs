//! Weights of the terms of a loss, and offsets of the scores that it sees.

use crate::loss::{OfLists, Terms};

/// By positive and by negative, in their order; a slice is empty where all weights are 1 or all offsets 0.
///
/// The loss sees sᵢ + offsetᵢ. The gradient of the term of positive i and its negative j is multiplied by
/// `positive_weights[i] × negative_weights[j]`; where scores are the terms, each by its own side's weight, a negative's
/// by that of its positive too; where lists are, a negative's term counts `negative_weights[j]` times in its list, offsets
/// are log-Q corrections, and the list is weighted by its positive's. Reported losses are not weighted by positives, and
/// rows are regularized whatever the weight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Adjust<'a> {
    pub(crate) positive_weights: &'a [f32],
    pub(crate) negative_weights: &'a [f32],
    pub(crate) positive_offsets: &'a [f32],
    pub(crate) negative_offsets: &'a [f32],
}

/// `each` elements for each of `count` positives from `first`, where there are any.
#[inline(always)]
fn part(slice: &[f32], first: usize, count: usize, each: usize) -> &[f32] {
    if slice.is_empty() { slice } else { &slice[first * each..(first + count) * each] }
}

impl<'a> Adjust<'a> {
    /// Whether it adjusts nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { positive_weights, negative_weights, positive_offsets, negative_offsets } = self;
        [positive_weights, negative_weights, positive_offsets, negative_offsets].iter().all(|slice| slice.is_empty())
    }

    pub(super) fn check(&self, positives: usize, negatives: usize) {
        for (slice, whole) in [
            (self.positive_weights, positives),
            (self.negative_weights, negatives),
            (self.positive_offsets, positives),
            (self.negative_offsets, negatives),
        ] {
            assert!(slice.is_empty() || slice.len() == whole, "{} of {whole}", slice.len());
        }
    }

    /// The part of `positives` positives from `first`, with `each` negatives each.
    #[inline(always)]
    pub(crate) fn group(self, first: usize, positives: usize, each: usize) -> Self {
        Self {
            positive_weights: part(self.positive_weights, first, positives, 1),
            negative_weights: part(self.negative_weights, first, positives, each),
            positive_offsets: part(self.positive_offsets, first, positives, 1),
            negative_offsets: part(self.negative_offsets, first, positives, each),
        }
    }

    /// The scores of a group with their offsets: written to `out` where there are any.
    #[inline(always)]
    pub(crate) fn shift<'s>(&self, scores: &'s [f32], out: &'s mut [f32], positives: usize) -> &'s [f32] {
        if self.positive_offsets.is_empty() && self.negative_offsets.is_empty() {
            return scores;
        }
        for (to, score) in out.iter_mut().zip(scores) {
            *to = *score;
        }
        for (to, offset) in out.iter_mut().zip(self.positive_offsets) {
            *to += offset;
        }
        for (to, offset) in out[positives..].iter_mut().zip(self.negative_offsets) {
            *to += offset;
        }
        out
    }

    /// What a loss over lists looks at itself.
    #[inline(always)]
    pub(crate) fn of_lists(&self) -> OfLists<'a> {
        OfLists {
            weights: self.negative_weights,
            positive_offsets: self.positive_offsets,
            negative_offsets: self.negative_offsets,
        }
    }

    /// Multiplies the gradient by the weights that the loss has not looked at.
    #[inline(always)]
    pub(crate) fn weigh(&self, terms: Terms, positives: &mut [f32], negatives: &mut [f32]) {
        let each = negatives.len() / positives.len();
        if terms != Terms::Lists {
            for (gradient, weight) in negatives.iter_mut().zip(self.negative_weights) {
                *gradient *= weight;
            }
        }
        for (i, weight) in self.positive_weights.iter().enumerate() {
            for gradient in &mut negatives[i * each..(i + 1) * each] {
                *gradient *= weight;
            }
        }
        if terms == Terms::Pairs {
            // A term depends on the difference of its scores: what pulls the positive is what pushes its negatives.
            for (i, positive) in positives.iter_mut().enumerate() {
                let mut sum = 0.0;
                for negative in &negatives[i * each..(i + 1) * each] {
                    sum += negative;
                }
                *positive = -sum;
            }
        } else {
            for (gradient, weight) in positives.iter_mut().zip(self.positive_weights) {
                *gradient *= weight;
            }
        }
    }
}
