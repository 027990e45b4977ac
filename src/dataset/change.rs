//! Changing a dataset: who may, what is left over of a change that was interrupted, and what a change made unnecessary.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::live::EXPOSURES;
use super::manifest::Manifest;
use super::{DatasetError, FORMAT, FORMAT_VERSION, ITEMS, POPULARITY, Part, USERS, contexts, pairs};
use crate::storage::{
    FolderLock, IoContext, StorageError, read_format, read_manifest, remove_file, remove_folder, sync_folder,
};

/// The folder of the files that changes write, each in a folder of its own.
pub(super) const SEGMENTS: &str = "segments";

/// Where an append builds a dataset of the new rows, and the folder in which it works, both inside of the dataset.
pub(crate) const APPEND: &str = ".append";
pub(crate) const APPEND_PARTIAL: &str = ".append.partial";

/// The right to change a dataset, held as long as this lives.
pub(crate) struct DatasetLock {
    _lock: FolderLock,
    folder: PathBuf,
}

/// Whether there is a dataset, of whatever version and state.
pub(crate) fn is_dataset(folder: &Path) -> bool {
    read_format(folder, "dataset").is_ok_and(|format| format == FORMAT)
}

/// The manifest of the dataset at `folder`.
pub(crate) fn read_dataset_manifest(folder: &Path) -> Result<Manifest, DatasetError> {
    Ok(read_manifest(folder, FORMAT, FORMAT_VERSION)?)
}

impl DatasetLock {
    /// Takes the lock of the dataset at `folder`, which must be one.
    pub(crate) fn claim(folder: &Path) -> Result<(Self, Manifest), DatasetError> {
        // Else a lock would be made in a folder that is none.
        read_dataset_manifest(folder)?;
        let lock = Self::claim_to_replace(folder)?;
        // Another process may have changed it until the lock was taken.
        let manifest = read_dataset_manifest(folder)?;
        Ok((lock, manifest))
    }

    /// Takes the lock of a dataset that is to be replaced, whatever its state is.
    pub(crate) fn claim_to_replace(folder: &Path) -> Result<Self, DatasetError> {
        let lock = FolderLock::claim(folder)?.ok_or_else(|| DatasetError::Busy { path: folder.to_path_buf() })?;
        Ok(Self { _lock: lock, folder: folder.to_path_buf() })
    }

    /// Removes the files that `manifest`, which must be the dataset's and durable, does not list: what an interrupted change
    /// left, and what a finished one replaced. Looks only where Peccary writes.
    pub(crate) fn remove_unlisted(&self, manifest: &Manifest) -> Result<(), StorageError> {
        let listed: HashSet<&Path> = manifest.files.iter().map(|f| Path::new(&f.path)).collect();
        for name in [USERS, ITEMS, POPULARITY, contexts::VALUES] {
            if !listed.contains(Path::new(name)) {
                remove_file(&self.folder.join(name))?;
            }
        }
        let folders = Part::ALL.map(Part::name).into_iter().chain([EXPOSURES, pairs::FOLDER, SEGMENTS]);
        for name in folders {
            self.remove_below(Path::new(name), &listed)?;
        }
        remove_folder(&self.folder.join(APPEND))?;
        sync_folder(&self.folder)
    }

    /// Removes what is not listed below a folder, and then the folder if it is empty.
    fn remove_below(&self, relative: &Path, listed: &HashSet<&Path>) -> Result<(), StorageError> {
        let folder = self.folder.join(relative);
        let entries = match folder.read_dir() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at(&folder, "list")?,
        };
        let (mut kept, mut removed) = (false, false);
        for entry in entries {
            let entry = entry.at(&folder, "list")?;
            let path = relative.join(entry.file_name());
            if entry.file_type().at(&folder, "list")?.is_dir() {
                self.remove_below(&path, listed)?;
                kept |= self.folder.join(&path).is_dir();
            } else if listed.contains(&path.as_path()) {
                kept = true;
            } else {
                remove_file(&self.folder.join(&path))?;
                removed = true;
            }
        }
        if !kept {
            return remove_folder(&folder);
        }
        if removed { sync_folder(&folder) } else { Ok(()) }
    }
}
