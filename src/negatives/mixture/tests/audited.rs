//! What an audit says of a mixture, against the configuration and what was drawn; that it is there changes nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use super::super::super::{Auditor, Candidate, Decision, Filtered};
use super::*;

/// Asks about everything.
#[derive(Default)]
struct All(Mutex<Vec<Decision>>);

impl Auditor for All {
    fn takes(&self, _: u32, _: u32) -> bool {
        true
    }

    fn keep(&self, decision: Decision) {
        self.0.lock().unwrap().push(decision);
    }
}

/// What [`draw`] draws, with its decisions; without them it is the same.
fn audited(dataset: &Dataset, text: &str, user: u32, rounds: usize) -> (Batch, Vec<Decision>) {
    let config: NegativesConfig = toml::from_str(text).unwrap();
    let (negatives, score) = ((&config, config.count.unwrap_or(8)), (Similarity::Dot, 1.0));
    let mut sampling = Sampling::new(dataset, negatives, score, ITEMS as usize, 1.0, &Context::default()).unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(31);
    let block: Vec<u32> = (0..ITEMS).collect();
    let all: Vec<u64> = users().iter().enumerate().flat_map(|(u, items)| pairs(u as u32, items)).collect();
    let own = pairs(user, &users()[user as usize]);
    let (mut batch, auditor) = (Batch::default(), All::default());
    sampling.renew(Renewal { progress: 0.0, threads: 1, alone: true }, &Fixed, &Context::default());
    for _ in 0..rounds {
        sampling.begin(0.0, &all, &mut rng);
        sampling.fill((&block, &own, &all), usize::MAX, (&Fixed, Some(&auditor), None), &mut rng, &mut batch);
    }
    let plain = draw(dataset, text, user, rounds);
    assert_eq!((&plain.negatives, &plain.weights), (&batch.negatives, &batch.weights), "{text}");
    let decisions = auditor.0.into_inner().unwrap();
    // Every negative, in turn, with what it counts.
    let positives: Vec<u32> = decisions.iter().map(|d| d.positive).collect();
    assert_eq!(positives, batch.positives, "{text}");
    let chosen: Vec<&Candidate> = decisions.iter().flat_map(|d| &d.candidates).filter(|c| c.chosen.is_some()).collect();
    assert!(chosen.iter().map(|c| c.item).eq(batch.negatives.iter().copied()), "{text}");
    for (k, one) in chosen.iter().enumerate() {
        assert_eq!(one.weight, batch.weights.get(k).copied().unwrap_or(1.0), "{text}");
        let correction = batch.negative_offsets.get(k);
        assert!(correction.map_or(one.correction.is_nan(), |c| one.correction == *c), "{text}");
    }
    for decision in &decisions {
        assert_eq!((decision.user, decision.score), (user, score_of(user, decision.positive)));
        let first_taken: HashMap<u32, u32> =
            decision.candidates.iter().rev().filter(|c| c.chosen.is_some()).map(|c| (c.item, c.slot)).collect();
        for c in &decision.candidates {
            assert_eq!(c.score, score_of(user, c.item), "{text}");
            // Candidates for the same negative may repeat.
            let taken = first_taken.get(&c.item).is_some_and(|slot| *slot < c.slot);
            let own = users()[user as usize].contains(&c.item);
            match c.filtered {
                Some(Filtered::Positive) => assert!(own && c.chosen.is_none()),
                Some(Filtered::Repeated) => assert!(taken && c.chosen.is_none() && !config.with_replacement),
                _ => assert!(!own && (config.with_replacement || !taken)),
            }
        }
    }
    (batch, decisions)
}

fn score_of(user: u32, item: u32) -> f32 {
    score(user, item)
}

/// The candidates of each negative.
fn slots(decisions: &[Decision]) -> impl Iterator<Item = (&Decision, &[Candidate])> {
    decisions.iter().flat_map(|d| d.candidates.chunk_by(|a, b| a.slot == b.slot).map(move |slot| (d, slot)))
}

