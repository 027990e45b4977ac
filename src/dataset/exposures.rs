//! Logged exposures: what was shown to each user and never taken, in chunks of consecutive users.

use std::path::Path;

use rkyv::rend::u32_le;
use rkyv::{Archive, Serialize};

use super::DatasetError;
use super::interactions::are_lists;
use super::manifest::ExposureSummary;
use super::shard::MAX_SHARD_BYTES;
use crate::storage::{
    Archived, CheckedFile, CheckedWriter, Column, FileRecord, IoContext, StorageError, disk, write_root,
};

const KIND: &str = "exposed";
const VERSION: u32 = 1;
/// The folder of the files.
const FOLDER: &str = "exposures";

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
        let folder = dataset.join(FOLDER);
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
                let name = format!("{FOLDER}/{:05}.exposures", self.files.len());
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
        (users, items): (u32, u32),
        summary: ExposureSummary,
    ) -> Result<Self, DatasetError> {
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: folder.join(FOLDER), reason };
        let (mut opened, mut index) = (Vec::new(), Vec::new());
        let (mut next_user, mut exposures) = (0u32, 0u64);
        for record in files.iter().filter(|f| f.path.starts_with(FOLDER) && f.path.ends_with(".exposures")) {
            let archive = Archived::<ArchivedExposuresRoot>::new(CheckedFile::open(folder, record, KIND, VERSION)?)?;
            for (c, chunk) in archive.chunks.iter().enumerate() {
                if chunk.first_user != next_user || !are_lists(&chunk.offsets, &chunk.items, items) {
                    let reason = format!("{}: chunk {c} has invalid users, offsets or items", record.path);
                    return Err(inconsistent(reason));
                }
                index.push((next_user, opened.len() as u32, c as u32));
                let more = u32::try_from(chunk.offsets.len() - 1).unwrap_or(u32::MAX);
                next_user = next_user.saturating_add(more);
                exposures += chunk.items.len() as u64;
            }
            // Checking the chunks touched every item.
            archive.file().release(0..archive.file().bytes().len());
            opened.push(archive);
        }
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
