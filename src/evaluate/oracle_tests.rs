//! Slices, what is beyond accuracy, and comparisons, against naive computations and planted truths.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::*;
use crate::context::ByteSize;
use crate::dataset::{Columns, Event};
use crate::rank::fixture::{self, Matrix, noise};
use crate::rank::{Candidate, user_seed};

const USERS: usize = 90;
const ITEMS: usize = 70;
const SEED: u64 = 42;

fn context(threads: usize) -> Context {
    Context::new(threads, ByteSize(1 << 30))
}

/// Which part a pair is in: 1 train, 2 test, 0 none.
fn part_of(user: usize, item: usize) -> u8 {
    let popular = 0.35 * (1.0 - item as f32 / ITEMS as f32);
    match noise(user, item + 1000) {
        x if x < popular => 1,
        x if x > 0.9 => 2,
        _ => 0,
    }
}

fn time_of(user: usize, item: u32) -> i64 {
    (noise(user + 500, item as usize) * 1e6) as i64
}

fn of_part(user: usize, part: u8) -> Vec<u32> {
    (0..ITEMS as u32).filter(|item| part_of(user, *item as usize) == part).collect()
}

/// Users with train and test interactions, and their times.
fn timed(folder: &std::path::Path) -> Dataset {
    let parts =
        [(Part::Train, 1), (Part::Test, 2)].map(|(part, n)| (part, (0..USERS).map(|u| of_part(u, n)).collect()));
    let columns = Columns { time: true, ..Columns::default() };
    fixture::dataset_with(&folder.join("d"), ITEMS, &parts, columns, |user, item| Event {
        item,
        time: time_of(user, item),
        weight: 1.0,
        count: 1,
        event: 0,
        context: 0,
    })
}

fn users() -> impl Iterator<Item = usize> {
    (0..USERS).filter(|u| !of_part(*u, 1).is_empty() && !of_part(*u, 2).is_empty())
}

/// Few distinct scores, so that many tie.
fn tied_scores() -> Matrix {
    let scores = (0..USERS * ITEMS).map(|at| (noise(at, 7) * 6.0).floor()).collect();
    Matrix { users: USERS, items: ITEMS, scores }
}

/// A user's candidates, best first, without `except`.
fn ranking(scores: &Matrix, user: usize, except: &[u32]) -> Vec<u32> {
    let own = user_seed(SEED, user as u32);
    let mut all: Vec<u32> =
        (0..ITEMS as u32).filter(|i| part_of(user, *i as usize) != 1 && !except.contains(i)).collect();
    all.sort_by_key(|i| Reverse(Candidate::new(scores.scores[user * ITEMS + *i as usize], *i, own)));
    all
}

#[test]
fn slices_of_interactions_are_ranked_without_the_others_and_slices_of_users_are_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let (dataset, scores) = (timed(folder.path()), tied_scores());
    let slices = vec![SliceBy::Time(3), SliceBy::Popularity, SliceBy::Activity];
    let options = EvaluateOptions { k: vec![2, 6], slices, ..EvaluateOptions::accuracy() };
    let result = evaluate(&scores, &dataset, &options, &context(2)).unwrap();
    let (start, end) = dataset.part(Part::Test).unwrap().summary().time_range.unwrap();
    let length = (end - start) / 3 + 1;
    let times: Vec<_> = result.slices.iter().filter(|slice| slice.by == "time").collect();
    assert_eq!(times.len(), 3);
    let popularity = |item: u32| dataset.popularity()[item as usize].to_native();
    let range = |slice: &str| {
        let (from, to) = slice.split_once('-').unwrap_or((slice, slice));
        from.parse::<u32>().unwrap()..=to.parse::<u32>().unwrap()
    };
    for (at, slice) in result.slices.iter().enumerate() {
        let (mut recall, mut mrr, mut auc, mut count, mut interactions) = (0.0, 0.0, 0.0, 0u64, 0);
        for user in users() {
            let test = of_part(user, 2);
            let is_in = |item: &u32| match slice.by.as_str() {
                "time" => (time_of(user, *item) - start) / length == at as i64,
                "popularity" => range(&slice.slice).contains(&popularity(*item)),
                _ => range(&slice.slice).contains(&(of_part(user, 1).len() as u32)),
            };
            let (own, others): (Vec<u32>, Vec<u32>) = test.iter().copied().partition(is_in);
            if own.is_empty() {
                continue;
            }
            count += 1;
            interactions += own.len() as u64;
            let ranked = ranking(&scores, user, &others);
            recall += ranked.iter().take(6).filter(|i| own.contains(i)).count() as f64 / own.len() as f64;
            mrr += ranked.iter().take(2).position(|i| own.contains(i)).map_or(0.0, |rank| 1.0 / (rank + 1) as f64);
            let score = |i: u32| scores.scores[user * ITEMS + i as usize];
            let negatives: Vec<u32> = ranked.iter().copied().filter(|i| !own.contains(i)).collect();
            let pairs = own.iter().flat_map(|p| negatives.iter().map(move |n| (*p, *n)));
            let right: f64 = pairs
                .map(|(p, n)| if score(p) > score(n) { 1.0 } else { 0.5 * f64::from(u8::from(score(p) == score(n))) })
                .sum();
            auc += right / (own.len() * negatives.len()) as f64;
        }
        let name = format!("{} {}", slice.by, slice.slice);
        assert_eq!((slice.users, slice.interactions), (count, interactions), "{name}");
        for (metric, sum) in [("recall@6", recall), ("mrr@2", mrr), ("auc", auc)] {
            let got = slice.metrics.get(metric).unwrap();
            assert!((got - sum / count as f64).abs() < 1e-9, "{name} {metric}: {got} {}", sum / count as f64);
            let [low, high] = slice.intervals.as_ref().unwrap().get(metric).unwrap();
            assert!(low <= got && got <= high, "{name} {metric}");
        }
    }
    // Threads and memory change nothing, and the least memory that is said to suffice does.
    let run = |ctx: &Context| evaluate(&scores, &dataset, &options, ctx);
    let Err(EvaluateError::Rank(RankError::Memory { needed, .. })) = run(&Context::new(3, ByteSize(1))) else {
        panic!("that is too little memory")
    };
    let least = run(&Context::new(3, needed)).unwrap();
    for (a, b) in least.slices.iter().zip(&result.slices) {
        assert_eq!((&a.metrics, &a.intervals, a.users), (&b.metrics, &b.intervals, b.users));
    }
}

