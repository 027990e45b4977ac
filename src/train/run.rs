//! A training run from a dataset to a published model.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, AuditOptions, AuditSummary};
use super::confidence::Confidence;
use super::config::TrainConfig;
use super::divergence::Alarm;
use super::epochs::{Leg, Ran, all_epochs};
use super::error::TrainError;
use super::gauges::Gauges;
use super::halt::Halt;
use super::keeping::{CheckpointEvery, CheckpointReport, Keeper, Origin, Partial, Rollback, Saved, folder_of};
use super::lane::{Done, Epoch, Lane, stream_seed};
use super::listwise::train_listwise;
use super::logged::{end, fail, header};
use super::objective::{Margins, kernel_loss};
use super::paging::{ExactReading, Paging};
use super::place::{Cut, OpenWindow, Place, Position};
use super::plan::{SHARING, TablePlace, TrainPlan, plan_beside, windows_of};
use super::publishing::{Lineage, publish_tables};
use super::strata::Strata;
use super::update::{Selection, Start, Warm};
use super::validation::ValidationReport;
use crate::context::Context;
use crate::dataset::Dataset;
use crate::model::{InstructionSet, ModelManifest, Side, Similarity, Tables};
use crate::negatives::{Auditor, NegativesReport, Sampling, Watch};
use crate::runlog::RunLogWriter;
use crate::storage::{NewVersion, check_in_use, return_large_buffers};
use crate::stream::{Partition, Window, plan as windows};

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
    /// Where it diverged, and what it went back to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<Rollback>,
    /// What was kept of it on the way, if anything was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<CheckpointReport>,
}

/// What a run does about what lies where it writes. The default replaces and removes nothing: a model
/// that is there gets another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainRun {
    /// Replaces a model that is there, all versions of it, in place of adding one.
    pub force: bool,
    /// Removes what an interrupted training of the same model has left, and begins anew.
    pub restart: bool,
}

impl From<bool> for TrainRun {
    fn from(force: bool) -> Self {
        Self { force, restart: false }
    }
}

