//! The folder of a training in the making: `MODEL.partial`, with everything that is not published yet.
//!
//! ```text
//! lock                held as long as a process works in it
//! a/ b/               checkpoints, written in turn
//! best-000012         the best tables of a validated run, which checkpoints share
//! run.ndjson          the run log
//! ```
//!
//! Nothing outside of the folder refers to it, so it may be removed at any time.

use std::io;
use std::path::{Path, PathBuf};

use super::saved::{Saved, is_best, remove};
use crate::context::{ByteSize, Context};
use crate::model::{current_of, version_of_run};
use crate::storage::disk::{self, DiskFile};
use crate::storage::{IoContext, StorageError};
use crate::train::TrainError;

const LOCK: &str = "lock";
const LOG: &str = crate::runlog::NAME;
const SLOTS: [&str; 2] = ["a", "b"];

/// The folder, claimed by this process. Dropped without a checkpoint it is removed, else it stays to be resumed.
pub(in crate::train) struct Partial {
    folder: PathBuf,
    _lock: DiskFile,
}

/// The folder of the training of the model at `output`.
pub(in crate::train) fn folder_of(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_os_string();
    name.push(".partial");
    PathBuf::from(name)
}

impl Partial {
    /// Claims the folder beside `output` for a training that begins; what an earlier one has left there is removed if it
    /// is to `restart`, and refused otherwise.
    pub(in crate::train) fn begin(output: &Path, restart: bool, ctx: &Context) -> Result<Self, TrainError> {
        let folder = folder_of(output);
        let there = folder.symlink_metadata().is_ok();
        if !there {
            if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
                return Err(StorageError::NoParent { path: parent.to_path_buf() }.into());
            }
            // A checkpoint is worth nothing in a folder whose name a crash takes back.
            disk::create_folders(&folder).at(&folder, "create")?;
        }
        let partial = Self::claim(folder)?;
        let published = partial.published(output);
        if !restart && partial.holds_checkpoint() && published.is_none() {
            let held = partial.bytes();
            return Err(TrainError::Leftover { folder: partial.folder.clone(), model: output.to_path_buf(), held });
        }
        if let Some((number, _)) = published {
            ctx.message(&format!(
                "{}: removing what is left of the training that is version {number} of the model",
                partial.folder.display()
            ));
        } else if there && !restart {
            ctx.message(&format!(
                "{}: removing what an earlier training left before its first checkpoint",
                partial.folder.display()
            ));
        }
        partial.clear()?;
        Ok(partial)
    }

    /// Makes sure that no interrupted training to `output` is in the way of one that keeps nothing.
    pub(in crate::train) fn check(output: &Path, restart: bool, ctx: &Context) -> Result<(), TrainError> {
        if folder_of(output).symlink_metadata().is_ok() {
            drop(Self::begin(output, restart, ctx)?);
        }
        Ok(())
    }

    /// Claims the folder that an interrupted training to `output` has left.
    pub(in crate::train) fn resume(output: &Path) -> Result<(Self, Saved), TrainError> {
        let folder = folder_of(output);
        if folder.symlink_metadata().is_err() {
            let why = match current_of(output).is_ok() {
                true => {
                    "the model is complete, and nothing was interrupted; train again, or peccary update, makes its next \
                     version"
                }
                false => "there is no such folder; train with the dataset and --output instead",
            };
            return Err(TrainError::NothingToResume { folder, why });
        }
        let partial = Self::claim(folder)?;
        if let Some((number, current)) = partial.published(output) {
            partial.clear()?;
            return Err(TrainError::Published { model: output.to_path_buf(), number, current });
        }
        match partial.newest(&[]) {
            Ok(Some(saved)) => Ok((partial, saved)),
            Ok(None) => {
                let why = "there is no checkpoint: a training was interrupted before its first, or an update, which takes \
                           none; run that command again";
                Err(TrainError::NothingToResume { folder: partial.folder.clone(), why })
            }
            Err(source) => Err(TrainError::Checkpoint { folder: partial.folder.clone(), source }),
        }
    }

    fn claim(folder: PathBuf) -> Result<Self, TrainError> {
        let is_folder = folder.symlink_metadata().is_ok_and(|m| m.is_dir());
        let own = |name: &str| name == LOCK || name == LOG || SLOTS.contains(&name) || is_best(name);
        let is_ours = folder
            .read_dir()
            .is_ok_and(|entries| entries.flatten().all(|entry| own(&entry.file_name().to_string_lossy())));
        if !(is_folder && is_ours) {
            return Err(TrainError::NotPartial { folder });
        }
        let path = folder.join(LOCK);
        let lock = DiskFile::open_or_create(&path).at(&path, "create")?;
        match lock.try_lock() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(TrainError::Busy { folder }),
            other => other.at(&path, "lock")?,
        }
        // A training without checkpoints, and an update, have nothing here but their log.
        if crate::runlog::is_being_written(&folder.join(LOG)) {
            return Err(TrainError::Busy { folder });
        }
        Ok(Self { folder, _lock: lock })
    }

    /// The folder itself.
    pub(in crate::train) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The slot for checkpoint `number`: not that of the one before.
    pub(super) fn slot(number: u64) -> &'static str {
        SLOTS[(number % 2) as usize]
    }

    /// The newest checkpoint that is whole, but for those of numbers that are `spent`.
    ///
    /// # Errors
    /// If there is none, and one that is not whole: why.
    pub(in crate::train) fn newest(&self, spent: &[u64]) -> Result<Option<Saved>, StorageError> {
        let mut failed = None;
        let mut newest: Option<Saved> = None;
        for slot in SLOTS.into_iter().filter(|slot| self.manifest(slot).is_file()) {
            match Saved::open(&self.folder, slot) {
                Ok(saved) if spent.contains(&saved.number) => {}
                Ok(saved) if newest.as_ref().is_none_or(|other| saved.number > other.number) => newest = Some(saved),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (newest, failed) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    fn manifest(&self, slot: &str) -> PathBuf {
        self.folder.join(slot).join("manifest.json")
    }

    /// The version of the model at `output` that the run has become whose checkpoints these are, if it was stopped between
    /// publishing that and removing them; and whether it is the current one.
    fn published(&self, output: &Path) -> Option<(u32, bool)> {
        SLOTS.iter().filter_map(|slot| Saved::run(&self.folder, slot)).find_map(|run| version_of_run(output, &run))
    }

    /// Whether there is a checkpoint.
    pub(in crate::train) fn holds_checkpoint(&self) -> bool {
        SLOTS.iter().any(|slot| self.manifest(slot).is_file())
    }

    /// Removes best tables that no checkpoint needs.
    pub(super) fn tidy(&self) {
        let needed: Vec<_> = SLOTS.iter().filter_map(|slot| Saved::needs(&self.folder, slot)).collect();
        for entry in self.folder.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_best(&name) && !needed.contains(&name) {
                // Failing to tidy up is no reason to fail; the next checkpoint tries again.
                let _ = remove(&entry.path());
            }
        }
    }

    /// Bytes that it holds on the disk.
    pub(in crate::train) fn bytes(&self) -> ByteSize {
        fn below(folder: &Path) -> u64 {
            let size = |entry: std::fs::DirEntry| match entry.metadata() {
                Ok(m) if m.is_dir() => below(&entry.path()),
                Ok(m) => m.len(),
                Err(_) => 0,
            };
            folder.read_dir().map_or(0, |entries| entries.flatten().map(size).sum())
        }
        ByteSize(below(&self.folder))
    }

    /// Removes everything but the lock: checkpoints by their manifests first, so that none ever names what is gone.
    pub(in crate::train) fn clear(&self) -> Result<(), StorageError> {
        for slot in SLOTS {
            remove(&self.manifest(slot))?;
            remove(&self.folder.join(slot))?;
        }
        remove(&self.folder.join(LOG))?;
        for entry in self.folder.read_dir().into_iter().flatten().flatten() {
            if is_best(&entry.file_name().to_string_lossy()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.holds_checkpoint() {
            // Failing to tidy up is no reason to fail; the next run finds it and tries again.
            let _ = self.clear();
            let _ = remove(&self.folder);
        }
    }
}
