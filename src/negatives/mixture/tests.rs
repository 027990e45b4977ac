//! Mixtures against their definitions: proposals, selections, filters, weights, shares, and what must never happen.

mod audited;

use proptest::prelude::*;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::super::tests::assert_follows;
use super::super::{Batch, NegativesConfig, Propose, Renewal, Sampling, Scores, Wanted};
use crate::context::Context;
use crate::dataset::{Columns, ContextTable, Dataset, Event, Part};
use crate::model::Similarity;
use crate::rank::fixture::dataset_of_all;

const ITEMS: u32 = 40;
const DAY: i64 = 86_400_000;

/// A fixed score for every user and item, and a fixed cosine for every two items.
struct Fixed;

fn score(user: u32, item: u32) -> f32 {
    ((user * 7 + item * 13) as f32).sin() * 2.0
}

impl Scores for Fixed {
    fn of_user(&self, user: u32, items: &[u32], out: &mut [f32]) {
        out.iter_mut().zip(items).for_each(|(out, item)| *out = score(user, *item));
    }

    fn of_item(&self, item: u32, items: &[u32], out: &mut [f32]) {
        out.iter_mut().zip(items).for_each(|(out, other)| *out = 1.0 - item.abs_diff(*other) as f32 / ITEMS as f32);
    }

    fn width(&self) -> usize {
        2
    }

    /// sin(a + b) = sin a cos b + cos a sin b.
    fn user_row(&self, user: u32, out: &mut [f32]) {
        let (sin, cos) = ((user * 7) as f32).sin_cos();
        out.copy_from_slice(&[2.0 * sin, 2.0 * cos]);
    }

    fn item_row(&self, item: u32, out: &mut [f32]) {
        let (sin, cos) = ((item * 13) as f32).sin_cos();
        out.copy_from_slice(&[cos, sin]);
    }
}

/// 60 users with some items each, the later items the rarer; user 0 has two items, user 1 all but one, user 2 all.
fn users() -> &'static [Vec<u32>] {
    static USERS: std::sync::LazyLock<Vec<Vec<u32>>> = std::sync::LazyLock::new(make_users);
    &USERS
}

fn make_users() -> Vec<Vec<u32>> {
    let has = |u: u32, i: u32| match u {
        0 => i == 3 || i == 17,
        1 => i != 21,
        2 => true,
        _ => (u * 31 + i * 17 + u * i) % 97 < 60 - i,
    };
    (0..60).map(|u| (0..ITEMS).filter(|i| has(u, *i)).collect()).collect()
}

/// When item i is first taken by anyone but users 1 and 2, i days have passed.
fn time(user: usize, item: u32) -> i64 {
    DAY * (i64::from(item) + if user == 1 || user == 2 { 100 } else { (user as i64 * 5 + i64::from(item)) % 50 })
}

/// What was shown and not taken: a third of that, and nothing to users 3 and 4.
fn exposed() -> Vec<Vec<u32>> {
    let shown = |u: u32, of: &[u32], i: u32| !(3..5).contains(&u) && !of.contains(&i) && (u + i * i).is_multiple_of(3);
    users().iter().enumerate().map(|(u, of)| (0..ITEMS).filter(|i| shown(u as u32, of, *i)).collect()).collect()
}

const DEVICES: [&str; 4] = ["car", "phone", "tablet", "tv"];
const CATEGORIES: [&str; 3] = ["book", "film", "song"];

/// Which of the devices a user took an item on, and which category it has.
fn device(user: usize, item: u32) -> i64 {
    (user as i64 * 3 + i64::from(item) / 4) % 4
}

fn category(_: usize, item: u32) -> i64 {
    i64::from(item % 3)
}

fn dataset(folder: &tempfile::TempDir) -> Dataset {
    let columns = Columns { time: true, ..Columns::default() };
    let event = |u: usize, item: u32| {
        let context = (device(u, item) * 3 + category(u, item)) as u32;
        Event { item, time: time(u, item), weight: 1.0, count: 1, event: 0, context }
    };
    let value = |at: usize, column: usize| [DEVICES[at / 3], CATEGORIES[at % 3]][column].as_bytes();
    let contexts = ContextTable::new(vec!["device".into(), "category".into()], 12, value);
    let parts = [(Part::Train, users().to_vec())];
    let more = (Some(&exposed()[..]), Some(contexts));
    dataset_of_all(&folder.path().join("d"), ITEMS as usize, &parts, (columns, event), more)
}

