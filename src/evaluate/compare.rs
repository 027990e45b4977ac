//! Which of two scorers is better on the same held-out interactions, by how much, or that it cannot be told.

use serde::Serialize;

use super::bootstrap::interval;
use super::cases::Cases;
use super::flips::holm;
use super::metrics::NAMES;
use super::sampled::Plan;
use super::slices::Slices;
use super::subject::{Measured, Subject};
use super::tally::{Keep, Shape};
use super::{EvaluateError, EvaluateOptions, Protocol, full, is_zero, measure, notes};
use crate::context::Context;
use crate::dataset::{Dataset, Part};
use crate::nearest::did_you_mean;
use crate::rank::{Aligned, Paging, Scorer};

/// Differences beyond the margin whose corrected p-value is below are taken for real.
const LEVEL: f64 = 0.05;

/// Which of two is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The first.
    A,
    /// The second.
    B,
    /// The first by some metrics, the second by others.
    Mixed,
    /// The users that there are do not tell.
    CannotBeTold,
}

/// A metric of both.
#[derive(Clone, Debug, Serialize)]
pub struct ComparedMetric {
    /// Its name, such as `ndcg@20`.
    pub metric: String,
    /// Of the first.
    pub a: f64,
    /// Of the second.
    pub b: f64,
    /// That of the first less that of the second.
    pub difference: f64,
    /// The 95 % interval of the difference, by resampling users.
    pub interval: [f64; 2],
    /// By the randomization test of the users' differences, beyond the margin.
    pub p_value: f64,
    /// After Holm's correction for the number of metrics.
    pub p_corrected: f64,
    /// By `p_corrected`, at 0.05.
    pub verdict: Verdict,
}

/// The share of the smaller mean that a difference must exceed, unless another is asked for: what the seed of a training alone
/// makes of difference stays below, as a rule (docs/metrics.md has measurements).
pub const COMPARE_MARGIN: f64 = 0.01;

/// What counts for [`compare`].
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// The share of the smaller mean that a difference must exceed; 0 asks whether there is any.
    pub margin: f64,
    /// Which metrics count, such as `ndcg@20`, or `ndcg` at each cut-off. Empty for all: the more they are, the larger a
    /// difference must be to be told from chance.
    pub metrics: Vec<String>,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self { margin: COMPARE_MARGIN, metrics: Vec::new() }
    }
}

/// What [`compare`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The part that was held out.
    #[serde(rename = "split")]
    pub part: Part,
    /// How it was ranked.
    pub protocol: Protocol,
    /// The cut-offs.
    pub k: Vec<usize>,
    /// Seed of ties, negatives and the sample of users.
    pub seed: u64,
    /// The share of the smaller mean that a difference must exceed.
    pub margin: f64,
    /// Users that were ranked.
    pub users: u64,
    /// Their held-out interactions.
    pub interactions: u64,
    /// Users whom one of them does not know, because all of their train interactions came later.
    #[serde(skip_serializing_if = "is_zero")]
    pub later_users: u64,
    /// All metrics together: the better one is better by some metric and worse by none.
    pub verdict: Verdict,
    /// Each metric.
    pub metrics: Vec<ComparedMetric>,
    /// Whether the first, and whether the second, has learnt what came after the held-out part: where only one has, it is no
    /// fair comparison.
    pub flattered: [bool; 2],
    /// What is to be said of either beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Ranks the same held-out interactions with two scorers and tests whether they differ: for each metric the difference of
