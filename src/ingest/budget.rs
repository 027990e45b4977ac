//! How the memory budget is shared out.

use super::append::APPENDED_ROW;
use super::error::IngestError;
use super::merge::{LARGE_USER, Merged};
use super::read::Limits;
use crate::context::{ByteSize, Context};

const MIB: usize = 1 << 20;
/// The smallest budget that ingest accepts.
pub(super) const SMALLEST: ByteSize = ByteSize(64 << 20);
/// The program itself, its stacks, and what small things take.
const FIXED: usize = 14 * MIB;
/// What a worker needs at least.
const WORKER: usize = 28 * MIB;
/// Blocks of users being filled, waiting or being written take about this much each.
const USER_BLOCK: usize = 5 * MIB;
/// Bytes of a row of the user being split, and of one in a block: the columns and its share of the positives.
const USER_ROW: usize = size_of::<Merged>();
const BLOCK_ROW: usize = 4 + 8 + 4 + 4 + 1 + 4;

/// Sizes that follow from the budget, the threads and the size of the input. The result never depends on them.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// Threads that parse, and later sort.
    pub(super) workers: usize,
    pub(super) limits: Limits,
    /// Blocks that wait for a parser.
    pub(super) queue: usize,
    /// Slots of each cache of ids seen, a power of two.
    pub(super) cache_slots: usize,
    /// Partitions of users, and of items: a power of two.
    pub(super) partitions: usize,
    /// Bytes that a thread gathers for a partition before it writes them.
    pub(super) spill_buffer: usize,
    /// The most that items may take, in bytes.
    pub(super) item_bytes: usize,
    total: usize,
    /// What a worker gets for sorting even if the rest of the budget is used up.
    least_share: usize,
    /// Rows in a range of hashes at whose end a block of users ends, as a power of two: some four blocks. The same for
    /// all budgets, because the dataset's bytes depend on it.
    pub(super) range_rows: u32,
    /// Blocks of users that may wait for the writer, for each worker.
    pub(super) waiting: usize,
}

impl Budget {
    /// Shares out `ctx.memory()` for an input of `bytes` of text, where that is known, and into as many `partitions` as an
    /// interrupted run had.
    pub(super) fn new(ctx: &Context, bytes: Option<u64>, partitions: Option<usize>) -> Result<Self, IngestError> {
        if ctx.memory() < SMALLEST {
            return Err(IngestError::Budget { given: ctx.memory(), smallest: SMALLEST });
        }
        let total = usize::try_from(ctx.memory().0).unwrap_or(usize::MAX / 2);
        let free = total - FIXED;
        let workers = ctx.threads().min((free / WORKER).max(1));
        let queue = workers;
        let block_bytes = (free / 8 / (2 * workers + 2)).clamp(MIB / 16, MIB);
        let record_bytes = (total / 16).clamp(block_bytes, 16 * MIB);
        let cache = (free / 32 / workers / 8).clamp(1 << 10, 1 << 22);
        let share = free / 2 / workers;
        // A row of 24 bytes of text becomes a record of 32 bytes, and its id some more; hashes spread evenly. Larger
        // partitions than this sort no faster, and keep the threads from noticing that they should stop.
        let each = (share / 4).min(64 * MIB);
        let wanted = bytes.map_or(64, |b| (b as f64 / each as f64).ceil() as usize);
        let parallel = if bytes.is_some_and(|b| b < 8 << 20) { 4 } else { 4 * workers };
        let partitions = partitions.unwrap_or(wanted.max(parallel).clamp(1, 128).next_power_of_two());
        let spill_buffer = (free / 4 / (workers * 3 * partitions)).clamp(2 << 10, 64 << 10);
        Ok(Self {
            workers,
            limits: Limits { block_bytes, record_bytes },
            queue,
            cache_slots: 1 << cache.ilog2(),
            partitions,
            spill_buffer,
            item_bytes: total / 3,
            total,
            least_share: 2 * MIB,
            range_rows: 18,
            waiting: if free / workers < 2 * WORKER { 0 } else { 2 },
        })
    }

    /// Bytes that each worker may use to sort a partition while `held` bytes are in use by others.
    pub(super) fn sort_share(&self, held: usize) -> usize {
        // The other half is for the interactions of one very active user.
        self.worker_share(held) / 2
    }

    /// Rows that one user may have after merging, while `held` bytes are in use by others. They are held once as rows,
    /// and as blocks that are being filled, wait or are being written, each of which may hold a large user, with its `context`.
    pub(super) fn user_rows(&self, held: usize, context: bool) -> usize {
        let blocks = self.waiting + 2;
        let share = self.worker_share(held) / 2 + blocks * USER_BLOCK;
        let block_row = BLOCK_ROW + if context { size_of::<u32>() } else { 0 };
        (share / (USER_ROW + blocks * block_row)).max(LARGE_USER)
    }

    /// Rows that one user may have while a dataset is appended to, within so many bytes beside what that takes in any case.
    pub(super) fn rows_within(bytes: usize) -> usize {
        (bytes / APPENDED_ROW).max(LARGE_USER)
    }

    /// What each worker may use besides blocks of users of the usual size.
    fn worker_share(&self, held: usize) -> usize {
        let blocks = (self.waiting + 2) * USER_BLOCK * self.workers;
        let rest = self.total.saturating_sub(FIXED + held + blocks);
        (rest / self.workers).max(self.least_share)
    }

    /// Bits of the hash that choose the partition.
    pub(super) fn bits(&self) -> u32 {
        self.partitions.ilog2()
    }

    /// For tests: sizes so small that everything spills and splits.
    #[cfg(test)]
    pub(super) fn tiny(workers: usize, partitions: usize, share: usize) -> Self {
        Self {
            workers,
            limits: Limits { block_bytes: 64, record_bytes: 1 << 16 },
            queue: 1,
            cache_slots: 4,
            partitions,
            spill_buffer: 64,
            item_bytes: 1 << 20,
            total: 0,
            least_share: share,
            range_rows: 3,
            waiting: 0,
        }
    }
}

/// The partition that `hash` belongs to.
pub(super) fn partition_of(hash: u64, bits: u32) -> usize {
    // Two shifts, for one by 64 is undefined.
    (hash >> 1 >> (63 - bits)) as usize
}
