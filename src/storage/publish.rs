//! Outputs that appear whole or not at all: built under a temporary name beside the target, synced, then renamed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::disk::{self, DiskFile};
use super::error::{IoContext, StorageError};
use super::manifest::read_format;
use super::temporary::{Temporary, remove_abandoned, restore};

/// A folder in the making. Dropping it without [`Staging::publish`] removes it. While it lives the folder is locked, which
/// tells others that it is in use; the system lets go of the lock with the process.
pub(crate) struct Staging {
    folder: Temporary,
    target: PathBuf,
    force: bool,
}

impl Staging {
    /// Starts the folder that will become `target`, in `format`, such as `peccary-model`. With `force` an earlier one
    /// of the same format is replaced, or an empty folder: neither a folder that is not ours nor, by a slip, the dataset
    /// that a model is being trained on.
    pub(crate) fn new(target: &Path, force: bool, format: &'static str) -> Result<Self, StorageError> {
        let (parent, prefix) = beside(target)?;
        restore(target)?;
        may_replace_folder(target, force, format)?;
        remove_abandoned(&parent, &prefix);
        Self::start(&parent, &prefix, target, force)
    }

    /// Like [`Staging::new`], but builds in `folder`, which must be on the target's file system, and leaves what lies
    /// there to its owner.
    pub(crate) fn within(
        folder: &Path,
        target: &Path,
        force: bool,
        format: &'static str,
    ) -> Result<Self, StorageError> {
        let (parent, prefix) = beside(target)?;
        restore(target)?;
        may_replace_folder(target, force, format)?;
        remove_abandoned(&parent, &prefix);
        Self::start(folder, "dataset-", target, force)
    }

    fn start(parent: &Path, prefix: &str, target: &Path, force: bool) -> Result<Self, StorageError> {
        let folder = Temporary::folder(parent, prefix).at(parent, "create a folder in it")?;
        Ok(Self { folder, target: target.to_path_buf(), force })
    }

    /// Where to write the files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the folder appear as the target, in one step. Its files must have been synced.
    pub(crate) fn publish(self) -> Result<(), StorageError> {
        sync_folders(self.folder.path())?;
        self.folder.put(&self.target, self.force)
    }
}

/// The parent folder of `target` and the prefix of temporary names in it.
fn beside(target: &Path) -> Result<(PathBuf, String), StorageError> {
    let parent = match target.parent() {
        Some(p) if p.as_os_str().is_empty() => PathBuf::from("."),
        Some(p) => p.to_path_buf(),
        None => return Err(StorageError::Exists { path: target.to_path_buf() }),
    };
    if !parent.is_dir() {
        return Err(StorageError::NoParent { path: parent });
    }
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((parent, format!(".{name}.tmp-")))
}

fn may_replace(
    target: &Path,
    force: bool,
    expected: &'static str,
    is_ours: impl Fn(&Path) -> bool,
) -> Result<(), StorageError> {
    match (target.symlink_metadata().is_ok(), force) {
        (false, _) => Ok(()),
        (true, false) => Err(StorageError::Exists { path: target.to_path_buf() }),
        (true, true) if is_ours(target) => Ok(()),
        (true, true) => Err(StorageError::NotReplaceable { path: target.to_path_buf(), expected }),
    }
}

/// What [`Staging::new`] says of `force`.
fn may_replace_folder(target: &Path, force: bool, format: &'static str) -> Result<(), StorageError> {
    let expected = if format == "peccary-model" { "a model" } else { "a dataset" };
    may_replace(target, force, expected, |p| {
        p.is_dir()
            && (read_format(p, expected).is_ok_and(|found| found == format)
                || p.read_dir().is_ok_and(|mut d| d.next().is_none()))
    })
}

/// Only a regular file is ever replaced: renaming one over a device would take it from everyone on the machine, and over
/// a link would leave what it points at as it was.
fn may_replace_file(target: &Path, force: bool) -> Result<(), StorageError> {
    match target.symlink_metadata() {
        Ok(there) if !there.is_file() => Err(StorageError::NotRegular { path: target.to_path_buf() }),
        Ok(_) if !force => Err(StorageError::Exists { path: target.to_path_buf() }),
        _ => Ok(()),
    }
}

pub(super) fn sync_folders(folder: &Path) -> Result<(), StorageError> {
    for entry in folder.read_dir().at(folder, "list")? {
        let path = entry.at(folder, "list")?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync_folder(folder)
}

pub(crate) fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    disk::sync_folder(folder).at(folder, "sync")
}

/// Makes `bytes` durable as the file `path`, whole or not at all, in place of one that is there. For files inside a
/// folder that one process owns: a neighbour of a fixed name is written first.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let next = path.with_extension("next");
    let mut file = DiskFile::open_or_create(&next).at(&next, "create")?;
    // What was left of an earlier attempt.
    file.set_len(0).at(&next, "cut")?;
    file.write_all(bytes).and_then(|()| file.sync()).at(&next, "write")?;
    disk::rename(&next, path).at(path, "rename to")?;
    sync_folder(disk::parent_of(path))
}

