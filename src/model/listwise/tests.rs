//! Every kernel, loss, similarity and optimizer against an oracle in f64, written from the formulas.

use super::*;
use crate::loss::{Bsl, Ccl, Entropy, Positive, Psl, Softmax, Tanh};
use crate::model::Precision;
use crate::model::hogwild::Side;
use proptest::prelude::*;

type Matrix = Vec<Vec<f64>>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Second moment (or sum), first moment and number of updates of a row.
type State = (f64, Vec<f64>, i32);

fn descend(row: &mut [f64], state: &mut State, mut gradient: Vec<f64>, how: Update, optimizer: Optimizer) {
    let unit = how.similarity == Similarity::Cosine;
    if unit {
        let along = dot(row, &gradient) / dot(row, row);
        gradient.iter_mut().zip(&*row).for_each(|(g, x)| *g -= along * x);
    }
    let Regularization { max_norm, clip_gradient, .. } = how.regularization;
    if let Some(most) = clip_gradient.map(f64::from).filter(|most| dot(&gradient, &gradient).sqrt() > *most) {
        let norm = dot(&gradient, &gradient).sqrt();
        gradient.iter_mut().for_each(|g| *g *= most / norm);
    }
    let mean = dot(&gradient, &gradient) / gradient.len() as f64;
    let mut rate = f64::from(how.learning_rate);
    match optimizer {
        Optimizer::Sgd => {}
        Optimizer::Adagrad { epsilon } => {
            state.0 += mean;
            rate /= (state.0 + f64::from(epsilon)).sqrt();
        }
        Optimizer::Adam { beta1, beta2, epsilon } => {
            let (b1, b2) = (f64::from(beta1), f64::from(beta2));
            state.2 += 1;
            state.0 = b2 * state.0 + (1.0 - b2) * mean;
            rate /= (1.0 - b1.powi(state.2)) * ((state.0 / (1.0 - b2.powi(state.2))).sqrt() + f64::from(epsilon));
            state.1.iter_mut().zip(&gradient).for_each(|(m, g)| *m = b1 * *m + (1.0 - b1) * g);
            gradient.clone_from(&state.1);
        }
    }
    row.iter_mut().zip(&gradient).for_each(|(x, g)| *x -= rate * g);
    let norm = dot(row, row).sqrt();
    if unit {
        row.iter_mut().for_each(|x| *x /= norm);
    } else if let Some(most) = max_norm.map(f64::from).filter(|most| norm > *most) {
        row.iter_mut().for_each(|x| *x *= most / norm);
    }
}

/// A row as the scores see it with dropout, and what its gradient is multiplied by on the way back.
fn dropped(row: &[f64], dropout: Dropout, seed: &mut u64, unit: bool) -> (Vec<f64>, Vec<f64>) {
    let mut drawn = vec![1f32; row.len().next_multiple_of(16)];
    if dropout.is_on() {
        dropout.draw(seed, row.len(), &mut drawn);
    }
    let mut mask: Vec<f64> = drawn[..row.len()].iter().map(|m| f64::from(*m)).collect();
    let seen: Vec<f64> = row.iter().zip(&mask).map(|(x, m)| x * m).collect();
    let norm = if unit && dropout.is_on() { dot(&seen, &seen).sqrt().max(1e-12) } else { 1.0 };
    mask.iter_mut().for_each(|m| *m /= norm);
    (seen.iter().map(|x| x / norm).collect(), mask)
}

/// The gradient by a row, given the one by what the scores see of it: on the sphere only its tangent counts.
fn back(gradient: &[f64], seen: &[f64], mask: &[f64], tangent: bool) -> Vec<f64> {
    let along = if tangent { dot(gradient, seen) } else { 0.0 };
    gradient.iter().zip(seen).zip(mask).map(|((g, s), m)| m * (g - along * s)).collect()
}

