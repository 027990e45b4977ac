//! Folded rows against differences, against what they are to find, and by their seeds.

use super::*;
use crate::loss::OfLists;
use crate::model::{LANES, dot};

const DIMENSIONS: usize = 6;

fn config(text: &str) -> TrainConfig {
    let mut config: TrainConfig = toml::from_str(text).unwrap();
    config.dimensions = DIMENSIONS;
    config
}

/// Every loss, on dot products and on cosines.
fn configs() -> Vec<TrainConfig> {
    let mut all = Vec::new();
    for kind in LossKind::ALL {
        for similarity in ["dot", "cosine"] {
            let config = config(&format!("similarity = \"{similarity}\"\n[loss]\nkind = \"{}\"", kind.name()));
            // Some losses are made for cosines alone.
            if config.validate().is_ok() {
                all.push(config);
            }
        }
    }
    assert!(all.len() > LossKind::ALL.len(), "each loss, most of them twice");
    all
}

/// Rows of the other side: items of two kinds, those of the first pointing one way and the others another.
fn rows(config: &TrainConfig, count: usize) -> Vec<f32> {
    let width = DIMENSIONS + if config.biases() { 2 } else { 0 };
    let stride = stride_of(width);
    let mut all = vec![0f32; count * stride];
    for (i, row) in all.chunks_exact_mut(stride).enumerate() {
        for (d, x) in row[..DIMENSIONS].iter_mut().enumerate() {
            *x = crate::rank::fixture::noise(i, d) - 0.5;
        }
        row[i % 2] += 2.0;
        if config.similarity() == Similarity::Cosine {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        if config.biases() {
            (row[DIMENSIONS], row[DIMENSIONS + 1]) = (0.1 * (i % 5) as f32, 1.0);
        }
    }
    all
}

fn fold(config: &TrainConfig, positives: &[u32], count: usize, seed: u64) -> Option<Vec<f32>> {
    let rows = rows(config, count);
    let stride = rows.len() / count;
    let row = |i: u32| &rows[i as usize * stride..][..stride];
    Folding::new(config, Folded::User).row(positives, count as u32, row, seed)
}

#[test]
fn a_user_of_one_kind_of_items_gets_more_of_that_kind_by_every_loss() {
    for config in configs() {
        // By its exponent BSL weighs negatives more than positives: where half of them are of the user's kind it wants neither.
        let taken = if config.loss.kind == LossKind::Bsl { 120 } else { 20 };
        let positives: Vec<u32> = (0..taken).map(|i| 2 * i).collect();
        let count = 400;
        let z = fold(&config, &positives, count, 1).unwrap();
        let rows = rows(&config, count);
        let stride = rows.len() / count;
        let mut scored: Vec<(f32, usize)> =
            (2 * taken as usize..count).map(|i| (dot(&rows[i * stride..][..stride], &z), i)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let right = scored.iter().take(50).filter(|(_, i)| i % 2 == 0).count();
        // Hinges with a margin near the scores' bound say little of few items: tests/fold_in.rs has how well ccl does.
        assert!(right >= 45 || config.loss.kind == LossKind::Ccl, "{:?}: {right} of 50", config.loss);
        assert!(z.len() == stride && z.iter().all(|x| x.is_finite()), "{z:?}");
        if config.similarity() == Similarity::Cosine {
            assert!((dot(&z, &z) - 1.0).abs() < 1e-4);
        }
        if config.biases() {
            assert_eq!(z[DIMENSIONS], 1.0, "what multiplies the items' biases is fixed");
        }
    }
}

/// F at `z` by its definition, for `ranks` that weigh the positives: `rows` are those of positives, then of negatives.
fn value(
    how: &Folding,
    rows: &[f32],
    (count, each, groups): (usize, usize, Option<usize>),
    ranks: &[f32],
    z: &[f32],
) -> f64 {
    let stride = z.len();
    let norm = if how.cosine { dot(z, z).sqrt() } else { 1.0 };
    let scores: Vec<f32> = rows.chunks_exact(stride).map(|row| dot(row, z) / norm).collect();
    let (terms, stands_for) = (how.loss.terms(), how.negatives as f32 / each as f32);
    let mut sum = 0.0;
    for p in 0..count {
        // The last group that begins at this positive or before.
        let group = |groups| (0..groups).rfind(|g| count * g / groups <= p).unwrap();
        let negatives = &scores[count + groups.map_or(p, group) * each..][..each];
        let of = |negatives: &[f32], lists| how.loss.value(&scores[p..=p], negatives, lists);
        let none = OfLists::default();
        sum += f64::from(match terms {
            Terms::Lists => of(negatives, OfLists { weights: &vec![stands_for; each], ..none }),
            Terms::Pairs => stands_for * ranks.get(p).unwrap_or(&1.0) * of(negatives, none),
            Terms::Scores => of(&[], none) + stands_for * (of(negatives, none) - of(&[], none)),
        });
    }
    let l2 = match (how.cosine, terms) {
        (true, _) => 0.0,
        (_, Terms::Pairs) => how.l2 * how.negatives as f32,
        (_, Terms::Scores) => how.l2 * (how.negatives as f32 + 1.0),
        (_, Terms::Lists) => how.l2,
    };
    let free = z.iter().enumerate().filter(|(column, _)| Some(*column) != how.fixed);
    sum / count as f64 + free.map(|(_, x)| f64::from(l2 / 2.0 * x * x)).sum::<f64>()
}

#[test]
fn gradients_equal_differences() {
    let of_configs = |config: TrainConfig| {
        let how = Folding::new(&config, Folded::User);
        let shared = how.loss.terms() == Terms::Lists || how.loss.hinge_margin().is_some();
        let groups = if shared { &[Some(1), Some(2)][..] } else { &[None] };
        groups.iter().map(move |groups| (config.clone(), *groups)).collect::<Vec<_>>()
    };
    for (config, groups) in configs().into_iter().flat_map(of_configs) {
        let how = Folding::new(&config, Folded::User);
        let own = rows(&config, 33);
        let sample = (3, 10, groups);
        let (count, each) = (sample.0, sample.1);
        let stride = own.len() / 33;
        let used = &own[..stride * (count + each * groups.unwrap_or(count))];
        let mut objective = Objective::new(&how, used.to_vec(), sample, 33);
        let mut z = objective.start();
        z.iter_mut().take(DIMENSIONS).enumerate().for_each(|(d, x)| *x += 0.3 * (d as f32 + 0.4).sin());
        objective.look_at_ranks(&z);
        let ranks = objective.ranks().to_vec();
        let mut gradient = vec![0f32; z.len()];
        objective.gradient(&z, &mut gradient);
        for d in 0..DIMENSIONS {
            let at = |h: f32| {
                let mut moved = z.clone();
                moved[d] += h;
                value(&how, used, sample, &ranks, &moved)
            };
            let numeric = ((at(2e-3) - at(-2e-3)) / 4e-3) as f32;
            // Hinges have kinks, at which a difference sees half of each side.
            let allowed = 2e-2 * (1.0 + numeric.abs().max(gradient[d].abs()));
            assert!((numeric - gradient[d]).abs() < allowed, "{:?}: {} {numeric}", config.loss, gradient[d]);
        }
    }
}

#[test]
fn ranks_are_those_of_scores_whatever_the_length_of_the_row() {
    let config = config("similarity = \"cosine\"\n[loss]\nkind = \"warp\"");
    let how = Folding::new(&config, Folded::User);
    let mut objective = Objective::new(&how, rows(&config, 33), (3, 30, Some(1)), 33);
    let z = objective.start();
    let mut ranks = |length: f32| {
        objective.look_at_ranks(&z.iter().map(|x| length * x).collect::<Vec<f32>>());
        objective.ranks().to_vec()
    };
    assert_eq!(ranks(1.0), ranks(3.0));
}

#[test]
fn every_history_moves_the_row_by_every_loss() {
    // On dot products CCL has a kink at zero, which is the best place where positives are like all others.
    let moves = |config: &TrainConfig| config.similarity() == Similarity::Dot && config.loss.kind != LossKind::Ccl;
    for config in configs().into_iter().filter(moves) {
        for salt in 0..20 {
            let positives: Vec<u32> = (0..60).map(|i| 7 * i + salt % 7).collect();
            let z = fold(&config, &positives, 430, u64::from(salt)).unwrap();
            assert!(z[..DIMENSIONS].iter().any(|x| x.abs() > 1e-3), "{:?} {salt}: {z:?}", config.loss.kind);
        }
    }
}

#[test]
fn equal_seeds_give_equal_rows_and_nothing_left_gives_none() {
    for config in configs() {
        let positives = [1, 4, 9];
        assert_eq!(fold(&config, &positives, 50, 3), fold(&config, &positives, 50, 3));
        assert!(fold(&config, &[], 50, 3).is_none() && fold(&config, &[0, 1, 2], 3, 3).is_none());
        assert!(fold(&config, &[0, 2], 3, 3).is_some(), "one negative will do");
    }
    // Drawn from more than is looked at, the seed matters.
    let bpr = config("");
    assert_ne!(fold(&bpr, &[1, 4, 9], 20_000, 3), fold(&bpr, &[1, 4, 9], 20_000, 4));
    assert_eq!(stride_of(DIMENSIONS) % LANES, 0);
}

#[test]
fn negatives_are_drawn_evenly_and_never_positives() {
    let how = Folding::new(&config(""), Folded::User);
    for all in [40, 4000] {
        let positives: Vec<u32> = (0..all).filter(|i| i % 3 == 0).collect();
        let drawn = how.draw(&positives, all, 1000, 5).unwrap();
        assert!(drawn.len() == 1000 && drawn.iter().all(|i| *i < all && i % 3 != 0));
        let low = drawn.iter().filter(|i| **i < all / 2).count();
        assert!((400..600).contains(&low), "{low}");
    }
}
