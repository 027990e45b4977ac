//! What can go wrong with a report.

use crate::attributes::AttributesError;
use crate::context::Interrupted;
use crate::dataset::DatasetError;
use crate::evaluate::EvaluateError;
use crate::model::ModelError;
use crate::recommend::RecommendError;
use crate::runlog::RunLogError;
use crate::storage::StorageError;

/// A report could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A model could not be used, or belongs to another dataset.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The dataset could not be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A model could not be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Users could not be given recommendations.
    #[error(transparent)]
    Recommend(#[from] RecommendError),
    /// The attributes of items could not be read.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
    /// The run log of a model could not be read.
    #[error(transparent)]
    RunLog(#[from] RunLogError),
    /// The page could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Factors that are not finite numbers.
    #[error(
        "{model}: the factors of item '{item}' are not finite: training diverged; train again with a lower learning rate \
         or more regularization"
    )]
    NotANumber {
        /// The model.
        model: String,
        /// Original id of the item.
        item: String,
    },
    /// The system gave no thread.
    #[error("cannot start a worker thread: {0}; end other programs, or pass fewer by --threads")]
    Threads(String),
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}
