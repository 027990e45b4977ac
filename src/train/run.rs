//! A training run from a dataset to a published model.

use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, AuditOptions, AuditSummary};
use super::confidence::Confidence;
use super::config::TrainConfig;
use super::divergence::{self, Alarm};
use super::error::TrainError;
use super::lane::{Done, Epoch, Lane, stream_seed};
use super::listwise::train_listwise;
use super::objective::{Margins, WithLoss, with_loss};
use super::paging::{ExactReading, Paging};
use super::plan::{SHARING, TablePlace, TrainPlan, plan_beside, windows_of};
use super::strata::Strata;
use super::update::{Selection, Start, Warm};
use super::validation::{ValidationReport, Validator, published_row};
use crate::context::{Context, Stage, Unit};
use crate::dataset::Dataset;
use crate::loss::Loss;
use crate::model::{InstructionSet, ModelManifest, Side, Similarity, Tables, publish};
use crate::negatives::{Auditor, NegativesReport, Sampling, Watch};
use crate::storage::{NewVersion, return_large_buffers};
use crate::stream::{Partition, Window, plan as windows};

/// Rows after which those of a file are let go of behind the writer of a model.
const BEHIND: usize = 1 << 14;

/// What training measured in one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// From 1.
    pub epoch: u32,
    /// Mean loss of a term (a pair, a score or a list), before its update, over a sixteenth of the terms; no L2.
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

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopped {
    /// All epochs were trained.
    Epochs,
    /// The validation metric had not improved for as long as its patience lasts.
    Patience,
}

/// What a run has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainReport {
    /// Epoch by epoch.
    pub epochs: Vec<EpochReport>,
    /// Why there were no more of them.
    pub stopped: Stopped,
    /// What validation has found, if it was asked for. The model is that of its best epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationReport>,
    /// Wall time of training alone.
    pub seconds: f64,
    /// Triples a second over the whole run.
    pub triples_per_second: f64,
    /// Kernels used.
    pub instruction_set: String,
    /// The sizes in force, and what they were computed to take.
    pub plan: TrainPlan,
    /// What was written of the decisions, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditSummary>,
}

/// Trains a model on the train part of `dataset` and publishes it at `output`: as the next version of the model there, if
/// there is one. With `force` that is replaced, all versions of it.
///
/// Runs on `ctx.threads()` lanes of a producer and a trainer each. Time: O(epochs × interactions × negatives ×
/// dimensions). With one thread the result is the same, bit for bit, for the same seed and machine; with more, updates
/// race and results differ within noise, unless [`TrainConfig::deterministic`] is set.
///
/// # Errors
/// If the configuration makes no sense, memory or disk does not suffice (see [`plan_train`](crate::plan_train)), `output`
/// is something else than a model, or one that another process is writing, training diverges, is interrupted, or the model
/// cannot be written; nothing is published then.
pub fn train(
    dataset: &Dataset,
    config: &TrainConfig,
    output: &Path,
    force: bool,
    ctx: &Context,
) -> Result<(ModelManifest, TrainReport), TrainError> {
    train_audited(dataset, config, output, force, None, ctx)
}

/// As [`train`], and writes down how a sample of the negatives came about, if `audit` says where to; `force` is for that
/// file, too. What is learnt is the same. With one thread, or [`TrainConfig::deterministic`], the rows are the same for
/// the same seed.
///
/// The file is complete before the model appears, and appears right after it.
///
/// # Errors
/// Those of [`train`], and if the audit cannot be written. Nothing is published then, unless the file cannot be renamed
/// at the very end.
pub fn train_audited(
    dataset: &Dataset,
    config: &TrainConfig,
    output: &Path,
    force: bool,
    audit: Option<&AuditOptions>,
    ctx: &Context,
) -> Result<(ModelManifest, TrainReport), TrainError> {
    config.validate()?;
    let config = &*config.in_force();
    if dataset.items().len() < 2 || dataset.train().is_empty() {
        let counts = format!("{} items and {} train interactions", dataset.items().len(), dataset.train().len());
        return Err(TrainError::NothingToLearn(counts));
    }
    let threads = if config.deterministic { ctx.threads().max(SHARING as usize) } else { ctx.threads() };
    let taken = audit.map_or(0, |_| Audit::bytes(threads));
    let plan = plan_beside(taken, dataset, config, ctx)?;
    let version = NewVersion::begin(output, force, "peccary-model")?;
    let mut audit = audit.map(|options| Audit::new(dataset, config, options, (output, force))).transpose()?;
    let (tables, mut report) = train_tables(dataset, config, &plan, (version.path(), ctx), audit.as_mut(), None)?;
    let audited = audit.map(Audit::finish).transpose()?;
    report.audit = audited.as_ref().map(|(_, summary)| *summary);
    let manifest = publish_tables(version, dataset, config, tables, (&report, None))?;
    if let Some((file, _)) = audited {
        file.publish()?;
    }
    Ok((manifest, report))
}

