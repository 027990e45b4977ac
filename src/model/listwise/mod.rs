//! Training with listwise losses: a block of positives shares one set of negatives, so that scores and gradients are
//! small matrix products.
//!
//! With U the rows of the positives' users, V those of the shared negatives: S = V·Uᵀ; the loss makes slopes W of S in
//! place, and a scale for each positive from their sums ([`Listwise`]); then ∂L/∂U = scale ∘ (Wᵀ·V) + g⁺ ∘ I and
//! ∂L/∂V = W·(scale ∘ U): the slopes are multiplied as they are, and S is never gone through a second time. Positives
//! are taken in strips of 64, for which S stays in the cache of a core.
//!
//! Rows are copied from the shared tables into private memory before, and updated behind, each row of a block once: the
//! gradients of a row that comes several times are summed. For cosines all rows lie on the unit sphere, and updates
//! keep them there; see [`rows`].

mod product;
mod rows;
#[cfg(test)]
mod tests;
mod tile;
mod workspace;

use super::hogwild::{Optimizer, Tables};
#[cfg(target_arch = "x86_64")]
use super::kernel::{Avx2, Avx512};
use super::kernel::{InstructionSet, Lanes, Portable};
use super::rule::{Adagrad, Adam, Rule, Sgd};
use super::{LossSample, Similarity, Update};
use crate::loss::{Listwise, MASKED, Positive};
use product::{Strided, product};
use rows::{Step, gather, update};
#[cfg(target_arch = "x86_64")]
use tile::{Tile256, Tile512};
use tile::{Tile, TilePortable};
use workspace::STRIP;
pub(crate) use workspace::Workspace;

/// Positives that share negatives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// The users that come in the block, each once.
    pub(crate) users: &'a [u32],
    /// The items that come in the block, each once: the shared negatives first.
    pub(crate) items: &'a [u32],
    /// How many of the items are negatives.
    pub(crate) negatives: usize,
    /// The user of each positive, as a position in `users`.
    pub(crate) user_of: &'a [u32],
    /// Its item, as a position in `items`.
    pub(crate) item_of: &'a [u32],
    /// (positive, negative) pairs that must not be looked at, ascending by positive.
    pub(crate) masked: &'a [(u32, u32)],
    /// The log-Q correction of each item, or nothing where all are drawn alike.
    pub(crate) corrections: &'a [f32],
}

/// Trains on `block` with the kernels of `set`, which the machine must have.
pub(crate) fn train_block<L: Listwise>(
    set: InstructionSet,
    tables: &Tables,
    block: Block<'_>,
    loss: L,
    update: Update,
    workspace: &mut Workspace,
) -> LossSample {
    assert!(set.is_available());
    let (positives, items) = (block.user_of.len(), block.items.len());
    assert!(block.negatives > 0 && block.negatives <= items && block.item_of.len() == positives);
    assert!(block.corrections.is_empty() || block.corrections.len() == items);
    assert!(block.user_of.iter().all(|u| (*u as usize) < block.users.len()) && block.users.len() <= positives);
    assert!(block.item_of.iter().all(|i| (*i as usize) < items));
    assert!(block.masked.iter().all(|m| (m.0 as usize) < positives && (m.1 as usize) < block.negatives));
    workspace.prepare(positives, block.negatives, items, tables.users.factors.stride());
    match tables.optimizer() {
        Optimizer::Sgd => with_rule(set, tables, block, loss, update, Sgd, workspace),
        Optimizer::Adagrad { epsilon } => with_rule(set, tables, block, loss, update, Adagrad { epsilon }, workspace),
        Optimizer::Adam { beta1, beta2, epsilon } => {
            with_rule(set, tables, block, loss, update, Adam { beta1, beta2, epsilon }, workspace)
        }
    }
}

fn with_rule<L: Listwise, R: Rule>(
    set: InstructionSet,
    tables: &Tables,
    block: Block<'_>,
    loss: L,
    update: Update,
    rule: R,
    workspace: &mut Workspace,
) -> LossSample {
    // SAFETY: `train_block` made sure that the machine has the instruction set.
    unsafe {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512(tables, block, loss, update, rule, workspace),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2(tables, block, loss, update, rule, workspace),
            _ => step::<Portable, TilePortable, L, R>(tables, block, loss, update, rule, workspace),
        }
    }
}

