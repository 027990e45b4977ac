//! What can go wrong with an explanation.

use std::path::PathBuf;

use crate::context::{ByteSize, Interrupted};
use crate::model::ModelError;

/// The negatives of a user could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The model could not be used, or belongs to another dataset.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model does not say how it was trained, or says it in words that this build does not know.
    #[error(
        "{}: its manifest has no configuration that this version understands ({reason}); explain it with the version \
         that trained it ({version}), or train again", model.display()
    )]
    Config {
        /// The model.
        model: PathBuf,
        /// Why not.
        reason: String,
        /// The version of Peccary in its manifest.
        version: String,
    },
    /// No such user.
    #[error("--user {id}: {} has no such user{}", dataset.display(), hint(similar, "user", sample))]
    UnknownUser {
        /// The id as given.
        id: String,
        /// The dataset.
        dataset: PathBuf,
        /// Ids like it.
        similar: Vec<String>,
        /// Some id that there is.
        sample: String,
    },
    /// No such item.
    #[error("--item {id}: {} has no such item{}", dataset.display(), hint(similar, "item", sample))]
    UnknownItem {
        /// The id as given.
        id: String,
        /// The dataset.
        dataset: PathBuf,
        /// Ids like it.
        similar: Vec<String>,
        /// Some id that there is.
        sample: String,
    },
    /// The user has nothing in train.
    #[error(
        "--user {id}: has no train interactions, so that no negatives were drawn for this user; choose another, or \
         ingest a log with interactions of this user and train again"
    )]
    ColdUser {
        /// The id.
        id: String,
    },
    /// The item is no positive of the user.
    #[error(
        "--item {item}: is no train interaction of user {user}, so that no negatives were drawn for it; leave --item out \
         to see some that are, such as {sample}"
    )]
    NotTaken {
        /// The item.
        item: String,
        /// The user.
        user: String,
        /// An item that is.
        sample: String,
    },
    /// A moment that no run has.
    #[error("--progress {given}: must be a share of the run, from 0 (its start) to 1 (its end)")]
    Progress {
        /// As given.
        given: f64,
    },
    /// No positive was asked for.
    #[error("--positives 0: ask for at least one")]
    NoPositives,
    /// What the samplers look up does not fit the budget.
    #[error("explaining this model needs at least {needed} ({} bytes), but --memory is {given}; raise it", needed.0)]
    Memory {
        /// The least that suffices.
        needed: ByteSize,
        /// The budget.
        given: ByteSize,
    },
    /// Factors that are not finite numbers.
    #[error(
        "{}: the factors of user '{user}', or of an item, are not finite: training diverged; train again with a lower \
         learning rate or more regularization", model.display()
    )]
    NotANumber {
        /// The user.
        user: String,
        /// The model.
        model: PathBuf,
    },
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn hint(similar: &[String], what: &str, sample: &str) -> String {
    match similar {
        [] => format!(
            "; ids are matched exactly as they stand in the log, where a {what} is such as {sample} (peccary inspect says \
             what log that was)"
        ),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}
