//! The configuration of the negatives: a few plain keys, or a mixture of components, each propose → filter → select →
//! weigh.

use serde::{Deserialize, Serialize};

use super::{SameContext, Scheduled};

/// Where negatives come from. A user's positives never are negatives, unless they are allowed to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NegativesConfig {
    /// Negatives for each positive; for listwise losses, those that a block shares. Default: 8; 800 for listwise.
    pub count: Option<usize>,
    /// Positives that share a set of negatives, for listwise losses. Default: 128.
    pub shared_by: Option<usize>,
    /// The distribution that they are drawn from, where there is no `mix`.
    pub proposal: Proposal,
    /// Exponent of popularity, for `proposal = "popularity"`.
    pub alpha: f64,
    /// Whether an item may come twice among the negatives of one positive; shared negatives are always distinct.
    pub with_replacement: bool,
    /// Whether a negative may be another positive of the user, for recipes that want it. It never is the positive
    /// itself.
    pub allow_positives: bool,
    /// Components to draw from in turn, instead of `proposal`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mix: Vec<MixConfig>,
}

impl Default for NegativesConfig {
    fn default() -> Self {
        Self {
            count: None,
            shared_by: None,
            proposal: Proposal::Uniform,
            alpha: 0.75,
            with_replacement: true,
            allow_positives: false,
            mix: Vec::new(),
        }
    }
}

/// The distribution that negatives are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proposal {
    /// All items alike.
    #[default]
    Uniform,
    /// By train popularity to the power α (Mikolov et al., 2013, use 0.75).
    Popularity,
}

/// One component of a mixture: how candidates are proposed, filtered, selected and weighed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixConfig {
    /// The share of the negatives that it draws, relative to the other components'.
    pub share: Scheduled,
    /// Where candidates come from.
    pub propose: Propose,
    /// `popularity`: the exponent. Default: 0.75.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// `recent`: days after which an interaction counts half. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_life: Option<f64>,
    /// `reservoir`: positives that it holds. Default: 16,384.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// `nearest`: items that are retrieved for a user (K). Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<usize>,
    /// `nearest`: the share of the run after which the index of the items is built anew. Default: 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<Scheduled>,
    /// How candidates become negatives.
    pub select: Select,
    /// Candidates for each negative (M); for `violation` the most that are tried. Default: 8, for `violation` 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Scheduled>,
    /// `top`: one of so many hardest candidates is taken (N). Default: 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top: Option<Scheduled>,
    /// `softmax`: candidates are taken by exp(score / temperature). Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Scheduled>,
    /// `adaptive`: β of the score aimed at, β(s⁺ + shift)^(power + 1). Default: 0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardness: Option<Scheduled>,
    /// `adaptive`: α of the score aimed at. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<f64>,
    /// `adaptive`: p of the score aimed at. Default: -2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// `violation`: a candidate violates where its score is above the positive's less this. Default: 1 for dot
    /// products, 0.1 for cosines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<Scheduled>,
    /// Standard deviation of Gaussian noise on the scores that are selected by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise: Option<Scheduled>,
    /// Candidates are multiplied by (the user's positives / the mean user's) to this power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity: Option<f64>,
    /// Drops candidates nearer to the positive than this: 1 − the cosine of their embeddings, from 0 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_distance: Option<f64>,
    /// Keeps candidates with σ((s⁻ − s⁺) / T) from the first to the second number, both from 0 to 1; T is the loss's
    /// temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<[f64; 2]>,
    /// Keeps candidates with a train interaction in the same context as the positive: a column that was ingested by
    /// `--context`, such as `device`; or a stretch of time, `time:` and a length, such as `time:1d`, `time:6h`, `time:90m`
    /// or `time:2w`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_context: Option<String>,
    /// What a negative counts in the loss.
    pub weigh: Weigh,
    /// `propensity`: exponent of the exposure propensity, (popularity / the highest popularity)^γ. Default: 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// `propensity` and `rank`: the largest weight. Default: 10 for `propensity`, none for `rank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
}

impl Default for MixConfig {
    fn default() -> Self {
        Self {
            share: Scheduled::Constant(1.0),
            propose: Propose::Uniform,
            alpha: None,
            half_life: None,
            size: None,
            neighbours: None,
            rebuild: None,
            select: Select::First,
            candidates: None,
            top: None,
            temperature: None,
            hardness: None,
            shift: None,
            power: None,
            margin: None,
            noise: None,
            activity: None,
            min_distance: None,
            band: None,
            same_context: None,
            weigh: Weigh::One,
            gamma: None,
            clip: None,
        }
    }
}

/// Declares the choices of a step: their names as in TOML, and a line on each.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$default:meta])* $variant:ident = $text:literal: $line:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $(#[doc = $line] $(#[$default])* $variant),* }

        impl $name {
            /// Every choice, as in TOML, with a line on what it does.
            pub const ALL: &'static [(&'static str, &'static str)] = &[$(($text, $line)),*];

            /// Its name, as in TOML.
            pub fn name(self) -> &'static str {
                Self::ALL[self as usize].0
            }
        }
    };
}

