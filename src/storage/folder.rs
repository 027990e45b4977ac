//! Folders that change after they were published: who may change them, and what is made and removed in them.

use std::io;
use std::path::Path;

use super::disk::{self, DiskFile};
use super::error::{IoContext, StorageError};
use super::publish::sync_folders;

const LOCK: &str = ".lock";

/// The right to change a published folder, held as long as this lives. The system lets go of it with the process.
pub(crate) struct FolderLock {
    _file: DiskFile,
}

impl FolderLock {
    /// Takes the lock of `folder`; `None` where another process or thread has it.
    pub(crate) fn claim(folder: &Path) -> Result<Option<Self>, StorageError> {
        let path = folder.join(LOCK);
        loop {
            let file = DiskFile::open_or_create(&path).at(&path, "create")?;
            match file.try_lock() {
                // The folder may have been replaced between: then this is the lock of one that is gone.
                Ok(()) if !disk::is_same(&path, &file.metadata().at(&path, "look at")?) => {}
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) => return Err(e).at(&path, "lock"),
            }
        }
    }
}

/// Makes a folder, and those above it; one that is there already is no error.
pub(crate) fn create_folder(path: &Path) -> Result<(), StorageError> {
    disk::create_folders(path).at(path, "create")
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> Result<(), StorageError> {
    ignore_absent(disk::remove_file(path)).at(path, "remove")
}

/// Removes a folder with all that is in it; one that is not there is no error.
pub(crate) fn remove_folder(path: &Path) -> Result<(), StorageError> {
    disk::remove_tree(path).at(path, "remove")
}

/// Makes the names in a folder durable, and those in all folders below it.
pub(crate) fn sync_tree(path: &Path) -> Result<(), StorageError> {
    sync_folders(path)
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
