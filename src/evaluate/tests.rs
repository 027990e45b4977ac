//! Evaluation against a naive oracle, and what must not change it.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::context::ByteSize;
use crate::negatives::Proposal;
use crate::rank::fixture::{self, Matrix, noise};
use crate::rank::{Candidate, Popularity, RankError, user_seed};

const PARTS: [Part; 3] = [Part::Train, Part::Valid, Part::Test];

fn context(threads: usize) -> Context {
    Context::new(threads, ByteSize(1 << 30))
}

fn sampled(negatives: usize) -> Protocol {
    Protocol::Sampled { negatives, proposal: Proposal::Uniform }
}

/// A dataset in which pair (u, i) is in the part `assignment[u × items + i] - 1`, where there is one.
fn dataset_of(folder: &std::path::Path, users: usize, items: usize, assignment: &[u8]) -> Dataset {
    let parts = PARTS.map(|part| {
        let own = |u: usize| {
            let row = &assignment[u * items..(u + 1) * items];
            (0..items as u32).filter(|i| row[*i as usize] == part as u8 + 1).collect()
        };
        (part, (0..users).map(own).collect::<Vec<Vec<u32>>>())
    });
    fixture::dataset(&folder.join("d"), items, &parts)
}

/// The textbook: sort all candidates of each user, then apply each formula as it is written.
fn oracle(scores: &Matrix, assignment: &[u8], part: Part, k: &[usize], seed: u64) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let (mut users, mut with_auc) = (0.0, 0.0);
    for u in 0..scores.users {
        let row = &assignment[u * scores.items..(u + 1) * scores.items];
        let wanted = part as u8 + 1;
        let relevant: Vec<usize> = (0..row.len()).filter(|i| row[*i] == wanted).collect();
        if relevant.is_empty() || !row.contains(&1) {
            continue;
        }
        users += 1.0;
        let score = |i: usize| scores.scores[u * scores.items + i];
        let candidates = || (0..row.len()).filter(|i| row[*i] == 0 || row[*i] >= wanted);
        let mut ranking: Vec<usize> = candidates().collect();
        let own = user_seed(seed, u as u32);
        ranking.sort_by_key(|i| std::cmp::Reverse(Candidate::new(score(*i), *i as u32, own)));
        assert!(ranking.is_sorted_by(|a, b| score(*a) >= score(*b)));
        let mut add = |name: String, value: f64| *sums.entry(name).or_default() += value;
        for k in k {
            let is_hit: Vec<bool> = ranking.iter().take(*k).map(|i| relevant.contains(i)).collect();
            let hits = is_hit.iter().filter(|h| **h).count() as f64;
            let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
            let dcg: f64 = is_hit.iter().enumerate().filter(|(_, h)| **h).map(|(i, _)| gain(i + 1)).sum();
            let best = relevant.len().min(*k);
            let first = is_hit.iter().position(|h| *h);
            let precisions: f64 = (0..is_hit.len())
                .filter(|i| is_hit[*i])
                .map(|i| is_hit[..=i].iter().filter(|h| **h).count() as f64 / (i + 1) as f64)
                .sum();
            add(format!("recall@{k}"), hits / relevant.len() as f64);
            add(format!("precision@{k}"), hits / *k as f64);
            add(format!("hit_rate@{k}"), f64::from(u8::from(hits > 0.0)));
            add(format!("ndcg@{k}"), dcg / (1..=best).map(gain).sum::<f64>());
            add(format!("mrr@{k}"), first.map_or(0.0, |i| 1.0 / (i + 1) as f64));
            add(format!("map@{k}"), precisions / best as f64);
        }
        let negatives: Vec<usize> = candidates().filter(|i| !relevant.contains(i)).collect();
        if !negatives.is_empty() {
            with_auc += 1.0;
            let mut right = 0.0;
            for (p, n) in relevant.iter().flat_map(|p| negatives.iter().map(move |n| (p, n))) {
                right += if score(*p) > score(*n) { 1.0 } else { 0.5 * f64::from(u8::from(score(*p) == score(*n))) };
            }
            add("auc".into(), right / (relevant.len() * negatives.len()) as f64);
        }
    }
    for (name, sum) in &mut sums {
        *sum /= if name == "auc" { with_auc } else { users };
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn equals_the_textbook_whatever_the_blocks_and_threads(
        users in 1usize..9,
        items in 6usize..90,
        valid in any::<bool>(),
        seed: u64,
        pool in proptest::collection::vec((0u8..8, prop_oneof![9 => (-3i8..3).prop_map(f32::from), 1 => Just(-0.0), 1 => Just(f32::NEG_INFINITY)]), 9 * 90),
    ) {
        let assignment: Vec<u8> = pool[..users * items].iter().map(|(a, _)| if *a > 3 { 0 } else { *a }).collect();
        let scores = Matrix { users, items, scores: pool[..users * items].iter().map(|(_, s)| *s).collect() };
        // An item at -inf is never recommended, so the oracle must not find it a hit either.
        let finite = scores.scores.iter().all(|s| s.is_finite());
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset_of(folder.path(), users, items, &assignment);
        let part = if valid { Part::Valid } else { Part::Test };
        let options = EvaluateOptions { part, k: vec![1, 3, 6], seed, ..EvaluateOptions::accuracy() };
        let got = match evaluate(&scores, &dataset, &options, &context(1)) {
            Ok(got) => got.metrics,
            Err(EvaluateError::NoUsers { .. }) => return Ok(()),
            Err(e) => panic!("{e}"),
        };
        let expected = oracle(&scores, &assignment, part, &options.k, seed);
        prop_assert_eq!(got.iter().count(), expected.len());
        for (name, want) in expected {
            if finite || name == "auc" {
                let value = got.get(&name).unwrap();
                prop_assert!((value - want).abs() < 1e-9, "{name}: {value} {want}");
            }
        }
        // The least memory that is said to suffice does, and neither it nor threads change a bit.
        let Err(EvaluateError::Rank(RankError::Memory { needed, .. })) =
            evaluate(&scores, &dataset, &options, &Context::new(3, ByteSize(users as u64 * 4)))
        else {
            panic!("that is too little memory")
        };
        for ctx in [Context::new(3, needed), Context::new(3, ByteSize(needed.0 * 2)), context(2)] {
            prop_assert_eq!(&evaluate(&scores, &dataset, &options, &ctx).unwrap().metrics, &got);
        }
    }
}

