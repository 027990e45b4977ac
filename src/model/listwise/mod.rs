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
//! keep them there; see [`rows`]. With dropout the products see rows of which some factors are zero: a fresh choice of them
//! for every positive's user, and for every item of the block; see [`dropout`].

mod dropout;
mod kernels;
mod limit;
mod product;
mod rows;
mod strip;
#[cfg(test)]
mod tests;
mod tile;
mod workspace;

use super::hogwild::{Optimizer, Tables};
use super::kernel::InstructionSet;
use super::regularization::{Dropout, Regularization};
use super::rule::{Adagrad, Adam, Sgd};
use super::{LossSample, Similarity, Update};
use crate::loss::Listwise;
use dropout::Dropped;
use kernels::{Kernels, KernelsPortable};
#[cfg(target_arch = "x86_64")]
use kernels::{Kernels256, Kernels512};
pub(crate) use limit::SquareProduct;
use rows::Step;
use strip::{Strip, add};
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
    /// What each positive's loss is multiplied by, or nothing where all count alike. Reported losses are not weighted,
    /// and rows are regularized whatever the weight.
    pub(crate) weights: &'a [f32],
    /// What every loss and gradient is multiplied by.
    pub(crate) scale: f32,
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
    assert!(block.weights.is_empty() || block.weights.len() == positives);
    assert!(block.user_of.iter().all(|u| (*u as usize) < block.users.len()) && block.users.len() <= positives);
    assert!(block.item_of.iter().all(|i| (*i as usize) < items));
    assert!(block.masked.iter().all(|m| (m.0 as usize) < positives && (m.1 as usize) < block.negatives));
    let stride = tables.users.factors.stride();
    workspace.prepare(positives, block.negatives, items, stride);
    let Regularization { user_dropout, item_dropout, .. } = update.regularization;
    let masks = |rows: usize, dropout: Dropout| if dropout.is_on() { rows } else { 0 };
    workspace.prepare_masks(masks(positives, user_dropout), masks(items, item_dropout), stride);
    // SAFETY: the machine has the instruction set, and the positions were looked at.
    unsafe {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => step::<Kernels512, L>(tables, block, loss, update, workspace),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => step::<Kernels256, L>(tables, block, loss, update, workspace),
            _ => step::<KernelsPortable, L>(tables, block, loss, update, workspace),
        }
    }
}

/// Scores, gradients and update of one block.
///
/// # Safety
/// The machine has the instruction set of `K`, the positions in `block` are in range, and `workspace` is prepared for it.
unsafe fn step<K: Kernels, L: Listwise>(
    tables: &Tables,
    block: Block<'_>,
    loss: L,
    how: Update,
    workspace: &mut Workspace,
) -> LossSample {
    let stride = tables.users.factors.stride();
    let positives = block.user_of.len();
    let Workspace { users, user_sums, items, item_gradients, user_counts, item_counts, .. } = workspace;
    let (user_masks, item_masks) = (&mut workspace.user_masks, &mut workspace.item_masks);
    // SAFETY: passed on from the caller.
    unsafe {
        K::gather(&tables.users, block.users, user_sums);
        K::gather(&tables.items, block.items, items);
    }
    for (p, &user) in block.user_of.iter().enumerate() {
        users[p * stride..][..stride].copy_from_slice(&user_sums[user as usize * stride..][..stride]);
    }
    users[positives * stride..positives.next_multiple_of(STRIP) * stride].fill(0.0);
    let Regularization { user_dropout, item_dropout, .. } = how.regularization;
    let unit = how.similarity == Similarity::Cosine;
    let mut seed = how.seed;
    if user_dropout.is_on() {
        let mut dropped = Dropped { masks: user_masks, shape: (stride, tables.users.columns().1), unit };
        dropped.apply(user_dropout, &mut seed, &mut users[..positives * stride]);
    }
    if item_dropout.is_on() {
        let mut dropped = Dropped { masks: item_masks, shape: (stride, tables.items.columns().1), unit };
        dropped.apply(item_dropout, &mut seed, &mut items[..block.items.len() * stride]);
    }
    item_gradients[block.negatives * stride..block.items.len() * stride].fill(0.0);
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
        let strip = Strip { block, first, end, masked: of_strip, stride, workspace };
        // SAFETY: passed on from the caller.
        sample.sum += unsafe { K::strip(strip, loss) };
    }
    sample.terms = positives as u64;

    let Workspace { users, user_gradients, user_masks, items, item_gradients, item_masks, .. } = workspace;
    if user_dropout.is_on() {
        let dropped = Dropped { masks: user_masks, shape: (stride, tables.users.columns().1), unit };
        dropped.pass_back(&users[..positives * stride], user_gradients);
    }
    if item_dropout.is_on() {
        let dropped = Dropped { masks: item_masks, shape: (stride, tables.items.columns().1), unit };
        dropped.pass_back(&items[..block.items.len() * stride], item_gradients);
    }
    let Workspace { user_sums, user_gradients, item_gradients, user_counts, item_counts, row, .. } = workspace;
    user_sums[..block.users.len() * stride].fill(0.0);
    for (p, (&user, &item)) in block.user_of.iter().zip(block.item_of).enumerate() {
        let (user, item) = (user as usize, item as usize);
        user_counts[user] += 1.0;
        item_counts[item] += 1.0;
        add(&user_gradients[p * stride..][..stride], 1.0, &mut user_sums[user * stride..][..stride]);
    }
    let Update { learning_rate, l2, regularization, .. } = how;
    let step = Step { learning_rate, l2, regularization };
    let (users, items) = ((&**user_sums, &**user_counts), (&**item_gradients, &**item_counts));
    let sides = [(&tables.users, block.users, users), (&tables.items, block.items, items)];
    for (side, rows, sums) in sides {
        // SAFETY: passed on from the caller; buffers begin on cache lines.
        unsafe {
            match tables.optimizer() {
                Optimizer::Sgd => K::update(unit, side, rows, sums, (step, Sgd), row),
                Optimizer::Adagrad { epsilon } => K::update(unit, side, rows, sums, (step, Adagrad { epsilon }), row),
                Optimizer::Adam { beta1, beta2, epsilon } => {
                    K::update(unit, side, rows, sums, (step, Adam { beta1, beta2, epsilon }), row)
                }
            }
        }
    }
    sample
}
