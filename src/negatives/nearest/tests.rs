//! The nearest items against exact ranking, draws among them against their definition, and when the index is renewed.

use std::sync::atomic::{AtomicU32, Ordering};

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::super::Excluded;
use super::super::tests::assert_follows;
use super::*;
use crate::context::ByteSize;
use crate::ingest::{IngestOptions, Input, Inputs, ingest};
use crate::model::{Model, Similarity};
use crate::synth::{PlantedModel, SynthConfig, SynthFormat, save_synth};
use crate::train::{TrainConfig, train};

/// Of the exact hundred, what the index must find in the mean.
const RECALL: f64 = 0.9;

/// The rows of a model as published, which are of unit length where scores are cosines.
struct Published(Model);

impl Scores for Published {
    fn of_user(&self, _: u32, _: &[u32], _: &mut [f32]) {}

    fn of_item(&self, _: u32, _: &[u32], _: &mut [f32]) {}

    fn width(&self) -> usize {
        self.0.items().width()
    }

    fn user_row(&self, user: u32, out: &mut [f32]) {
        out.copy_from_slice(&self.0.users().row(user as usize)[..self.width()]);
    }

    fn item_row(&self, item: u32, out: &mut [f32]) {
        out.copy_from_slice(&self.0.items().row(item as usize)[..self.width()]);
    }
}

/// Items on a line, and users who like one end of it: the highest item, or after a turn the lowest.
struct Line(AtomicU32);

impl Scores for Line {
    fn of_user(&self, _: u32, _: &[u32], _: &mut [f32]) {}

    fn of_item(&self, _: u32, _: &[u32], _: &mut [f32]) {}

    fn width(&self) -> usize {
        1
    }

    fn user_row(&self, _: u32, out: &mut [f32]) {
        out[0] = 1.0;
    }

    fn item_row(&self, item: u32, out: &mut [f32]) {
        out[0] = if self.0.load(Ordering::Relaxed) == 0 { item as f32 } else { -(item as f32) };
    }
}

fn nearest(items: u32, text: &str) -> Nearest {
    Nearest::new(items, &toml::from_str(text).unwrap(), &Context::default())
}

fn renew(nearest: &Nearest, progress: f64, threads: usize, scores: &(impl Scores + Sync)) {
    nearest.renew(Renewal { progress, threads, alone: true }, scores, &Context::default());
}

/// What is retrieved for every user, after [`RECALL`] was checked against exact ranking.
fn retrieved(scores: &Published, items: u32, threads: usize) -> Vec<Vec<u32>> {
    let mut nearest = nearest(items, "neighbours = 100");
    renew(&nearest, 0.0, threads, scores);
    let (mut found, mut hits) = (Vec::new(), 0);
    let (mut own, mut row) = (vec![0f32; scores.width()], vec![0f32; scores.width()]);
    let users = scores.0.users().rows() as u32;
    for user in 0..users {
        nearest.retrieve(user, scores);
        assert_eq!(nearest.found.len(), 100);
        scores.user_row(user, &mut own);
        let mut exact: Vec<(f32, u32)> = (0..items)
            .map(|item| {
                scores.item_row(item, &mut row);
                (own.iter().zip(&row).map(|(a, b)| a * b).sum(), item)
            })
            .collect();
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        hits += exact[..100].iter().filter(|(_, item)| nearest.found.contains(item)).count();
        found.push(nearest.found.clone());
    }
    let recall = hits as f64 / f64::from(100 * users);
    println!("recall {recall:.4}, {threads} threads");
    assert!(recall > RECALL, "recall {recall}, {threads} threads");
    found
}

