//! Outputs that appear whole or not at all: built under a temporary name beside the target, synced, then renamed.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use super::error::{IoContext, StorageError};
use super::manifest::read_format;

/// A folder in the making. Dropping it without [`Staging::publish`] removes it.
pub(crate) struct Staging {
    folder: TempDir,
    target: PathBuf,
    force: bool,
    /// Held as long as this lives: it tells others that the folder is in use. The system lets go of it with the process.
    _lock: File,
}

impl Staging {
    /// Starts the folder that will become `target`, in `format`, such as `peccary-model`. With `force` an earlier one
    /// of the same format is replaced, or an empty folder: neither a folder that is not ours nor, by a slip, the dataset
    /// that a model is being trained on. [`StorageError::Busy`] says that another process is making it.
    pub(crate) fn new(target: &Path, force: bool, format: &'static str) -> Result<Self, StorageError> {
        may_replace_folder(target, force, format)?;
        let (parent, prefix) = beside(target)?;
        let busy = || StorageError::Busy { path: target.to_path_buf() };
        if remove_abandoned(&parent, &prefix, None) {
            return Err(busy());
        }
        let staging = Self::start(&parent, &prefix, target, force)?;
        // Another may have started since. Should both see the other, both give way.
        if remove_abandoned(&parent, &prefix, staging.path().file_name()) { Err(busy()) } else { Ok(staging) }
    }

    /// Like [`Staging::new`], but builds in `folder`, which must be on the target's file system, and leaves what lies
    /// there to its owner.
    pub(crate) fn within(
        folder: &Path,
        target: &Path,
        force: bool,
        format: &'static str,
    ) -> Result<Self, StorageError> {
        may_replace_folder(target, force, format)?;
        beside(target)?;
        Self::start(folder, "dataset-", target, force)
    }

    fn start(parent: &Path, prefix: &str, target: &Path, force: bool) -> Result<Self, StorageError> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).at(parent, "create a folder in it")?;
        let lock = folder.path().join(LOCK);
        let file = File::create(&lock).at(&lock, "create")?;
        file.try_lock().map_err(io::Error::from).at(&lock, "lock")?;
        Ok(Self { folder, target: target.to_path_buf(), force, _lock: file })
    }

    /// Where to write the files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the folder appear as the target, in one step. Its files must have been synced.
    pub(crate) fn publish(self) -> Result<(), StorageError> {
        let Self { folder, target, force, _lock } = self;
        std::fs::remove_file(folder.path().join(LOCK)).at(folder.path(), "unlock")?;
        sync_folders(folder.path())?;
        let parent = beside(&target)?.0;
        if force && target.exists() {
            exchange(folder.path(), &target)?;
            sync_folder(&parent)?;
            // `folder` now holds what was replaced, and removes it when dropped.
            return Ok(());
        }
        match rustix::fs::renameat_with(
            rustix::fs::CWD,
            folder.path(),
            rustix::fs::CWD,
            &target,
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(StorageError::Exists { path: target }),
            // Some file systems know no flags; the check at the start and this one leave but an instant.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !target.exists() => {
                std::fs::rename(folder.path(), &target).at(&target, "rename to")?;
            }
            Err(e) => return Err(io::Error::from(e)).at(&target, "rename to"),
        }
        let _ = folder.keep(); // it has moved: there is nothing left to remove
        sync_folder(&parent)
    }
}

const LOCK: &str = ".lock";

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

/// Removes what a killed process left under our prefix: folders whose lock nobody holds. Returns whether somebody holds
/// one, but for that of `own`.
fn remove_abandoned(parent: &Path, prefix: &str, own: Option<&std::ffi::OsStr>) -> bool {
    let Ok(entries) = parent.read_dir() else { return false };
    let mut busy = false;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) || Some(&*entry.file_name()) == own {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        match lock.try_lock() {
            // Failing to tidy up is no reason to fail; the next run tries again.
            Ok(()) => drop(std::fs::remove_dir_all(entry.path())),
            Err(std::fs::TryLockError::WouldBlock) => busy = true,
            Err(std::fs::TryLockError::Error(_)) => {}
        }
    }
    busy
}

fn exchange(new: &Path, old: &Path) -> Result<(), StorageError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            // No atomic exchange here: move the old one aside, and back again should the second step fail.
            let aside = new.with_extension("old");
            std::fs::rename(old, &aside).at(old, "move aside")?;
            if let Err(e) = std::fs::rename(new, old) {
                std::fs::rename(&aside, old).at(old, "restore")?;
                return Err(e).at(old, "rename to");
            }
            std::fs::rename(&aside, new).at(new, "rename to")
        }
        Err(e) => Err(io::Error::from(e)).at(old, "rename to"),
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
    File::open(folder).and_then(|f| f.sync_all()).at(folder, "sync")
}

/// Makes `bytes` durable as the file `path`, whole or not at all, in place of one that is there. For files inside a
/// folder that one process owns: a neighbour of a fixed name is written first.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let next = path.with_extension("next");
    let mut file = File::create(&next).at(&next, "create")?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at(&next, "write")?;
    std::fs::rename(&next, path).at(path, "rename to")?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// A single file that appears whole or not at all. Dropping it without [`AtomicFile::publish`] leaves nothing behind; a
/// process that is killed leaves the temporary file.
pub(crate) struct AtomicFile {
    file: io::BufWriter<NamedTempFile>,
    target: PathBuf,
    force: bool,
}

impl AtomicFile {
    /// Starts the file that will become `target`; with `force` an earlier file there is replaced.
    pub(crate) fn new(target: &Path, force: bool) -> Result<Self, StorageError> {
        may_replace_file(target, force)?;
        let (parent, prefix) = beside(target)?;
        let mut options = tempfile::Builder::new();
        // Readable by whoever the umask allows, as any other output is, and not by the owner alone.
        #[cfg(unix)]
        options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = options.prefix(&prefix).tempfile_in(&parent).at(&parent, "create a file in it")?;
        Ok(Self { file: io::BufWriter::with_capacity(1 << 18, file), target: target.to_path_buf(), force })
    }

    /// Syncs the file and makes it appear as the target.
    pub(crate) fn publish(self) -> Result<(), StorageError> {
        let Self { file, target, force } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error).at(&target, "write")?;
        file.as_file().sync_all().at(&target, "sync")?;
        // Something else may have appeared there meanwhile.
        may_replace_file(&target, force)?;
        let persisted = if force { file.persist(&target) } else { file.persist_noclobber(&target) };
        match persisted {
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StorageError::Exists { path: target });
            }
            other => other.map_err(|e| e.error).at(&target, "rename to")?,
        };
        sync_folder(&beside(&target)?.0)
    }

    /// Drops the file, and removes what it would have replaced.
    pub(crate) fn remove(self) -> Result<(), StorageError> {
        let Self { target, force, .. } = self;
        if target.symlink_metadata().is_ok() {
            may_replace_file(&target, force)?;
            std::fs::remove_file(&target).at(&target, "remove")?;
            sync_folder(&beside(&target)?.0)?;
        }
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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
