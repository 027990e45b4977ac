//! What to evaluate, and how.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::EvaluateError;
use crate::dataset::{Dataset, Part};

/// Among what a held-out item is ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The whole catalogue but what the user has interacted with.
    #[default]
    Full,
    /// Negatives drawn uniformly, without replacement, from what the user has not interacted with in any part; each
    /// held-out item is ranked alone among its own (He et al. 2017, "Neural Collaborative Filtering").
    Sampled {
        /// Negatives for each held-out item.
        negatives: usize,
    },
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Sampled { negatives } => write!(f, "sampled:{negatives}"),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("'{text}' is no protocol; write full, or sampled:99 for 99 negatives");
        match text.split_once(':') {
            None if text == "full" => Ok(Self::Full),
            Some(("sampled", n)) => n.parse().map(|negatives| Self::Sampled { negatives }).map_err(|_| unknown()),
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
    /// Measure popularity and random order beside the scorer.
    pub baselines: bool,
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
            baselines: true,
        }
    }
}

impl EvaluateOptions {
    pub(super) fn check(&self, dataset: &Dataset) -> Result<(), EvaluateError> {
        if dataset.part(self.part).is_none() {
            let present: Vec<&str> = dataset.parts().map(|(part, _)| part.name()).collect();
            return Err(EvaluateError::NoPart {
                dataset: dataset.path().to_path_buf(),
                part: self.part,
                present: present.join(" and "),
            });
        }
        let (most, what) = match self.protocol {
            Protocol::Full => (dataset.items().len() as usize, "items"),
            Protocol::Sampled { negatives: 0 } => return Err(EvaluateError::NoNegatives),
            Protocol::Sampled { negatives } => {
                ((dataset.items().len() as usize).min(negatives.saturating_add(1)), "items that are ranked")
            }
        };
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
        for text in ["full", "sampled:99"] {
            assert_eq!(text.parse::<Protocol>().unwrap().to_string(), text);
        }
        for text in ["", "Full", "sampled", "sampled:", "sampled:-1", "sampled:x", "full:3"] {
            assert!(text.parse::<Protocol>().unwrap_err().contains("sampled:99"), "{text}");
        }
    }
}
