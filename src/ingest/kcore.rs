//! Users and items with few interactions are dropped until none is left to drop: the k-core of Batagelj and Zaveršnik
//! ("An O(m) Algorithm for Cores Decomposition of Networks", 2003) with a bound for each side, found by streaming.
//!
//! Merged interactions are staged on disk. Each round reads the pairs alone (4 bytes each), counts the items of users that
//! still have enough living items, and ends when no item dies. Memory: up to 13 bytes an item.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::error::IngestError;
use super::merge::{Merged, User, UserSource};
use super::record::Layout;
use super::spill::{Spill, SpillReader, TempSpace};
use super::users::in_parallel;
use crate::context::{Context, Unit};
use crate::dataset::Part;

const FLUSH: usize = 128 << 10;

/// The merged interactions of a partition on disk.
pub(super) struct Staged {
    /// For each user: number of items (u32), items (u32 each).
    pairs: Spill,
    /// For each user: hash (u64), number of rows (u32), rows; where there are exposures their number (u32), items (u32 each).
    rows: Spill,
    users: u64,
    count: u64,
}

impl Staged {
    /// Writes the users of `source` to disk.
    pub(super) fn write(
        source: &mut impl UserSource,
        layout: Layout,
        space: &Arc<TempSpace>,
        ctx: &Context,
    ) -> Result<Self, IngestError> {
        let mut staged = Self { pairs: Spill::new(space), rows: Spill::new(space), users: 0, count: 0 };
        let (mut pairs, mut rows) = (Vec::new(), Vec::new());
        let mut user = User::default();
        while source.next_user(&mut user)? {
            staged.users += 1;
            rows.extend_from_slice(&user.hash.to_le_bytes());
            rows.extend_from_slice(&(user.rows.len() as u32).to_le_bytes());
            let count = user.rows.chunk_by(|a, b| a.item == b.item).count();
            pairs.extend_from_slice(&(count as u32).to_le_bytes());
            staged.count += count as u64;
            for of_pair in user.rows.chunk_by(|a, b| a.item == b.item) {
                of_pair.iter().for_each(|row| put(layout, row, &mut rows));
                pairs.extend_from_slice(&of_pair[0].item.to_le_bytes());
                // Here and not only between users, for one may have very many.
                if rows.len() >= FLUSH {
                    ctx.check()?;
                    staged.rows.append(&rows)?;
                    staged.pairs.append(&pairs)?;
                    rows.clear();
                    pairs.clear();
                }
            }
            if layout.exposed {
                rows.extend_from_slice(&(user.exposed.len() as u32).to_le_bytes());
                user.exposed.iter().for_each(|item| rows.extend_from_slice(&item.to_le_bytes()));
            }
        }
        staged.rows.append(&rows)?;
        staged.pairs.append(&pairs)?;
        staged.rows.seal();
        staged.pairs.seal();
        Ok(staged)
    }
}

/// Bytes of a row.
fn width(layout: Layout) -> usize {
    10 + 8 * usize::from(layout.time) + 8 * usize::from(layout.weight) + 4 * usize::from(layout.context)
}

fn put(layout: Layout, row: &Merged, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.item.to_le_bytes());
    out.extend_from_slice(&[row.part as u8, row.event]);
    out.extend_from_slice(&row.count.to_le_bytes());
    if layout.time {
        out.extend_from_slice(&row.time.to_le_bytes());
    }
    if layout.weight {
        out.extend_from_slice(&row.weight.to_le_bytes());
    }
    if layout.context {
        out.extend_from_slice(&row.context.to_le_bytes());
    }
}

fn get(layout: Layout, bytes: &[u8]) -> Merged {
    let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let eight = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        word
    };
    let end = width(layout);
    Merged {
        item: u32::from_le_bytes(four(0)),
        part: Part::ALL[usize::from(bytes[4])],
        event: bytes[5],
        context: if layout.context { u32::from_le_bytes(four(end - 4)) } else { 0 },
        count: u32::from_le_bytes(four(6)),
        time: if layout.time { i64::from_le_bytes(eight(10)) } else { 0 },
        weight: if layout.weight { f64::from_le_bytes(eight(10 + 8 * usize::from(layout.time))) } else { 0.0 },
    }
}

/// What is left.
pub(super) struct Core {
    /// New number of each item; `u32::MAX` if it is dropped.
    pub(super) numbers: Vec<u32>,
    /// Items left.
    pub(super) items: u32,
    /// Users left.
    pub(super) users: u64,
    /// Interactions left.
    pub(super) pairs: u64,
    min_user: u32,
}