/// means over users, its bootstrap interval, and a two-sided paired randomization test over users with 4,095 random
/// flips (Smucker, Allan & Carterette 2007), corrected over metrics by Holm's method (1979). What is tested is whether the
/// larger mean is above 1 + [`CompareOptions::margin`] times the smaller one; with a margin of 0, whether they differ at all.
///
/// Of `options` baselines, slices and what is beyond accuracy do not count. The result has the same bits for any number
/// of threads and any memory budget. Takes the time of two evaluations, and holds nothing of the users.
///
/// # Errors
/// As for [`evaluate`](super::evaluate), and if there is no such metric.
pub fn compare(
    a: &dyn Scorer,
    b: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    CompareOptions { margin, metrics: wanted }: &CompareOptions,
    ctx: &Context,
) -> Result<Comparison, EvaluateError> {
    let (a, b) = (&Aligned::new(a, dataset)?, &Aligned::new(b, dataset)?);
    options.check(dataset)?;
    check_metrics(wanted, options)?;
    let margin = *margin;
    // Nobody whom one of them does not know.
    let mut cases = Cases::collect(dataset, a.known().and(b.known()), options, ctx)?;
    let said = |name: &str, scorer: &Aligned<'_>| {
        let notes = notes::of(scorer, dataset, options.part).into_iter();
        notes.map(|note| format!("{name} {note}")).collect::<Vec<_>>()
    };
    let mut notes = [said("A", a), said("B", b)].concat();
    let flattered = [a, b].map(|one| notes::of_flattery(one, dataset, options.part).is_some());
    notes.extend(notes::later(&cases, options, "one of them"));
    let slices = &Slices::none(dataset);
    let held = [b.held_bytes(), a.held_bytes()];
    let mut sampled = false;
    let mut one = |name: &str, scorer: &dyn Scorer, held: usize| -> Result<Measured, EvaluateError> {
        let paging = &Paging::begin(scorer, dataset, ctx);
        let keep = Keep::Flips;
        // The sums of the first are held while the second is measured.
        let held = held + Shape { groups: 1, k: &options.k, keep }.bytes();
        if !sampled {
            let subject = Subject::new(name, scorer, &cases, dataset, options, (paging, slices));
            let subject = Subject { keep, held, ..subject };
            // Refuses a budget that does not do before a sample is held.
            match options.protocol {
                Protocol::Full => full::ranking(&subject, ctx).map(|_| ())?,
                _ => Plan::new(&subject, ctx).map(|_| ())?,
            }
            cases.sample(options.seed, ctx)?;
            sampled = true;
        }
        let subject = Subject::new(name, scorer, &cases, dataset, options, (paging, slices));
        Ok(measure(&Subject { keep, held, ..subject }, ctx)?.0)
    };
    let (a, b) = (one("ranking with A", a, held[0])?, one("ranking with B", b, held[1])?);
    let mut metrics = Vec::new();
    for (place, (name, of_a)) in a.metrics.iter().enumerate() {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|wanted| wanted == name || wanted == kind_of(name));
        if !is_wanted || !tells_something(name, &options.protocol) {
            continue;
        }
        let (Some(of_b), Some((flips, others))) = (b.metrics.get(name), a.sums.flips(place).zip(b.sums.flips(place)))
        else {
            continue;
        };
        let of_both = a.sums.replicates(0, place).into_iter().zip(b.sums.replicates(0, place));
        let p_value = flips.p_value(others, margin);
        metrics.push(ComparedMetric {
            metric: name.to_string(),
            a: of_a,
            b: of_b,
            difference: of_a - of_b,
            interval: interval(of_both.map(|(a, b)| a - b).collect()).unwrap_or_default(),
            p_value,
            p_corrected: p_value,
            verdict: Verdict::CannotBeTold,
        });
    }
    let corrected = holm(&metrics.iter().map(|m| m.p_value).collect::<Vec<_>>());
    for (metric, p) in metrics.iter_mut().zip(corrected) {
        metric.p_corrected = p;
        metric.verdict = match metric.difference {
            _ if p >= LEVEL => Verdict::CannotBeTold,
            difference if difference > 0.0 => Verdict::A,
            _ => Verdict::B,
        };
    }
    let any = |verdict| metrics.iter().any(|m| m.verdict == verdict);
    let verdict = match (any(Verdict::A), any(Verdict::B)) {
        (true, true) => Verdict::Mixed,
        (true, false) => Verdict::A,
        (false, true) => Verdict::B,
        (false, false) => Verdict::CannotBeTold,
    };
    Ok(Comparison {
        part: options.part,
        protocol: options.protocol.clone(),
        k: options.k.clone(),
        seed: options.seed,
        margin,
        users: cases.users,
        interactions: cases.interactions,
        later_users: cases.later,
        verdict,
        metrics,
        flattered,
        notes,
    })
}

/// Refuses a metric that is not measured with these options, or says what another does.
fn check_metrics(wanted: &[String], options: &EvaluateOptions) -> Result<(), EvaluateError> {
    let at_cut_offs = NAMES.iter().flat_map(|name| options.k.iter().map(move |k| format!("{name}@{k}")));
    let auc = (options.protocol == Protocol::Full).then(|| "auc".to_string());
    let all: Vec<String> = auc.into_iter().chain(at_cut_offs).collect();
    let telling = || all.iter().map(String::as_str).filter(|name| tells_something(name, &options.protocol));
    let is_there = |wanted: &str| telling().any(|name| name == wanted || kind_of(name) == wanted);
    match wanted.iter().find(|wanted| !is_there(wanted)) {
        None => Ok(()),
        Some(wrong) => Err(EvaluateError::NoMetric {
            given: wrong.clone(),
            near: did_you_mean(wrong, telling().flat_map(|name| [name, kind_of(name)])),
            there: telling().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// `ndcg` of `ndcg@20`.
fn kind_of(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Whether a metric says what no other says: where each ranking has one relevant item, recall is the hit rate, precision
/// a share of it, and the average precision the reciprocal rank.
fn tells_something(name: &str, protocol: &Protocol) -> bool {
    let kind = kind_of(name);
    *protocol == Protocol::Full || NAMES.contains(&kind) && !["recall", "precision", "map"].contains(&kind)
}
