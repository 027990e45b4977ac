//! Validation: a metric of the valid part, measured on the tables between epochs, and a copy of the best of them.

mod scorer;

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::control::{ControlState, Decision};
use super::divergence;
use super::keeping::{BestTables, RunState, Saved};
use super::plan::{TrainPlan, ValidationPlan};
use super::{TrainConfig, TrainError};
use crate::context::{ByteSize, Context, Silent};
use crate::dataset::{Dataset, Part};
use crate::evaluate::{EvaluateError, EvaluateOptions, MetricAt, check_evaluation, evaluate};
use crate::model::{ModelError, SharedTable, Tables};
use crate::rank::RankError;
use scorer::TableScorer;
pub(super) use scorer::published_row;

/// What is measured on the valid part while training, and when that ends the run. The best tables are published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// What is measured, by full ranking: a metric of [`evaluate`](crate::evaluate()) such as `ndcg@20`; more is better.
    pub metric: String,
    /// Epochs from one validation to the next; the last epoch is validated in any case.
    pub every: u32,
    /// The run stops when that many validations in a row have brought no improvement. Default: it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// What a value has to be above the last improvement by to be one.
    pub min_delta: f64,
    /// Users who are validated on: a random sample, the same at each validation and whatever the seed of the run.
    /// Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self { metric: "ndcg@20".to_string(), every: 1, patience: None, min_delta: 0.0, users: None }
    }
}

impl ValidationConfig {
    pub(super) fn validate(&self) -> Result<(), TrainError> {
        let fail = |key: &str, value: String, must: &str| {
            Err(TrainError::Config { key: format!("validation.{key}"), value, must: must.to_string() })
        };
        if self.metric.parse::<MetricAt>().is_err() {
            let must = "be recall, precision, hit_rate, ndcg, mrr or map with a cut-off, such as \"ndcg@20\"";
            let must = format!("{must}{}", MetricAt::near(&self.metric));
            return fail("metric", format!("\"{}\"", self.metric), &must);
        }
        if self.every == 0 {
            return fail("every", "0".into(), "be at least 1");
        }
        if self.patience == Some(0) {
            return fail(
                "patience",
                "0".into(),
                "be at least 1; leave it out to train all epochs whatever the metric does",
            );
        }
        if !(self.min_delta.is_finite() && self.min_delta >= 0.0) {
            return fail("min_delta", self.min_delta.to_string(), "be 0 or more");
        }
        if self.users == Some(0) {
            return fail("users", "0".into(), "be at least 1; leave it out to validate on all");
        }
        Ok(())
    }

    /// Makes sure that `dataset` has what is validated on.
    pub(super) fn check(&self, dataset: &Dataset) -> Result<(), TrainError> {
        if dataset.part(Part::Valid).is_none_or(|valid| valid.is_empty()) {
            return Err(TrainError::NoValidation {
                dataset: dataset.path().to_path_buf(),
                reason: "there is no valid part to measure validation.metric on, and test is never validated on",
            });
        }
        let items = dataset.items().len() as usize;
        match self.cut_off() {
            k if k > items => Err(TrainError::Config {
                key: "validation.metric".into(),
                value: format!("\"{}\"", self.metric),
                must: format!("have a cut-off of up to {items}, the number of items"),
            }),
            _ => Ok(()),
        }
    }

    /// The cut-off of the metric, which [`validate`](Self::validate) has looked at.
    fn cut_off(&self) -> usize {
        self.metric.parse().map_or(1, MetricAt::k)
    }

    /// The evaluation whose metric it is. Seeds are those that `evaluate` has by default: it then gives the same number.
    fn options(&self) -> EvaluateOptions {
        EvaluateOptions {
            part: Part::Valid,
            k: vec![self.cut_off()],
            users: self.users.map(|users| users as usize),
            ..EvaluateOptions::accuracy()
        }
    }
}

/// One validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// The epoch after which it was, from 1.
    pub epoch: u32,
    /// The metric.
    pub value: f64,
    /// Learning rate at the end of that epoch.
    pub learning_rate: f32,
    /// Wall time, with the copy of the tables if they were the best so far.
    pub seconds: f64,
}

