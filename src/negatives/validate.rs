//! Checks of the negatives' configuration: every value in its range, no key without effect, no impossible combination.

use super::{MixConfig, NegativesConfig, Proposal, Propose, Scheduled, Select, Weigh, stretch_length};

/// Candidates for one negative, at most.
pub(crate) const MAX_CANDIDATES: usize = 4096;

/// What is wrong: the key as in TOML, its value, and what it must be.
pub(crate) struct Mistake {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) must: String,
}

impl NegativesConfig {
    /// Says what is wrong first, if anything is.
    pub(crate) fn mistake(&self) -> Option<Mistake> {
        let wrong =
            |key: &str, value: String, must: String| Some(Mistake { key: format!("negatives.{key}"), value, must });
        if self.alpha.is_nan() || self.alpha.abs() > 8.0 {
            return wrong("alpha", self.alpha.to_string(), "be a number from -8 to 8".into());
        }
        if self.mix.is_empty() {
            return None;
        }
        if self.proposal != Proposal::default() {
            let must = "be left out beside [[negatives.mix]]: say propose = \"popularity\" in a component instead";
            return wrong("proposal", "\"popularity\"".into(), must.into());
        }
        if self.mix.len() > 64 {
            return wrong("mix", format!("{} components", self.mix.len()), "have at most 64".into());
        }
        for (i, component) in self.mix.iter().enumerate() {
            if let Some((key, value, must)) = component.mistake() {
                return wrong(&format!("mix[{i}].{key}"), value, must);
            }
        }
        if let Some(i) = self.mix.iter().position(|c| (c.weigh == Weigh::LogQ) != (self.mix[0].weigh == Weigh::LogQ)) {
            let must =
                "be \"log-q\" in every component or in none: the correction is by the chance under the whole mixture";
            return wrong(&format!("mix[{i}].weigh"), format!("{:?}", self.mix[i].weigh.name()), must.into());
        }
        // Fine enough to see every stage that a sane schedule has.
        let empty = (0..=1000).map(|p| f64::from(p) / 1000.0).find(|p| self.mix.iter().all(|c| c.share.at(*p) <= 0.0));
        if let Some(p) = empty {
            let must = format!("not all be 0 at once, as they are {:.1} % into the run", p * 100.0);
            return wrong("mix.share", "0".into(), must);
        }
        None
    }
}

