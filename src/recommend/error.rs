//! What can go wrong with recommendations.

use std::path::PathBuf;

use crate::context::Interrupted;
use crate::rank::RankError;
use crate::storage::StorageError;

/// Recommendations could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecommendError {
    /// Items could not be ranked.
    #[error(transparent)]
    Rank(#[from] RankError),
    /// The output could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No such user.
    #[error("--user {id}: {} has no such user{}", dataset.display(), hint(similar))]
    UnknownUser {
        /// The id as given.
        id: String,
        /// The dataset.
        dataset: PathBuf,
        /// Ids like it.
        similar: Vec<String>,
    },
    /// No such item.
    #[error("--item {id}: {} has no such item{}", model.display(), hint(similar))]
    UnknownItem {
        /// The id as given.
        id: String,
        /// The model.
        model: PathBuf,
        /// Ids like it.
        similar: Vec<String>,
    },
    /// The user's factors were never trained.
    #[error(
        "--user {id}: has no train interactions, so that the model has learnt nothing of this user; \
         recommend popular items instead, or ingest a log with interactions of this user and train again"
    )]
    ColdUser {
        /// The id.
        id: String,
    },
    /// Factors that are not finite numbers.
    #[error(
        "{}: the factors of item '{item}', or of the item it is compared with, are not finite: training diverged; \
         train again with a lower learning rate or more regularization", model.display()
    )]
    NotANumber {
        /// Original id of the item.
        item: String,
        /// The model.
        model: PathBuf,
    },
    /// Nothing was asked for.
    #[error("--k 0: ask for at least one item")]
    NoItems,
    /// A stream that was given could not be written.
    #[error("cannot write recommendations: {0}")]
    Output(#[from] std::io::Error),
    /// Parquet could not be written.
    #[error("cannot write recommendations as Parquet: {0}; free some space, or choose --format csv or ndjson")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

fn hint(similar: &[String]) -> String {
    match similar {
        [] => "; ids are matched exactly as they stand in the log".to_string(),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}
