//! The configurations that take part in a sweep, and those that cannot.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::Value;

use super::space::{Choice, apply};
use super::{Search, Space, SweepError, SweepSkipped};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::train::{TrainConfig, TrainError, plan_train, with_defaults};

/// Draws that may come to nothing, for each configuration that is wanted.
const ATTEMPTS: usize = 50;

/// A configuration that takes part.
pub(super) struct Candidate {
    /// From 1, in the order of the grid or of the draws; it counts those that are skipped.
    pub(super) number: usize,
    /// What was chosen on each axis.
    pub(super) choices: Vec<String>,
    pub(super) config: TrainConfig,
}

/// A configuration as JSON, its numbers as they were written and without what has not been set.
pub(super) fn as_json(config: &TrainConfig) -> Result<Value, SweepError> {
    fn without_nulls(value: &mut Value) {
        match value {
            Value::Object(table) => {
                table.retain(|_, value| !value.is_null());
                table.values_mut().for_each(without_nulls);
            }
            Value::Array(values) => values.iter_mut().for_each(without_nulls),
            _ => {}
        }
    }
    // By way of the text: a value would have 0.05 as the nearest number of 32 bits, written with 64.
    let text = serde_json::to_string(config).and_then(|text| serde_json::from_str(&text));
    let mut value: Value =
        text.map_err(|e| SweepError::Options(format!("the configuration cannot be written: {e}")))?;
    without_nulls(&mut value);
    Ok(value)
}

/// All that takes part, and what does not: for its configuration is impossible, does not fit the budget, or comes to
/// the same as another.
pub(super) fn candidates(
    dataset: &Dataset,
    base: &TrainConfig,
    space: &Space,
    search: Search,
    ctx: &Context,
) -> Result<(Vec<Candidate>, Vec<SweepSkipped>), SweepError> {
    let base_json = as_json(base)?;
    let mut found = Found { candidates: Vec::new(), alike: Vec::new(), skipped: Vec::new(), tried: 0 };
    let take = |found: &mut Found, choices: Vec<Choice>| {
        let mut json = base_json.clone();
        apply(&mut json, &choices);
        found.take(json, choices.into_iter().map(|choice| choice.label).collect(), dataset, ctx)
    };
    match search {
        Search::Grid => {
            for choices in space.grid()? {
                ctx.check().map_err(TrainError::from)?;
                take(&mut found, choices)?;
            }
        }
        Search::Random { trials } => {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(base.seed);
            let mut drawn: Vec<Vec<Choice>> = Vec::new();
            for _ in 0..trials.saturating_mul(ATTEMPTS) {
                ctx.check().map_err(TrainError::from)?;
                if found.candidates.len() == trials {
                    break;
                }
                let choices = space.draw(&mut rng);
                if !drawn.contains(&choices) {
                    drawn.push(choices.clone());
                    take(&mut found, choices)?;
                }
            }
            if found.candidates.len() < trials {
                ctx.message(&format!("the space has only {} different configurations", found.candidates.len()));
            }
        }
    }
    let Found { candidates, skipped, tried, .. } = found;
    match skipped.first().filter(|_| candidates.is_empty()) {
        Some(first) => Err(SweepError::NothingToTry { tried, reason: first.reason.clone() }),
        None => Ok((candidates, skipped)),
    }
}

struct Found {
    candidates: Vec<Candidate>,
    /// What is in force in each of the candidates.
    alike: Vec<TrainConfig>,
    skipped: Vec<SweepSkipped>,
    tried: usize,
}

impl Found {
    fn take(&mut self, json: Value, choices: Vec<String>, dataset: &Dataset, ctx: &Context) -> Result<(), SweepError> {
        self.tried += 1;
        let number = self.tried;
        // Each choice has been checked on its own: together they make no unknown keys.
        let config = TrainConfig::from_json(json)?;
        let planned = config.validate().and_then(|()| plan_train(dataset, &config, ctx).map(|_| ()));
        let reason = match planned {
            Err(error @ (TrainError::Config { .. } | TrainError::Memory { .. })) => Some(error.to_string()),
            Err(other) => return Err(other.into()),
            Ok(()) => {
                let own = with_defaults(&config);
                let same = self.alike.iter().position(|other| *other == own);
                if same.is_none() {
                    self.alike.push(own);
                }
                same.map(|at| format!("the same in effect as {}", self.candidates[at].number))
            }
        };
        match reason {
            Some(reason) => self.skipped.push(SweepSkipped { number, choices, reason }),
            None => self.candidates.push(Candidate { number, choices, config }),
        }
        Ok(())
    }
}
