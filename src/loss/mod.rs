//! Losses: the value, and the gradient with respect to scores, of some positives of one user and their negatives.

mod bpr;
mod bsl;
mod ccl;
mod config;
mod listwise;
mod logistic;
mod math;
mod psl;
mod softmax;

pub(crate) use bpr::Bpr;
pub(crate) use bsl::Bsl;
pub(crate) use ccl::Ccl;
pub use config::{LossConfig, LossKind};
pub(crate) use listwise::{Listwise, MASKED, Positive};
pub(crate) use logistic::Logistic;
pub use psl::Surrogate;
pub(crate) use psl::{Atan, Psl, Relu, Tanh};
pub(crate) use softmax::Softmax;

/// A loss over `positives.len()` positives with `n` negatives each: the negatives of positive `p` are
/// `negatives[p * n..(p + 1) * n]`.
pub(crate) trait Loss: Copy + Send + Sync {
    /// Whether each (positive, negative) is one term (then a row is regularized once a pair), or each score is. Terms
    /// of pairs depend on the difference of both scores alone.
    const PAIRWISE: bool;

    /// Derivatives of the summed loss by each score, into slices of the same shapes.
    fn gradient(
        &self,
        positives: &[f32],
        negatives: &[f32],
        positive_gradient: &mut [f32],
        negative_gradient: &mut [f32],
    );

    /// The summed loss, to report; called for a sample of the groups.
    fn value(&self, positives: &[f32], negatives: &[f32]) -> f32;
}

#[cfg(test)]
pub(crate) fn check_gradient(loss: impl Loss, positives: &[f32], negatives: &[f32]) {
    let (mut pg, mut ng) = (vec![0.0; positives.len()], vec![0.0; negatives.len()]);
    loss.gradient(positives, negatives, &mut pg, &mut ng);
    let h = 1e-2f32;
    let check = |analytic: f32, up: f32, down: f32| {
        let numeric = (up - down) / (2.0 * h);
        assert!((analytic - numeric).abs() < 2e-3, "gradient {analytic}, by differences {numeric}");
    };
    for i in 0..positives.len() {
        let (mut up, mut down) = (positives.to_vec(), positives.to_vec());
        up[i] += h;
        down[i] -= h;
        check(pg[i], loss.value(&up, negatives), loss.value(&down, negatives));
    }
    for i in 0..negatives.len() {
        let (mut up, mut down) = (negatives.to_vec(), negatives.to_vec());
        up[i] += h;
        down[i] -= h;
        check(ng[i], loss.value(positives, &up), loss.value(positives, &down));
    }
}
