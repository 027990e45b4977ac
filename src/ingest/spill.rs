//! Temporary files: appended to by many threads, read back as streams, gone when dropped.
//!
//! They are not mapped, for mapped pages would count as resident. Only those that a checkpoint names are synced, and these
//! stay when dropped: they go with their folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::IngestError;
use crate::storage::disk::{self, DiskFile};
use crate::storage::{IoContext, StorageError, sync_folder};

/// Bytes of a buffer through which a temporary file is read.
pub(super) const READ_BUFFER: usize = 256 << 10;
/// Bytes gathered for each file while one is split into several.
pub(super) const SPLIT_BUFFER: usize = 32 << 10;

/// Where temporary files go, and how much they hold.
pub(super) struct TempSpace {
    folder: PathBuf,
    next: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl TempSpace {
    /// Creates `folder`, or goes on in it.
    pub(super) fn create(folder: PathBuf) -> Result<Arc<Self>, StorageError> {
        disk::create_folders(&folder).at(&folder, "create")?;
        Ok(Arc::new(Self { folder, next: AtomicU64::new(0), used: AtomicU64::new(0), peak: AtomicU64::new(0) }))
    }

    /// The most that was held at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Removes the folder with all that is left in it. Not before a checkpoint that names files in it is gone.
    pub(super) fn remove(&self) -> Result<(), StorageError> {
        disk::remove_tree(&self.folder).at(&self.folder, "remove")
    }

    /// Makes the names of the files durable.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        sync_folder(&self.folder)
    }

    /// Removes the files of all but the first `count` spills, which an interrupted run left.
    pub(super) fn remove_from(&self, count: u64) -> Result<(), StorageError> {
        for entry in self.folder.read_dir().at(&self.folder, "list")? {
            let path = entry.at(&self.folder, "list")?.path();
            let number = path.file_name().and_then(|n| n.to_str()?.parse::<u64>().ok());
            if number.is_none_or(|n| n >= count) {
                disk::remove_file(&path).at(&path, "remove")?;
            }
        }
        Ok(())
    }
}

/// A temporary file. It exists from the first append on.
pub(super) struct Spill {
    space: Arc<TempSpace>,
    path: PathBuf,
    file: Mutex<Option<DiskFile>>,
    bytes: AtomicU64,
    /// Whether the file stays when this is dropped.
    kept: AtomicBool,
}

impl Spill {
    /// An empty one.
    pub(super) fn new(space: &Arc<TempSpace>) -> Self {
        let number = space.next.fetch_add(1, Ordering::Relaxed);
        let path = space.folder.join(number.to_string());
        Self {
            space: space.clone(),
            path,
            file: Mutex::new(None),
            bytes: AtomicU64::new(0),
            kept: AtomicBool::new(false),
        }
    }

