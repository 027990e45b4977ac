//! What can go wrong with an evaluation.

use std::path::PathBuf;

use crate::context::Interrupted;
use crate::dataset::Part;
use crate::rank::RankError;

/// A model could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// Items could not be ranked.
    #[error(transparent)]
    Rank(#[from] RankError),
    /// The dataset was ingested without that part.
    #[error(
        "{}: there is no {} part, only {present}; ingest the log again with {}",
        dataset.display(), part.name(), remedy(*part)
    )]
    NoPart {
        /// The dataset.
        dataset: PathBuf,
        /// The part that is absent.
        part: Part,
        /// The parts that there are.
        present: String,
    },
    /// A cut-off that no ranking can have.
    #[error("--k {k}: must be between 1 and {most}, the number of {what}")]
    CutOff {
        /// The cut-off.
        k: usize,
        /// The greatest possible.
        most: usize,
        /// What there are that many of.
        what: &'static str,
    },
    /// No cut-off was given.
    #[error("no cut-off to evaluate at; pass some, such as --k 10,20")]
    NoCutOff,
    /// A metric that is not measured.
    #[error("--metrics {given}: is not measured here; {}{}choose from {there}", near.as_deref().unwrap_or_default(),
        if near.is_some() { " " } else { "" })]
    NoMetric {
        /// The one that was asked for.
        given: String,
        /// What may be meant.
        near: Option<String>,
        /// Those that there are.
        there: String,
    },
    /// The sampled protocol without negatives.
    #[error("--protocol sampled:0: rank among at least one negative, such as sampled:99")]
    NoNegatives,
    /// Nothing to evaluate on.
    #[error(
        "{}: no user whom the model knows has interactions both in train and in {}, so there is nothing to evaluate ({cold} \
         users have some in {} only, {later} came after the model; --include-cold evaluates those)",
        dataset.display(), part.name(), part.name()
    )]
    NoUsers {
        /// The dataset.
        dataset: PathBuf,
        /// The part.
        part: Part,
        /// Users left out because train does not have them.
        cold: u64,
        /// Users left out because the model does not know them.
        later: u64,
    },
    /// A slicing that the dataset does not allow.
    #[error("--slices {by}: {reason}")]
    Slice {
        /// By what to slice.
        by: String,
        /// Why it cannot be, and what to do about it.
        reason: String,
    },
    /// A baseline that the dataset does not allow.
    #[error("the baseline {name}: {reason}")]
    Baseline {
        /// Its name.
        name: &'static str,
        /// Why it cannot be, and what to do about it.
        reason: String,
    },
    /// A list of negatives that cannot be read.
    #[error("{}, line {line}: {reason}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 for the file as a whole.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn remedy(part: Part) -> &'static str {
    match part {
        Part::Valid => "--valid-split random:0.1 (or leave-one-out, time:0.1, or --valid FILE)",
        _ => "--split random:0.1 (or leave-one-out, time:0.1, or --test FILE)",
    }
}
