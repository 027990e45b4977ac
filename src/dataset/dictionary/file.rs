//! One file of a dictionary: version 1 in the order of hashes, version 2 in the order of ids with the order of hashes beside.

use std::path::Path;

use rkyv::rend::{u32_le, u64_le};
use rkyv::{Archive, Serialize};

use super::id_hash;
use crate::storage::{Archived, CheckedFile, Column, FileRecord, StorageError};

pub(super) const KIND: &str = "dict";
/// In the order of hashes.
pub(super) const ORDERED: u32 = 1;
/// In an order of their own, with a list by hash, and with holes.
pub(super) const LISTED: u32 = 2;

/// A run of ids: `entries + 1` offsets (u32) at `position`, then the bytes they delimit.
#[derive(Archive, Serialize)]
pub(super) struct BlockRoot {
    /// Of the first id; 0 in version 2.
    pub(super) first_hash: u64,
    pub(super) position: u64,
    pub(super) first_id: u32,
    pub(super) entries: u32,
    pub(super) bytes: u32,
}

#[derive(Archive, Serialize)]
pub(super) struct OrderedRoot {
    pub(super) hash_seed: u64,
    pub(super) entries: u32,
    pub(super) blocks: Vec<BlockRoot>,
}

#[derive(Archive, Serialize)]
pub(super) struct ListedRoot {
    /// Of all ids but the holes, ascending.
    pub(super) hashes: Column<u64>,
    /// The number of each, in the same order.
    pub(super) order: Column<u32>,
    /// Numbers without an id, ascending.
    pub(super) holes: Column<u32>,
    pub(super) hash_seed: u64,
    pub(super) entries: u32,
    pub(super) blocks: Vec<BlockRoot>,
}

enum Root {
    Ordered(Archived<ArchivedOrderedRoot>),
    Listed(Archived<ArchivedListedRoot>),
}

/// A dictionary file; its ids count from 0. Lookups touch the map only; nothing is loaded.
pub(super) struct DictionaryFile {
    root: Root,
    record: FileRecord,
}

impl DictionaryFile {
    /// Maps and checks a file.
    pub(super) fn open(folder: &Path, record: &FileRecord) -> Result<Self, StorageError> {
        let file = CheckedFile::open(folder, record, KIND, LISTED)?;
        let root = match file.version() {
            LISTED => Root::Listed(Archived::new(file)?),
            _ => Root::Ordered(Archived::new(file)?),
        };
        let opened = Self { root, record: record.clone() };
        opened
            .check()
            .map(|()| opened)
            .ok_or_else(|| StorageError::Damaged { path: folder.join(&record.path), reason: "block index".into() })
    }

    /// Blocks lie in the file and number the ids without a gap; lists are as long as there are ids.
    fn check(&self) -> Option<()> {
        let length = self.file().bytes().len() as u64;
        let mut next = 0u32;
        for block in self.blocks() {
            let (entries, bytes) = (block.entries.to_native(), block.bytes.to_native());
            let end = (u64::from(entries) + 1) * 4 + u64::from(bytes);
            let end = block.position.to_native().checked_add(end)?;
            if block.first_id != next || entries == 0 || end > length {
                return None;
            }
            next = next.checked_add(entries)?;
        }
        if let Root::Listed(root) = &self.root {
            let (listed, holes) = (root.order.len(), root.holes.len());
            let ascend = root.holes.is_sorted_by(|a, b| a.to_native() < b.to_native());
            let below = root.holes.last().is_none_or(|hole| hole.to_native() < next);
            if listed != root.hashes.len() || listed.checked_add(holes)? != next as usize || !ascend || !below {
                return None;
            }
        }
        (next == self.len()).then_some(())
    }

    fn blocks(&self) -> &[ArchivedBlockRoot] {
        match &self.root {
            Root::Ordered(root) => &root.blocks,
            Root::Listed(root) => &root.blocks,
        }
    }

