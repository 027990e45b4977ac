//! The loss of a configuration, as kernels want it; and the margins of its positives.

use super::config::TrainConfig;
use crate::dataset::Dataset;
use crate::loss::{
    AnyListwise, AnyLoss, Atan, Base, Bpr, Bsl, Ccl, Entropy, Focal, Hinge, Logistic, LossKind, Psl, Relu, Softmax,
    Surrogate, Tanh,
};
use crate::model::KernelLoss;
use crate::negatives::Batch;

/// The loss of `config` for positives that have negatives of their own.
pub(super) fn kernel_loss(config: &TrainConfig) -> KernelLoss {
    KernelLoss::new(any_loss(config))
}

/// λ of the entropy regularization of `config`, if there is any.
fn entropy_of(config: &TrainConfig) -> Option<Entropy> {
    let weight = config.loss.entropy.filter(|weight| *weight != 0.0)?;
    Some(Entropy { weight, inverse_temperature: 1.0 / config.temperature() })
}

/// The loss of `config`.
pub(crate) fn any_loss(config: &TrainConfig) -> AnyLoss {
    let numbers = config.numbers();
    let inverse_temperature = 1.0 / config.temperature();
    let margin = numbers.margin.unwrap_or_default();
    let entropy = entropy_of(config);
    let base = match numbers.kind {
        LossKind::Bpr => Base::Bpr(Bpr { inverse_temperature }),
        LossKind::Hinge | LossKind::Warp => Base::Hinge(Hinge { margin }),
        LossKind::Logistic => {
            Base::Logistic(Logistic { inverse_temperature, smoothing: numbers.smoothing.unwrap_or_default() })
        }
        LossKind::Focal => Base::Focal(Focal { inverse_temperature, gamma: numbers.gamma.unwrap_or_default() }),
        LossKind::Softmax => Base::Listwise(AnyListwise::Softmax(Softmax { inverse_temperature, entropy })),
        LossKind::Bsl => {
            let exponent = numbers.exponent.unwrap_or_default();
            Base::Listwise(AnyListwise::Bsl(Bsl { inverse_temperature, exponent, entropy }))
        }
        LossKind::Ccl => Base::Listwise(AnyListwise::Ccl(Ccl { margin, weight: numbers.weight.unwrap_or_default() })),
        LossKind::Psl => Base::Listwise(match numbers.surrogate.unwrap_or_default() {
            Surrogate::Tanh => AnyListwise::Tanh(Psl { inverse_temperature, surrogate: Tanh }),
            Surrogate::Atan => AnyListwise::Atan(Psl { inverse_temperature, surrogate: Atan }),
            Surrogate::Relu => AnyListwise::Relu(Psl { inverse_temperature, surrogate: Relu }),
        }),
    };
    let entropy = if numbers.kind.is_listwise() { None } else { entropy };
    AnyLoss { base, scale: numbers.scale.unwrap_or(1.0), entropy }
}

/// Margins by popularity: what a hinge sees of a positive is lower by what its margin is wider.
///
/// mᵢ = m (nᵢ/n̄)^−e: with e = 1/4 the label-distribution-aware margin of Cao et al. ("Learning Imbalanced Datasets with
/// Label-Distribution-Aware Margin Loss", NeurIPS 2019, in their hinge), items being the classes. Zhang et al.
/// ("Incorporating Bias-Aware Margins into Contrastive Loss for Collaborative Filtering", NeurIPS 2022) have margins by
/// popularity in recommendation.
pub(super) struct Margins<'a> {
    dataset: &'a Dataset,
    margin: f64,
    exponent: f64,
    /// Train interactions of the mean item that has any.
    mean_item: f64,
}

impl<'a> Margins<'a> {
    /// `None` where all positives have the same margin.
    pub(super) fn new(dataset: &'a Dataset, config: &TrainConfig) -> Option<Self> {
        let numbers = config.numbers();
        let exponent = f64::from(numbers.margin_exponent.filter(|exponent| *exponent != 0.0)?);
        let summary = dataset.train().summary();
        let mean_item = dataset.train().len() as f64 / f64::from(summary.items.max(1));
        Some(Self { dataset, margin: f64::from(numbers.margin.unwrap_or_default()), exponent, mean_item })
    }

    /// Adds to the offset of every positive of `batch`.
    pub(super) fn fill(&self, batch: &mut Batch) {
        let popularity = self.dataset.popularity();
        batch.positive_offsets.resize(batch.positives.len(), 0.0);
        for (offset, item) in batch.positive_offsets.iter_mut().zip(&batch.positives) {
            let count = f64::from(popularity[*item as usize].to_native().max(1));
            let margin = self.margin * (count / self.mean_item).powf(-self.exponent);
            *offset += (self.margin - margin) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Part;
    use crate::loss::{Loss, OfLists};
    use crate::rank::fixture;

    #[test]
    fn rarer_positives_have_wider_margins() {
        let folder = tempfile::tempdir().unwrap();
        // Item 0 has four interactions, item 1 one, the mean item 2.5.
        let users = vec![vec![0, 1], vec![0], vec![0], vec![0]];
        let data = fixture::dataset(&folder.path().join("d"), 3, &[(Part::Train, users)]);
        let mut config = TrainConfig::default();
        config.loss.kind = LossKind::Hinge;
        assert!(Margins::new(&data, &config).is_none());
        config.loss.margin = Some(2.0);
        config.loss.margin_exponent = Some(0.25);
        let margins = Margins::new(&data, &config).unwrap();
        let mut batch = Batch { positives: vec![0, 1], ..Batch::default() };
        margins.fill(&mut batch);
        let loss = any_loss(&config);
        for (offset, count) in batch.positive_offsets.iter().zip([4f32, 1.0]) {
            let margin = 2.0 * (count / 2.5).powf(-0.25);
            let value = loss.value(&[0.3 + offset], &[0.1], OfLists::default());
            assert!((value - (margin - 0.2)).abs() < 1e-5, "{count}: {value} {margin}");
        }
        margins.fill(&mut batch);
        assert_eq!(batch.positive_offsets.len(), 2, "offsets that are there already are kept");
    }
}
