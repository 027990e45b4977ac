//! Every kernel, loss, similarity and optimizer against an oracle in f64, written from the formulas.

use super::super::Precision;
use super::super::kernel::{InstructionSet, bf16};
use super::super::regularization::Dropout;
use super::*;
use crate::loss::{AnyListwise, AnyLoss, Base, Bpr, Bsl, Entropy, Hinge, Logistic, Softmax};
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
    let Regularization { max_norm, clip_gradient, .. } = update.regularization;
    let rate = f64::from(update.learning_rate);
    let norm = dot(gradient, gradient).sqrt();
    let kept = clip_gradient.map_or(1.0, |most| (f64::from(most) / norm).min(1.0));
    let gradient: &[f64] = &gradient.iter().map(|g| g * kept).collect::<Vec<_>>();
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
    let norm = dot(row, row).sqrt();
    if let Some(most) = max_norm.map(f64::from).filter(|most| norm > *most) {
        row.iter_mut().for_each(|x| *x *= most / norm);
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
        (adjust, mask): (Adjust<'_>, &[f64]),
    ) {
        let each = (items.len() - p) / p;
        let row = self.users[user].clone();
        let u: Vec<f64> = row.iter().zip(mask).map(|(x, m)| x * m).collect();
        let norm = |row: &[f64]| dot(row, row).max(1e-24).sqrt();
        let score = |x: &[f64]| match update.similarity {
            Similarity::Dot => dot(&u, x),
            Similarity::Cosine => dot(&u, x) / (norm(&u) * norm(x)),
        };
        let at = |slice: &[f32], k: usize, absent: f32| slice.get(k).copied().unwrap_or(absent);
        let seen = |k: usize, i: usize| {
            let offset =
                if k < p { at(adjust.positive_offsets, k, 0.0) } else { at(adjust.negative_offsets, k - p, 0.0) };
            score(&self.items[i]) as f32 + if loss.terms() == Terms::Lists { 0.0 } else { offset }
        };
        let scores: Vec<f32> = items.iter().enumerate().map(|(k, i)| seen(k, *i)).collect();
        // The weighted gradient is the sum over terms: of a pair each, or of a score each.
        let mut g = vec![0f32; items.len()];
        for i in 0..p {
            let own = at(adjust.positive_weights, i, 1.0);
            if loss.terms() == Terms::Lists {
                let (mut pg, mut ng) = ([0f32], vec![0f32; each]);
                let of = adjust.group(i, 1, each).of_lists();
                loss.gradient(&scores[i..=i], &scores[p + i * each..][..each], of, &mut pg, &mut ng);
                g[i] = own * pg[0];
                ng.iter().enumerate().for_each(|(j, ng)| g[p + i * each + j] = own * ng);
                continue;
            }
            for j in i * each..(i + 1) * each {
                let (mut pg, mut ng) = ([0f32], [0f32]);
                let none = OfLists::default();
                loss.gradient(&scores[i..=i], &scores[p + j..=p + j], none, &mut pg, &mut ng);
                let weight = own * at(adjust.negative_weights, j, 1.0);
                g[p + j] = weight * ng[0];
                if loss.terms() == Terms::Pairs {
                    g[i] += weight * pg[0];
                } else {
                    g[i] = own * pg[0];
                }
            }
        }
        let l2 = f64::from(update.l2);
        let mut user_gradient: Vec<f64> = row.iter().map(|x| x * l2 * terms_of(loss, p, each) as f64).collect();
        for (k, &i) in items.iter().enumerate() {
            let x = self.items[i].clone();
            let (g, s) = (f64::from(g[k]), score(&x));
            let times = if loss.terms() == Terms::Pairs && k < p { each as f64 } else { 1.0 };
            let mut item_gradient: Vec<f64> = x.iter().map(|x| x * l2 * times).collect();
            for d in 0..u.len() {
                let (du, dx) = match update.similarity {
                    Similarity::Dot => (x[d], u[d]),
                    Similarity::Cosine => {
                        let (nu, nx) = (norm(&u), norm(&x));
                        ((x[d] / nx - s * u[d] / nu) / nu, (u[d] / nu - s * x[d] / nx) / nx)
                    }
                };
                user_gradient[d] += g * du * mask[d];
                item_gradient[d] += g * dx;
            }
            descend(&mut self.items[i], &mut self.item_state[i], &item_gradient, (update, optimizer));
        }
        descend(&mut self.users[user], &mut self.user_state[user], &user_gradient, (update, optimizer));
    }
}

