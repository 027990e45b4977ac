//! Logged exposures: what was shown to each user and never taken, in chunks of consecutive users.

use std::path::Path;

use rkyv::rend::u32_le;
use rkyv::{Archive, Serialize};

use super::DatasetError;
use super::interactions::{CHECKED, are_lists};
use super::live::{EXPOSURES, Stream, record};
use super::manifest::ExposureSummary;
use super::shard::MAX_SHARD_BYTES;
use crate::storage::{
    Archived, CheckedFile, CheckedWriter, Column, FileRecord, IoContext, StorageError, disk, write_root,
};

const KIND: &str = "exposed";
const VERSION: u32 = 1;

/// Consecutive users: those of a chunk of the interactions.
#[derive(Archive, Serialize)]
struct ChunkRoot {
    /// `users + 1` positions in `items`, from 0.
    offsets: Column<u32>,
    items: Column<u32>,
    first_user: u32,
}

#[derive(Archive, Serialize)]
struct ExposuresRoot {
    chunks: Vec<ChunkRoot>,
}

/// The exposures of the users of a block, as the writer takes them.
#[derive(Debug)]
pub(super) struct ExposureBlock {
    pub(super) offsets: Vec<u32>,
    pub(super) items: Vec<u32>,
    pub(super) exposed_users: u32,
}

impl ExposureBlock {
    pub(super) fn new() -> Self {
        Self { offsets: vec![0], items: Vec::new(), exposed_users: 0 }
    }

    pub(super) fn end_user(&mut self) {
        let start = self.offsets.last().map_or(0, |o| *o as usize);
        debug_assert!(self.items[start..].is_sorted_by(|a, b| a < b), "items of a user ascend without repeats");
        self.exposed_users += u32::from(self.items.len() > start);
        self.offsets.push(self.items.len() as u32);
    }
}

/// A file being written.
struct Open {
    file: CheckedWriter,
    root: ExposuresRoot,
    name: String,
}

/// Writes exposures block by block, in files that are closed before they would outgrow 1 GiB. Memory: the index of chunks,
/// and 1 byte an item.
pub(super) struct ExposuresWriter {
    folder: std::path::PathBuf,
    open: Option<Open>,
    files: Vec<FileRecord>,
    summary: ExposureSummary,
    seen: Vec<bool>,
}

impl ExposuresWriter {
    /// Creates the folder of the files in that of a dataset of so many items.
    pub(super) fn create(dataset: &Path, items: usize) -> Result<Self, StorageError> {
        let folder = dataset.join(EXPOSURES);
        disk::create_folder(&folder).at(&folder, "create")?;
        let summary = ExposureSummary::default();
        Ok(Self { folder: dataset.to_path_buf(), open: None, files: Vec::new(), summary, seen: vec![false; items] })
    }

    /// Appends the next users.
    pub(super) fn append(&mut self, first_user: u32, block: &ExposureBlock) -> Result<(), StorageError> {
        self.summary.exposures += block.items.len() as u64;
        self.summary.users += block.exposed_users;
        block.items.iter().for_each(|item| self.seen[*item as usize] = true);
        let bytes = (block.items.len() + block.offsets.len()) as u64 * 4 + 512;
        if let Some(full) = self.open.take_if(|open| open.file.position() + bytes > MAX_SHARD_BYTES) {
            self.files.push(full.finish()?);
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => {
                let name = format!("{EXPOSURES}/{:05}.exposures", self.files.len());
                let file = CheckedWriter::create(&self.folder.join(&name), KIND, VERSION)?;
                none.insert(Open { file, root: ExposuresRoot { chunks: Vec::new() }, name })
            }
        };
        open.root.chunks.push(ChunkRoot {
            offsets: Column::write(&mut open.file, &block.offsets, u32::to_le_bytes)?,
            items: Column::write(&mut open.file, &block.items, u32::to_le_bytes)?,
            first_user,
        });
        Ok(())
    }

    /// Counts the exposures of a user of a chunk that stays where it is.
    pub(super) fn count_kept(&mut self, items: &[u32_le]) {
        self.summary.exposures += items.len() as u64;
        self.summary.users += u32::from(!items.is_empty());
        items.iter().for_each(|item| self.seen[item.to_native() as usize] = true);
    }

    /// The file that the last block went to, and its number in it.
    pub(super) fn last(&self) -> Option<(&str, u32)> {
        self.open.as_ref().map(|open| (&open.name[..], open.root.chunks.len() as u32 - 1))
    }

