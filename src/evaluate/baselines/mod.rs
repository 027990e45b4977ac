//! What needs no training, or little: the scorers that every model stands beside.

mod knn;
mod recent;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::EvaluateError;
use crate::context::{ByteSize, Context};
use crate::dataset::Dataset;
use crate::nearest::did_you_mean;
use crate::rank::{Popularity, RandomScores, Scorer};
use knn::ItemKnn;
use recent::RecentPopularity;

/// A baseline. Definitions: `docs/metrics.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Items by their number of train interactions.
    Popularity,
    /// The same, each interaction counting less the older it is.
    Recent,
    /// Items near those that the user has taken, by the cosine of who took them.
    ItemKnn,
    /// Items in random order.
    Random,
}

impl Baseline {
    /// All of them, in the order of a report.
    pub const ALL: [Self; 4] = [Self::Popularity, Self::Recent, Self::ItemKnn, Self::Random];

    /// Its name, as flags take it and JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Popularity => "popularity",
            Self::Recent => "recent",
            Self::ItemKnn => "item_knn",
            Self::Random => "random",
        }
    }

    /// Its scorer for `dataset`; `seed` is that of random order and ties. Recent popularity goes through train once, the
    /// nearest items take time that is bounded (`docs/metrics.md`), and both stay within `ctx.memory()`.
    ///
    /// # Errors
    /// If the dataset has no times to be recent by, the budget is too small, or the operation was stopped.
    pub fn scorer<'a>(
        self,
        dataset: &'a Dataset,
        seed: u64,
        ctx: &Context,
    ) -> Result<Box<dyn Scorer + 'a>, EvaluateError> {
        Ok(match self {
            Self::Popularity => Box::new(Popularity::new(dataset)),
            Self::Recent => Box::new(RecentPopularity::new(dataset, ctx)?),
            Self::ItemKnn => Box::new(ItemKnn::new(dataset, seed, ctx)?),
            Self::Random => Box::new(RandomScores::new(dataset, seed)),
        })
    }
}

/// That a baseline does not fit what is left of the budget.
fn too_little(baseline: Baseline, needed: usize, ctx: &Context) -> EvaluateError {
    let (needed, left) = (ByteSize(needed as u64), ctx.memory());
    let reason = format!("it takes {needed} of memory at least, and {left} are left; raise --memory");
    EvaluateError::Baseline { name: baseline.name(), reason }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Baseline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let folded = text.replace('-', "_");
        Self::ALL.into_iter().find(|baseline| baseline.name() == folded).ok_or_else(|| {
            let names = || Self::ALL.into_iter().map(Self::name);
            let hint = did_you_mean(text, names()).unwrap_or_default();
            format!("'{text}' is no baseline, which are {}; {hint}", names().collect::<Vec<_>>().join(", "))
        })
    }
}

impl Serialize for Baseline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
