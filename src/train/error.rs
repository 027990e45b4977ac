//! What can go wrong in training.

use std::path::PathBuf;

use super::DivergedRow;
use crate::context::ByteSize;
use crate::dataset::DatasetError;
use crate::evaluate::EvaluateError;
use crate::model::ModelError;
use crate::storage::StorageError;

/// `rate` in three digits.
pub(super) fn short(rate: f32) -> f32 {
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
    /// The same in an update.
    #[error(
        "the update diverged in epoch {epoch} at learning rate {}: {row}; the model is as it was; lower the learning rate \
         (--learning-rate {}), or train anew", short(*learning_rate), short(*lower)
    )]
    DivergedUpdate {
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
    /// The dataset has the users, items and train interactions that the model was trained on.
    #[error(
        "{}: nothing has been appended to the train part of {} since; append to it first (peccary ingest --append)", model.display(),
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
    /// An earlier training to this output was interrupted.
    #[error(
        "{}: an interrupted training of this model left {held} here; run peccary train --resume {} to go on with it, or \
         give it up: remove this folder, or train with --restart", folder.display(), model.display()
    )]
    Leftover {
        /// Its folder.
        folder: PathBuf,
        /// The model that it is of.
        model: PathBuf,
        /// What it takes on the disk.
        held: ByteSize,
    },
    /// There is nothing to go on from.
    #[error("{}: nothing to resume: {why}", folder.display())]
    NothingToResume {
        /// Where it would be.
        folder: PathBuf,
        /// Why there is nothing, and what to do instead.
        why: &'static str,
    },
    /// The training was interrupted when its model was published already.
    #[error(
        "{}: this training is over: it is version {number} of the model, and what was left of its checkpoints has been \
         removed{}", model.display(), if *current {
            String::new()
        } else {
            format!("; run peccary rollback {} --to {number} to make it the current version", model.display())
        }
    )]
    Published {
        /// The model.
        model: PathBuf,
        /// The version that it has become.
        number: u32,
        /// Whether that is the current one.
        current: bool,
    },
    /// The interrupted training was another one.
    #[error(
        "{}: cannot resume, because something is not what it was: {what}; {remedy}, or give it up: remove \
         this folder, or train with the dataset, --output and --restart", folder.display()
    )]
    Changed {
        /// The folder of the interrupted training.
        folder: PathBuf,
        /// All that differs.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Another process is at it.
    #[error("{}: a training or an update of this model is running; wait for its end, or train to another output", folder.display())]
    Busy {
        /// Its folder.
        folder: PathBuf,
    },
    /// Something else has the name of the folder that checkpoints go to.
    #[error(
        "{}: checkpoints would go here, but this is something else; move it away, or choose another output", folder.display()
    )]
    NotPartial {
        /// What is there.
        folder: PathBuf,
    },
    /// No checkpoint of an interrupted training can be used.
    #[error("no checkpoint in {} is whole: {source}; begin anew with --restart", folder.display())]
    Checkpoint {
        /// Their folder.
        folder: PathBuf,
        /// What is wrong with one of them.
        source: StorageError,
    },
    /// Training ended early, and can be gone on with.
    #[error(
        "{source}; {at} are kept in {} ({held}): run peccary train --resume {} to go on from there, or remove that \
         folder, to which nothing else refers{lost}", folder.display(), model.display()
    )]
    Kept {
        /// Why it ended.
        source: Box<TrainError>,
        /// How far the checkpoint is.
        at: String,
        /// What of the run is not in it, if anything.
        lost: String,
        /// Where it is kept.
        folder: PathBuf,
        /// What that takes on the disk.
        held: ByteSize,
        /// The model to be.
        model: PathBuf,
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

impl TrainError {
    /// Whether the disk is full, or is known to become it.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Storage(error) | Self::Model(ModelError::Storage(error)) => error.is_full(),
            Self::Dataset(DatasetError::Storage(error)) => error.is_full(),
            _ => false,
        }
    }
}
