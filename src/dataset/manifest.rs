//! The manifest of a dataset: counts, columns, options, sources, and a checksum of every file.

use serde::{Deserialize, Serialize};

use super::Part;
use super::pairs::Listed;
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
    /// The held-out part that it was given as. None of logs, and of what was ingested by builds that did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
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

/// Where the files are of a dataset that was changed since it was ingested; paths are relative to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Changes of the files so far: the number of the newest folder in `segments`.
    pub generation: u32,
    /// Files of the user dictionary, in the order of their ids.
    pub users: Vec<String>,
    /// Files of the item dictionary, in the order of their ids.
    pub items: Vec<String>,
    /// Train interactions by item.
    pub popularity: String,
    /// Combinations of context, in a dataset with context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<String>,
    /// The index of chunks.
    pub chunks: String,
    /// How many chunks each stream has.
    pub number_of_chunks: u32,
}

/// What a change of the content did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// Rows were appended.
    Append,
    /// Users were forgotten.
    Forget,
    /// A dataset was made of another one, with what had been appended to that as its test part.
    HoldOut,
}

/// A change of the content since the dataset was ingested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Counts from 1.
    pub number: u32,
    /// What was done.
    pub kind: ChangeKind,
    /// Fingerprint before it.
    pub before: String,
    /// Fingerprint after it.
    pub after: String,
    /// New users, or users forgotten.
    pub users: u32,
    /// New items.
    pub items: u32,
    /// The lowest dense id that was forgotten: models with fewer rows of users have none of those who were. Forgets of
    /// before do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowest: Option<u32>,
    /// Interactions (distinct pairs) that were not there before, or that are gone, or that are held out.
    pub interactions: u64,
    /// Those of the appended ones that went to held-out parts; older appends do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<u64>,
    /// Interactions that were there and had more rows merged into them.
    #[serde(default)]
    pub merged: u64,
    /// Train interactions that rows were added to, new or not: those of `pairs`.
    #[serde(default)]
    pub trained: u64,
    /// Held-out parts that were there before rows were appended to train: what was learnt from those rows tells nothing of
    /// interactions of these parts that are older.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<Part>,
    /// The file that lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<String>,
    /// How many of those were in train before.
    #[serde(default)]
    pub repeats: u64,
    /// The file that lists them; older appends do not say which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<String>,
    /// Fingerprints that the dataset had since which this one was made from: who learnt from it then has learnt what is held
    /// out here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
    /// Identifies the rows that were appended: the fingerprint of a dataset of them alone. Older appends do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What was appended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The options of the append as they were used.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub options: serde_json::Value,
    /// What reading counted: rows read, rejected, filtered, merged.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub ingest: serde_json::Value,
}

impl Change {
    /// A change of this kind that changed nothing.
    pub(crate) fn new(number: u32, kind: ChangeKind, before: &str, after: &str) -> Self {
        Self {
            number,
            kind,
            before: before.to_string(),
            after: after.to_string(),
            users: 0,
            items: 0,
            lowest: None,
            interactions: 0,
            held: None,
            merged: 0,
            trained: 0,
            held_out: Vec::new(),
            pairs: None,
            repeats: 0,
            repeated: None,
            withheld: Vec::new(),
            content: None,
            sources: Vec::new(),
            options: serde_json::Value::Null,
            ingest: serde_json::Value::Null,
        }
    }

    /// The file that lists this of what was appended.
    pub(super) fn listed(&self, what: Listed) -> Option<&str> {
        match what {
            Listed::All => self.pairs.as_deref(),
            Listed::Repeated => self.repeated.as_deref(),
        }
    }
}

/// What `manifest.json` of a dataset says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The build that wrote it.
    pub peccary: String,
    /// Identifies the content: of freshly ingested datasets equal for equal interactions and ids, whatever the sources were
    /// called; every change of the content makes another one, and compacting none.
    pub fingerprint: String,
    /// Dense user ids, those of forgotten users included.
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
    /// Where the files are, where the dataset was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// What was appended and forgotten since, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Every other file of the dataset.
    pub files: Vec<FileRecord>,
}
