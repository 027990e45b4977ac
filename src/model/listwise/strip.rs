//! Scores, slopes and gradients of a strip of positives.

use super::Block;
use super::kernels::Kernels;
use super::product::Strided;
use super::workspace::{STRIP, Workspace};
use crate::loss::{Entropy, Listwise, MASKED, Positive, Spread};

// Plain loops, always inlined: library calls and closures would be compiled without the instruction set.

/// Some positives of a block, at most [`STRIP`] of them.
pub(super) struct Strip<'a> {
    pub(super) block: Block<'a>,
    /// The first of them, and the one behind the last.
    pub(super) first: usize,
    pub(super) end: usize,
    /// Masked pairs of these positives.
    pub(super) masked: &'a [(u32, u32)],
    /// Floats of a row.
    pub(super) stride: usize,
    /// Prepared for the block, rows gathered.
    pub(super) workspace: &'a mut Workspace,
}

/// The gradients of a strip; returns its summed loss.
///
/// # Safety
/// The machine has the instruction set of `K`; the workspace is prepared for the block, and positions of the block and
/// of `masked` are in range.
#[inline(always)]
pub(super) unsafe fn strip<K: Kernels, L: Listwise>(of: Strip<'_>, loss: L) -> f64 {
    let Strip { block, first, end, masked, stride, workspace } = of;
    let Workspace { users, user_gradients, strip_users, items, item_gradients, scores, .. } = workspace;
    let (negatives, tiles) = (block.negatives, stride / 16);
    let n = end - first;
    let own = &users[first * stride..][..STRIP * stride];
    for (p, row) in own.chunks_exact(stride).enumerate() {
        for (d, value) in row.iter().enumerate() {
            strip_users[d * STRIP + p] = *value;
        }
    }
    // SAFETY: the buffers hold what `prepare` made room for; the caller vouches for the instruction set.
    unsafe {
        let a = Strided { at: items.as_ptr(), row: stride, column: 1 };
        let b = (strip_users.as_ptr(), STRIP);
        K::product(false, (negatives, stride, STRIP / 16), a, b, (scores.as_mut_ptr(), STRIP));
    }
    let scores = &mut scores[..negatives * STRIP];
    let mut counts = [negatives as f32; STRIP];
    for &(p, negative) in masked {
        let p = p as usize - first;
        scores[negative as usize * STRIP + p] = MASKED;
        counts[p] -= 1.0;
    }

    let mut positive_scores = [0f32; STRIP];
    for p in 0..n {
        let item = block.item_of[first + p] as usize;
        positive_scores[p] = dot(&own[p * stride..][..stride], &items[item * stride..][..stride]);
    }
    let mut shifts = [MASKED; STRIP];
    if L::NEEDS_MAX {
        for row in scores.chunks_exact(STRIP) {
            for (max, score) in shifts.iter_mut().zip(row) {
                *max = if *score > *max { *score } else { *max };
            }
        }
    }
    for (shift, positive) in shifts.iter_mut().zip(positive_scores) {
        *shift = loss.shift(positive, *shift);
    }
    let (mut terms, mut slopes) = ([0f32; STRIP], [0f32; STRIP]);
    for (j, row) in scores.chunks_exact_mut(STRIP).enumerate() {
        let correction = if block.corrections.is_empty() { 0.0 } else { block.corrections[j] };
        for p in 0..STRIP {
            let (term, slope) = loss.negative(row[p], correction, shifts[p]);
            terms[p] += term;
            slopes[p] += slope;
            row[p] = slope;
        }
    }

    let mut log_terms = [0f32; STRIP];
    if loss.entropy().is_some() {
        for row in scores.chunks_exact(STRIP) {
            for p in 0..STRIP {
                log_terms[p] += Entropy::log_term(row[p]);
            }
        }
    }

    let mut spreads = [Spread::default(); STRIP];
    let (mut sum, mut scales, mut gradients) = (0f64, [0f32; STRIP], [0f32; STRIP]);
    for p in 0..n {
        if counts[p] < 1.0 {
            continue;
        }
        let correction =
            if block.corrections.is_empty() { 0.0 } else { block.corrections[block.item_of[first + p] as usize] };
        let positive = Positive { score: positive_scores[p], correction, shift: shifts[p] };
        let mut outcome = loss.finish(positive, terms[p], slopes[p], counts[p]);
        if let Some(entropy) = loss.entropy() {
            spreads[p] = entropy.spread(terms[p], log_terms[p], &mut outcome);
        }
        sum += f64::from(block.scale * outcome.loss);
        let weight = block.scale * if block.weights.is_empty() { 1.0 } else { block.weights[first + p] };
        scales[p] = outcome.scale * weight;
        gradients[p] = outcome.positive * weight;
    }
    if loss.entropy().is_some() {
        for row in scores.chunks_exact_mut(STRIP) {
            for p in 0..STRIP {
                row[p] = spreads[p].slope(row[p]);
            }
        }
    }

    // SAFETY: as above.
    unsafe {
        let a = Strided { at: scores.as_ptr(), row: 1, column: STRIP };
        let c = (user_gradients.as_mut_ptr().add(first * stride), stride);
        K::product(false, (n, negatives, tiles), a, (items.as_ptr(), stride), c);
    }
    for p in 0..STRIP {
        let user = &own[p * stride..][..stride];
        let scaled = &mut strip_users[p * stride..][..stride];
        for (out, value) in scaled.iter_mut().zip(user) {
            *out = value * scales[p];
        }
        if p >= n {
            continue;
        }
        let item = block.item_of[first + p] as usize * stride;
        let gradient = &mut user_gradients[(first + p) * stride..][..stride];
        for (out, value) in gradient.iter_mut().zip(&items[item..item + stride]) {
            *out = *out * scales[p] + value * gradients[p];
        }
    }
    // SAFETY: as above.
    unsafe {
        let a = Strided { at: scores.as_ptr(), row: STRIP, column: 1 };
        let (b, c) = ((strip_users.as_ptr(), stride), (item_gradients.as_mut_ptr(), stride));
        K::product(first > 0, (negatives, STRIP, tiles), a, b, c);
    }
    for p in 0..n {
        let item = block.item_of[first + p] as usize * stride;
        add(&own[p * stride..][..stride], gradients[p], &mut item_gradients[item..item + stride]);
    }
    sum
}

#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

/// `to += from × factor`.
#[inline(always)]
pub(super) fn add(from: &[f32], factor: f32, to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from * factor;
    }
}
