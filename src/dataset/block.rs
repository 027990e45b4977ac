//! A run of consecutive users as the writer takes it: encoded in any thread, appended in order by one.

use roaring::RoaringBitmap;

use super::Part;
use super::exposures::ExposureBlock;
use super::interactions::UserItems;
use super::manifest::Columns;
use super::open::Dataset;

/// A block is full at this many interactions: 256 KiB of item ids, the unit in which training reads.
const MAX_INTERACTIONS: usize = 1 << 16;
const MAX_USERS: usize = 1 << 15;
const MAX_ID_BYTES: usize = 2 << 20;

/// One merged interaction of the user at hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) item: u32,
    pub(crate) time: i64,
    pub(crate) weight: f32,
    pub(crate) count: u32,
    pub(crate) event: u8,
    /// The number of its combination of context, if it has any.
    pub(crate) context: u32,
}

/// The columns of one part.
#[derive(Debug)]
pub(super) struct PartBlock {
    pub(super) offsets: Vec<u32>,
    pub(super) items: Vec<u32>,
    pub(super) times: Vec<i64>,
    pub(super) weights: Vec<f32>,
    pub(super) counts: Vec<u32>,
    pub(super) events: Vec<u8>,
    pub(super) positive_offsets: Vec<u32>,
    pub(super) positives: Vec<u8>,
    pub(super) active_users: u32,
    /// Whether a count is not 1; counts are stored only then.
    pub(super) repeated: bool,
    pub(super) time_range: Option<(i64, i64)>,
}

impl PartBlock {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            items: Vec::new(),
            times: Vec::new(),
            weights: Vec::new(),
            counts: Vec::new(),
            events: Vec::new(),
            positive_offsets: vec![0],
            positives: Vec::new(),
            active_users: 0,
            repeated: false,
            time_range: None,
        }
    }

    /// An upper bound of what it takes in a shard's larger file.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.items.len() * (4 + 8 + 4 + 4 + 1) + self.offsets.len() * 4 + 512;
        columns.max(self.positives.len() + self.positive_offsets.len() * 4 + 512)
    }

    fn push(&mut self, event: Event, columns: Columns) {
        self.items.push(event.item);
        if columns.time {
            self.times.push(event.time);
            let (first, last) = self.time_range.unwrap_or((event.time, event.time));
            self.time_range = Some((first.min(event.time), last.max(event.time)));
        }
        if columns.weight {
            self.weights.push(event.weight);
        }
        if columns.count {
            self.counts.push(event.count);
            self.repeated |= event.count != 1;
        }
        if columns.event {
            self.events.push(event.event);
        }
    }

    /// Adds a user as another dataset with these columns has it, positives included.
    fn copy_user(&mut self, user: &UserItems<'_>, positives: &[u8], columns: Columns) {
        self.items.extend(user.items.iter().map(|i| i.to_native()));
        if columns.time {
            let before = self.times.len();
            self.times.extend(user.times.iter().map(|t| t.to_native()));
            for time in &self.times[before..] {
                let (first, last) = self.time_range.unwrap_or((*time, *time));
                self.time_range = Some((first.min(*time), last.max(*time)));
            }
        }
        if columns.weight {
            self.weights.extend(user.weights.iter().map(|w| w.to_native()));
        }
        if columns.count {
            self.repeated |= user.counts.iter().any(|c| *c != 1);
            self.counts.extend(user.counts.iter().map(|c| c.to_native()));
            // None are stored where all are 1.
            self.counts.resize(self.items.len(), 1);
        }
        if columns.event {
            self.events.extend_from_slice(user.events);
        }
        self.active_users += u32::from(!user.items.is_empty());
        self.positives.extend_from_slice(positives);
        self.offsets.push(self.items.len() as u32);
        self.positive_offsets.push(self.positives.len() as u32);
    }

    fn end_user(&mut self) {
        let start = self.offsets.last().map_or(0, |o| *o as usize);
        let items = &self.items[start..];
        if !items.is_empty() {
            self.active_users += 1;
            debug_assert!(items.is_sorted_by(|a, b| a < b), "items of a user ascend without repeats");
            let bitmap: RoaringBitmap = items.iter().copied().collect();
            // Writing to a Vec cannot fail.
            let _ = bitmap.serialize_into(&mut self.positives);
        }
        self.offsets.push(self.items.len() as u32);
        self.positive_offsets.push(self.positives.len() as u32);
    }
}