fn pairs(user: u32, items: &[u32]) -> Vec<u64> {
    items.iter().map(|i| u64::from(user) << 32 | u64::from(*i)).collect()
}

/// `rounds` times the negatives of all positives of `user`, each time in a fresh block of everything, at `progress`.
fn draw_at(progress: f64, dataset: &Dataset, text: &str, user: u32, rounds: usize) -> Batch {
    draw_wanted((progress, None), dataset, text, user, rounds)
}

/// The same of the positives that are wanted.
fn draw_wanted(
    (progress, wanted): (f64, Wanted<'_>),
    dataset: &Dataset,
    text: &str,
    user: u32,
    rounds: usize,
) -> Batch {
    let config: NegativesConfig = toml::from_str(text).unwrap();
    assert!(config.mistake().is_none_or(|m| panic!("{} {} {}", m.key, m.value, m.must)));
    let (negatives, score) = ((&config, config.count.unwrap_or(8)), (Similarity::Dot, 1.0));
    let mut sampling = Sampling::new(dataset, negatives, score, ITEMS as usize, 1.0, &Context::default()).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(31);
    let block: Vec<u32> = (0..ITEMS).collect();
    let all: Vec<u64> = users().iter().enumerate().flat_map(|(u, items)| pairs(u as u32, items)).collect();
    let own = pairs(user, &users()[user as usize]);
    let mut batch = Batch::default();
    sampling.renew(Renewal { progress, threads: 1, alone: true }, &Fixed, &Context::default());
    for _ in 0..rounds {
        sampling.begin(progress, &all, &mut rng);
        sampling.fill((&block, &own, &all), usize::MAX, (&Fixed, None, wanted), &mut rng, &mut batch);
    }
    batch
}

fn draw(dataset: &Dataset, text: &str, user: u32, rounds: usize) -> Batch {
    draw_at(0.0, dataset, text, user, rounds)
}

/// Weights by item, none for the positives of user 0.
fn weights(of: impl Fn(u32) -> f64) -> Vec<f64> {
    (0..ITEMS).map(|i| if i == 3 || i == 17 { 0.0 } else { of(i) }).collect()
}

fn popularity(item: u32) -> f64 {
    users().iter().filter(|items| items.contains(&item)).count() as f64
}

#[test]
fn proposals_follow_their_definitions() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    // Two components of the same kind, so that no shortcut is taken.
    let drawn = |keys: &str| draw(&data, &format!("count = 1\n[[mix]]\n{keys}\n[[mix]]\n{keys}"), 0, 30_000).negatives;
    assert_follows(&drawn("propose = \"uniform\""), &weights(|_| 1.0));
    assert_follows(&drawn("propose = \"popularity\"\nalpha = 0.6"), &weights(|i| popularity(i).powf(0.6)));
    assert_follows(&drawn("propose = \"in-batch\""), &weights(popularity));
    assert_follows(&drawn("propose = \"reservoir\"\nsize = 50"), &weights(popularity));
    // A random walk from the positive to a user of it, to an item of that user.
    let batch = draw(&data, "count = 1\n[[mix]]\npropose = \"cooccurrence\"", 0, 60_000);
    assert_eq!(batch.filled, 0);
    for positive in [3u32, 17] {
        let of: Vec<_> = batch.positives.iter().zip(&batch.negatives).filter(|(p, _)| **p == positive).collect();
        let drawn: Vec<u32> = of.into_iter().map(|(_, n)| *n).collect();
        let walk = |i: u32| {
            let around = users().iter().enumerate().filter(|(u, of)| *u != 0 && of.contains(&positive));
            around.filter(|(_, of)| of.contains(&i)).map(|(_, of)| 1.0 / of.len() as f64).sum()
        };
        assert_follows(&drawn, &weights(walk));
    }
}

