//! The configuration of a training run: one plain struct, read from TOML, overridden by flags, kept in the model.

use serde::{Deserialize, Serialize};

use super::{
    CheckpointConfig, CheckpointEvery, ConfidenceConfig, DivergenceConfig, RegularizationConfig, Schedule, TrainError,
    ValidationConfig,
};
use crate::loss::{LossConfig, LossKind};
use crate::model::{MAX_STRIDE, Optimizer, Precision, Similarity};
use crate::negatives::{Mistake, NegativesConfig, Proposal};

/// Everything that decides what is learnt, but for the dataset. Every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Learnt factors of each user and item.
    pub dimensions: usize,
    /// Passes over the train interactions.
    pub epochs: u32,
    /// Seed of the initial factors, the order of the stream and the negatives.
    pub seed: u64,
    /// Whether the same seed gives the same bits whatever the number of threads (on machines with the same vector
    /// instructions), at some cost in speed.
    pub deterministic: bool,
    /// How factors make a score. Default: cosines for listwise losses, dot products for the others.
    pub similarity: Option<Similarity>,
    /// Whether users and items have biases. Default: with dot products yes; cosines have no place for them.
    pub biases: Option<bool>,
    /// L2 regularization of every row that a term touches: λ/2 |x|². Default: 0.003; 0 for listwise losses, whose
    /// cosines keep rows at unit length.
    pub l2: Option<f32>,
    /// Standard deviation of the initial factors. Default: 0.1 / √dimensions for dot products, 1 / √dimensions for
    /// cosines.
    pub init_deviation: Option<f32>,
    /// How factors are kept while training.
    pub precision: Precision,
    /// What is minimized.
    pub loss: LossConfig,
    /// Where negatives come from.
    pub negatives: NegativesConfig,
    /// How much each interaction counts.
    pub confidence: ConfidenceConfig,
    /// What keeps rows from growing, or from relying on single factors, beside L2.
    pub regularization: RegularizationConfig,
    /// How gradients become steps.
    pub optimizer: OptimizerConfig,
    /// How interactions are streamed.
    pub stream: StreamConfig,
    /// What is measured on the valid part while training, and when that ends the run. Default: nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// What is kept of the run while it trains, to go on from.
    pub checkpoint: CheckpointConfig,
    /// What it does when it diverges.
    pub divergence: DivergenceConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            dimensions: 64,
            epochs: 30,
            seed: 0,
            deterministic: false,
            similarity: None,
            biases: None,
            l2: None,
            init_deviation: None,
            precision: Precision::F32,
            loss: LossConfig::default(),
            negatives: NegativesConfig::default(),
            confidence: ConfidenceConfig::default(),
            regularization: RegularizationConfig::default(),
            optimizer: OptimizerConfig::default(),
            stream: StreamConfig::default(),
            validation: None,
            checkpoint: CheckpointConfig::default(),
            divergence: DivergenceConfig::default(),
        }
    }
}

/// How gradients become steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// The rule.
    pub kind: OptimizerKind,
    /// Step size. Default: 0.05 for Adagrad, 0.002 for Adam; for SGD 0.05, or 1.2 / negatives where that is less, for
    /// a positive's row moves by the sum over its negatives, and diverges where that is too much; for SGD with listwise
    /// losses 0.02, with `warp` 0.02 / negatives, for ranks weigh up to ln(items).
    pub learning_rate: Option<f32>,
    /// How the step size changes over the run.
    pub schedule: Schedule,
    /// Epochs, fractions counting, in which the step size grows from a hundredth of it, before the schedule begins.
    pub warm_up: f32,
    /// What the step size is multiplied by, for `step` and `plateau`. Default: 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Epochs between two steps, for `step`; instead of `at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u32>,
    /// When to step, for `step`: shares of the run, ascending. Default: 0.5 and 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Vec<f64>>,
    /// Validations without improvement after which the step size falls, for `plateau`. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    /// Decay of the first moment, for Adam.
    pub beta1: f32,
    /// Decay of the second moment, for Adam.
    pub beta2: f32,
    /// Added where a root or a sum might be zero, for Adagrad and Adam.
    pub epsilon: f32,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Sgd,
            learning_rate: None,
            schedule: Schedule::Linear,
            warm_up: 0.0,
            factor: None,
            every: None,
            at: None,
            patience: None,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }
    }
}

/// An update rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    #[default]
    Sgd,
    /// Adagrad with one accumulator a row.
    Adagrad,
    /// Adam with one second moment a row.
    Adam,
}