/// 400 users with 3 train and 2 test items among 150, popular ones more often.
fn skewed(folder: &std::path::Path) -> (Dataset, Vec<u8>) {
    let (users, items) = (400, 150);
    let mut assignment = vec![0; users * items];
    for u in 0..users {
        let mut next = 0;
        for n in 0..200 {
            let item = (noise(u, n).powi(3) * items as f32) as usize;
            if assignment[u * items + item] == 0 && next < 5 {
                assignment[u * items + item] = if next < 3 { 1 } else { 3 };
                next += 1;
            }
        }
    }
    (dataset_of(folder, users, items, &assignment), assignment)
}

#[test]
fn a_constant_scorer_gets_what_random_gets() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, assignment) = skewed(folder.path());
    let constant = Matrix { users: 400, items: 150, scores: vec![0.25; assignment.len()] };
    for protocol in [Protocol::Full, sampled(30)] {
        let mut means = [0.0; 3];
        let seeds = 20;
        for seed in 0..seeds {
            let options = EvaluateOptions { k: vec![10], protocol: protocol.clone(), seed, ..Default::default() };
            let result = evaluate(&constant, &dataset, &options, &context(2)).unwrap();
            let of = |baseline| result.baselines.get(baseline).unwrap();
            let all = [&result.metrics, of(Baseline::Random), of(Baseline::Popularity)];
            for (mean, metrics) in means.iter_mut().zip(all) {
                *mean += metrics.get("recall@10").unwrap() / seeds as f64;
            }
        }
        // In expectation 10 of 147 candidates, or of 31. The standard error over 16,000 held-out items is 0.002–0.004.
        let expected = if protocol == Protocol::Full { 10.0 / 147.0 } else { 10.0 / 31.0 };
        assert!((means[0] - expected).abs() < 0.016, "constant: {} instead of {expected}", means[0]);
        assert!((means[1] - expected).abs() < 0.016, "random: {} instead of {expected}", means[1]);
        assert!(means[2] > expected * 1.3, "popularity must stand out: {}", means[2]);
    }
}

#[test]
fn the_auc_of_a_constant_scorer_is_a_half() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, assignment) = skewed(folder.path());
    let constant = Matrix { users: 400, items: 150, scores: vec![-1.5; assignment.len()] };
    let options = EvaluateOptions::accuracy();
    assert_eq!(evaluate(&constant, &dataset, &options, &context(1)).unwrap().metrics.get("auc"), Some(0.5));
}

