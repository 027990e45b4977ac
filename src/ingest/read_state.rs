//! What has been read and scattered so far, as the journal keeps it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::events::MAX_EVENTS;
use super::histogram::Counted;
use super::options::IngestOptions;
use super::reading::Place;
use super::record::{Layout, MAX_CONTEXTS};
use super::rejects::RejectsState;

/// More files than this are never asked for.
const MAX_PARTITIONS: usize = 1 << 10;
/// Rows and bytes that no log has, so that sums of a few counts are right.
const MAX_COUNT: u64 = 1 << 56;

/// What became of the rows read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RowCounts {
    /// Rows in the temporary files, exposures included.
    pub(super) kept: u64,
    #[serde(default)]
    pub(super) exposed: u64,
    pub(super) rejected: BTreeMap<Cow<'static, str>, u64>,
    pub(super) by_event: u64,
    pub(super) by_weight: u64,
}

impl RowCounts {
    pub(super) fn absorb(&mut self, other: &Self) {
        self.kept += other.kept;
        self.exposed += other.exposed;
        self.by_event += other.by_event;
        self.by_weight += other.by_weight;
        for (reason, count) in &other.rejected {
            *self.rejected.entry(reason.clone()).or_default() += count;
        }
    }
}

/// All that has been read and scattered, when it was made durable.
#[derive(Serialize, Deserialize)]
pub(super) struct ReadState {
    /// Where to read on.
    pub(super) place: Place,
    pub(super) layout: Layout,
    pub(super) counts: RowCounts,
    pub(super) histogram: Option<Counted>,
    pub(super) events: Vec<String>,
    #[serde(default)]
    pub(super) exposures: Vec<String>,
    /// Values of the combinations of context, by number.
    #[serde(default)]
    pub(super) contexts: Vec<Vec<String>>,
    /// Rows of each source so far.
    pub(super) rows: Vec<u64>,
    /// Bytes of each source so far, as stored.
    pub(super) bytes: Vec<u64>,
    /// Bytes of the temporary files: of records, users' ids and items' ids, each by partition.
    pub(super) spills: [Vec<u64>; 3],
    /// The rejects file.
    pub(super) rejects: RejectsState,
}

impl ReadState {
    /// Partitions that the rows were scattered to.
    pub(super) fn partitions(&self) -> usize {
        self.spills[0].len()
    }

    /// Says what cannot be. A state is read from a file, and everything behind it counts and indexes by it without a second
    /// look.
    pub(super) fn check(&self, sources: usize, options: &IngestOptions) -> Result<(), String> {
        let [records, users, items] = &self.spills;
        let partitions = records.len();
        if !partitions.is_power_of_two()
            || partitions > MAX_PARTITIONS
            || users.len() != partitions
            || items.len() != partitions
        {
            return Err(format!("no ingest has {partitions}, {} and {} temporary files", users.len(), items.len()));
        }
        if self.rows.len() != sources || self.bytes.len() != sources || self.place.source > sources {
            return Err("its places and counts are not those of the inputs".into());
        }
        let Self { counts, rejects, .. } = self;
        let sum = |counts: &[u64]| counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
        let rejected: Vec<u64> = counts.rejected.values().copied().collect();
        let single = [counts.kept, counts.exposed, counts.by_event, counts.by_weight, rejects.rows(), rejects.bytes()];
        let timed = self.histogram.as_ref().map_or(Some(0), Counted::total);
        let stored = sum(records);
        let sums =
            [sum(&self.rows), sum(&self.bytes), stored, sum(users), sum(items), sum(&rejected), sum(&single), timed];
        if sums.iter().any(|sum| sum.is_none_or(|sum| sum > MAX_COUNT)) {
            return Err("it counts more than there can be".into());
        }
        if counts.exposed > counts.kept || counts.kept.checked_mul(self.layout.width() as u64) != stored {
            return Err(format!("its {} rows do not fill its temporary files", counts.kept));
        }
        let (mut events, mut contexts) = (self.events.clone(), self.contexts.clone());
        events.sort_unstable();
        contexts.sort_unstable();
        let twice = events.windows(2).any(|w| w[0] == w[1]) || contexts.windows(2).any(|w| w[0] == w[1]);
        let columns = options.read.context.len();
        if twice
            || events.len() > MAX_EVENTS
            || contexts.len() > MAX_CONTEXTS
            || contexts.iter().any(|values| values.len() != columns)
        {
            return Err(
                "its event types or combinations of context are too many, twice there, or of other columns".into()
            );
        }
        Ok(())
    }

    /// Rows read so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows.iter().sum()
    }
}
