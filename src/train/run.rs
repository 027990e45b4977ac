//! A training run from a dataset to a published model.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::confidence::Confidence;
use super::config::TrainConfig;
use super::error::TrainError;
use super::lane::{Done, Epoch, Lane, stream_seed};
use crate::context::{ByteSize, Context, Stage, Unit};
use crate::dataset::Dataset;
use crate::loss::{Bpr, Logistic, Loss, LossKind};
use crate::model::{InstructionSet, ModelManifest, Side, Similarity, Tables, Update, publish, stride_of};
use crate::negatives::{NegativesReport, Sampling, Watch};
use crate::storage::Staging;
use crate::stream::{Window, plan};

/// Rows of a block take this much of a core's own cache by default.
const BLOCK_BYTES: usize = 1 << 20;
/// A window has this many interactions for each item by default, so that loading a block's rows costs little.
const PER_ITEM: u64 = 16;
const WINDOWS_AN_EPOCH: u64 = 8;

/// What training measured in one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// From 1.
    pub epoch: u32,
    /// Mean loss of a term (a pair, or a score), before its update, over a sixteenth of the terms; no L2.
    pub loss: f64,
    /// Learning rate at the start.
    pub learning_rate: f32,
    /// (User, positive, negative) triples trained.
    pub triples: u64,
    /// Positives left out because their users have (nearly) every item.
    pub skipped: u64,
    /// How the negatives were.
    pub negatives: NegativesReport,
    /// Wall time.
    pub seconds: f64,
    /// Triples a second.
    pub triples_per_second: f64,
}

/// What a run has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainReport {
    /// Epoch by epoch.
    pub epochs: Vec<EpochReport>,
    /// Wall time of training alone.
    pub seconds: f64,
    /// Triples a second over the whole run.
    pub triples_per_second: f64,
    /// Kernels used.
    pub instruction_set: String,
    /// Producer and trainer threads, each.
    pub threads: usize,
    /// Items in a block of the stream.
    pub block_items: usize,
    /// Interactions in a window of the stream, about.
    pub window: u64,
}

/// Trains a model on the train part of `dataset` and publishes it at `output`.
///
/// Runs on `ctx.threads()` lanes of a producer and a trainer each. Time: O(epochs × interactions × negatives ×
/// dimensions). With one thread the result is the same, bit for bit, for the same seed and machine; with more, updates
/// race and results differ within noise.
///
/// # Errors
/// If the configuration makes no sense, memory does not suffice, `output` exists and not `force`, training diverges, is
/// interrupted, or the model cannot be written; nothing is published then.
pub fn train(
    dataset: &Dataset,
    config: &TrainConfig,
    output: &Path,
    force: bool,
    ctx: &Context,
) -> Result<(ModelManifest, TrainReport), TrainError> {
    config.validate()?;
    if dataset.items().len() < 2 || dataset.train().is_empty() {
        let counts = format!("{} items and {} train interactions", dataset.items().len(), dataset.train().len());
        return Err(TrainError::NothingToLearn(counts));
    }
    let staging = Staging::new(output, force, "peccary-model")?;
    let inverse_temperature = 1.0 / config.temperature();
    let (tables, report) = match config.loss {
        LossKind::Bpr => run(dataset, config, Bpr { inverse_temperature }, ctx)?,
        LossKind::Logistic => run(dataset, config, Logistic { inverse_temperature }, ctx)?,
    };
    let manifest = publish_tables(staging, dataset, config, tables, &report)?;
    Ok((manifest, report))
}

/// The sizes of blocks and windows in force.
fn shape(dataset: &Dataset, config: &TrainConfig, width: usize) -> (u32, u64) {
    let items = dataset.items().len();
    let whole = config.negatives.needs_whole_catalogue();
    let block_items = match config.stream.block_items {
        Some(0) => items,
        Some(n) => n.min(items),
        None if whole => items,
        None => ((BLOCK_BYTES / (stride_of(width) * 4)) as u32).clamp(256, 1 << 16).min(items),
    };
    let window = config.stream.window.unwrap_or_else(|| {
        (u64::from(items) * PER_ITEM).max(1 << 20).min(dataset.train().len().div_ceil(WINDOWS_AN_EPOCH)).max(1)
    });
    (block_items, window)
}

/// Tables and lanes, ready to train.
pub(super) struct Prepared<'a> {
    pub(super) tables: Tables,
    pub(super) lanes: Vec<Lane<'a>>,
    pub(super) around: Around<'a>,
    pub(super) block_items: u32,
    pub(super) window: u64,
}