#[test]
fn the_hardest_of_the_candidates_that_pass_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let text = "count = 3\nwith_replacement = false\n[[mix]]\nselect = \"hardest\"\ncandidates = 5\nband = [0.1, 0.9]\n\
                min_distance = 0.2\n[[mix]]\nselect = \"hardest\"\ncandidates = 2\npropose = \"popularity\"";
    let (batch, decisions) = audited(&data, text, 5, 200);
    assert!(batch.void > 0, "some have nothing that passes");
    let mut dropped = Vec::new();
    for (decision, slot) in slots(&decisions) {
        let passed: Vec<_> = slot.iter().filter(|c| c.filtered.is_none()).collect();
        let chosen = slot.iter().find(|c| c.chosen.is_some()).unwrap();
        let drawn = slot.iter().filter(|c| !matches!(c.filtered, Some(Filtered::Positive | Filtered::Repeated)));
        assert_eq!(drawn.count(), if chosen.component == 0 { 5 } else { 2 });
        if chosen.is_void() {
            assert!(passed.is_empty() && chosen.weight == 0.0);
        } else {
            assert!(chosen.filtered.is_none() && passed.iter().all(|c| c.score <= chosen.score));
            assert_eq!(chosen.chosen.unwrap().to_string(), format!("hardest of {}", passed.len()));
        }
        for c in slot.iter().filter(|c| c.component == 0) {
            let p = 1.0 / (1.0 + (decision.score - c.score).exp());
            let apart = decision.positive.abs_diff(c.item) as f32 / ITEMS as f32;
            match c.filtered {
                Some(Filtered::Band) => assert!(!(0.1..=0.9).contains(&p)),
                Some(Filtered::MinDistance) => assert!((0.1..=0.9).contains(&p) && apart < 0.2001),
                None => assert!((0.1..=0.9).contains(&p) && apart > 0.1999),
                _ => {}
            }
        }
        dropped.extend(slot.iter().filter_map(|c| c.filtered));
    }
    for filter in [Filtered::Positive, Filtered::Repeated, Filtered::MinDistance, Filtered::Band] {
        assert!(dropped.contains(&filter), "{filter:?} is seen at work");
    }
}

#[test]
fn every_selection_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let of = |keys: &str| audited(&data, &format!("count = 2\n[[mix]]\n{keys}"), 7, 40).1;
    for (_, slot) in slots(&of("select = \"violation\"\nmargin = 0.4\ncandidates = 9\nweigh = \"rank\"")) {
        let looked: Vec<_> = slot.iter().filter(|c| c.filtered.is_none()).collect();
        let (last, before) = looked.split_last().unwrap();
        let why = last.chosen.unwrap().to_string();
        if last.is_void() {
            assert!(before.len() == 8 && last.weight == 0.0);
        } else {
            let tries = looked.len();
            assert!(why.starts_with("violates by ") && why.ends_with(&format!("try {tries}")), "{why}");
            assert_eq!(last.weight, (((ITEMS as usize - 1) / tries) as f32).ln());
        }
        assert!(before.iter().all(|c| c.chosen.is_none()));
    }
    for (decision, slot) in slots(&of("select = \"violation\"\nmargin = 0.4\ncandidates = 9")) {
        for c in slot.iter().filter(|c| c.filtered.is_none() && !c.is_void()) {
            assert_eq!(c.score > decision.score - 0.4, c.chosen.is_some());
        }
    }
    for (_, slot) in slots(&of("select = \"softmax\"\ncandidates = 4\ntemperature = 0.7")) {
        let passed: Vec<_> = slot.iter().filter(|c| c.filtered.is_none()).collect();
        let part = |s: f32| f64::from(s / 0.7).exp();
        let chosen = passed.iter().find(|c| c.chosen.is_some()).unwrap();
        let chance = part(chosen.score) / passed.iter().map(|c| part(c.score)).sum::<f64>();
        let why = chosen.chosen.unwrap().to_string();
        let said: f64 = why.strip_prefix("softmax: ").unwrap().strip_suffix(" among 4").unwrap().parse().unwrap();
        assert!((said - chance).abs() < 2e-3, "{why}, not {chance}");
    }
    for (_, slot) in slots(&of("select = \"hardest\"\ncandidates = 4\nnoise = 0.5")) {
        let passed = || slot.iter().filter(|c| c.filtered.is_none());
        let noisy = |c: &Candidate| c.score + c.noise;
        let best = passed().max_by(|a, b| noisy(a).total_cmp(&noisy(b))).unwrap();
        let chosen = passed().find(|c| c.chosen.is_some()).unwrap();
        assert!((noisy(best) - noisy(chosen)).abs() < 1e-6 && passed().any(|c| c.noise != 0.0));
    }
    let top = of("select = \"top\"\ncandidates = 6\ntop = 3");
    assert!(slots(&top).all(|(_, slot)| {
        let chosen = slot.iter().find(|c| c.chosen.is_some()).unwrap();
        let above = slot.iter().filter(|c| c.filtered.is_none() && c.score > chosen.score).count();
        above < 3 && chosen.chosen.unwrap().to_string() == "among top 3 of 6"
    }));
    let log_q = of("weigh = \"log-q\"\npropose = \"popularity\"");
    assert!(slots(&log_q).all(|(_, slot)| slot.iter().all(|c| c.chosen.is_some() != c.correction.is_nan())));
}

