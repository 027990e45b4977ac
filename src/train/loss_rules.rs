//! What goes with which loss: the numbers in force, and what is refused.

use std::borrow::Cow;

use super::TrainError;
use super::config::TrainConfig;
use crate::loss::{LossConfig, LossKind};
use crate::model::{MAX_NEGATIVES, Precision, Similarity};
use crate::negatives::{MixConfig, Proposal, Propose, Scheduled, Select, Weigh};

/// Negatives that a block shares, at most.
const MAX_SHARED: usize = 1 << 16;
/// Positives that share negatives, at most.
const MAX_SHARED_BY: usize = 4096;

fn fail(key: &str, value: impl ToString, must: &str) -> Result<(), TrainError> {
    Err(TrainError::Config { key: key.to_string(), value: value.to_string(), must: must.to_string() })
}

impl TrainConfig {
    /// The configuration with what the loss says about negatives: `warp` looks for those that violate its margin, and
    /// weighs them by rank.
    pub(crate) fn in_force(&self) -> Cow<'_, Self> {
        if self.loss.kind != LossKind::Warp {
            return Cow::Borrowed(self);
        }
        let mut config = self.clone();
        let negatives = &mut config.negatives;
        if negatives.mix.is_empty() {
            let popularity = negatives.proposal == Proposal::Popularity;
            negatives.mix.push(MixConfig {
                propose: if popularity { Propose::Popularity } else { Propose::Uniform },
                alpha: popularity.then_some(negatives.alpha),
                select: Select::Violation,
                weigh: Weigh::Rank,
                ..MixConfig::default()
            });
            negatives.proposal = Proposal::default();
        }
        let margin = Scheduled::Constant(f64::from(self.margin().unwrap_or_default()));
        negatives.mix.iter_mut().for_each(|component| component.margin = Some(margin.clone()));
        Cow::Owned(config)
    }

    /// The margin in force, of losses that have one.
    fn margin(&self) -> Option<f32> {
        let default = match (self.loss.kind, self.similarity()) {
            (LossKind::Ccl, _) => 0.4,
            (LossKind::Hinge | LossKind::Warp, Similarity::Dot) => 1.0,
            (LossKind::Hinge | LossKind::Warp, Similarity::Cosine) => 0.1,
            _ => return None,
        };
        Some(self.loss.margin.unwrap_or(default))
    }

    /// The numbers of the loss in force.
    pub(super) fn numbers(&self) -> LossConfig {
        let loss = &self.loss;
        let only = |kind: LossKind| loss.kind == kind;
        LossConfig {
            kind: loss.kind,
            temperature: loss.kind.has_temperature().then(|| self.temperature()),
            scale: loss.scale,
            entropy: loss.kind.has_entropy().then_some(loss.entropy).flatten(),
            smoothing: only(LossKind::Logistic).then(|| loss.smoothing.unwrap_or(0.0)),
            gamma: only(LossKind::Focal).then(|| loss.gamma.unwrap_or(2.0)),
            margin: self.margin(),
            margin_exponent: only(LossKind::Hinge).then_some(loss.margin_exponent).flatten(),
            exponent: only(LossKind::Bsl).then(|| loss.exponent.unwrap_or(1.2)),
            weight: only(LossKind::Ccl).then(|| loss.weight.unwrap_or(150.0)),
            surrogate: only(LossKind::Psl).then(|| loss.surrogate.unwrap_or_default()),
            log_q: matches!(loss.kind, LossKind::Softmax | LossKind::Bsl).then(|| self.log_q()),
        }
    }

    /// Checks the loss, its numbers, and what goes with it.
    pub(super) fn validate_loss(&self) -> Result<(), TrainError> {
        self.validate_numbers()?;
        let (kind, cosine) = (self.loss.kind, self.similarity() == Similarity::Cosine);
        if kind == LossKind::Psl && !cosine {
            let must = "be \"cosine\" with loss.kind = \"psl\", whose surrogates are made for scores from -1 to 1; dot \
                        products go with loss.kind = \"softmax\"";
            return fail("similarity", "dot", must);
        }
        if kind == LossKind::Warp {
            self.validate_warp()?;
        }
        match self.shares_negatives() {
            true => self.validate_shared(cosine),
            false => self.validate_own(),
        }
    }

    fn validate_numbers(&self) -> Result<(), TrainError> {
        let LossConfig { kind, scale, entropy, smoothing, gamma, margin, margin_exponent, .. } = self.loss;
        let LossConfig { exponent, weight, .. } = self.loss;
        let temperature = self.temperature();
        let above = |value: &f32| value.is_finite() && *value > 0.0;
        for (key, value) in [
            ("loss.temperature", Some(temperature)),
            ("loss.scale", scale),
            ("loss.exponent", exponent),
            ("loss.weight", weight),
        ] {
            if let Some(value) = value.filter(|value| !above(value)) {
                return fail(key, value, "be a number above 0");
            }
        }
        let ranges = [
            ("loss.entropy", entropy, 0.0, 1e6),
            ("loss.smoothing", smoothing, 0.0, 0.999),
            ("loss.gamma", gamma, 0.0, 16.0),
            ("loss.margin_exponent", margin_exponent, -4.0, 4.0),
        ];
        for (key, value, low, high) in ranges {
            if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
                return fail(key, value, &format!("be from {low} to {high}"));
            }
        }
        let pairs = matches!(kind, LossKind::Hinge | LossKind::Warp);
        if let Some(value) = margin.filter(|m| !m.is_finite() || (pairs && *m <= 0.0)) {
            return fail("loss.margin", value, if pairs { "be a number above 0" } else { "be a number" });
        }
        if let Some(value) = entropy.filter(|e| *e > 0.0 && !kind.has_entropy()) {
            let nearest = match kind {
                LossKind::Hinge | LossKind::Warp => "loss.kind = \"bpr\", which does for pairs",
                _ => "loss.kind = \"softmax\" or \"bsl\", which do for lists",
            };
            let must =
                format!("be 0 or absent with loss.kind = {:?}, which predicts no probability; {nearest}", kind.name());
            return fail("loss.entropy", value, &must);
        }
        Ok(())
    }

    /// WARP is its negatives as much as its loss.
    fn validate_warp(&self) -> Result<(), TrainError> {
        let hinge = "loss.kind = \"hinge\" goes with any negatives";
        for (i, component) in self.negatives.mix.iter().enumerate() {
            let key = |key: &str| format!("negatives.mix[{i}].{key}");
            if component.select != Select::Violation {
                let must =
                    format!("be \"violation\" with loss.kind = \"warp\", which learns from those alone; {hinge}");
                return fail(&key("select"), format!("{:?}", component.select.name()), &must);
            }
            if component.weigh != Weigh::Rank {
                let must = format!("be \"rank\" with loss.kind = \"warp\", which weighs by that; {hinge}");
                return fail(&key("weigh"), format!("{:?}", component.weigh.name()), &must);
            }
            let own = f64::from(self.margin().unwrap_or_default());
            if component.margin.as_ref().is_some_and(|margin| *margin != Scheduled::Constant(own)) {
                let must =
                    "be left out with loss.kind = \"warp\": loss.margin is both, what is searched for and learnt from";
                return fail(&key("margin"), "given", must);
            }
        }
        Ok(())
    }

    /// What goes with negatives that a block shares.
    fn validate_shared(&self, cosine: bool) -> Result<(), TrainError> {
        if !(1..=MAX_SHARED).contains(&self.negatives()) {
            return fail("negatives.count", self.negatives(), "be from 1 to 65536");
        }
        if self.shared_by() == 0 || self.shared_by() > MAX_SHARED_BY {
            return fail("negatives.shared_by", self.shared_by(), "be from 1 to 4096");
        }
        if cosine && self.l2() != 0.0 {
            let must = "be 0 with listwise losses on cosines, which keep rows at unit length; similarity = \"dot\" has a \
                        use for it";
            return fail("l2", self.l2(), must);
        }
        if self.loss.log_q == Some(true) {
            if self.negatives.simple().is_some_and(|(proposal, _)| proposal == Proposal::Uniform) {
                let must = "be false or absent with uniform negatives, whose corrections cancel; it goes with \
                            negatives.proposal = \"popularity\"";
                return fail("loss.log_q", "true", must);
            }
            self.validate_log_q()?;
        }
        let own = "; negatives.mix with two components or a select gives each positive its own, which may";
        if self.precision != Precision::F32 {
            let must = format!("be \"f32\" with listwise losses that share negatives{own}");
            return fail("precision", self.precision.name(), &must);
        }
        if let Some(items) = self.stream.block_items.filter(|items| *items != 0) {
            let must = format!("be 0 or absent with listwise losses that share negatives, drawn from all items{own}");
            return fail("stream.block_items", items, &must);
        }
        Ok(())
    }

    /// What goes with negatives of each positive's own.
    fn validate_own(&self) -> Result<(), TrainError> {
        let LossConfig { kind, log_q, .. } = self.loss;
        if !(1..=MAX_NEGATIVES).contains(&self.negatives()) {
            let must = match kind.is_listwise() {
                true => "be from 1 to 255 with a mixture; for more, share plain ones: leave out [[negatives.mix]]",
                false => "be from 1 to 255; for more, share them: loss.kind = \"softmax\" or \"bsl\"",
            };
            return fail("negatives.count", self.negatives(), must);
        }
        if kind.is_listwise() && self.negatives.shared_by.is_some() {
            let must = "be left out with this mixture, whose negatives are each positive's own; one plain component, \
                        propose = \"uniform\" or \"popularity\", is shared";
            return fail("negatives.shared_by", self.shared_by(), must);
        }
        if log_q == Some(true) {
            self.validate_log_q()?;
            let must = "be left out with a mixture: weigh = \"log-q\" in every component corrects for what it draws";
            return fail("loss.log_q", "true", must);
        }
        if matches!(kind, LossKind::Ccl | LossKind::Psl) && self.negatives.corrects() {
            let must = format!(
                "be something else with loss.kind = {:?}, which has no softmax to correct; it goes with \"softmax\" and \
                 \"bsl\"",
                kind.name()
            );
            return fail("negatives.mix[0].weigh", "\"log-q\"", &must);
        }
        Ok(())
    }

    fn validate_log_q(&self) -> Result<(), TrainError> {
        if matches!(self.loss.kind, LossKind::Softmax | LossKind::Bsl) {
            return Ok(());
        }
        let must = "be false or absent but for loss.kind = \"softmax\" and \"bsl\", which it is made for";
        fail("loss.log_q", "true", must)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> TrainConfig {
        TrainConfig::from_toml(text).unwrap()
    }

    #[test]
    fn what_does_not_go_together_is_named_with_what_does() {
        let hard = "[[negatives.mix]]\nselect = \"hardest\"\n";
        for (text, key, word) in [
            ("[loss]\nscale = 0.0".to_string(), "loss.scale", "above 0"),
            ("[loss]\nkind = \"hinge\"\nmargin = 0.0".into(), "loss.margin", "above 0"),
            ("[loss]\nkind = \"hinge\"\nentropy = 0.1".into(), "loss.entropy", "bpr"),
            ("[loss]\nkind = \"psl\"\nentropy = 0.1".into(), "loss.entropy", "softmax"),
            ("[loss]\nentropy = -0.1".into(), "loss.entropy", "from 0"),
            ("[loss]\nkind = \"logistic\"\nsmoothing = 1.0".into(), "loss.smoothing", "0.999"),
            ("[loss]\nkind = \"focal\"\ngamma = -1.0".into(), "loss.gamma", "16"),
            ("[loss]\nkind = \"hinge\"\nmargin_exponent = 9.0".into(), "loss.margin_exponent", "4"),
            (format!("{hard}[loss]\nkind = \"warp\""), "negatives.mix[0].select", "hinge"),
            (
                "[[negatives.mix]]\nselect = \"violation\"\n[loss]\nkind = \"warp\"".into(),
                "negatives.mix[0].weigh",
                "rank",
            ),
            (
                "[[negatives.mix]]\nselect = \"violation\"\nweigh = \"rank\"\nmargin = 2.0\n[loss]\nkind = \"warp\""
                    .into(),
                "negatives.mix[0].margin",
                "loss.margin",
            ),
            (format!("[negatives]\nshared_by = 64\n{hard}[loss]\nkind = \"bsl\""), "negatives.shared_by", "own"),
            (format!("[negatives]\ncount = 256\n{hard}[loss]\nkind = \"bsl\""), "negatives.count", "share"),
            (format!("{hard}[loss]\nkind = \"bsl\"\nlog_q = true"), "loss.log_q", "weigh"),
            (
                "[[negatives.mix]]\nweigh = \"log-q\"\n[loss]\nkind = \"ccl\"".into(),
                "negatives.mix[0].weigh",
                "softmax",
            ),
        ] {
            match config(&text).validate() {
                Err(TrainError::Config { key: found, must, .. }) => {
                    assert_eq!(found, key, "{text}");
                    assert!(must.contains(word), "{text}: {must}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn defaults_follow_the_loss_and_its_negatives() {
        let hard = "[[negatives.mix]]\nselect = \"hardest\"\n";
        for (text, shares, count) in [
            ("".to_string(), false, 8),
            ("[loss]\nkind = \"bsl\"".into(), true, 800),
            ("[[negatives.mix]]\npropose = \"popularity\"\n[loss]\nkind = \"bsl\"".into(), true, 800),
            (format!("{hard}[loss]\nkind = \"bsl\""), false, 64),
            ("[loss]\nkind = \"warp\"".into(), false, 1),
        ] {
            let config = config(&text);
            config.validate().unwrap();
            assert_eq!((config.shares_negatives(), config.negatives()), (shares, count), "{text}");
            let used = config.in_force();
            used.validate().unwrap();
            assert_eq!(used.in_force(), used, "what is in force stays so");
        }
        let warp = config(
            "similarity = \"cosine\"\n[negatives]\nproposal = \"popularity\"\nalpha = 0.5\n[loss]\nkind = \"warp\"",
        );
        let used = warp.in_force();
        let [component] = &used.negatives.mix[..] else { panic!("{used:?}") };
        assert_eq!((component.propose, component.alpha), (Propose::Popularity, Some(0.5)));
        assert_eq!(component.margin, Some(Scheduled::Constant(f64::from(0.1f32))));
        assert_eq!((component.select, component.weigh), (Select::Violation, Weigh::Rank));
    }
}