/// Trains tables on `dataset`, from random ones on or from those of a model.
pub(super) fn train_tables(
    dataset: &Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
    place: (&Path, &Context),
    looks: Option<&mut Audit<'_>>,
    warm: Option<&Warm<'_>>,
) -> Result<(Tables, TrainReport), TrainError> {
    type Place<'a> = (&'a Path, &'a Context);
    type Looks<'a, 'd> = Option<&'a mut Audit<'d>>;
    struct Own<'a, 'd>(&'a Dataset, &'a TrainConfig, &'a TrainPlan, Place<'a>, Looks<'a, 'd>, Option<&'a Warm<'a>>);
    impl WithLoss for Own<'_, '_> {
        type Result = Result<(Tables, TrainReport), TrainError>;
        fn with<L: Loss>(self, loss: L) -> Self::Result {
            run(self.0, self.1, loss, self.2, self.3, (self.4, self.5))
        }
    }
    match config.shares_negatives() {
        true => train_listwise(dataset, config, plan, place, (looks, warm)),
        false => with_loss(config, Own(dataset, config, plan, place, looks, warm)),
    }
}

/// Who trains.
pub(super) enum Crew<'a> {
    /// Threads that race.
    Lanes(Vec<Lane<'a>>),
    /// Threads whose number and speed change nothing.
    Strata(Box<Strata<'a>>),
}

impl<'a> Crew<'a> {
    /// Trains an epoch. `rate` is the learning rate of a window by its number. `None` if a thread panicked.
    pub(super) fn train<L: Loss>(
        &mut self,
        work: &Epoch<'_, L>,
        rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
    ) -> Option<Done> {
        match self {
            Self::Lanes(lanes) => all_lanes(work, lanes, rate),
            Self::Strata(strata) => strata.train(work, rate),
        }
    }

    /// The lanes, for who measures them; none in a deterministic crew.
    pub(super) fn lanes(&mut self) -> &mut [Lane<'a>] {
        match self {
            Self::Lanes(lanes) => lanes,
            Self::Strata(_) => &mut [],
        }
    }
}

/// Tables and crew, ready to train as planned.
pub(super) struct Prepared<'a> {
    pub(super) tables: Tables,
    pub(super) crew: Crew<'a>,
    pub(super) around: Around<'a>,
}

/// What surrounds the negatives of every epoch.
pub(super) struct Around<'a> {
    confidence: Option<Confidence<'a>>,
    margins: Option<Margins<'a>>,
    watch: Watch<'a>,
    selection: Option<&'a Selection>,
}

/// Fills the tables and makes up the crew.
pub(super) fn prepare<'a>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
    (folder, ctx): (&Path, &Context),
    warm: Option<&'a Warm<'_>>,
) -> Result<Prepared<'a>, TrainError> {
    if config.negatives.needs_times() && !dataset.manifest().columns.time {
        return Err(TrainError::Config {
            key: "negatives.mix.propose".into(),
            value: "\"recent\"".into(),
            must: "be \"popularity\" instead: the dataset has no time column; or ingest the log with --time".into(),
        });
    }
    let items = dataset.items().len();
    let confidence = Confidence::new(dataset, &config.confidence, ctx)?;
    let watch = Watch::new(dataset, config.negatives(), config.temperature());
    let score = (config.similarity(), config.temperature());
    let negatives = (&config.negatives, config.negatives());
    let largest = Partition::new(items, plan.block_items).largest();
    let sampling = Sampling::new(dataset, negatives, score, largest, plan.sampled_share, ctx)?;
    let tables = filled_tables(dataset, config, plan, (folder, warm))?;
    let crew = if config.deterministic {
        Crew::Strata(Box::new(Strata::new((items, plan.block_items), plan, &sampling)))
    } else {
        let lane = |_| Lane::new(Window::new(items, plan.block_items), sampling.clone(), plan.kept_room());
        Crew::Lanes((0..plan.threads).map(lane).collect())
    };
    let selection = warm.map(|warm| &warm.selection);
    Ok(Prepared {
        tables,
        crew,
        around: Around { confidence, margins: Margins::new(dataset, config), watch, selection },
    })
}

