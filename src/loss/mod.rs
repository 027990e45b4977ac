//! Losses: the value, and the gradient with respect to scores, of some positives of one user and their negatives.

mod any;
mod bpr;
mod bsl;
mod ccl;
mod config;
mod entropy;
mod focal;
mod hinge;
mod kind;
mod list;
mod listwise;
mod logistic;
mod math;
mod psl;
mod softmax;

pub(crate) use any::{AnyListwise, AnyLoss, Base};
pub(crate) use bpr::Bpr;
pub(crate) use bsl::Bsl;
pub(crate) use ccl::Ccl;
pub use config::LossConfig;
pub(crate) use entropy::{Entropy, Spread};
pub(crate) use focal::Focal;
pub(crate) use hinge::Hinge;
pub use kind::LossKind;
pub(crate) use listwise::{Listwise, MASKED, Positive};
pub(crate) use logistic::Logistic;
pub use psl::Surrogate;
pub(crate) use psl::{Atan, Psl, Relu, Tanh};
pub(crate) use softmax::Softmax;

/// What the terms of a loss are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// (Positive, negative) pairs; a term depends on the difference of both scores alone.
    Pairs,
    /// Single scores.
    Scores,
    /// A positive and all of its negatives.
    Lists,
}

/// What a loss over lists makes of its negatives besides their scores; each slice is empty where it changes nothing.
/// Terms of pairs and of scores are weighted, and their scores offset, by who asks for the gradient.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfLists<'a> {
    /// How many times each negative's term counts.
    pub(crate) weights: &'a [f32],
    /// Minus the log-Q corrections of positives and negatives: what is added to their scores over the temperature.
    pub(crate) positive_offsets: &'a [f32],
    pub(crate) negative_offsets: &'a [f32],
}

/// A loss over `positives.len()` positives with `n` negatives each: the negatives of positive `p` are
/// `negatives[p * n..(p + 1) * n]`.
pub(crate) trait Loss: Copy + Send + Sync {
    /// What its terms are. A row is regularized once for each of them.
    fn terms(&self) -> Terms;

    /// Derivatives of the summed loss by each score, into slices of the same shapes.
    fn gradient(
        &self,
        positives: &[f32],
        negatives: &[f32],
        lists: OfLists<'_>,
        positive_gradient: &mut [f32],
        negative_gradient: &mut [f32],
    );

    /// The summed loss, to report; called for a sample of the groups.
    fn value(&self, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) -> f32;
}

/// Compares the gradient with central differences.
#[cfg(test)]
pub(crate) fn check_gradient(loss: impl Loss, positives: &[f32], negatives: &[f32]) {
    check_gradient_of_lists(loss, positives, negatives, OfLists::default());
}

/// The same with weights and offsets.
#[cfg(test)]
pub(crate) fn check_gradient_of_lists(loss: impl Loss, positives: &[f32], negatives: &[f32], lists: OfLists<'_>) {
    let (mut pg, mut ng) = (vec![0.0; positives.len()], vec![0.0; negatives.len()]);
    loss.gradient(positives, negatives, lists, &mut pg, &mut ng);
    let h = 2e-3f32;
    let scale = loss.value(positives, negatives, lists).abs();
    let check = |analytic: f32, up: f32, down: f32| {
        let numeric = (up - down) / (2.0 * h);
        // What rounding of both values makes of their difference, and the third derivative.
        let allowed = 3e-3 * (1.0 + numeric.abs()) + 2e-7 * scale / h;
        assert!((analytic - numeric).abs() < allowed, "gradient {analytic}, by differences {numeric}");
    };
    for i in 0..positives.len() {
        let (mut up, mut down) = (positives.to_vec(), positives.to_vec());
        up[i] += h;
        down[i] -= h;
        check(pg[i], loss.value(&up, negatives, lists), loss.value(&down, negatives, lists));
    }
    for i in 0..negatives.len() {
        let (mut up, mut down) = (negatives.to_vec(), negatives.to_vec());
        up[i] += h;
        down[i] -= h;
        check(ng[i], loss.value(positives, &up, lists), loss.value(positives, &down, lists));
    }
}
