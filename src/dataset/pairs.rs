//! What was appended: for each append the train interactions that rows were added to, as sorted pairs of user and item.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use rkyv::{Archive, Serialize};
use roaring::RoaringBitmap;

use super::DatasetError;
use super::interactions::{Interactions, are_lists};
use crate::storage::{Archived, CheckedFile, CheckedWriter, Column, FileRecord, StorageError, write_root};

const KIND: &str = "pairs";
const VERSION: u32 = 1;
/// The folder of the files.
pub(super) const FOLDER: &str = "appended";
/// Pairs in a chunk.
const CHUNK: usize = 1 << 16;

/// Some users and their items; a user's may go on in the next chunk.
#[derive(Archive, Serialize)]
struct ChunkRoot {
    /// Ascending.
    users: Column<u32>,
    /// One more than users: positions in `items`, from 0.
    offsets: Column<u32>,
    items: Column<u32>,
}

#[derive(Archive, Serialize)]
struct PairsRoot {
    chunks: Vec<ChunkRoot>,
    pairs: u64,
}

/// What a file lists of the train interactions that an append added rows to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// All of them.
    All,
    /// Those that were in train before.
    Repeated,
}

/// The name of a file of change `number` as written by that of the files with the number `generation`.
pub(super) fn name(number: u32, generation: u32, what: Listed) -> String {
    let what = if what == Listed::Repeated { "repeated." } else { "" };
    format!("{FOLDER}/{number:06}.{generation:06}.{what}pairs")
}

/// Writes pairs as they come, ascending. Memory: one chunk, and the index of chunks.
pub(crate) struct PairsWriter {
    file: CheckedWriter,
    root: PairsRoot,
    users: Vec<u32>,
    offsets: Vec<u32>,
    items: Vec<u32>,
}

impl PairsWriter {
    /// Creates `path`.
    pub(super) fn create(path: &Path) -> Result<Self, StorageError> {
        let root = PairsRoot { chunks: Vec::new(), pairs: 0 };
        let file = CheckedWriter::create(path, KIND, VERSION)?;
        Ok(Self { file, root, users: Vec::new(), offsets: Vec::new(), items: Vec::new() })
    }

    /// Appends the next pair.
    pub(crate) fn push(&mut self, user: u32, item: u32) -> Result<(), StorageError> {
        if self.users.last() != Some(&user) {
            self.users.push(user);
            self.offsets.push(self.items.len() as u32);
        }
        self.items.push(item);
        if self.items.len() == CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    /// Pairs so far.
    pub(crate) fn len(&self) -> u64 {
        self.root.pairs + self.items.len() as u64
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.offsets.push(self.items.len() as u32);
        self.root.pairs += self.items.len() as u64;
        let file = &mut self.file;
        self.root.chunks.push(ChunkRoot {
            users: Column::write(file, &self.users, u32::to_le_bytes)?,
            offsets: Column::write(file, &self.offsets, u32::to_le_bytes)?,
            items: Column::write(file, &self.items, u32::to_le_bytes)?,
        });
        self.users.clear();
        self.offsets.clear();
        self.items.clear();
        Ok(())
    }

    pub(crate) fn finish(mut self, relative: &str) -> Result<FileRecord, StorageError> {
        self.flush()?;
        let root = write_root(&mut self.file, &self.root)?;
        self.file.finish(relative, root)
    }
}

/// The pairs of one append, mapped.
pub(super) struct Pairs(Archived<ArchivedPairsRoot>);

impl Pairs {
    /// Maps and checks a file: pairs ascend, without repeats, and are of so many users and items.
    pub(super) fn open(folder: &Path, record: &FileRecord, bounds: (u32, u32)) -> Result<Self, DatasetError> {
        let archive = Archived::<ArchivedPairsRoot>::new(CheckedFile::open(folder, record, KIND, VERSION)?)?;
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: folder.join(&record.path), reason };
        let (mut last, mut pairs) = (None, 0);
        for (c, chunk) in archive.chunks.iter().enumerate() {
            let whole = chunk.offsets.len() == chunk.users.len() + 1;
            if !whole || !are_lists(&chunk.offsets, &chunk.items, bounds.1) {
                return Err(inconsistent(format!("chunk {c} has invalid offsets or items")));
            }
            for (user, ends) in chunk.users.iter().zip(chunk.offsets.windows(2)) {
                let items = &chunk.items[ends[0].to_native() as usize..ends[1].to_native() as usize];
                let (Some(first), Some(end)) = (items.first(), items.last()) else {
                    return Err(inconsistent(format!("chunk {c} has a user without items")));
                };
                let user = user.to_native();
                if user >= bounds.0 || last.is_some_and(|last| last >= (user, first.to_native())) {
                    return Err(inconsistent(format!("chunk {c} has users out of order or out of range")));
                }
                last = Some((user, end.to_native()));
            }
            pairs += chunk.items.len() as u64;
        }
        archive.file().let_go();
        if pairs != archive.pairs.to_native() {
            return Err(inconsistent(format!("{pairs} pairs, but it says {}", archive.pairs)));
        }
        Ok(Self(archive))
    }

