//! The sweep itself: rung after rung, run after run, each made durable when it is done.

use std::path::Path;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::candidate::{Candidate, as_json, candidates};
use super::compare::{mean_and_deviation, over_seeds};
use super::halving::{divisors, epochs_at, survivors};
use super::journal::{Entry, Head, Journal, Measured, Outcome};
use super::{Space, Standing, SweepError, SweepFailure, SweepOptions, SweepReport, SweepRow};
use crate::context::{Context, Interrupted, Stage, Unit};
use crate::dataset::{Dataset, Part};
use crate::evaluate::{EvaluateError, EvaluateOptions, Evaluation, Protocol, evaluate, evaluate_resampled, interval};
use crate::model::Model;
use crate::rank::{Popularity, RankError};
use crate::storage::{IoContext, StorageError, disk, replace_file};
use crate::train::{TrainConfig, TrainError, train, with_defaults};

/// The model of the run at hand, in the output.
const RUNNING: &str = "running.model";

/// Trains configurations of `space`, each of them `base` with choices, and compares them on the validation part of
/// `dataset`; the test part is never looked at. What has been measured, and in the end the table (`table.md`) and the
/// best configuration (`best.toml`), is kept in the folder `output`; models are not.
///
/// Every run that is done is durable: one that is stopped or killed in between loses the run at hand, and
/// [`SweepOptions::resume`] goes on. There it may have more seeds or trials, or another halving: only what is missing
/// is trained. Time: that of the runs; with halving about `rungs × configurations / eta^(rungs − 1)` of full length.
///
/// # Errors
/// If there is no validation part, the options or the space make no sense, none of the configurations is possible,
/// `output` holds something else, another sweep or a damaged journal, or the operation was stopped. A configuration that
/// diverges is no error, but reported.
pub fn sweep(
    dataset: &Dataset,
    base: &TrainConfig,
    space: &Space,
    options: &SweepOptions,
    output: &Path,
    ctx: &Context,
) -> Result<SweepReport, SweepError> {
    let evaluation = check(dataset, options)?;
    let (candidates, skipped) = candidates(dataset, base, space, options.search, ctx)?;
    let popularity = evaluate(&Popularity::new(dataset), dataset, &evaluation, ctx)?;
    let head = Head {
        dataset: dataset.fingerprint().to_string(),
        base: as_json(base)?,
        space: space.as_read().clone(),
        metric: options.metric.to_string(),
        users: options.users,
    };
    let journal = Journal::open(output, &head, options.resume)?;
    // Of a sweep that was killed.
    remove_model(output)?;
    let least = candidates.iter().map(|c| c.config.epochs).min().unwrap_or(1);
    let divisors = divisors(candidates.len(), least, options.halving);
    let mut sweep = Sweep { dataset, options, evaluation, output, ctx, candidates, divisors, journal };
    let (rows, failed) = sweep.run()?;
    let mut report = SweepReport {
        dataset: dataset.path().to_path_buf(),
        fingerprint: dataset.fingerprint().to_string(),
        metric: options.metric.to_string(),
        users: popularity.users,
        rungs: sweep.divisors.clone(),
        axes: space.names(),
        rows,
        failed,
        skipped,
        popularity: popularity.metrics,
        best: None,
    };
    sweep.publish(&mut report)?;
    Ok(report)
}

/// How runs are evaluated, if the options make sense.
fn check(dataset: &Dataset, options: &SweepOptions) -> Result<EvaluateOptions, SweepError> {
    if options.seeds == 0 {
        return Err(SweepError::Options("--seeds 0: train each configuration with one seed at least".into()));
    }
    if options.halving.is_some_and(|h| h.eta < 2) {
        let text = "--halving 1: one in two goes on at most; pass 2 or more, or leave it out for full length";
        return Err(SweepError::Options(text.into()));
    }
    let (k, items) = (options.metric.k(), dataset.items().len() as usize);
    if k > items {
        let text = format!("--metric {}: the cut-off must be at most {items}, the number of items", options.metric);
        return Err(SweepError::Options(text));
    }
    Ok(EvaluateOptions {
        part: Part::Valid,
        k: vec![k],
        protocol: Protocol::Full,
        users: options.users,
        ..EvaluateOptions::accuracy()
    })
}

