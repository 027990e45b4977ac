//! What can go wrong with a dataset.

use std::path::PathBuf;

use crate::storage::StorageError;

/// A dataset could not be written, opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// One of its files could not be read or written, or is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Its files contradict each other.
    #[error("{}: inconsistent dataset: {reason}; ingest the log again", path.display())]
    Inconsistent {
        /// The dataset.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// More users or items than a dense id can count.
    #[error("more than 4,294,967,295 {what}: ids are 32 bits wide; ingest with --min-user-count or --min-item-count")]
    TooMany {
        /// `users` or `items`.
        what: &'static str,
    },
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] crate::context::Interrupted),
}
