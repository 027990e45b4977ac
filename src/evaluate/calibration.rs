//! Probabilities: how well those that a scorer predicts hold on held-out interactions and sampled exposures, and curves
//! that make them hold better. Definitions: `docs/calibration.md`.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibration_fit::{isotonic, platt};
use super::sampled::draw;
use super::{EvaluateError, notes};
use crate::context::{Context, Interrupted, Unit};
use crate::dataset::{Dataset, Interactions, Part};
use crate::mix::mix;
use crate::model::{Calibration, CalibrationCurve, sigmoid};
use crate::rank::{Aligned, RankError, Scorer, not_a_number, program_bytes, user_seed, workers};

/// Bins of a reliability table (as Guo et al. 2017).
const BINS: usize = 15;
/// Users that a thread takes at a time, and so many of those between two looks at whether to stop.
const BLOCK: u32 = 256;
const WAVE: usize = 64;
/// What a sampled pair takes: a score and what it is, and as much again while they are put in order.
const PAIR_BYTES: u64 = 16;

/// How probabilities are fitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CalibrationMethod {
    /// A sigmoid of two parameters.
    Platt,
    /// Any curve that does not fall.
    Isotonic,
}

impl std::str::FromStr for CalibrationMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "platt" => Ok(Self::Platt),
            "isotonic" => Ok(Self::Isotonic),
            _ => Err(format!("'{text}' is no method; write platt or isotonic")),
        }
    }
}

/// What probabilities are of.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationOptions {
    /// The part whose interactions are the positives.
    pub part: Part,
    /// Items that are drawn beside each of them, of those that the user has in no part: fewer where there are no more.
    pub negatives: u32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        Self { part: Part::Test, negatives: 4, seed: 42 }
    }
}

/// How probabilities hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// Expected calibration error: Σ nᵦ/n |observed − predicted| over the bins.
    pub ece: f64,
    /// The largest |observed − predicted| of a bin.
    pub mce: f64,
    /// Brier score: the mean square of what is (0 or 1) minus what was predicted.
    pub brier: f64,
    /// Mean −ln of the probability of what is, probabilities being kept 1e-12 from 0 and 1.
    pub log_loss: f64,
    /// Bins of equal width that are not empty, by predicted probability.
    pub bins: Vec<ReliabilityBin>,
}

/// A row of a reliability table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// From this probability, inclusive.
    pub low: f64,
    /// To this one; inclusive in the last bin.
    pub high: f64,
    /// Pairs in it.
    pub count: u64,
    /// Their mean prediction.
    pub predicted: f64,
    /// The share of positives among them.
    pub observed: f64,
}