/// Who looks on: an audit, and who takes checkpoints; and what an update starts from.
pub(super) type Looks<'a, 'd> = (Option<&'a mut Audit<'d>>, &'a mut Keeper, Option<&'a Warm<'a>>);

/// Trains a model on the train part of `dataset` and publishes it at `output`: as the next version of the model there, if
/// there is one. With [`TrainRun::force`] that is replaced, all versions of it.
///
/// Runs on `ctx.threads()` lanes of a producer and a trainer each. Time: O(epochs × interactions × negatives ×
/// dimensions). With one thread the result is the same, bit for bit, for the same seed and machine; with more, updates
/// race and results differ within noise, unless [`TrainConfig::deterministic`] is set.
///
/// As [`TrainConfig::checkpoint`] says, checkpoints are kept in `OUTPUT.partial` until the model is published: after an
/// interruption [`TrainCheckpoint`](crate::TrainCheckpoint) goes on from the last. Where training diverges it goes back to
/// that, as [`TrainConfig::divergence`] says.
///
/// # Errors
/// If the configuration makes no sense, memory or disk does not suffice (see [`plan_train`](crate::plan_train)), `output`
/// is something else than a model, or one that another process is writing, an interrupted training has left checkpoints and
/// not [`TrainRun::restart`], training diverges, is interrupted, or the model cannot be written; nothing is published then.
pub fn train(
    dataset: &Dataset,
    config: &TrainConfig,
    output: &Path,
    run: impl Into<TrainRun>,
    ctx: &Context,
) -> Result<(ModelManifest, TrainReport), TrainError> {
    train_audited(dataset, config, output, run, None, ctx)
}

/// As [`train`], and writes down how a sample of the negatives came about, if `audit` says where to;
/// [`force`](TrainRun::force) is for that file, too. What is learnt is the same. With one thread, or
/// [`TrainConfig::deterministic`], the rows are the same for the same seed.
///
/// The file is complete before the model appears, and appears right after it. It cannot be gone on with: with an audit there
/// are no checkpoints, and a run that diverges stops.
///
/// # Errors
/// Those of [`train`], and if the audit cannot be written. Nothing is published then, unless the file cannot be renamed
/// at the very end.
pub fn train_audited(
    dataset: &Dataset,
    config: &TrainConfig,
    output: &Path,
    run: impl Into<TrainRun>,
    audit: Option<&AuditOptions>,
    ctx: &Context,
) -> Result<(ModelManifest, TrainReport), TrainError> {
    let TrainRun { force, restart } = run.into();
    config.validate()?;
    let mut given = config.clone();
    if audit.is_some() {
        given.keep_nothing();
    }
    let config = &*given.in_force();
    if dataset.items().len() < 2 || dataset.train().is_empty() {
        let counts = format!("{} items and {} train interactions", dataset.items().len(), dataset.train().len());
        return Err(TrainError::NothingToLearn(counts));
    }
    let threads = if config.deterministic { ctx.threads().max(SHARING as usize) } else { ctx.threads() };
    let taken = audit.map_or(0, |_| Audit::bytes(threads));
    let plan = plan_beside(taken, dataset, config, ctx)?;
    let partial = match config.checkpoint.every {
        CheckpointEvery::Off => Partial::check(output, restart, ctx).map(|()| None)?,
        _ => Some(Partial::begin(output, restart, ctx)?),
    };
    let origin = Origin::new(dataset, given.clone(), plan, force);
    carry_out(dataset, origin, output, (partial, None), audit, ctx)
}

/// Trains as `origin` says, from its start or from a checkpoint, and publishes the model at `output`.
pub(super) fn carry_out(
    dataset: &Dataset,
    origin: Origin,
    output: &Path,
    (partial, resumed): (Option<Partial>, Option<Saved>),
    audit: Option<&AuditOptions>,
    ctx: &Context,
) -> Result<(ModelManifest, TrainReport), TrainError> {
    let (given, plan, force, run) = (origin.config.clone(), origin.plan.clone(), origin.force, origin.run.clone());
    let config = &*given.in_force();
    let folder = partial.as_ref().map_or_else(|| folder_of(output), |partial| partial.folder().to_path_buf());
    let header = header(dataset, &origin, output, ctx);
    let log = match &resumed {
        Some(saved) => RunLogWriter::resume(&folder, header, origin.place_of(&saved.state), ctx),
        None => RunLogWriter::create(&folder, header, ctx),
    };
    let listening = log.clone();
    let ctx = &ctx.overheard(move |text| listening.message(text));
    let resumed_before = resumed.is_some();
    let mut keeper = Keeper::new(partial, origin, resumed, log.clone());
    let trained = || {
        let version = NewVersion::begin(output, force, "peccary-model")?;
        plan.check_room(version.path(), output, resumed_before, ctx)?;
        let mut audit = audit.map(|options| Audit::new(dataset, config, options, (output, force))).transpose()?;
        let looks = (audit.as_mut(), &mut keeper, None);
        let (tables, mut report) = train_tables(dataset, config, &plan, (version.path(), ctx), looks)?;
        let audited = audit.map(Audit::finish).transpose()?;
        report.audit = audited.as_ref().map(|(_, summary)| *summary);
        // What was cut off a file is learnt from as zeros, where it raised no signal.
        check_in_use(dataset.path())?;
        end(&log, &report);
        let manifest = publish_tables(version, dataset, config, tables, (&report, Lineage::Run(run), Some(&log)))?;
        if let Some((file, _)) = audited {
            file.publish()?;
        }
        Ok((manifest, report))
    };
    match trained() {
        Ok(published) => {
            if let Err(error) = keeper.discard(ctx) {
                ctx.message(&format!(
                    "warning: the model is published, but its checkpoints cannot be removed: {error}"
                ));
            }
            Ok(published)
        }
        Err(error) => {
            fail(&log, &error);
            Err(keeper.explain(error, output, ctx))
        }
    }
}

/// Trains tables on `dataset`, from random ones on or from those of a model.
pub(super) fn train_tables(
    dataset: &Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
    place: (&Path, &Context),
    looks: Looks<'_, '_>,
) -> Result<(Tables, TrainReport), TrainError> {
    match config.shares_negatives() {
        true => train_listwise(dataset, config, plan, place, looks),
        false => run(dataset, config, plan, place, looks),
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
    pub(super) fn train(&mut self, work: &Epoch<'_>, rate: impl Fn(usize) -> f32 + Send + Sync + Copy) -> Option<Done> {
        let mut place = Place::default();
        self.advance(work, rate, &mut place)?;
        Some(place.done())
    }

    /// Trains an epoch from `place`, where `work` begins, to its end or as far as it may, and brings `place` up to date.
    /// `None` if a thread panicked.
    fn advance(
        &mut self,
        work: &Epoch<'_>,
        rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
        place: &mut Place,
    ) -> Option<()> {
        match self {
            Self::Lanes(lanes) => {
                let done = all_lanes(work, lanes, rate)?;
                place.parts.resize(1, Done::default());
                place.parts[0].add(&done);
                place.position = work.position(lanes);
            }
            Self::Strata(strata) => place.position = strata.train(work, rate, &mut place.parts)?,
        }
        place.over = place.position.open.is_empty() && place.position.next == work.windows.len();
        Some(())
    }

    /// Forgets what was at hand, and what was made of tables that are no longer.
    fn forget(&mut self) {
        match self {
            Self::Lanes(lanes) => lanes.iter_mut().for_each(Lane::forget),
            Self::Strata(strata) => strata.forget(),
        }
    }

    /// Whether a lane has this window at hand.
    fn has_at_hand(&self, window: &OpenWindow) -> bool {
        match self {
            Self::Lanes(lanes) => lanes.iter().any(|lane| lane.open().as_ref() == Some(window)),
            Self::Strata(_) => false,
        }
    }

    /// Whether the run can be gone on with at the share `progress` of it, where an epoch begins, or inside of one.
    fn can_be_kept(&self, progress: Option<f64>) -> bool {
        match self {
            Self::Lanes(_) => true,
            Self::Strata(strata) => strata.can_be_kept(progress),
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

/// The tables, filled with initial factors, or with those that are warm. Those that do not fit the budget are in files
/// without names in `folder`.
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

/// Fills tables that were trained with initial factors once more, and empties the optimizer's state.
pub(super) fn fill(tables: &mut Tables, config: &TrainConfig) {
    tables.tables_mut().for_each(|table| table.strips(|_, strip| strip.fill(0.0)));
    initialize(&mut tables.users, 0, config, |_| None);
    initialize(&mut tables.items, 1, config, |_| None);
}

/// The learning rate when `done` of the run's epochs are over, but for what plateaus make of it.
pub(super) fn rate(config: &TrainConfig, done: f64) -> f32 {
    config.learning_rate() * config.optimizer.rate_factor(done, config.epochs) as f32
}

/// The seed of epoch `epoch`, from 0.
fn epoch_seed(config: &TrainConfig, epoch: u32) -> u64 {
    stream_seed(config.seed, 2 + u64::from(epoch))
}

/// The windows of epoch `epoch`, from 0, as they were `cut`. O(chunks).
pub(super) fn windows_in(dataset: &Dataset, config: &TrainConfig, epoch: u32, cut: Cut) -> Vec<Vec<u32>> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(epoch_seed(config, epoch));
    let (sizes, lanes) = windows_of(config, dataset.items().len().into(), cut.window, cut.lanes);
    let mut windows = windows(dataset.train(), sizes, lanes, &mut rng);
    if cut.sorted {
        windows.iter_mut().for_each(|window| window.sort_unstable());
    }
    windows
}

/// The work of epoch `epoch`, from 0.
pub(super) fn epoch<'a>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    (epoch, plan, cut): (u32, &TrainPlan, Cut),
    (tables, around): (&'a Tables, &'a Around<'a>),
    (ctx, stage): (&'a Context, &'a Gauges<'a>),
) -> Epoch<'a> {
    Epoch {
        interactions: dataset.train(),
        windows: windows_in(dataset, config, epoch, cut),
        next: AtomicUsize::new(0),
        open: Mutex::default(),
        from: Position::default(),
        halt: Halt::when_cancelled(ctx),
        alarm: Alarm::new(config),
        seed: epoch_seed(config, epoch),
        tables,
        paging: Paging::new(dataset.train(), tables, plan),
        lanes: plan.threads,
        set: InstructionSet::detect(),
        loss: kernel_loss(config),
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
    plan: &TrainPlan,
    (folder, ctx): (&Path, &Context),
    (mut audit, keeper, warm): Looks<'_, '_>,
) -> Result<(Tables, TrainReport), TrainError> {
    return_large_buffers();
    let _exact = ExactReading::begin(dataset.train(), plan);
    let Prepared { mut tables, mut crew, around } = prepare(dataset, config, plan, (folder, ctx), warm)?;
    let each = config.negatives() as u64;
    let why = "no positive with a negative: its users have nearly every item";
    let run = (dataset, config, plan);
    let one = |leg: Leg<'_>, tables: &Tables, stage: &Gauges<'_>| {
        let Leg { number, scale, halt, place, elsewhere } = leg;
        if elsewhere {
            crew.forget();
        }
        let cut = *place.cut.get_or_insert(Cut::new(plan, config.deterministic));
        let mut work = epoch(dataset, config, (number, plan, cut), (tables, &around), (ctx, stage));
        work.audit = begin_audit(&mut audit, number);
        work.halt = halt;
        work.next = AtomicUsize::new(place.position.next);
        work.open = Mutex::new(place.position.open.iter().filter(|w| !crew.has_at_hand(w)).copied().collect());
        work.from = std::mem::take(&mut place.position);
        let windows = work.windows.len() as f64;
        let rate = |window: usize| scale * rate(config, f64::from(number) + window as f64 / windows);
        crew.advance(&work, rate, place).ok_or(TrainError::Panicked)?;
        let negatives = around.watch.report(&place.done().health, &config.negatives);
        let (diverged, whole) = (work.alarm.learning_rate(), !work.halt.is_broken_off());
        let keeps = crew.can_be_kept(place.over.then_some(work.progress.1));
        end_audit(&mut audit)?;
        Ok(Ran { negatives, diverged, whole, keeps })
    };
    let report = all_epochs(run, (each, why), &mut tables, (folder, ctx), keeper, one)?;
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

/// Runs every lane to the end of the epoch, or as far as it may; `None` if one of them panicked.
fn all_lanes(
    work: &Epoch<'_>,
    lanes: &mut [Lane<'_>],
    rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
) -> Option<Done> {
    if let Some(lane) = lanes.first()
        && (work.from.is_start() || lane.sampling.lacks_index())
    {
        work.renew(&lane.sampling, work.progress_at(work.from.next), (lanes.len(), true));
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