struct Oracle {
    users: Matrix,
    items: Matrix,
    user_states: Vec<State>,
    item_states: Vec<State>,
}

impl Oracle {
    /// One block; returns the summed loss.
    fn block<L: Listwise>(&mut self, block: Block<'_>, loss: L, how: Update, optimizer: Optimizer) -> f64 {
        let width = self.users[0].len();
        let mut user_gradients = vec![vec![0.0; width]; block.users.len()];
        let mut item_gradients = vec![vec![0.0; width]; block.items.len()];
        let l2 = f64::from(how.l2);
        let mut sum = 0.0;
        let add = |to: &mut Vec<f64>, from: &[f64], factor: f64| {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
        };
        for (gradient, item) in item_gradients.iter_mut().zip(block.items).take(block.negatives) {
            add(gradient, &self.items[*item as usize], l2);
        }
        let unit = how.similarity == Similarity::Cosine;
        let Regularization { user_dropout, item_dropout, .. } = how.regularization;
        // Masks are drawn for all positives' users, and then for all items.
        let mut seed = how.seed;
        let mut see = |row: &Vec<f64>, dropout| dropped(row, dropout, &mut seed, unit);
        let users: Vec<_> = block.user_of.iter().map(|u| block.users[*u as usize] as usize).collect();
        let users: Vec<_> = users.into_iter().map(|u| see(&self.users[u], user_dropout)).collect();
        let items: Vec<_> = block.items.iter().map(|i| see(&self.items[*i as usize], item_dropout)).collect();
        let mut by_seen = vec![vec![0.0; width]; block.items.len()];
        for (p, (&u, &i)) in block.user_of.iter().zip(block.item_of).enumerate() {
            let user = &users[p].0;
            let row = |slot: usize| &items[slot].0;
            let correction = |slot: usize| block.corrections.get(slot).copied().unwrap_or(0.0);
            let of_list: Vec<usize> =
                (0..block.negatives).filter(|j| !block.masked.contains(&(p as u32, *j as u32))).collect();
            add(&mut user_gradients[u as usize], &self.users[block.users[u as usize] as usize], l2);
            let mut by_user = vec![0.0; width];
            add(&mut item_gradients[i as usize], &self.items[block.items[i as usize] as usize], l2);
            if of_list.is_empty() {
                continue;
            }
            let positive = dot(user, row(i as usize)) as f32;
            let scores: Vec<f32> = of_list.iter().map(|j| dot(user, row(*j)) as f32).collect();
            let shift = loss.shift(positive, scores.iter().copied().fold(f32::MIN, f32::max));
            let each: Vec<_> =
                of_list.iter().zip(&scores).map(|(j, s)| loss.negative(*s, correction(*j), shift)).collect();
            let (terms, slopes) = each.iter().fold((0.0, 0.0), |s, e| (s.0 + e.0, s.1 + e.1));
            let positive = Positive { score: positive, correction: correction(i as usize), shift };
            let mut outcome = loss.finish(positive, terms, slopes, of_list.len() as f32);
            // Minus λ times the entropy of the softmax over the negatives, from its definition.
            let shares: Vec<f64> = each.iter().map(|e| f64::from(e.0 / terms)).collect();
            let entropy: f64 = shares.iter().map(|p| -p * p.ln()).sum();
            let of_entropy: Vec<f64> = match loss.entropy() {
                Some(Entropy { weight, inverse_temperature }) => {
                    outcome.loss -= weight * entropy as f32;
                    let factor = f64::from(weight * inverse_temperature);
                    shares.iter().map(|p| factor * p * (p.ln() + entropy)).collect()
                }
                None => vec![0.0; each.len()],
            };
            sum += f64::from(block.scale * outcome.loss);
            let weight = f64::from(block.scale * block.weights.get(p).copied().unwrap_or(1.0));
            let by_positive = weight * f64::from(outcome.positive);
            add(&mut by_user, row(i as usize), by_positive);
            add(&mut by_seen[i as usize], user, by_positive);
            for ((j, e), of_entropy) in of_list.iter().zip(&each).zip(of_entropy) {
                let g = weight * (f64::from(outcome.scale * e.1) + of_entropy);
                add(&mut by_user, row(*j), g);
                add(&mut by_seen[*j], user, g);
            }
            let (seen, mask) = &users[p];
            add(&mut user_gradients[u as usize], &back(&by_user, seen, mask, unit && user_dropout.is_on()), 1.0);
        }
        for ((gradient, by_seen), (seen, mask)) in item_gradients.iter_mut().zip(&by_seen).zip(&items) {
            add(gradient, &back(by_seen, seen, mask, unit && item_dropout.is_on()), 1.0);
        }
        for (u, gradient) in block.users.iter().zip(user_gradients) {
            descend(&mut self.users[*u as usize], &mut self.user_states[*u as usize], gradient, how, optimizer);
        }
        for (i, gradient) in block.items.iter().zip(item_gradients) {
            descend(&mut self.items[*i as usize], &mut self.item_states[*i as usize], gradient, how, optimizer);
        }
        sum
    }
}

