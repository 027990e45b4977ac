//! Statistical checks of whole logs: popularity, preferences, drift, labels and repeats as configured.

use std::collections::{HashMap, HashSet};

use super::model::PlantedModel;
use super::rows::{Author, Row};
use super::*;
use crate::context::{ByteSize, Context};

fn planted(config: &SynthConfig) -> PlantedModel {
    PlantedModel::new(config, &Context::new(2, ByteSize(1 << 30))).unwrap()
}

/// All rows, user by user.
fn rows(model: &PlantedModel) -> Vec<Vec<Row>> {
    let mut author = Author::new(model);
    let mut all = Vec::new();
    for block in 0..model.blocks() {
        model.write_block(&mut author, block, |user, rows| {
            assert_eq!(user, all.len() as u64);
            all.push(rows.to_vec());
        });
    }
    all
}

/// Mean recall at 20 over users, each of whose last fifth of rows is to be found with the rest left out.
fn recall(model: &PlantedModel, rows: &[Vec<Row>], scores: impl Fn(u32, i64) -> Vec<f64>) -> f64 {
    let mut sum = 0.0;
    let mut users = 0;
    for (user, rows) in rows.iter().enumerate().step_by(7) {
        let (known, later) = rows.split_at(rows.len() * 4 / 5);
        let Some(moment) = later.first().map(|row| row.time) else { continue };
        let known: HashSet<u32> = known.iter().map(|row| row.item).collect();
        let scores = scores(user as u32, moment);
        let mut items: Vec<u32> = (0..model.config.items as u32).filter(|item| !known.contains(item)).collect();
        items.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
        let top: HashSet<u32> = items.into_iter().take(20).collect();
        sum += later.iter().filter(|row| top.contains(&row.item)).count() as f64 / later.len().min(20) as f64;
        users += 1;
    }
    sum / f64::from(users)
}

#[test]
fn rows_are_within_the_period_in_order_and_distinct() {
    let config = SynthConfig { users: 500, items: 100, interactions: 20_000, ..SynthConfig::default() };
    let rows = rows(&planted(&config));
    assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 20_000);
    for rows in rows {
        assert!(rows.is_sorted_by_key(|row| row.time));
        assert!(rows.iter().all(|row| (0..config.seconds()).contains(&(row.time - config.start))));
        assert!(rows.iter().all(|row| row.item < 100));
        assert_eq!(rows.iter().map(|row| row.item).collect::<HashSet<_>>().len(), rows.len());
    }
}

#[test]
fn a_full_matrix_can_be_asked_for() {
    let config = SynthConfig { users: 30, items: 200, interactions: 6_000, ..SynthConfig::default() };
    for rows in rows(&planted(&config)) {
        assert_eq!(rows.iter().map(|row| row.item).collect::<HashSet<_>>().len(), 200);
    }
}

#[test]
fn popularity_falls_as_zipf_has_it() {
    for zipf in [0.6, 1.0, 1.3] {
        // Few rows a user, so that drawing without replacement hardly flattens the head.
        let config =
            SynthConfig { users: 100_000, items: 5_000, interactions: 500_000, zipf, ..SynthConfig::default() };
        let model = planted(&config);
        let mut counts = vec![0f64; 5_000];
        for row in rows(&model).into_iter().flatten() {
            counts[row.item as usize] += 1.0;
        }
        counts.sort_by(|a, b| b.total_cmp(a));
        // Least squares of log count over log rank, where counts are large and the head's shift is over.
        let points: Vec<(f64, f64)> = (50..1_000).map(|i| ((i as f64 + model_shift()).ln(), counts[i].ln())).collect();
        let n = points.len() as f64;
        let (x, y) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
        let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>()
            / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
        assert!((slope + zipf).abs() < 0.1 * zipf, "slope {slope} for exponent {zipf}");
    }
}

/// 1 + q of 5,000 items.
fn model_shift() -> f64 {
    11.0
}

#[test]
fn planted_preferences_find_later_items_that_popularity_misses() {
    let config = SynthConfig { users: 3_000, items: 1_000, interactions: 120_000, ..SynthConfig::default() };
    let model = planted(&config);
    let rows = rows(&model);
    let oracle = recall(&model, &rows, |user, time| model.scores(&model.user_id(user), Some(time)).unwrap());
    let popular = recall(&model, &rows, |_, _| model.popularity());
    println!("recall@20: planted {oracle:.4}, popularity {popular:.4}");
    assert!(oracle > 2.5 * popular, "planted {oracle}, popularity {popular}");
    assert!(oracle > 0.2, "planted {oracle}");

    let flat = SynthConfig { preference: 0.0, ..config };
    let model = planted(&flat);
    let rows = self::rows(&model);
    let oracle = recall(&model, &rows, |user, time| model.scores(&model.user_id(user), Some(time)).unwrap());
    let popular = recall(&model, &rows, |_, _| model.popularity());
    assert!((oracle - popular).abs() < 1e-3, "without preference the planted ranking is popularity");
}

#[test]
fn tastes_drift_over_the_period() {
    let gain = |drift: f64| {
        let config = SynthConfig { users: 3_000, items: 1_000, interactions: 120_000, drift, ..SynthConfig::default() };
        let model = planted(&config);
        let (start, seconds) = (config.start, config.seconds());
        // Late rows' mean log probability by the taste of the end, over that by the taste of the beginning.
        let (mut sum, mut n) = (0.0, 0.0);
        for (user, rows) in rows(&model).iter().enumerate().step_by(5) {
            let id = model.user_id(user as u32);
            let early = model.scores(&id, Some(start)).unwrap();
            let late = model.scores(&id, Some(start + seconds)).unwrap();
            for row in rows.iter().filter(|row| row.time > start + seconds * 9 / 10) {
                sum += (late[row.item as usize] / early[row.item as usize]).ln();
                n += 1.0;
            }
        }
        assert!(n > 1_000.0);
        sum / n
    };
    let (none, some, full) = (gain(0.0), gain(0.3), gain(1.0));
    assert!(none.abs() < 1e-9, "{none}");
    assert!(some > 0.1, "{some}");
    assert!(full > some + 0.5, "{full} after {some}");
}