#[test]
fn the_sampled_protocol_ranks_each_item_alone_and_ignores_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, assignment) = skewed(folder.path());
    // Held-out items score highest, train items higher still: neither may push a held-out item down.
    let scores = assignment.iter().map(|a| [0.0, 9.0, 9.0, 5.0][*a as usize]).collect();
    let perfect = Matrix { users: 400, items: 150, scores };
    let protocol = sampled(99);
    let options = EvaluateOptions { protocol, k: vec![1, 10], ..Default::default() };
    let result = evaluate(&perfect, &dataset, &options, &context(1)).unwrap();
    for (name, value) in result.metrics.iter().filter(|(name, _)| *name != "precision@10") {
        assert!((value - 1.0).abs() < 1e-12, "{name}: {value}");
    }
    assert_eq!((result.interactions, result.users_short_of_negatives), (800, Some(0)));
    assert_eq!(result.metrics.get("auc"), None);
    let other = evaluate(&perfect, &dataset, &options, &context(3)).unwrap();
    let random = result.baselines.get(Baseline::Random);
    assert_eq!(other.baselines, result.baselines);
    // Waves of a single held-out item, which part those of a user, change no bit either.
    let Err(EvaluateError::Rank(RankError::Memory { needed, .. })) =
        evaluate(&perfect, &dataset, &options, &Context::new(3, ByteSize(1)))
    else {
        panic!("that is too little memory")
    };
    let least = evaluate(&perfect, &dataset, &options, &Context::new(3, needed)).unwrap();
    assert_eq!((least.baselines.get(Baseline::Random), least.users_short_of_negatives), (random, Some(0)));
    let more = EvaluateOptions { protocol: sampled(146), ..options };
    assert_eq!(evaluate(&perfect, &dataset, &more, &context(2)).unwrap().users_short_of_negatives, Some(400));
}

#[test]
fn cold_users_are_counted_and_a_sample_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let parts = [
        (Part::Train, vec![vec![0, 1], vec![], vec![2], vec![3]]),
        (Part::Test, vec![vec![2], vec![4], vec![], vec![5, 6]]),
    ];
    let dataset = fixture::dataset(&folder.path().join("d"), 8, &parts);
    let options = EvaluateOptions { k: vec![3], ..Default::default() };
    let popularity = Popularity::new(&dataset);
    let run = |options: &EvaluateOptions| evaluate(&popularity, &dataset, options, &context(1)).unwrap();
    let result = run(&options);
    assert_eq!((result.users, result.interactions, result.cold_users), (2, 3, 1));
    let result = run(&EvaluateOptions { include_cold: true, ..options.clone() });
    assert_eq!((result.users, result.interactions, result.cold_users), (3, 4, 1));
    let result = run(&EvaluateOptions { users: Some(1), ..options.clone() });
    assert_eq!(result.users, 1);
    let json = serde_json::to_value(run(&options)).unwrap();
    assert!(json["metrics"]["recall@3"].is_f64() && json["baselines"]["popularity"]["auc"].is_f64(), "{json}");
    assert_eq!((&json["protocol"], &json["split"]), (&"full".into(), &"test".into()));
}

#[test]
fn what_a_scorer_does_not_know_is_never_recommended_by_any_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, assignment) = skewed(folder.path());
    let (users, items) = (390, 120);
    let older = Matrix { users, items, scores: (0..users * items).map(|at| noise(at, 3)).collect() };
    // The same, written out.
    let score = |at: usize| match (at / 150 < users, at % 150 < items) {
        (true, true) => older.scores[at / 150 * items + at % 150],
        (false, true) => 0.0,
        (_, false) => f32::NEG_INFINITY,
    };
    let whole = Matrix { users: 400, items: 150, scores: (0..assignment.len()).map(score).collect() };
    for protocol in [Protocol::Full, sampled(9), sampled(146)] {
        let options = EvaluateOptions { protocol, k: vec![10], include_cold: true, ..EvaluateOptions::default() };
        let run =
            |scorer: &Matrix, options: &EvaluateOptions| evaluate(scorer, &dataset, options, &context(2)).unwrap();
        let (of_older, of_whole) = (run(&older, &options), run(&whole, &options));
        assert_eq!((of_older.metrics, of_older.baselines), (of_whole.metrics, of_whole.baselines));
        assert_eq!((of_older.users, of_older.later_users, of_whole.later_users), (400, 10, 0));
        assert!(of_older.notes[0].contains("390 of 400 users and 120 of 150 items"), "{:?}", of_older.notes);
        let without = run(&older, &EvaluateOptions { include_cold: false, ..options });
        assert_eq!((without.users, without.later_users), (390, 10));
    }
    // Of fewer negatives than the cut-off all are recommended, but for what never is.
    let nothing = Matrix { users: 400, items: 150, scores: vec![f32::NEG_INFINITY; assignment.len()] };
    let options = EvaluateOptions { protocol: sampled(5), k: vec![6], ..EvaluateOptions::accuracy() };
    let metrics = evaluate(&nothing, &dataset, &options, &context(1)).unwrap().metrics;
    assert!(metrics.iter().all(|(_, value)| value == 0.0), "{metrics:?}");
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let parts = [(Part::Train, vec![vec![0, 1], vec![2]]), (Part::Test, vec![vec![2], vec![4]])];
    let dataset = fixture::dataset(&folder.path().join("d"), 8, &parts);
    let scorer = |scores: Vec<f32>| Matrix { users: 2, items: scores.len() / 2, scores };
    let error = |scorer: &Matrix, options: EvaluateOptions| {
        evaluate(scorer, &dataset, &options, &context(1)).unwrap_err().to_string()
    };
    let three = EvaluateOptions { k: vec![3], ..Default::default() };
    let fine = scorer(vec![1.0; 16]);
    let text = error(&fine, EvaluateOptions { part: Part::Valid, ..three.clone() });
    assert!(text.contains("no valid part, only train and test") && text.contains("--valid-split"), "{text}");
    let text = error(&fine, EvaluateOptions { k: vec![3, 9], ..three.clone() });
    assert!(text.contains("--k 9") && text.contains("between 1 and 8"), "{text}");
    assert!(error(&scorer(vec![1.0; 18]), three.clone()).contains("2 users and 9 items"));
    for protocol in [Protocol::Full, sampled(7)] {
        let mut scores = vec![1.0; 16];
        scores[8 + 4] = f32::NAN;
        let text = error(&scorer(scores), EvaluateOptions { protocol, ..three.clone() });
        let user = dataset.users().id(1).unwrap();
        assert!(text.contains(&format!("user '{user}'")) && text.contains("NaN"), "{text}");
    }
    let cancelled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let ctx = context(1).with_cancel(cancelled);
    assert!(evaluate(&fine, &dataset, &three, &ctx).unwrap_err().to_string().contains("interrupted"));
}

