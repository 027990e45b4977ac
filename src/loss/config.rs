//! The `[loss]` section of a run's configuration: which loss, and its numbers.

use serde::{Deserialize, Serialize};

use super::Surrogate;

/// Which loss to minimize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// Bayesian personalized ranking: −ln σ(s⁺ − s⁻) for each pair (Rendle et al., UAI 2009).
    #[default]
    Bpr,
    /// Logistic loss: −ln σ(s⁺) for each positive, −ln σ(−s⁻) for each negative (as in NCF, He et al., WWW 2017).
    Logistic,
    /// Sampled softmax with temperature and log-Q correction (Wu et al., TOIS 2024).
    Softmax,
    /// Bilateral softmax loss: softmax with an exponent, the positive not in the denominator (Wu et al., ICDE 2024).
    Bsl,
    /// Cosine contrastive loss: hinges with a margin and a weight (SimpleX; Mao et al., CIKM 2021).
    Ccl,
    /// Pairwise softmax loss: another surrogate in the place of the exponential (Yang et al., NeurIPS 2024).
    Psl,
}

impl LossKind {
    /// Every loss.
    pub const ALL: [Self; 6] = [Self::Bpr, Self::Logistic, Self::Softmax, Self::Bsl, Self::Ccl, Self::Psl];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpr => "bpr",
            Self::Logistic => "logistic",
            Self::Softmax => "softmax",
            Self::Bsl => "bsl",
            Self::Ccl => "ccl",
            Self::Psl => "psl",
        }
    }

    /// What it is, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Bpr => "pairwise: the positive above each negative; a good start with dot products and biases",
            Self::Logistic => "pointwise: positives up, negatives down; scores are log-odds, up to the sampling",
            Self::Softmax => {
                "listwise: the positive against hundreds of shared negatives; temperature, log-Q correction"
            }
            Self::Bsl => "listwise: softmax without the positive in its denominator, and an exponent on the negatives",
            Self::Ccl => "listwise: hinges on cosines, with a margin and a weight of the negatives",
            Self::Psl => "listwise: softmax over pairs by tanh, atan or relu in the place of the exponential",
        }
    }

    /// Whether a block of positives shares one set of negatives.
    pub fn is_listwise(self) -> bool {
        !matches!(self, Self::Bpr | Self::Logistic)
    }
}

/// A loss and its numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Which loss.
    pub kind: LossKind,
    /// Scores are divided by it; `ccl` has none. Default: 1 for dot products, 0.1 for cosines.
    pub temperature: Option<f32>,
    /// c, the exponent of the negatives' mean, for `bsl`. Default: 1.2.
    pub exponent: Option<f32>,
    /// Scores of negatives below it cost nothing, for `ccl`. Default: 0.4.
    pub margin: Option<f32>,
    /// What the mean over the negatives is multiplied by, for `ccl`. Default: 150.
    pub weight: Option<f32>,
    /// What takes the place of the exponential, for `psl`. Default: tanh.
    pub surrogate: Option<Surrogate>,
    /// Whether `softmax` and `bsl` undo the distribution that negatives are drawn from. Default: with popularity
    /// negatives yes; with uniform ones it changes nothing.
    pub log_q: Option<bool>,
}