    /// Ends the files.
    pub(super) fn finish(mut self) -> Result<(Vec<FileRecord>, ExposureSummary), StorageError> {
        if let Some(open) = self.open.take() {
            self.files.push(open.finish()?);
        }
        self.summary.items = self.seen.iter().filter(|seen| **seen).count() as u32;
        Ok((self.files, self.summary))
    }
}

impl Open {
    fn finish(mut self) -> Result<FileRecord, StorageError> {
        let root = write_root(&mut self.file, &self.root)?;
        self.file.finish(&self.name, root)
    }
}

/// What was shown to each user and never taken, in no part of the dataset. Read in place; nothing is loaded.
pub struct Exposures {
    files: Vec<Archived<ArchivedExposuresRoot>>,
    /// (first user, file, chunk in the file), ascending by user.
    index: Vec<(u32, u32, u32)>,
    summary: ExposureSummary,
    users: u32,
}

impl Exposures {
    pub(super) fn open(
        folder: &Path,
        files: &[FileRecord],
        stream: &Stream,
        (users, items): (u32, u32),
        summary: ExposureSummary,
    ) -> Result<Self, DatasetError> {
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: folder.join(EXPOSURES), reason };
        let mut opened = Vec::with_capacity(stream.files.len());
        for path in &stream.files {
            let file = CheckedFile::open(folder, record(folder, files, path)?, KIND, VERSION)?;
            opened.push(Archived::<ArchivedExposuresRoot>::new(file)?);
        }
        let (mut index, mut next_user, mut exposures) = (Vec::new(), 0u32, 0u64);
        for place in stream.places(|file| opened[file].chunks.len()) {
            let (file, c) =
                place.ok_or_else(|| inconsistent("the index lists chunks that are not there, or one twice".into()))?;
            if index.len().is_multiple_of(CHECKED) {
                opened[file as usize].file().let_go();
            }
            let chunk = &opened[file as usize].chunks[c as usize];
            if chunk.first_user != next_user || !are_lists(&chunk.offsets, &chunk.items, items) {
                let path = &stream.files[file as usize];
                return Err(inconsistent(format!("{path}: chunk {c} has invalid users, offsets or items")));
            }
            index.push((next_user, file, c));
            let more = u32::try_from(chunk.offsets.len() - 1).unwrap_or(u32::MAX);
            next_user = next_user.saturating_add(more);
            exposures += chunk.items.len() as u64;
            if next_user > users {
                break;
            }
        }
        // Checking the chunks touched every item.
        opened.iter().for_each(|archive| archive.file().release(0..archive.file().bytes().len()));
        if next_user != users || exposures != summary.exposures {
            return Err(inconsistent(format!(
                "{next_user} users and {exposures} exposures, but the manifest says {users} and {}",
                summary.exposures
            )));
        }
        Ok(Self { files: opened, index, summary, users })
    }

    /// Counts.
    pub fn summary(&self) -> ExposureSummary {
        self.summary
    }

    /// The file, in the order of its stream, and the chunk in it of each chunk.
    pub(super) fn place(&self, index: usize) -> (u32, u32) {
        let (_, file, chunk) = self.index[index];
        (file, chunk)
    }

    /// The users from first to one behind the last of every chunk in file `file`, those included that are no more read.
    pub(super) fn ranges_in(&self, file: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let range = |chunk: &ArchivedChunkRoot| {
            let first = chunk.first_user.to_native();
            (first, first.saturating_add((chunk.offsets.len() as u32).saturating_sub(1)))
        };
        self.files[file as usize].chunks.iter().map(range)
    }

    /// Lets go of all pages of the file that chunk `index` is in: they are read again when touched.
    pub(crate) fn let_go(&self, index: usize) {
        self.files[self.index[index].1 as usize].file().let_go();
    }

    /// The same for all files.
    pub(crate) fn let_go_all(&self) {
        self.files.iter().for_each(|archive| archive.file().let_go());
    }

    /// What was shown to `user` and never taken: dense item ids, ascending. O(log chunks).
    ///
    /// # Panics
    /// If the dataset has no such user.
    pub fn user(&self, user: u32) -> &[u32_le] {
        assert!(user < self.users, "user {user} of {}", self.users);
        let (first, file, chunk) = self.index[self.index.partition_point(|(first, _, _)| *first <= user) - 1];
        let chunk = &self.files[file as usize].chunks[chunk as usize];
        let at = (user - first) as usize;
        &chunk.items[chunk.offsets[at].to_native() as usize..chunk.offsets[at + 1].to_native() as usize]
    }
}