    pub(super) fn file(&self) -> &CheckedFile {
        match &self.root {
            Root::Ordered(root) => root.file(),
            Root::Listed(root) => root.file(),
        }
    }

    pub(super) fn record(&self) -> &FileRecord {
        &self.record
    }

    /// Numbers, holes included.
    pub(super) fn len(&self) -> u32 {
        match &self.root {
            Root::Ordered(root) => root.entries.to_native(),
            Root::Listed(root) => root.entries.to_native(),
        }
    }

    pub(super) fn hash_seed(&self) -> u64 {
        match &self.root {
            Root::Ordered(root) => root.hash_seed.to_native(),
            Root::Listed(root) => root.hash_seed.to_native(),
        }
    }

    /// Numbers without an id, ascending.
    pub(super) fn holes(&self) -> &[u32_le] {
        match &self.root {
            Root::Ordered(_) => &[],
            Root::Listed(root) => &root.holes,
        }
    }

    /// The bytes of number `index`, which must be below the length; empty for a hole and where the offsets are invalid.
    pub(super) fn bytes(&self, index: u32) -> &[u8] {
        let blocks = self.blocks();
        let block = blocks.partition_point(|b| b.first_id.to_native() <= index) - 1;
        self.entry(block, (index - blocks[block].first_id.to_native()) as usize)
    }

    /// The id of number `index`.
    pub(super) fn id(&self, index: u32) -> Option<&str> {
        if index >= self.len() || self.is_hole(index) {
            return None;
        }
        std::str::from_utf8(self.bytes(index)).ok()
    }

    fn is_hole(&self, index: u32) -> bool {
        self.holes().binary_search_by_key(&index, |hole| hole.to_native()).is_ok()
    }

    /// The number and the bytes of the id with this hash, if there is one.
    pub(super) fn of_hash(&self, hash: u64) -> Option<(u32, &[u8])> {
        match &self.root {
            Root::Listed(root) => {
                let at = root.hashes.binary_search_by_key(&hash, |h: &u64_le| h.to_native()).ok()?;
                let index = root.order.get(at)?.to_native();
                (index < self.len()).then(|| (index, self.bytes(index)))
            }
            Root::Ordered(root) => {
                let seed = root.hash_seed.to_native();
                let block = root.blocks.partition_point(|b| b.first_hash.to_native() <= hash).checked_sub(1)?;
                let first_id = root.blocks[block].first_id.to_native();
                let (mut low, mut high) = (0, root.blocks[block].entries.to_native() as usize);
                while low < high {
                    let middle = (low + high) / 2;
                    let entry = self.entry(block, middle);
                    match id_hash(entry, seed).cmp(&hash) {
                        std::cmp::Ordering::Less => low = middle + 1,
                        std::cmp::Ordering::Greater => high = middle,
                        std::cmp::Ordering::Equal => return Some((first_id + middle as u32, entry)),
                    }
                }
                None
            }
        }
    }

    /// The `at`-th id in the order of hashes, if there are so many: its hash, as listed or computed, and its number.
    pub(super) fn by_hash(&self, at: u32) -> Option<(u64, u32)> {
        match &self.root {
            Root::Ordered(root) => (at < self.len()).then(|| (id_hash(self.bytes(at), root.hash_seed.to_native()), at)),
            Root::Listed(root) => {
                Some((root.hashes.get(at as usize)?.to_native(), root.order.get(at as usize)?.to_native()))
            }
        }
    }

    /// The bytes of entry `index` of a block; empty where the offsets are invalid.
    fn entry(&self, block: usize, index: usize) -> &[u8] {
        let block = &self.blocks()[block];
        let position = block.position.to_native() as usize;
        let entries = block.entries.to_native() as usize;
        let file = self.file().bytes();
        let offset = |i: usize| {
            let at = position + i * 4;
            u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize
        };
        let text = position + (entries + 1) * 4;
        file[text..text + block.bytes.to_native() as usize].get(offset(index)..offset(index + 1)).unwrap_or_default()
    }
}
