//! Metrics of held-out interactions under full ranking and under sampled negatives. Definitions: `docs/metrics.md`.

mod bench;
mod bootstrap;
mod calibration;
mod calibration_fit;
mod cases;
mod error;
mod full;
mod metrics;
mod options;
mod sampled;
#[cfg(test)]
mod tests;

pub use bench::{EvaluateBench, bench_evaluate};
pub(crate) use bootstrap::Replicates;
pub use calibration::{
    CalibrationMethod, CalibrationOptions, CalibrationReport, Reliability, ReliabilityBin, calibrate, calibration,
};
pub use error::EvaluateError;
pub use metrics::{MetricAt, Metrics};
pub use options::{EvaluateOptions, Protocol};

use std::time::Instant;

use serde::Serialize;

use crate::context::Context;
use crate::dataset::{Dataset, Part};
use crate::rank::{Paging, Popularity, RandomScores, Scorer};
use cases::Cases;

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
    /// Whether cold users are among [`Evaluation::users`].
    pub include_cold: bool,
    /// Users with fewer candidates than the sampled protocol asks for; what there was has been used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_short_of_negatives: Option<u64>,
    /// Wall-clock seconds of ranking with the scorer, without the baselines.
    pub seconds: f64,
    /// The scorer's metrics, such as `recall@20`.
    pub metrics: Metrics,
    /// The metrics of the baselines on the same users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baselines: Option<Baselines>,
}

/// Metrics of what needs no training.
#[derive(Clone, Debug, Serialize)]
pub struct Baselines {
    /// Items by their number of train interactions.
    pub popularity: Metrics,
    /// Items in random order.
    pub random: Metrics,
}

/// Ranks the held-out interactions of a part among the catalogue, or among sampled negatives, and measures how high
/// they come.
///
/// Train interactions are masked; when the test part is evaluated, those of the validation part are masked too. The
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
    evaluate_with(scorer, dataset, options, None, ctx)
}

/// As [`evaluate`] by full ranking, and resamples the users for `metric`, whose cut-off is to be among the options':
/// replicate by replicate, the mean that [`Replicates`] has.
pub(crate) fn evaluate_resampled(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    metric: MetricAt,
    ctx: &Context,
) -> Result<(Evaluation, Vec<f32>), EvaluateError> {
    let options = EvaluateOptions { protocol: Protocol::Full, ..options.clone() };
    let mut replicates = Replicates::new();
    let mut add = |user: u32, value: f64| replicates.add(user, value);
    let evaluation = evaluate_with(scorer, dataset, &options, Some((metric, &mut add)), ctx)?;
    Ok((evaluation, replicates.means()))
}

/// Both, where `by_user` goes with full ranking only.
fn evaluate_with(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    by_user: Option<full::ByUser<'_>>,
    ctx: &Context,
) -> Result<Evaluation, EvaluateError> {
    scorer.check(dataset).map_err(crate::rank::RankError::from)?;
    options.check(dataset)?;
    let paging = &Paging::begin(scorer, dataset, ctx);
    let cases = choose(scorer, dataset, options, paging, ctx)?;
    let begun = Instant::now();
    let (metrics, short) = measure(("evaluating", by_user), scorer, &cases, dataset, options, paging, ctx)?;
    let seconds = begun.elapsed().as_secs_f64();
    let baselines = if options.baselines {
        let popularity = &Popularity::new(dataset);
        let random = &RandomScores::new(dataset, options.seed);
        Some(Baselines {
            popularity: measure(("popularity baseline", None), popularity, &cases, dataset, options, paging, ctx)?.0,
            random: measure(("random baseline", None), random, &cases, dataset, options, paging, ctx)?.0,
        })
    } else {
        None
    };
    Ok(Evaluation {
        part: options.part,
        protocol: options.protocol,
        k: options.k.clone(),
        seed: options.seed,
        items: u64::from(dataset.items().len()),
        users: cases.users,
        interactions: cases.interactions,
        cold_users: cases.cold,
        include_cold: options.include_cold,
        users_short_of_negatives: short,
        seconds,
        metrics,
        baselines,
    })
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
    choose(scorer, dataset, options, &Paging::begin(scorer, dataset, ctx), ctx).map(|_| ())
}

/// Whom to evaluate, when it is clear that the budget will do.
fn choose<'a>(
    scorer: &dyn Scorer,
    dataset: &'a Dataset,
    options: &EvaluateOptions,
    paging: &Paging<'_>,
    ctx: &Context,
) -> Result<Cases<'a>, EvaluateError> {
    let mut cases = Cases::collect(dataset, options, ctx)?;
    match options.protocol {
        Protocol::Full => full::ranking(scorer, &cases, dataset, options, paging, ctx).map(|_| ())?,
        Protocol::Sampled { negatives } => {
            sampled::Plan::new(scorer, &cases, dataset, negatives, options, paging, ctx).map(|_| ())?
        }
    }
    cases.sample(options.seed, ctx)?;
    Ok(cases)
}

/// The metrics of one scorer and, under the sampled protocol, the users short of negatives.
fn measure(
    (name, by_user): (&str, Option<full::ByUser<'_>>),
    scorer: &dyn Scorer,
    cases: &Cases<'_>,
    dataset: &Dataset,
    options: &EvaluateOptions,
    paging: &Paging<'_>,
    ctx: &Context,
) -> Result<(Metrics, Option<u64>), EvaluateError> {
    let (users, items) = (dataset.users().len() as usize, dataset.items().len() as usize);
    if (scorer.users(), scorer.items()) != (users, items) {
        return Err(crate::rank::RankError::Shape {
            users: scorer.users(),
            items: scorer.items(),
            dataset_users: users,
            dataset_items: items,
        }
        .into());
    }
    match options.protocol {
        Protocol::Full => Ok((full::measure((name, by_user), scorer, cases, dataset, options, paging, ctx)?, None)),
        Protocol::Sampled { negatives } => {
            let plan = sampled::Plan::new(scorer, cases, dataset, negatives, options, paging, ctx)?;
            let (metrics, short) = plan.measure(name, ctx)?;
            Ok((metrics, Some(short)))
        }
    }
}