/// The tables, filled with initial factors, or with those that are warm. Those that do not fit the budget are in files without names in `folder`.
pub(super) fn filled_tables(
    dataset: &Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
    (folder, warm): (&Path, Option<&Warm<'_>>),
) -> Result<Tables, TrainError> {
    let (users, items) = (dataset.users().len(), dataset.items().len());
    let folders = match plan.tables {
        TablePlace::Memory => [None, None],
        TablePlace::UsersInFile => [Some(folder), None],
        TablePlace::BothInFiles => [Some(folder), Some(folder)],
    };
    let kept = (config.optimizer(), config.precision);
    let mut tables = Tables::new(users as usize, items as usize, config.dimensions, config.biases(), kept, folders)?;
    initialize(&mut tables.users, 0, config, |user| warm?.user(user));
    initialize(&mut tables.items, 1, config, |item| warm?.item(item));
    Ok(tables)
}

/// The learning rate when `done` of the run's epochs are over, but for what plateaus make of it.
pub(super) fn rate(config: &TrainConfig, done: f64) -> f32 {
    config.learning_rate() * config.optimizer.rate_factor(done, config.epochs) as f32
}

/// The work of epoch `epoch`, from 0.
pub(super) fn epoch<'a, L: Loss>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    (epoch, plan): (u32, &TrainPlan),
    loss: L,
    (tables, around): (&'a Tables, &'a Around<'a>),
    (ctx, stage): (&'a Context, &'a Stage<'a>),
) -> Epoch<'a, L> {
    let seed = stream_seed(config.seed, 2 + u64::from(epoch));
    let (sizes, lanes) = windows_of(config, plan.counts.items, plan.window, plan.threads);
    let mut windows = windows(dataset.train(), sizes, lanes, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
    if config.deterministic || plan.tables != TablePlace::Memory {
        // The users of a chunk are consecutive rows: in ascending order their pages are, too. Where tables are must not
        // matter to deterministic training.
        windows.iter_mut().for_each(|window| window.sort_unstable());
    }
    Epoch {
        interactions: dataset.train(),
        windows,
        next: AtomicUsize::new(0),
        alarm: Alarm::new(config),
        seed,
        tables,
        paging: Paging::new(dataset.train(), tables, plan),
        lanes: plan.threads,
        set: InstructionSet::detect(),
        loss,
        update: config.update(rate(config, f64::from(epoch))),
        negatives_each: config.negatives(),
        progress: (f64::from(epoch) / f64::from(config.epochs), f64::from(epoch + 1) / f64::from(config.epochs)),
        confidence: around.confidence.as_ref(),
        margins: around.margins.as_ref(),
        watch: &around.watch,
        selection: around.selection,
        audit: None,
        ctx,
        stage,
    }
}

fn run(
    dataset: &Dataset,
    config: &TrainConfig,
    loss: impl Loss,
    plan: &TrainPlan,
    (folder, ctx): (&Path, &Context),
    (mut audit, warm): (Option<&mut Audit<'_>>, Option<&Warm<'_>>),
) -> Result<(Tables, TrainReport), TrainError> {
    return_large_buffers();
    let _exact = ExactReading::begin(dataset.train(), plan);
    let Prepared { mut tables, mut crew, around } = prepare(dataset, config, plan, (folder, ctx), warm)?;
    let each = config.negatives() as u64;
    let why = "no positive with a negative: its users have nearly every item";
    let run = (dataset, config, plan);
    let positives = positives_of(plan, warm);
    let report =
        all_epochs(run, (positives, each, why), &mut tables, (folder, ctx), |(number, scale), tables, stage| {
            let mut work = epoch(dataset, config, (number, plan), loss, (tables, &around), (ctx, stage));
            work.audit = begin_audit(&mut audit, number);
            let windows = work.windows.len() as f64;
            let rate = |window: usize| scale * rate(config, f64::from(number) + window as f64 / windows);
            let done = crew.train(&work, rate).ok_or(TrainError::Panicked)?;
            let negatives = around.watch.report(&done.health, &config.negatives);
            let diverged = work.alarm.learning_rate();
            end_audit(&mut audit)?;
            Ok(Ran { done, negatives, diverged })
        })?;
    Ok((tables, report))
}

/// Who asks about epoch `number`, from 0.
pub(super) fn begin_audit<'a>(audit: &'a mut Option<&mut Audit<'_>>, number: u32) -> Option<&'a dyn Auditor> {
    let audit = audit.as_deref_mut()?;
    audit.begin(number + 1);
    Some(audit.auditor())
}

/// Writes what was asked about an epoch.
pub(super) fn end_audit(audit: &mut Option<&mut Audit<'_>>) -> Result<(), TrainError> {
    audit.as_deref_mut().map_or(Ok(()), Audit::end)
}

/// What an epoch has done.
pub(super) struct Ran {
    pub(super) done: Done,
    pub(super) negatives: NegativesReport,
    /// The learning rate at which the run diverged, if it did.
    pub(super) diverged: Option<f32>,
}

/// Positives of an epoch, about.
pub(super) fn positives_of(plan: &TrainPlan, warm: Option<&Warm<'_>>) -> u64 {
    warm.map_or(plan.counts.interactions, |warm| warm.selection.expected(plan.counts.interactions))
}

/// Goes through the epochs of a run: `one` trains each of them, at learning rates times a scale. There are about so many positives an epoch,
/// each with `each` negatives; `nothing` says why there may be no positive to learn from. In the end the tables are the best of the run, if
/// it is validated, and the last otherwise.
pub(super) fn all_epochs(
    (dataset, config, plan): (&Dataset, &TrainConfig, &TrainPlan),
    (positives, each, nothing): (u64, u64, &str),
    tables: &mut Tables,
    (folder, ctx): (&Path, &Context),
    mut one: impl FnMut((u32, f32), &Tables, &Stage<'_>) -> Result<Ran, TrainError>,
) -> Result<TrainReport, TrainError> {
    let mut validator = Validator::begin(dataset, config, plan, tables, (folder, ctx))?;
    let total = positives * each * u64::from(config.epochs);
    let stage = ctx.stage("training", Some(total), Unit::Triples);
    let mut epochs: Vec<EpochReport> = Vec::new();
    let mut stopped = Stopped::Epochs;
    for number in 0..config.epochs {
        let start = Instant::now();
        let scale = validator.as_ref().map_or(1.0, |v| v.state.scale(config)) as f32;
        let rate_at = |done: u32| scale * rate(config, f64::from(done));
        let Ran { done, negatives, diverged } = one((number, scale), tables, &stage)?;
        ctx.check()?;
        let exploded = || divergence::has_exploded(config, tables, number, false).then(|| rate_at(number));
        if let Some(learning_rate) = diverged.or_else(exploded) {
            return Err(divergence::error((dataset, config), (number + 1, learning_rate), tables));
        }
        if done.positives == 0 {
            return Err(TrainError::NothingToLearn(nothing.to_string()));
        }
        let seconds = start.elapsed().as_secs_f64();
        let triples = done.positives * each;
        let loss = done.loss.sum / done.loss.terms.max(1) as f64;
        let note = format!("epoch {}/{}, loss {loss:.4}", number + 1, config.epochs);
        epochs.push(EpochReport {
            epoch: number + 1,
            loss,
            learning_rate: rate_at(number),
            triples,
            skipped: done.skipped,
            negatives,
            seconds,
            triples_per_second: triples as f64 / seconds,
        });
        let Some(validator) = &mut validator else {
            stage.note(note);
            continue;
        };
        if validator.is_due(number + 1) {
            stage.note(format!("{note}, validating"));
            let decision = validator.validate((number + 1, rate_at(number + 1)), tables)?;
            if decision.lowered && !decision.stop && number + 1 < config.epochs {
                let factor = config.optimizer.factor();
                ctx.message(&format!("after epoch {}: a plateau, learning rate times {factor}", number + 1));
            }
            if decision.stop && number + 1 < config.epochs {
                stopped = Stopped::Patience;
            }
        }
        stage.note(note + &validator.note());
        if stopped == Stopped::Patience {
            break;
        }
    }
    let validation = validator.map(|validator| validator.finish(tables));
    if divergence::has_exploded(config, tables, 0, true) {
        let last = epochs.last().map_or((0, 0.0), |last| (last.epoch, last.learning_rate));
        return Err(divergence::error((dataset, config), last, tables));
    }
    drop(stage);
    if let Some(last) = epochs.last() {
        ctx.message(&last.negatives.to_string());
    }
    let seconds: f64 = epochs.iter().map(|e| e.seconds).sum();
    let triples: u64 = epochs.iter().map(|e| e.triples).sum();
    Ok(TrainReport {
        epochs,
        stopped,
        validation,
        seconds,
        triples_per_second: triples as f64 / seconds,
        instruction_set: InstructionSet::detect().name().to_string(),
        plan: plan.clone(),
        audit: None,
    })
}

/// Runs every lane to the end of the epoch; `None` if one of them panicked.
fn all_lanes<L: Loss>(
    work: &Epoch<'_, L>,
    lanes: &mut [Lane<'_>],
    rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
) -> Option<Done> {
    if let Some(lane) = lanes.first() {
        work.renew(&lane.sampling, work.progress.0, (lanes.len(), true));
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || work.run(lane, rate))).collect();
        let mut all = Done::default();
        for lane in running {
            all.add(&lane.join().ok()??);
        }
        Some(all)
    })
}

/// Fills a side: with the rows that `start` has, and with uniform numbers of the configured deviation where it has none,
/// each row from a generator of its own.
pub(super) fn initialize<'a>(
    side: &mut Side,
    number: u64,
    config: &TrainConfig,
    start: impl Fn(usize) -> Option<Start<'a>> + Sync,
) {
    let bound = config.init_deviation() * 3f32.sqrt();
    let own = stream_seed(config.seed, number);
    // Listwise losses keep the rows of cosines on the unit sphere from the start.
    let unit = config.loss.kind.is_listwise() && config.similarity() == Similarity::Cosine;
    side.fill(|i, row| {
        match start(i) {
            Some(Start::Row(known)) => return row.copy_from_slice(&known[..row.len()]),
            Some(Start::Nothing) => return row.fill(0.0),
            None => {}
        }
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(own, i as u64));
        row[..config.dimensions].fill_with(|| rng.random_range(-bound..bound));
        if unit {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|x| *x /= norm);
        }
    });
}