#[test]
fn what_is_beyond_accuracy_is_what_the_definitions_say() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = timed(folder.path());
    let (columns, k) = (5, [3usize, 8]);
    let (u, i) = (|u: usize, d: usize| noise(u, d) - 0.4, |i: usize, d: usize| noise(i + 5000, d) - 0.5);
    let fill = |f: fn(usize, usize) -> f32| {
        move |row: usize, out: &mut [f32]| out.iter_mut().enumerate().for_each(|(d, v)| *v = f(row, d))
    };
    let model = fixture::model(&folder.path().join("m"), &dataset, (columns, false), fill(u), fill(i));
    let mut scores = Matrix { users: USERS, items: ITEMS, scores: vec![0.0; USERS * ITEMS] };
    for user in 0..USERS as u32 {
        let row = user as usize * ITEMS..(user as usize + 1) * ITEMS;
        Scorer::score(&model, &[user], 0..ITEMS as u32, &mut scores.scores[row]);
    }
    let baselines = vec![Baseline::Popularity];
    let options = EvaluateOptions { k: k.to_vec(), baselines, ..EvaluateOptions::default() };
    let result = evaluate(&model, &dataset, &options, &context(2)).unwrap();

    let popularity = |item: u32| f64::from(dataset.popularity()[item as usize].to_native());
    let mut popular: Vec<u32> = (0..ITEMS as u32).collect();
    popular.sort_by_key(|i| Reverse(popularity(*i) as u32));
    let total: f64 = popular.iter().map(|i| popularity(*i)).sum();
    let mut head = 0.0;
    let last = popular.iter().find(|i| {
        head += popularity(**i);
        head >= 0.8 * total
    });
    let tail = popularity(*last.unwrap());
    let trained = (0..USERS).filter(|u| !of_part(*u, 1).is_empty()).count() as f64;
    for k in k {
        let mut sums: HashMap<&str, f64> = HashMap::new();
        let mut counts = vec![0u32; ITEMS];
        for user in users() {
            let best: Vec<u32> = ranking(&scores, user, &[]).into_iter().take(k).collect();
            let mut candidates = popular.iter().copied().filter(|i| part_of(user, *i as usize) != 1);
            let least = popularity(candidates.nth(k - 1).unwrap());
            let mean = |f: &dyn Fn(u32) -> f64| best.iter().map(|i| f(*i)).sum::<f64>() / best.len() as f64;
            let test = of_part(user, 2);
            let surprise = |i: u32| f64::from(u8::from(test.contains(&i) && popularity(i) < least));
            let vector = |item: u32| (0..columns).map(|d| f64::from(i(item as usize, d))).collect::<Vec<_>>();
            let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            let cosine = |a: u32, b: u32| {
                let (a, b) = (vector(a), vector(b));
                a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>() / norm(&a) / norm(&b)
            };
            let pairs = best.iter().flat_map(|a| best.iter().filter(move |b| *b != a).map(move |b| (*a, *b)));
            let far = pairs.map(|(a, b)| 1.0 - cosine(a, b)).sum::<f64>() / (k * (k - 1)) as f64;
            for (name, value) in [
                ("mean_popularity", mean(&popularity)),
                ("tail_share", mean(&|i| f64::from(u8::from(popularity(i) < tail)))),
                ("novelty", mean(&|i| -(popularity(i).max(1.0) / trained).log2())),
                ("serendipity", mean(&surprise)),
                ("diversity", far),
            ] {
                *sums.entry(name).or_default() += value;
            }
            best.iter().for_each(|i| counts[*i as usize] += 1);
        }
        let n = users().count() as f64;
        let mut expected: Vec<(String, f64)> =
            sums.iter().map(|(name, sum)| (format!("{name}@{k}"), sum / n)).collect();
        expected.push((format!("coverage@{k}"), counts.iter().filter(|c| **c > 0).count() as f64 / ITEMS as f64));
        let differences =
            counts.iter().flat_map(|a| counts.iter().map(move |b| f64::from(a.abs_diff(*b)))).sum::<f64>();
        expected.push((format!("gini@{k}"), differences / (2.0 * ITEMS as f64 * n * k as f64)));
        for (name, want) in expected {
            let got = result.metrics.get(&name).unwrap();
            assert!((got - want).abs() < 1e-5, "{name}: {got} {want}");
        }
    }
    let popularity = result.baselines.get(Baseline::Popularity).unwrap();
    assert_eq!(popularity.get("serendipity@8"), Some(0.0));
    assert_eq!(popularity.get("tail_share@3"), Some(0.0));
    assert!(popularity.get("diversity@3").unwrap() > 0.0, "in the space of the model that is evaluated");
    assert!(result.intervals.is_some());
    let Err(EvaluateError::Rank(RankError::Memory { needed, .. })) =
        evaluate(&model, &dataset, &options, &Context::new(2, ByteSize(1)))
    else {
        panic!("that is too little memory")
    };
    let least = evaluate(&model, &dataset, &options, &Context::new(2, needed)).unwrap();
    assert_eq!((least.metrics, least.baselines), (result.metrics, result.baselines));
}