#[test]
fn a_model_of_another_dataset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parts = |test| [(Part::Train, vec![vec![0, 1], vec![2]]), (Part::Test, vec![vec![test], vec![4]])];
    let dataset = fixture::dataset(&folder.path().join("a"), 8, &parts(3));
    let other = fixture::dataset(&folder.path().join("b"), 8, &parts(5));
    let row = |i: usize, out: &mut [f32]| out.iter_mut().enumerate().for_each(|(d, v)| *v = noise(i, d));
    let model = fixture::model(&folder.path().join("m"), &dataset, (5, false), row, row);
    let options = EvaluateOptions { k: vec![3], ..Default::default() };
    assert!(evaluate(&model, &dataset, &options, &context(1)).is_ok());
    let text = evaluate(&model, &other, &options, &context(1)).unwrap_err().to_string();
    assert!(text.contains("trained on another dataset"), "{text}");
}

/// The metrics of a model, tables and all, against `tests/oracle/metrics.py`, which shares no code with this crate.
#[test]
fn equals_the_python_oracle_over_exported_scores() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/metrics.py");
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3 to run {script}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (users, items, dimensions) = (60usize, 300usize, 17usize);
    let assignment: Vec<u8> = (0..users * items).map(|i| (noise(i, 9) * 40.0) as u8).collect();
    let dataset = dataset_of(folder.path(), users, items, &assignment);
    let (u, i) = (|u: usize, d: usize| noise(u, d) - 0.4, |i: usize, d: usize| noise(i + 5000, d) - 0.5);
    let fill = |f: fn(usize, usize) -> f32| {
        move |row: usize, out: &mut [f32]| out.iter_mut().enumerate().for_each(|(d, v)| *v = f(row, d))
    };
    let model = fixture::model(&folder.path().join("m"), &dataset, (dimensions, false), fill(u), fill(i));
    let cases: Vec<_> = (0..users)
        .map(|user| {
            let of = |parts: &[u8]| -> Vec<usize> {
                (0..items).filter(|item| parts.contains(&assignment[user * items + item])).collect()
            };
            // Exported in f64: the sums are those of the formula, not of our kernel.
            let dot = |item| (0..dimensions).map(|d| f64::from(u(user, d)) * f64::from(i(item, d))).sum::<f64>();
            let scores: Vec<f64> = (0..items).map(dot).collect();
            serde_json::json!({ "scores": scores, "masked": of(&[1, 2]), "relevant": of(&[3]) })
        })
        .filter(|case| !case["relevant"].as_array().unwrap().is_empty())
        .collect();
    let input = serde_json::json!({ "k": [5, 20, 100], "users": cases }).to_string();
    let path = folder.path().join("case.json");
    std::fs::write(&path, input).unwrap();
    let run = std::process::Command::new("python3").arg(script).stdin(std::fs::File::open(&path).unwrap()).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let expected: BTreeMap<String, f64> = serde_json::from_slice(&run.stdout).unwrap();
    let options = EvaluateOptions { k: vec![5, 20, 100], ..EvaluateOptions::accuracy() };
    let got = evaluate(&model, &dataset, &options, &context(2)).unwrap();
    assert_eq!(got.users as usize, cases.len(), "everybody has train interactions");
    assert_eq!(got.metrics.iter().count(), expected.len());
    for (name, value) in got.metrics.iter() {
        assert!((value - expected[name]).abs() < 1e-6, "{name}: {value} {}", expected[name]);
    }
}