/// Fills a side with rows that hardly repeat, of unit length for cosines, and returns them.
fn rows(side: &mut Side, width: usize, seed: f64, unit: bool) -> Matrix {
    let stride = side.factors.stride();
    let each = side.factors.as_mut_slice().chunks_exact_mut(stride).enumerate().map(|(r, row)| {
        let mut values: Vec<f64> =
            (0..width).map(|d| ((seed + 1.7 * r as f64 + 2.9 * d as f64) * 12.9898).sin() * 0.5).collect();
        if unit {
            let norm = dot(&values, &values).sqrt();
            values.iter_mut().for_each(|x| *x /= norm);
        }
        row.iter_mut().zip(&values).for_each(|(x, v)| *x = *v as f32);
        values
    });
    each.collect()
}

const USERS: usize = 40;
const ITEMS: usize = 60;

fn check<L: Listwise>(
    loss: L,
    how: Update,
    optimizer: Optimizer,
    shape: (usize, usize, usize),
    (corrected, weighted): (bool, bool),
) {
    let (width, positives, negatives) = shape;
    let unit = how.similarity == Similarity::Cosine;
    // Every third item from some number on is a negative; positives hit negatives, other positives and the rest.
    let mut items: Vec<u32> = (0..negatives as u32).map(|j| (j * 7 + 3) % ITEMS as u32).collect();
    let (mut users, mut user_of, mut item_of, mut masked) = (vec![], vec![], vec![], vec![]);
    for p in 0..positives {
        let (user, item) = ((p * p * 5 % USERS) as u32, (p * 11 % ITEMS) as u32);
        let slot = |list: &mut Vec<u32>, key: u32| {
            list.iter().position(|k| *k == key).unwrap_or_else(|| {
                list.push(key);
                list.len() - 1
            }) as u32
        };
        user_of.push(slot(&mut users, user));
        item_of.push(slot(&mut items, item));
        for j in 0..negatives {
            // One positive in nine is left without any negative.
            if (p + j) % 5 == 0 || p % 9 == 4 {
                masked.push((p as u32, j as u32));
            }
        }
    }
    let corrections: Vec<f32> =
        if corrected { (0..items.len()).map(|i| (i % 4) as f32 * 0.3).collect() } else { Vec::new() };
    let weights: Vec<f32> = if weighted { (0..positives).map(|p| (p % 3) as f32 * 0.7).collect() } else { Vec::new() };
    let block = Block {
        users: &users,
        items: &items,
        negatives,
        user_of: &user_of,
        item_of: &item_of,
        masked: &masked,
        corrections: &corrections,
        weights: &weights,
        scale: if weighted { 1.5 } else { 1.0 },
    };
    for set in InstructionSet::available() {
        let mut tables = Tables::new(USERS, ITEMS, width, false, (optimizer, Precision::F32), [None, None]).unwrap();
        let state = || (0.0, vec![0.0; width], 0);
        let mut oracle = Oracle {
            users: rows(&mut tables.users, width, 0.3, unit),
            items: rows(&mut tables.items, width, 7.1, unit),
            user_states: vec![state(); USERS],
            item_states: vec![state(); ITEMS],
        };
        let mut workspace = Workspace::new();
        for _ in 0..2 {
            let sample = train_block(set, &tables, block, loss, how, &mut workspace);
            let expected = oracle.block(block, loss, how, optimizer);
            assert!((sample.sum - expected).abs() < 1e-3 * (1.0 + expected.abs()), "{} {expected}", sample.sum);
            assert_eq!(sample.terms, positives as u64);
        }
        for (side, expected) in [(&mut tables.users, &oracle.users), (&mut tables.items, &oracle.items)] {
            let stride = side.factors.stride();
            for (row, expected) in side.factors.as_mut_slice().chunks_exact(stride).zip(expected) {
                for (x, e) in row.iter().zip(expected) {
                    let error = (f64::from(*x) - e).abs();
                    assert!(error < 5e-4 * (1.0 + e.abs()), "{}, {optimizer:?}, {how:?}: {x} {e}", set.name());
                }
                assert!(row[width..].iter().all(|x| *x == 0.0), "padding stays zero");
            }
        }
    }
}