/// What the tables hold after training `rounds` times on the same runs with the kernels of `set`, users and items.
fn trained(
    set: InstructionSet,
    (loss, update, optimizer, precision): (KernelLoss, Update, Optimizer, Precision),
    runs: Runs<'_>,
    starts: [&[Vec<f32>]; 2],
    rounds: usize,
) -> [Vec<Vec<f32>>; 2] {
    let dimensions = starts[0][0].len();
    let mut tables =
        Tables::new(starts[0].len(), starts[1].len(), dimensions, false, (optimizer, precision), [None, None]).unwrap();
    for (side, start) in [&mut tables.users, &mut tables.items].into_iter().zip(starts) {
        side.fill(|i, row| row.copy_from_slice(&start[i]));
    }
    for _ in 0..rounds {
        let sample = train(set, &tables, runs, loss, update);
        assert!(sample.sum.is_finite() && sample.terms > 0);
    }
    [&mut tables.users, &mut tables.items].map(|side| {
        let (count, padded) =
            (side.factors.rows(), precision.stride(dimensions) * if precision == Precision::F32 { 1 } else { 2 });
        let rows = side.rows();
        let read = |i| {
            let mut row = vec![0.0; padded];
            rows.read(i, &mut row);
            assert!(row.split_off(dimensions).iter().all(|x| *x == 0.0), "padding stays zero");
            row
        };
        (0..count).map(read).collect()
    })
}

fn compare(
    loss: AnyLoss,
    (update, optimizer): (Update, Optimizer),
    dimensions: usize,
    each: usize,
    weighted: bool,
    seed: u64,
) {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
    let (users, items) = (3usize, 40usize);
    // Starts that bfloat16 can represent, so that all precisions begin alike.
    let mut row = || (0..dimensions).map(|_| bf16::widen(bf16::nearest(rng.random_range(-0.5f32..0.5)))).collect();
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
    let dropout = update.regularization.user_dropout;
    for _ in 0..2 {
        let mut k = 0;
        // A mask a group, from the seed of the batch.
        let mut seed = update.seed;
        let mut mask = vec![1f32; dimensions.next_multiple_of(16)];
        for (user, end) in run_users.iter().zip(ends) {
            while k < end as usize {
                let p = at_once.min(end as usize - k);
                let group: Vec<usize> = positives[k..k + p]
                    .iter()
                    .chain(&negatives[k * each..(k + p) * each])
                    .map(|i| *i as usize)
                    .collect();
                let adjust = adjust.unwrap_or_default().group(k, p, each);
                if dropout.is_on() {
                    dropout.draw(&mut seed, dimensions, &mut mask);
                }
                let mask: Vec<f64> = mask[..dimensions].iter().map(|m| f64::from(*m)).collect();
                oracle.group(*user as usize, &group, p, loss, (update, optimizer), (adjust, &mask));
                k += p;
            }
        }
    }
    let starts = [&start_users[..], &start_items];
    for set in InstructionSet::available() {
        let got = trained(set, (KernelLoss::new(loss), update, optimizer, Precision::F32), runs, starts, 2);
        let errors = got.iter().flatten().zip(oracle.users.iter().chain(&oracle.items));
        for (g, w) in errors.flat_map(|(got, want)| got.iter().zip(want)) {
            assert!((f64::from(*g) - w).abs() < 2e-4, "{}: {g} instead of {w}", set.name());
        }
        // Each of the few updates of a row may round to either neighbour: a 128th of the largest factor each.
        let got = trained(set, (KernelLoss::new(loss), update, optimizer, Precision::Bf16), runs, starts, 2);
        let errors = got.iter().flatten().zip(oracle.users.iter().chain(&oracle.items));
        let (mut sum, mut count) = (0.0, 0.0);
        for (g, w) in errors.flat_map(|(got, want)| got.iter().zip(want)) {
            let error = f64::from(*g) - w;
            assert!(error.abs() < 0.03, "{}: {g} instead of {w} in bf16", set.name());
            (sum, count) = (sum + error, count + 1.0);
        }
        let mean: f64 = sum / count;
        assert!(mean.abs() < 0.01 / f64::sqrt(count), "{}: {count} factors are off by {mean} in the mean", set.name());
        assert_eq!(
            got,
            trained(set, (KernelLoss::new(loss), update, optimizer, Precision::Bf16), runs, starts, 2),
            "same noise again"
        );
    }
}

