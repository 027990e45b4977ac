//! Original id ⇄ dense u32 id.
//!
//! Dense ids follow the order of the ids' 64-bit hashes. The order therefore depends on nothing but the ids (not on the
//! order of the log, nor on threads or memory), neighbours are a random sample of users, and looking an id up needs no
//! index: hash it and search the blocks, then the block.
//!
//! Appended ids get numbers behind those that are there, in a further file: a dictionary is a chain of files. Compacting
//! makes one file of a chain, in which the order of hashes is a list; forgetting leaves numbers without an id, holes.

mod file;
mod write;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::DatasetError;
use crate::context::Context;
use crate::nearest::distance;
use crate::storage::{FileRecord, StorageError};
use file::DictionaryFile;
pub(crate) use write::{DictionaryWriter, IdGatherer, write_listed};

/// The hash that orders a dictionary.
pub(crate) fn id_hash(id: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(id, seed)
}

/// Original ids by dense id, and back. Lookups touch the maps only; nothing is loaded.
pub struct Dictionary {
    /// With the number of the first id of each.
    files: Vec<(u32, DictionaryFile)>,
    len: u32,
}

impl Dictionary {
    /// Maps and checks a dictionary of one file.
    pub(crate) fn open(folder: &Path, record: &FileRecord) -> Result<Self, StorageError> {
        Self::open_chain(folder, &[record])
    }

    /// Maps and checks the files of a dictionary, in the order of their ids.
    pub(crate) fn open_chain(folder: &Path, records: &[&FileRecord]) -> Result<Self, StorageError> {
        let mut files: Vec<(u32, DictionaryFile)> = Vec::with_capacity(records.len());
        let mut len = 0u32;
        for record in records {
            let file = DictionaryFile::open(folder, record)?;
            let damaged =
                |reason: &str| StorageError::Damaged { path: folder.join(&record.path), reason: reason.into() };
            if files.first().is_some_and(|(_, first)| first.hash_seed() != file.hash_seed()) {
                return Err(damaged("its hash seed is not that of the files before it"));
            }
            let next = len.checked_add(file.len()).ok_or_else(|| damaged("more ids than 32 bits can count"))?;
            files.push((len, file));
            len = next;
        }
        Ok(Self { files, len })
    }

    /// Number of dense ids, those included whose original id was forgotten.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no ids.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many dense ids have lost their original id: it was forgotten.
    pub fn holes(&self) -> u32 {
        self.files.iter().map(|(_, file)| file.holes().len() as u32).sum()
    }

