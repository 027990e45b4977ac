//! What can go wrong with a dataset.

use std::path::PathBuf;

use crate::context::ByteSize;
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
    /// Another process is changing the dataset.
    #[error(
        "{}: another append, compact or forget is changing this dataset; wait for its end, and run the command again",
        path.display()
    )]
    Busy {
        /// The dataset.
        path: PathBuf,
    },
    /// The dataset was replaced while it was being changed.
    #[error("{}: another dataset was put here meanwhile, and is untouched; run the command again", path.display())]
    Changed {
        /// The dataset.
        path: PathBuf,
    },
    /// A user to be forgotten is not there.
    #[error("{}: there is no user '{user}'{}; nothing was forgotten: correct the id, or leave it out", path.display(), near(similar))]
    UnknownUser {
        /// The dataset.
        path: PathBuf,
        /// The id that was given.
        user: String,
        /// Ids like it.
        similar: Vec<String>,
    },
    /// It never was in that state.
    #[error(
        "{}: it never had the fingerprint {fingerprint}; name a model that was trained on it, or on what it was before rows \
         were appended", path.display()
    )]
    NeverHad {
        /// The dataset.
        path: PathBuf,
        /// The fingerprint.
        fingerprint: String,
    },
    /// No new interactions came to train since it was in that state.
    #[error(
        "{}: no new interactions have come to train since it had the fingerprint {fingerprint}, so that there is nothing to hold \
         out; append to it first (peccary ingest --append), or name an older version of the model (MODEL@N)", path.display()
    )]
    NothingSince {
        /// The dataset.
        path: PathBuf,
        /// The fingerprint.
        fingerprint: String,
    },
    /// An append of an older build does not say which of its pairs were in train before.
    #[error(
        "{}: append {number} was made by an older build, which did not note which interactions had been in train before, so that \
         they cannot be held out; name a model that was trained since", path.display()
    )]
    NoRepeats {
        /// The dataset.
        path: PathBuf,
        /// The number of the append.
        number: u32,
    },
    /// Users were forgotten while a copy was made.
    #[error(
        "{}: users were forgotten in this dataset meanwhile, whom the copy may have; remove that, if it is there, and run the \
         command again", path.display()
    )]
    ForgottenMeanwhile {
        /// The dataset.
        path: PathBuf,
    },
    /// The dataset to be written is the one that it is made from.
    #[error("{}: is the dataset that it is to be made from; choose another name for the output", path.display())]
    OntoItself {
        /// The dataset.
        path: PathBuf,
    },
    /// What an interrupted append left holds rows.
    #[error(
        "{}: an interrupted append left rows here, which may be of users to be forgotten; finish it with --resume, or remove \
         this folder, and run the command again", folder.display()
    )]
    Leftover {
        /// Where they are.
        folder: PathBuf,
    },
    /// What is done to a dataset does not fit the memory budget.
    #[error("--memory {given} is too small for {what}: pass {needed} or more")]
    Memory {
        /// The budget.
        given: ByteSize,
        /// What is needed.
        needed: ByteSize,
        /// What it is needed for.
        what: String,
    },
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] crate::context::Interrupted),
}

fn near(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!(", but there is {}", similar.join(", ")) }
}
