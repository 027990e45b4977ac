//! Which losses there are.

use serde::{Deserialize, Serialize};

/// Which loss to minimize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// Bayesian personalized ranking: −ln σ(s⁺ − s⁻) for each pair (Rendle et al., UAI 2009).
    #[default]
    Bpr,
    /// Hinge: max(0, m − (s⁺ − s⁻)) for each pair, with a fixed margin or one by popularity (Hsieh et al., WWW 2017; Cao
    /// et al., NeurIPS 2019).
    Hinge,
    /// WARP: hinge on the first negative that violates the margin, weighed by the rank that this hints at (Weston et
    /// al., IJCAI 2011).
    Warp,
    /// Logistic loss: −ln σ(s⁺) for each positive, −ln σ(−s⁻) for each negative (as in NCF, He et al., WWW 2017), with
    /// label smoothing.
    Logistic,
    /// Focal loss: logistic loss in which what is right already counts less (Lin et al., ICCV 2017).
    Focal,
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
    pub const ALL: [Self; 9] = [
        Self::Bpr,
        Self::Hinge,
        Self::Warp,
        Self::Logistic,
        Self::Focal,
        Self::Softmax,
        Self::Bsl,
        Self::Ccl,
        Self::Psl,
    ];

    /// Its name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpr => "bpr",
            Self::Hinge => "hinge",
            Self::Warp => "warp",
            Self::Logistic => "logistic",
            Self::Focal => "focal",
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
            Self::Hinge => "pairwise: the positive above each negative by a margin, fixed or by popularity",
            Self::Warp => "pairwise: hinge on negatives searched for until one violates, weighed by the rank hinted at",
            Self::Logistic => "pointwise: positives up, negatives down; scores are log-odds; label smoothing",
            Self::Focal => "pointwise: logistic loss in which what is right already counts less",
            Self::Softmax => "listwise: the positive against all of its negatives; temperature, log-Q correction",
            Self::Bsl => "listwise: softmax without the positive in its denominator, and an exponent on the negatives",
            Self::Ccl => "listwise: hinges on cosines, with a margin and a weight of the negatives",
            Self::Psl => "listwise: softmax over pairs by tanh, atan or relu in the place of the exponential",
        }
    }

    /// Whether a positive is set against all of its negatives at once. With plain negatives a block of positives then
    /// shares them.
    pub fn is_listwise(self) -> bool {
        matches!(self, Self::Softmax | Self::Bsl | Self::Ccl | Self::Psl)
    }

    /// Whether scores are divided by a temperature.
    pub(crate) fn has_temperature(self) -> bool {
        !matches!(self, Self::Hinge | Self::Warp | Self::Ccl)
    }

    /// Whether it predicts probabilities, whose entropy may regularize it.
    pub(crate) fn has_entropy(self) -> bool {
        matches!(self, Self::Bpr | Self::Logistic | Self::Focal | Self::Softmax | Self::Bsl)
    }
}
