//! What can go wrong in training.

use std::path::PathBuf;

use super::DivergedRow;
use crate::context::ByteSize;
use crate::dataset::DatasetError;
use crate::evaluate::EvaluateError;
use crate::model::ModelError;
use crate::storage::StorageError;

/// `rate` in three digits.
fn short(rate: f32) -> f32 {
    format!("{rate:.2e}").parse().unwrap_or(rate)
}

/// Training could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A value of the configuration makes no sense.
    #[error("{key} = {value}: it must {must}")]
    Config {
        /// The key, as in the TOML file.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        must: String,
    },
    /// The text of a configuration cannot be read: where, why, and the nearest right key or value.
    #[error("{0}")]
    Toml(String),
    /// There is nothing to learn from.
    #[error("the dataset has {0}; ingest a log with more items, and at least one interaction in train")]
    NothingToLearn(String),
    /// Not even the smallest windows fit the budget, with all tables in files.
    #[error(
        "training needs at least {smallest} ({} bytes), but --memory is {budget}; raise --memory, or lower dimensions, \
         negatives or --threads",
        smallest.0
    )]
    Memory {
        /// The smallest budget that would do, exactly.
        smallest: ByteSize,
        /// The budget.
        budget: ByteSize,
    },
    /// The loss is no longer a number, or rows explode.
    #[error(
        "diverged in epoch {epoch} at learning rate {}: {row}; lower the learning rate (--learning-rate {}), take fewer \
         negatives, raise l2, clip gradients (--clip-gradient), or begin with a warm-up", short(*learning_rate), short(*lower)
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// The learning rate at the time.
        learning_rate: f32,
        /// The worst row.
        row: DivergedRow,
        /// A learning rate to try instead.
        lower: f32,
    },
    /// The dataset has nothing to validate on.
    #[error(
        "{}: {reason}; ingest the log again with --valid-split random:0.1 (or leave-one-out, time:0.1, or --valid FILE), \
         or leave [validation] out", dataset.display()
    )]
    NoValidation {
        /// The dataset.
        dataset: PathBuf,
        /// What it lacks.
        reason: &'static str,
    },
    /// The metric could not be measured.
    #[error(transparent)]
    Validation(EvaluateError),
    /// The audit could not be written as Parquet.
    #[error("{}: cannot write the audit as Parquet: {source}; free some space, or leave --audit out", path.display())]
    Audit {
        /// The file.
        path: std::path::PathBuf,
        /// What went wrong.
        source: parquet::errors::ParquetError,
    },
    /// The dataset is not one that the model's has become.
    #[error(
        "{} was trained on another dataset ({trained_on}) than {} ({given}) or what that was made from by appending; update \
         with the dataset that it was trained on, appended to, or train a model on this one", model.display(), dataset.display()
    )]
    NoDescendant {
        /// The model.
        model: PathBuf,
        /// The dataset that was given.
        dataset: PathBuf,
        /// Fingerprint of the dataset that the model was trained on.
        trained_on: String,
        /// Fingerprint of the dataset that was given.
        given: String,
    },
    /// The dataset is as the model was trained on it.
    #[error(
        "{}: nothing has been appended to {} since; append to it first (peccary ingest --append)", model.display(),
        dataset.display()
    )]
    NothingNew {
        /// The model.
        model: PathBuf,
        /// The dataset.
        dataset: PathBuf,
    },
    /// The model does not say how it was trained, or says it in words that this build does not know.
    #[error(
        "{}: its manifest has no configuration that this version understands ({reason}); update it with the version that \
         trained it ({version}), or train again", model.display()
    )]
    OtherConfig {
        /// The model.
        model: PathBuf,
        /// Why not.
        reason: String,
        /// The version of Peccary in its manifest.
        version: String,
    },
    /// A thread ended without finishing its work.
    #[error("a training thread panicked; nothing was written. Please report this as a bug")]
    Panicked,
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] crate::context::Interrupted),
    /// The dataset could not be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The model could not be written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
