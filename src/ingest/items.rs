//! The items: their ids in order, and a table from hash to dense id.

use std::sync::Arc;

use super::error::IngestError;
use super::ids::{self, SortedIds};
use super::spill::{Spill, TempSpace};
use crate::context::{ByteSize, Context, Unit};
use crate::dataset::DictionaryWriter;

/// Bytes an item takes in the table at most: its hash, and its share of the index.
const ENTRY: usize = 10;
/// Ids in a block of the dictionary, and bytes after which one is full anyway.
const BLOCK_IDS: usize = 8192;
const BLOCK_BYTES: usize = 1 << 20;

/// All items, numbered in the order of their hashes.
///
/// Memory: 8 bytes an item, and up to 2 for an index by the topmost bits, which leaves some two to four candidates.
pub(super) struct ItemTable {
    hashes: Vec<u64>,
    starts: Vec<u32>,
    bits: u32,
    ids: Spill,
}

impl ItemTable {
    /// Orders the items of `spills`, whose ranges of hashes ascend. Refuses more of them than fit into `most` bytes, where
    /// each needs `others` besides what it takes here.
    #[allow(clippy::too_many_arguments)] // what to order, and within what
    pub(super) fn build(
        spills: Vec<Spill>,
        hash_seed: u64,
        space: &Arc<TempSpace>,
        share: usize,
        most: usize,
        others: usize,
        ctx: &Context,
    ) -> Result<Self, IngestError> {
        let stage = ctx.stage("ordering items", None, Unit::Bytes);
        let sorted = Spill::new(space);
        let mut count = 0u64;
        let mut buffer = Vec::new();
        let mut ids = SortedIds::new("item", hash_seed, spills, space, share, ctx);
        while let Some((hash, id)) = ids.next()? {
            count += 1;
            ids::put(hash, id, &mut buffer);
            if buffer.len() >= BLOCK_BYTES {
                ctx.check()?;
                stage.add(buffer.len() as u64);
                sorted.append(&buffer)?;
                buffer.clear();
            }
        }
        stage.add(buffer.len() as u64);
        sorted.append(&buffer)?;
        sorted.seal();
        drop(ids);
        let needed = count.saturating_mul((ENTRY + others) as u64);
        if needed > most as u64 || count > u64::from(u32::MAX) {
            let remedy = ByteSize((needed.saturating_mul(3)).div_ceil(1 << 20) << 20);
            return Err(IngestError::Items { items: count, needed: ByteSize(needed), remedy });
        }
        let mut hashes = Vec::with_capacity(count as usize);
        let mut reader = sorted.read()?;
        while let Some((hash, _)) = ids::take(&mut reader)? {
            hashes.push(hash);
        }
        let bits = count.max(4).ilog2() - 2;
        let starts = (0..=1u64 << bits)
            .map(|bucket| hashes.partition_point(|h| super::budget::partition_of(*h, bits) < bucket as usize) as u32)
            .collect();
        Ok(Self { hashes, starts, bits, ids: sorted })
    }

    /// Number of items.
    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.hashes.len() * ENTRY
    }

    /// The number of the item with this hash.
    #[inline]
    pub(super) fn dense(&self, hash: u64) -> Option<u32> {
        let bucket = super::budget::partition_of(hash, self.bits);
        let (start, end) = (self.starts[bucket], self.starts[bucket + 1]);
        let at = self.hashes[start as usize..end as usize].iter().position(|h| *h == hash)?;
        Some(start + at as u32)
    }

    /// The hash of item `dense`.
    pub(super) fn hash(&self, dense: u32) -> u64 {
        self.hashes[dense as usize]
    }

    /// Writes the ids of the items that `keep` wants to the dictionary.
    pub(super) fn write(&self, writer: &mut DictionaryWriter, keep: impl Fn(u32) -> bool) -> Result<(), IngestError> {
        let mut reader = self.ids.read()?;
        let (mut offsets, mut bytes) = (vec![0u32], Vec::new());
        let mut dense = 0;
        while let Some((_, id)) = ids::take(&mut reader)? {
            if keep(dense) {
                bytes.extend_from_slice(id);
                offsets.push(bytes.len() as u32);
                if offsets.len() > BLOCK_IDS || bytes.len() >= BLOCK_BYTES {
                    writer.append(&offsets, &bytes)?;
                    offsets.truncate(1);
                    bytes.clear();
                }
            }
            dense += 1;
        }
        Ok(writer.append(&offsets, &bytes)?)
    }
}