/// What validation has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationReport {
    /// What was measured, such as `ndcg@20`.
    pub metric: String,
    /// Users validated on, at each validation.
    pub users: u64,
    /// Their interactions in the valid part.
    pub interactions: u64,
    /// The epoch whose tables are the model's: the one with the highest value, the first of equals.
    pub best_epoch: u32,
    /// Its value.
    pub best_value: f64,
    /// Every validation.
    pub history: Vec<Validated>,
    /// Wall time of all of them, which is not in that of training.
    pub seconds: f64,
}

/// Validates a run, and keeps its best tables.
pub(super) struct Validator<'a> {
    dataset: &'a Dataset,
    config: &'a TrainConfig,
    validation: &'a ValidationConfig,
    plan: &'a TrainPlan,
    /// What is left of the budget beside training.
    ctx: Context,
    /// The best factors of users and items, where they are no longer those in training.
    best: BestTables,
    /// Whether they are: otherwise the tables themselves are the best.
    copied: bool,
}

impl<'a> Validator<'a> {
    /// Gets memory or disk for the best of `tables`, and makes sure that they can be validated; `None` if that is not
    /// asked for. Files without a name lie in `folder`.
    pub(super) fn begin(
        dataset: &'a Dataset,
        config: &'a TrainConfig,
        plan: &'a TrainPlan,
        tables: &mut Tables,
        (folder, ctx): (&Path, &Context),
    ) -> Result<Option<Self>, TrainError> {
        let (Some(validation), Some(planned)) = (&config.validation, plan.validation) else { return Ok(None) };
        let place = planned.best_in_file.then_some(folder);
        let room = |side: &mut SharedTable| {
            SharedTable::with_stride(side.rows(), side.stride(), place).map_err(ModelError::from)
        };
        let best = BestTables::new([room(tables.users.factors_mut())?, room(tables.items.factors_mut())?]);
        let left = (plan.budget.0 + planned.ranking.0).saturating_sub(plan.memory.0);
        let ctx = ctx.clone().with_memory(ByteSize(left)).with_progress(std::sync::Arc::new(Silent));
        let validator = Self { dataset, config, validation, plan, ctx, best, copied: false };
        let scorer = TableScorer::new(tables, config.similarity());
        check_evaluation(&scorer, dataset, &validation.options(), &validator.ctx)
            .map_err(|error| validator.explain(error))?;
        validator.resume_reading(tables);
        Ok(Some(validator))
    }

    /// The best tables, where they are no longer those in training.
    pub(super) fn best(&self) -> Option<&BestTables> {
        self.copied.then_some(&self.best)
    }

    /// Takes the best tables from a checkpoint, or forgets them where there is none.
    pub(super) fn go_on_from(&mut self, saved: Option<&Saved>) -> Result<(), TrainError> {
        self.copied = match saved {
            Some(saved) => saved.read_best(self.best.lock().iter_mut())?,
            None => false,
        };
        self.best.restored();
        Ok(())
    }

    /// Whether the end of epoch `epoch`, from 1, is a time to validate.
    pub(super) fn is_due(&self, epoch: u32) -> bool {
        epoch.is_multiple_of(self.validation.every) || epoch == self.config.epochs
    }