/// How interactions are streamed. The defaults suit the machine and the dataset; they change speed, hardly quality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Items in a block; 0 for all items in one. Default: as many rows as fit half of a core's cache, or all where that
    /// does not pay.
    pub block_items: Option<u32>,
    /// Interactions in a window. Default: 16 for each item, and at least 8 windows an epoch.
    pub window: Option<u64>,
}

impl TrainConfig {
    /// Takes no checkpoints, and stops where it diverges: for runs that are tried out, or looked on at.
    pub(crate) fn keep_nothing(&mut self) {
        self.checkpoint.every = CheckpointEvery::Off;
        self.divergence.rollbacks = 0;
    }

    /// The similarity in force.
    pub fn similarity(&self) -> Similarity {
        let listwise = self.loss.kind.is_listwise();
        self.similarity.unwrap_or(if listwise { Similarity::Cosine } else { Similarity::Dot })
    }

    /// Whether there are biases.
    pub fn biases(&self) -> bool {
        self.biases.unwrap_or(self.similarity() == Similarity::Dot)
    }

    /// The L2 regularization in force.
    pub fn l2(&self) -> f32 {
        self.l2.unwrap_or(if self.loss.kind.is_listwise() { 0.0 } else { 0.003 })
    }

    /// The number of negatives in force.
    pub fn negatives(&self) -> usize {
        self.negatives.count.unwrap_or(match self.loss.kind {
            LossKind::Warp => 1,
            _ if self.shares_negatives() => 800,
            kind if kind.is_listwise() => 64,
            _ => 8,
        })
    }

    /// Whether a block of positives shares its negatives: with listwise losses and plain negatives. Otherwise each
    /// positive has negatives of its own.
    pub fn shares_negatives(&self) -> bool {
        self.loss.kind.is_listwise() && self.negatives.simple().is_some()
    }

    /// The number of positives that share negatives in force.
    pub fn shared_by(&self) -> usize {
        self.negatives.shared_by.unwrap_or(128)
    }

    /// Whether the distribution of negatives is corrected for.
    pub fn log_q(&self) -> bool {
        let softmax = matches!(self.loss.kind, LossKind::Softmax | LossKind::Bsl);
        self.loss.log_q.unwrap_or(softmax && self.shares_negatives() && self.proposes_by_popularity())
    }

    /// Whether all negatives are drawn by popularity, plainly.
    fn proposes_by_popularity(&self) -> bool {
        self.negatives.simple().is_some_and(|(proposal, _)| proposal == Proposal::Popularity)
    }

    /// The temperature in force.
    pub fn temperature(&self) -> f32 {
        self.loss.temperature.unwrap_or(match self.similarity() {
            Similarity::Dot => 1.0,
            Similarity::Cosine => 0.1,
        })
    }

    /// The initial standard deviation in force.
    pub fn init_deviation(&self) -> f32 {
        let root = (self.dimensions as f32).sqrt();
        self.init_deviation.unwrap_or(match self.similarity() {
            Similarity::Dot => 0.1 / root,
            Similarity::Cosine => 1.0 / root,
        })
    }

    /// The learning rate in force.
    pub fn learning_rate(&self) -> f32 {
        self.optimizer.learning_rate.unwrap_or(match self.optimizer.kind {
            OptimizerKind::Sgd if self.loss.kind.is_listwise() => 0.02,
            OptimizerKind::Sgd if self.loss.kind == LossKind::Warp => {
                (0.02 / self.negatives().max(1) as f32).max(0.001)
            }
            OptimizerKind::Sgd => (1.2 / self.negatives().max(1) as f32).min(0.05),
            OptimizerKind::Adagrad => 0.05,
            OptimizerKind::Adam => 0.002,
        })
    }

    pub(super) fn optimizer(&self) -> Optimizer {
        let OptimizerConfig { beta1, beta2, epsilon, .. } = self.optimizer;
        match self.optimizer.kind {
            OptimizerKind::Sgd => Optimizer::Sgd,
            OptimizerKind::Adagrad => Optimizer::Adagrad { epsilon },
            OptimizerKind::Adam => Optimizer::Adam { beta1, beta2, epsilon },
        }
    }

