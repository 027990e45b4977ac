//! A listwise loss over positives with negatives of their own: the sums that matrix products make for shared ones, term
//! by term.

use super::listwise::{Listwise, Outcome, Positive};
use super::{Entropy, OfLists, Spread};

/// The part of `slice` that positive `k` has, where there is any.
#[inline(always)]
fn of(slice: &[f32], k: usize, each: usize) -> &[f32] {
    if slice.is_empty() { slice } else { &slice[k * each..(k + 1) * each] }
}

/// The element, or what stands for an empty slice.
#[inline(always)]
fn at(slice: &[f32], j: usize, absent: f32) -> f32 {
    if slice.is_empty() { absent } else { slice[j] }
}

/// One positive and its negatives.
#[derive(Clone, Copy)]
struct List<'a> {
    positive: f32,
    positive_offset: f32,
    negatives: &'a [f32],
    weights: &'a [f32],
    offsets: &'a [f32],
}

impl<'a> List<'a> {
    #[inline(always)]
    fn new(positives: &[f32], negatives: &'a [f32], lists: OfLists<'a>, k: usize) -> Self {
        let each = negatives.len() / positives.len().max(1);
        Self {
            positive: positives[k],
            positive_offset: at(lists.positive_offsets, k, 0.0),
            negatives: of(negatives, k, each),
            weights: of(lists.weights, k, each),
            offsets: of(lists.negative_offsets, k, each),
        }
    }

    /// What comes of the list, what scores were compared with, and how slopes change by entropy. `None` where no
    /// negative counts: then there is nothing to learn.
    #[inline(always)]
    fn outcome<L: Listwise>(&self, loss: L) -> Option<(Outcome, f32, Spread)> {
        let mut max = f32::MIN;
        if L::NEEDS_MAX {
            for (j, s) in self.negatives.iter().enumerate() {
                let counts = at(self.weights, j, 1.0) > 0.0;
                max = if counts && *s > max { *s } else { max };
            }
        }
        let shift = loss.shift(self.positive, max);
        let (mut terms, mut slopes, mut count) = (0.0, 0.0, 0.0);
        for (j, s) in self.negatives.iter().enumerate() {
            let weight = at(self.weights, j, 1.0);
            let (term, slope) = loss.negative(*s, -at(self.offsets, j, 0.0), shift);
            terms += weight * term;
            slopes += weight * slope;
            count += weight;
        }
        if count <= 0.0 {
            return None;
        }
        let positive = Positive { score: self.positive, correction: -self.positive_offset, shift };
        let mut outcome = loss.finish(positive, terms, slopes, count);
        let mut spread = Spread::default();
        if let Some(entropy) = loss.entropy() {
            let mut log_terms = 0.0;
            for (j, s) in self.negatives.iter().enumerate() {
                let term = loss.negative(*s, -at(self.offsets, j, 0.0), shift).0;
                log_terms += at(self.weights, j, 1.0) * Entropy::log_term(term);
            }
            spread = entropy.spread(terms, log_terms, &mut outcome);
        }
        Some((outcome, shift, spread))
    }
}

/// The gradient of all lists.
#[inline(always)]
pub(super) fn gradient<L: Listwise>(
    loss: L,
    positives: &[f32],
    negatives: &[f32],
    lists: OfLists<'_>,
    positive_gradient: &mut [f32],
    negative_gradient: &mut [f32],
) {
    let each = negatives.len() / positives.len().max(1);
    for k in 0..positives.len() {
        let list = List::new(positives, negatives, lists, k);
        let gradient = &mut negative_gradient[k * each..(k + 1) * each];
        let Some((outcome, shift, spread)) = list.outcome(loss) else {
            positive_gradient[k] = 0.0;
            gradient.fill(0.0);
            continue;
        };
        positive_gradient[k] = outcome.positive;
        for (j, (s, g)) in list.negatives.iter().zip(gradient).enumerate() {
            let (term, slope) = loss.negative(*s, -at(list.offsets, j, 0.0), shift);
            let slope = if loss.entropy().is_some() { spread.slope(term) } else { slope };
            *g = outcome.scale * at(list.weights, j, 1.0) * slope;
        }
    }
}

/// The summed loss of all lists.
pub(super) fn value<L: Listwise>(loss: L, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) -> f32 {
    let list = |k| List::new(positives, negatives, lists, k).outcome(loss);
    (0..positives.len()).filter_map(list).map(|(outcome, ..)| outcome.loss).sum()
}
