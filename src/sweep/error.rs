//! What can go wrong with a sweep.

use std::path::PathBuf;

use crate::context::Interrupted;
use crate::evaluate::EvaluateError;
use crate::model::ModelError;
use crate::storage::StorageError;
use crate::train::TrainError;

/// A sweep could not begin, or had to stop. What it had measured is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// The space of choices makes no sense: where, why, and what to write instead.
    #[error("{0}")]
    Space(String),
    /// An option that does not go with the others, or with the dataset.
    #[error("{0}")]
    Options(String),
    /// No configuration of the space can be trained.
    #[error("none of the {tried} configurations can be trained; of the first, {reason}")]
    NothingToTry {
        /// How many were looked at.
        tried: usize,
        /// What is wrong with the first.
        reason: String,
    },
    /// The output holds a sweep already.
    #[error("{}: holds a sweep already; pass --resume to go on with it, or choose another folder", folder.display())]
    Exists {
        /// The output.
        folder: PathBuf,
    },
    /// The output holds something else.
    #[error("{}: is no folder of a sweep and not empty; choose another", folder.display())]
    NotASweep {
        /// The output.
        folder: PathBuf,
    },
    /// There is nothing to go on from.
    #[error("{}: nothing to resume: there is no journal of a sweep; run the command without --resume", folder.display())]
    NothingToResume {
        /// The output.
        folder: PathBuf,
    },
    /// The sweep in the output is another one.
    #[error(
        "{}: cannot resume, because {what} is not that of the sweep here; change it back, or choose another folder for a \
         new sweep", folder.display()
    )]
    Changed {
        /// The output.
        folder: PathBuf,
        /// What is different.
        what: &'static str,
    },
    /// Another process is at it.
    #[error("{}: another sweep is at work here; wait for its end, or choose another folder", folder.display())]
    Busy {
        /// The output.
        folder: PathBuf,
    },
    /// The journal cannot be trusted.
    #[error(
        "{}: line {line} is damaged; remove that line to measure its run again, or choose another folder",
        path.display()
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The operation was stopped between two runs, or in one.
    #[error(
        "{source} by the run at hand. {done} of {total} runs are kept in {}: run the same command with --resume to go on",
        folder.display()
    )]
    Stopped {
        /// Runs that are done.
        done: usize,
        /// Runs that there are to do.
        total: usize,
        /// The output.
        folder: PathBuf,
        /// That it was stopped.
        source: Interrupted,
    },
    /// A model could not be trained, for a reason that is not its configuration's.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A model could not be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A model that was trained could not be read again.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