/// Scores that find `signal` of the taste there is, under the noise of a seed.
fn noisy(seed: usize, signal: f32) -> Matrix {
    let score = |at: usize| {
        let (user, item) = (at / ITEMS, at % ITEMS);
        let taste = if part_of(user, item) == 2 { signal } else { 0.0 };
        taste + noise(at, 9) + 0.7 * noise(at, 100 + seed)
    };
    Matrix { users: USERS, items: ITEMS, scores: (0..USERS * ITEMS).map(score).collect() }
}

#[test]
fn seeds_are_told_apart_as_seldom_as_promised_and_what_is_better_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = timed(folder.path());
    let options = EvaluateOptions::accuracy();
    let any = CompareOptions { margin: 0.0, ..CompareOptions::default() };
    let of = |a: &Matrix, b: &Matrix| compare(a, b, &dataset, &options, &any, &context(2)).unwrap();
    let pairs = 20;
    let told = (0..pairs)
        .filter(|pair| of(&noisy(2 * pair, 0.3), &noisy(2 * pair + 1, 0.3)).verdict != Verdict::CannotBeTold)
        .count();
    assert!(told <= 2, "{told} of {pairs} pairs that differ by their noise alone");
    let found = (0..pairs).filter(|pair| of(&noisy(2 * pair, 0.6), &noisy(2 * pair + 1, 0.3)).verdict == Verdict::A);
    assert_eq!(found.count(), pairs, "twice the signal is found every time");
    let result = of(&noisy(1, 0.3), &noisy(2, 0.6));
    let ndcg = result.metrics.iter().find(|m| m.metric == "ndcg@20").unwrap();
    assert!(ndcg.verdict == Verdict::B && ndcg.interval[1] < 0.0 && ndcg.p_value <= ndcg.p_corrected, "{ndcg:?}");
    let same = of(&noisy(1, 0.3), &noisy(1, 0.3));
    assert!(same.metrics.iter().all(|m| m.p_value == 1.0 && m.interval == [0.0, 0.0]));
    // One metric alone needs no correction; one that is not measured is named beside those that are.
    let only = |names: &[&str]| {
        let wanted = CompareOptions { metrics: names.iter().map(|name| name.to_string()).collect(), ..any.clone() };
        compare(&noisy(1, 0.3), &noisy(2, 0.6), &dataset, &options, &wanted, &context(2))
    };
    let one = only(&["ndcg@20"]).unwrap();
    assert_eq!(one.metrics.len(), 1);
    assert_eq!(one.metrics[0].p_corrected, ndcg.p_value);
    assert_eq!(only(&["ndcg", "auc"]).unwrap().metrics.len(), 3);
    let wrong = only(&["ndcg", "ndgc"]).unwrap_err().to_string();
    assert!(
        wrong.contains("ndgc") && wrong.contains("did you mean \"ndcg\"?") && wrong.contains("recall@10"),
        "{wrong}"
    );
}
