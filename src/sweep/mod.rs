//! Tuning: many configurations, trained on one dataset and compared on its validation part, with successive halving.

mod candidate;
mod compare;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod halving;
mod journal;
mod report;
mod run;
mod space;
#[cfg(test)]
mod tests;

pub use error::SweepError;
pub use halving::Halving;
pub use report::{Standing, SweepFailure, SweepReport, SweepRow, SweepSkipped};
pub use run::sweep;
pub use space::Space;

use crate::evaluate::MetricAt;

/// Which configurations of a [`Space`] are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Every combination of choices.
    Grid,
    /// So many different ones, drawn at random by the base configuration's seed. More of them begin with the same.
    Random {
        /// How many.
        trials: usize,
    },
}

/// How [`sweep()`] goes about it.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// Which configurations are tried.
    pub search: Search,
    /// Runs of each configuration in the last rung, with as many seeds, from the base configuration's on. Earlier rungs
    /// make do with the first.
    pub seeds: u32,
    /// Successive halving; `None` trains every configuration at full length.
    pub halving: Option<Halving>,
    /// The metric by which configurations are compared.
    pub metric: MetricAt,
    /// Evaluate a uniform sample of that many users, the same for all; `None` for all users.
    pub users: Option<usize>,
    /// Go on with the sweep in the output.
    pub resume: bool,
}