/// A single file that appears whole or not at all. Dropping it without [`AtomicFile::publish`] leaves nothing behind; what
/// a killed process leaves, the next one for the same target removes.
pub(crate) struct AtomicFile {
    file: io::BufWriter<DiskFile>,
    temporary: Temporary,
    target: PathBuf,
    force: bool,
    /// Whether all that was written is durable.
    complete: bool,
}

impl AtomicFile {
    /// Starts the file that will become `target`; with `force` an earlier file there is replaced.
    pub(crate) fn new(target: &Path, force: bool) -> Result<Self, StorageError> {
        may_replace_file(target, force)?;
        let (parent, prefix) = beside(target)?;
        remove_abandoned(&parent, &prefix);
        let (temporary, file) = Temporary::file(&parent, &prefix).at(&parent, "create a file in it")?;
        let file = io::BufWriter::with_capacity(1 << 18, file);
        Ok(Self { file, temporary, target: target.to_path_buf(), force, complete: false })
    }

    /// Makes the content durable, so that there is only a name to change when other things are done, too.
    pub(crate) fn complete(&mut self) -> Result<(), StorageError> {
        self.file.flush().at(&self.target, "write")?;
        self.file.get_ref().sync().at(&self.target, "sync")?;
        self.complete = true;
        Ok(())
    }

    /// Syncs the file and makes it appear as the target.
    pub(crate) fn publish(mut self) -> Result<(), StorageError> {
        if !self.complete {
            self.complete()?;
        }
        let Self { temporary, target, force, .. } = self;
        // Something else may have appeared there meanwhile.
        may_replace_file(&target, force)?;
        temporary.put(&target, force)
    }

    /// Drops the file, and removes what it would have replaced.
    pub(crate) fn remove(self) -> Result<(), StorageError> {
        let Self { target, force, .. } = self;
        if target.symlink_metadata().is_ok() {
            may_replace_file(&target, force)?;
            disk::remove_file(&target).at(&target, "remove")?;
            sync_folder(&beside(&target)?.0)?;
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.complete = false;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(target: &Path, force: bool, name: &str) -> Staging {
        let staging = Staging::new(target, force, "peccary-model").unwrap();
        let text = format!("{{\"format\": \"peccary-model\", \"name\": \"{name}\"}}");
        std::fs::write(staging.path().join("manifest.json"), text).unwrap();
        staging
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        drop(staged(&target, false, "first"));
        assert_eq!(root.path().read_dir().unwrap().count(), 0, "a dropped staging leaves nothing");
        staged(&target, false, "first").publish().unwrap();
        assert!(matches!(Staging::new(&target, false, "peccary-model"), Err(StorageError::Exists { .. })));
        drop(staged(&target, true, "second"));
        assert!(std::fs::read_to_string(target.join("manifest.json")).unwrap().contains("first"));
        staged(&target, true, "second").publish().unwrap();
        assert!(std::fs::read_to_string(target.join("manifest.json")).unwrap().contains("second"));
        assert_eq!(root.path().read_dir().unwrap().count(), 1, "what was replaced is gone");
    }

    #[test]
    fn only_regular_files_are_replaced_or_removed() {
        let root = tempfile::tempdir().unwrap();
        let (file, link, folder) = (root.path().join("file"), root.path().join("link"), root.path().join("folder"));
        std::fs::write(&file, "precious").unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for target in [&link, &folder, Path::new("/dev/null")] {
            for force in [false, true] {
                let refused = AtomicFile::new(target, force).err();
                assert!(matches!(refused, Some(StorageError::NotRegular { .. })), "{refused:?}");
            }
        }
        assert!(matches!(AtomicFile::new(&file, false).err(), Some(StorageError::Exists { .. })));
        let late = AtomicFile::new(&root.path().join("late"), true).unwrap();
        std::os::unix::fs::symlink(&file, root.path().join("late")).unwrap();
        assert!(matches!(late.publish(), Err(StorageError::NotRegular { .. })));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
        AtomicFile::new(&file, true).unwrap().remove().unwrap();
        assert!(!file.exists());
        assert_eq!(root.path().read_dir().unwrap().count(), 3, "link, late and folder");
    }

    #[test]
    fn force_spares_what_is_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("home");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("thesis.tex"), "x").unwrap();
        let refused = |format| matches!(Staging::new(&target, true, format), Err(StorageError::NotReplaceable { .. }));
        assert!(refused("peccary-model"));
        // Many programs call a file so.
        std::fs::write(target.join("manifest.json"), "{\"name\": \"an extension\"}").unwrap();
        assert!(refused("peccary-model"));
        std::fs::write(target.join("manifest.json"), "{\"format\": \"peccary-dataset\"}").unwrap();
        assert!(refused("peccary-model") && !refused("peccary-dataset"));
    }
}
