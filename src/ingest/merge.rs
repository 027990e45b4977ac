//! Repeated rows become one interaction, and interactions become users.

use super::error::IngestError;
use super::items::ItemTable;
use super::pipeline::Whole;
use super::record::{Record, SortedRecords};
use super::summary::Thresholds;
use crate::dataset::Part;

/// What the rows of a user and an item come to, among those that belong to one part by themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Merged {
    pub(super) item: u32,
    /// The part by time, or by source; [`Part::Train`] where neither says.
    pub(super) part: Part,
    /// Of the last row.
    pub(super) event: u8,
    /// Of the last row.
    pub(super) context: u32,
    pub(super) count: u32,
    /// Of the last row.
    pub(super) time: i64,
    /// Summed in the order of time, event and weight, which no order of input changes.
    pub(super) weight: f64,
}

impl Merged {
    fn new(item: u32, part: Part, record: &Record) -> Self {
        let Record { time, weight, tags, .. } = *record;
        let (event, context) = (tags.event(), tags.context());
        Self { item, part, event, context, count: 1, time, weight: f64::from(weight) }
    }

    /// Adds what comes later.
    pub(super) fn absorb(&mut self, later: &Self) {
        self.count = self.count.saturating_add(later.count);
        self.weight += later.weight;
        (self.time, self.event, self.context) = (later.time, later.event, later.context);
    }
}

/// A user with more rows than this is large: its buffers are not kept, and it begins a block of the dataset.
pub(super) const LARGE_USER: usize = 1 << 16;

/// A user and all interactions, by item, then part: several of one item only where rows fall into several parts.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) hash: u64,
    pub(super) rows: Vec<Merged>,
    /// Items that were shown and not taken, ascending.
    pub(super) exposed: Vec<u32>,
}

impl User {
    /// Whether it is large.
    pub(super) fn is_large(&self) -> bool {
        self.rows.len() + self.exposed.len() > LARGE_USER
    }

    /// Makes room for the next user; the buffer of a very active one is given back.
    pub(super) fn clear(&mut self) {
        if self.rows.capacity() > LARGE_USER {
            self.rows = Vec::new();
        }
        self.rows.clear();
        if self.exposed.capacity() > LARGE_USER {
            self.exposed = Vec::new();
        }
        self.exposed.clear();
    }
}

/// Users in the order of their hashes.
pub(super) trait UserSource {
    /// Reads the next user into `user`; `false` at the end.
    fn next_user(&mut self, user: &mut User) -> Result<bool, IngestError>;
}

/// Users from sorted records.
pub(super) struct MergeRecords<'a> {
    pub(super) records: SortedRecords<'a>,
    items: &'a ItemTable,
    thresholds: Thresholds,
    /// Rows that a user may have.
    most: usize,
    whole: Whole,
    ahead: Option<Record>,
    /// Distinct pairs so far, without those that are exposures only.
    pub(super) pairs: u64,
}

impl<'a> MergeRecords<'a> {
    /// Refuses users with more than `most` rows.
    pub(super) fn new(
        records: SortedRecords<'a>,
        items: &'a ItemTable,
        thresholds: Thresholds,
        most: usize,
        whole: Whole,
    ) -> Self {
        Self { records, items, thresholds, most, whole, ahead: None, pairs: 0 }
    }

    /// The part that a row belongs to by itself.
    fn part(&self, record: &Record) -> Part {
        match record.tags.part() {
            Part::Train if self.thresholds.test.is_some_and(|t| record.time >= t) => Part::Test,
            Part::Train if self.thresholds.valid.is_some_and(|t| record.time >= t) => Part::Valid,
            part => part,
        }
    }
}

impl MergeRecords<'_> {
    /// Reads the rows of the next user into `user`; `false` at the end.
    fn next_rows(&mut self, user: &mut User) -> Result<bool, IngestError> {
        user.clear();
        let first = match self.ahead.take() {
            Some(record) => record,
            None => match self.records.next()? {
                Some(record) => record,
                None => return Ok(false),
            },
        };
        user.hash = first.user;
        let mut next = Some(first);
        while let Some(first) = next.take() {
            // One pair a turn.
            let dense = self.items.dense(first.item).ok_or_else(|| lost("item"))?;
            let mut by_part: [Option<Merged>; 3] = [None; 3];
            let mut exposed = false;
            let mut record = first;
            loop {
                let part = self.part(&record);
                if record.tags.exposed() {
                    // What is shown later than train ends must not be known while training.
                    exposed |= part == Part::Train;
                } else {
                    let one = Merged::new(dense, part, &record);
                    match &mut by_part[part as usize] {
                        Some(merged) => merged.absorb(&one),
                        none => *none = Some(one),
                    }
                }
                match self.records.next()? {
                    Some(other) if other.user == first.user && other.item == first.item => record = other,
                    Some(other) if other.user == first.user => {
                        next = Some(other);
                        break;
                    }
                    other => {
                        self.ahead = other;
                        break;
                    }
                }
            }
            let before = user.rows.len();
            user.rows.extend(by_part.into_iter().flatten());
            if user.rows.len() > before {
                self.pairs += 1;
            } else if exposed {
                user.exposed.push(dense);
            }
            if user.rows.len() + user.exposed.len() > self.most {
                return Err(IngestError::ActiveUser { most: self.most });
            }
        }
        Ok(true)
    }
}

impl UserSource for MergeRecords<'_> {
    fn next_user(&mut self, user: &mut User) -> Result<bool, IngestError> {
        while self.next_rows(user)? {
            // Who took nothing is no user.
            if !user.rows.is_empty() || (self.whole != Whole::All && !user.exposed.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An id whose hash is in the records is not among the ids: two ids agree in all hashes.
pub(super) fn lost(what: &str) -> IngestError {
    IngestError::Options(format!(
        "an {what} id cannot be told from another one by its hashes; pass another --hash-seed"
    ))
}
