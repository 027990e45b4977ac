//! The manifest of a dataset: counts, columns, options, sources, and a checksum of every file.

use serde::{Deserialize, Serialize};

use super::Part;
use crate::storage::FileRecord;

/// Which optional columns the interactions have, beside user and item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// Milliseconds since 1970-01-01 UTC of the interaction's last occurrence.
    pub time: bool,
    /// Sum of the weights of the occurrences.
    pub weight: bool,
    /// How often the interaction occurred, where some occurred more than once.
    pub count: bool,
    /// Index into the manifest's `events` of the last occurrence.
    pub event: bool,
}

/// A file or pipe that was ingested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its path as given, or `-`.
    pub name: String,
    /// Bytes read (before decompression).
    pub bytes: u64,
    /// Rows read, good and bad.
    pub rows: u64,
}

/// Counts of one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSummary {
    /// Interactions: distinct (user, item) pairs.
    pub interactions: u64,
    /// Users with at least one interaction here.
    pub users: u32,
    /// Items with at least one interaction here.
    pub items: u32,
    /// First and last time, in milliseconds since 1970-01-01 UTC, where there is a time column.
    pub time_range: Option<(i64, i64)>,
}

/// Counts of logged exposures: what was shown and never taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposureSummary {
    /// Exposures: distinct (user, item) pairs.
    pub exposures: u64,
    /// Users with at least one.
    pub users: u32,
    /// Items with at least one.
    pub items: u32,
}

/// Columns of context of the train interactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextSummary {
    /// In the order in which they were asked for.
    pub columns: Vec<ContextColumn>,
    /// Distinct combinations of the values of all columns.
    pub combinations: u32,
}

/// A column of context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextColumn {
    /// Its name in the log, or its position there.
    pub name: String,
    /// Distinct values.
    pub values: u32,
}

/// What `manifest.json` of a dataset says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The build that wrote it.
    pub peccary: String,
    /// Identifies the content: equal for equal interactions and ids, whatever the sources were called.
    pub fingerprint: String,
    /// Users over all parts.
    pub users: u32,
    /// Items over all parts.
    pub items: u32,
    /// Counts by part; parts that the dataset does not have are absent.
    pub parts: Vec<(Part, PartSummary)>,
    /// Logged exposures, where they were ingested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposures: Option<ExposureSummary>,
    /// Columns of context, where they were ingested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<ContextSummary>,
    /// The optional columns.
    pub columns: Columns,
    /// Names of event types, by their index.
    pub events: Vec<String>,
    /// The options of `ingest` as they were used.
    pub options: serde_json::Value,
    /// What ingest counted: rows read, rejected, filtered, merged.
    pub ingest: serde_json::Value,
    /// What was ingested.
    pub sources: Vec<Source>,
    /// Seed of the id hash that orders the dictionaries.
    pub hash_seed: u64,
    /// Every other file of the dataset.
    pub files: Vec<FileRecord>,
}
