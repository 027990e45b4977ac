//! Writes dictionaries: ids in the order of their hashes as they come, or those of another dictionary merged into one file.

use std::path::Path;

use super::file::{BlockRoot, KIND, LISTED, ListedRoot, ORDERED, OrderedRoot};
use super::{DatasetError, Dictionary, id_hash};
use crate::context::Context;
use crate::storage::{CheckedWriter, Column, FileRecord, StorageError, write_root};

/// Ids in a block, and bytes after which one is full anyway.
const BLOCK_IDS: usize = 8192;
const BLOCK_BYTES: usize = 1 << 20;

/// Appends blocks of ids to a file, and remembers where they are.
struct Blocks {
    file: CheckedWriter,
    entries: u32,
    blocks: Vec<BlockRoot>,
}

impl Blocks {
    fn create(path: &Path, version: u32) -> Result<Self, StorageError> {
        Ok(Self { file: CheckedWriter::create(path, KIND, version)?, entries: 0, blocks: Vec::new() })
    }

    fn append(&mut self, first_hash: u64, offsets: &[u32], bytes: &[u8]) -> Result<(), DatasetError> {
        let Some(entries) = offsets.len().checked_sub(1).filter(|n| *n > 0) else { return Ok(()) };
        let first_id = self.entries;
        let too_many = DatasetError::TooMany { what: "ids" };
        self.entries = u32::try_from(entries).ok().and_then(|n| first_id.checked_add(n)).ok_or(too_many)?;
        self.file.align(8)?;
        let position = self.file.position();
        let (entries, length) = (entries as u32, bytes.len() as u32);
        self.blocks.push(BlockRoot { first_hash, position, first_id, entries, bytes: length });
        for offset in offsets {
            self.file.put(&offset.to_le_bytes())?;
        }
        Ok(self.file.put(bytes)?)
    }
}

/// Writes a dictionary in the order of hashes, block by block; its memory is the index of blocks.
pub(crate) struct DictionaryWriter {
    blocks: Blocks,
    hash_seed: u64,
}

impl DictionaryWriter {
    pub(crate) fn create(path: &Path, hash_seed: u64) -> Result<Self, StorageError> {
        Ok(Self { blocks: Blocks::create(path, ORDERED)?, hash_seed })
    }

    /// Appends ids in the order of their hashes: `offsets` (one more than ids, from 0) delimit them in `bytes`.
    pub(crate) fn append(&mut self, offsets: &[u32], bytes: &[u8]) -> Result<(), DatasetError> {
        let first = offsets.get(1).map_or(0, |end| id_hash(&bytes[..*end as usize], self.hash_seed));
        self.blocks.append(first, offsets, bytes)
    }

    /// Ids appended so far.
    pub(crate) fn len(&self) -> u32 {
        self.blocks.entries
    }

    pub(crate) fn finish(self, relative: &str) -> Result<FileRecord, StorageError> {
        let Blocks { mut file, entries, blocks } = self.blocks;
        let root = write_root(&mut file, &OrderedRoot { hash_seed: self.hash_seed, entries, blocks })?;
        file.finish(relative, root)
    }
}

/// Gathers ids, in the order of their hashes, into blocks of a [`DictionaryWriter`].
pub(crate) struct IdGatherer {
    writer: DictionaryWriter,
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl IdGatherer {
    pub(crate) fn new(writer: DictionaryWriter) -> Self {
        Self { writer, offsets: vec![0], bytes: Vec::new() }
    }

    /// Appends the next id.
    pub(crate) fn push(&mut self, id: &[u8]) -> Result<(), DatasetError> {
        self.bytes.extend_from_slice(id);
        self.offsets.push(self.bytes.len() as u32);
        if self.offsets.len() > BLOCK_IDS || self.bytes.len() >= BLOCK_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Ids so far.
    pub(crate) fn len(&self) -> u32 {
        self.writer.len() + self.offsets.len() as u32 - 1
    }

    fn flush(&mut self) -> Result<(), DatasetError> {
        self.writer.append(&self.offsets, &self.bytes)?;
        self.offsets.truncate(1);
        self.bytes.clear();
        Ok(())
    }

    /// The file; `None`, and no file, where there was no id.
    pub(crate) fn finish(mut self, relative: &str) -> Result<Option<FileRecord>, DatasetError> {
        self.flush()?;
        if self.writer.len() == 0 {
            let path = self.writer.blocks.file.path().to_path_buf();
            drop(self.writer);
            crate::storage::remove_file(&path)?;
            return Ok(None);
        }
        Ok(Some(self.writer.finish(relative)?))
    }
}

/// Writes all ids of `dictionary` to one file of version 2, but those of the numbers in `forgotten` (ascending), which
/// become holes beside those that there are. Numbers stay what they are.
///
/// Three passes over the dictionary; memory: the index of blocks, and 4 bytes a hole.
pub(crate) fn write_listed(
    dictionary: &Dictionary,
    forgotten: &[u32],
    path: &Path,
    relative: &str,
    ctx: &Context,
) -> Result<FileRecord, DatasetError> {
    let mut blocks = Blocks::create(path, LISTED)?;
    let (mut offsets, mut bytes) = (vec![0u32], Vec::new());
    // As many as there are, so that none is held twice while it grows.
    let mut holes = Vec::with_capacity(dictionary.holes() as usize + forgotten.len());
    let is_forgotten = |number: u32| forgotten.binary_search(&number).is_ok();
    for number in 0..dictionary.len() {
        match dictionary.id(number).filter(|_| !is_forgotten(number)) {
            Some(id) => bytes.extend_from_slice(id.as_bytes()),
            None => holes.push(number),
        }
        offsets.push(bytes.len() as u32);
        if offsets.len() > BLOCK_IDS || bytes.len() >= BLOCK_BYTES {
            ctx.check()?;
            blocks.append(0, &offsets, &bytes)?;
            offsets.truncate(1);
            bytes.clear();
            dictionary.let_go();
        }
    }
    blocks.append(0, &offsets, &bytes)?;
    let Blocks { mut file, entries, blocks } = blocks;
    file.align(8)?;
    let (position, mut listed) = (file.position(), 0usize);
    for (hash, _) in dictionary.by_hash().filter(|(_, number)| !is_forgotten(*number)) {
        file.put(&hash.to_le_bytes())?;
        listed += 1;
        if listed.is_multiple_of(1 << 16) {
            ctx.check()?;
        }
    }
    let hashes = Column::written(position, listed);
    file.align(8)?;
    let position = file.position();
    for (_, number) in dictionary.by_hash().filter(|(_, number)| !is_forgotten(*number)) {
        file.put(&number.to_le_bytes())?;
    }
    let order = Column::written(position, listed);
    let holes = Column::write(&mut file, &holes, u32::to_le_bytes)?;
    let hash_seed = dictionary.hash_seed();
    let root = write_root(&mut file, &ListedRoot { hashes, order, holes, hash_seed, entries, blocks })?;
    Ok(file.finish(relative, root)?)
}
