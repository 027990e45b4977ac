//! The folder of an ingest in the making: `OUTPUT.partial`, with everything that is not published yet.
//!
//! ```text
//! lock                held as long as a process works in it
//! journal             what is durable, written by the checkpoints; replaced whole
//! temporary/          rows and ids, by partition
//! rejects.ndjson      rows that could not be used
//! dataset-…/          the dataset in the making
//! ```
//!
//! Nothing outside of the folder refers to it, so it may be removed at any time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::IngestError;
use super::journal::{JOURNAL, Journal};
use super::options::Leftover;
use crate::context::{ByteSize, Context};
use crate::storage::disk::{self, DiskFile};
use crate::storage::{IoContext, StorageError, replace_file, sync_folder};

const LOCK: &str = "lock";

/// The folder, claimed by this process. Dropped without a journal it is removed, else it stays to be resumed.
pub(super) struct Partial {
    folder: PathBuf,
    journaled: AtomicBool,
    _lock: DiskFile,
}

impl Partial {
    /// Claims the folder beside `output`, and does about an earlier one there what `leftover` says.
    pub(super) fn claim(
        output: &Path,
        leftover: Leftover,
        ctx: &Context,
    ) -> Result<(Self, Option<Journal>), IngestError> {
        let mut name = output.as_os_str().to_os_string();
        name.push(".partial");
        let folder = PathBuf::from(name);
        let there = folder.symlink_metadata().is_ok();
        if !there {
            if leftover == Leftover::Resume {
                return Err(IngestError::NothingToResume { folder, why: "there is no such folder" });
            }
            if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
                return Err(StorageError::NoParent { path: parent.to_path_buf() }.into());
            }
            disk::create_folder(&folder).at(&folder, "create")?;
        } else if !is_ours(&folder) {
            return Err(IngestError::NotPartial { folder });
        }
        let lock = folder.join(LOCK);
        let file = DiskFile::open_or_create(&lock).at(&lock, "create")?;
        match file.try_lock() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(IngestError::Busy { folder }),
            other => other.at(&lock, "lock")?,
        }
        if !there {
            // By its lock the folder is known as ours, and a checkpoint is worth nothing in one whose name a crash takes back.
            sync_folder(&folder)?;
            sync_folder(disk::parent_of(&folder))?;
        }
        let partial = Self { journaled: AtomicBool::new(true), folder, _lock: file };
        let path = partial.folder.join(JOURNAL);
        let found = path.exists();
        match (leftover, found) {
            (Leftover::Resume, true) => {
                let journal = Journal::read(&path)?;
                return Ok((partial, Some(journal)));
            }
            (Leftover::Resume, false) => {
                let why = "it was interrupted before its first checkpoint";
                let error = IngestError::NothingToResume { folder: partial.folder.clone(), why };
                partial.discard();
                return Err(error);
            }
            (Leftover::Refuse, true) => {
                let held = ByteSize(partial.bytes());
                return Err(IngestError::Leftover { folder: partial.folder.clone(), held });
            }
            (Leftover::Refuse, false) if there => {
                ctx.message(&format!(
                    "{}: removing what an earlier ingest left before its first checkpoint",
                    partial.folder.display()
                ));
            }
            _ => {}
        }
        partial.clear()?;
        partial.discard();
        Ok((partial, None))
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes `journal` durable in place of the one before. What it names must be durable.
    pub(super) fn save(&self, journal: &Journal) -> Result<(), IngestError> {
        replace_file(&self.folder.join(JOURNAL), &journal.to_bytes()?)?;
        self.journaled.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there is something to resume.
    pub(super) fn is_journaled(&self) -> bool {
        self.journaled.load(Ordering::Relaxed)
    }

    /// Gives up what was done so far: the folder goes when this is dropped.
    pub(super) fn discard(&self) {
        self.journaled.store(false, Ordering::Relaxed);
    }

    /// Bytes that it holds on the disk.
    pub(super) fn bytes(&self) -> u64 {
        bytes_below(&self.folder)
    }

    /// Removes everything in it but the lock; the journal first, so that none ever names what is gone.
    fn clear(&self) -> Result<(), StorageError> {
        let journal = self.folder.join(JOURNAL);
        if journal.exists() {
            disk::remove_file(&journal).at(&journal, "remove")?;
            sync_folder(&self.folder)?;
        }
        self.clear_but(&[])
    }

    /// Removes everything but the lock, the journal and what is named.
    pub(super) fn clear_but(&self, kept: &[&str]) -> Result<(), StorageError> {
        for entry in self.folder.read_dir().at(&self.folder, "list")? {
            let entry = entry.at(&self.folder, "list")?;
            let (name, path) = (entry.file_name(), entry.path());
            if name == LOCK || name == JOURNAL || kept.iter().any(|k| name == *k) {
                continue;
            }
            disk::remove_tree(&path).at(&path, "remove")?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_journaled() {
            // Failing to tidy up is no reason to fail; the next run finds it and tries again.
            // The lock goes last, by which the folder is known as ours.
            let _ = self.clear().and_then(|()| sync_folder(&self.folder));
            let _ = disk::remove_tree(&self.folder);
        }
    }
}

/// Whether the folder is one of these: it has a lock, or nothing at all.
fn is_ours(folder: &Path) -> bool {
    let is_folder = folder.symlink_metadata().is_ok_and(|m| m.is_dir());
    let is_empty = || folder.read_dir().is_ok_and(|mut d| d.next().is_none());
    is_folder && (folder.join(LOCK).is_file() || is_empty())
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(m) if m.is_dir() => bytes_below(&entry.path()),
        Ok(m) => m.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}