/// What surrounds the negatives of every epoch.
pub(super) struct Around<'a> {
    confidence: Option<Confidence<'a>>,
    pub(super) watch: Watch<'a>,
}

/// Checks the budget, fills the tables and makes a lane a thread.
pub(super) fn prepare<'a>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    ctx: &Context,
) -> Result<Prepared<'a>, TrainError> {
    if config.negatives.needs_times() && !dataset.manifest().columns.time {
        return Err(TrainError::Config {
            key: "negatives.mix.propose".into(),
            value: "\"recent\"".into(),
            must: "be \"popularity\" instead: the dataset has no time column; or ingest the log with --time".into(),
        });
    }
    let (users, items) = (dataset.users().len(), dataset.items().len());
    let width = config.dimensions + if config.biases() { 2 } else { 0 };
    let (block_items, window) = shape(dataset, config, width);
    let lanes = ctx.threads();
    let table_bytes = Tables::bytes(users as usize, items as usize, width, config.optimizer());
    let window_bytes = lanes as u64 * Window::bytes(items, window + (1 << 16));
    if table_bytes + window_bytes > ctx.memory().0 {
        return Err(TrainError::Memory {
            needed: ByteSize(table_bytes + window_bytes),
            tables: ByteSize(table_bytes),
            windows: ByteSize(window_bytes),
            budget: ctx.memory(),
        });
    }
    let mut tables =
        Tables::new(users as usize, items as usize, config.dimensions, config.biases(), config.optimizer())?;
    initialize(&mut tables.users, 0, config);
    initialize(&mut tables.items, 1, config);
    // Half of what is left is for what samplers look up.
    let left = ctx.memory().0.saturating_sub(table_bytes + window_bytes) / 2;
    let score = (config.similarity, config.temperature());
    let first = Window::new(items, block_items);
    let sampling = Sampling::new(dataset, &config.negatives, score, first.partition.largest(), left, ctx)?;
    let lanes = (0..lanes).map(|_| Lane::new(Window::new(items, block_items), sampling.clone())).collect();
    let around = Around {
        confidence: Confidence::new(dataset, &config.confidence, ctx)?,
        watch: Watch::new(dataset, config.negatives.count, config.temperature()),
    };
    Ok(Prepared { tables, lanes, around, block_items, window })
}

/// The learning rate when `done` of the run's epochs are over.
fn rate(config: &TrainConfig, done: f64) -> f32 {
    config.learning_rate() * config.optimizer.schedule.factor(done / f64::from(config.epochs)) as f32
}

/// The work of epoch `epoch`, from 0.
pub(super) fn epoch<'a, L: Loss>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    (epoch, window): (u32, u64),
    loss: L,
    (tables, around): (&'a Tables, &'a Around<'a>),
    (ctx, stage): (&'a Context, &'a Stage<'a>),
) -> Epoch<'a, L> {
    let seed = stream_seed(config.seed, 2 + u64::from(epoch));
    Epoch {
        interactions: dataset.train(),
        windows: plan(dataset.train(), window, &mut Xoshiro256PlusPlus::seed_from_u64(seed)),
        next: AtomicUsize::new(0),
        diverged: AtomicBool::new(false),
        seed,
        tables,
        set: InstructionSet::detect(),
        loss,
        update: Update { learning_rate: rate(config, f64::from(epoch)), l2: config.l2, similarity: config.similarity },
        negatives_each: config.negatives.count,
        progress: (f64::from(epoch) / f64::from(config.epochs), f64::from(epoch + 1) / f64::from(config.epochs)),
        confidence: around.confidence.as_ref(),
        watch: &around.watch,
        ctx,
        stage,
    }
}

