//! Norms of gradients and of updates, of a few positives of a batch: read before the update, and the users' rows once more
//! after it.

use super::live::Live;
use crate::loss::{AnyLoss, Loss, OfLists};
use crate::model::{Adjust, Similarity};
use crate::negatives::{Batch, Scores, SharedBlock};

/// Positives of a batch that are looked at.
const POSITIVES: usize = 4;

/// Finds gradients from scores, as the kernels do: with weights and confidence, without L2, dropout and clipping.
pub(super) struct Probe {
    loss: AnyLoss,
}

/// Users whose rows are about to be trained, and the norms of their gradients, summed.
#[derive(Default)]
pub(super) struct Before {
    users: Vec<(u32, Vec<f32>)>,
    gradient: f64,
}

/// Sums over what was looked at: norms of gradients, of what updates changed in rows, and of the rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Norms {
    pub(super) gradient: f64,
    pub(super) update: f64,
    pub(super) row: f64,
    pub(super) count: u64,
}

impl Norms {
    pub(super) fn add(&mut self, other: &Self) {
        self.gradient += other.gradient;
        self.update += other.update;
        self.row += other.row;
        self.count += other.count;
    }
}

impl Probe {
    pub(super) fn new(loss: AnyLoss) -> Self {
        Self { loss }
    }

    /// Looks at positives of `batch`, spread over it, each with its `each` negatives.
    pub(super) fn look(&self, live: &Live<'_>, batch: &Batch, each: usize) -> Before {
        let mut before = Before::default();
        let adjust = Adjust {
            positive_weights: &batch.confidence,
            negative_weights: &batch.weights,
            positive_offsets: &batch.positive_offsets,
            negative_offsets: &batch.negative_offsets,
        };
        let step = batch.positives.len().div_ceil(POSITIVES).max(1);
        for k in (0..batch.positives.len()).step_by(step) {
            let mut items = vec![batch.positives[k]];
            items.extend_from_slice(&batch.negatives[k * each..(k + 1) * each]);
            self.look_at(live, batch.users[batch.run_of(k)], &items, adjust.group(k, 1, each), &mut before);
        }
        before
    }

    /// Looks at one positive of `block`, with the negatives that are its user's.
    pub(super) fn look_at_shared(&self, live: &Live<'_>, block: &SharedBlock) -> Before {
        let mut before = Before::default();
        // Any will do: positives come in random order.
        let (Some(user), Some(item)) = (block.user_of.first(), block.item_of.first()) else { return before };
        let taken = |slot: u32| block.masked.binary_search(&(0, slot)).is_ok();
        let slots: Vec<usize> = (0..block.negatives as u32).filter(|slot| !taken(*slot)).map(|s| s as usize).collect();
        let all = || [*item as usize].into_iter().chain(slots.iter().copied());
        let items: Vec<u32> = all().map(|slot| block.items[slot]).collect();
        let offsets: Vec<f32> = match block.corrections.is_empty() {
            true => Vec::new(),
            false => all().map(|slot| -block.corrections[slot]).collect(),
        };
        let (own, others) = offsets.split_at(offsets.len().min(1));
        let weight = block.confidence.get(..1).unwrap_or_default();
        let adjust =
            Adjust { positive_weights: weight, positive_offsets: own, negative_offsets: others, ..Adjust::default() };
        if !slots.is_empty() {
            self.look_at(live, block.users[*user as usize], &items, adjust, &mut before);
        }
        before
    }

    /// Looks at one positive, the first of `items`, of `user`.
    fn look_at(&self, live: &Live<'_>, user: u32, items: &[u32], adjust: Adjust<'_>, before: &mut Before) {
        let width = live.width();
        let mut row = vec![0.0; width];
        live.user_row(user, &mut row);
        let mut scores = vec![0.0; items.len()];
        live.of_user(user, items, &mut scores);
        let mut shifted = scores.clone();
        let lists = self.loss.terms() == crate::loss::Terms::Lists;
        let given = if lists { &*scores } else { adjust.shift(&scores, &mut shifted, 1) };
        let of_lists = if lists { adjust.of_lists() } else { OfLists::default() };
        let mut gradient = vec![0.0; items.len()];
        let (positive, negatives) = gradient.split_at_mut(1);
        self.loss.gradient(&given[..1], &given[1..], of_lists, positive, negatives);
        adjust.weigh(self.loss.terms(), positive, negatives);
        // ∂s/∂u is the item's row x for dot products, (x̂ − s û) / |u| for cosines.
        let norm = norm_of(&row).max(1e-12);
        let cosine = live.similarity == Similarity::Cosine;
        let mut by_row = vec![0f64; width];
        let mut item_row = vec![0.0; width];
        for ((item, score), by_score) in items.iter().zip(&scores).zip(&gradient) {
            live.item_row(*item, &mut item_row);
            for ((sum, x), u) in by_row.iter_mut().zip(&item_row).zip(&row) {
                let slope = match cosine {
                    true => (f64::from(*x) - f64::from(*score) * f64::from(*u) / norm) / norm,
                    false => f64::from(*x),
                };
                *sum += f64::from(*by_score) * slope;
            }
        }
        if let Some(fixed) = live.tables.users.fixed() {
            // Beside an item's bias a user's row has a one, which is not trained.
            by_row[fixed] = 0.0;
        }
        before.gradient += by_row.iter().map(|g| g * g).sum::<f64>().sqrt();
        before.users.push((user, row));
    }
}

