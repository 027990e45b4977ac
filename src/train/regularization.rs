//! The `[regularization]` section: dropout on embeddings, a largest norm of rows, clipped gradients, substitution of
//! positives.

use serde::{Deserialize, Serialize};

use super::{TrainConfig, TrainError};
use crate::model::{Dropout, Regularization, Similarity, Update};

/// What keeps rows small, or from relying on a few of their factors, beside [`TrainConfig::l2`]. By default nothing. Biases
/// are neither dropped nor limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegularizationConfig {
    /// The probability by which each factor of a user's row is zero while scores and gradients are computed; those left
    /// are scaled up by as much (inverted dropout, Srivastava et al., JMLR 2014). From 0 to below 1.
    pub user_dropout: f32,
    /// The same for the rows of items, for listwise losses that share negatives.
    pub item_dropout: f32,
    /// The largest norm of a row's factors: a longer one is scaled back when it has been updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_norm: Option<f32>,
    /// The largest norm of a row's gradient, L2 included, in one update: a longer one is scaled down before it becomes a
    /// step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_gradient: Option<f32>,
    /// The share of the positives that an item which co-occurs with theirs stands in for, for listwise losses that share
    /// negatives; drawn anew each time. From 0 to below 1. A user comes closer to what is like their items: the
    /// item–item constraint of UltraGCN (Mao et al., CIKM 2021) as an augmentation (CoSeRec, Liu et al., 2021).
    pub substitution: f32,
    /// How many of the items most similar to a positive, by the cosine of the vectors of their users, may stand in for it:
    /// chances are in proportion to the cosines. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub substitutes: Option<u32>,
}

/// The most substitutes that an item may have.
const MOST_SUBSTITUTES: u32 = 1000;

impl RegularizationConfig {
    /// The number of substitutes in force; none without substitution.
    pub(super) fn substitutes(&self) -> usize {
        if self.substitution > 0.0 { self.substitutes.unwrap_or(5) as usize } else { 0 }
    }
}

impl TrainConfig {
    /// How rows are updated at `learning_rate`. Batches bring seeds of their own.
    pub(super) fn update(&self, learning_rate: f32) -> Update {
        let RegularizationConfig { user_dropout, item_dropout, max_norm, clip_gradient, .. } = self.regularization;
        let regularization = Regularization {
            user_dropout: Dropout::new(user_dropout),
            item_dropout: Dropout::new(item_dropout),
            max_norm,
            clip_gradient,
        };
        Update { learning_rate, l2: self.l2(), similarity: self.similarity(), regularization, seed: 0 }
    }