impl MixConfig {
    fn mistake(&self) -> Option<(&'static str, String, String)> {
        let keys = [
            ("alpha", self.alpha.is_some(), self.propose == Propose::Popularity, "propose = \"popularity\""),
            ("half_life", self.half_life.is_some(), self.propose == Propose::Recent, "propose = \"recent\""),
            ("size", self.size.is_some(), self.propose == Propose::Reservoir, "propose = \"reservoir\""),
            ("neighbours", self.neighbours.is_some(), self.propose == Propose::Nearest, "propose = \"nearest\""),
            ("rebuild", self.rebuild.is_some(), self.propose == Propose::Nearest, "propose = \"nearest\""),
            (
                "candidates",
                self.candidates.is_some(),
                self.select != Select::First || self.filters(),
                "a select that chooses, such as \"hardest\"",
            ),
            ("top", self.top.is_some(), self.select == Select::Top, "select = \"top\""),
            ("temperature", self.temperature.is_some(), self.select == Select::Softmax, "select = \"softmax\""),
            ("hardness", self.hardness.is_some(), self.select == Select::Adaptive, "select = \"adaptive\""),
            ("shift", self.shift.is_some(), self.select == Select::Adaptive, "select = \"adaptive\""),
            ("power", self.power.is_some(), self.select == Select::Adaptive, "select = \"adaptive\""),
            ("margin", self.margin.is_some(), self.select == Select::Violation, "select = \"violation\""),
            ("noise", self.noise.is_some(), self.select != Select::First, "a select by score, such as \"hardest\""),
            (
                "activity",
                self.activity.is_some(),
                self.select != Select::First,
                "a select that chooses, such as \"hardest\"",
            ),
            ("gamma", self.gamma.is_some(), self.weigh == Weigh::Propensity, "weigh = \"propensity\""),
            (
                "clip",
                self.clip.is_some(),
                matches!(self.weigh, Weigh::Propensity | Weigh::Rank),
                "weigh = \"propensity\" or \"rank\"",
            ),
        ];
        for (key, given, counts, with) in keys {
            if given && !counts {
                return Some((key, "given".into(), format!("be left out: it counts only with {with}")));
            }
        }
        let plain = |key, value: Option<f64>, low: f64, high: f64| match value {
            Some(v) if !(low..=high).contains(&v) => Some((key, v.to_string(), format!("be from {low} to {high}"))),
            _ => None,
        };
        let scheduled = |key, value: Option<&Scheduled>, low: f64, high: f64| {
            let value = value?;
            if let Some(must) = value.mistake() {
                return Some((key, "the schedule".to_string(), must.to_string()));
            }
            let (least, most) = value.bounds();
            let outside = if least < low { least } else { most };
            (least < low || most > high).then(|| (key, outside.to_string(), format!("be from {low} to {high}")))
        };
        let most = MAX_CANDIDATES as f64;
        plain("alpha", self.alpha, -8.0, 8.0)
            .or_else(|| plain("half_life", self.half_life, 1e-6, 1e6))
            .or_else(|| plain("size", self.size.map(|s| s as f64), 1.0, 1e8))
            .or_else(|| plain("neighbours", self.neighbours.map(|n| n as f64), 1.0, most))
            .or_else(|| scheduled("rebuild", self.rebuild.as_ref(), 1e-6, 1.0))
            .or_else(|| scheduled("share", Some(&self.share), 0.0, 1e9))
            .or_else(|| scheduled("candidates", self.candidates.as_ref(), 1.0, most))
            .or_else(|| scheduled("top", self.top.as_ref(), 1.0, most))
            .or_else(|| scheduled("temperature", self.temperature.as_ref(), 1e-6, 1e9))
            .or_else(|| scheduled("hardness", self.hardness.as_ref(), -1e9, 1e9))
            .or_else(|| plain("shift", self.shift, -1e6, 1e6))
            .or_else(|| plain("power", self.power, -8.0, 8.0))
            .or_else(|| scheduled("margin", self.margin.as_ref(), -1e6, 1e6))
            .or_else(|| scheduled("noise", self.noise.as_ref(), 0.0, 1e6))
            .or_else(|| plain("activity", self.activity, -4.0, 4.0))
            .or_else(|| plain("min_distance", self.min_distance, 0.0, 2.0))
            .or_else(|| plain("gamma", self.gamma, 0.0, 8.0))
            .or_else(|| plain("clip", self.clip, 1e-6, 1e9))
            .or_else(|| self.impossible())
    }

    fn impossible(&self) -> Option<(&'static str, String, String)> {
        if cfg!(not(feature = "nearest")) && self.propose == Propose::Nearest {
            let must = "be \"cooccurrence\" or another: this program was built without the feature \"nearest\"; build it \
                        with --features nearest";
            return Some(("propose", "\"nearest\"".into(), must.into()));
        }
        if let Some([low, high]) = self.band
            && !(0.0 <= low && low < high && high <= 1.0)
        {
            let must = "be two numbers from 0 to 1, the lower one first: what is kept of sigma((s- - s+) / T)";
            return Some(("band", format!("[{low}, {high}]"), must.into()));
        }
        if let Some(text) = &self.same_context
            && (text.is_empty() || text.starts_with("time:"))
            && stretch_length(text).is_none()
        {
            let must = "be a column of context, or \"time:\" and a length in minutes, hours, days or weeks, such as \
                        \"time:90m\", \"time:6h\", \"time:1d\" or \"time:2w\"";
            return Some(("same_context", format!("{text:?}"), must.into()));
        }
        if self.weigh == Weigh::Rank && self.select != Select::Violation {
            let must =
                "go with select = \"violation\", whose tries it counts; \"gap\" weighs by scores for every select";
            return Some(("weigh", "\"rank\"".into(), must.into()));
        }
        if self.weigh == Weigh::LogQ {
            let nearest = "; \"propensity\" weighs by popularity whatever is proposed";
            if self.select != Select::First || self.filters() || self.same_context.is_some() {
                let must = "go with select = \"first\" and no filter, for only then the chance of a draw is known";
                return Some(("weigh", "\"log-q\"".into(), format!("{must}{nearest}")));
            }
            if matches!(self.propose, Propose::Recent | Propose::Cooccurrence | Propose::Exposures | Propose::Nearest) {
                let must = "go with propose = \"uniform\", \"popularity\", \"in-batch\" or \"reservoir\", whose chances are known";
                return Some(("weigh", "\"log-q\"".into(), format!("{must}{nearest}")));
            }
        }
        None
    }