/// Every part of it by itself, all together, and none. Norms are such that some rows exceed them and others do not.
fn regularization() -> impl Strategy<Value = Regularization> {
    let dropout = prop_oneof![Just(Dropout::default()), Just(Dropout::new(0.2))];
    let norm = |low, high| prop_oneof![Just(None), (low..high).prop_map(Some)];
    (dropout, norm(0.2f32, 4.0), norm(0.02f32, 3.0)).prop_map(|(user_dropout, max_norm, clip_gradient)| {
        Regularization { user_dropout, max_norm, clip_gradient, ..Regularization::default() }
    })
}

/// What is much for a machine, and little for Miri, which takes thousands of times as long.
const fn much(machine: usize, miri: usize) -> usize {
    if cfg!(miri) { miri } else { machine }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(much(48, 4) as u32))]
    #[test]
    fn every_kernel_equals_the_oracle(
        dimensions in 1usize..much(150, 40), each in 1usize..4, optimizer in 0usize..3,
        (cosine, weighted) in any::<(bool, bool)>(), which in 0..6, seed: u64, regularization in regularization(),
    ) {
        let optimizer = [
            Optimizer::Sgd,
            Optimizer::Adagrad { epsilon: 1e-3 },
            Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
        ][optimizer];
        // In one dimension a cosine has no gradient, and for tiny rows little: rounding alone would be compared.
        let dimensions = if cosine { dimensions.max(16) } else { dimensions };
        let similarity = if cosine { Similarity::Cosine } else { Similarity::Dot };
        let update = Update { learning_rate: 0.02, l2: 0.03, similarity, regularization, seed };
        let t = 1.5;
        let entropy = Some(Entropy { weight: 0.3, inverse_temperature: t });
        let hinge = Base::Hinge(Hinge { margin: 99.0 });
        let loss = match which {
            0 => plain(Base::Bpr(Bpr { inverse_temperature: t })),
            1 => plain(Base::Logistic(Logistic { inverse_temperature: t, smoothing: 0.1 })),
            2 => AnyLoss { base: Base::Bpr(Bpr { inverse_temperature: t }), scale: 0.8, entropy },
            // A margin that no pair keeps: a kink would be crossed by rounding alone.
            3 => AnyLoss { scale: 0.8, ..plain(hinge) },
            4 => AnyLoss { scale: 0.8, ..plain(Base::Listwise(AnyListwise::Softmax(Softmax { inverse_temperature: t, entropy }))) },
            _ => {
                let bsl = AnyListwise::Bsl(Bsl { inverse_temperature: t, exponent: 1.2, entropy });
                AnyLoss { scale: 0.8, ..plain(Base::Listwise(bsl)) }
            }
        };
        compare(loss, (update, optimizer), dimensions, each, weighted, seed);
    }
}

fn plain(base: Base) -> AnyLoss {
    AnyLoss { base, scale: 1.0, entropy: None }
}

fn bpr() -> KernelLoss {
    KernelLoss::new(plain(Base::Bpr(Bpr { inverse_temperature: 1.0 })))
}

#[test]
fn biases_learn_and_fixed_columns_stay_one() {
    // Neither dropout nor a largest norm is for biases.
    let dropout = Regularization { user_dropout: Dropout::new(0.9), ..Regularization::default() };
    let short = Regularization { max_norm: Some(0.05), ..Regularization::default() };
    for precision in [Precision::F32, Precision::Bf16] {
        for regularization in [Regularization::default(), dropout, short] {
            biases_learn(precision, regularization);
        }
    }
}

