//! Metrics of held-out interactions under full ranking and under sampled negatives. Definitions: `docs/metrics.md`.

mod baselines;
mod bench;
mod beyond;
mod bootstrap;
mod by_attribute;
mod calibration;
mod calibration_fit;
mod cases;
mod compare;
mod error;
mod flips;
mod full;
mod listed;
mod metrics;
mod notes;
mod options;
#[cfg(test)]
mod oracle_tests;
mod popular;
mod sampled;
mod slices;
mod subject;
mod tally;
#[cfg(test)]
mod tests;

pub use baselines::Baseline;
pub use bench::{EvaluateBench, bench_evaluate};
pub(crate) use bootstrap::interval;
pub use calibration::{
    CalibrationMethod, CalibrationOptions, CalibrationReport, Reliability, ReliabilityBin, calibrate, calibration,
};
pub use compare::{COMPARE_MARGIN, CompareOptions, ComparedMetric, Comparison, Verdict, compare};
pub use error::EvaluateError;
pub use metrics::{MetricAt, Metrics};
pub use options::{EvaluateOptions, Protocol};
pub use slices::SliceBy;

use std::time::Instant;

use serde::{Serialize, Serializer};

use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Part};
use crate::rank::{Aligned, Known, Paging, RankError, Scorer};
use beyond::Beyond;
use cases::Cases;
use slices::Slices;
use subject::{Measured, Subject};

/// What [`evaluate`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The part that was held out; `split` in JSON, as the flag is called.
    #[serde(rename = "split")]
    pub part: Part,
    /// How it was ranked.
    pub protocol: Protocol,
    /// The cut-offs.
    pub k: Vec<usize>,
    /// Seed of ties, negatives, the sample of users and the random baseline.
    pub seed: u64,
    /// Items of the catalogue.
    pub items: u64,
    /// Users that were ranked.
    pub users: u64,
    /// Their held-out interactions.
    pub interactions: u64,
    /// Users with held-out interactions and none in train.
    pub cold_users: u64,
    /// Users with held-out interactions, and some in train, whom the scorer does not know, because all of these came later.
    #[serde(skip_serializing_if = "is_zero")]
    pub later_users: u64,
    /// Whether cold and later users are among [`Evaluation::users`].
    pub include_cold: bool,
    /// Users with fewer candidates than the sampled protocol asks for; what there was has been used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_short_of_negatives: Option<u64>,
    /// Wall-clock seconds of ranking with the scorer, without the baselines.
    pub seconds: f64,
    /// The scorer's metrics, such as `recall@20`.
    pub metrics: Metrics,
    /// Their 95 % intervals, by resampling users; those beyond accuracy have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
    /// The metrics of the baselines on the same users.
    #[serde(skip_serializing_if = "Baselines::is_empty")]
    pub baselines: Baselines,
    /// The scorer's accuracy on each slice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceRow>,
    /// Whether the scorer has learnt what came after the held-out part, and looks better than it is.
    pub flattered: bool,
    /// What was left out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// 95 % intervals by metric, in the order of [`Metrics`].
#[derive(Clone, Debug, PartialEq)]
pub struct Intervals(Vec<(String, [f64; 2])>);

impl Intervals {
    /// The interval of `name`.
    pub fn get(&self, name: &str) -> Option<[f64; 2]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, interval)| *interval)
    }
}

impl Serialize for Intervals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, interval)| (name, interval)))
    }
}

/// Metrics of what needs no training, by baseline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baselines(Vec<(Baseline, Metrics)>);

impl Baselines {
    /// The metrics of one.
    pub fn get(&self, baseline: Baseline) -> Option<&Metrics> {
        self.iter().find(|(b, _)| *b == baseline).map(|(_, metrics)| metrics)
    }

