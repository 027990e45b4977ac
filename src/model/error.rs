//! What can go wrong with a model.

use std::path::PathBuf;

use crate::dataset::DatasetError;
use crate::storage::StorageError;

/// A model could not be written, opened or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// One of its files could not be read or written, or is damaged.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The dataset could not be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] crate::context::Interrupted),
    /// Its files contradict each other.
    #[error("{}: inconsistent model: {reason}; train it again", path.display())]
    Inconsistent {
        /// The model.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The model was trained on another dataset.
    #[error(
        "{} was trained on another dataset ({trained_on}) than {} ({given}); \
         pass the dataset it was trained on, or train a model on this one", model.display(), dataset.display()
    )]
    Mismatch {
        /// The model.
        model: PathBuf,
        /// The dataset that was given.
        dataset: PathBuf,
        /// Fingerprint of the dataset that the model was trained on.
        trained_on: String,
        /// Fingerprint of the dataset that was given.
        given: String,
    },
}
