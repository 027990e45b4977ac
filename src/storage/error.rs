//! What can go wrong with a file, said with its path and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::context::ByteSize;

/// A file could not be read, written or trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {}", path.display(), describe(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, such as `open` or `write`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not of the kind that its place asks for.
    #[error("{}: not a Peccary {expected} file; was it moved, or replaced by another file?", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind that was expected.
        expected: String,
    },
    /// The folder is no dataset or model at all.
    #[error("{}: not a Peccary {expected}: {reason}", path.display())]
    NotOne {
        /// The folder.
        path: PathBuf,
        /// `dataset` or `model`.
        expected: String,
        /// What is missing.
        reason: String,
    },
    /// A newer Peccary wrote the file.
    #[error("{}: format version {got}, but this build reads up to {expected}; use a newer peccary", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The newest version that this build reads.
        expected: u32,
        /// The version found.
        got: u32,
    },
    /// The manifest at the root, which says which version is the current one, is gone or damaged, and versions are there.
    #[error(
        "{}: its manifest.json, which says which version is the current one, is missing or damaged; make one of its versions ({}) \
         the current one: peccary rollback {} --to {}", path.display(), list(sound), path.display(),
        sound.last().copied().unwrap_or_default()
    )]
    NoCurrent {
        /// The folder.
        path: PathBuf,
        /// The versions with a manifest, ascending; at least one.
        sound: Vec<u32>,
    },
    /// The bytes are not those that were written.
    #[error("{}: damaged: {reason}; restore the file from a copy, or make it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which check failed, and where.
        reason: String,
    },
    /// The output is there already.
    #[error("{}: exists already; choose another name, or pass --force to replace it", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// `--force` would remove something that Peccary did not make.
    #[error("{}: --force replaces only {expected}, and this is none; remove it yourself if it may go", path.display())]
    NotReplaceable {
        /// The output.
        path: PathBuf,
        /// What may be replaced there.
        expected: &'static str,
    },
    /// The output is a device, a pipe, a folder or a link, which a rename would replace by a file.
    #[error("{}: is not a regular file and is not replaced, even with --force; name a regular file", path.display())]
    NotRegular {
        /// What is there.
        path: PathBuf,
    },
    /// Another process is changing it.
    #[error(
        "{}: another process is writing it (training, updating, rolling back or pruning); wait until it has ended",
        path.display()
    )]
    Busy {
        /// What is being written.
        path: PathBuf,
    },
    /// The disk does not hold what is to be written.
    #[error(
        "{}: this takes {needed} of the disk, of which {free} are free; free some space, write to another disk, or choose \
         smaller sizes", output.display()
    )]
    NoRoom {
        /// What is to be written.
        output: PathBuf,
        /// What it takes.
        needed: ByteSize,
        /// What is free.
        free: ByteSize,
    },
    /// The output's parent folder is missing.
    #[error("{}: the folder does not exist; create it first", path.display())]
    NoParent {
        /// The missing folder.
        path: PathBuf,
    },
}

impl StorageError {
    /// Whether the disk is full, or is known to become it.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::NoRoom { .. } => true,
            Self::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            _ => false,
        }
    }
}

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();

/// Says the common faults with their remedies. The system's own text is left out there: it may name a temporary file.
fn describe(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::StorageFull => "no space left; free some space, or write to another disk".to_string(),
        io::ErrorKind::QuotaExceeded => {
            "the disk quota is used up; free some space, or write to another disk".to_string()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; change the permissions, or choose another place".to_string()
        }
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only; choose another place".to_string(),
        io::ErrorKind::OutOfMemory => "out of memory; end other programs, or choose smaller sizes".to_string(),
        io::ErrorKind::NotFound => {
            "no such file or folder; was it moved or removed? restore it from a copy, or make it again".to_string()
        }
        io::ErrorKind::FileTooLarge => {
            "larger than a file may be here; raise the limit (ulimit -f), or write to another disk".to_string()
        }
        _ if source.raw_os_error() == Some(EIO) => {
            format!("{source}; the disk may be failing: look at the system's log, or use another disk")
        }
        _ => source.to_string(),
    }
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Names the path and the action of an I/O error.
pub(crate) trait IoContext<T> {
    fn at(self, path: &Path, action: &'static str) -> Result<T, StorageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, path: &Path, action: &'static str) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::Io { path: path.to_path_buf(), action, source })
    }
}