#[test]
fn positives_that_are_not_wanted_are_left_out_and_are_no_negatives() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let own = &users()[8];
    let wanted = |user: u32, item: u32| user == 8 && item.is_multiple_of(3);
    let some: Vec<u32> = own.iter().copied().filter(|item| wanted(8, *item)).collect();
    assert!(some.len() > 2 && some.len() < own.len());
    let allowed = |of: &dyn Fn(u32) -> f64| -> Vec<f64> {
        (0..ITEMS).map(|i| if own.contains(&i) { 0.0 } else { of(i) }).collect()
    };
    for (text, of) in [
        ("count = 2\nproposal = \"uniform\"", &(|_| 1.0) as &dyn Fn(u32) -> f64),
        ("count = 2\nproposal = \"popularity\"\nalpha = 1.0", &popularity),
        ("count = 2\n[[mix]]\npropose = \"uniform\"\n[[mix]]\npropose = \"uniform\"", &|_| 1.0),
        ("count = 2\n[[mix]]\npropose = \"reservoir\"\nsize = 50", &popularity),
        ("count = 2\n[[mix]]\npropose = \"in-batch\"", &popularity),
    ] {
        let rounds = 4_000;
        let batch = draw_wanted((0.0, Some(&wanted)), &data, text, 8, rounds);
        assert_eq!((batch.users.len(), batch.skipped), (rounds, 0), "{text}");
        assert!(batch.positives.chunks(some.len()).all(|run| run == some), "{text}");
        assert_eq!(batch.ends.last(), Some(&((rounds * some.len()) as u32)));
        assert_follows(&batch.negatives, &allowed(of));
        let none = draw_wanted((0.0, Some(&|_, _| false)), &data, text, 8, 3);
        assert_eq!((none.users.len(), none.negatives.len(), none.skipped), (0, 0, 0), "{text}");
    }
}

#[test]
fn exposures_are_drawn_alike_and_uniform_items_stand_in_for_users_without() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let shown = |user: usize| (0..ITEMS).map(move |i| f64::from(u8::from(exposed()[user].contains(&i)))).collect();
    for user in [0usize, 8, 11] {
        let weights: Vec<f64> = shown(user);
        assert!(weights.iter().sum::<f64>() > 3.0);
        let batch = draw(&data, "count = 2\n[[mix]]\npropose = \"exposures\"", user as u32, 4_000);
        assert_follows(&batch.negatives, &weights);
        assert_eq!((batch.filled, batch.drawn[0]), (0, batch.negatives.len() as u64));
    }
    // Without replacement and as many as there are: every one of them, each time.
    let all = exposed()[8].clone();
    let text = format!("count = {}\nwith_replacement = false\n[[mix]]\npropose = \"exposures\"", all.len());
    let batch = draw(&data, &text, 8, 50);
    for negatives in batch.negatives.chunks(all.len()) {
        let mut sorted = negatives.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, all);
    }
    // One more is a uniform one.
    let more = text.replace(&format!("count = {}", all.len()), &format!("count = {}", all.len() + 1));
    let batch = draw(&data, &more, 8, 20);
    assert_eq!(batch.filled as usize, batch.positives.len());
    // To user 3 nothing was shown.
    let batch = draw(&data, "count = 1\n[[mix]]\npropose = \"exposures\"", 3, 2_000);
    assert_eq!((batch.filled, batch.drawn[0]), (batch.negatives.len() as u64, 0));
    let own = &users()[3];
    let uniform: Vec<f64> = (0..ITEMS).map(|i| f64::from(u8::from(!own.contains(&i)))).collect();
    assert_follows(&batch.negatives, &uniform);
}

#[test]
fn the_same_context_is_that_of_the_positive_and_leaves_no_weight_where_it_holds_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let stretch = |user: usize, item: u32| time(user, item).div_euclid(5 * DAY);
    let void: Vec<u64> = [same_context(&data, "time:5d", &stretch), same_context(&data, "device", &device)]
        .into_iter()
        .chain([same_context(&data, "category", &category)])
        .collect();
    // User 1 lacks a single item, which hardly any stretch holds, and one category alone.
    assert!(void[0] > 0 && void[2] > 0, "{void:?}");
}

