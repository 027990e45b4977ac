//! Every kernel, loss, similarity and optimizer against an oracle in f64, written from the formulas.

use super::*;
use crate::loss::{Bpr, Logistic};
use proptest::prelude::*;

/// A plain f64 model of the tables and of one group's update, written from the formulas.
struct Oracle {
    users: Vec<Vec<f64>>,
    items: Vec<Vec<f64>>,
    user_state: Vec<(f64, Vec<f64>, i32)>,
    item_state: Vec<(f64, Vec<f64>, i32)>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn descend(
    row: &mut [f64],
    state: &mut (f64, Vec<f64>, i32),
    gradient: &[f64],
    (update, optimizer): (Update, Optimizer),
) {
    let rate = f64::from(update.learning_rate);
    let mean = dot(gradient, gradient) / gradient.len() as f64;
    match optimizer {
        Optimizer::Sgd => row.iter_mut().zip(gradient).for_each(|(x, g)| *x -= rate * g),
        Optimizer::Adagrad { epsilon } => {
            state.0 += mean;
            let rate = rate / (state.0 + f64::from(epsilon)).sqrt();
            row.iter_mut().zip(gradient).for_each(|(x, g)| *x -= rate * g);
        }
        Optimizer::Adam { beta1, beta2, epsilon } => {
            let (b1, b2) = (f64::from(beta1), f64::from(beta2));
            state.2 += 1;
            state.0 = b2 * state.0 + (1.0 - b2) * mean;
            let v = state.0 / (1.0 - b2.powi(state.2));
            let rate = rate / (1.0 - b1.powi(state.2)) / (v.sqrt() + f64::from(epsilon));
            for ((x, m), g) in row.iter_mut().zip(&mut state.1).zip(gradient) {
                *m = b1 * *m + (1.0 - b1) * g;
                *x -= rate * *m;
            }
        }
    }
}

impl Oracle {
    fn group<L: Loss>(
        &mut self,
        user: usize,
        items: &[usize],
        p: usize,
        loss: L,
        (update, optimizer): (Update, Optimizer),
        adjust: Adjust<'_>,
    ) {
        let each = (items.len() - p) / p;
        let u = self.users[user].clone();
        let norm = |row: &[f64]| dot(row, row).max(1e-24).sqrt();
        let score = |x: &[f64]| match update.similarity {
            Similarity::Dot => dot(&u, x),
            Similarity::Cosine => dot(&u, x) / (norm(&u) * norm(x)),
        };
        let at = |slice: &[f32], k: usize, absent: f32| slice.get(k).copied().unwrap_or(absent);
        let seen = |k: usize, i: usize| {
            let offset =
                if k < p { at(adjust.positive_offsets, k, 0.0) } else { at(adjust.negative_offsets, k - p, 0.0) };
            score(&self.items[i]) as f32 + offset
        };
        let scores: Vec<f32> = items.iter().enumerate().map(|(k, i)| seen(k, *i)).collect();
        // The weighted gradient is the sum over terms: of a pair each, or of a score each.
        let mut g = vec![0f32; items.len()];
        for i in 0..p {
            let own = at(adjust.positive_weights, i, 1.0);
            for j in i * each..(i + 1) * each {
                let (mut pg, mut ng) = ([0f32], [0f32]);
                loss.gradient(&scores[i..=i], &scores[p + j..=p + j], &mut pg, &mut ng);
                let weight = own * at(adjust.negative_weights, j, 1.0);
                g[p + j] = weight * ng[0];
                if L::PAIRWISE {
                    g[i] += weight * pg[0];
                } else {
                    g[i] = own * pg[0];
                }
            }
        }
        let l2 = f64::from(update.l2);
        let mut user_gradient: Vec<f64> =
            u.iter().map(|x| x * l2 * if L::PAIRWISE { p * each } else { items.len() } as f64).collect();
        for (k, &i) in items.iter().enumerate() {
            let x = self.items[i].clone();
            let (g, s) = (f64::from(g[k]), score(&x));
            let times = if L::PAIRWISE && k < p { each as f64 } else { 1.0 };
            let mut item_gradient: Vec<f64> = x.iter().map(|x| x * l2 * times).collect();
            for d in 0..u.len() {
                let (du, dx) = match update.similarity {
                    Similarity::Dot => (x[d], u[d]),
                    Similarity::Cosine => {
                        let (nu, nx) = (norm(&u), norm(&x));
                        ((x[d] / nx - s * u[d] / nu) / nu, (u[d] / nu - s * x[d] / nx) / nx)
                    }
                };
                user_gradient[d] += g * du;
                item_gradient[d] += g * dx;
            }
            descend(&mut self.items[i], &mut self.item_state[i], &item_gradient, (update, optimizer));
        }
        descend(&mut self.users[user], &mut self.user_state[user], &user_gradient, (update, optimizer));
    }
}

fn compare<L: Loss>(
    loss: L,
    (update, optimizer): (Update, Optimizer),
    dimensions: usize,
    each: usize,
    weighted: bool,
    seed: u64,
) {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
    let (users, items) = (3usize, 40usize);
    let mut row = || (0..dimensions).map(|_| rng.random_range(-0.5f32..0.5)).collect::<Vec<_>>();
    let start_users: Vec<Vec<f32>> = (0..users).map(|_| row()).collect();
    let start_items: Vec<Vec<f32>> = (0..items).map(|_| row()).collect();
    // Runs of 1, 5 and 2 positives. Within a run no item comes twice, so that the group's order does not matter.
    let (run_users, ends) = ([2u32, 0, 1], [1u32, 6, 8]);
    let (mut positives, mut negatives) = (Vec::new(), Vec::new());
    for (r, end) in ends.iter().enumerate() {
        for k in positives.len() as u32..*end {
            positives.push((k + r as u32) % 8);
            negatives.extend((0..each as u32).map(|j| 8 + (k * each as u32 + j) % 32));
        }
    }
    let mut numbers = |n: usize, low: f32| (0..n).map(|_| rng.random_range(low..2.0)).collect::<Vec<f32>>();
    let (p, n) = (positives.len(), negatives.len());
    let (pw, nw, po, no) = (numbers(p, 0.0), numbers(n, 0.0), numbers(p, -2.0), numbers(n, -2.0));
    let adjust = Adjust { positive_weights: &pw, negative_weights: &nw, positive_offsets: &po, negative_offsets: &no };
    // A slice may be absent by itself.
    let adjust = if seed.is_multiple_of(2) { adjust } else { Adjust { negative_weights: &nw, ..Adjust::default() } };
    let adjust = weighted.then_some(adjust);
    let runs = Runs {
        users: &run_users,
        ends: &ends,
        positives: &positives,
        negatives: &negatives,
        negatives_each: each,
        adjust,
    };
    let wide =
        |rows: &[Vec<f32>]| rows.iter().map(|r| r.iter().map(|x| f64::from(*x)).collect()).collect::<Vec<Vec<f64>>>();
    let state = |n: usize| vec![(0.0, vec![0.0; dimensions], 0); n];
    let mut oracle = Oracle {
        users: wide(&start_users),
        items: wide(&start_items),
        user_state: state(users),
        item_state: state(items),
    };
    let at_once = (2 * PAIRS / (1 + each)).max(1);
    for _ in 0..2 {
        let mut k = 0;
        for (user, end) in run_users.iter().zip(ends) {
            while k < end as usize {
                let p = at_once.min(end as usize - k);
                let group: Vec<usize> = positives[k..k + p]
                    .iter()
                    .chain(&negatives[k * each..(k + p) * each])
                    .map(|i| *i as usize)
                    .collect();
                let adjust = adjust.unwrap_or_default().group(k, p, each);
                oracle.group(*user as usize, &group, p, loss, (update, optimizer), adjust);
                k += p;
            }
        }
    }
    for set in InstructionSet::available() {
        let mut tables = Tables::new(users, items, dimensions, false, optimizer).unwrap();
        let stride = tables.items.factors.stride();
        for (side, start) in [(&mut tables.users, &start_users), (&mut tables.items, &start_items)] {
            for (out, row) in side.factors.as_mut_slice().chunks_exact_mut(stride).zip(start) {
                out[..dimensions].copy_from_slice(row);
            }
        }
        for _ in 0..2 {
            let sample = train(set, &tables, runs, loss, update);
            assert!(sample.sum.is_finite() && sample.terms > 0);
        }
        for (side, expected) in [(&mut tables.users, &oracle.users), (&mut tables.items, &oracle.items)] {
            for (got, want) in side.factors.as_slice().chunks_exact(stride).zip(expected) {
                for (g, w) in got.iter().zip(want) {
                    assert!((f64::from(*g) - w).abs() < 2e-4, "{}: {g} instead of {w}", set.name());
                }
                assert!(got[dimensions..].iter().all(|x| *x == 0.0), "padding stays zero");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_kernel_equals_the_oracle(
        dimensions in 1usize..150, each in 1usize..4, optimizer in 0usize..3,
        (cosine, pairwise, weighted) in any::<(bool, bool, bool)>(), seed: u64,
    ) {
        let optimizer = [
            Optimizer::Sgd,
            Optimizer::Adagrad { epsilon: 1e-3 },
            Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
        ][optimizer];
        // In one dimension a cosine has no gradient, and for tiny rows little: rounding alone would be compared.
        let dimensions = if cosine { dimensions.max(8) } else { dimensions };
        let similarity = if cosine { Similarity::Cosine } else { Similarity::Dot };
        let update = Update { learning_rate: 0.02, l2: 0.03, similarity };
        if pairwise {
            compare(Bpr { inverse_temperature: 1.5 }, (update, optimizer), dimensions, each, weighted, seed);
        } else {
            compare(Logistic { inverse_temperature: 0.7 }, (update, optimizer), dimensions, each, weighted, seed);
        }
    }
}

#[test]
fn biases_learn_and_fixed_columns_stay_one() {
    let mut tables = Tables::new(1, 2, 3, true, Optimizer::Sgd).unwrap();
    tables.users.factors.as_mut_slice()[3] = 1.0;
    for item in 0..2 {
        tables.items.factors.as_mut_slice()[item * 16 + 4] = 1.0;
    }
    let runs = Runs { users: &[0], ends: &[1], positives: &[0], negatives: &[1], negatives_each: 1, adjust: None };
    let update = Update { learning_rate: 0.1, l2: 0.01, similarity: Similarity::Dot };
    for _ in 0..50 {
        train(InstructionSet::detect(), &tables, runs, Bpr { inverse_temperature: 1.0 }, update);
    }
    let items = tables.items.factors.as_slice();
    assert!(items[3] > 0.5 && items[16 + 3] < -0.5, "item biases move apart: {} {}", items[3], items[16 + 3]);
    assert_eq!((items[4], items[16 + 4], tables.users.factors.as_slice()[3]), (1.0, 1.0, 1.0));
}
