//! The result of an append.

use std::time::Duration;

use serde::Serialize;

use crate::dataset::{Change, Manifest, Part, PartSummary};
use crate::ingest::summary::IngestSummary;

/// The result of an append.
#[derive(Clone, Debug, Serialize)]
pub struct AppendSummary {
    /// What was added.
    pub change: Change,
    /// Users in the dataset, forgotten ones included.
    pub users: u32,
    /// Items in the dataset.
    pub items: u32,
    /// Counts by part.
    pub parts: Vec<(Part, PartSummary)>,
    /// Identifies the content from now on.
    pub fingerprint: String,
    /// What became of the rows that were read.
    pub read: IngestSummary,
    /// Wall-clock time.
    pub seconds: f64,
}

impl AppendSummary {
    /// Of the manifest that ends with the append; `None` if it does not.
    pub(super) fn new(manifest: Manifest, read: IngestSummary, seconds: Duration) -> Option<Self> {
        let change = manifest.changes.last()?.clone();
        let Manifest { users, items, parts, fingerprint, .. } = manifest;
        Some(Self { change, users, items, parts, fingerprint, read, seconds: seconds.as_secs_f64() })
    }
}