    /// All pairs, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.chunks.iter().flat_map(|chunk| {
            chunk.users.iter().zip(chunk.offsets.windows(2)).flat_map(|(user, ends)| {
                let items = &chunk.items[ends[0].to_native() as usize..ends[1].to_native() as usize];
                items.iter().map(|item| (user.to_native(), item.to_native()))
            })
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.0.pairs.to_native()
    }

    /// Writes a copy to a new file at `path`.
    pub(super) fn copy_to(&self, path: &Path) -> Result<(), StorageError> {
        self.0.file().copy_to(path)
    }
}

/// The train interactions that rows were appended to since a moment in a dataset's history. Read in place.
pub struct Appended {
    /// Of each append, and which of them it found in train.
    files: Vec<(Pairs, Option<Pairs>)>,
}

impl Appended {
    pub(super) fn new(files: Vec<(Pairs, Option<Pairs>)>) -> Self {
        Self { files }
    }

    /// Pairs, those that several appends added rows to counted once for each.
    pub fn len(&self) -> u64 {
        self.files.iter().map(|(pairs, _)| pairs.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Dense users and items, ascending by user and then by item, each pair once. O(pairs · log appends) in all; nothing is
    /// loaded.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.firsts().map(|(pair, _)| pair)
    }

    /// Those of [`Appended::pairs`] that were not in train at that moment.
    pub fn arrivals(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let repeated = self.files.iter().map(|(_, repeated)| repeated.iter().flat_map(Pairs::iter).peekable());
        let mut repeated: Vec<_> = repeated.collect();
        // What the first append that lists a pair found in train had been there before all of them.
        self.firsts().filter_map(move |(pair, at)| {
            let found = &mut repeated[at];
            while found.next_if(|other| *other < pair).is_some() {}
            (found.peek() != Some(&pair)).then_some(pair)
        })
    }

    /// Users who had no train interactions at that moment, and have some since.
    pub(crate) fn new_users(&self, train: &Interactions) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        let mut at = (u32::MAX, 0);
        let mut arrivals = self.arrivals();
        loop {
            let next = arrivals.next();
            match next {
                Some((user, _)) if user == at.0 => at.1 += 1,
                next => {
                    let is_new = at.1 > 0 && train.user(at.0).items.len() == at.1;
                    all.extend(is_new.then_some(at.0));
                    let Some((user, _)) = next else { return all };
                    at = (user, 1);
                }
            }
        }
    }

    /// The pairs, and the first append that lists each.
    fn firsts(&self) -> impl Iterator<Item = ((u32, u32), usize)> + '_ {
        let mut sources: Vec<_> = self.files.iter().map(|(pairs, _)| pairs.iter()).collect();
        let mut next: BinaryHeap<Reverse<((u32, u32), usize)>> = BinaryHeap::new();
        next.extend(sources.iter_mut().enumerate().filter_map(|(at, s)| Some(Reverse((s.next()?, at)))));
        let mut last = None;
        std::iter::from_fn(move || {
            loop {
                let Reverse((pair, at)) = next.pop()?;
                next.extend(sources[at].next().map(|pair| Reverse((pair, at))));
                if last.replace(pair) != Some(pair) {
                    return Some((pair, at));
                }
            }
        })
    }
}