/// Consecutive users, with their ids and their interactions in every part.
#[derive(Debug)]
pub(crate) struct UserBlock {
    columns: Columns,
    pub(super) id_offsets: Vec<u32>,
    pub(super) ids: Vec<u8>,
    pub(super) parts: Vec<(Part, PartBlock)>,
    /// What was shown and not taken, in a dataset that has it.
    pub(super) exposures: Option<ExposureBlock>,
    /// The context of each train interaction, in a dataset that has it.
    pub(super) contexts: Option<Vec<u32>>,
}

impl UserBlock {
    /// An empty block of a dataset with these columns and parts.
    pub(crate) fn new(columns: Columns, parts: &[Part]) -> Self {
        let parts = parts.iter().map(|p| (*p, PartBlock::new())).collect();
        Self { columns, id_offsets: vec![0], ids: Vec::new(), parts, exposures: None, contexts: None }
    }

    /// The same, of a dataset with exposures.
    pub(crate) fn with_exposures(self) -> Self {
        Self { exposures: Some(ExposureBlock::new()), ..self }
    }

    /// The same, of a dataset with context.
    pub(crate) fn with_contexts(self) -> Self {
        Self { contexts: Some(Vec::new()), ..self }
    }

    /// Adds an exposure of the user at hand; items must ascend without repeats.
    pub(crate) fn expose(&mut self, item: u32) {
        if let Some(block) = &mut self.exposures {
            block.items.push(item);
        }
    }

    /// Adds an interaction of the user at hand. Per part, items must ascend without repeats.
    pub(crate) fn push(&mut self, part: Part, event: Event) {
        if let Some(contexts) = self.contexts.as_mut().filter(|_| part == Part::Train) {
            contexts.push(event.context);
        }
        if let Some((_, block)) = self.parts.iter_mut().find(|(p, _)| *p == part) {
            block.push(event, self.columns);
        }
    }

    /// Ends the user at hand, whose original id is `id`; users come in the order of their ids' hashes.
    pub(crate) fn end_user(&mut self, id: &[u8]) {
        self.ids.extend_from_slice(id);
        self.id_offsets.push(self.ids.len() as u32);
        for (_, block) in &mut self.parts {
            block.end_user();
        }
        if let Some(block) = &mut self.exposures {
            block.end_user();
        }
    }

    /// Whether it should be appended and a new one begun.
    pub(crate) fn is_full(&self) -> bool {
        self.users() >= MAX_USERS
            || self.ids.len() >= MAX_ID_BYTES
            || self.parts.iter().any(|(_, p)| p.items.len() >= MAX_INTERACTIONS)
            || self.exposures.as_ref().is_some_and(|e| e.items.len() >= MAX_INTERACTIONS)
    }

    /// Users so far.
    pub(crate) fn users(&self) -> usize {
        self.id_offsets.len() - 1
    }
}

impl Dataset {
    /// Adds the `at`-th user of chunk `index` to a block of this dataset's columns as it is, and ends it there without an id.
    pub(crate) fn copy_user(&self, index: usize, at: usize, block: &mut UserBlock) {
        let columns = block.columns;
        for (part, to) in &mut block.parts {
            match self.part(*part) {
                Some(rows) => to.copy_user(&rows.chunk(index).user(at), rows.positives_of(index, at), columns),
                None => to.end_user(),
            }
        }
        let chunk = self.train().chunk(index);
        if let Some(to) = &mut block.exposures {
            if let Some(exposures) = self.exposures() {
                to.items.extend(exposures.user(chunk.first_user() + at as u32).iter().map(|i| i.to_native()));
            }
            to.end_user();
        }
        if let (Some(to), Some(contexts)) = (&mut block.contexts, self.contexts()) {
            let (start, end) = (chunk.offsets()[at].to_native() as usize, chunk.offsets()[at + 1].to_native() as usize);
            to.extend(contexts.chunk(index)[start..end].iter().map(|c| c.to_native()));
        }
        block.id_offsets.push(block.ids.len() as u32);
    }
}
