//! Measures what a negative costs, sampler by sampler: producers alone, on tables that have been trained a little.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::bench::beside;
use super::config::TrainConfig;
use super::error::TrainError;
use super::gauges::Gauges;
use super::lane::{Done, Epoch, Lane};
use super::listwise::producers;
use super::paging::ExactReading;
use super::place::Cut;
use super::plan::plan_train;
use super::run::{Prepared, epoch, prepare};
use crate::context::{ByteSize, Context, Unit};
use crate::dataset::Dataset;
use crate::loss::{LossConfig, LossKind};
use crate::model::{InstructionSet, Tables};
use crate::negatives::{Batch, NegativesConfig, Propose, Select, Weigh};

/// Each sampler is measured this many times; the median is reported.
const ROUNDS: usize = 3;
/// A round ends after so long, if the epoch does not before.
const ROUND: Duration = Duration::from_millis(400);

/// What one sampler costs.
#[derive(Clone, Debug, Serialize)]
pub struct SamplerCost {
    /// The step that it differs in: `propose`, `select`, `filter`, `weigh`, or `shared` for blocks of listwise losses.
    pub step: &'static str,
    /// What is chosen there.
    pub name: String,
    /// The keys of `[negatives]` that make it; what is not said is the default.
    pub settings: String,
    /// Nanoseconds of a producer's time for each negative; for shared blocks, for each pair of positive and negative.
    /// None where it cannot be measured.
    pub nanoseconds: Option<f64>,
    /// Seconds to build what it looks up.
    pub setup_seconds: f64,
    /// Why it cannot be measured.
    pub skipped: Option<String>,
}

/// What negatives cost.
#[derive(Clone, Debug, Serialize)]
pub struct NegativesBench {
    /// Sampler by sampler.
    pub samplers: Vec<SamplerCost>,
    /// Negatives for each positive.
    pub negatives: usize,
    /// Negatives that a block shares, and the positives that share them.
    pub shared: (usize, usize),
    /// Learnt factors of each row.
    pub dimensions: usize,
    /// Producers, a thread each.
    pub threads: usize,
    /// Kernels used for scores.
    pub instruction_set: String,
    /// Train interactions of the dataset.
    pub interactions: u64,
}

/// Measures every sampler on `dataset` with the dimensions and negatives of `config`; its mixture and loss are not used.
/// Nothing is written. Trains one epoch with BPR, and then takes some two seconds a sampler.
///
/// Time is counted from a lane's first batch on, whatever a producer does: shuffling windows, drawing, and watching the
/// health of one positive in 256.
///
/// # Errors
/// As for [`train`](super::train()).
pub fn bench_negatives(dataset: &Dataset, config: &TrainConfig, ctx: &Context) -> Result<NegativesBench, TrainError> {
    let negatives = NegativesConfig { count: config.negatives.count, ..NegativesConfig::default() };
    let base = TrainConfig { deterministic: false, loss: LossConfig::default(), negatives, ..config.clone() };
    let plan = plan_train(dataset, &base, ctx)?;
    let _exact = ExactReading::begin(dataset.train(), &plan);
    let stage = Gauges::new(ctx.stage("measuring", None, Unit::Triples), &base, &plan);
    let Prepared { tables, mut crew, around } = prepare(dataset, &base, &plan, (beside(dataset), ctx), None)?;
    stage.note("an epoch of training");
    let work = epoch(dataset, &base, (0, &plan, Cut::new(&plan, false)), (&tables, &around), (ctx, &stage));
    let rate = work.update.learning_rate;
    crew.train(&work, |_| rate).ok_or(TrainError::Panicked)?;
    drop(work);
    drop(crew);
    drop(around);
    // Those tables stay; each sampler's own come and go beside them.
    let kept = plan.user_table.0 + plan.item_table.0;
    let room = ctx.clone().with_memory(ByteSize(ctx.memory().0.saturating_sub(kept)));
    let mut samplers = Vec::new();
    for (step, name, settings) in kinds() {
        ctx.check()?;
        stage.note(format!("{step} {name}"));
        let negatives = NegativesConfig { count: base.negatives.count, ..parsed(&settings)? };
        let one = TrainConfig { negatives, ..base.clone() };
        let measured = cost(dataset, &one, &tables, (&room, &stage));
        samplers.push(reported((step, name, settings), measured)?);
    }
    drop(tables);
    let loss = LossConfig { kind: LossKind::Softmax, ..LossConfig::default() };
    let listwise = TrainConfig { loss, negatives: NegativesConfig::default(), ..base.clone() };
    let shared = (listwise.negatives().min(dataset.items().len() as usize), listwise.shared_by());
    for proposal in ["uniform", "popularity"] {
        stage.note(format!("shared {proposal}"));
        let settings = format!("proposal = \"{proposal}\"");
        let one = TrainConfig { negatives: parsed(&settings)?, ..listwise.clone() };
        let measured = producers(dataset, &one, ROUNDS, (ctx, &stage))
            .map(|(positives, setup)| (Some(1e9 * ctx.threads() as f64 / (positives * shared.0 as f64)), setup));
        samplers.push(reported(("shared", proposal.to_string(), settings), measured)?);
    }
    Ok(NegativesBench {
        samplers,
        negatives: base.negatives(),
        shared,
        dimensions: base.dimensions,
        threads: ctx.threads(),
        instruction_set: InstructionSet::detect().name().to_string(),
        interactions: dataset.train().len(),
    })
}

