//! What ingest counted.

use serde::{Deserialize, Serialize};

use super::error::IngestError;
use crate::dataset::{ContextSummary, ExposureSummary, Part, PartSummary};

/// Moments at which parts were cut, in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Rows from here on are test.
    pub test: Option<i64>,
    /// Rows from here on, and before test, are valid.
    pub valid: Option<i64>,
}

/// What became of the rows. It depends on the log and the options only, and is part of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestCounts {
    /// Rows read, good and bad.
    pub rows_read: u64,
    /// Rows that could not be used.
    pub rejected: u64,
    /// The same by reason, in the order of the reasons' names.
    pub rejected_by_reason: std::collections::BTreeMap<String, u64>,
    /// Rows dropped by `--keep-events`.
    pub filtered_by_event: u64,
    /// Rows dropped by `--min-weight`.
    pub filtered_by_weight: u64,
    /// Rows that are exposures, shown and not taken; what became of them is in the dataset's counts.
    #[serde(default)]
    pub exposure_rows: u64,
    /// Rows merged into another row of the same user and item.
    pub merged: u64,
    /// Interactions (distinct pairs) dropped by `--min-user-count` and `--min-item-count`.
    pub filtered_by_count: u64,
    /// Users dropped by them.
    pub users_dropped: u64,
    /// Items dropped by them.
    pub items_dropped: u64,
    /// Users with too few interactions to leave one out; all of theirs are train.
    pub users_not_split: u64,
    /// Moments at which parts were cut.
    pub thresholds: Thresholds,
}

impl IngestCounts {
    /// The error when no row is left.
    pub(super) fn no_rows(&self) -> IngestError {
        IngestError::NoRows {
            read: self.rows_read,
            rejected: self.rejected,
            by_event: self.filtered_by_event,
            by_weight: self.filtered_by_weight,
            exposed: self.exposure_rows,
            by_count: self.filtered_by_count,
        }
    }
}

/// The result of an ingest.
#[derive(Clone, Debug, Serialize)]
pub struct IngestSummary {
    /// What became of the rows.
    #[serde(flatten)]
    pub counts: IngestCounts,
    /// Users in the dataset.
    pub users: u32,
    /// Items in the dataset.
    pub items: u32,
    /// Counts by part.
    pub parts: Vec<(Part, PartSummary)>,
    /// Counts of exposures, where some rows are.
    pub exposures: Option<ExposureSummary>,
    /// Columns of context, where some are kept.
    pub contexts: Option<ContextSummary>,
    /// Identifies the content.
    pub fingerprint: String,
    /// Where the rejected rows are, if there are any.
    pub rejects: Option<std::path::PathBuf>,
    /// Wall-clock time.
    pub seconds: f64,
    /// The part of it that went by until everything was read and scattered.
    pub reading_seconds: f64,
    /// Rows read a second.
    pub rows_per_second: f64,
    /// The most that temporary files held at once.
    pub peak_temp_bytes: u64,
    /// What may not be as it was meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
