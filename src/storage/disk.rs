//! The one place where durable files and folders are made, written, synced, renamed and removed.
//!
//! Nothing else in the crate asks the system for any of it; a test sees to that. Under `cfg(test)` a double takes note of
//! every call below the folders that it watches, and can refuse one: so crashes and faults are tried at every call there
//! is. Other builds have the bare calls.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

#[cfg(test)]
use super::double::{self, Op};

/// Does `$call`; in a test, by leave of the double, which takes note of `$op`.
#[cfg(not(test))]
macro_rules! through {
    ($op:expr, $call:expr) => {
        $call
    };
}
#[cfg(test)]
macro_rules! through {
    ($op:expr, $call:expr) => {
        double::run($op, || $call)
    };
}

/// A file that is written, or kept for its lock.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    #[cfg(test)]
    path: std::path::PathBuf,
}

impl DiskFile {
    /// Creates a file where there is none.
    pub(crate) fn create_new(path: &Path) -> io::Result<Self> {
        Self::open_with(path, OpenOptions::new().write(true).create_new(true))
    }

    /// Opens a file for reading and writing, from its start on; creates it if there is none.
    pub(crate) fn open_or_create(path: &Path) -> io::Result<Self> {
        Self::open_with(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
    }

    /// Opens a file, whose writes go to its end; creates it if there is none.
    pub(crate) fn append(path: &Path) -> io::Result<Self> {
        Self::open_with(path, OpenOptions::new().append(true).create(true))
    }

    /// Opens a file that is there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, OpenOptions::new().read(true).write(true))
    }

    fn open_with(path: &Path, options: &OpenOptions) -> io::Result<Self> {
        let file = through!(Op::Open { path: path.to_path_buf() }, options.open(path))?;
        Ok(Self {
            file,
            #[cfg(test)]
            path: path.to_path_buf(),
        })
    }

    /// Makes data and length durable; the name is the folder's affair ([`sync_folder`]).
    pub(crate) fn sync(&self) -> io::Result<()> {
        through!(Op::SyncFile { path: self.path.clone(), inode: double::inode(&self.file)? }, self.file.sync_all())
    }

    /// Cuts the file off, or fills it up with zeros.
    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        through!(
            Op::SetLen { path: self.path.clone(), inode: double::inode(&self.file)?, bytes },
            self.file.set_len(bytes)
        )
    }

    /// What the system knows of it.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Takes its lock for as long as it is open; [`io::ErrorKind::WouldBlock`] if somebody else has it for a tenth of a second.
    pub(crate) fn try_lock(&self) -> io::Result<()> {
        patiently(|| self.file.try_lock().map_err(io::Error::from))
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        #[cfg(test)]
        let bytes = double::shorten(&self.path, bytes);
        through!(Op::write(&self.path, &mut self.file, bytes)?, self.file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for DiskFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.file.read(out)
    }
}

impl Seek for DiskFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Creates a folder in one that is there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    through!(Op::CreateFolder { path: path.to_path_buf() }, std::fs::create_dir(path))
}

/// Creates a folder, and those above that are missing; their names are durable when it returns.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_folders(parent)?;
    loop {
        match create_folder(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Err(e) => match path.symlink_metadata() {
                Ok(there) if there.is_dir() || path.is_dir() => break,
                // Another process had made it, and has removed it since.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
                _ => return Err(e),
            },
            Ok(()) => break,
        }
    }
    sync_folder(parent)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    through!(Op::SyncFolder { path: path.to_path_buf() }, File::open(path).and_then(|folder| folder.sync_all()))
}

/// Renames a file or folder; a file that has the new name is replaced in one step.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    through!(Op::Rename { from: from.to_path_buf(), to: to.to_path_buf() }, std::fs::rename(from, to))
}

/// Renames to a name that nothing has, else [`io::ErrorKind::AlreadyExists`].
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let renamed = through!(
        Op::RenameNew { from: from.to_path_buf(), to: to.to_path_buf() },
        renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
    );
    match renamed {
        // Some file systems know no flags; the check leaves but an instant.
        Err(e) if is_unknown(&e) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => rename(from, to),
        },
        other => other,
    }
}

/// Lets two files or folders change names in one step. [`io::ErrorKind::Unsupported`] where the file system cannot.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let exchanged = through!(
        Op::Exchange { one: one.to_path_buf(), other: other.to_path_buf() },
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).map_err(io::Error::from)
    );
    exchanged.map_err(|e| if is_unknown(&e) { io::ErrorKind::Unsupported.into() } else { e })
}

/// Whether the file system does not know what it was asked for.
fn is_unknown(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    through!(Op::RemoveFile { path: path.to_path_buf() }, std::fs::remove_file(path))
}

/// Removes a file, link or folder with all that is in it; what is gone already is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(there) if there.is_dir() => remove_content(path)
            .and_then(|()| through!(Op::RemoveFolder { path: path.to_path_buf() }, std::fs::remove_dir(path))),
        Ok(_) => remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_content(folder: &Path) -> io::Result<()> {
    folder.read_dir()?.try_for_each(|entry| remove_tree(&entry?.path()))
}

/// Tries for a tenth of a second while something is locked: a process that is being started by another thread of this one
/// has all open files, and so their locks, for an instant, and so does whoever asks whether there is a lock.
pub(crate) fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..20 {
        match attempt() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    attempt()
}

/// Opens a folder and takes its lock; [`io::ErrorKind::WouldBlock`] if somebody else has it. Nobody waits for it: what is
/// locked is in use, and not to be tidied up. `None` where the file
/// system has no locks for folders (NFS).
pub(crate) fn lock_folder(path: &Path) -> io::Result<Option<File>> {
    let folder = File::open(path)?;
    match folder.try_lock().map_err(io::Error::from) {
        Ok(()) => Ok(Some(folder)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
        Err(_) => Ok(None),
    }
}

/// Whether `path` is what `open` says: nobody removed or replaced it.
pub(crate) fn is_same(path: &Path, open: &Metadata) -> bool {
    path.symlink_metadata().is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()))
}

/// The folder that `path` is in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_makes_and_removes_meanwhile_is_made_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(create_folders(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "no folder will be there");
        let makes = || {
            for _ in 0..2000 {
                create_folders(&path).unwrap();
                // The other one may have removed it.
                let _ = std::fs::remove_dir(&path);
            }
        };
        std::thread::scope(|scope| [(); 2].map(|()| scope.spawn(makes)).map(|made| made.join().unwrap()));
    }
}
