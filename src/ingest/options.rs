//! What a user can say about how a log becomes a dataset.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::IngestError;
use super::read::{Input, ReadOptions};
use super::split::Split;

/// The logs to read: what is to be split, and ready-made parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Files, folders or standard input.
    pub main: Vec<Input>,
    /// A ready-made validation part.
    pub valid: Vec<Input>,
    /// A ready-made test part.
    pub test: Vec<Input>,
}

impl From<Vec<Input>> for Inputs {
    fn from(main: Vec<Input>) -> Self {
        Self { main, ..Self::default() }
    }
}

/// What to do about rows that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// Stop, naming the first one.
    #[default]
    Fail,
    /// Write them to the rejects file and go on.
    Skip,
}

/// What to do about the folder `OUTPUT.partial`, in which an interrupted ingest left what it had done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leftover {
    /// Refuse to begin, and say what may be done.
    #[default]
    Refuse,
    /// Go on from there; refuse where there is nothing, or the inputs or options are not the same.
    Resume,
    /// Remove it and begin anew.
    Restart,
}

/// How an ingest treats what is there already, and how often it makes sure of what it has done. None of it changes the
/// result. `true` stands for the default with `force`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestRun {
    /// Replace the output if it is there.
    pub force: bool,
    /// What to do about an interrupted ingest to the same output.
    pub leftover: Leftover,
    /// Time after which what has been read is made durable, to be resumed from there.
    pub checkpoint: Duration,
}

impl IngestRun {
    /// The time between checkpoints if nothing else is asked for.
    pub const CHECKPOINT: Duration = Duration::from_secs(30);
}

impl Default for IngestRun {
    fn default() -> Self {
        Self { force: false, leftover: Leftover::default(), checkpoint: Self::CHECKPOINT }
    }
}

impl From<bool> for IngestRun {
    fn from(force: bool) -> Self {
        Self { force, ..Self::default() }
    }
}

/// How a log becomes a dataset. The default reads everything and holds nothing out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestOptions {
    /// How to read the logs.
    pub read: ReadOptions,
    /// Rows with a smaller weight are dropped.
    pub min_weight: Option<f32>,
    /// Rows with other event types are dropped; empty keeps all.
    pub keep_events: Vec<String>,
    /// Event types that are exposures, shown and not taken, and no positives.
    pub exposure_events: Vec<String>,
    /// Users with fewer distinct items are dropped, until nothing changes.
    pub min_user_count: u32,
    /// Items with fewer distinct users are dropped, until nothing changes.
    pub min_item_count: u32,
    /// What is held out for test.
    pub split: Split,
    /// What of the rest is held out for validation.
    pub valid_split: Split,
    /// What to do about rows that cannot be used.
    pub on_error: OnError,
    /// Where [`OnError::Skip`] writes them; beside the output, as `OUTPUT.rejects.ndjson`, when absent.
    pub rejects: Option<PathBuf>,
    /// Seed of random splits and of ties.
    pub seed: u64,
    /// Seed of the hash that orders users and items.
    pub hash_seed: u64,
}

impl IngestOptions {
    /// Refuses options that contradict each other.
    pub(super) fn validate(&self, inputs: &Inputs) -> Result<(), IngestError> {
        let refuse = |text: &str| Err(IngestError::Options(text.to_string()));
        if self.min_weight.is_some() && self.read.weight.is_none() {
            return refuse("--min-weight needs a weight column: name it by --weight-column");
        }
        if self.min_weight.is_some_and(|w| !w.is_finite() || w < 0.0) {
            return refuse("--min-weight must be a finite number from 0 on");
        }
        if !self.keep_events.is_empty() && self.read.event.is_none() {
            return refuse("--keep-events needs an event column: name it by --event-column");
        }
        if self.keep_events.len() > super::events::MAX_EVENTS {
            return refuse("--keep-events takes at most 255 types");
        }
        if !self.exposure_events.is_empty() && self.read.event.is_none() {
            return refuse("--exposure-events needs an event column: name it by --event-column");
        }
        if let Some(both) = self.exposure_events.iter().find(|e| self.keep_events.contains(e)) {
            return Err(IngestError::Options(format!(
                "{both} is in --exposure-events and in --keep-events: exposures are no positives; name it in one of them"
            )));
        }
        super::contexts::check(self)?;
        if !inputs.test.is_empty() && self.split != Split::None {
            return refuse("--test gives a ready-made test part and --split makes one: pass one of them");
        }
        if !inputs.valid.is_empty() && self.valid_split != Split::None {
            return refuse("--valid gives a ready-made validation part and --valid-split makes one: pass one of them");
        }
        if self.rejects.is_some() && self.on_error == OnError::Fail {
            return refuse("--rejects needs --on-error skip");
        }
        if let (Split::TimeAt(test), Split::TimeAt(valid)) = (self.split, self.valid_split)
            && valid >= test
        {
            return refuse("--valid-split time must be before that of --split: validation is taken from what is left");
        }
        Ok(())
    }

    /// Whether some rows are exposures.
    pub(super) fn has_exposures(&self) -> bool {
        !self.exposure_events.is_empty()
    }

    /// Whether rare users or items are dropped.
    pub(super) fn has_core(&self) -> bool {
        self.min_user_count > 1 || self.min_item_count > 1
    }
}
