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
    /// The model has no such version.
    #[error("{}: has no version {number}; it has {}", model.display(), list(there))]
    NoVersion {
        /// The model.
        model: PathBuf,
        /// The version that was asked for.
        number: u32,
        /// Those that there are.
        there: Vec<u32>,
    },
    /// There is nothing older than the current version.
    #[error(
        "{}: version {current} is the current one, and no older one is left; it has {}; choose one by --to, or train",
        model.display(), list(there)
    )]
    NothingOlder {
        /// The model.
        model: PathBuf,
        /// The current version.
        current: u32,
        /// Those that there are.
        there: Vec<u32>,
    },
    /// Nothing would be left.
    #[error("--keep 0: keep at least one version; to remove a model altogether, remove its folder")]
    KeepNone,
    /// The model was trained on another dataset.
    #[error(
        "{} (version {version}) was trained on another dataset ({trained_on}) than {} ({given}), which was not made from it by \
         appending or forgetting; {}", model.display(), dataset.display(), remedy(*held_out)
    )]
    Mismatch {
        /// The model.
        model: PathBuf,
        /// Its version.
        version: u32,
        /// The dataset that was given.
        dataset: PathBuf,
        /// Fingerprint of the dataset that the model was trained on.
        trained_on: String,
        /// Fingerprint of the dataset that was given.
        given: String,
        /// Whether that was made by holding out.
        held_out: bool,
    },
    /// The model has learnt what the dataset holds out.
    #[error(
        "{} (version {version}) has learnt from interactions that {} holds out to test with; use a version of before, MODEL@N \
         (peccary versions {} lists them)", model.display(), dataset.display(), model.display()
    )]
    LearntTest {
        /// The model.
        model: PathBuf,
        /// Its version.
        version: u32,
        /// The dataset.
        dataset: PathBuf,
    },
    /// The dataset holds out what came after the model was trained, and is not what it was trained on.
    #[error(
        "{} (version {version}) was trained before {} was made of its dataset by peccary hold-out, to evaluate, compare and report \
         it there; for all else pass the dataset that this one was made from, or train a model on this one",
        model.display(), dataset.display()
    )]
    HeldOut {
        /// The model.
        model: PathBuf,
        /// Its version.
        version: u32,
        /// The dataset.
        dataset: PathBuf,
    },
    /// The dataset has changed since the model was trained.
    #[error(
        "{} (version {version}) was trained before rows were appended to {} or users forgotten; use a version that was trained \
         since (peccary versions), or make one: peccary update {} {}",
        model.display(), dataset.display(), model.display(), dataset.display()
    )]
    Changed {
        /// The model.
        model: PathBuf,
        /// Its version.
        version: u32,
        /// The dataset.
        dataset: PathBuf,
    },
}

fn remedy(held_out: bool) -> &'static str {
    match held_out {
        false => "pass the dataset it was trained on, or train a model on this one",
        true => {
            "if it has learnt since from the dataset that this one was made from, by peccary hold-out, use a version of before, \
             MODEL@N; else pass the dataset it was trained on"
        }
    }
}

fn list(there: &[u32]) -> String {
    match there {
        [] => "none".to_string(),
        numbers => numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    }
}