fn run(
    dataset: &Dataset,
    config: &TrainConfig,
    loss: impl Loss,
    ctx: &Context,
) -> Result<(Tables, TrainReport), TrainError> {
    let Prepared { mut tables, mut lanes, around, block_items, window } = prepare(dataset, config, ctx)?;
    let total = dataset.train().len() * config.negatives.count as u64 * u64::from(config.epochs);
    let stage = ctx.stage("training", Some(total), Unit::Triples);
    let began = Instant::now();
    let mut epochs = Vec::new();
    for number in 0..config.epochs {
        let start = Instant::now();
        let work = epoch(dataset, config, (number, window), loss, (&tables, &around), (ctx, &stage));
        let windows = work.windows.len() as f64;
        let rate = |window: usize| rate(config, f64::from(number) + window as f64 / windows);
        let done = all_lanes(&work, &mut lanes, rate).ok_or(TrainError::Panicked)?;
        ctx.check()?;
        let learning_rate = work.update.learning_rate;
        let diverged = work.diverged.load(Ordering::Relaxed);
        let last = number + 1 == config.epochs;
        if diverged || (last && !finite(&mut tables)) {
            return Err(TrainError::Diverged { epoch: number + 1, learning_rate });
        }
        if done.positives == 0 {
            let why = "no positive with a negative: its users have nearly every item";
            return Err(TrainError::NothingToLearn(why.to_string()));
        }
        let seconds = start.elapsed().as_secs_f64();
        let triples = done.positives * config.negatives.count as u64;
        let loss = done.loss.sum / done.loss.terms.max(1) as f64;
        stage.note(format!("epoch {}/{}, loss {loss:.4}", number + 1, config.epochs));
        epochs.push(EpochReport {
            epoch: number + 1,
            loss,
            learning_rate,
            triples,
            skipped: done.skipped,
            negatives: around.watch.report(&done.health, &config.negatives),
            seconds,
            triples_per_second: triples as f64 / seconds,
        });
    }
    drop(stage);
    if let Some(last) = epochs.last() {
        ctx.message(&last.negatives.to_string());
    }
    let seconds = began.elapsed().as_secs_f64();
    let triples: u64 = epochs.iter().map(|e| e.triples).sum();
    let report = TrainReport {
        epochs,
        seconds,
        triples_per_second: triples as f64 / seconds,
        instruction_set: InstructionSet::detect().name().to_string(),
        threads: ctx.threads(),
        block_items: block_items as usize,
        window,
    };
    Ok((tables, report))
}

/// Runs every lane to the end of the epoch; `None` if one of them panicked.
pub(super) fn all_lanes<L: Loss>(
    work: &Epoch<'_, L>,
    lanes: &mut [Lane<'_>],
    rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
) -> Option<Done> {
    std::thread::scope(|scope| {
        let running: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || work.run(lane, rate))).collect();
        let mut all = Done::default();
        for lane in running {
            all.add(&lane.join().ok()??);
        }
        Some(all)
    })
}

/// Fills a side with uniform numbers of the configured deviation; each row from a generator of its own.
fn initialize(side: &mut Side, number: u64, config: &TrainConfig) {
    let stride = side.factors.stride();
    let bound = config.init_deviation() * 3f32.sqrt();
    let fixed = side.fixed();
    let own = stream_seed(config.seed, number);
    side.factors.as_mut_slice().par_chunks_exact_mut(stride).enumerate().for_each(|(i, row)| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(own, i as u64));
        row[..config.dimensions].fill_with(|| rng.random_range(-bound..bound));
        if let Some(column) = fixed {
            row[column] = 1.0;
        }
    });
}

fn finite(tables: &mut Tables) -> bool {
    let sides = [&mut tables.users, &mut tables.items];
    sides.into_iter().all(|side| side.factors.as_slice().par_iter().all(|x| x.is_finite()))
}

fn publish_tables(
    staging: Staging,
    dataset: &Dataset,
    config: &TrainConfig,
    mut tables: Tables,
    report: &TrainReport,
) -> Result<ModelManifest, TrainError> {
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or(serde_json::Value::Null);
    let mut used = config.clone();
    used.biases = Some(config.biases());
    used.temperature = Some(config.temperature());
    used.init_deviation = Some(config.init_deviation());
    used.optimizer.learning_rate = Some(config.learning_rate());
    let manifest = ModelManifest {
        peccary: env!("CARGO_PKG_VERSION").to_string(),
        dataset: dataset.fingerprint().to_string(),
        users: dataset.users().len(),
        items: dataset.items().len(),
        dimensions: config.dimensions,
        biases: config.biases(),
        similarity: config.similarity,
        config: json(serde_json::to_value(&used)),
        history: json(serde_json::to_value(report)),
        files: Vec::new(),
    };
    let (width, stride) = (tables.width, tables.users.factors.stride());
    let unit = config.similarity == Similarity::Cosine;
    let copy = |row: &[f32], out: &mut [f32]| {
        out.copy_from_slice(&row[..out.len()]);
        if unit {
            let norm = out.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            out.iter_mut().for_each(|x| *x /= norm);
        }
    };
    let Tables { users, items, .. } = &mut tables;
    let (users, items) = (users.factors.as_slice(), items.factors.as_slice());
    let row = |table: &[f32], i: usize, out: &mut [f32]| copy(&table[i * stride..(i + 1) * stride], out);
    Ok(publish(staging, manifest, dataset, width, |i, out| row(users, i, out), |i, out| row(items, i, out))?)
}