/// The configuration with what its defaults amount to: equal for equal runs.
pub(crate) fn with_defaults(config: &TrainConfig) -> TrainConfig {
    let config = &*config.in_force();
    let mut used = config.clone();
    used.biases = Some(config.biases());
    used.similarity = Some(config.similarity());
    used.l2 = Some(config.l2());
    used.loss = config.numbers();
    used.negatives.count = Some(config.negatives());
    used.negatives.shared_by = config.shares_negatives().then(|| config.shared_by());
    used.init_deviation = Some(config.init_deviation());
    used.optimizer.learning_rate = Some(config.learning_rate());
    used
}

pub(super) fn publish_tables(
    version: NewVersion,
    dataset: &Dataset,
    config: &TrainConfig,
    mut tables: Tables,
    (report, updated_from): (&impl Serialize, Option<u32>),
) -> Result<ModelManifest, TrainError> {
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or(serde_json::Value::Null);
    let used = with_defaults(config);
    let manifest = ModelManifest {
        peccary: env!("CARGO_PKG_VERSION").to_string(),
        model_version: version.number(),
        updated_from,
        published: None,
        dataset: dataset.fingerprint().to_string(),
        users: dataset.users().len(),
        items: dataset.items().len(),
        dimensions: config.dimensions,
        biases: config.biases(),
        similarity: config.similarity(),
        config: json(serde_json::to_value(&used)),
        history: json(serde_json::to_value(report)),
        files: Vec::new(),
    };
    let width = tables.width;
    let unit = config.similarity() == Similarity::Cosine;
    let Tables { users, items, .. } = &mut tables;
    let row = |side: &mut Side, i: usize, out: &mut [f32]| {
        published_row(&side.rows(), i, unit, out);
        if i % BEHIND == BEHIND - 1 {
            side.let_go(i + 1 - BEHIND..i + 1);
        }
    };
    Ok(publish(version, manifest, dataset, width, |i, out| row(users, i, out), |i, out| row(items, i, out))?)
}
