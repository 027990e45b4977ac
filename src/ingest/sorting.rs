//! From partitions of rows to users in the dataset, with or without dropping the rare ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Budget;
use super::error::IngestError;
use super::ids::SortedIds;
use super::items::ItemTable;
use super::kcore::{self, Core, Staged};
use super::merge::MergeRecords;
use super::options::IngestOptions;
use super::pipeline::Whole;
use super::record::{Layout, Places, Record, SortedRecords};
use super::spill::{Spill, TempSpace};
use super::summary::{IngestCounts, Thresholds};
use super::users::{Encode, in_order, in_parallel};
use crate::context::{Context, Unit};
use crate::dataset::DatasetWriter;

/// Scattered rows, and all that it takes to bring them into order.
pub(super) struct Sorting<'a> {
    /// Rows by unit of work.
    pub(super) records: Shelf,
    /// Ids of their users.
    pub(super) users: Shelf,
    /// Units of work.
    pub(super) units: usize,
    pub(super) layout: Layout,
    pub(super) places: &'a Places,
    pub(super) items: &'a ItemTable,
    pub(super) thresholds: Thresholds,
    /// Bytes a worker may use for rows.
    pub(super) record_share: usize,
    /// Bytes a worker may use for ids.
    pub(super) id_share: usize,
    /// Rows that one user may have after merging.
    pub(super) user_rows: usize,
    /// Rows in all.
    pub(super) rows: u64,
    /// Distinct pairs found.
    pub(super) pairs: AtomicU64,
    pub(super) options: &'a IngestOptions,
    pub(super) whole: Whole,
    pub(super) budget: &'a Budget,
    pub(super) space: &'a Arc<TempSpace>,
    pub(super) ctx: &'a Context,
}

impl Sorting<'_> {
    /// The users of a unit.
    fn merge(&self, at: usize, buffer: Vec<Record>) -> MergeRecords<'_> {
        let Self { layout, places, space, record_share, ctx, .. } = *self;
        let sorted = SortedRecords::new(self.records.take(at), layout, places, space, record_share, ctx, buffer);
        MergeRecords::new(sorted, self.items, self.thresholds, self.user_rows, self.whole)
    }

    /// The ids of a unit's users.
    fn ids(&self, at: usize) -> SortedIds<'_> {
        let spills = self.users.take(at);
        SortedIds::new("user", self.options.hash_seed, spills, self.space, self.id_share, self.ctx)
    }

    fn rows_in(&self, at: usize) -> u64 {
        self.records.bytes(at) / self.layout.width() as u64
    }

    /// Writes all items and users.
    pub(super) fn write_all(&self, encode: &Encode<'_>, writer: &mut DatasetWriter) -> Result<(), IngestError> {
        let mut dictionary = writer.start_items()?;
        self.items.write(&mut dictionary, |_| true)?;
        writer.finish_items(dictionary)?;
        let stage = self.ctx.stage("sorting and writing", Some(self.rows), Unit::Rows);
        in_order(
            self.budget.workers,
            self.units,
            self.budget.waiting,
            Vec::new,
            |buffer, at, outlet| {
                let rows = self.rows_in(at);
                let mut source = self.merge(at, std::mem::take(buffer));
                encode.partition(&mut source, self.ids(at), |item| self.items.hash(item), outlet)?;
                self.pairs.fetch_add(source.pairs, Ordering::Relaxed);
                *buffer = source.records.into_buffer();
                stage.add(rows);
                Ok(())
            },
            |block| Ok(writer.append(&block)?),
        )
    }

    /// Drops rare users and items, and writes what is left.
    pub(super) fn write_core(
        &self,
        encode: &Encode<'_>,
        writer: &mut DatasetWriter,
        counts: &mut IngestCounts,
    ) -> Result<(), IngestError> {
        let staged = self.stage()?;
        let (min_user, min_item) = (self.options.min_user_count, self.options.min_item_count);
        let core = Core::find(&staged, self.items.len(), min_user, min_item, self.budget.workers, self.ctx)?;
        let (all_users, all_pairs) = kcore::totals(&staged);
        counts.filtered_by_count = all_pairs - core.pairs;
        counts.users_dropped = all_users - core.users;
        counts.items_dropped = self.items.len() as u64 - u64::from(core.items);
        if core.pairs == 0 {
            return Err(counts.no_rows());
        }
        let mut dictionary = writer.start_items()?;
        self.items.write(&mut dictionary, |item| core.numbers[item as usize] != u32::MAX)?;
        writer.finish_items(dictionary)?;
        let old_numbers = core.old_numbers();
        let stage = self.ctx.stage("writing users", Some(core.users), Unit::Users);
        in_order(
            self.budget.workers,
            self.units,
            self.budget.waiting,
            || (),
            |(), at, outlet| {
                let mut source = core.users(&staged[at], self.layout)?;
                let hash = |item| self.items.hash(old_numbers[item as usize]);
                encode.partition(&mut source, self.ids(at), hash, outlet)
            },
            |block| {
                stage.add(block.users() as u64);
                Ok(writer.append(&block)?)
            },
        )
    }

    /// Merged interactions on disk, by unit.
    fn stage(&self) -> Result<Vec<Staged>, IngestError> {
        let staged: Vec<Mutex<Option<Staged>>> = (0..self.units).map(|_| Mutex::new(None)).collect();
        let stage = self.ctx.stage("merging", Some(self.rows), Unit::Rows);
        in_parallel(self.budget.workers, self.units, |at| {
            let rows = self.rows_in(at);
            let mut source = self.merge(at, Vec::new());
            let written = Staged::write(&mut source, self.layout, self.space, self.ctx)?;
            self.pairs.fetch_add(source.pairs, Ordering::Relaxed);
            *staged[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
            stage.add(rows);
            Ok(())
        })?;
        Ok(staged.into_iter().filter_map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
    }
}

/// Temporary files by unit of work, each taken once.
pub(super) struct Shelf(Vec<Mutex<Vec<Spill>>>);

impl Shelf {
    /// Groups `spills` into `units` of as many consecutive ones each.
    pub(super) fn new(spills: Vec<Spill>, units: usize) -> Self {
        let each = spills.len() / units;
        let mut spills = spills.into_iter();
        Self((0..units).map(|_| Mutex::new(spills.by_ref().take(each).collect())).collect())
    }

    fn take(&self, at: usize) -> Vec<Spill> {
        std::mem::take(&mut *self.0[at].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn bytes(&self, at: usize) -> u64 {
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner).iter().map(Spill::len).sum()
    }
}