    /// Checks that every value makes sense and that they go together.
    ///
    /// # Errors
    /// [`TrainError::Config`] names the key, its value and what it may be.
    pub fn validate(&self) -> Result<(), TrainError> {
        let fail = |key: &str, value: String, must: &str| {
            Err(TrainError::Config { key: key.to_string(), value, must: must.to_string() })
        };
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if self.dimensions == 0 || self.dimensions + 2 > MAX_STRIDE {
            return fail("dimensions", self.dimensions.to_string(), "be from 1 to 2046");
        }
        if self.epochs == 0 {
            return fail("epochs", "0".into(), "be at least 1");
        }
        self.validate_loss()?;
        if let Some(Mistake { key, value, must }) = self.negatives.mistake() {
            return Err(TrainError::Config { key, value, must });
        }
        self.confidence.validate()?;
        self.validate_regularization()?;
        if !positive(self.learning_rate()) {
            return fail("optimizer.learning_rate", self.learning_rate().to_string(), "be a number above 0");
        }
        OptimizerConfig::validate_schedule(self)?;
        if let Some(validation) = &self.validation {
            validation.validate()?;
        }
        self.divergence.validate()?;
        if !(self.l2().is_finite() && self.l2() >= 0.0) {
            return fail("l2", self.l2().to_string(), "be 0 or more");
        }
        if self.l2() * self.learning_rate() >= 1.0 {
            return match self.l2 {
                Some(l2) => fail("l2", l2.to_string(), "be below 1 / learning rate"),
                None => {
                    let most = format!("be below 1 / l2, {}", 1.0 / self.l2());
                    fail("optimizer.learning_rate", self.learning_rate().to_string(), &most)
                }
            };
        }
        if !positive(self.init_deviation()) {
            return fail("init_deviation", self.init_deviation().to_string(), "be a number above 0");
        }
        for (key, beta) in [("optimizer.beta1", self.optimizer.beta1), ("optimizer.beta2", self.optimizer.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return fail(key, beta.to_string(), "be at least 0 and below 1");
            }
        }
        if !positive(self.optimizer.epsilon) {
            return fail("optimizer.epsilon", self.optimizer.epsilon.to_string(), "be a number above 0");
        }
        if self.biases() && self.similarity() == Similarity::Cosine {
            return fail("biases", "true".into(), "be false with similarity = \"cosine\", which has no place for them");
        }
        if self.negatives.needs_whole_catalogue() && self.stream.block_items.is_some_and(|b| b != 0) {
            return fail(
                "stream.block_items",
                self.stream.block_items.unwrap_or_default().to_string(),
                "be 0 or absent with popularity, recent, cooccurrence, exposures and nearest negatives and with same_context, \
                 which draw from all items",
            );
        }
        if self.stream.window == Some(0) {
            return fail("stream.window", "0".into(), "be at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_toml() {
        let config = TrainConfig::default();
        config.validate().unwrap();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<TrainConfig>(&text).unwrap(), config);
        assert_eq!(toml::from_str::<TrainConfig>("").unwrap(), config);
        assert!(toml::from_str::<TrainConfig>("learning_rate = 1").is_err(), "unknown keys are named");
    }

    #[test]
    fn impossible_values_are_named() {
        for (text, key) in [
            ("dimensions = 0", "dimensions"),
            ("l2 = 50.0", "l2"),
            ("biases = true\nsimilarity = \"cosine\"", "biases"),
            ("[negatives]\ncount = 256", "negatives.count"),
            ("[optimizer]\nlearning_rate = nan", "optimizer.learning_rate"),
            ("[optimizer]\nbeta2 = 1.0", "optimizer.beta2"),
            ("[optimizer]\nwarm_up = 30", "optimizer.warm_up"),
            ("[optimizer]\nschedule = \"step\"\nfactor = 1", "optimizer.factor"),
            ("[optimizer]\nschedule = \"step\"\nevery = 0", "optimizer.every"),
            ("[optimizer]\nschedule = \"step\"\nevery = 2\nat = [0.5]", "optimizer.at"),
            ("[optimizer]\nschedule = \"step\"\nat = [0.7, 0.5]", "optimizer.at"),
            ("[optimizer]\nschedule = \"plateau\"", "optimizer.schedule"),
            ("[optimizer]\nschedule = \"plateau\"\n[validation]\npatience = 3", "optimizer.patience"),
            ("[validation]\nmetric = \"ndgc@20\"", "validation.metric"),
            ("[validation]\nmetric = \"ndcg\"", "validation.metric"),
            ("[validation]\nevery = 0", "validation.every"),
            ("[validation]\npatience = 0", "validation.patience"),
            ("[validation]\nmin_delta = -0.1", "validation.min_delta"),
            ("[validation]\nusers = 0", "validation.users"),
            ("[divergence]\nfactor = 1.0", "divergence.factor"),
            ("[stream]\nblock_items = 64\n[negatives]\nproposal = \"popularity\"", "stream.block_items"),
        ] {
            match toml::from_str::<TrainConfig>(text).unwrap().validate() {
                Err(TrainError::Config { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
