//! What a dataset is on disk: manifest, interaction shards, roaring positives, id dictionaries, popularity.

mod block;
mod contexts;
mod dictionary;
mod error;
mod exposures;
mod interactions;
mod manifest;
mod open;
mod popularity;
mod positives;
mod shard;
mod statistics;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use block::{Event, UserBlock};
pub(crate) use contexts::ContextTable;
pub use contexts::Contexts;
pub use dictionary::Dictionary;
pub(crate) use dictionary::{DictionaryWriter, id_hash};
pub use error::DatasetError;
pub use exposures::Exposures;
pub use interactions::{Chunk, Interactions, UserItems};
pub use manifest::{Columns, ContextColumn, ContextSummary, ExposureSummary, Manifest, PartSummary, Source};
pub use open::Dataset;
pub use positives::Positives;
pub use statistics::{DatasetStatistics, Distribution};
pub(crate) use writer::{DatasetWriter, Description};

use serde::{Deserialize, Serialize};

/// Version of the dataset format that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

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