    /// Measures the metric on the tables after epoch `epoch`, from 1, and decides what follows. If they are the best so
    /// far and training goes on, they are copied.
    pub(super) fn validate(
        &mut self,
        (epoch, learning_rate): (u32, f32),
        tables: &mut Tables,
        state: &mut RunState,
    ) -> Result<Decision, TrainError> {
        let start = Instant::now();
        let options = self.validation.options();
        let evaluated =
            evaluate(&TableScorer::new(tables, self.config.similarity()), self.dataset, &options, &self.ctx);
        let evaluation = match evaluated {
            Err(EvaluateError::Rank(RankError::NotANumber { .. })) => {
                return Err(divergence::error((self.dataset, self.config), (epoch, learning_rate), tables));
            }
            other => other.map_err(|error| self.explain(error))?,
        };
        state.validated_on = (evaluation.users, evaluation.interactions);
        let state = &mut state.control;
        let value = evaluation.metrics.get(&self.validation.metric).unwrap_or_default();
        let decision = state.see(Validated { epoch, value, learning_rate, seconds: 0.0 }, self.config);
        let over = decision.stop || epoch == self.config.epochs;
        if decision.best {
            self.copied = !over;
            if self.copied {
                // Not broken off: what is to be kept of an interrupted run are whole tables.
                let [users, items] = &mut *self.best.lock();
                users.copy_from(tables.users.factors_mut(), || Ok::<_, TrainError>(()))?;
                items.copy_from(tables.items.factors_mut(), || Ok::<_, TrainError>(()))?;
            }
            self.best.changed();
        }
        self.resume_reading(tables);
        let seconds = start.elapsed().as_secs_f64();
        state.history.iter_mut().chain(&mut state.best).for_each(|seen| {
            if seen.epoch == epoch {
                seen.seconds = seconds;
            }
        });
        Ok(decision)
    }

    /// What the run shows beside its loss: the last value, and the best if that is another.
    pub(super) fn note(&self, state: &ControlState) -> String {
        let (Some(last), Some(best)) = (state.history.last(), &state.best) else { return String::new() };
        let text = format!(", {} {:.5}", self.validation.metric, last.value);
        if last.epoch == best.epoch { text } else { format!("{text} (best {:.5} at {})", best.value, best.epoch) }
    }

    /// Makes the best tables those in training.
    pub(super) fn finish(self, tables: &mut Tables, state: &RunState) -> ValidationReport {
        if self.copied {
            let [users, items] = &mut *self.best.lock();
            std::mem::swap(tables.users.factors_mut(), users);
            std::mem::swap(tables.items.factors_mut(), items);
        }
        let ControlState { history, best, .. } = state.control.clone();
        let (users, interactions) = state.validated_on;
        ValidationReport {
            metric: self.validation.metric.clone(),
            users,
            interactions,
            best_epoch: best.as_ref().map_or(0, |best| best.epoch),
            best_value: best.map_or(0.0, |best| best.value),
            seconds: history.iter().map(|seen| seen.seconds).sum(),
            history,
        }
    }

    /// Ranking has let go of what it read, and reads ahead again when it ends: back to what training does.
    fn resume_reading(&self, tables: &mut Tables) {
        tables.users.release_all();
        tables.items.release_all();
        if self.plan.releases_cache {
            self.dataset.train().read_exactly(true);
        }
    }

    /// What an evaluation that fails means to a run.
    fn explain(&self, error: EvaluateError) -> TrainError {
        match error {
            EvaluateError::Interrupted(stopped) | EvaluateError::Rank(RankError::Interrupted(stopped)) => {
                stopped.into()
            }
            EvaluateError::Rank(RankError::Memory { needed, given, .. }) => TrainError::Memory {
                smallest: ByteSize(self.plan.budget.0 + needed.0.saturating_sub(given.0)),
                budget: self.plan.budget,
            },
            EvaluateError::NoUsers { .. } => TrainError::NoValidation {
                dataset: self.dataset.path().to_path_buf(),
                reason: "no user has interactions both in train and in valid",
            },
            other => TrainError::Validation(other),
        }
    }
}

impl ValidationPlan {
    /// What ranking takes beside what training holds, at least: threads with a tile of scores each, waves of users, and
    /// the sample of `all` of them.
    pub(super) fn ranking_bytes(validation: &ValidationConfig, all: u64, threads: usize) -> u64 {
        const TILE: u64 = 512 << 10;
        const WAVES: u64 = 2 << 20;
        let sample = validation.users.map_or(0, |users| 8 * u64::from(users).min(all));
        crate::rank::program_bytes(threads) as u64 + threads as u64 * TILE + WAVES + sample
    }
}
