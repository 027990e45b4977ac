//! Quality: how streaming within a small budget compares with fully shuffled training, at equal epochs.

use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::plan::{TablePlace, plan_train};
use super::publishing::{Lineage, publish_tables};
use super::run::{EpochReport, TrainReport, initialize, rate};
use super::{TrainConfig, train};
use crate::context::{ByteSize, Context};
use crate::dataset::Dataset;
use crate::evaluate::{EvaluateOptions, evaluate};
use crate::ingest::{IngestOptions, Input, Inputs, ingest};
use crate::model::{InstructionSet, Model, Runs, Tables};
use crate::storage::NewVersion;
use crate::train::objective::kernel_loss;

/// Too little for the tables of Gowalla and windows of the usual size.
const BUDGET: ByteSize = ByteSize(25 << 20);
/// Streamed recall by fully shuffled after 12 epochs, at least; docs/quality.md says why it nears 1 with more of them.
const AT_LEAST: f64 = 0.96;

/// Gowalla (LightGCN split), whose log is sorted by user, or `None` and a visible line where it is absent.
fn gowalla(folder: &Path) -> Option<Dataset> {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let shared = PathBuf::from(std::env::var("PECCARY_DATA").unwrap_or(shared.to_string()));
    let [train, test] = ["train", "test"].map(|part| shared.join(format!("gowalla-lightgcn/{part}.tsv.gz")));
    if !train.exists() {
        // Past the harness, which keeps what a passing test prints to itself.
        let line = format!("skipped: {} is absent\n", train.display());
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        return None;
    }
    let inputs = Inputs { test: vec![Input::Path(test)], ..Inputs::from(vec![Input::Path(train)]) };
    let path = folder.join("gowalla.pec");
    ingest(&inputs, &IngestOptions::default(), &path, false, &Context::new(2, ByteSize(512 << 20))).unwrap();
    Some(Dataset::open(path).unwrap())
}

/// docs/recipes/gowalla-bpr.toml, for `epochs`.
fn config(seed: u64, epochs: u32) -> TrainConfig {
    let mut config = TrainConfig { epochs, seed, l2: Some(0.004), ..TrainConfig::default() };
    config.negatives.count = Some(24);
    config.optimizer.learning_rate = Some(0.05);
    config
}

/// The plain way: all interactions in memory in a new random order each epoch, each with uniform negatives of its own,
/// drawn again where they are positives. One thread, the same kernel.
fn fully_shuffled(dataset: &Dataset, config: &TrainConfig) -> Tables {
    let (users, items) = (dataset.users().len(), dataset.items().len());
    let kept = (config.optimizer(), config.precision);
    let (users, rows) = (users as usize, items as usize);
    let mut tables = Tables::new(users, rows, config.dimensions, config.biases(), kept, [None, None]).unwrap();
    initialize(&mut tables.users, 0, config, |_| None);
    initialize(&mut tables.items, 1, config, |_| None);
    let train = dataset.train();
    let mut pairs: Vec<(u32, u32)> = (0..users as u32)
        .flat_map(|user| train.user(user).items.iter().map(move |item| (user, item.to_native())))
        .collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(config.seed ^ 0xabcd);
    let each = config.negatives();
    let ends: Vec<u32> = (1..=1024).collect();
    for epoch in 0..config.epochs {
        pairs.shuffle(&mut rng);
        let count = pairs.len();
        for (b, batch) in pairs.chunks(ends.len()).enumerate() {
            let negatives: Vec<u32> = batch
                .iter()
                .flat_map(|(user, _)| std::iter::repeat_n(*user, each))
                .map(|user| {
                    loop {
                        let item = rng.random_range(0..items);
                        if train.user(user).items.binary_search_by_key(&item, |i| i.to_native()).is_err() {
                            return item;
                        }
                    }
                })
                .collect();
            let (users, positives): (Vec<u32>, Vec<u32>) = batch.iter().copied().unzip();
            let ends = &ends[..batch.len()];
            let (negatives_each, adjust) = (each, None);
            let (positives, negatives) = (&positives[..], &negatives[..]);
            let runs = Runs { users: &users, ends, positives, negatives, negatives_each, adjust };
            let done = f64::from(epoch) + (b * 1024) as f64 / count as f64;
            let update = config.update(rate(config, done));
            crate::model::train(InstructionSet::detect(), &tables, runs, kernel_loss(config), update);
        }
    }
    tables
}

/// Recall@20 on test of both ways, the fully shuffled first.
fn recalls(dataset: &Dataset, folder: &Path, (seed, epochs): (u64, u32)) -> [f64; 2] {
    let config = config(seed, epochs);
    let ctx = Context::new(2, BUDGET);
    let plan = plan_train(dataset, &config, &ctx).unwrap();
    assert!(plan.tables != TablePlace::Memory, "{plan:?}");
    assert!(plan.window <= dataset.train().len() / 8 + 1, "{plan:?}");
    let output = folder.join("streamed.model");
    let (_, report) = train(dataset, &config, &output, true, &ctx).unwrap();
    let reference = folder.join("shuffled.model");
    let tables = fully_shuffled(dataset, &config);
    let report = TrainReport { epochs: Vec::<EpochReport>::new(), ..report };
    let version = NewVersion::begin(&reference, true, "peccary-model").unwrap();
    publish_tables(version, dataset, &config, tables, (&report, Lineage::Run("test".into()), None)).unwrap();
    [reference, output].map(|path| {
        let options = EvaluateOptions::accuracy();
        let ctx = Context::new(2, ByteSize(1 << 30));
        let evaluation = evaluate(&Model::open(path).unwrap(), dataset, &options, &ctx).unwrap();
        evaluation.metrics.get("recall@20").unwrap()
    })
}

#[test]
fn streaming_in_a_small_budget_does_not_fall_further_behind_shuffling_everything() {
    let folder = tempfile::tempdir().unwrap();
    let Some(dataset) = gowalla(folder.path()) else { return };
    let [shuffled, streamed] = recalls(&dataset, folder.path(), (0, 12));
    assert!(shuffled > 0.12, "the reference learns: {shuffled}");
    assert!(streamed > AT_LEAST * shuffled, "{streamed} streamed, {shuffled} fully shuffled");
}

/// The table in docs/quality.md.
#[test]
#[ignore = "five minutes; run it with --nocapture for the table"]
fn streaming_and_shuffling_over_three_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(dataset) = gowalla(folder.path()) else { return };
    let mut means = [0.0; 2];
    for seed in 0..3 {
        let [shuffled, streamed] = recalls(&dataset, folder.path(), (seed, 30));
        println!("seed {seed}: {shuffled:.5} fully shuffled, {streamed:.5} streamed");
        means = [means[0] + shuffled / 3.0, means[1] + streamed / 3.0];
    }
    println!("means: {:.5} fully shuffled, {:.5} streamed, ratio {:.4}", means[0], means[1], means[1] / means[0]);
    assert!(means[1] > 0.99 * means[0]);
}