/// Checks negatives of the context that `text` asks for against `stretch`, which gives the number of an interaction's; returns
/// how many of user 1 have no weight.
fn same_context(data: &Dataset, text: &str, stretch: &dyn Fn(usize, u32) -> i64) -> u64 {
    let all = users();
    // Items with an interaction in the context of a positive of the user.
    let around = |user: usize, positive: u32| {
        let now = stretch(user, positive);
        let there = |i: u32| (0..60).any(|u| all[u].contains(&i) && stretch(u, i) == now);
        (0..ITEMS).filter(|i| there(*i) && !all[user].contains(i)).collect::<Vec<u32>>()
    };
    let check = |keys: &str, user: usize, weight: &dyn Fn(u32, u32) -> f64| {
        let text = format!("count = 2\n[[mix]]\nsame_context = \"{text}\"\n{keys}");
        let batch = draw(data, &text, user as u32, 6_000);
        let rows = batch.positives.iter().zip(batch.negatives.chunks(2).zip(batch.weights.chunks(2)));
        let mut void = 0;
        for positive in &all[user] {
            let of = || rows.clone().filter(|(p, _)| *p == positive).flat_map(|(_, (n, w))| n.iter().zip(w));
            let kept: Vec<u32> = of().filter(|(_, w)| **w > 0.0).map(|(n, _)| *n).collect();
            let allowed = around(user, *positive);
            let weights: Vec<f64> =
                (0..ITEMS).map(|i| if allowed.contains(&i) { weight(*positive, i) } else { 0.0 }).collect();
            if weights.iter().sum::<f64>() > 0.0 {
                assert_follows(&kept, &weights);
            } else {
                assert!(kept.is_empty(), "{positive} of {user}: {kept:?} are not of its context");
                void += of().count() as u64;
            }
        }
        assert_eq!(batch.void, void);
        assert_eq!(batch.skipped, 0);
        assert!(batch.negatives.iter().all(|n| !all[user].contains(n)));
        void
    };
    for user in [0, 8, 11] {
        check("", user, &|_, _| 1.0);
        check("propose = \"popularity\"\nalpha = 0.7", user, &|_, i| popularity(i).powf(0.7));
        // What in-batch proposes of the stretch, or a uniform item of it: whatever comes is of the stretch.
        let keys = format!("count = 1\n[[mix]]\nsame_context = \"{text}\"\npropose = \"in-batch\"");
        let batch = draw(data, &keys, user as u32, 50);
        for ((positive, negative), weight) in batch.positives.iter().zip(&batch.negatives).zip(&batch.weights) {
            assert!(*weight == 0.0 || around(user, *positive).contains(negative), "{negative} for {positive}");
        }
    }
    check("", 1, &|_, _| 1.0)
}

#[test]
fn nearest_negatives_are_of_the_highest_scores_and_uniform_ones_stand_in_for_positives() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let drawn = |user: u32, neighbours: usize, rounds: usize| {
        draw(&data, &format!("count = 1\n[[mix]]\npropose = \"nearest\"\nneighbours = {neighbours}"), user, rounds)
    };
    for neighbours in [1, 4, 12] {
        let mut best: Vec<u32> = (0..ITEMS).collect();
        best.sort_by(|a, b| score(0, *b).total_cmp(&score(0, *a)));
        best.truncate(neighbours);
        let batch = drawn(0, neighbours, 10_000);
        let any = best.iter().any(|i| *i != 3 && *i != 17);
        assert_eq!(batch.filled, if any { 0 } else { 20_000 });
        if any {
            assert_follows(&batch.negatives, &weights(|i| f64::from(u8::from(best.contains(&i)))));
        }
    }
    // User 1 has all items but one, which is not the very best.
    let best = (0..ITEMS).max_by(|a, b| score(1, *a).total_cmp(&score(1, *b))).unwrap();
    assert!(best != 21);
    let batch = drawn(1, 1, 3);
    assert!(batch.filled == 3 * 39 && batch.negatives.iter().all(|n| *n == 21));
}

