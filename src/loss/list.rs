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
    fn outcome<L: Listwise>(&self, loss: L, keep: impl FnMut(usize, [f32; LANES])) -> Option<(Outcome, Spread)> {
        let shift = loss.shift(self.positive, if L::NEEDS_MAX { self.max() } else { 0.0 });
        let sums = self.sums(loss, shift, keep)?;
        let positive = Positive { score: self.positive, correction: self.positive_correction, shift };
        let mut outcome = loss.finish(positive, sums.terms, sums.slopes, sums.count);
        let spread = self.spread(loss, shift, sums.terms, &mut outcome);
        Some((outcome, spread))
    }

    /// The sums over the negatives, each compared with `shift`; `keep` is given their slopes.
    #[inline(always)]
    fn sums<L: Listwise>(&self, loss: L, shift: f32, mut keep: impl FnMut(usize, [f32; LANES])) -> Option<Sums> {
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
        let sums = Sums { terms: sum(terms), slopes: sum(slopes), count: sum(counts) };
        (sums.count > 0.0).then_some(sums)
    }

    /// How entropy changes the slopes.
    #[inline(always)]
    fn spread<L: Listwise>(&self, loss: L, shift: f32, terms: f32, outcome: &mut Outcome) -> Spread {
        let Some(entropy) = loss.entropy() else { return Spread::default() };
        let mut log_terms = [0f32; LANES];
        for first in (0..self.negatives.len()).step_by(LANES) {
            let Part { scores, corrections, weights } = self.part(first);
            for l in 0..LANES {
                let term = loss.negative(scores[l], corrections[l], shift).0;
                log_terms[l] += if weights[l] > 0.0 { weights[l] * Entropy::log_term(term) } else { 0.0 };
            }
        }
        entropy.spread(terms, sum(log_terms), outcome)
    }

    /// The gradient of the negatives, whose slopes `gradient` holds.
    #[inline(always)]
    fn finish<L: Listwise>(&self, loss: L, (scale, spread): (f32, Spread), gradient: &mut [f32]) {
        for first in (0..gradient.len()).step_by(LANES) {
            let weights = self.part(first).weights;
            for (g, weight) in gradient[first..].iter_mut().zip(weights) {
                // With entropy slopes are terms.
                let slope = if loss.entropy().is_some() { spread.slope(*g) } else { *g };
                // A negative that does not count may score so high that its slope is infinite.
                *g = if weight > 0.0 { scale * weight * slope } else { 0.0 };
            }
        }
    }
}

/// Sums over the negatives of a list.
struct Sums {
    terms: f32,
    slopes: f32,
    count: f32,
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
        list.finish(loss, (outcome.scale, spread), gradient);
    }
}

/// The gradient of the lists of positives that share all negatives, of weights `weights`; `scratch` is as long as those.
/// O(positives + negatives) where terms are [separate](Listwise::SEPARATE), else O(positives × negatives).
#[inline(always)]
pub(super) fn shared_gradient<L: Listwise>(
    loss: L,
    positives: &[f32],
    (negatives, weights): (&[f32], &[f32]),
    positive_gradient: &mut [f32],
    negative_gradient: &mut [f32],
    scratch: &mut [f32],
) {
    negative_gradient.fill(0.0);
    let lists = OfLists { weights, ..OfLists::default() };
    if !L::SEPARATE {
        for (positive, pg) in positives.chunks(1).zip(positive_gradient.chunks_mut(1)) {
            gradient(loss, positive, negatives, lists, pg, scratch);
            for (sum, slope) in negative_gradient.iter_mut().zip(&*scratch) {
                *sum += slope;
            }
        }
        return;
    }
    let list = List { positive: f32::MIN, positive_correction: 0.0, negatives, weights, offsets: &[] };
    let shift = loss.shift(list.positive, if L::NEEDS_MAX { list.max() } else { 0.0 });
    let sums = list.sums(loss, shift, |first, slopes| {
        for (kept, slope) in negative_gradient[first..].iter_mut().zip(slopes) {
            *kept = slope;
        }
    });
    let Some(Sums { terms, slopes, count }) = sums else {
        positive_gradient.fill(0.0);
        return negative_gradient.fill(0.0);
    };
    let mut scale = 0.0;
    for (positive, pg) in positives.iter().zip(positive_gradient) {
        let outcome = loss.finish(Positive { score: *positive, correction: 0.0, shift }, terms, slopes, count);
        *pg = outcome.positive;
        scale += outcome.scale;
    }
    // Entropy is that of the negatives, once for each positive: as if all had the mean of the scales.
    let mut mean = Outcome { loss: 0.0, positive: 0.0, scale: scale / positives.len() as f32 };
    let spread = list.spread(loss, shift, terms, &mut mean);
    list.finish(loss, (scale, spread), negative_gradient);
}

/// The summed loss of all lists.
pub(super) fn value<L: Listwise>(loss: L, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) -> f32 {
    let list = |k| List::new(positives, negatives, lists, k).outcome(loss, |_, _| ());
    (0..positives.len()).filter_map(list).map(|(outcome, _)| outcome.loss).sum()
}