impl Core {
    /// Drops items and users until every user left has at least `min_user` items left, and the other way round.
    pub(super) fn find(
        staged: &[Staged],
        items: usize,
        min_user: u32,
        min_item: u32,
        workers: usize,
        ctx: &Context,
    ) -> Result<Self, IngestError> {
        // A user or item without interactions is none.
        let (min_user, min_item) = (min_user.max(1), min_item.max(1));
        let mut alive = vec![true; items];
        let total = staged.iter().map(|s| s.count).sum();
        let mut round = 0u32;
        loop {
            round += 1;
            let stage = ctx.stage(&format!("dropping rare users and items, round {round}"), Some(total), Unit::Rows);
            let counts: Vec<AtomicU32> = (0..items).map(|_| AtomicU32::new(0)).collect();
            let (users, pairs) = (AtomicU64::new(0), AtomicU64::new(0));
            in_parallel(workers, staged.len(), |at| {
                let mut reader = staged[at].pairs.read()?;
                let mut living = Vec::new();
                while let Some(count) = read_count(&mut reader)? {
                    living.clear();
                    for _ in 0..count {
                        let item = reader.need(4)?;
                        let item = u32::from_le_bytes([item[0], item[1], item[2], item[3]]);
                        if alive[item as usize] {
                            living.push(item);
                        }
                    }
                    if living.len() >= min_user as usize {
                        users.fetch_add(1, Ordering::Relaxed);
                        pairs.fetch_add(living.len() as u64, Ordering::Relaxed);
                        for item in &living {
                            counts[*item as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    ctx.check()?;
                }
                stage.add(staged[at].count);
                Ok(())
            })?;
            let mut died = false;
            for (alive, count) in alive.iter_mut().zip(&counts) {
                if *alive && count.load(Ordering::Relaxed) < min_item {
                    *alive = false;
                    died = true;
                }
            }
            if !died {
                let mut next = 0;
                let number = |alive: &bool| if *alive { (next, next += 1).0 } else { u32::MAX };
                let numbers = alive.iter().map(number).collect();
                return Ok(Self {
                    numbers,
                    items: next,
                    users: users.into_inner(),
                    pairs: pairs.into_inner(),
                    min_user,
                });
            }
        }
    }

    /// The earlier number of each item left.
    pub(super) fn old_numbers(&self) -> Vec<u32> {
        let mut old_numbers = Vec::with_capacity(self.items as usize);
        old_numbers.extend((0..).zip(&self.numbers).filter(|(_, new)| **new != u32::MAX).map(|(old, _)| old));
        old_numbers
    }

    /// The users left, from disk, with the items' new numbers.
    pub(super) fn users<'a>(&'a self, staged: &'a Staged, layout: Layout) -> Result<CoreUsers<'a>, IngestError> {
        Ok(CoreUsers { core: self, reader: staged.rows.read()?, layout })
    }
}

/// Users and interactions before anything was dropped.
pub(super) fn totals(staged: &[Staged]) -> (u64, u64) {
    (staged.iter().map(|s| s.users).sum(), staged.iter().map(|s| s.count).sum())
}

fn read_count(reader: &mut SpillReader) -> Result<Option<u32>, IngestError> {
    Ok(reader.take(4)?.map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
}

/// The users of a partition that are left.
pub(super) struct CoreUsers<'a> {
    core: &'a Core,
    reader: SpillReader,
    layout: Layout,
}

impl UserSource for CoreUsers<'_> {
    fn next_user(&mut self, user: &mut User) -> Result<bool, IngestError> {
        loop {
            let Some(hash) = self.reader.take(8)? else { return Ok(false) };
            let mut word = [0; 8];
            word.copy_from_slice(hash);
            user.hash = u64::from_le_bytes(word);
            user.clear();
            let (mut distinct, mut last) = (0u32, None);
            for _ in 0..read_count(&mut self.reader)?.unwrap_or(0) {
                let mut row = get(self.layout, self.reader.need(width(self.layout))?);
                row.item = self.core.numbers[row.item as usize];
                if row.item != u32::MAX {
                    distinct += u32::from(last.replace(row.item) != Some(row.item));
                    user.rows.push(row);
                }
            }
            if self.layout.exposed {
                for _ in 0..read_count(&mut self.reader)?.unwrap_or(0) {
                    let item = self.reader.need(4)?;
                    let old = u32::from_le_bytes([item[0], item[1], item[2], item[3]]);
                    user.exposed.push(self.core.numbers[old as usize]);
                }
                user.exposed.retain(|item| *item != u32::MAX);
            }
            if distinct >= self.core.min_user {
                return Ok(true);
            }
        }
    }
}
