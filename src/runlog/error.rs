//! What can go wrong with reading a run log.

use std::path::PathBuf;

use crate::storage::StorageError;

/// A run log could not be found or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunLogError {
    /// Its file could not be read, or the model's manifest.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is none.
    #[error(
        "{}: no run log: {reason}; name a model, or the output of a training that runs", path.display()
    )]
    None {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there instead.
        reason: &'static str,
    },
    /// The file does not begin like a run log, or has not got that far.
    #[error("{}: line 1: no header of a run log: {reason}; name the run.ndjson of a training", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with the line.
        reason: String,
    },
    /// A line that is whole cannot be understood.
    #[error(
        "{}: line {line}: {reason}; restore the file from a copy, or cut it off before this line", path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer Peccary wrote it.
    #[error("{}: run log version {got}, but this build reads up to {expected}; use a newer peccary", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The newest version that this build reads.
        expected: u32,
        /// The version found.
        got: u32,
    },
}