/// A sweep at work.
struct Sweep<'a> {
    dataset: &'a Dataset,
    options: &'a SweepOptions,
    evaluation: EvaluateOptions,
    output: &'a Path,
    ctx: &'a Context,
    candidates: Vec<Candidate>,
    divisors: Vec<u64>,
    journal: Journal,
}

/// What is to be done: a configuration with the epochs of its rung and a seed.
struct Run<'a> {
    candidate: &'a Candidate,
    config: TrainConfig,
    key: String,
}

/// Where a sweep is: runs done, of all that there will be unless some fail.
struct Counted<'a> {
    done: usize,
    total: usize,
    /// The best run of this rung, and whose it is.
    best: Option<(f64, usize)>,
    stage: &'a Stage<'a>,
}

impl Sweep<'_> {
    /// Goes through the rungs: rows and failures of all configurations.
    fn run(&mut self) -> Result<(Vec<SweepRow>, Vec<SweepFailure>), SweepError> {
        let seeds = self.options.seeds;
        let eta = self.options.halving.map_or(1, |h| h.eta);
        let rungs = self.divisors.len();
        // Runs and epochs to come, if none fails.
        let (mut total, mut epochs, mut left) = (0, 0, self.candidates.len());
        let mean = self.candidates.iter().map(|c| f64::from(c.config.epochs)).sum::<f64>() / left.max(1) as f64;
        for (rung, divisor) in (1..).zip(&self.divisors) {
            let runs = left * if rung == rungs { seeds as usize } else { 1 };
            total += runs;
            epochs += (runs as f64 * mean / *divisor as f64) as u64;
            left = left.div_ceil(eta.max(2) as usize).max(2);
        }
        let ctx = self.ctx;
        // What an earlier sweep has done takes no time any more.
        let stage = ctx.stage("sweep", Some(epochs.saturating_sub(self.journal.epochs())), Unit::Epochs);
        let mut counted = Counted { done: 0, total, best: None, stage: &stage };
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        let mut going: Vec<usize> = (0..self.candidates.len()).collect();
        for rung in 1..=rungs {
            counted.best = None;
            let number = if rung == rungs { seeds } else { 1 };
            let mut measured = Vec::new();
            for index in &going {
                let runs = self.measure(*index, rung, number, &mut counted)?;
                match runs {
                    Ok(runs) => measured.push(Some(runs)),
                    Err(failure) => {
                        failed.push(failure);
                        measured.push(None);
                    }
                }
            }
            let scores: Vec<_> = measured.iter().map(|runs| runs.as_ref().map(|runs| self.score(runs))).collect();
            let survive = if rung == rungs { Vec::new() } else { survivors(&scores, eta) };
            let ended = |at: usize| rung == rungs || !survive.contains(&at);
            let of_rung: Vec<(usize, Vec<Measured>)> = (0..)
                .zip(&going)
                .zip(measured)
                .filter_map(|((at, index), runs)| Some((*index, runs.filter(|_| ended(at))?)))
                .collect();
            let mut of_rung = self.rows(rung, of_rung);
            // Of later rungs before those of earlier ones.
            of_rung.append(&mut rows);
            rows = of_rung;
            going = survive.into_iter().map(|at| going[at]).collect();
        }
        Ok((rows, failed))
    }

    /// The mean of the metric.
    fn score(&self, runs: &[Measured]) -> f64 {
        mean_and_deviation(&self.values(runs, &self.options.metric.to_string())).0
    }

    fn values(&self, runs: &[Measured], metric: &str) -> Vec<f64> {
        let value = |run: &Measured| run.metrics.iter().find(|(name, _)| name == metric).map_or(f64::NAN, |(_, v)| *v);
        runs.iter().map(value).collect()
    }

    /// All runs of a configuration in a rung, or the failure of one of them.
    fn measure(
        &mut self,
        index: usize,
        rung: usize,
        seeds: u32,
        counted: &mut Counted<'_>,
    ) -> Result<Result<Vec<Measured>, SweepFailure>, SweepError> {
        let mut runs = Vec::new();
        for seed in 0..seeds {
            let candidate = &self.candidates[index];
            let mut config = candidate.config.clone();
            shorten(&mut config, epochs_at(candidate.config.epochs, self.divisors[rung - 1]));
            config.seed = config.seed.wrapping_add(u64::from(seed));
            let key = self.key(&config)?;
            let (number, choices, epochs) = (candidate.number, candidate.choices.clone(), config.epochs);
            if self.journal.get(&key).is_none() {
                let text = format!(
                    "run {} of {}, rung {rung} of {}: {number} ({}), {epochs} epochs, seed {}",
                    counted.done + 1,
                    counted.total,
                    self.divisors.len(),
                    choices.join(", "),
                    config.seed
                );
                self.ctx.message(&text);
                let outcome = self.one(&Run { candidate, config: config.clone(), key: key.clone() }, counted)?;
                self.journal.add(&outcome)?;
                counted.stage.add(u64::from(epochs));
            }
            counted.done += 1;
            match self.journal.get(&key).map(|entry| &entry.outcome) {
                Some(Outcome::Measured(measured)) => runs.push(measured.clone()),
                Some(Outcome::Failed(reason)) => {
                    let (seed, reason) = (config.seed, reason.clone());
                    return Ok(Err(SweepFailure { number, choices, epochs, seed, reason }));
                }
                None => {}
            }
            let score = self.score(&runs);
            if counted.best.is_none_or(|(best, _)| score > best) {
                counted.best = Some((score, number));
            }
            if let Some((best, whose)) = counted.best {
                let metric = self.options.metric;
                counted
                    .stage
                    .note(format!("run {}/{}, best {metric} {best:.4} ({whose})", counted.done, counted.total));
            }
        }
        Ok(Ok(runs))
    }

    /// What a run is known by.
    fn key(&self, config: &TrainConfig) -> Result<String, SweepError> {
        let config = as_json(&with_defaults(config))?;
        let (metric, users) = (self.options.metric.to_string(), self.options.users);
        let all = serde_json::json!([self.dataset.fingerprint(), config, metric, users]);
        Ok(format!("{:016x}", xxh3_64(all.to_string().as_bytes())))
    }

    /// Trains and evaluates.
    fn one(&self, run: &Run<'_>, counted: &Counted<'_>) -> Result<Entry, SweepError> {
        let trained = self.train(&run.config);
        remove_model(self.output)?;
        let outcome = match trained {
            Ok(measured) => Outcome::Measured(measured),
            Err(_) if self.ctx.cancelled() => {
                let (done, total, folder) = (counted.done, counted.total, self.output.to_path_buf());
                return Err(SweepError::Stopped { done, total, folder, source: Interrupted });
            }
            // Of the configuration and the dataset: it would be the same again.
            Err(SweepError::Train(
                error @ (TrainError::Diverged { .. } | TrainError::Config { .. } | TrainError::NothingToLearn(_)),
            )) => Outcome::Failed(error.to_string()),
            Err(SweepError::Evaluate(EvaluateError::Rank(error @ RankError::NotANumber { .. }))) => {
                Outcome::Failed(error.to_string())
            }
            Err(other) => return Err(other),
        };
        Ok(Entry {
            key: run.key.clone(),
            choices: run.candidate.choices.clone(),
            epochs: run.config.epochs,
            seed: run.config.seed,
            outcome,
        })
    }

    fn train(&self, config: &TrainConfig) -> Result<Measured, SweepError> {
        let path = self.output.join(RUNNING);
        // A run that diverges is one to leave out, and one that is interrupted is run again.
        let mut config = config.clone();
        config.keep_nothing();
        let (_, report) = train(self.dataset, &config, &path, true, self.ctx)?;
        let model = Model::open(&path)?;
        let metric = self.options.metric;
        let (Evaluation { metrics, .. }, replicates) =
            evaluate_resampled(&model, self.dataset, &self.evaluation, metric, self.ctx)?;
        Ok(Measured {
            metrics: metrics.iter().map(|(name, value)| (name.to_string(), value)).collect(),
            seconds: report.seconds,
            triples_per_second: report.triples_per_second,
            replicates,
        })
    }

    /// The rows of configurations that end in a rung, the best first.
    fn rows(&self, rung: usize, mut ended: Vec<(usize, Vec<Measured>)>) -> Vec<SweepRow> {
        let last = rung == self.divisors.len();
        ended.sort_by(|a, b| self.score(&b.1).total_cmp(&self.score(&a.1)).then(a.0.cmp(&b.0)));
        let replicates = |index: usize, runs: &[Measured]| {
            let runs: Vec<&[f32]> = runs.iter().map(|run| run.replicates.as_slice()).collect();
            over_seeds(&runs, self.candidates[index].number)
        };
        let best = ended.first().filter(|_| last).map(|(index, runs)| replicates(*index, runs));
        let row = |(place, (index, runs)): (usize, &(usize, Vec<Measured>))| {
            let candidate = &self.candidates[*index];
            let own = replicates(*index, runs);
            let behind = best.as_ref().and_then(|best| interval(best.iter().zip(&own).map(|(b, o)| b - o).collect()));
            let standing = match behind {
                None => Standing::Dropped,
                Some(_) if place == 0 => Standing::Best,
                Some([low, _]) if low <= 0.0 => Standing::Tied,
                Some(_) => Standing::Behind,
            };
            let (mean, deviation) = mean_and_deviation(&self.values(runs, &self.options.metric.to_string()));
            let names = runs.first().map_or(&[][..], |run| &run.metrics);
            let metrics = names.iter().map(|(n, _)| (n.clone(), mean_and_deviation(&self.values(runs, n)).0)).collect();
            let average = |of: fn(&Measured) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
            SweepRow {
                number: candidate.number,
                choices: candidate.choices.clone(),
                rung,
                epochs: epochs_at(candidate.config.epochs, self.divisors[rung - 1]),
                seeds: runs.len(),
                standing,
                mean,
                deviation,
                interval: interval(own).unwrap_or([mean, mean]),
                behind,
                metrics,
                seconds: average(|run| run.seconds),
                triples_per_second: average(|run| run.triples_per_second),
            }
        };
        ended.iter().enumerate().map(row).collect()
    }

    /// Writes the best configuration and the table.
    fn publish(&self, report: &mut SweepReport) -> Result<(), SweepError> {
        let best = report.rows.iter().find(|row| row.standing == Standing::Best);
        let winner = best.and_then(|row| Some((row, self.candidates.iter().find(|c| c.number == row.number)?)));
        if let Some((row, Candidate { config, choices, .. })) = winner {
            let path = self.output.join("best.toml");
            let text = format!(
                "# The best of a sweep ({}): {} {:.4} on the validation part.\n\
                 #   peccary train DATASET --output MODEL --config best.toml\n{}",
                choices.join(", ").replace(char::is_control, " "),
                report.metric,
                row.mean,
                as_toml(as_json(config)?)?
            );
            replace_file(&path, text.as_bytes())?;
            report.best = Some(path);
        }
        replace_file(&self.output.join("table.md"), report.table().as_bytes())?;
        Ok(())
    }
}

/// Removes the model of the run at hand, if there is one, whole or not.
fn remove_model(output: &Path) -> Result<(), StorageError> {
    // What is beside it holds the log of its run.
    [RUNNING.to_string(), format!("{RUNNING}.partial")].iter().try_for_each(|name| {
        let path = output.join(name);
        disk::remove_tree(&path).at(&path, "remove")
    })
}

fn as_toml(config: Value) -> Result<String, SweepError> {
    let wrong = |e: &dyn std::fmt::Display| SweepError::Options(format!("the best configuration is no TOML: {e}"));
    let value = toml::Value::try_from(config).map_err(|e| wrong(&e))?;
    toml::to_string(&value).map_err(|e| wrong(&e))
}
/// Makes `config` a run of `epochs`, with its whole schedule: what that counts in epochs shrinks with them.
pub(super) fn shorten(config: &mut TrainConfig, epochs: u32) {
    let share = f64::from(epochs) / f64::from(config.epochs.max(1));
    config.epochs = epochs;
    if share < 1.0 {
        let optimizer = &mut config.optimizer;
        optimizer.warm_up *= share as f32;
        optimizer.every = optimizer.every.map(|every| ((f64::from(every) * share).round() as u32).max(1));
    }
}
