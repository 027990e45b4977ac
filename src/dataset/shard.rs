//! The two files of a shard: interactions in chunks of consecutive users, and the users' serialized positives.

use std::path::Path;

use rkyv::{Archive, Serialize};

use super::block::PartBlock;
use crate::storage::{CheckedWriter, Column, FileRecord, StorageError, write_root};

pub(super) const SHARD_KIND: &str = "shard";
pub(super) const POSITIVES_KIND: &str = "positive";
pub(super) const VERSION: u32 = 1;
/// A shard is closed before it outgrows rkyv's 32-bit relative pointers, which reach 2 GiB.
pub(super) const MAX_SHARD_BYTES: u64 = 1 << 30;

/// Some thousands of consecutive users and their interactions, sorted by user, then item.
/// Columns that the dataset does not have are empty, and so are counts where all are 1.
#[derive(Archive, Serialize)]
pub(super) struct ChunkRoot {
    /// `users + 1` positions in the columns below, from 0.
    pub(super) offsets: Column<u32>,
    pub(super) items: Column<u32>,
    pub(super) times: Column<i64>,
    pub(super) weights: Column<f32>,
    pub(super) counts: Column<u32>,
    pub(super) events: Column<u8>,
    pub(super) first_user: u32,
}

#[derive(Archive, Serialize)]
pub(super) struct ShardRoot {
    pub(super) chunks: Vec<ChunkRoot>,
}

/// The positives of a chunk's users: `users + 1` offsets into `bytes`.
#[derive(Archive, Serialize)]
pub(super) struct PositivesChunkRoot {
    pub(super) offsets: Column<u32>,
    pub(super) bytes: Column<u8>,
    pub(super) first_user: u32,
}

#[derive(Archive, Serialize)]
pub(super) struct PositivesRoot {
    pub(super) chunks: Vec<PositivesChunkRoot>,
}

/// Both files of a shard in the making; chunks are written as they come.
pub(super) struct ShardWriter {
    shard: CheckedWriter,
    positives: CheckedWriter,
    chunks: ShardRoot,
    positive_chunks: PositivesRoot,
    names: [String; 2],
}

impl ShardWriter {
    pub(super) fn create(folder: &Path, part: &str, index: usize) -> Result<Self, StorageError> {
        let names = [format!("{part}/{index:05}.shard"), format!("{part}/{index:05}.positives")];
        Ok(Self {
            shard: CheckedWriter::create(&folder.join(&names[0]), SHARD_KIND, VERSION)?,
            positives: CheckedWriter::create(&folder.join(&names[1]), POSITIVES_KIND, VERSION)?,
            chunks: ShardRoot { chunks: Vec::new() },
            positive_chunks: PositivesRoot { chunks: Vec::new() },
            names,
        })
    }

    /// Whether `block` still fits.
    pub(super) fn has_room(&self, block: &PartBlock) -> bool {
        let larger = self.shard.position().max(self.positives.position());
        self.chunks.chunks.is_empty() || larger + block.bytes() as u64 <= MAX_SHARD_BYTES
    }

    pub(super) fn append(&mut self, first_user: u32, block: &PartBlock) -> Result<(), StorageError> {
        let counts = if block.repeated { &block.counts[..] } else { &[] };
        let file = &mut self.shard;
        self.chunks.chunks.push(ChunkRoot {
            offsets: Column::write(file, &block.offsets, u32::to_le_bytes)?,
            items: Column::write(file, &block.items, u32::to_le_bytes)?,
            times: Column::write(file, &block.times, i64::to_le_bytes)?,
            weights: Column::write(file, &block.weights, f32::to_le_bytes)?,
            counts: Column::write(file, counts, u32::to_le_bytes)?,
            events: Column::write(file, &block.events, u8::to_le_bytes)?,
            first_user,
        });
        let file = &mut self.positives;
        self.positive_chunks.chunks.push(PositivesChunkRoot {
            offsets: Column::write(file, &block.positive_offsets, u32::to_le_bytes)?,
            bytes: Column::write(file, &block.positives, u8::to_le_bytes)?,
            first_user,
        });
        Ok(())
    }

    /// The file of the interactions, and the number in it of the last chunk.
    pub(super) fn last(&self) -> (&str, u32) {
        (&self.names[0], self.chunks.chunks.len() as u32 - 1)
    }

    pub(super) fn finish(mut self) -> Result<[FileRecord; 2], StorageError> {
        let root = write_root(&mut self.shard, &self.chunks)?;
        let shard = self.shard.finish(&self.names[0], root)?;
        let root = write_root(&mut self.positives, &self.positive_chunks)?;
        Ok([shard, self.positives.finish(&self.names[1], root)?])
    }
}