    /// Whether candidates are dropped by scores or embeddings.
    pub(super) fn filters(&self) -> bool {
        self.min_distance.is_some() || self.band.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> Option<Mistake> {
        toml::from_str::<NegativesConfig>(text).unwrap().mistake()
    }

    #[test]
    fn every_key_without_effect_and_every_impossible_value_is_named() {
        for (text, key, word) in [
            ("alpha = nan", "negatives.alpha", "-8"),
            ("proposal = \"popularity\"\n[[mix]]", "negatives.proposal", "propose"),
            ("[[mix]]\nalpha = 0.5", "negatives.mix[0].alpha", "popularity"),
            ("[[mix]]\n[[mix]]\ntop = 3\nselect = \"hardest\"", "negatives.mix[1].top", "select = \"top\""),
            ("[[mix]]\nselect = \"hardest\"\ncandidates = 0", "negatives.mix[0].candidates", "4096"),
            (
                "[[mix]]\nselect = \"hardest\"\ncandidates = { schedule = \"linear\", from = 1 }",
                "negatives.mix[0].candidates",
                "to =",
            ),
            ("[[mix]]\nneighbours = 10", "negatives.mix[0].neighbours", "nearest"),
            ("[[mix]]\npropose = \"recent\"\nrebuild = 0.1", "negatives.mix[0].rebuild", "nearest"),
            ("[[mix]]\npropose = \"nearest\"\nneighbours = 0", "negatives.mix[0].neighbours", "1 to 4096"),
            ("[[mix]]\npropose = \"nearest\"\nrebuild = 0", "negatives.mix[0].rebuild", "to 1"),
            ("[[mix]]\nweigh = \"log-q\"\npropose = \"nearest\"", "negatives.mix[0].weigh", "propensity"),
            ("[[mix]]\nshare = -1", "negatives.mix[0].share", "0"),
            (
                "[[mix]]\nshare = { schedule = \"linear\", from = 1, to = 0, end = 0.5 }",
                "negatives.mix.share",
                "50.0 %",
            ),
            ("[[mix]]\nband = [0.9, 0.1]", "negatives.mix[0].band", "lower"),
            ("[[mix]]\nsame_context = \"\"", "negatives.mix[0].same_context", "column"),
            ("[[mix]]\nsame_context = \"time:1y\"", "negatives.mix[0].same_context", "time:1d"),
            ("[[mix]]\nsame_context = \"time:1d\"\nweigh = \"log-q\"", "negatives.mix[0].weigh", "no filter"),
            ("[[mix]]\nweigh = \"rank\"", "negatives.mix[0].weigh", "violation"),
            ("[[mix]]\nweigh = \"log-q\"\nselect = \"hardest\"", "negatives.mix[0].weigh", "first"),
            ("[[mix]]\nweigh = \"log-q\"\npropose = \"recent\"", "negatives.mix[0].weigh", "propensity"),
            ("[[mix]]\nweigh = \"log-q\"\npropose = \"exposures\"", "negatives.mix[0].weigh", "propensity"),
            ("[[mix]]\nweigh = \"log-q\"\n[[mix]]", "negatives.mix[1].weigh", "every"),
        ] {
            let found = mistake(text).unwrap_or_else(|| panic!("{text} passes"));
            assert_eq!(found.key, key, "{text}");
            assert!(found.must.contains(word), "{text}: {}", found.must);
        }
    }

    #[test]
    fn what_goes_together_passes_and_plain_mixtures_are_recognized() {
        for (text, simple) in [
            ("", true),
            ("[[mix]]", true),
            ("[[mix]]\npropose = \"popularity\"\nalpha = 0.5", true),
            ("[[mix]]\n[[mix]]", false),
            ("[[mix]]\nselect = \"violation\"\nweigh = \"rank\"\nclip = 5", false),
            ("[[mix]]\nweigh = \"log-q\"\npropose = \"in-batch\"", false),
            ("[[mix]]\nmin_distance = 0.1\ncandidates = 4", false),
            ("[[mix]]\nsame_context = \"time:6h\"", false),
            ("[[mix]]\nsame_context = \"device\"", false),
        ] {
            assert!(mistake(text).is_none_or(|m| panic!("{text}: {} {}", m.key, m.must)));
            assert_eq!(toml::from_str::<NegativesConfig>(text).unwrap().simple().is_some(), simple, "{text}");
        }
    }
}
