//! Files and folders under temporary names beside their target, locked by who makes them: so that the next run can tell
//! what a killed process left from what another one is working on.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{self, DiskFile};
use super::error::{IoContext, StorageError};

/// Hexadecimal digits at the end of a temporary name.
const DIGITS: usize = 16;
/// Names that are tried before giving up.
const ATTEMPTS: usize = 64;

/// A file or folder under a temporary name; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    /// Whether it stays when this is dropped.
    kept: bool,
    /// Of a folder; a file's own handle has its lock.
    _lock: Option<File>,
}

impl Temporary {
    /// Makes a folder `parent/prefix…`.
    pub(super) fn folder(parent: &Path, prefix: &str) -> io::Result<Self> {
        claim(parent, prefix, |path| {
            disk::create_folder(path)?;
            let lock = disk::lock_folder(path)?;
            match &lock {
                Some(folder) if !disk::is_same(path, &folder.metadata()?) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(Self { path: path.to_path_buf(), kept: false, _lock: lock }),
            }
        })
    }

    /// Makes a file `parent/prefix…`, readable by whoever the umask allows, as any other output is.
    pub(super) fn file(parent: &Path, prefix: &str) -> io::Result<(Self, DiskFile)> {
        claim(parent, prefix, |path| {
            let file = DiskFile::create_new(path)?;
            // Where there are no locks, nobody else gets one either, and leaves it alone.
            match file.try_lock() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                _ if !disk::is_same(path, &file.metadata()?) => return Err(io::ErrorKind::WouldBlock.into()),
                _ => {}
            }
            Ok((Self { path: path.to_path_buf(), kept: false, _lock: None }, file))
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it the name of `target`, in one step and durably; with `force` in place of what is there, which is removed.
    /// What has failed has changed nothing, unless the file system can neither sync nor undo.
    pub(super) fn put(mut self, target: &Path, force: bool) -> Result<(), StorageError> {
        let parent = disk::parent_of(target);
        let there = target.symlink_metadata().is_ok();
        if there && force {
            swap(&self.path, target)?;
        } else {
            match disk::rename_new(&self.path, target) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(StorageError::Exists { path: target.to_path_buf() });
                }
                other => other.at(target, "rename to")?,
            }
        }
        let Err(failed) = disk::sync_folder(parent).at(parent, "sync") else {
            // Under the temporary name there is what was replaced now, if anything.
            self.kept = !there;
            return Ok(());
        };
        let undone = if there { disk::exchange(&self.path, target) } else { disk::rename_new(target, &self.path) };
        // Which of the two a crash would leave is not known: then none is removed.
        self.kept = undone.is_err();
        Err(failed)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // Failing to tidy up is no reason to fail; the next run tries again.
            let _ = disk::remove_tree(&self.path);
        }
    }
}

/// A folder for what is needed only while a call lasts, `parent/.peccary-what.tmp-…`; removed when dropped.
pub(crate) struct Scratch(Temporary);

impl Scratch {
    /// Makes it, and removes what a killed process left of the same kind.
    pub(crate) fn new(parent: &Path, what: &str) -> Result<Self, StorageError> {
        let prefix = format!(".peccary-{what}.tmp-");
        remove_abandoned(parent, &prefix);
        Ok(Self(Temporary::folder(parent, &prefix).at(parent, "create a folder in it")?))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Makes something under a name that nothing has. A run that tidies up may take it for abandoned, lock and remove it in the
/// instant before it is locked here: then another name is tried.
fn claim<T>(parent: &Path, prefix: &str, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    let mut attempts = 0;
    loop {
        let number = RandomState::new().hash_one(attempts);
        let made = make(&parent.join(format!("{prefix}{number:0DIGITS$x}")));
        attempts += 1;
        match made {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !parent.is_dir() => return Err(e),
            Err(e) if attempts < ATTEMPTS => match e.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::WouldBlock | io::ErrorKind::NotFound => {}
                _ => return Err(e),
            },
            other => return other,
        }
    }
}

/// What of a temporary name's kind there is in `parent`, with its lock, which nobody else had.
fn abandoned(parent: &Path, prefix: &str) -> Vec<(PathBuf, File)> {
    let is_ours = |name: &str| {
        let number = name.strip_prefix(prefix);
        number.is_some_and(|n| n.len() == DIGITS && n.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    };
    let claim = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let (kind, path) = (entry.file_type().ok()?, entry.path());
        if !entry.file_name().to_str().is_some_and(is_ours) {
            return None;
        }
        let lock = if kind.is_dir() {
            disk::lock_folder(&path).ok()??
        } else if kind.is_file() {
            let file = File::options().write(true).open(&path).ok()?;
            file.try_lock().ok()?;
            file
        } else {
            return None;
        };
        // It may have been given its final name meanwhile, and another be under this one.
        disk::is_same(&path, &lock.metadata().ok()?).then_some((path, lock))
    };
    parent.read_dir().map_or_else(|_| Vec::new(), |entries| entries.filter_map(claim).collect())
}

/// Removes what killed processes left under `prefix`.
pub(super) fn remove_abandoned(parent: &Path, prefix: &str) {
    for (path, _lock) in abandoned(parent, prefix) {
        // Failing to tidy up is no reason to fail; the next run tries again.
        let _ = disk::remove_tree(&path);
    }
}

/// The prefix of names under which what is replaced waits where names cannot be exchanged.
fn aside(target: &Path) -> String {
    format!(".{}.old-", target.file_name().unwrap_or_default().to_string_lossy())
}

/// Brings back what a process that was killed between two renames had moved aside, or removes it if it was replaced.
pub(super) fn restore(target: &Path) -> Result<(), StorageError> {
    let parent = disk::parent_of(target);
    for (path, _lock) in abandoned(parent, &aside(target)) {
        if target.symlink_metadata().is_ok() {
            let _ = disk::remove_tree(&path);
        } else {
            disk::rename_new(&path, target).at(target, "restore")?;
            disk::sync_folder(parent).at(parent, "sync")?;
        }
    }
    Ok(())
}

/// Lets a new file or folder change names with an old one.
fn swap(new: &Path, old: &Path) -> Result<(), StorageError> {
    match disk::exchange(new, old) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        other => return other.at(old, "rename to"),
    }
    if !old.symlink_metadata().at(old, "look at")?.is_dir() {
        return disk::rename(new, old).at(old, "rename to");
    }
    // No exchange here: the old one is moved aside, and back again should the second step fail.
    let _lock = disk::lock_folder(old).at(old, "lock")?;
    let number = RandomState::new().hash_one(0);
    let aside = disk::parent_of(old).join(format!("{}{number:0DIGITS$x}", aside(old)));
    disk::rename_new(old, &aside).at(old, "move aside")?;
    if let Err(e) = disk::rename_new(new, old) {
        disk::rename_new(&aside, old).at(old, "restore")?;
        return Err(e).at(old, "rename to");
    }
    disk::rename_new(&aside, new).at(new, "rename to")
}