#[test]
fn the_index_finds_what_exact_ranking_does_for_dot_products_with_biases_and_for_cosines() {
    let folder = tempfile::tempdir().unwrap();
    let [log, data] = ["log.csv", "log.pec"].map(|name| folder.path().join(name));
    let ctx = Context::new(2, ByteSize(256 << 20));
    let size = SynthConfig { users: 400, items: 3_000, interactions: 30_000, ..SynthConfig::default() };
    save_synth(&PlantedModel::new(&size, &ctx).unwrap(), SynthFormat::Csv, &log, false, &ctx).unwrap();
    ingest(&Inputs::from(vec![Input::Path(log)]), &IngestOptions::default(), &data, false, &ctx).unwrap();
    let data = crate::dataset::Dataset::open(data).unwrap();
    for similarity in [Similarity::Dot, Similarity::Cosine] {
        let config = TrainConfig { dimensions: 32, epochs: 20, similarity: Some(similarity), ..TrainConfig::default() };
        let output = folder.path().join("model");
        train(&data, &config, &output, true, &ctx).unwrap();
        let scores = Published(Model::open(&output).unwrap());
        let one = retrieved(&scores, data.items().len(), 1);
        assert_eq!(one, retrieved(&scores, data.items().len(), 1), "one thread, the same graph");
        retrieved(&scores, data.items().len(), 3);
    }
}

/// A draw that is not of `excluded`.
fn drawn(nearest: &Nearest, excluded: &Excluded, rng: &mut Xoshiro256PlusPlus) -> Option<u32> {
    let refuse = |item| excluded.contains(item).then_some(Refused::Excluded);
    nearest.draw(refuse, rng, |item, _| assert!(excluded.contains(item)))
}

#[test]
fn draws_are_uniform_among_those_retrieved_that_are_allowed() {
    let mut nearest = nearest(500, "neighbours = 40");
    renew(&nearest, 0.0, 1, &Line(AtomicU32::new(0)));
    nearest.retrieve(0, &Line(AtomicU32::new(0)));
    assert_eq!(nearest.found, (460..500).rev().collect::<Vec<u32>>());
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    // Few of them are positives: by rejection. All but two: by walking what is left.
    for allowed in [(462..500).filter(|i| i % 5 != 0).collect::<Vec<u32>>(), vec![463, 499]] {
        let mut excluded = Excluded::new(500);
        (0..500).filter(|i| !allowed.contains(i)).for_each(|i| excluded.insert(i));
        let drawn: Vec<u32> = (0..40_000).map(|_| drawn(&nearest, &excluded, &mut rng).unwrap()).collect();
        let weights: Vec<f64> = (0..500).map(|i| f64::from(u8::from(allowed.contains(&i)))).collect();
        assert_follows(&drawn, &weights);
    }
    let mut all = Excluded::new(500);
    (460..500).for_each(|i| all.insert(i));
    assert_eq!(drawn(&nearest, &all, &mut rng), None);
}

#[test]
fn the_index_is_renewed_when_it_is_due_and_not_before() {
    let line = Line(AtomicU32::new(0));
    let mut nearest = nearest(300, "neighbours = 5\nrebuild = { schedule = \"staged\", values = [0.1, 0.5] }");
    let mut first = |progress: f64, turned: u32| {
        line.0.store(turned, Ordering::Relaxed);
        renew(&nearest, progress, 1, &line);
        nearest.retrieve(0, &line);
        nearest.found[0]
    };
    assert_eq!(first(0.0, 0), 299);
    assert_eq!(first(0.09, 1), 299, "not due yet");
    assert_eq!(first(0.1, 1), 0);
    assert_eq!(first(0.15, 0), 0);
    assert_eq!(first(0.25, 0), 299);
    assert_eq!(first(0.7, 1), 299, "every half of the run from here on");
    assert_eq!(first(0.75, 1), 0);
}

#[test]
fn without_an_index_and_with_factors_that_are_no_numbers_there_is_nothing_to_propose() {
    struct Lost;
    impl Scores for Lost {
        fn of_user(&self, _: u32, _: &[u32], _: &mut [f32]) {}
        fn of_item(&self, _: u32, _: &[u32], _: &mut [f32]) {}
        fn width(&self) -> usize {
            3
        }
        fn user_row(&self, _: u32, out: &mut [f32]) {
            out.fill(f32::NAN);
        }
        fn item_row(&self, _: u32, out: &mut [f32]) {
            out.fill(f32::NAN);
        }
    }
    let mut nearest = nearest(50, "");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    for built in [false, true] {
        if built {
            renew(&nearest, 0.0, 1, &Lost);
        }
        nearest.retrieve(0, &Lost);
        assert_eq!(drawn(&nearest, &Excluded::new(50), &mut rng), None);
    }
}
