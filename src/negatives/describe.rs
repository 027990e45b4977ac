//! Components of a mixture in words, with their numbers at a moment of the run.

use super::select::Now;
use super::{MixConfig, NegativesConfig, Proposal, Propose, Select, Weigh};

impl NegativesConfig {
    /// What each component does when the share `progress` of a run is over: its share of the negatives, and how it makes
    /// one. One line where there is no mixture. `margin` is the default one.
    pub(crate) fn describe(&self, progress: f64, margin: f64) -> Vec<(f64, String)> {
        if self.mix.is_empty() {
            let line = match self.proposal {
                Proposal::Uniform => "uniform, first".to_string(),
                Proposal::Popularity => format!("popularity^{}, first", self.alpha),
            };
            return vec![(1.0, line)];
        }
        let now: Vec<Now> = self.mix.iter().map(|c| Now::at(c, progress, margin)).collect();
        let total: f64 = now.iter().map(|n| n.share).sum();
        self.mix.iter().zip(&now).map(|(c, now)| (now.share / total, c.describe(now))).collect()
    }
}

impl MixConfig {
    fn describe(&self, now: &Now) -> String {
        let mut line = match self.propose {
            Propose::Popularity => format!("popularity^{}", self.alpha.unwrap_or(0.75)),
            Propose::Recent => format!("recent, half-life {} days", self.half_life.unwrap_or(30.0)),
            other => other.name().to_string(),
        };
        if let Some(context) = &self.same_context {
            line += &format!(", same_context {context}");
        }
        if let Some(least) = self.min_distance {
            line += &format!(", min_distance {least}");
        }
        if let Some([low, high]) = self.band {
            line += &format!(", band {low} to {high}");
        }
        let of = now.candidates.round().max(1.0);
        line += &match self.select {
            Select::First if self.filters() => format!(", first of {of}"),
            Select::First => ", first".to_string(),
            Select::Hardest => format!(", hardest of {of}"),
            Select::Top => format!(", one of the {} hardest of {of}", now.top),
            Select::Softmax => format!(", softmax of {of} at temperature {:.3}", now.temperature),
            Select::Adaptive => format!(", adaptive among {of}, hardness {:.3}", now.hardness),
            Select::Violation => format!(", first of {of} within margin {:.3}", now.margin),
        };
        if let Some(exponent) = self.activity {
            line += &format!(" (x activity^{exponent})");
        }
        if now.noise > 0.0 {
            line += &format!(", noise {:.3}", now.noise);
        }
        if self.weigh != Weigh::One {
            line += &format!(", weight {}", self.weigh.name());
        }
        line
    }
}