    /// Checks the section, and what goes with it.
    pub(super) fn validate_regularization(&self) -> Result<(), TrainError> {
        let fail = |key: &str, value: f32, must: &str| {
            Err(TrainError::Config {
                key: format!("regularization.{key}"),
                value: value.to_string(),
                must: must.to_string(),
            })
        };
        let RegularizationConfig { user_dropout, item_dropout, max_norm, clip_gradient, substitution, substitutes } =
            self.regularization;
        let shares = [("user_dropout", user_dropout), ("item_dropout", item_dropout), ("substitution", substitution)];
        for (key, probability) in shares {
            if !(0.0..1.0).contains(&probability) {
                return fail(key, probability, "be at least 0 and below 1");
            }
        }
        for (key, norm) in [("max_norm", max_norm), ("clip_gradient", clip_gradient)] {
            if let Some(norm) = norm.filter(|n| !(n.is_finite() && *n > 0.0)) {
                return fail(key, norm, "be a number above 0, or left out");
            }
        }
        let blocks = self.shares_negatives();
        if item_dropout > 0.0 && !blocks {
            let must = "be 0 where each positive has negatives of its own, whose rows are read in place; \
                        regularization.user_dropout goes with every loss, item_dropout with listwise losses and shared negatives";
            return fail("item_dropout", item_dropout, must);
        }
        if let Some(n) = substitutes.filter(|n| !(1..=MOST_SUBSTITUTES).contains(n)) {
            return fail("substitutes", n as f32, &format!("be from 1 to {MOST_SUBSTITUTES}"));
        }
        if let Some(n) = substitutes.filter(|_| substitution == 0.0) {
            return fail("substitutes", n as f32, "be left out, or regularization.substitution be above 0");
        }
        if substitution > 0.0 && !blocks {
            let must = "be 0 where each positive has negatives of its own; listwise losses (softmax, bsl, ccl, psl) with \
                        shared negatives have a use for it";
            return fail("substitution", substitution, must);
        }
        if substitution > 0.0 && !self.confidence.is_off() {
            let must = "be 0 with [confidence]: what stands in for a positive is no interaction that could count";
            return fail("substitution", substitution, must);
        }
        if let Some(most) = max_norm.filter(|_| blocks && self.similarity() == Similarity::Cosine) {
            let must = "be left out with shared negatives on cosines, which keep rows at unit length; similarity = \
                        \"dot\" has a use for it";
            return fail("max_norm", most, must);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{ByteSize, Context};
    use crate::train::{TrainCounts, TrainPlan};

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (text, key, remedy) in [
            ("user_dropout = 1.0", "user_dropout", "below 1"),
            ("user_dropout = nan", "user_dropout", "below 1"),
            ("item_dropout = -0.1", "item_dropout", "at least 0"),
            ("item_dropout = 0.1", "item_dropout", "user_dropout"),
            ("substitution = 1.0", "substitution", "below 1"),
            ("substitution = 0.1", "substitution", "bsl"),
            (
                "substitution = 0.1\n[loss]\nkind = \"bsl\"\n[confidence]\nactivity = 1.0",
                "substitution",
                "[confidence]",
            ),
            ("substitution = 0.1\nsubstitutes = 0\n[loss]\nkind = \"bsl\"", "substitutes", "1 to 1000"),
            ("substitutes = 3\n[loss]\nkind = \"bsl\"", "substitutes", "regularization.substitution"),
            ("max_norm = 0.0", "max_norm", "above 0"),
            ("clip_gradient = inf", "clip_gradient", "above 0"),
            ("max_norm = 1.0\n[loss]\nkind = \"bsl\"", "max_norm", "\"dot\""),
        ] {
            let config: TrainConfig = toml::from_str(&format!("[regularization]\n{text}")).unwrap();
            match config.validate() {
                Err(TrainError::Config { key: found, must, .. }) => {
                    assert_eq!(found, format!("regularization.{key}"));
                    assert!(must.contains(remedy), "{must}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn masks_of_blocks_are_planned_for() {
        let counts = TrainCounts { users: 1000, items: 10_000, interactions: 100_000 };
        let memory = |users: f32, items: f32| {
            let mut config: TrainConfig = toml::from_str("dimensions = 64\nloss.kind = \"bsl\"").unwrap();
            (config.regularization.user_dropout, config.regularization.item_dropout) = (users, items);
            TrainPlan::new(counts, &config, &Context::new(2, ByteSize(1 << 30))).unwrap().memory.0
        };
        // A row of 64 floats for each of 128 positives, and for each of as many items and 800 negatives, in two lanes.
        assert_eq!(memory(0.1, 0.0) - memory(0.0, 0.0), 2 * 256 * 128);
        assert_eq!(memory(0.1, 0.2) - memory(0.1, 0.0), 2 * 256 * 928);
    }

    #[test]
    fn what_makes_sense_is_passed_on() {
        for text in [
            "user_dropout = 0.25\nmax_norm = 2.0\nclip_gradient = 0.5",
            "user_dropout = 0.25\nmax_norm = 2.0\nclip_gradient = 0.5\n[loss]\nkind = \"softmax\"",
            "user_dropout = 0.1\nitem_dropout = 0.5\n[loss]\nkind = \"bsl\"",
        ] {
            let text = if text.contains("softmax") {
                format!("similarity = \"dot\"\n[regularization]\n{text}")
            } else {
                format!("[regularization]\n{text}")
            };
            let config: TrainConfig = toml::from_str(&text).unwrap();
            config.validate().unwrap();
            assert!(!config.update(0.1).regularization.is_off());
            let again: TrainConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
            assert_eq!(again, config);
        }
        assert!(TrainConfig::default().update(0.1).regularization.is_off());
    }
}