impl Before {
    /// Looks at the users again, after the update.
    pub(super) fn after(self, live: &Live<'_>) -> Norms {
        let mut norms = Norms { gradient: self.gradient, count: self.users.len() as u64, ..Norms::default() };
        for (user, mut row) in self.users {
            norms.row += norm_of(&row);
            let mut now = vec![0.0; row.len()];
            live.user_row(user, &mut now);
            row.iter_mut().zip(&now).for_each(|(then, now)| *then -= now);
            norms.update += norm_of(&row);
        }
        norms
    }
}

fn norm_of(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::TrainConfig;
    use super::super::objective::any_loss;
    use super::*;
    use crate::loss::LossKind;
    use crate::model::{InstructionSet, Optimizer, Precision, Tables};

    /// The norm of the gradient by differences of the loss, moving the user's factors one by one.
    fn by_differences(tables: &mut Tables, probe: &Probe, similarity: Similarity, user: u32, items: &[u32]) -> f64 {
        let set = InstructionSet::detect();
        let width = tables.width;
        let mut row = vec![0.0; width];
        Live { tables, set, similarity }.user_row(user, &mut row);
        let mut square = 0.0;
        let fixed = tables.users.fixed();
        for at in (0..width).filter(|at| Some(*at) != fixed) {
            let mut value = |step: f32| {
                let mut moved = row.clone();
                moved[at] += step;
                tables.users.fill(|i, out| {
                    if i == user as usize {
                        out[..width].copy_from_slice(&moved);
                    }
                });
                let mut scores = vec![0.0; items.len()];
                Live { tables, set, similarity }.of_user(user, items, &mut scores);
                f64::from(probe.loss.value(&scores[..1], &scores[1..], OfLists::default()))
            };
            let h = 1e-2;
            let slope = (value(h) - value(-h)) / f64::from(2.0 * h);
            square += slope * slope;
            value(0.0);
        }
        square.sqrt()
    }

    #[test]
    fn gradients_are_those_of_the_loss_and_updates_what_changed() {
        for (loss, similarity, biases) in [
            (LossKind::Bpr, Similarity::Dot, true),
            (LossKind::Logistic, Similarity::Dot, false),
            (LossKind::Bsl, Similarity::Cosine, false),
            (LossKind::Bpr, Similarity::Cosine, false),
        ] {
            let mut config = TrainConfig { similarity: Some(similarity), ..TrainConfig::default() };
            config.loss.kind = loss;
            let probe = Probe::new(any_loss(&config));
            let kept = (Optimizer::Sgd, Precision::F32);
            let mut tables = Tables::new(1, 5, 6, biases, kept, [None, None]).unwrap();
            let number = |i: usize, j: usize| ((i * 7 + j * 3) % 11) as f32 / 11.0 - 0.4;
            tables.users.fill(|i, row| row.iter_mut().take(6).enumerate().for_each(|(j, x)| *x = number(i + 1, j)));
            tables.items.fill(|i, row| row.iter_mut().take(6).enumerate().for_each(|(j, x)| *x = number(i + 3, j)));
            let items = [2, 0, 1, 4];
            let batch = Batch {
                users: vec![0],
                ends: vec![1],
                positives: vec![2],
                negatives: vec![0, 1, 4],
                ..Batch::default()
            };
            let live = Live { tables: &tables, set: InstructionSet::detect(), similarity };
            let before = probe.look(&live, &batch, 3);
            let gradient = before.gradient;
            let mut then = before.users[0].1.clone();
            let norms = before.after(&live);
            assert_eq!((norms.count, norms.update), (1, 0.0));
            let expected = by_differences(&mut tables, &probe, similarity, 0, &items);
            assert!((gradient - expected).abs() < 2e-2 * expected, "{loss:?}: {gradient} {expected}");
            then[0] += 3.0;
            let live = Live { tables: &tables, set: InstructionSet::detect(), similarity };
            let moved = Before { users: vec![(0, then)], gradient: 0.0 }.after(&live);
            assert!((moved.update - 3.0).abs() < 1e-5);
        }
    }
}
