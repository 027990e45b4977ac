//! What a dataset is on disk: manifest, interaction shards, roaring positives, id dictionaries, popularity.

mod block;
mod change;
mod chunks;
mod compact;
mod contexts;
mod dictionary;
mod error;
mod exposures;
mod forget;
mod hold_out;
mod interactions;
mod live;
mod manifest;
mod open;
mod pairs;
mod popularity;
mod positives;
mod rewrite;
mod shard;
mod statistics;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub(crate) use block::{Event, UserBlock};
pub(crate) use change::{APPEND, DatasetLock, is_dataset, read_dataset_manifest};
pub(crate) use compact::check_memory;
pub use compact::{CompactSummary, compact};
pub(crate) use contexts::ContextTable;
pub use contexts::Contexts;
pub use dictionary::Dictionary;
pub(crate) use dictionary::{DictionaryWriter, IdGatherer, id_hash};
pub use error::DatasetError;
pub use exposures::Exposures;
pub use forget::{ForgetSummary, forget};
pub use hold_out::{HoldOutSummary, hold_out};
pub use interactions::{Chunk, Interactions, UserItems};
pub use manifest::{
    Change, ChangeKind, Columns, ContextColumn, ContextSummary, ExposureSummary, Layout, Manifest, PartSummary, Source,
};
pub use open::Dataset;
pub use pairs::Appended;
pub(crate) use pairs::{Listed, PairsWriter};
pub use positives::Positives;
pub(crate) use rewrite::{Outcome, Rewrite, Shape};
pub use statistics::{DatasetStatistics, Distribution};
pub(crate) use writer::{DatasetWriter, Description};

use serde::{Deserialize, Serialize};

/// The newest version of the dataset format that this build reads, and that which it writes once a dataset is changed.
pub const FORMAT_VERSION: u32 = 2;

/// The version of a dataset as it is ingested.
const INGESTED_VERSION: u32 = 1;

/// What the manifest calls it.
pub(crate) const FORMAT: &str = "peccary-dataset";

/// Names of files, in the dataset or in a folder of `segments`.
const USERS: &str = "users.dict";
const ITEMS: &str = "items.dict";
const POPULARITY: &str = "popularity.pec";

/// A part of a dataset: what is trained on, or held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What models learn from.
    Train,
    /// Held out to choose settings and the moment to stop.
    Valid,
    /// Held out to report on.
    Test,
}

impl Part {
    /// All parts, in the order in which they are stored.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// The part's name, which is also its folder's.
    pub fn name(self) -> &'static str {
        ["train", "valid", "test"][self as usize]
    }
}
