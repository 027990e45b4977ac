//! Rows on their way: compact in temporary files, and read back in order.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::IngestError;
use super::spill::{CHILDREN, Fork, Gather, SPLIT_BUFFER, Spill, TempSpace};
use crate::context::Context;
use crate::dataset::Part;

/// The bit of the byte of parts that tells exposures.
const EXPOSED: u32 = 2;

/// Combinations of context that records can tell apart: what is left of a word beside the other tags.
pub(super) const MAX_CONTEXTS: usize = 1 << 20;

/// Event type (8 bits), combination of context (20), exposure (1) and part (2) of a row: one word, so that a record takes
/// 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tags(u32);

impl Tags {
    /// Those of a positive.
    #[inline]
    pub(super) fn new(part: Part, event: u8, context: u32) -> Self {
        debug_assert!((context as usize) < MAX_CONTEXTS);
        Self(u32::from(event) << 23 | context << 3 | part as u32)
    }

    /// Those of an exposure: shown, not taken. Then event, context and weight mean nothing.
    pub(super) fn exposure(part: Part) -> Self {
        Self(part as u32 | 1 << EXPOSED)
    }

    #[inline]
    pub(super) fn event(self) -> u8 {
        (self.0 >> 23) as u8
    }

    #[inline]
    pub(super) fn context(self) -> u32 {
        self.0 >> 3 & (MAX_CONTEXTS as u32 - 1)
    }

    /// Part and exposure, as in the byte of parts.
    #[inline]
    fn kind(self) -> u8 {
        (self.0 & 7) as u8
    }

    #[inline]
    pub(super) fn part(self) -> Part {
        Part::ALL[usize::from(self.kind() & ((1 << EXPOSED) - 1))]
    }

    #[inline]
    pub(super) fn exposed(self) -> bool {
        self.kind() >> EXPOSED != 0
    }
}

/// Places in the dataset of the numbers that events and combinations of context have in temporary files.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) events: Vec<u8>,
    pub(super) contexts: Vec<u32>,
}

/// A row, its ids replaced by their hashes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) user: u64,
    pub(super) item: u64,
    pub(super) time: i64,
    pub(super) weight: f32,
    pub(super) tags: Tags,
}

impl Record {
    /// The key that records are sorted by, as words that compare like numbers. Records with equal keys are equal.
    fn key(&self) -> [u64; 4] {
        // Weights are not negative, so their bits are in their order.
        let Tags(tags) = self.tags;
        let (event, kind, context) = (u64::from(tags >> 23), u64::from(tags & 7), u64::from(self.tags.context()));
        let rest = event << 55 | u64::from(self.weight.to_bits()) << 23 | kind << 20 | context;
        [self.user, self.item, (self.time as u64) ^ (1 << 63), rest]
    }

    fn compare(&self, other: &Self) -> Ordering {
        let pair = |r: &Self| u128::from(r.user) << 64 | u128::from(r.item);
        pair(self).cmp(&pair(other)).then_with(|| self.key().cmp(&other.key()))
    }
}

/// The columns that records have in temporary files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub(super) time: bool,
    pub(super) weight: bool,
    pub(super) event: bool,
    /// Whether there are ready-made parts.
    pub(super) part: bool,
    /// Whether there are exposures.
    #[serde(default)]
    pub(super) exposed: bool,
    /// Whether there are columns of context.
    #[serde(default)]
    pub(super) context: bool,
}

impl Layout {
    /// Bytes of a record.
    pub(super) fn width(self) -> usize {
        16 + 8 * usize::from(self.time)
            + 4 * usize::from(self.weight)
            + usize::from(self.event)
            + usize::from(self.has_kind())
            + 4 * usize::from(self.context)
    }

    /// Whether a record has a byte that tells part and exposure.
    fn has_kind(self) -> bool {
        self.part || self.exposed
    }

