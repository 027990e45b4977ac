//! What to evaluate, and how.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Baseline, EvaluateError, SliceBy};
use crate::attributes::Attributes;
use crate::dataset::{Dataset, Part};
use crate::negatives::Proposal;

/// Among what a held-out item is ranked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The whole catalogue but what the user has interacted with.
    #[default]
    Full,
    /// Negatives drawn, without replacement, from what the user has not interacted with in any part; each held-out item
    /// is ranked alone among its own (He et al. 2017, "Neural Collaborative Filtering").
    Sampled {
        /// Negatives for each held-out item.
        negatives: usize,
        /// What they are drawn from: all alike, or by their number of train interactions.
        proposal: Proposal,
    },
    /// Negatives that a file lists for each held-out item.
    Listed(PathBuf),
}

impl Protocol {
    /// Items of a ranking at most, where `items` are to be had.
    fn ranked(&self, items: usize) -> (usize, &'static str) {
        match self {
            Self::Sampled { negatives, .. } => (items.min(negatives.saturating_add(1)), "items that are ranked"),
            Self::Full | Self::Listed(_) => (items, "items"),
        }
    }

    /// The usual cut-offs, as far as there are that many items.
    pub fn cut_offs(&self, dataset: &Dataset) -> Vec<usize> {
        let (most, _) = self.ranked(dataset.items().len() as usize);
        let usual = EvaluateOptions::default().k.into_iter().filter(|k| *k <= most).collect::<Vec<_>>();
        if usual.is_empty() { vec![most.max(1)] } else { usual }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Sampled { negatives, proposal: Proposal::Uniform } => write!(f, "sampled:{negatives}"),
            Self::Sampled { negatives, proposal: Proposal::Popularity } => write!(f, "sampled:{negatives}:popularity"),
            Self::Listed(path) => write!(f, "list:{}", path.display()),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "'{text}' is no protocol; write full, sampled:99 for 99 negatives, sampled:99:popularity for popular \
                 ones, or list:FILE"
            )
        };
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match (name, rest) {
            ("full", "") if !text.contains(':') => Ok(Self::Full),
            ("list", path) if !path.is_empty() => Ok(Self::Listed(path.into())),
            ("sampled", rest) => {
                let (negatives, by) = rest.split_once(':').unwrap_or((rest, "uniform"));
                let proposal = match by {
                    "uniform" => Proposal::Uniform,
                    "popularity" => Proposal::Popularity,
                    _ => return Err(unknown()),
                };
                negatives.parse().map(|negatives| Self::Sampled { negatives, proposal }).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Settings of [`evaluate`](super::evaluate).
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// The held-out part.
    pub part: Part,
    /// Cut-offs of the ranking, in the order in which they are reported.
    pub k: Vec<usize>,
    /// Among what to rank.
    pub protocol: Protocol,
    /// Seed of ties, negatives, the sample of users and the random baseline.
    pub seed: u64,
    /// Evaluate a uniform sample of that many users; `None` for all.
    pub users: Option<usize>,
    /// Evaluate users without train interactions too.
    pub include_cold: bool,
    /// What to measure beside the scorer. Recent popularity is left out where there are no times, and what does not fit
    /// the memory budget, too: [`Evaluation::notes`](super::Evaluation::notes) say so.
    pub baselines: Vec<Baseline>,
    /// Measure what is recommended beyond accuracy: coverage, novelty, diversity and the like; full ranking only.
    pub beyond_accuracy: bool,
    /// Measure the scorer on slices of users and of interactions, too.
    pub slices: Vec<SliceBy>,
    /// Measure it on slices of held-out interactions by each attribute of their items, too.
    pub attributes: Option<Arc<Attributes>>,
    /// Resample users for 95 % intervals of the scorer's metrics. Slices have theirs in any case.
    pub intervals: bool,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            part: Part::Test,
            k: vec![10, 20],
            protocol: Protocol::Full,
            seed: 42,
            users: None,
            include_cold: false,
            baselines: Baseline::ALL.to_vec(),
            beyond_accuracy: true,
            slices: Vec::new(),
            attributes: None,
            intervals: true,
        }
    }
}

impl EvaluateOptions {
    /// Accuracy of the scorer, and nothing else.
    pub fn accuracy() -> Self {
        Self { baselines: Vec::new(), beyond_accuracy: false, intervals: false, ..Self::default() }
    }

    pub(super) fn check(&self, dataset: &Dataset) -> Result<(), EvaluateError> {
        if dataset.part(self.part).is_none() {
            let present: Vec<&str> = dataset.parts().map(|(part, _)| part.name()).collect();
            return Err(EvaluateError::NoPart {
                dataset: dataset.path().to_path_buf(),
                part: self.part,
                present: present.join(" and "),
            });
        }
        if matches!(self.protocol, Protocol::Sampled { negatives: 0, .. }) {
            return Err(EvaluateError::NoNegatives);
        }
        let (most, what) = self.protocol.ranked(dataset.items().len() as usize);
        if self.k.is_empty() {
            return Err(EvaluateError::NoCutOff);
        }
        match self.k.iter().find(|k| **k == 0 || **k > most) {
            Some(k) => Err(EvaluateError::CutOff { k: *k, most, what }),
            None => Ok(()),
        }
    }

    /// The largest cut-off.
    pub(super) fn largest_k(&self) -> usize {
        self.k.iter().copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_and_written() {
        for text in ["full", "sampled:99", "sampled:99:popularity", "list:a/b:c.tsv"] {
            assert_eq!(text.parse::<Protocol>().unwrap().to_string(), text);
        }
        for text in
            ["", "Full", "sampled", "sampled:", "sampled:-1", "sampled:x", "full:3", "full:", "list:", "sampled:9:p"]
        {
            assert!(text.parse::<Protocol>().unwrap_err().contains("sampled:99"), "{text}");
        }
    }
}