choices! {
    /// Where candidates come from.
    Propose {
        #[default]
        Uniform = "uniform": "All items alike.",
        Popularity = "popularity": "Items by train popularity to the power alpha (Mikolov et al., 2013, use 0.75).",
        Recent = "recent": "Items by popularity that halves every half_life days, as of the positive's time.",
        InBatch = "in-batch": "The other positives of the same batch.",
        Reservoir = "reservoir": "The last positives of the stream, size of them, replaced at random as it goes on.",
        Cooccurrence = "cooccurrence": "Items of other users of the positive: a random walk of item, user, item.",
        Exposures = "exposures": "What was shown to the user and never taken, from ingest --exposure-events.",
        Nearest = "nearest": "One of the neighbours items that score highest for the user, by an approximate index.",
    }
}

choices! {
    /// How candidates become negatives.
    Select {
        #[default]
        First = "first": "The first candidate.",
        Hardest = "hardest": "The highest score of the candidates (DNS; Zhang et al., SIGIR 2013).",
        Top = "top": "One of the top hardest candidates, at random (DNS(M, N); Shi et al., WWW 2023).",
        Softmax = "softmax": "A candidate with probability by exp(score / temperature).",
        Adaptive = "adaptive": "The candidate nearest to hardness x (s+ + shift)^(power + 1) (AHNS; Lai et al., AAAI 2024).",
        Violation = "violation": "The first candidate that scores above the positive less margin (WARP; Weston et al., IJCAI 2011).",
    }
}

choices! {
    /// What a negative counts in the loss.
    Weigh {
        #[default]
        One = "one": "All alike.",
        LogQ = "log-q": "Scores are corrected by -ln(count x the chance to be proposed) (Yi et al., RecSys 2019).",
        Propensity = "propensity": "1 / exposure propensity, at most clip (Saito et al., WSDM 2020).",
        Gap = "gap": "2 sigma((s+ - s-) / T): what scores above the positive may be a positive not seen yet.",
        Rank = "rank": "ln(max(1, (items - 1) / tries)): the rank that tries hint at (WARP).",
    }
}

impl Propose {
    /// Whether it proposes from the whole catalogue, so that all items must be in one block of the stream.
    pub fn needs_whole_catalogue(self) -> bool {
        matches!(self, Self::Popularity | Self::Recent | Self::Cooccurrence | Self::Exposures | Self::Nearest)
    }
}

impl NegativesConfig {
    /// Whether all items must be in one block of the stream.
    pub(crate) fn needs_whole_catalogue(&self) -> bool {
        match self.simple() {
            Some((proposal, _)) => proposal == Proposal::Popularity,
            None => self.mix.iter().any(|c| c.propose.needs_whole_catalogue() || c.same_context.is_some()),
        }
    }

    /// The proposal and its exponent, where plain draws from one distribution are all there is: without `mix`, or with
    /// one that says the same.
    pub(crate) fn simple(&self) -> Option<(Proposal, f64)> {
        let [only] = &self.mix[..] else {
            return self.mix.is_empty().then_some((self.proposal, self.alpha));
        };
        let plain = only.select == Select::First
            && only.weigh == Weigh::One
            && only.min_distance.is_none()
            && only.band.is_none()
            && only.same_context.is_none();
        match only.propose {
            Propose::Uniform if plain => Some((Proposal::Uniform, 0.0)),
            Propose::Popularity if plain => Some((Proposal::Popularity, only.alpha.unwrap_or(0.75))),
            _ => None,
        }
    }

    /// What each component proposes by, as in TOML; of one where there is no mixture.
    pub(crate) fn proposers(&self) -> Vec<&'static str> {
        match (&self.mix[..], self.proposal) {
            ([], Proposal::Uniform) => vec![Propose::Uniform.name()],
            ([], Proposal::Popularity) => vec![Propose::Popularity.name()],
            (mix, _) => mix.iter().map(|c| c.propose.name()).collect(),
        }
    }

    /// Whether negatives have weights of their own.
    pub(crate) fn weighs(&self) -> bool {
        let weighs = |c: &MixConfig| {
            !matches!(c.weigh, Weigh::One | Weigh::LogQ)
                || c.filters()
                || c.same_context.is_some()
                || c.select == Select::Violation
        };
        self.mix.iter().any(weighs)
    }

    /// Whether scores are corrected by the chances of the components.
    pub(crate) fn corrects(&self) -> bool {
        self.mix.iter().any(|c| c.weigh == Weigh::LogQ)
    }

    /// Bytes for each interaction that the filters by context take: all of them, for a sample would drop what belongs there.
    pub(crate) fn context_bytes(&self) -> u64 {
        self.mix.iter().filter(|c| c.same_context.is_some()).count() as u64 * SameContext::BYTES
    }

    /// Whether logged exposures are needed.
    pub(crate) fn needs_exposures(&self) -> bool {
        self.mix.iter().any(|c| c.propose == Propose::Exposures)
    }

    /// Whether the time of each positive is needed.
    pub(crate) fn needs_times(&self) -> bool {
        self.mix.iter().any(|c| c.propose == Propose::Recent)
    }
}