/// How a scorer's probabilities hold on held-out interactions and sampled exposures.
#[derive(Clone, Debug, Serialize)]
pub struct CalibrationReport {
    /// The part of the positives; `split` in JSON, as the flag is called.
    #[serde(rename = "split")]
    pub part: Part,
    /// Held-out interactions; where there are more than memory holds, a random sample.
    pub positives: u64,
    /// Items drawn beside them.
    pub exposures: u64,
    /// Of those for each interaction, at most.
    pub negatives: u32,
    /// Seed of the draws.
    pub seed: u64,
    /// Of σ(score), which is what a logistic loss takes scores for.
    pub uncalibrated: Reliability,
    /// Of the curve, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<Reliability>,
    /// Whether the scorer has learnt what came after the part, and looks better than it is.
    pub flattered: bool,
    /// What is to be said beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Measures how probabilities hold: σ(score), and those of `curve`, if there is one.
///
/// Time: O(interactions × negatives × (dimensions + log of both)). The sampled pairs take half of `ctx.memory()` at most:
/// where there are more, a random sample of the interactions is taken.
///
/// # Errors
/// If the scorer does not belong to the dataset, there is no such part, no user has interactions both in it and in train,
/// a score is NaN, or the operation was stopped.
pub fn calibration(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    curve: Option<&CalibrationCurve>,
    options: CalibrationOptions,
    ctx: &Context,
) -> Result<CalibrationReport, EvaluateError> {
    let pairs = pairs(scorer, dataset, options, ctx)?;
    let positives = pairs.iter().filter(|(_, positive)| *positive).count() as u64;
    let of = |curve: Option<&CalibrationCurve>| {
        reliability(pairs.iter().map(|(score, positive)| {
            let predicted = curve.map_or_else(|| sigmoid(f64::from(*score)), |curve| curve.probability(*score));
            (predicted, *positive)
        }))
    };
    let flattery = notes::of_flattery(&Aligned::new(scorer, dataset)?, dataset, options.part);
    Ok(CalibrationReport {
        part: options.part,
        positives,
        exposures: pairs.len() as u64 - positives,
        negatives: options.negatives,
        seed: options.seed,
        uncalibrated: of(None),
        calibrated: curve.map(|curve| of(Some(curve))),
        flattered: flattery.is_some(),
        notes: flattery.map(|note| format!("the model {note}")).into_iter().collect(),
    })
}

/// Fits a curve from scores to probabilities, by `method`.
///
/// # Errors
/// Those of [`calibration`].
pub fn calibrate(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    method: CalibrationMethod,
    options: CalibrationOptions,
    ctx: &Context,
) -> Result<Calibration, EvaluateError> {
    let mut pairs = pairs(scorer, dataset, options, ctx)?;
    let positives = pairs.iter().filter(|(_, positive)| *positive).count() as u64;
    let exposures = pairs.len() as u64 - positives;
    let curve = match method {
        CalibrationMethod::Platt => platt(&pairs),
        CalibrationMethod::Isotonic => isotonic(&mut pairs),
    };
    let CalibrationOptions { part, negatives, seed } = options;
    Ok(Calibration { curve, part, positives, exposures, negatives, seed })
}

/// The reliability of predicted probabilities, each with what it was a prediction of.
pub(super) fn reliability(predictions: impl Iterator<Item = (f64, bool)>) -> Reliability {
    let mut bins = [(0u64, 0f64, 0u64); BINS];
    let (mut brier, mut log_loss) = (0.0, 0.0);
    for (predicted, positive) in predictions {
        let (count, sum, positives) = &mut bins[((predicted * BINS as f64) as usize).min(BINS - 1)];
        *count += 1;
        *sum += predicted;
        *positives += u64::from(positive);
        brier += (f64::from(u8::from(positive)) - predicted).powi(2);
        let of_what_is = if positive { predicted } else { 1.0 - predicted };
        log_loss -= of_what_is.clamp(1e-12, 1.0 - 1e-12).ln();
    }
    let all = bins.iter().map(|bin| bin.0).sum::<u64>().max(1) as f64;
    let bins: Vec<ReliabilityBin> = (0..)
        .zip(bins)
        .filter(|(_, (count, ..))| *count > 0)
        .map(|(number, (count, sum, positives))| ReliabilityBin {
            low: f64::from(number) / BINS as f64,
            high: f64::from(number + 1) / BINS as f64,
            count,
            predicted: sum / count as f64,
            observed: positives as f64 / count as f64,
        })
        .collect();
    let gap = |bin: &ReliabilityBin| (bin.observed - bin.predicted).abs();
    Reliability {
        ece: bins.iter().map(|bin| bin.count as f64 / all * gap(bin)).sum(),
        mce: bins.iter().map(gap).fold(0.0, f64::max),
        brier: brier / all,
        log_loss: log_loss / all,
        bins,
    }
}

/// Scores of held-out interactions, and of the items drawn beside each.
fn pairs(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: CalibrationOptions,
    ctx: &Context,
) -> Result<Vec<(f32, bool)>, EvaluateError> {
    Aligned::new(scorer, dataset)?.check_whole(dataset)?;
    if options.negatives == 0 {
        return Err(EvaluateError::NoNegatives);
    }
    let users = dataset.users().len();
    let held_out = dataset.part(options.part).ok_or_else(|| EvaluateError::NoPart {
        dataset: dataset.path().to_path_buf(),
        part: options.part,
        present: dataset.parts().map(|(part, _)| part.name()).collect::<Vec<_>>().join(" and "),
    })?;
    let room = (ctx.memory().0.saturating_sub(program_bytes(ctx.threads()) as u64) / 2).max(1 << 16);
    let most = room / (PAIR_BYTES * (1 + u64::from(options.negatives)));
    // The share of the interactions that are taken, of 2^32.
    let share = ((most as f64 / held_out.len().max(1) as f64).min(1.0) * (1u64 << 32) as f64) as u64;
    let stage = ctx.stage("scoring", Some(u64::from(users)), Unit::Users);
    let pool = workers(ctx)?;
    let blocks: Vec<u32> = (0..users).step_by(BLOCK as usize).collect();
    let mut pairs = Vec::new();
    for wave in blocks.chunks(WAVE) {
        ctx.check()?;
        let score = |first: &u32| {
            let all = *first..users.min(first + BLOCK);
            of_users(scorer, (dataset, held_out), all, (options, share), ctx)
        };
        let found: Vec<_> = pool.install(|| wave.par_iter().map(score).collect());
        for found in found {
            pairs.extend(found?);
        }
        stage.add(wave.iter().map(|first| u64::from(users.min(first + BLOCK) - first)).sum());
    }
    if !pairs.iter().any(|(_, positive)| *positive) {
        let dataset = dataset.path().to_path_buf();
        let cold = u64::from(held_out.summary().users);
        return Err(EvaluateError::NoUsers { dataset, part: options.part, cold, later: 0 });
    }
    Ok(pairs)
}

/// The pairs of some users.
fn of_users(
    scorer: &dyn Scorer,
    (dataset, held_out): (&Dataset, &Interactions),
    users: std::ops::Range<u32>,
    (options, share): (CalibrationOptions, u64),
    ctx: &Context,
) -> Result<Vec<(f32, bool)>, EvaluateError> {
    let (mut pairs, mut seen, mut items, mut scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for user in users {
        ctx.check().map_err(|stopped: Interrupted| RankError::from(stopped))?;
        let own = held_out.user(user).items;
        if own.is_empty() || dataset.train().user(user).items.is_empty() {
            continue;
        }
        let seed = user_seed(options.seed, user);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        seen.clear();
        seen.extend(dataset.parts().flat_map(|(_, part)| part.user(user).items).map(|item| item.to_native()));
        seen.sort_unstable();
        seen.dedup();
        let candidates = dataset.items().len() - seen.len() as u32;
        items.clear();
        let mut ends = Vec::new();
        for positive in own {
            let positive = positive.to_native();
            if mix(seed ^ u64::from(positive)) >> 32 >= share {
                continue;
            }
            items.push(positive);
            draw(candidates, options.negatives.min(candidates) as usize, &seen, &mut rng, &mut items);
            ends.push(items.len());
        }
        scores.resize(items.len(), 0.0);
        scorer.score_items(user, &items, &mut scores);
        if let Some(at) = scores.iter().position(|score: &f32| score.is_nan()) {
            return Err(not_a_number(dataset, user, items[at]).into());
        }
        let mut first = 0;
        for end in ends {
            pairs.push((scores[first], true));
            pairs.extend(scores[first + 1..end].iter().map(|score| (*score, false)));
            first = end;
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::fixture::{Matrix, dataset, noise};

    #[test]
    fn the_error_of_a_table_is_that_found_by_hand() {
        // Bin 0: 0.05 and 0.01, none positive. Bin 7, from 7/15 to 8/15: 0.5 twice, one positive. Bin 14: 1, positive; 0.95, not.
        let predictions = [(0.05, false), (0.01, false), (0.5, true), (0.5, false), (1.0, true), (0.95, false)];
        let found = reliability(predictions.into_iter());
        assert_eq!(found.bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [2, 2, 2]);
        assert!((found.ece - (2.0 * 0.03 + 0.0 + 2.0 * (0.975 - 0.5)) / 6.0).abs() < 1e-12, "{}", found.ece);
        assert!((found.mce - 0.475).abs() < 1e-12);
        let brier = (0.05f64.powi(2) + 0.01f64.powi(2) + 0.5 + 0.0 + 0.95f64.powi(2)) / 6.0;
        assert!((found.brier - brier).abs() < 1e-12);
        let log_loss = -(0.95f64.ln() + 0.99f64.ln() + 2.0 * 0.5f64.ln() + (1f64 - 1e-12).ln() + 0.05f64.ln()) / 6.0;
        assert!((found.log_loss - log_loss).abs() < 1e-9);
    }

    #[test]
    fn curves_bring_the_error_down_and_pairs_are_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (users, items) = (60, 40);
        let of = |shift: usize| -> Vec<Vec<u32>> {
            let of_user = |u: usize| (0..4).map(|k| ((u * 7 + k * 9 + shift) % items) as u32).collect();
            (0..users).map(of_user).collect()
        };
        let parts = [(Part::Train, of(0)), (Part::Valid, of(3)), (Part::Test, of(5))];
        let data = dataset(&folder.path().join("d"), items, &parts);
        // Held-out items score higher, but all scores are far too high for probabilities.
        let held = |u: usize, i: usize| {
            [Part::Valid, Part::Test]
                .iter()
                .any(|p| data.part(*p).unwrap().user(u as u32).items.iter().any(|x| x.to_native() as usize == i))
        };
        let score = |at: usize| {
            2.0 + 3.0 * noise(at / items, at % items) + if held(at / items, at % items) { 1.5 } else { 0.0 }
        };
        let scorer = Matrix { users, items, scores: (0..users * items).map(score).collect() };
        let ctx = Context::new(2, crate::context::ByteSize(1 << 28));
        let test = CalibrationOptions { negatives: 3, ..CalibrationOptions::default() };
        let valid = CalibrationOptions { part: Part::Valid, ..test };
        for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
            let fitted = calibrate(&scorer, &data, method, valid, &ctx).unwrap();
            assert_eq!((fitted.positives, fitted.exposures), (240, 720));
            let report = calibration(&scorer, &data, Some(&fitted.curve), test, &ctx).unwrap();
            assert_eq!((report.positives, report.exposures), (240, 720));
            let (before, after) = (&report.uncalibrated, report.calibrated.as_ref().unwrap());
            assert!(before.ece > 0.5 && after.ece < 0.15, "{method:?}: {} {}", before.ece, after.ece);
            assert!(after.log_loss < before.log_loss && after.brier < before.brier);
            // On what it was fitted on, isotonic regression predicts the mean of each of its steps.
            if method == CalibrationMethod::Isotonic {
                let own = calibration(&scorer, &data, Some(&fitted.curve), valid, &ctx).unwrap();
                assert!(own.calibrated.unwrap().ece < 0.03);
            }
        }
        let one = Context::new(1, crate::context::ByteSize(1 << 28));
        let both = [&ctx, &one].map(|ctx| calibrate(&scorer, &data, CalibrationMethod::Isotonic, valid, ctx).unwrap());
        assert_eq!(both[0], both[1], "whatever the threads");
        let none = CalibrationOptions { negatives: 0, ..test };
        assert!(matches!(calibration(&scorer, &data, None, none, &ctx), Err(EvaluateError::NoNegatives)));
    }
}