    /// The dense ids whose original id was forgotten, ascending.
    pub(crate) fn forgotten(&self) -> impl Iterator<Item = u32> + '_ {
        self.files.iter().flat_map(|(first, file)| file.holes().iter().map(move |hole| first + hole.to_native()))
    }

    /// Seed of the hash.
    pub(crate) fn hash_seed(&self) -> u64 {
        self.files.first().map_or(0, |(_, file)| file.hash_seed())
    }

    /// The original id of `dense`, or `None` where there are not that many, or it was forgotten. O(log blocks).
    pub fn id(&self, dense: u32) -> Option<&str> {
        if dense >= self.len {
            return None;
        }
        let (first, file) = &self.files[self.files.partition_point(|(first, _)| *first <= dense) - 1];
        file.id(dense - first)
    }

    /// The dense id of `id`. O(files · log ids).
    pub fn find(&self, id: &str) -> Option<u32> {
        match self.of_hash(id_hash(id.as_bytes(), self.hash_seed())) {
            Some((dense, found)) => (found == id.as_bytes()).then_some(dense),
            None => None,
        }
    }

    /// The dense id and the bytes of the id that has this hash, if there is one.
    pub(crate) fn of_hash(&self, hash: u64) -> Option<(u32, &[u8])> {
        self.files.iter().find_map(|(first, file)| file.of_hash(hash).map(|(index, id)| (first + index, id)))
    }

    /// The hash and the dense id of every id that is there, in the order of hashes. O(ids · log files) in all.
    pub(crate) fn by_hash(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let mut next: BinaryHeap<Reverse<(u64, usize, u32, u32)>> = BinaryHeap::new();
        let push = |next: &mut BinaryHeap<_>, file: usize, at: u32| {
            if let Some((hash, index)) = self.files[file].1.by_hash(at) {
                next.push(Reverse((hash, file, at, index)));
            }
        };
        (0..self.files.len()).for_each(|file| push(&mut next, file, 0));
        std::iter::from_fn(move || {
            let Reverse((hash, file, at, index)) = next.pop()?;
            if at.is_multiple_of(1 << 16) {
                self.files[file].1.file().let_go();
            }
            push(&mut next, file, at + 1);
            Some((hash, self.files[file].0.saturating_add(index)))
        })
    }

    /// Lets go of all pages: they are read again when touched.
    pub(crate) fn let_go(&self) {
        self.files.iter().for_each(|(_, file)| file.file().let_go());
    }

    /// Writes a copy to a new file, which is one whatever this consists of. From the maps and not from the paths, where
    /// another dataset may lie by now. Memory: 4 bytes a hole.
    pub(crate) fn copy_to(&self, path: &Path, relative: &str, ctx: &Context) -> Result<FileRecord, DatasetError> {
        match &self.files[..] {
            [(_, file)] => {
                file.file().copy_to(path)?;
                Ok(FileRecord { path: relative.to_string(), ..file.record().clone() })
            }
            _ => write_listed(self, &[], path, relative, ctx),
        }
    }

    /// Every id is valid UTF-8 and found under its own dense id, and holes hold nothing. O(ids).
    pub(crate) fn verify(&self) -> Result<(), StorageError> {
        let damaged = |dense: u32, reason: &str| {
            let at = self.files.partition_point(|(first, _)| *first <= dense).saturating_sub(1);
            let path = self.files.get(at).map(|(_, file)| file.file().path().to_path_buf()).unwrap_or_default();
            StorageError::Damaged { path, reason: format!("id {dense} is {reason}") }
        };
        let seed = self.hash_seed();
        let (mut last, mut listed) = (None, 0u32);
        for (hash, dense) in self.by_hash() {
            let own = self.id(dense).map(|id| id_hash(id.as_bytes(), seed));
            if own != Some(hash) || last.is_some_and(|last| hash <= last) {
                return Err(damaged(dense, "not in order, or not UTF-8"));
            }
            // The index of blocks is what finding goes by, and nothing above looks at it.
            if self.id(dense).and_then(|id| self.find(id)) != Some(dense) {
                return Err(damaged(dense, "not found under its number"));
            }
            (last, listed) = (Some(hash), listed + 1);
        }
        for (first, file) in &self.files {
            for hole in file.holes() {
                if !file.bytes(hole.to_native()).is_empty() {
                    return Err(damaged(first + hole.to_native(), "forgotten, but its text is there"));
                }
            }
        }
        // Each is a different id with a number of its own, so as many as there are numbers means all of them.
        if listed != self.len - self.holes() { Err(damaged(0, "not in the list by hash")) } else { Ok(()) }
    }

    /// Up to five ids like `id`, for a message about one that is unknown: the same but for case, or with more before or
    /// after it, the shortest first, being nearest; else those in which a letter or two differ, unless it is a number, of
    /// which all are alike. Looks at the first 200,000 ids.
    pub fn similar(&self, id: &str) -> Vec<&str> {
        const LONGEST: usize = 200;
        let wanted = id.to_lowercase();
        let scan = self.len().min(200_000);
        let near = |other: &&str| {
            let other = other.to_lowercase();
            other == wanted || (!wanted.is_empty() && (other.starts_with(&wanted) || other.ends_with(&wanted)))
        };
        let mut found: Vec<&str> = (0..scan).filter_map(|i| self.id(i)).filter(near).collect();
        found.sort_by_key(|id| id.len());
        let letters = id.chars().count();
        let most = (letters / 4).min(2);
        if found.is_empty() && most > 0 && letters <= LONGEST && !id.bytes().all(|b| b.is_ascii_digit()) {
            // A letter has up to four bytes.
            let ids = (0..scan).filter_map(|i| self.id(i)).filter(|other| other.len().abs_diff(id.len()) <= 4 * most);
            let near = ids.map(|other| (distance(id, other), other)).filter(|(apart, _)| *apart <= most);
            let mut near: Vec<(usize, &str)> = near.collect();
            near.sort();
            found.extend(near.into_iter().map(|(_, other)| other));
        }
        found.truncate(5);
        found
    }
}

#[cfg(test)]
mod tests;