#[test]
fn repeats_have_the_share_asked_for() {
    let config =
        SynthConfig { users: 1_000, items: 5_000, interactions: 100_000, repeats: 0.3, ..SynthConfig::default() };
    let model = planted(&config);
    let mut author = Author::new(&model);
    let mut distinct = 0;
    for block in 0..model.blocks() {
        distinct += model.write_block(&mut author, block, |_, _| ());
    }
    let all: usize = rows(&model).iter().map(|r| r.iter().map(|row| row.item).collect::<HashSet<_>>().len()).sum();
    assert_eq!(distinct, all as u64);
    let share = 1.0 - distinct as f64 / 100_000.0;
    // A user's first row cannot be a repeat: 0.3 × 99 %.
    assert!((share - 0.297).abs() < 0.01, "{share}");
}

#[test]
fn labels_rise_with_affinity() {
    let config = SynthConfig {
        users: 2_000,
        items: 1_000,
        interactions: 80_000,
        weights: true,
        events: true,
        ..SynthConfig::default()
    };
    let model = planted(&config);
    let popularity = model.popularity();
    let mut lifts: HashMap<u8, Vec<f64>> = HashMap::new();
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for (user, rows) in rows(&model).iter().enumerate().step_by(5) {
        let scores = model.scores(&model.user_id(user as u32), None).unwrap();
        for row in rows {
            let lift = (scores[row.item as usize] / popularity[row.item as usize]).ln();
            lifts.entry(row.event).or_default().push(lift);
            if row.halves <= 5 { &mut low } else { &mut high }.push(lift);
            assert!((2..=10).contains(&row.halves));
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let by_event: Vec<f64> = (0..3).map(|event| mean(&lifts[&event])).collect();
    assert!(lifts[&0].len() > lifts[&1].len() && lifts[&1].len() > lifts[&2].len(), "a funnel narrows");
    assert!(by_event[2] > by_event[0] + 0.3, "{by_event:?}");
    assert!(mean(&high) > mean(&low) + 1.0);
}

#[test]
fn the_oracle_is_consistent() {
    let config = SynthConfig { users: 50, items: 777, interactions: 2_000, ..SynthConfig::default() };
    let model = planted(&config);
    for user in ["u0", "u17", "u49"] {
        for time in [None, Some(config.start), Some(0), Some(i64::MAX)] {
            let scores = model.scores(user, time).unwrap();
            assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5);
            let mut best: Vec<f64> = scores.clone();
            best.sort_by(|a, b| b.total_cmp(a));
            let top = model.top_items(user, time, 100).unwrap();
            assert_eq!(top.len(), 100);
            for (place, &(item, score)) in top.iter().enumerate() {
                assert_eq!(score, scores[item as usize]);
                assert_eq!(score, best[place]);
            }
            assert_eq!(model.top_items(user, time, 10_000).unwrap().len(), 777);
        }
    }
    for unknown in ["u50", "50", "u", "u007", "i3", "u-1", "u+1", ""] {
        assert!(matches!(model.scores(unknown, None), Err(SynthError::UnknownId { what: "user", .. })), "{unknown}");
    }
    assert_eq!(model.item_number(&model.item_id(42)).unwrap(), 42);
    assert!(model.item_number("i777").is_err());
}

#[test]
fn bytes_do_not_depend_on_threads() {
    for format in [SynthFormat::Csv, SynthFormat::Ndjson, SynthFormat::Parquet] {
        let config = SynthConfig { interactions: 300_000, weights: true, events: true, ..SynthConfig::default() };
        let written = |threads| {
            let ctx = Context::new(threads, ByteSize(1 << 30));
            let model = PlantedModel::new(&config, &ctx).unwrap();
            assert!(model.blocks() > 5, "one block would prove nothing");
            let mut out = Vec::new();
            let summary = write_synth(&model, format, SynthCompression::None, &mut out, &ctx).unwrap();
            assert_eq!(summary.bytes, out.len() as u64);
            assert_eq!((summary.rows, summary.unique_interactions), (300_000, 300_000));
            out
        };
        let one = written(1);
        assert!(one == written(2) && one == written(5), "{format:?}");
    }
}

#[test]
fn seeds_matter() {
    let of_seed =
        |seed| rows(&planted(&SynthConfig { seed, users: 100, interactions: 1_000, ..SynthConfig::default() }));
    assert_eq!(of_seed(1), of_seed(1));
    assert_ne!(of_seed(1), of_seed(2));
}

#[test]
fn a_block_holds_a_bounded_number_of_rows() {
    // Rows a user differ by orders of magnitude here; a block still stays near its aim.
    for (users, items, interactions) in
        [(100, 1_000_000, 3_000_000), (200_000, 10_000, 2_000_000), (1_000_000, 1_000, 1_000_000)]
    {
        let model = planted(&SynthConfig { users, items, interactions, ..SynthConfig::default() });
        let largest_user = (0..model.blocks()).flat_map(|b| model.activity.of_block(b)).map(|(_, n)| n).max().unwrap();
        for block in 0..model.blocks() {
            let rows: u64 = model.activity.of_block(block).map(|(_, n)| n).sum();
            assert!(rows <= 4 * 32_768 + largest_user, "{rows} rows in a block");
        }
    }
}
