//! The double of the disk: takes note of what is done below the folders that a test watches, and refuses what it is told to.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A call that succeeded. Files are known by their inodes, for they may be renamed while open.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub(crate) enum Op {
    /// Opened, and created if it was not there.
    Open {
        path: PathBuf,
    },
    /// A file that was not there.
    CreateFile {
        path: PathBuf,
        inode: u64,
    },
    CreateFolder {
        path: PathBuf,
    },
    Write {
        path: PathBuf,
        inode: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        path: PathBuf,
        inode: u64,
        bytes: u64,
    },
    SyncFile {
        path: PathBuf,
        inode: u64,
    },
    SyncFolder {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    RenameNew {
        from: PathBuf,
        to: PathBuf,
    },
    Exchange {
        one: PathBuf,
        other: PathBuf,
    },
    RemoveFile {
        path: PathBuf,
    },
    RemoveFolder {
        path: PathBuf,
    },
}

impl Op {
    /// Of a write of `bytes` to `file`, where they will go.
    pub(super) fn write(path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<Self> {
        let appends = rustix::fs::fcntl_getfl(&*file)?.contains(rustix::fs::OFlags::APPEND);
        let at = if appends { file.metadata()?.len() } else { file.stream_position()? };
        Ok(Self::Write { path: path.to_path_buf(), inode: inode(file)?, at, bytes: bytes.to_vec() })
    }

    /// Whether a name is given to something that had another.
    pub(crate) fn renames(&self) -> bool {
        matches!(self, Self::Rename { .. } | Self::RenameNew { .. } | Self::Exchange { .. })
    }

    /// By which the watched folder is found.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Open { path }
            | Self::CreateFile { path, .. }
            | Self::CreateFolder { path }
            | Self::Write { path, .. }
            | Self::SetLen { path, .. }
            | Self::SyncFile { path, .. }
            | Self::SyncFolder { path }
            | Self::RemoveFile { path }
            | Self::RemoveFolder { path } => path,
            Self::Rename { from, .. } | Self::RenameNew { from, .. } => from,
            Self::Exchange { one, .. } => one,
        }
    }
}

/// The number of an open file.
pub(super) fn inode(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.ino())
}

/// Which calls fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The call, counted from 0.
    pub(crate) at: usize,
    /// What the system says.
    pub(crate) error: rustix::io::Errno,
    /// Whether those after it fail, too.
    pub(crate) stays: bool,
}

#[derive(Default)]
struct State {
    trace: Vec<Op>,
    calls: usize,
    fault: Option<Fault>,
    /// The call that failed first.
    failed: Option<Op>,
    /// Bytes after which every write ends.
    short: Option<usize>,
    /// Whether names cannot be exchanged here.
    no_exchange: bool,
}

/// Watches a folder until it is dropped.
pub(crate) struct Watched {
    state: Arc<Mutex<State>>,
}

type Registered = (PathBuf, Arc<Mutex<State>>);

static WATCHED: RwLock<Vec<Registered>> = RwLock::new(Vec::new());

impl Watched {
    /// Watches all that is below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        let state = Arc::<Mutex<State>>::default();
        WATCHED.write().unwrap_or_else(PoisonError::into_inner).push((root.to_path_buf(), state.clone()));
        Self { state }
    }

    /// Lets calls fail.
    pub(crate) fn fail(self, fault: Fault) -> Self {
        self.state.lock().unwrap().fault = Some(fault);
        self
    }

    /// Lets every write end after `most` bytes.
    pub(crate) fn shorten(self, most: usize) -> Self {
        self.state.lock().unwrap().short = Some(most);
        self
    }

    /// Makes it a file system that cannot exchange names.
    pub(crate) fn without_exchange(self) -> Self {
        self.state.lock().unwrap().no_exchange = true;
        self
    }

    /// The call that was refused first.
    pub(crate) fn failed(&self) -> Option<Op> {
        self.state.lock().unwrap().failed.clone()
    }

    /// What was done, in order.
    pub(crate) fn trace(&self) -> Vec<Op> {
        self.state.lock().unwrap().trace.clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        WATCHED.write().unwrap_or_else(PoisonError::into_inner).retain(|(_, state)| !Arc::ptr_eq(state, &self.state));
    }
}

fn find(path: &Path) -> Option<Arc<Mutex<State>>> {
    let watched = WATCHED.read().unwrap_or_else(PoisonError::into_inner);
    watched.iter().find(|(root, _)| path.starts_with(root)).map(|(_, state)| state.clone())
}

/// The bytes that a write gets to see.
pub(super) fn shorten<'a>(path: &Path, bytes: &'a [u8]) -> &'a [u8] {
    let most = find(path).and_then(|state| state.lock().unwrap_or_else(PoisonError::into_inner).short);
    &bytes[..bytes.len().min(most.unwrap_or(usize::MAX))]
}

/// Does `call`, unless it is to fail; nobody else does anything below the same folder meanwhile.
pub(super) fn run<T>(op: Op, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Some(state) = find(op.path()) else { return call() };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let number = state.calls;
    state.calls += 1;
    if let Some(fault) = state.fault
        && (number == fault.at || fault.stays && number > fault.at)
    {
        state.failed.get_or_insert(op);
        return Err(fault.error.into());
    }
    if state.no_exchange && matches!(op, Op::Exchange { .. }) {
        return Err(rustix::io::Errno::INVAL.into());
    }
    let was_there = op.path().symlink_metadata().is_ok();
    let done = call()?;
    let op = match op {
        Op::Open { path } if !was_there => {
            let inode = path.symlink_metadata()?.ino();
            Op::CreateFile { path, inode }
        }
        op => op,
    };
    if !matches!(op, Op::Open { .. }) {
        state.trace.push(op);
    }
    Ok(done)
}