#[test]
fn plain_samplers_say_what_they_refused_and_what_is_filled_in_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    for text in ["count = 3", "count = 3\nproposal = \"popularity\"", "count = 2\nwith_replacement = false"] {
        let (_, decisions) = audited(&data, text, 5, 60);
        for (_, slot) in slots(&decisions) {
            let (last, before) = slot.split_last().unwrap();
            assert!(last.chosen.unwrap().to_string() == "first" && before.iter().all(|c| c.filtered.is_some()));
        }
        assert!(decisions.iter().flat_map(|d| &d.candidates).any(|c| c.filtered == Some(Filtered::Positive)));
    }
    // User 1 has all items but one, which others hardly take.
    let (batch, decisions) =
        audited(&data, "count = 1\n[[mix]]\npropose = \"reservoir\"\nsize = 3\n[[mix]]\nshare = 0", 1, 4);
    assert!(batch.filled > 0);
    let filled = decisions.iter().flat_map(|d| &d.candidates).filter(|c| c.is_filled()).count();
    assert_eq!(filled as u64, batch.filled);
}

#[test]
fn what_is_of_another_context_is_dropped_and_what_stands_in_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let stretch = |user: usize, item: u32| time(user, item).div_euclid(5 * DAY);
    let all: std::collections::HashSet<(i64, u32)> =
        users().iter().enumerate().flat_map(|(u, of)| of.iter().map(move |i| (stretch(u, *i), *i))).collect();
    let within = |user: usize, positive: u32, item: u32| all.contains(&(stretch(user, positive), item));
    let mut seen = Vec::new();
    for (propose, user) in [("popularity", 8usize), ("reservoir", 8), ("exposures", 11), ("nearest", 9), ("uniform", 1)]
    {
        let size = if propose == "reservoir" { "size = 2" } else { "" };
        let text = format!("count = 2\n[[mix]]\npropose = \"{propose}\"\nsame_context = \"time:5d\"\n{size}");
        let (batch, decisions) = audited(&data, &text, user as u32, 20);
        let mut counts = (0, 0);
        for (decision, slot) in slots(&decisions) {
            for c in slot {
                let there = within(user, decision.positive, c.item);
                match c.filtered {
                    Some(Filtered::SameContext) => assert!(!there && c.chosen.is_none()),
                    Some(filtered) => assert_eq!(filtered, Filtered::Positive),
                    None => assert!(there || c.is_void()),
                }
                counts = (counts.0 + u64::from(c.is_filled()), counts.1 + u64::from(c.is_void()));
                seen.extend(c.filtered.map(|f| f.name().to_string()));
                seen.extend(c.chosen.map(|why| why.to_string()));
            }
        }
        assert_eq!(counts, (batch.filled, batch.void), "{propose}");
    }
    for reason in ["same_context", "filled in of the same context", "no weight: nothing of the same context"] {
        assert!(seen.iter().any(|s| s == reason), "{reason} is seen");
    }
}

#[test]
fn every_combination_is_told_as_it_was_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    for (propose, select) in
        Propose::ALL.iter().flat_map(|p| super::super::super::Select::ALL.iter().map(move |s| (p.0, s.0)))
    {
        for (replacement, context) in [(true, false), (true, true), (false, false), (false, true)] {
            let size = match propose {
                "reservoir" => "size = 2",
                "nearest" => "neighbours = 12",
                _ => "",
            };
            let context = if context { "same_context = \"time:5d\"" } else { "" };
            let text = format!(
                "count = 3\nwith_replacement = {replacement}\n[[mix]]\npropose = \"{propose}\"\n{size}\n{context}\n\
                 select = \"{select}\"\ncandidates = 6\nband = [0.2, 0.9]"
            );
            // User 0 has two items, user 1 all but one, so that there is hardly ever anything to propose.
            for user in [0, 1, 9] {
                audited(&data, &text, user, 5);
            }
        }
    }
}