    /// All of them, in the order of a report.
    pub fn iter(&self) -> impl Iterator<Item = (Baseline, &Metrics)> {
        self.0.iter().map(|(baseline, metrics)| (*baseline, metrics))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Baselines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A slice of the users or of the held-out interactions, and the scorer's accuracy there.
#[derive(Clone, Debug, Serialize)]
pub struct SliceRow {
    /// What slices it, such as `activity` or the name of a context column.
    pub by: String,
    /// Which slice: a range of counts, a stretch of time or a value.
    pub slice: String,
    /// Users with rankings in it.
    pub users: u64,
    /// Held-out interactions in it.
    pub interactions: u64,
    /// Accuracy.
    pub metrics: Metrics,
    /// Its 95 % intervals.
    pub intervals: Option<Intervals>,
}

/// Ranks the held-out interactions of a part among the catalogue, or among sampled negatives, and measures how high
/// they come.
///
/// The dataset may have grown since the scorer was made: users who came later are left out like those without train
/// interactions, and items that came later are below all others. Train interactions are masked; when the test part is
/// evaluated, those of the validation part are masked too. The
/// result has the same bits for any number of threads and any memory budget. Full ranking takes
/// O(users × items × dimensions), and in addition O(interactions × items) for the AUC.
///
/// # Errors
/// If the part is absent, a cut-off does not fit the catalogue, the scorer does not belong to the dataset, a score is
/// NaN, the memory budget holds not even one user, no user is left, or the operation was stopped.
pub fn evaluate(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<Evaluation, EvaluateError> {
    evaluate_keeping((scorer, None), dataset, options, ctx).map(|(evaluation, _)| evaluation)
}

/// As [`evaluate`], for users whom several models `know`: means over the same users can be held against each other.
pub(crate) fn evaluate_beside(
    (scorer, know): (&dyn Scorer, &Known),
    dataset: &Dataset,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<Evaluation, EvaluateError> {
    evaluate_keeping((scorer, Some(know)), dataset, options, ctx).map(|(evaluation, _)| evaluation)
}

/// As [`evaluate`] by full ranking, and resamples the users for `metric`, whose cut-off is to be among the options':
/// replicate by replicate, the mean that it has. How often a user counts in a replicate depends on the two alone, so
/// that replicates of two scorers on the same users are paired.
pub(crate) fn evaluate_resampled(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    metric: MetricAt,
    ctx: &Context,
) -> Result<(Evaluation, Vec<f32>), EvaluateError> {
    let options = EvaluateOptions { protocol: Protocol::Full, intervals: true, ..options.clone() };
    let (evaluation, measured) = evaluate_keeping((scorer, None), dataset, &options, ctx)?;
    let place = metric.place(&options.k).unwrap_or_default();
    Ok((evaluation, measured.sums.replicates(0, place).into_iter().map(|mean| mean as f32).collect()))
}

/// As [`evaluate`], and what the scorer's rankings add up to.
fn evaluate_keeping(
    (scorer, together): (&dyn Scorer, Option<&Known>),
    dataset: &Dataset,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<(Evaluation, Measured), EvaluateError> {
    let aligned = Aligned::new(scorer, dataset)?;
    let scorer = &aligned;
    options.check(dataset)?;
    let paging = &Paging::begin(scorer, dataset, ctx);
    let known = together.unwrap_or(aligned.known()).clone();
    let cases = &choose(scorer, known, dataset, options, paging, ctx)?;
    let (slices, everybody) = (&Slices::new(dataset, cases, options, ctx)?, &Slices::none(dataset));
    let subject = Subject::new("evaluating", scorer, cases, dataset, options, (paging, slices)).whole();
    let outside = subject.outside;
    let beyond = outside.map(|space| Beyond::new(dataset, cases, &options.k, space));
    let subject = Subject { beyond: beyond.as_ref(), ..subject };
    let begun = Instant::now();
    let (measured, more) = measure(&subject, ctx)?;
    let who = if together.is_some() { "one of the models" } else { "the model" };
    let of_it = notes::of(&aligned, dataset, options.part).into_iter().map(|note| format!("the model {note}"));
    let mut notes: Vec<String> = of_it.chain(notes::later(cases, options, who)).chain(more).collect();
    let flattered = notes::flattered(dataset, options.part, dataset.fingerprint());
    notes.extend(flattered.filter(|_| !options.baselines.is_empty()).map(|why| format!("the baselines are {why}")));
    notes.extend(options.attributes.iter().flat_map(|attributes| attributes.notes()));
    let seconds = begun.elapsed().as_secs_f64();
    // What was measured is held while baselines are.
    let (held, taken) = (subject.shape().bytes(), subject.taken() as u64);
    let left = &ctx.clone().with_memory(ByteSize(ctx.memory().0.saturating_sub(taken)));
    let mut baselines = Vec::new();
    for baseline in &options.baselines {
        let name = format!("baseline {baseline}");
        let measured = baseline.scorer(dataset, options.seed, left).and_then(|own| {
            let subject = Subject::new(&name, &*own, cases, dataset, options, (paging, everybody));
            measure(&Subject { outside, beyond: beyond.as_ref(), held, ..subject }, ctx)
        });
        match measured {
            Ok((measured, _)) => baselines.push((*baseline, measured.metrics)),
            Err(error @ (EvaluateError::Baseline { .. } | EvaluateError::Rank(RankError::Memory { .. }))) => {
                notes.push(format!("{error}"));
            }
            Err(other) => return Err(other),
        }
    }
    // Whether a file failed meanwhile.
    scorer.check(dataset).map_err(RankError::from)?;
    let evaluation = Evaluation {
        part: options.part,
        protocol: options.protocol.clone(),
        k: options.k.clone(),
        seed: options.seed,
        items: u64::from(dataset.items().len()),
        users: cases.users,
        interactions: cases.interactions,
        cold_users: cases.cold,
        later_users: cases.later,
        include_cold: options.include_cold,
        users_short_of_negatives: measured.short,
        seconds,
        metrics: measured.metrics.clone(),
        intervals: measured.sums.intervals(0, &measured.sums.totals[0].means(&options.k)),
        baselines: Baselines(baselines),
        slices: rows(slices, &measured, options),
        flattered: notes::of_flattery(&aligned, dataset, options.part).is_some(),
        notes,
    };
    Ok((evaluation, measured))
}

/// The slices that have rankings.
fn rows(slices: &Slices<'_>, measured: &Measured, options: &EvaluateOptions) -> Vec<SliceRow> {
    let sums = &measured.sums;
    let of = |axis: &slices::Axis<'_>| {
        let each = axis.names.iter().enumerate().map(|(at, name)| (axis.by.clone(), name.clone(), axis.first + at));
        each.collect::<Vec<_>>()
    };
    let all = slices.axes.iter().flat_map(of).filter(|(_, _, group)| !sums.totals[*group].is_empty());
    all.map(|(by, slice, group)| {
        let metrics = sums.totals[group].means(&options.k);
        let intervals = sums.intervals(group, &metrics);
        let (users, interactions) = (sums.users(group), sums.totals[group].relevant());
        SliceRow { by, slice, users, interactions, metrics, intervals }
    })
    .collect()
}

/// Makes sure that [`evaluate`] finds all that it needs, without ranking anyone.
///
/// # Errors
/// As [`evaluate`] would, but for scores that are NaN.
pub(crate) fn check_evaluation(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<(), EvaluateError> {
    options.check(dataset)?;
    let aligned = Aligned::new(scorer, dataset)?;
    let paging = &Paging::begin(&aligned, dataset, ctx);
    choose(&aligned, aligned.known().clone(), dataset, options, paging, ctx).map(|_| ())
}

/// Whom of the `known` users to evaluate, when it is clear that the budget will do.
fn choose<'a>(
    scorer: &Aligned<'_>,
    known: Known,
    dataset: &'a Dataset,
    options: &EvaluateOptions,
    paging: &Paging<'_>,
    ctx: &Context,
) -> Result<Cases<'a>, EvaluateError> {
    let mut cases = Cases::collect(dataset, known, options, ctx)?;
    let slices = &Slices::new(dataset, &cases, options, ctx)?;
    let subject = Subject::new("", scorer, &cases, dataset, options, (paging, slices)).whole();
    match options.protocol {
        Protocol::Full => full::ranking(&subject, ctx).map(|_| ())?,
        _ => sampled::Plan::new(&subject, ctx).map(|_| ())?,
    }
    cases.sample(options.seed, ctx)?;
    Ok(cases)
}

/// What one scorer comes to, and what is to be said of it.
fn measure(subject: &Subject<'_>, ctx: &Context) -> Result<(Measured, Vec<String>), EvaluateError> {
    if subject.options.protocol == Protocol::Full {
        return Ok((full::measure(subject, ctx)?, Vec::new()));
    }
    let plan = sampled::Plan::new(subject, ctx)?;
    Ok((plan.measure(ctx)?, plan.notes()))
}
