//! The `[loss]` section of a run's configuration: which loss, and its numbers.

use serde::{Deserialize, Serialize};

use super::{LossKind, Surrogate};

/// A loss and its numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Which loss.
    pub kind: LossKind,
    /// Scores are divided by it; `hinge`, `warp` and `ccl` have none. Default: 1 for dot products, 0.1 for cosines.
    pub temperature: Option<f32>,
    /// What the loss and its gradient are multiplied by. Default: 1.
    pub scale: Option<f32>,
    /// λ of entropy regularization, −λ × the entropy of what is predicted: of each pair (`bpr`), of each score
    /// (`logistic`, `focal`), or of the softmax over the negatives (`softmax`, `bsl`). Default: 0.
    pub entropy: Option<f32>,
    /// ε of label smoothing, for `logistic`: labels are 1 − ε/2 and ε/2. Default: 0.
    pub smoothing: Option<f32>,
    /// γ, for `focal`: how much less what is right already counts. Default: 2.
    pub gamma: Option<f32>,
    /// For `hinge` and `warp`: what positives are to be above negatives by; default 1, 0.1 for cosines. For `ccl`:
    /// scores of negatives below it cost nothing; default 0.4.
    pub margin: Option<f32>,
    /// For `hinge`: the margin of a positive is margin × (its popularity / the mean item's)^−margin_exponent, larger
    /// for rarer items where it is above 0. Default: 0, a fixed margin.
    pub margin_exponent: Option<f32>,
    /// c, the exponent of the negatives' mean, for `bsl`. Default: 1.2.
    pub exponent: Option<f32>,
    /// What the mean over the negatives is multiplied by, for `ccl`. Default: 150.
    pub weight: Option<f32>,
    /// What takes the place of the exponential, for `psl`. Default: tanh.
    pub surrogate: Option<Surrogate>,
    /// Whether `softmax` and `bsl` undo the distribution that shared negatives are drawn from. Default: with popularity
    /// negatives yes; with uniform ones it changes nothing. Components of a mixture have `weigh = "log-q"` instead.
    pub log_q: Option<bool>,
}
