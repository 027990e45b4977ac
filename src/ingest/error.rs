//! What can go wrong when a log becomes a dataset, each with its remedy.

use std::path::PathBuf;

use super::read::ReadError;
use crate::context::{ByteSize, Interrupted};
use crate::dataset::DatasetError;
use crate::storage::StorageError;

/// A log could not be ingested; nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// An input could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file could not be written, or read again.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The dataset could not be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Options that contradict each other or the input.
    #[error("{0}")]
    Options(String),
    /// The first row of the log that cannot be used.
    #[error("{row}; correct the row, or pass --on-error skip to set bad rows aside")]
    BadRow {
        /// Source, place and reason.
        row: String,
    },
    /// A quote that swallows the rest of the log; setting it aside as a bad row would set all of that aside.
    #[error("{row}; close the quote, or pass --no-quotes where quotes are ordinary characters")]
    OpenQuote {
        /// Source, place and reason.
        row: String,
    },
    /// The inputs hold no rows at all.
    #[error("the input is empty: not a single row in {}; check that the path names the log", listed(sources))]
    Empty {
        /// The files or pipes that were read.
        sources: Vec<String>,
    },
    /// Every row was dropped.
    #[error(
        "no rows are left: {read} were read, {rejected} of them rejected, {by_event} removed by --keep-events, \
         {by_weight} by --min-weight, {exposed} are exposures, and {by_count} of the remaining interactions by --min-user-count and \
         --min-item-count; relax what removed most"
    )]
    NoRows {
        /// Rows read.
        read: u64,
        /// Rows that could not be used.
        rejected: u64,
        /// Rows removed by `--keep-events`.
        by_event: u64,
        /// Rows removed by `--min-weight`.
        by_weight: u64,
        /// Rows that are exposures and no positives.
        exposed: u64,
        /// Merged interactions removed by the k-core.
        by_count: u64,
    },
    /// All interactions fell into held-out parts.
    #[error("no interactions are left to train on: all {held_out} are in valid or test; change {flag}")]
    NothingToTrain {
        /// Interactions in valid and test.
        held_out: u64,
        /// The flag that holds out too much.
        flag: &'static str,
    },
    /// There are too many combinations of context.
    #[error(
        "--context {columns}: more than {number} combinations of values, the next is {example}; {remedy}leave out the column with \
         the most values, such as sessions, or make it coarser in the log"
    )]
    Contexts {
        /// The columns.
        columns: String,
        /// Combinations that there is room for.
        number: usize,
        /// One more.
        example: String,
        /// What else helps.
        remedy: &'static str,
    },
    /// The memory budget is too small for any log.
    #[error("--memory {given} is too small: ingest needs at least {smallest}")]
    Budget {
        /// The budget.
        given: ByteSize,
        /// The smallest that is accepted.
        smallest: ByteSize,
    },
    /// What is held for each item does not fit the budget.
    #[error(
        "{items} distinct items need {needed} of memory, more than a third of the budget: pass --memory {remedy} or more"
    )]
    Items {
        /// Distinct items.
        items: u64,
        /// What their table and counts take.
        needed: ByteSize,
        /// A budget that suffices.
        remedy: ByteSize,
    },
    /// What one user comes to does not fit the budget.
    #[error("a user has more than {most} different items, which do not fit the budget: pass a larger --memory")]
    ActiveUser {
        /// Items that would fit, counted once for each part by time that they have rows in.
        most: usize,
    },
    /// Two ids of one kind have the same hash.
    #[error(
        "the {what} ids '{first}' and '{second}' have the same 64-bit hash; pass another --hash-seed, such as {remedy}"
    )]
    Collision {
        /// `user` or `item`.
        what: &'static str,
        /// One id.
        first: String,
        /// The other.
        second: String,
        /// Another seed.
        remedy: u64,
    },
    /// An id of the log has the hash of another one in the dataset.
    #[error(
        "the {what} ids '{first}', in the dataset, and '{second}' have the same 64-bit hash, so that the log cannot be appended:          ingest all logs anew with another --hash-seed"
    )]
    Collides {
        /// `user` or `item`.
        what: &'static str,
        /// The id in the dataset.
        first: String,
        /// That of the log.
        second: String,
    },
    /// More event types than an index of one byte can tell apart.
    #[error(
        "more than 255 types of events, such as '{example}'; choose some by --keep-events, or check --event-column"
    )]
    Events {
        /// The 256th type.
        example: String,
    },
    /// The sources do not have the same columns.
    #[error(
        "{name} has {has} {role} column, unlike {other}; give all inputs the same columns, where one is \
         called otherwise by --{role}-column (a number where there is no header), or ingest them apart"
    )]
    Columns {
        /// The source that differs.
        name: String,
        /// `a` or `no`.
        has: &'static str,
        /// Which column.
        role: &'static str,
        /// The first source.
        other: String,
    },
    /// An earlier ingest to this output was interrupted.
    #[error(
        "{}: an interrupted ingest to this output left {held} here; run the same command with --resume to go on, or with \
         --restart to remove this and begin anew", folder.display()
    )]
    Leftover {
        /// Its folder.
        folder: PathBuf,
        /// What it takes on the disk.
        held: ByteSize,
    },
    /// There is nothing to go on from.
    #[error("{}: nothing to resume: {why}; run the command without --resume", folder.display())]
    NothingToResume {
        /// Where it would be.
        folder: PathBuf,
        /// Why there is nothing.
        why: &'static str,
    },
    /// The interrupted ingest was of something else.
    #[error(
        "{}: cannot resume, because something changed since: {what}; change it back, or pass --restart to begin anew",
        folder.display()
    )]
    Changed {
        /// The folder of the interrupted ingest.
        folder: PathBuf,
        /// All that changed.
        what: String,
    },
    /// Another process is at it.
    #[error("{}: another ingest to this output is running; wait for its end, or choose another output", folder.display())]
    Busy {
        /// Its folder.
        folder: PathBuf,
    },
    /// Something else has the name of the folder that ingest works in.
    #[error("{}: ingest would work here, but this is not its own; move it away, or choose another output", folder.display())]
    NotPartial {
        /// What is there.
        folder: PathBuf,
    },
    /// The journal of an interrupted ingest cannot be used.
    #[error("{}: damaged: {reason}; pass --restart to begin anew", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operation ended early, and what it had done is kept.
    #[error(
        "{source}; what was read is kept in {} ({held}): run the same command with --resume to go on from there, or \
         remove that folder, to which nothing else refers", folder.display()
    )]
    Kept {
        /// Why it ended.
        source: Box<IngestError>,
        /// Where it is kept.
        folder: PathBuf,
        /// What that takes on the disk.
        held: ByteSize,
    },
}

/// The first of the names.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

impl IngestError {
    /// Whether the same inputs and options can only fail again, so that nothing is worth keeping.
    pub(super) fn is_final(&self) -> bool {
        use IngestError::*;
        match self {
            OpenQuote { .. } | Empty { .. } | NoRows { .. } | NothingToTrain { .. } | Collision { .. } => true,
            Events { .. } | Columns { .. } | Options(_) => true,
            Read(error) => !matches!(error, ReadError::Io { .. } | ReadError::Unreadable { .. }),
            _ => false,
        }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        use IngestError::*;
        match self {
            Storage(error) | Dataset(DatasetError::Storage(error)) => error.is_full(),
            _ => false,
        }
    }

    /// Whether `--resume` can go on after it, with more memory, space or patience, or skipping bad rows.
    pub(super) fn is_passing(&self) -> bool {
        use IngestError::*;
        match self {
            Interrupted(_) | Items { .. } | ActiveUser { .. } | BadRow { .. } | Read(_) => true,
            Storage(error) | Dataset(DatasetError::Storage(error)) => matches!(error, StorageError::Io { .. }),
            _ => false,
        }
    }
}