/// Every part of it by itself, all together, and none. Norms are such that some rows exceed them and others do not.
fn regularization() -> impl Strategy<Value = Regularization> {
    let dropout = || prop_oneof![Just(0.0f32), Just(0.2), Just(0.5)].prop_map(Dropout::new);
    let norm = |low, high| prop_oneof![Just(None), (low..high).prop_map(Some)];
    (dropout(), dropout(), norm(0.5f32, 3.0), norm(0.05f32, 5.0)).prop_map(
        |(user_dropout, item_dropout, max_norm, clip_gradient)| Regularization {
            user_dropout,
            item_dropout,
            max_norm,
            clip_gradient,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_kernel_equals_the_oracle(
        width in prop_oneof![Just(5usize), Just(20), Just(64), Just(80)],
        positives in 1usize..140, negatives in 1usize..45, t in 1f32..8.0,
        cosine: bool, rule in 0..3, (corrected, weighted, spread) in any::<(bool, bool, bool)>(), choice in 0..4,
        regularization in regularization(),
    ) {
        let optimizer = match rule {
            0 => Optimizer::Sgd,
            1 => Optimizer::Adagrad { epsilon: 1e-2 },
            // A large ε: where a gradient all but vanishes, dividing by its root would magnify how floats round.
            _ => Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 0.1 },
        };
        let (similarity, l2) = if cosine { (Similarity::Cosine, 0.0) } else { (Similarity::Dot, 0.01) };
        let how = Update { learning_rate: 0.01, l2, similarity, regularization, seed: width as u64 };
        let shape = (width, positives, negatives);
        let entropy = spread.then_some(Entropy { weight: 0.4, inverse_temperature: t });
        match choice {
            0 => check(Softmax { inverse_temperature: t, entropy }, how, optimizer, shape, (corrected, weighted)),
            1 => check(Bsl { inverse_temperature: t, exponent: 1.3, entropy }, how, optimizer, shape, (corrected, weighted)),
            // The margin is where no score comes near: a kink would be crossed by rounding alone.
            2 => check(Ccl { margin: -9.0, weight: 3.0 }, how, optimizer, shape, (false, weighted)),
            _ => {
                let how = Update { similarity: Similarity::Cosine, l2: 0.0, ..how };
                check(Psl { inverse_temperature: t, surrogate: Tanh }, how, optimizer, shape, (false, weighted));
            }
        }
    }
}
