//! Original id ⇄ dense u32 id.
//!
//! Dense ids follow the order of the ids' 64-bit hashes. The order therefore depends on nothing but the ids (not on the
//! order of the log, nor on threads or memory), neighbours are a random sample of users, and looking an id up needs no
//! index: hash it and search the blocks, then the block.

use std::path::Path;

use rkyv::{Archive, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::DatasetError;
use crate::storage::{Archived, CheckedFile, CheckedWriter, FileRecord, StorageError, write_root};

const KIND: &str = "dict";
const VERSION: u32 = 1;

/// The hash that orders a dictionary.
pub(crate) fn id_hash(id: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(id, seed)
}

/// A run of ids: `entries + 1` offsets (u32) at `position`, then the bytes they delimit.
#[derive(Archive, Serialize)]
struct BlockRoot {
    first_hash: u64,
    position: u64,
    first_id: u32,
    entries: u32,
    bytes: u32,
}

#[derive(Archive, Serialize)]
struct DictionaryRoot {
    hash_seed: u64,
    entries: u32,
    blocks: Vec<BlockRoot>,
}

/// Writes a dictionary block by block; its memory is the index of blocks.
pub(crate) struct DictionaryWriter {
    file: CheckedWriter,
    root: DictionaryRoot,
}

impl DictionaryWriter {
    pub(crate) fn create(path: &Path, hash_seed: u64) -> Result<Self, StorageError> {
        let file = CheckedWriter::create(path, KIND, VERSION)?;
        Ok(Self { file, root: DictionaryRoot { hash_seed, entries: 0, blocks: Vec::new() } })
    }

    /// Appends ids in the order of their hashes: `offsets` (one more than ids, from 0) delimit them in `bytes`.
    pub(crate) fn append(&mut self, offsets: &[u32], bytes: &[u8]) -> Result<(), DatasetError> {
        let Some(entries) = offsets.len().checked_sub(1).filter(|n| *n > 0) else { return Ok(()) };
        let first_id = self.root.entries;
        let too_many = DatasetError::TooMany { what: "ids" };
        self.root.entries = u32::try_from(entries).ok().and_then(|n| first_id.checked_add(n)).ok_or(too_many)?;
        self.file.align(8)?;
        self.root.blocks.push(BlockRoot {
            first_hash: id_hash(&bytes[..offsets[1] as usize], self.root.hash_seed),
            position: self.file.position(),
            first_id,
            entries: entries as u32,
            bytes: bytes.len() as u32,
        });
        for offset in offsets {
            self.file.put(&offset.to_le_bytes())?;
        }
        Ok(self.file.put(bytes)?)
    }

    /// Ids appended so far.
    pub(crate) fn len(&self) -> u32 {
        self.root.entries
    }

    pub(crate) fn finish(mut self, relative: &str) -> Result<FileRecord, StorageError> {
        let root = write_root(&mut self.file, &self.root)?;
        self.file.finish(relative, root)
    }
}

/// Original ids by dense id, and back. Lookups touch the map only; nothing is loaded.
pub struct Dictionary {
    archive: Archived<ArchivedDictionaryRoot>,
}

impl Dictionary {
    /// Maps and checks a dictionary file.
    pub(crate) fn open(folder: &Path, record: &FileRecord) -> Result<Self, StorageError> {
        let archive = Archived::<ArchivedDictionaryRoot>::new(CheckedFile::open(folder, record, KIND, VERSION)?)?;
        let damaged = || StorageError::Damaged { path: folder.join(&record.path), reason: "block index".into() };
        let mut next = 0u32;
        for block in archive.blocks.iter() {
            let (entries, bytes) = (block.entries.to_native(), block.bytes.to_native());
            let end = (u64::from(entries) + 1) * 4 + u64::from(bytes);
            let end = block.position.to_native().checked_add(end).ok_or_else(damaged)?;
            if block.first_id != next || entries == 0 || end > archive.file().bytes().len() as u64 {
                return Err(damaged());
            }
            next = next.checked_add(entries).ok_or_else(damaged)?;
        }
        if next != archive.entries { Err(damaged()) } else { Ok(Self { archive }) }
    }

    /// Number of ids.
    pub fn len(&self) -> u32 {
        self.archive.entries.to_native()
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The original id of `dense`, or `None` where there are not that many. O(log blocks).
    pub fn id(&self, dense: u32) -> Option<&str> {
        if dense >= self.len() {
            return None;
        }
        let block = self.archive.blocks.partition_point(|b| b.first_id.to_native() <= dense) - 1;
        let bytes = self.entry(block, (dense - self.archive.blocks[block].first_id.to_native()) as usize);
        std::str::from_utf8(bytes).ok()
    }

    /// The dense id of `id`. O(log ids) hashes of candidates.
    pub fn find(&self, id: &str) -> Option<u32> {
        let seed = self.archive.hash_seed.to_native();
        let hash = id_hash(id.as_bytes(), seed);
        let block = self.archive.blocks.partition_point(|b| b.first_hash.to_native() <= hash).checked_sub(1)?;
        let first_id = self.archive.blocks[block].first_id.to_native();
        let (mut low, mut high) = (0, self.archive.blocks[block].entries.to_native() as usize);
        while low < high {
            let middle = (low + high) / 2;
            let entry = self.entry(block, middle);
            match id_hash(entry, seed).cmp(&hash) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return (entry == id.as_bytes()).then_some(first_id + middle as u32),
            }
        }
        None
    }

    /// Writes a copy of the file. From the map and not from the path, where another dataset may lie by now.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), StorageError> {
        self.archive.file().copy_to(path)
    }

    /// Every id is valid UTF-8, in the order of its hash, and found under its own dense id. O(ids).
    pub(crate) fn verify(&self) -> Result<(), StorageError> {
        let seed = self.archive.hash_seed.to_native();
        let mut last = None;
        for dense in 0..self.len() {
            let hash = self.id(dense).map(|id| id_hash(id.as_bytes(), seed));
            if hash.is_none() || (last.is_some() && hash <= last) {
                return Err(StorageError::Damaged {
                    path: self.archive.file().path().to_path_buf(),
                    reason: format!("id {dense} is not in order, or not UTF-8"),
                });
            }
            last = hash;
        }
        Ok(())
    }

    /// Up to five ids like `id`, for a message about one that is unknown: the same but for case, or with more before or
    /// after it. The shortest come first, being nearest. Looks at the first 200,000 ids.
    pub fn similar(&self, id: &str) -> Vec<&str> {
        let wanted = id.to_lowercase();
        let scan = self.len().min(200_000);
        let near = |other: &&str| {
            let other = other.to_lowercase();
            other == wanted || (!wanted.is_empty() && (other.starts_with(&wanted) || other.ends_with(&wanted)))
        };
        let mut found: Vec<&str> = (0..scan).filter_map(|i| self.id(i)).filter(near).collect();
        found.sort_by_key(|id| id.len());
        found.truncate(5);
        found
    }

    /// The bytes of entry `index` of a block; empty where the offsets are invalid.
    fn entry(&self, block: usize, index: usize) -> &[u8] {
        let block = &self.archive.blocks[block];
        let position = block.position.to_native() as usize;
        let entries = block.entries.to_native() as usize;
        let file = self.archive.file().bytes();
        let offset = |i: usize| {
            let at = position + i * 4;
            u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize
        };
        let text = position + (entries + 1) * 4;
        file[text..text + block.bytes.to_native() as usize].get(offset(index)..offset(index + 1)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_are_found_both_ways(ids in proptest::collection::btree_set(".{1,12}", 1..200), block in 1usize..50) {
            let folder = tempfile::tempdir().unwrap();
            let mut ids: Vec<String> = ids.into_iter().collect();
            ids.sort_by_key(|id| id_hash(id.as_bytes(), 7));
            let mut writer = DictionaryWriter::create(&folder.path().join("d"), 7).unwrap();
            for group in ids.chunks(block) {
                let mut offsets = vec![0u32];
                let mut bytes = Vec::new();
                for id in group {
                    bytes.extend_from_slice(id.as_bytes());
                    offsets.push(bytes.len() as u32);
                }
                writer.append(&offsets, &bytes).unwrap();
            }
            let record = writer.finish("d").unwrap();
            let dictionary = Dictionary::open(folder.path(), &record).unwrap();
            prop_assert_eq!(dictionary.len() as usize, ids.len());
            dictionary.verify().unwrap();
            for (dense, id) in ids.iter().enumerate() {
                prop_assert_eq!(dictionary.id(dense as u32), Some(id.as_str()));
                prop_assert_eq!(dictionary.find(id), Some(dense as u32));
            }
            prop_assert_eq!(dictionary.id(ids.len() as u32), None);
            prop_assert_eq!(dictionary.find("an id that is much longer than twelve characters"), None);
        }
    }
}