#[test]
fn recent_negatives_were_there_at_the_time_of_their_positive() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let batch = draw(&data, "count = 2\n[[mix]]\npropose = \"recent\"\nhalf_life = 5", 7, 2_000);
    assert!(batch.positives.len() > 1_000);
    let all = users();
    let takers = |item: u32| (0..60).filter(|u| all[*u].contains(&item)).collect::<Vec<usize>>();
    let first: Vec<i64> = (0..ITEMS).map(|i| takers(i).into_iter().map(|u| time(u, i)).min().unwrap()).collect();
    for (positive, negatives) in batch.positives.iter().zip(batch.negatives.chunks(2)) {
        for negative in negatives {
            assert!(first[*negative as usize] <= time(7, *positive), "{negative} before its time");
        }
    }
    // Of user 0, whose positives lie apart: the definition itself.
    let batch = draw(&data, "count = 1\n[[mix]]\npropose = \"recent\"\nhalf_life = 5", 0, 30_000);
    let now = time(0, 17);
    let of = batch.positives.iter().zip(&batch.negatives).filter(|(p, _)| **p == 17);
    let decayed = |i: u32| {
        let times = takers(i).into_iter().map(|u| time(u, i)).filter(|t| *t <= now);
        times.map(|t| (-((now - t) as f64) / DAY as f64 / 5.0).exp2()).sum()
    };
    assert_follows(&of.map(|(_, n)| *n).collect::<Vec<_>>(), &weights(decayed));
}

#[test]
fn shares_follow_their_schedules_and_mixtures_their_shares() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let text = "count = 3\n[[mix]]\nshare = { schedule = \"linear\", from = 0.2, to = 0.8 }\n\
                [[mix]]\npropose = \"popularity\"\nalpha = 1\nshare = { schedule = \"linear\", from = 0.8, to = 0.2 }";
    let total = weights(popularity).iter().sum::<f64>();
    for (progress, uniform) in [(0.0, 0.2), (0.5, 0.5), (1.0, 0.8)] {
        let batch = draw_at(progress, &data, text, 0, 10_000);
        let drawn: Vec<u32> = (0..2).flat_map(|c| vec![c as u32; batch.drawn[c] as usize]).collect();
        assert_eq!(drawn.len(), batch.negatives.len());
        assert_follows(&drawn, &[uniform, 1.0 - uniform]);
        assert_follows(&batch.negatives, &weights(|i| uniform / 38.0 + (1.0 - uniform) * popularity(i) / total));
    }
    // In rotation, one after the other.
    let text = "count = 1\n[[mix]]\nshare = { schedule = \"staged\", values = [1, 0], every = 0.1 }\n\
                [[mix]]\npropose = \"in-batch\"\nshare = { schedule = \"staged\", values = [0, 1], every = 0.1 }";
    for (progress, only) in [(0.05, 0), (0.15, 1), (0.25, 0), (0.95, 1)] {
        let batch = draw_at(progress, &data, text, 0, 20);
        assert_eq!(batch.drawn[1 - only], 0, "at {progress}");
        assert_eq!(batch.drawn[only], 40);
    }
}

/// The chance of every allowed item of user 0 to be the hardest of `m` uniform candidates.
fn hardest_of(m: i32) -> Vec<f64> {
    let allowed: Vec<u32> = (0..ITEMS).filter(|i| *i != 3 && *i != 17).collect();
    let n = allowed.len() as f64;
    weights(|i| {
        let below = allowed.iter().filter(|j| score(0, **j) < score(0, i)).count() as f64;
        ((below + 1.0) / n).powi(m) - (below / n).powi(m)
    })
}

#[test]
fn dns_draws_the_hardest_of_m_and_activity_scales_m() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    for m in [1, 2, 5, 16] {
        let text = format!("count = 2\n[[mix]]\nselect = \"hardest\"\ncandidates = {m}");
        assert_follows(&draw(&data, &text, 0, 8_000).negatives, &hardest_of(m));
    }
    // User 0 has 2 items, the mean user some more: 64 × (2 / mean)² candidates.
    let mean = users().iter().map(|items| items.len() as f64).sum::<f64>() / 60.0;
    let m = (64.0 * (2.0 / mean).powi(2)).round() as i32;
    assert!((1..10).contains(&m));
    let text = "count = 2\n[[mix]]\nselect = \"hardest\"\ncandidates = 64\nactivity = 2";
    assert_follows(&draw(&data, text, 0, 8_000).negatives, &hardest_of(m));
    // Noise that drowns the scores leaves a uniform choice.
    let text = "count = 2\n[[mix]]\nselect = \"hardest\"\ncandidates = 5\nnoise = 100000";
    assert_follows(&draw(&data, text, 0, 8_000).negatives, &weights(|_| 1.0));
}

