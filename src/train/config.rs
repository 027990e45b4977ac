//! The configuration of a training run: one plain struct, read from TOML, overridden by flags, kept in the model.

use serde::{Deserialize, Serialize};

use super::{ConfidenceConfig, TrainError};
use crate::loss::LossKind;
use crate::model::{MAX_NEGATIVES, MAX_STRIDE, Optimizer, Similarity};
use crate::negatives::{Mistake, NegativesConfig};

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
    /// What is minimized.
    pub loss: LossKind,
    /// How factors make a score.
    pub similarity: Similarity,
    /// Whether users and items have biases. Default: with dot products yes; cosines have no place for them.
    pub biases: Option<bool>,
    /// Scores are divided by it in the loss. Default: 1 for dot products, 0.1 for cosines.
    pub temperature: Option<f32>,
    /// L2 regularization of every row that a term touches: λ/2 |x|².
    pub l2: f32,
    /// Standard deviation of the initial factors. Default: 0.1 / √dimensions for dot products, 1 / √dimensions for
    /// cosines.
    pub init_deviation: Option<f32>,
    /// Where negatives come from.
    pub negatives: NegativesConfig,
    /// How much each interaction counts.
    pub confidence: ConfidenceConfig,
    /// How gradients become steps.
    pub optimizer: OptimizerConfig,
    /// How interactions are streamed.
    pub stream: StreamConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            dimensions: 64,
            epochs: 30,
            seed: 0,
            loss: LossKind::Bpr,
            similarity: Similarity::Dot,
            biases: None,
            temperature: None,
            l2: 0.003,
            init_deviation: None,
            negatives: NegativesConfig::default(),
            confidence: ConfidenceConfig::default(),
            optimizer: OptimizerConfig::default(),
            stream: StreamConfig::default(),
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
    /// a positive's row moves by the sum over its negatives, and diverges where that is too much.
    pub learning_rate: Option<f32>,
    /// How the step size changes over the run.
    pub schedule: Schedule,
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

/// How the learning rate changes from the first interaction to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// Straight down to zero.
    #[default]
    Linear,
    /// Down to zero along half a cosine.
    Cosine,
}

impl Schedule {
    /// The factor at `progress`, from 0 (the start) to 1 (the end).
    pub fn factor(self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

/// How interactions are streamed. The defaults suit the machine and the dataset; they change speed, hardly quality.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Items in a block; 0 for all items in one. Default: as many rows as fit half of a core's cache.
    pub block_items: Option<u32>,
    /// Interactions in a window. Default: 16 for each item, and at least 8 windows an epoch.
    pub window: Option<u64>,
}

impl TrainConfig {
    /// Whether there are biases.
    pub fn biases(&self) -> bool {
        self.biases.unwrap_or(self.similarity == Similarity::Dot)
    }

    /// The temperature in force.
    pub fn temperature(&self) -> f32 {
        self.temperature.unwrap_or(match self.similarity {
            Similarity::Dot => 1.0,
            Similarity::Cosine => 0.1,
        })
    }

    /// The initial standard deviation in force.
    pub fn init_deviation(&self) -> f32 {
        let root = (self.dimensions as f32).sqrt();
        self.init_deviation.unwrap_or(match self.similarity {
            Similarity::Dot => 0.1 / root,
            Similarity::Cosine => 1.0 / root,
        })
    }

    /// The learning rate in force.
    pub fn learning_rate(&self) -> f32 {
        self.optimizer.learning_rate.unwrap_or(match self.optimizer.kind {
            OptimizerKind::Sgd => (1.2 / self.negatives.count.max(1) as f32).min(0.05),
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
        if let Some(Mistake { key, value, must }) = self.negatives.mistake(MAX_NEGATIVES) {
            return Err(TrainError::Config { key, value, must });
        }
        self.confidence.validate()?;
        if !positive(self.learning_rate()) {
            return fail("optimizer.learning_rate", self.learning_rate().to_string(), "be a number above 0");
        }
        if !(self.l2.is_finite() && self.l2 >= 0.0) || self.l2 * self.learning_rate() >= 1.0 {
            return fail("l2", self.l2.to_string(), "be 0 or more, and below 1 / learning rate");
        }
        if !positive(self.temperature()) {
            return fail("temperature", self.temperature().to_string(), "be a number above 0");
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
        if self.biases() && self.similarity == Similarity::Cosine {
            return fail("biases", "true".into(), "be false with similarity = \"cosine\", which has no place for them");
        }
        if self.negatives.needs_whole_catalogue() && self.stream.block_items.is_some_and(|b| b != 0) {
            return fail(
                "stream.block_items",
                self.stream.block_items.unwrap_or_default().to_string(),
                "be 0 or absent with popularity, recent and cooccurrence negatives, which are drawn from all items",
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
            ("[stream]\nblock_items = 64\n[negatives]\nproposal = \"popularity\"", "stream.block_items"),
        ] {
            match toml::from_str::<TrainConfig>(text).unwrap().validate() {
                Err(TrainError::Config { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn schedules_go_from_one_to_where_they_should() {
        for (schedule, end) in [(Schedule::Constant, 1.0), (Schedule::Linear, 0.0), (Schedule::Cosine, 0.0)] {
            assert_eq!(schedule.factor(0.0), 1.0);
            assert!((schedule.factor(1.0) - end).abs() < 1e-12);
        }
        assert!((Schedule::Cosine.factor(0.5) - 0.5).abs() < 1e-12);
    }
}