fn parsed(settings: &str) -> Result<NegativesConfig, TrainError> {
    toml::from_str(settings).map_err(|e| TrainError::Toml(e.to_string()))
}

/// Every choice at every step: the step, what is chosen there, and the keys that say so.
fn kinds() -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let mut add = |step, name: &str, settings: String| all.push((step, name.to_string(), settings));
    for (name, _) in Propose::ALL {
        add("propose", name, format!("[[mix]]\npropose = \"{name}\""));
    }
    add("propose", "uniform, twice", "[[mix]]\n[[mix]]".into());
    for (name, _) in Select::ALL.iter().filter(|(name, _)| *name != Select::First.name()) {
        add("select", name, format!("[[mix]]\nselect = \"{name}\""));
    }
    add("filter", "without replacement", "with_replacement = false".into());
    add("filter", "positives allowed", "allow_positives = true".into());
    add("filter", "same context", "[[mix]]\nsame_context = \"time:1d\"".into());
    add("filter", "minimum distance", "[[mix]]\nmin_distance = 0.1".into());
    add("filter", "band", "[[mix]]\nband = [0.05, 0.95]".into());
    for (name, _) in Weigh::ALL.iter().filter(|(name, _)| *name != Weigh::One.name()) {
        let needs = if *name == Weigh::Rank.name() { "select = \"violation\"\n" } else { "" };
        add("weigh", name, format!("[[mix]]\n{needs}weigh = \"{name}\""));
    }
    all
}

/// A row of the report: what was measured, nanoseconds and seconds to build, or why the dataset does not allow it.
fn reported(
    (step, name, settings): (&'static str, String, String),
    measured: Result<(Option<f64>, f64), TrainError>,
) -> Result<SamplerCost, TrainError> {
    let (nanoseconds, setup_seconds, skipped) = match measured {
        Ok((Some(nanoseconds), setup)) => (Some(nanoseconds), setup, None),
        Ok((None, setup)) => (None, setup, Some("the dataset has too few interactions".to_string())),
        Err(TrainError::Config { key, value, must }) => (None, 0.0, Some(format!("{key} = {value}: it must {must}"))),
        Err(TrainError::Memory { smallest, .. }) => (None, 0.0, Some(format!("it needs {smallest} beside the rest"))),
        Err(other) => return Err(other),
    };
    Ok(SamplerCost { step, name, settings, nanoseconds, setup_seconds, skipped })
}

/// Nanoseconds a negative of the sampler that `config` says, by the scores of `tables`, and seconds to build it.
fn cost(
    dataset: &Dataset,
    config: &TrainConfig,
    tables: &Tables,
    (ctx, stage): (&Context, &Gauges<'_>),
) -> Result<(Option<f64>, f64), TrainError> {
    let plan = plan_train(dataset, config, ctx)?;
    let began = Instant::now();
    let Prepared { tables: own, mut crew, around } = prepare(dataset, config, &plan, (beside(dataset), ctx), None)?;
    drop(own);
    let mut rounds = Vec::new();
    let mut setup = 0.0;
    for round in 0..ROUNDS {
        let work = epoch(dataset, config, (0, &plan, Cut::new(&plan, false)), (tables, &around), (ctx, stage));
        if let Some(lane) = crew.lanes().first().filter(|_| round == 0) {
            work.renew(&lane.sampling, 0.0, (plan.threads, true));
            setup = began.elapsed().as_secs_f64();
        }
        rounds.extend(produced(&work, crew.lanes()));
        ctx.check()?;
    }
    rounds.sort_by(f64::total_cmp);
    Ok((rounds.get(rounds.len() / 2).copied(), setup))
}

/// Nanoseconds a negative on every lane, into the same memory again and again; none where there is hardly a batch.
fn produced(work: &Epoch<'_>, lanes: &mut [Lane<'_>]) -> Option<f64> {
    let spent: Vec<(u64, Duration)> = std::thread::scope(|scope| {
        let running: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                scope.spawn(|| {
                    let (mut count, mut spent, mut began) = (0, Duration::ZERO, None);
                    let spare = Cell::new(None);
                    let emit = |batch: Batch| {
                        match began {
                            // The window before the first batch was filled for many.
                            None => began = Some(Instant::now()),
                            Some(at) => {
                                count += batch.negatives.len() as u64;
                                spent = at.elapsed();
                            }
                        }
                        spare.set(Some(batch));
                        if spent < ROUND { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    };
                    work.produce(lane, || spare.take(), emit, |_| 0.0, &mut Done::default());
                    (count, spent)
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let (count, time) = spent.iter().fold((0, Duration::ZERO), |(n, t), (count, spent)| (n + count, t + *spent));
    (count > 0).then(|| time.as_secs_f64() * 1e9 / count as f64)
}