fn biases_learn(precision: Precision, regularization: Regularization) {
    let mut tables = Tables::new(1, 2, 3, true, (Optimizer::Sgd, precision), [None, None]).unwrap();
    tables.users.fill(|_, row| row[0] = 0.5);
    tables.items.fill(|_, _| ());
    let runs = Runs { users: &[0], ends: &[1], positives: &[0], negatives: &[1], negatives_each: 1, adjust: None };
    let update = Update { learning_rate: 0.1, l2: 0.01, similarity: Similarity::Dot, regularization, seed: 0 };
    for _ in 0..50 {
        train(InstructionSet::detect(), &tables, runs, bpr(), update);
    }
    let read = |side: &mut Side, i| {
        let mut row = [0f32; 5];
        side.rows().read(i, &mut row);
        row
    };
    let (user, items) = (read(&mut tables.users, 0), [0, 1].map(|i| read(&mut tables.items, i)));
    assert!(items[0][3] > 0.5 && items[1][3] < -0.5, "item biases move apart: {items:?}");
    assert_eq!((items[0][4], items[1][4], user[3]), (1.0, 1.0, 1.0));
    let most = regularization.max_norm.unwrap_or(f32::INFINITY);
    assert!(
        [user, items[0], items[1]].iter().all(|row| row[..3].iter().map(|x| x * x).sum::<f32>().sqrt() <= most * 1.01)
    );
}

#[test]
fn steps_smaller_than_half_a_unit_of_bfloat16_count_in_the_mean() {
    // Rows of ones, below which bfloat16 has a spacing of 2⁻⁸, moved by a 16th of that by each batch. With
    // scores this far apart BPR has no gradient left: only L2 moves the rows.
    let (dimensions, rounds) = (much(1024, 128), much(64, 16));
    let update = Update {
        learning_rate: 2f32.powi(-10),
        l2: 0.25,
        similarity: Similarity::Dot,
        regularization: Regularization::default(),
        seed: 0,
    };
    for set in InstructionSet::available() {
        let mut tables =
            Tables::new(1, 1 + rounds, dimensions, false, (Optimizer::Sgd, Precision::Bf16), [None, None]).unwrap();
        tables.users.fill(|_, row| row.fill(1.0));
        tables.items.fill(|i, row| row.fill(if i == 0 { 1.0 } else { 0.0 }));
        for negative in 1..=rounds as u32 {
            let runs = Runs {
                users: &[0],
                ends: &[1],
                positives: &[0],
                negatives: &[negative],
                negatives_each: 1,
                adjust: None,
            };
            train(set, &tables, runs, bpr(), update);
        }
        let exact = (1.0 - 2f64.powi(-12)).powi(rounds as i32);
        for side in [&mut tables.users, &mut tables.items] {
            let mut row = vec![0f32; dimensions];
            side.rows().read(0, &mut row);
            let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / dimensions as f64;
            // Rounding a step of p units has a variance of p(1 − p) units²; p is 1/16 here.
            let deviation = 2f64.powi(-8) * (rounds as f64 / 16.0 / dimensions as f64).sqrt();
            assert!((mean - exact).abs() < 4.0 * deviation, "{}: {mean} instead of {exact}", set.name());
        }
    }
}

#[test]
fn trainers_that_race_for_the_same_rows_learn_and_leave_finite_rows() {
    let (dimensions, rounds) = (20, much(200, 20));
    let update = Update {
        learning_rate: 0.05,
        l2: 0.001,
        similarity: Similarity::Dot,
        regularization: Regularization::default(),
        seed: 0,
    };
    let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-6 };
    for set in InstructionSet::available() {
        for (optimizer, precision) in [(Optimizer::Sgd, Precision::F32), (adam, Precision::Bf16)] {
            let mut tables = Tables::new(2, 3, dimensions, true, (optimizer, precision), [None, None]).unwrap();
            tables.users.fill(|i, row| row[i] = 0.5);
            tables.items.fill(|i, row| row[i] = 0.5);
            let losses = |tables: &Tables| {
                let runs = Runs {
                    users: &[0, 1],
                    ends: &[1, 2],
                    positives: &[0, 1],
                    negatives: &[2, 2],
                    negatives_each: 1,
                    adjust: None,
                };
                train(set, tables, runs, bpr(), update).sum
            };
            let before = losses(&tables);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..rounds).for_each(|_| _ = losses(&tables)));
                }
            });
            assert!(losses(&tables) < before, "{} {optimizer:?} {precision:?}", set.name());
            assert!(tables.users.longest(0, 1).1.is_finite() && tables.items.longest(0, 1).1.is_finite());
        }
    }
}