    /// Appends a record.
    #[inline]
    pub(super) fn put(self, record: &Record, out: &mut Vec<u8>) {
        let mut bytes = [0u8; 40];
        bytes[..8].copy_from_slice(&record.user.to_le_bytes());
        bytes[8..16].copy_from_slice(&record.item.to_le_bytes());
        let mut at = 16;
        if self.time {
            bytes[at..at + 8].copy_from_slice(&record.time.to_le_bytes());
            at += 8;
        }
        if self.weight {
            bytes[at..at + 4].copy_from_slice(&record.weight.to_le_bytes());
            at += 4;
        }
        if self.event {
            bytes[at] = record.tags.event();
            at += 1;
        }
        if self.has_kind() {
            bytes[at] = record.tags.kind();
            at += 1;
        }
        if self.context {
            bytes[at..at + 4].copy_from_slice(&record.tags.context().to_le_bytes());
            at += 4;
        }
        out.extend_from_slice(&bytes[..at]);
    }

    /// Reads a record of [`Layout::width`] bytes; `places` translates events and contexts. `None` if it is of an event,
    /// context or part that there is not.
    #[inline]
    fn get(self, bytes: &[u8], places: &Places) -> Option<Record> {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let mut at = 16;
        let half = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let (mut time, mut weight, mut event, mut kind, mut context) = (0, 0.0, 0, 0u8, 0);
        if self.time {
            time = word(at) as i64;
            at += 8;
        }
        if self.weight {
            weight = f32::from_le_bytes(half(at));
            at += 4;
        }
        if self.event {
            event = bytes[at];
            at += 1;
        }
        if self.has_kind() {
            kind = bytes[at];
            at += 1;
        }
        if self.context {
            context = u32::from_le_bytes(half(at));
        }
        let part = *Part::ALL.get(usize::from(kind & ((1 << EXPOSED) - 1)))?;
        let tags = if kind >> EXPOSED != 0 {
            // What is shown has neither: a log of nothing else knows no event and no context.
            Tags::exposure(part)
        } else {
            let event = if self.event { *places.events.get(usize::from(event))? } else { 0 };
            let context = if self.context { *places.contexts.get(context as usize)? } else { 0 };
            Tags::new(part, event, context)
        };
        Some(Record { user: word(0), item: word(8), time, weight, tags })
    }
}

/// The records of temporary files in order, within a share of memory: files that are too large are split by the topmost
/// bits in which their records differ, and so on, down to records that are all equal.
pub(super) struct SortedRecords<'a> {
    layout: Layout,
    places: &'a Places,
    space: &'a Arc<TempSpace>,
    ctx: &'a Context,
    /// Records that may be held.
    most: usize,
    /// What comes after `current`, the next one last.
    later: Vec<Spill>,
    current: Vec<Record>,
    at: usize,
    /// How often each of `current` counts: more than once only where all records of a file were equal.
    repeats: u64,
    repeated: u64,
}

impl<'a> SortedRecords<'a> {
    /// Orders the records of `spills`, whose ranges of hashes ascend, holding about `share` bytes. `buffer` is taken over,
    /// to be reused.
    pub(super) fn new(
        mut spills: Vec<Spill>,
        layout: Layout,
        places: &'a Places,
        space: &'a Arc<TempSpace>,
        share: usize,
        ctx: &'a Context,
        buffer: Vec<Record>,
    ) -> Self {
        let most = (share / size_of::<Record>()).max(2);
        let mut current = buffer;
        current.clear();
        spills.reverse();
        Self { layout, places, space, ctx, most, later: spills, current, at: 0, repeats: 1, repeated: 0 }
    }