/// # Safety
/// The machine has AVX-512F, AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512<L: Listwise, R: Rule>(
    t: &Tables,
    b: Block<'_>,
    l: L,
    u: Update,
    r: R,
    w: &mut Workspace,
) -> LossSample {
    // SAFETY: passed on from the caller.
    unsafe { step::<Avx512, Tile512, L, R>(t, b, l, u, r, w) }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<L: Listwise, R: Rule>(t: &Tables, b: Block<'_>, l: L, u: Update, r: R, w: &mut Workspace) -> LossSample {
    // SAFETY: passed on from the caller.
    unsafe { step::<Avx2, Tile256, L, R>(t, b, l, u, r, w) }
}

/// Scores, gradients and update of one block.
///
/// # Safety
/// The machine has the instruction sets of `V` and `T`; `workspace` is prepared for the block.
#[inline(always)]
unsafe fn step<V: Lanes, T: Tile, L: Listwise, R: Rule>(
    tables: &Tables,
    block: Block<'_>,
    loss: L,
    how: Update,
    rule: R,
    workspace: &mut Workspace,
) -> LossSample {
    let stride = tables.users.factors.stride();
    let positives = block.user_of.len();
    let Workspace { users, user_sums, items, item_gradients, user_counts, item_counts, .. } =
        workspace;
    // SAFETY: passed on from the caller.
    unsafe {
        gather::<V>(&tables.users, block.users, user_sums);
        gather::<V>(&tables.items, block.items, items);
    }
    for (p, &user) in block.user_of.iter().enumerate() {
        copy(&user_sums[user as usize * stride..][..stride], &mut users[p * stride..][..stride]);
    }
    zero(&mut users[positives * stride..positives.next_multiple_of(STRIP) * stride]);
    zero(&mut item_gradients[block.negatives * stride..block.items.len() * stride]);
    user_counts.clear();
    user_counts.resize(block.users.len(), 0.0);
    item_counts.clear();
    item_counts.resize(block.negatives, 1.0);
    item_counts.resize(block.items.len(), 0.0);

    let mut sample = LossSample::default();
    let mut masked = block.masked;
    for first in (0..positives).step_by(STRIP) {
        let end = (first + STRIP).min(positives);
        let (of_strip, rest) = masked.split_at(masked.partition_point(|m| (m.0 as usize) < end));
        masked = rest;
        // SAFETY: passed on from the caller.
        sample.sum += unsafe { strip::<T, L>(block, first, end, of_strip, loss, stride, workspace) };
    }
    sample.terms = positives as u64;

    let Workspace { user_sums, user_gradients, item_gradients, user_counts, item_counts, row, .. } = workspace;
    zero(&mut user_sums[..block.users.len() * stride]);
    for (p, (&user, &item)) in block.user_of.iter().zip(block.item_of).enumerate() {
        let (user, item) = (user as usize, item as usize);
        user_counts[user] += 1.0;
        item_counts[item] += 1.0;
        add(&user_gradients[p * stride..][..stride], 1.0, &mut user_sums[user * stride..][..stride]);
    }
    let step = Step { learning_rate: how.learning_rate, l2: how.l2, width: tables.width };
    // SAFETY: passed on from the caller; buffers begin on cache lines.
    unsafe {
        if how.similarity == Similarity::Cosine {
            update::<V, R, true>(&tables.users, block.users, user_sums, user_counts, (step, rule), row);
            update::<V, R, true>(&tables.items, block.items, item_gradients, item_counts, (step, rule), row);
        } else {
            update::<V, R, false>(&tables.users, block.users, user_sums, user_counts, (step, rule), row);
            update::<V, R, false>(&tables.items, block.items, item_gradients, item_counts, (step, rule), row);
        }
    }
    sample
}

// Plain loops, always inlined: library calls and closures would be compiled without the instruction set.

#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

#[inline(always)]
fn zero(values: &mut [f32]) {
    for value in values {
        *value = 0.0;
    }
}

/// `to += from × factor`.
#[inline(always)]
fn add(from: &[f32], factor: f32, to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from * factor;
    }
}

/// The gradients of positives `first..end`, at most [`STRIP`] of them; returns their summed loss.
///
/// # Safety
/// As for [`step`].
#[inline(always)]
unsafe fn strip<T: Tile, L: Listwise>(
    block: Block<'_>,
    first: usize,
    end: usize,
    masked: &[(u32, u32)],
    loss: L,
    stride: usize,
    workspace: &mut Workspace,
) -> f64 {
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
        product::<T, false>((negatives, stride, STRIP / 16), a, b, (scores.as_mut_ptr(), STRIP));
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

    let (mut sum, mut scales, mut gradients) = (0f64, [0f32; STRIP], [0f32; STRIP]);
    for p in 0..n {
        if counts[p] < 1.0 {
            continue;
        }
        let correction =
            if block.corrections.is_empty() { 0.0 } else { block.corrections[block.item_of[first + p] as usize] };
        let positive = Positive { score: positive_scores[p], correction, shift: shifts[p] };
        let outcome = loss.finish(positive, terms[p], slopes[p], counts[p]);
        sum += f64::from(outcome.loss);
        scales[p] = outcome.scale;
        gradients[p] = outcome.positive;
    }

    // SAFETY: as above.
    unsafe {
        let a = Strided { at: scores.as_ptr(), row: 1, column: STRIP };
        let c = (user_gradients.as_mut_ptr().add(first * stride), stride);
        product::<T, false>((n, negatives, tiles), a, (items.as_ptr(), stride), c);
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
        if first == 0 {
            product::<T, false>((negatives, STRIP, tiles), a, b, c);
        } else {
            product::<T, true>((negatives, STRIP, tiles), a, b, c);
        }
    }
    for p in 0..n {
        let item = block.item_of[first + p] as usize * stride;
        add(&own[p * stride..][..stride], gradients[p], &mut item_gradients[item..item + stride]);
    }
    sum
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}