#[test]
fn violations_take_as_many_tries_as_chance_has_it_and_weigh_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let text = "count = 1\n[[mix]]\nselect = \"violation\"\nmargin = 0.4\ncandidates = 6\nweigh = \"rank\"";
    let batch = draw(&data, text, 0, 30_000);
    let rows = || batch.positives.iter().zip(&batch.negatives).zip(&batch.weights);
    for positive in [3u32, 17] {
        let violates = |i: u32| score(0, i) > score(0, positive) - 0.4;
        let share = weights(|i| f64::from(u8::from(violates(i)))).iter().sum::<f64>() / 38.0;
        let of = rows().filter(|((p, _), _)| **p == positive);
        let tries = |w: f32| (1..=6).find(|t| (((ITEMS as usize - 1) / t) as f32).ln() == w).unwrap_or(7) as u32 - 1;
        let taken: Vec<u32> = of.clone().map(|(_, w)| tries(*w)).collect();
        let mut chances: Vec<f64> = (0..6).map(|t| (1.0 - share).powi(t) * share).collect();
        chances.push((1.0 - share).powi(6));
        assert_follows(&taken, &chances);
        let found: Vec<u32> = of.filter(|(_, w)| **w > 0.0).map(|((_, n), _)| *n).collect();
        assert_follows(&found, &weights(|i| f64::from(u8::from(violates(i)))));
    }
    assert_eq!(batch.void as usize, batch.weights.iter().filter(|w| **w == 0.0).count());
}

#[test]
fn filters_let_nothing_through_and_leave_no_weight_where_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let text = "count = 1\n[[mix]]\nmin_distance = 0.3\nband = [0.2, 0.6]\ncandidates = 3";
    let batch = draw(&data, text, 0, 10_000);
    let passes = |p: u32, n: u32| {
        let plausible = 1.0 / (1.0 + (score(0, p) - score(0, n)).exp());
        p.abs_diff(n) as f32 / ITEMS as f32 >= 0.2999 && (0.2..=0.6).contains(&plausible)
    };
    for positive in [3u32, 17] {
        let of = batch.positives.iter().zip(&batch.negatives).zip(&batch.weights).filter(|((p, _), _)| **p == positive);
        let kept: Vec<u32> = of.clone().filter(|(_, w)| **w > 0.0).map(|((_, n), _)| *n).collect();
        assert!(kept.iter().all(|n| passes(positive, *n)));
        assert_follows(&kept, &weights(|n| f64::from(u8::from(passes(positive, n)))));
        // None of three candidates passes.
        let share = weights(|n| f64::from(u8::from(passes(positive, n)))).iter().sum::<f64>() / 38.0;
        let void: Vec<u32> = of.map(|(_, w)| u32::from(*w == 0.0)).collect();
        assert_follows(&void, &[1.0 - (1.0 - share).powi(3), (1.0 - share).powi(3)]);
    }
}

#[test]
fn log_q_offsets_are_minus_the_log_of_the_expected_number() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let text = "count = 4\n[[mix]]\nweigh = \"log-q\"\n\
                [[mix]]\nshare = 3\npropose = \"popularity\"\nalpha = 0.5\nweigh = \"log-q\"";
    let batch = draw(&data, text, 0, 8_000);
    let total: f64 = (0..ITEMS).map(|i| popularity(i).sqrt()).sum();
    let q = |i: u32| 0.25 / f64::from(ITEMS) + 0.75 * popularity(i).sqrt() / total;
    for (items, offsets) in [(&batch.positives, &batch.positive_offsets), (&batch.negatives, &batch.negative_offsets)] {
        assert_eq!(items.len(), offsets.len());
        for (item, offset) in items.iter().zip(offsets) {
            assert!((f64::from(*offset) + (4.0 * q(*item)).ln()).abs() < 1e-5, "{item}: {offset}");
        }
    }
    // And the chances are those of the draws: given an allowed item, each component's are in proportion.
    let allowed = |of: &dyn Fn(u32) -> f64| weights(of).iter().sum::<f64>();
    let (a, b) = (allowed(&|_| 1.0), allowed(&|i| popularity(i).sqrt()));
    assert_follows(&batch.negatives, &weights(|i| 0.25 / a + 0.75 * popularity(i).sqrt() / b));
}