    /// The next record.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Record>, IngestError> {
        while self.at == self.current.len() {
            let Some(spill) = self.later.pop() else { return Ok(None) };
            self.load(spill)?;
        }
        let record = self.current[self.at];
        self.repeated += 1;
        if self.repeated == self.repeats {
            self.at += 1;
            self.repeated = 0;
        }
        Ok(Some(record))
    }

    /// The buffer, for the next partition.
    pub(super) fn into_buffer(self) -> Vec<Record> {
        self.current
    }

    fn load(&mut self, spill: Spill) -> Result<(), IngestError> {
        spill.seal();
        self.current.clear();
        (self.at, self.repeats) = (0, 1);
        let width = self.layout.width();
        let count = spill.len() as usize / width;
        if count > self.most {
            return self.split(&spill, count);
        }
        if self.current.capacity() < count {
            // Free the old buffer before asking for the new one.
            self.current = Vec::new();
            self.current.reserve_exact(count);
        }
        let mut reader = spill.read()?;
        loop {
            let bytes = reader.records(width)?;
            if bytes.is_empty() {
                break;
            }
            for raw in bytes.chunks_exact(width) {
                self.current.push(self.layout.get(raw, self.places).ok_or_else(|| spill.foreign())?);
            }
            self.ctx.check()?;
        }
        self.current.sort_unstable_by(Record::compare);
        Ok(())
    }

    fn split(&mut self, spill: &Spill, count: usize) -> Result<(), IngestError> {
        // The sort buffer is not needed meanwhile.
        self.current = Vec::new();
        let (layout, places, width) = (self.layout, self.places, self.layout.width());
        let mut first: Option<Record> = None;
        let mut differing = [0u64; 4];
        let mut reader = spill.read()?;
        loop {
            let bytes = reader.records(width)?;
            if bytes.is_empty() {
                break;
            }
            for raw in bytes.chunks_exact(width) {
                let record = layout.get(raw, places).ok_or_else(|| spill.foreign())?;
                let reference = first.get_or_insert(record).key();
                for ((d, a), b) in differing.iter_mut().zip(record.key()).zip(reference) {
                    *d |= a ^ b;
                }
            }
            self.ctx.check()?;
        }
        let fork = differing.iter().enumerate().find_map(|(word, bits)| Some((word, Fork::on(*bits)?)));
        let Some((word, fork)) = fork else {
            // All are equal: one stands for all.
            self.current.extend(first);
            self.repeats = count as u64;
            return Ok(());
        };
        let children = Spill::several(self.space, CHILDREN);
        let mut gather = Gather::new(CHILDREN, SPLIT_BUFFER);
        let mut reader = spill.read()?;
        loop {
            let bytes = reader.records(width)?;
            if bytes.is_empty() {
                break;
            }
            for raw in bytes.chunks_exact(width) {
                let record = layout.get(raw, places).ok_or_else(|| spill.foreign())?;
                let child = fork.child(record.key()[word]);
                gather.make_room(child, width, &children)?;
                gather.buffer(child).extend_from_slice(raw);
            }
            self.ctx.check()?;
        }
        gather.finish(&children)?;
        children.iter().for_each(Spill::seal);
        self.later.extend(children.into_iter().rev().filter(|c| c.len() > 0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_in_order_whatever_fits(
            rows in proptest::collection::vec((0u64..4, 0u64..3, -2i64..2, 0u8..3, 0u8..4, 0u32..3), 1..200),
            spread in any::<bool>(),
            most in 2usize..40,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let space = TempSpace::create(folder.path().join("t")).unwrap();
            let layout = Layout { time: true, weight: true, event: true, part: true, exposed: true, context: true };
            let scale = if spread { 0x3FFF_0000_1111_2222 } else { 1 };
            let mut records: Vec<Record> = rows
                .iter()
                .map(|(u, i, t, e, p, c)| {
                    let part = Part::ALL[usize::from(*p % 2)];
                    let tags = if *p > 1 { Tags::exposure(part) } else { Tags::new(part, *e, c * 0x7_FFFF) };
                    Record { user: u * scale, item: i * scale, time: *t, weight: f32::from(*e) / 3.0, tags }
                })
                .collect();
            let places = Places { events: vec![0, 1, 2], contexts: (0..MAX_CONTEXTS as u32).collect() };
            let spill = Spill::new(&space);
            let mut bytes = Vec::new();
            records.iter().for_each(|r| layout.put(r, &mut bytes));
            spill.append(&bytes).unwrap();
            let ctx = Context::new(1, ByteSize(1 << 20));
            let share = most * size_of::<Record>();
            let mut sorted = SortedRecords::new(vec![spill], layout, &places, &space, share, &ctx, Vec::new());
            let mut found = Vec::new();
            while let Some(record) = sorted.next().unwrap() {
                found.push(record);
            }
            records.sort_by_key(Record::key);
            prop_assert_eq!(found, records);
            drop(sorted);
        }
    }
}
