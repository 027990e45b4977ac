//! What can go wrong when a synthetic log is described or written.

use std::io;
use std::path::PathBuf;

use crate::context::{ByteSize, Interrupted};
use crate::storage::StorageError;

/// A synthetic log that cannot be made, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// A number of the configuration is out of its range.
    #[error("{option} is {value}: {remedy}")]
    OutOfRange {
        /// The option, as the command line spells it.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        remedy: &'static str,
    },
    /// The users cannot hold as many different items as asked for.
    #[error(
        "{interactions} interactions are more than {users} users can have with {items} items ({most} at most): lower \
         --interactions, raise --users or --items, or allow repeated interactions with --repeats"
    )]
    TooMany {
        /// Interactions asked for.
        interactions: u64,
        /// Users asked for.
        users: u64,
        /// Items asked for.
        items: u64,
        /// The most that these users and items allow.
        most: u64,
    },
    /// The item tables would not fit the memory budget.
    #[error(
        "the tables of {items} items need {needed}, more than the budget of {budget}: raise --memory or lower --items"
    )]
    Memory {
        /// Items asked for.
        items: u64,
        /// Bytes the tables need.
        needed: ByteSize,
        /// Bytes granted.
        budget: ByteSize,
    },
    /// An id that the configuration does not produce.
    #[error("'{id}' is no {what} of this log: {what}s are called {first} to {last}")]
    UnknownId {
        /// "user" or "item".
        what: &'static str,
        /// The id given.
        id: String,
        /// The first id there is.
        first: String,
        /// The last id there is.
        last: String,
    },
    /// Parquet compresses its pages itself.
    #[error("{} would be compressed twice: Parquet compresses its own pages, name the file .parquet", path.display())]
    CompressedParquet {
        /// The file.
        path: PathBuf,
    },
    /// The file is there already or could not be written; nothing of it is left behind.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The output stream refused the rows.
    #[error("cannot write the rows to the output")]
    Output(#[source] io::Error),
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}