#[test]
fn weights_follow_their_formulas() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let most = (0..ITEMS).map(popularity).fold(0.0, f64::max);
    let batch = draw(&data, "count = 1\n[[mix]]\nweigh = \"propensity\"\ngamma = 0.7\nclip = 1.6", 0, 500);
    for (n, w) in batch.negatives.iter().zip(&batch.weights) {
        let want = (most / popularity(*n)).powf(0.7).min(1.6);
        assert!((f64::from(*w) - want).abs() < 1e-4, "{n}: {w}, not {want}");
    }
    let batch = draw(&data, "count = 1\n[[mix]]\nweigh = \"gap\"", 0, 500);
    for ((p, n), w) in batch.positives.iter().zip(&batch.negatives).zip(&batch.weights) {
        let want = 2.0 / (1.0 + (score(0, *n) - score(0, *p)).exp());
        assert!((w - want).abs() < 1e-5, "{n}: {w}, not {want}");
    }
}

#[test]
fn a_mixture_of_one_plain_component_is_the_fast_path() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    for (mix, plain) in [
        ("count = 3\n[[mix]]\nshare = 7", "count = 3"),
        (
            "count = 3\n[[mix]]\npropose = \"popularity\"\nalpha = 0.5",
            "count = 3\nproposal = \"popularity\"\nalpha = 0.5",
        ),
    ] {
        let (a, b) = (draw(&data, mix, 5, 20), draw(&data, plain, 5, 20));
        assert_eq!((a.positives, a.negatives), (b.positives, b.negatives));
        assert!(a.weights.is_empty() && a.drawn.is_empty());
    }
}

#[test]
fn allowed_positives_come_but_never_the_positive_itself() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    for mix in ["", "[[mix]]\nselect = \"hardest\"\ncandidates = 1"] {
        let batch = draw(&data, &format!("count = 1\nallow_positives = true\n{mix}"), 0, 15_000);
        for positive in [3u32, 17] {
            let of = batch.positives.iter().zip(&batch.negatives).filter(|(p, _)| **p == positive);
            let uniform: Vec<f64> = (0..ITEMS).map(|i| f64::from(u8::from(i != positive))).collect();
            assert_follows(&of.map(|(_, n)| *n).collect::<Vec<_>>(), &uniform);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn never_a_positive_never_a_repeat_and_always_an_end(
        propose in 0..Propose::ALL.len(), context in 0usize..4, select in 0usize..6, each in 1usize..5, replacement: bool,
        noise: bool, filters: bool,
        user in 0u32..12,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(&folder);
        let (propose, select) = (Propose::ALL[propose].0, super::super::Select::ALL[select].0);
        let mut text = format!("count = {each}\nwith_replacement = {replacement}\n");
        for component in 0..2 {
            text += &format!("[[mix]]\npropose = \"{propose}\"\nselect = \"{select}\"\n");
            if noise && select != "first" {
                text += "noise = 0.5\n";
            }
            if context > 0 {
                text += &format!("same_context = \"{}\"\n", ["time:5d", "device", "category"][context - 1]);
            }
            if filters && component == 1 {
                text += "band = [0.1, 0.8]\nmin_distance = 0.1\n";
            }
        }
        let batch = draw(&data, &text, user, 3);
        let own = &users()[user as usize];
        prop_assert_eq!(batch.negatives.len(), batch.positives.len() * each);
        prop_assert_eq!(batch.positives.len() as u64 + batch.skipped, 3 * own.len() as u64);
        prop_assert!(batch.weights.is_empty() || batch.weights.len() == batch.negatives.len());
        prop_assert_eq!(batch.drawn.iter().sum::<u64>() + batch.filled + batch.void, batch.negatives.len() as u64);
        for group in batch.negatives.chunks(each) {
            for (i, n) in group.iter().enumerate() {
                prop_assert!(!own.contains(n));
                prop_assert!(replacement || !group[..i].contains(n));
            }
        }
        if user == 2 {
            prop_assert_eq!(batch.positives.len(), 0, "who has everything is skipped and counted");
        }
    }
}