    /// `count` empty ones.
    pub(super) fn several(space: &Arc<TempSpace>, count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::new(space)).collect()
    }

    /// Appends whole records; other threads' may come before or after, not in between.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<(), StorageError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(DiskFile::append(&self.path).at(&self.path, "create")?),
        };
        file.write_all(bytes).at(&self.path, "write")?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let used = self.space.used.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
        self.space.peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
    }

    /// Closes the file, to be read later.
    pub(super) fn seal(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes what was appended durable, and lets the file stay when this is dropped. Returns the bytes in it.
    pub(super) fn sync(&self) -> Result<u64, StorageError> {
        self.kept.store(true, Ordering::Relaxed);
        let bytes = self.len();
        if bytes > 0 {
            let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let synced = match &*file {
                Some(file) => file.sync(),
                None => DiskFile::open(&self.path).and_then(|f| f.sync()),
            };
            synced.at(&self.path, "sync")?;
        }
        Ok(bytes)
    }

    /// Goes on with the first `bytes` of the file that an interrupted run left; what follows them is cut off.
    pub(super) fn restore(&self, bytes: u64) -> Result<(), StorageError> {
        self.kept.store(true, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        let used = self.space.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.space.peak.fetch_max(used, Ordering::Relaxed);
        if bytes == 0 {
            return disk::remove_tree(&self.path).at(&self.path, "remove");
        }
        let file = DiskFile::open(&self.path).at(&self.path, "open")?;
        if file.metadata().at(&self.path, "open")?.len() < bytes {
            return Err(truncated(&self.path));
        }
        file.set_len(bytes).at(&self.path, "cut")
    }

    /// Says that a record in it is none of those that were written.
    pub(super) fn foreign(&self) -> IngestError {
        let reason = "it holds a row of an event type, context or part that there is not".to_string();
        IngestError::Journal { path: self.path.clone(), reason }
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reads it from the start.
    pub(super) fn read(&self) -> Result<SpillReader, StorageError> {
        let file = match self.len() {
            0 => None,
            _ => Some(File::open(&self.path).at(&self.path, "open")?),
        };
        Ok(SpillReader { file, path: self.path.clone(), buffer: Vec::new(), at: 0 })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        let bytes = self.len();
        if bytes > 0 && !*self.kept.get_mut() {
            // Should it fail, the file goes with the folder.
            let _ = disk::remove_file(&self.path);
            self.space.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Reads a temporary file through a buffer of 256 KiB.
pub(super) struct SpillReader {
    file: Option<File>,
    path: PathBuf,
    buffer: Vec<u8>,
    at: usize,
}

impl SpillReader {
    /// The next `count` bytes, or `None` at the end.
    pub(super) fn take(&mut self, count: usize) -> Result<Option<&[u8]>, StorageError> {
        if self.buffer.len() - self.at < count && !self.fill(count)? {
            return Ok(None);
        }
        self.at += count;
        Ok(Some(&self.buffer[self.at - count..self.at]))
    }

    /// Like [`SpillReader::take`] where the end would mean a damaged file.
    pub(super) fn need(&mut self, count: usize) -> Result<&[u8], StorageError> {
        if self.buffer.len() - self.at < count && !self.fill(count)? {
            return Err(truncated(&self.path));
        }
        self.at += count;
        Ok(&self.buffer[self.at - count..self.at])
    }

    /// As many whole records of `width` bytes as there are in the buffer; empty at the end.
    pub(super) fn records(&mut self, width: usize) -> Result<&[u8], StorageError> {
        if self.buffer.len() - self.at < width && !self.fill(width)? {
            return Ok(&[]);
        }
        let start = self.at;
        self.at += (self.buffer.len() - start) / width * width;
        Ok(&self.buffer[start..self.at])
    }

    #[cold]
    fn fill(&mut self, count: usize) -> Result<bool, StorageError> {
        let Some(file) = &mut self.file else { return Ok(false) };
        self.buffer.drain(..self.at);
        self.at = 0;
        let rest = self.buffer.len();
        let wanted = READ_BUFFER.max(count) - rest;
        file.take(wanted as u64).read_to_end(&mut self.buffer).at(&self.path, "read")?;
        match self.buffer.len() {
            0 => Ok(false),
            len if len < count => Err(truncated(&self.path)),
            _ => Ok(true),
        }
    }
}

fn truncated(path: &Path) -> StorageError {
    StorageError::Damaged { path: path.to_path_buf(), reason: "a temporary file ends too early".into() }
}

/// Gathers records for several files and appends them in large pieces.
pub(super) struct Gather {
    buffers: Vec<Vec<u8>>,
    size: usize,
}

impl Gather {
    /// For `count` files, `size` bytes each.
    pub(super) fn new(count: usize, size: usize) -> Self {
        Self { buffers: vec![Vec::new(); count], size }
    }

    /// The buffer of file `index`, with room for a small record.
    #[inline]
    pub(super) fn buffer(&mut self, index: usize) -> &mut Vec<u8> {
        let buffer = &mut self.buffers[index];
        if buffer.capacity() == 0 {
            buffer.reserve_exact(self.size);
        }
        buffer
    }

    /// Appends file `index`'s buffer if another record of `more` bytes might not fit.
    #[inline]
    pub(super) fn make_room(&mut self, index: usize, more: usize, spills: &[Spill]) -> Result<(), StorageError> {
        let buffer = &mut self.buffers[index];
        if buffer.len() + more > self.size && !buffer.is_empty() {
            spills[index].append(buffer)?;
            buffer.clear();
            // A long id may have made it grow.
            if buffer.capacity() > self.size {
                buffer.shrink_to(self.size);
            }
        }
        Ok(())
    }

    /// Appends what is left.
    pub(super) fn finish(self, spills: &[Spill]) -> Result<(), StorageError> {
        for (buffer, spill) in self.buffers.iter().zip(spills) {
            spill.append(buffer)?;
        }
        Ok(())
    }
}

/// Children of a split: 16 consecutive values of the topmost bits that differ.
#[derive(Clone, Copy)]
pub(super) struct Fork {
    shift: u32,
}

/// Files that one is split into.
pub(super) const CHILDREN: usize = 16;

impl Fork {
    /// Splits by the four topmost of the bits that differ; `None` if none does.
    pub(super) fn on(differing: u64) -> Option<Self> {
        (differing != 0).then(|| Self { shift: 63u32.saturating_sub(differing.leading_zeros()).saturating_sub(3) })
    }

    /// The child of a key.
    pub(super) fn child(self, key: u64) -> usize {
        (key >> self.shift) as usize % CHILDREN
    }
}
