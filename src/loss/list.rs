//! A listwise loss over positives with negatives of their own: the sums that matrix products make for shared ones, term
//! by term.

use super::listwise::{Listwise, Outcome, Positive};
use super::{Entropy, OfLists, Spread};

/// Negatives that are looked at together: plain loops over so many become vector instructions.
const LANES: usize = 16;

/// The part of `slice` that positive `k` has, where there is any.
#[inline(always)]
fn of(slice: &[f32], k: usize, each: usize) -> &[f32] {
    if slice.is_empty() { slice } else { &slice[k * each..(k + 1) * each] }
}

/// Writes the elements from `first` to the front of `out`; nothing for an empty slice.
#[inline(always)]
fn load(slice: &[f32], first: usize, out: &mut [f32; LANES]) {
    if let Some(whole) = slice.get(first..first + LANES) {
        #[allow(clippy::manual_memcpy)] // a library call would be compiled without the instruction set
        for l in 0..LANES {
            out[l] = whole[l];
        }
    } else if let Some(rest) = slice.get(first..) {
        for (to, from) in out.iter_mut().zip(rest) {
            *to = *from;
        }
    }
}

/// The sum over lanes.
#[inline(always)]
fn sum(lanes: [f32; LANES]) -> f32 {
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    sum
}

/// Some negatives, and what their terms count. Lanes behind the last negative have weight 0.
struct Part {
    scores: [f32; LANES],
    corrections: [f32; LANES],
    weights: [f32; LANES],
}

/// One positive and its negatives.
#[derive(Clone, Copy)]
struct List<'a> {
    positive: f32,
    positive_correction: f32,
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
            positive_correction: if lists.positive_offsets.is_empty() { 0.0 } else { -lists.positive_offsets[k] },
            negatives: of(negatives, k, each),
            weights: of(lists.weights, k, each),
            offsets: of(lists.negative_offsets, k, each),
        }
    }

    /// The negatives from `first`.
    #[inline(always)]
    fn part(&self, first: usize) -> Part {
        let mut part = Part { scores: [0.0; LANES], corrections: [0.0; LANES], weights: [0.0; LANES] };
        load(self.negatives, first, &mut part.scores);
        load(self.offsets, first, &mut part.corrections);
        for correction in &mut part.corrections {
            *correction = -*correction;
        }
        if self.weights.is_empty() {
            let count = self.negatives.len() - first;
            for (l, weight) in part.weights.iter_mut().enumerate() {
                *weight = if l < count { 1.0 } else { 0.0 };
            }
        } else {
            load(self.weights, first, &mut part.weights);
        }
        part
    }

    /// The largest score that counts.
    #[inline(always)]
    fn max(&self) -> f32 {
        let mut max = [f32::MIN; LANES];
        for first in (0..self.negatives.len()).step_by(LANES) {
            let Part { scores, weights, .. } = self.part(first);
            for l in 0..LANES {
                let score = if weights[l] > 0.0 { scores[l] } else { f32::MIN };
                max[l] = if score > max[l] { score } else { max[l] };
            }
        }
        let mut largest = f32::MIN;
        for lane in max {
            largest = if lane > largest { lane } else { largest };
        }
        largest
    }

    /// What comes of the list, and how slopes change by entropy; `keep` is given the slopes of the negatives from an index
    /// on. `None` where no negative counts: then there is nothing to learn.
    #[inline(always)]
    fn outcome<L: Listwise>(&self, loss: L, mut keep: impl FnMut(usize, [f32; LANES])) -> Option<(Outcome, Spread)> {
        let shift = loss.shift(self.positive, if L::NEEDS_MAX { self.max() } else { 0.0 });
        let (mut terms, mut slopes, mut counts) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
        for first in (0..self.negatives.len()).step_by(LANES) {
            let Part { scores, corrections, weights } = self.part(first);
            let mut own = [0f32; LANES];
            for l in 0..LANES {
                let (term, slope) = loss.negative(scores[l], corrections[l], shift);
                own[l] = slope;
                // What does not count, padding included, may score so high that its term is infinite.
                terms[l] += if weights[l] > 0.0 { weights[l] * term } else { 0.0 };
                slopes[l] += if weights[l] > 0.0 { weights[l] * slope } else { 0.0 };
                counts[l] += weights[l];
            }
            keep(first, own);
        }
        let (terms, count) = (sum(terms), sum(counts));
        if count <= 0.0 {
            return None;
        }
        let positive = Positive { score: self.positive, correction: self.positive_correction, shift };
        let mut outcome = loss.finish(positive, terms, sum(slopes), count);
        let mut spread = Spread::default();
        if let Some(entropy) = loss.entropy() {
            let mut log_terms = [0f32; LANES];
            for first in (0..self.negatives.len()).step_by(LANES) {
                let Part { scores, corrections, weights } = self.part(first);
                for l in 0..LANES {
                    let term = loss.negative(scores[l], corrections[l], shift).0;
                    log_terms[l] += if weights[l] > 0.0 { weights[l] * Entropy::log_term(term) } else { 0.0 };
                }
            }
            spread = entropy.spread(terms, sum(log_terms), &mut outcome);
        }
        Some((outcome, spread))
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
        let kept = list.outcome(loss, |first, slopes| {
            for (kept, slope) in gradient[first..].iter_mut().zip(slopes) {
                *kept = slope;
            }
        });
        let Some((outcome, spread)) = kept else {
            positive_gradient[k] = 0.0;
            for g in gradient {
                *g = 0.0;
            }
            continue;
        };
        positive_gradient[k] = outcome.positive;
        for first in (0..each).step_by(LANES) {
            let weights = list.part(first).weights;
            for (g, weight) in gradient[first..].iter_mut().zip(weights) {
                // With entropy slopes are terms.
                let slope = if loss.entropy().is_some() { spread.slope(*g) } else { *g };
                // A negative that does not count may score so high that its slope is infinite.
                *g = if weight > 0.0 { outcome.scale * weight * slope } else { 0.0 };
            }
        }
    }
}

/// The summed loss of all lists.
pub(super) fn value<L: Listwise>(loss: L, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) -> f32 {
    let list = |k| List::new(positives, negatives, lists, k).outcome(loss, |_, _| ());
    (0..positives.len()).filter_map(list).map(|(outcome, _)| outcome.loss).sum()
}
