//! What is known of a training run: what the model's manifest says of it, and the run log where there is one.

use serde::Deserialize;
use serde_json::Value;

use crate::model::Model;

/// A run, as the page tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// The model's name.
    pub(super) name: String,
    /// Its epochs.
    pub(super) epochs: Vec<Epoch>,
    /// Epochs that were planned.
    pub(super) planned: Option<u64>,
    /// What validation has found.
    pub(super) validation: Option<Validation>,
    /// Whether it ended because the metric did not improve.
    pub(super) out_of_patience: bool,
    /// Seconds of training, validation left out.
    pub(super) seconds: f64,
    /// Triples a second over all of it.
    pub(super) rate: f64,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// Kernels used.
    pub(super) kernels: String,
}

/// An epoch. What an older version did not write is absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Epoch {
    pub(super) epoch: u32,
    pub(super) loss: Option<f64>,
    pub(super) learning_rate: Option<f64>,
    pub(super) triples: u64,
    pub(super) seconds: f64,
    pub(super) triples_per_second: Option<f64>,
    pub(super) negatives: Option<Negatives>,
}

/// How the negatives of an epoch were.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Negatives {
    pub(super) sampled: u64,
    pub(super) harder: Option<f64>,
    pub(super) difficulty: Vec<f64>,
    pub(super) log_popularity: Option<f64>,
    pub(super) positive_log_popularity: Option<f64>,
    pub(super) false_negatives: Option<f64>,
    pub(super) effective_sample_size: Option<f64>,
    pub(super) components: Vec<Component>,
}

/// What one component of a mixture drew.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Component {
    pub(super) propose: String,
    pub(super) select: String,
    pub(super) share: f64,
}

/// What validation has found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Validation {
    pub(super) metric: String,
    pub(super) users: u64,
    pub(super) best_epoch: u32,
    pub(super) best_value: f64,
    pub(super) history: Vec<Validated>,
}

/// One validation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Validated {
    pub(super) epoch: u32,
    pub(super) value: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct History {
    epochs: Vec<Epoch>,
    validation: Option<Validation>,
    stopped: String,
    seconds: f64,
    triples_per_second: f64,
    instruction_set: String,
    plan: Value,
}

impl Run {
    /// The run that made `model`, which the page calls `name`. What its manifest does not say is left out: a model may be
    /// of another version.
    pub(super) fn of(model: &Model, name: String) -> Self {
        let manifest = model.manifest();
        let history = History::deserialize(&manifest.history).unwrap_or_default();
        Self {
            name,
            planned: manifest.config.get("epochs").and_then(Value::as_u64),
            epochs: history.epochs,
            validation: history.validation.filter(|found| !found.history.is_empty()),
            out_of_patience: history.stopped == "patience",
            seconds: history.seconds,
            rate: history.triples_per_second,
            threads: history.plan.get("threads").and_then(Value::as_u64),
            kernels: history.instruction_set,
        }
    }

    /// A value of each epoch that has it, by epoch.
    pub(super) fn by_epoch(&self, of: impl Fn(&Epoch) -> Option<f64>) -> Vec<(f64, f64)> {
        self.epochs.iter().filter_map(|epoch| Some((f64::from(epoch.epoch), of(epoch)?))).collect()
    }

    /// The same of negatives, in epochs in which some were looked at.
    pub(super) fn of_negatives(&self, of: impl Fn(&Negatives) -> Option<f64>) -> Vec<(f64, f64)> {
        self.by_epoch(|epoch| epoch.negatives.as_ref().filter(|n| n.sampled > 0).and_then(&of))
    }
}

impl Negatives {
    /// The difficulty below which a share `q` of the negatives is: linear within each of the classes.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.difficulty.iter().sum();
        if self.difficulty.is_empty() || !(total > 0.0 && total.is_finite()) {
            return None;
        }
        let width = 1.0 / self.difficulty.len() as f64;
        let mut below = 0.0;
        for (class, share) in self.difficulty.iter().enumerate() {
            let share = share / total;
            if below + share >= q && share > 0.0 {
                return Some((class as f64 + (q - below) / share) * width);
            }
            below += share;
        }
        Some(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_difficulty_are_those_of_the_classes() {
        let negatives = Negatives { difficulty: vec![0.5, 0.5, 0.0, 0.0], ..Negatives::default() };
        assert_eq!(negatives.quantile(0.5), Some(0.25));
        assert_eq!(negatives.quantile(0.25), Some(0.125));
        assert_eq!(negatives.quantile(1.0), Some(0.5));
        assert_eq!(Negatives::default().quantile(0.5), None);
    }

    #[test]
    fn a_history_of_another_version_is_read_as_far_as_it_goes() {
        let history = serde_json::json!({ "epochs": [{ "epoch": 1, "loss": null, "later": 3 }], "seconds": 1.5 });
        let history = History::deserialize(&history).unwrap();
        assert_eq!((history.epochs.len(), history.epochs[0].loss, history.seconds), (1, None, 1.5));
    }
}
