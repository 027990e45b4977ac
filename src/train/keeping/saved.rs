//! A checkpoint on disk: a file of all tables, another of the best so far, and a manifest, written last.
//!
//! `docs/checkpoints.md` has the layout.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exact::{from_exact, to_exact};
use super::{CheckpointReport, Rollback, sound};
use crate::dataset::Dataset;
use crate::mix::mix;
use crate::model::{InstructionSet, SharedTable};
use crate::storage::{
    CheckedFile, CheckedWriter, FileRecord, HEADER_LEN, IoContext, StorageError, disk, read_manifest, replace_manifest,
    sync_folder,
};
use crate::train::control::ControlState;
use crate::train::place::Place;
use crate::train::plan::TrainPlan;
use crate::train::run::EpochReport;
use crate::train::{Stopped, TrainConfig};

const FORMAT: &str = "peccary-checkpoint";
const VERSION: u32 = 1;
const KIND: &str = "training";
const TABLES: &str = "tables";
const MANIFEST: &str = "manifest.json";

/// What a run is: the same from its start to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::train) struct Origin {
    /// Identifies it; the model that it publishes has the same.
    #[serde(default)]
    pub(in crate::train) run: String,
    /// Version of the program.
    pub(in crate::train) peccary: String,
    /// Where the dataset was, and what identifies it.
    pub(in crate::train) dataset: PathBuf,
    pub(in crate::train) fingerprint: String,
    pub(in crate::train) config: TrainConfig,
    pub(in crate::train) plan: TrainPlan,
    /// Whether the model replaces what is there.
    pub(in crate::train) force: bool,
    /// Kernels used.
    pub(in crate::train) instruction_set: String,
}

impl Origin {
    /// Of a run that begins here and now.
    pub(in crate::train) fn new(dataset: &Dataset, config: TrainConfig, plan: TrainPlan, force: bool) -> Self {
        Self {
            run: Self::new_run(),
            peccary: env!("CARGO_PKG_VERSION").to_string(),
            dataset: std::path::absolute(dataset.path()).unwrap_or_else(|_| dataset.path().to_path_buf()),
            fingerprint: dataset.fingerprint().to_string(),
            config,
            plan,
            force,
            instruction_set: InstructionSet::detect().name().to_string(),
        }
    }

    /// A name for a run that begins, which no other has.
    pub(in crate::train) fn new_run() -> String {
        let random = RandomState::new().build_hasher().finish();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        format!("{:016x}", mix(random ^ mix(now)))
    }

    /// Negatives of a positive.
    pub(in crate::train) fn negatives(&self) -> u64 {
        let (config, items) = (&self.config, self.plan.counts.items as usize);
        (if config.shares_negatives() { config.negatives().min(items) } else { config.negatives() }) as u64
    }

    /// Epochs that are over at `state`, with the share of the one at hand, and triples trained.
    pub(in crate::train) fn place_of(&self, state: &RunState) -> (f64, u64) {
        let positives = state.place.done().positives;
        let share = positives as f64 / self.plan.counts.interactions.max(1) as f64;
        let before: u64 = state.epochs.iter().map(|epoch| epoch.triples).sum();
        (f64::from(state.epoch) + share, before + positives * self.negatives())
    }
}

/// How far a run is, but for its tables.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::train) struct RunState {
    /// Epochs that are over.
    pub(in crate::train) epoch: u32,
    /// Where the next one stands.
    pub(in crate::train) place: Place,
    pub(in crate::train) epochs: Vec<EpochReport>,
    /// Whether the last of them is still to be validated.
    pub(in crate::train) to_validate: bool,
    pub(in crate::train) control: ControlState,
    /// Users validated on, and their interactions.
    pub(in crate::train) validated_on: (u64, u64),
    pub(in crate::train) stopped: Option<Stopped>,
    pub(in crate::train) rollbacks: Vec<Rollback>,
    pub(in crate::train) checkpoints: CheckpointReport,
}

impl RunState {
    /// Says where it is, for people.
    pub(in crate::train) fn describe(&self, epochs: u32, interactions: u64) -> String {
        let positives = self.place.done().positives as f64;
        match 100.0 * positives / interactions.max(1) as f64 {
            0.0 => format!("{} of {epochs} epochs", self.epoch),
            share => format!("{} of {epochs} epochs and {share:.0} % of the next", self.epoch),
        }
    }
}

/// The manifest of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Content {
    /// Ascending from checkpoint to checkpoint of a run.
    number: u64,
    origin: Value,
    state: Value,
    tables: FileRecord,
    /// Beside the checkpoint's folder, shared by those that have the same.
    best: Option<FileRecord>,
}

/// A checkpoint whose every byte has been compared with its checksum.
pub(in crate::train) struct Saved {
    manifest: PathBuf,
    pub(in crate::train) number: u64,
    pub(in crate::train) origin: Origin,
    pub(in crate::train) state: RunState,
    tables: CheckedFile,
    pub(super) best: Option<(FileRecord, CheckedFile)>,
}

impl Saved {
    /// Opens the checkpoint in the folder `slot` of `folder`, and checks it whole.
    pub(super) fn open(folder: &Path, slot: &str) -> Result<Self, StorageError> {
        let own = folder.join(slot);
        let content: Content = read_manifest(&own, FORMAT, VERSION)?;
        let damaged = |reason: &str| StorageError::Damaged { path: own.join(MANIFEST), reason: reason.to_string() };
        let Content { number, origin, state, tables, best } = content;
        if tables.path != TABLES || best.as_ref().is_some_and(|best| !is_best(&best.path)) {
            return Err(damaged("it names files that a checkpoint does not have"));
        }
        if !sound::counts(&state) {
            return Err(damaged("a count is out of range"));
        }
        let origin = from_exact(origin).map_err(|e| damaged(&e.to_string()))?;
        let state = from_exact(state).map_err(|e| damaged(&e.to_string()))?;
        sound::alone(number, &state).map_err(damaged)?;
        let tables = CheckedFile::open(&own, &tables, KIND, VERSION)?;
        let best = best.map(|record| CheckedFile::open(folder, &record, KIND, VERSION).map(|file| (record, file)));
        Ok(Self { manifest: own.join(MANIFEST), number, origin, state, tables, best: best.transpose()? })
    }

    /// Makes sure that a run that goes on with `config` and `plan` can be where this is.
    pub(in crate::train) fn check(
        &self,
        dataset: &Dataset,
        config: &TrainConfig,
        plan: &TrainPlan,
    ) -> Result<(), StorageError> {
        sound::check_state(&self.state, dataset, config, plan).map_err(|reason| self.damaged(reason))
    }

    /// That it is none, and why.
    pub(in crate::train) fn damaged(&self, reason: &str) -> StorageError {
        StorageError::Damaged { path: self.manifest.clone(), reason: reason.to_string() }
    }

    /// The name of the file of best tables that the checkpoint in `slot` needs, as its manifest says; nothing is checked.
    pub(super) fn needs(folder: &Path, slot: &str) -> Option<String> {
        let content: Content = read_manifest(&folder.join(slot), FORMAT, VERSION).ok()?;
        content.best.map(|best| best.path)
    }

    /// The run that the checkpoint in `slot` is of, as its manifest says; nothing is checked.
    pub(super) fn run(folder: &Path, slot: &str) -> Option<String> {
        let content: Content = read_manifest(&folder.join(slot), FORMAT, VERSION).ok()?;
        content.origin.get("run")?.as_str().filter(|run| !run.is_empty()).map(String::from)
    }

    /// Puts the tables of the run into `tables`, which have the same shapes, in their order.
    pub(in crate::train) fn read_tables<'t>(
        &self,
        tables: impl Iterator<Item = &'t mut SharedTable>,
    ) -> Result<(), StorageError> {
        read_tables(&self.tables, tables)
    }

    /// The same for the factors of the best tables, if there are any; whether there are.
    pub(in crate::train) fn read_best<'t>(
        &self,
        tables: impl Iterator<Item = &'t mut SharedTable>,
    ) -> Result<bool, StorageError> {
        self.best.as_ref().map_or(Ok(false), |(_, file)| read_tables(file, tables).map(|()| true))
    }
}

/// Removes a file or a folder, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    disk::remove_tree(path).at(path, "remove")
}

/// The name of the file of best tables that checkpoint `number` writes.
fn best_name(number: u64) -> String {
    format!("best-{number:06}")
}

/// Whether a file in the folder of a run is one of best tables.
pub(super) fn is_best(name: &str) -> bool {
    name.strip_prefix("best-").is_some_and(|number| number.parse().is_ok_and(|number| best_name(number) == name))
}

/// What is written of a run, beside its tables.
pub(super) struct Writing<'a> {
    /// The folder of the run, and that of the checkpoint in it.
    pub(super) folder: &'a Path,
    pub(super) slot: &'a str,
    pub(super) number: u64,
    pub(super) origin: &'a Origin,
    pub(super) state: &'a RunState,
    /// Set by whoever no longer wants it.
    pub(super) stop: &'a AtomicBool,
}

/// The best tables of a run.
pub(super) enum Best<'a> {
    None,
    /// They are in this file already.
    Written(FileRecord),
    Tables(&'a mut [SharedTable; 2]),
}

/// What was written.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) best: Option<FileRecord>,
}

impl Writing<'_> {
    /// Writes a checkpoint in place of the one in its slot; `None` if it was told to stop. What was written of one that
    /// does not come about is removed: the model may need the room.
    pub(super) fn write<'t>(
        &self,
        tables: impl Iterator<Item = &'t mut SharedTable>,
        best: Best<'_>,
    ) -> Result<Option<Written>, StorageError> {
        let written = self.try_to_write(tables, best);
        if !matches!(written, Ok(Some(_))) {
            // Failing to tidy up is no reason to fail otherwise; the next one in this slot tries again.
            let _ = remove(&self.folder.join(self.slot));
            let _ = remove(&self.folder.join(best_name(self.number)));
        }
        written
    }

    /// The manifest comes last.
    fn try_to_write<'t>(
        &self,
        tables: impl Iterator<Item = &'t mut SharedTable>,
        best: Best<'_>,
    ) -> Result<Option<Written>, StorageError> {
        let own = self.folder.join(self.slot);
        disk::create_folders(&own).at(&own, "create")?;
        // From here on there is no checkpoint in this slot.
        remove(&own.join(MANIFEST))?;
        sync_folder(&own)?;
        remove(&own.join(TABLES))?;
        let Some(tables) = write_tables(&own.join(TABLES), TABLES, tables, self.stop)? else { return Ok(None) };
        let mut bytes = tables.bytes;
        let best = match best {
            Best::None => None,
            Best::Written(record) => Some(record),
            Best::Tables(tables) => {
                let name = best_name(self.number);
                let path = self.folder.join(&name);
                remove(&path)?;
                let Some(record) = write_tables(&path, &name, tables.iter_mut(), self.stop)? else { return Ok(None) };
                bytes += record.bytes;
                Some(record)
            }
        };
        // The tables' name is durable before the manifest is there that lists them.
        sync_folder(&own)?;
        sync_folder(self.folder)?;
        let invalid = |e: serde_json::Error| StorageError::Io {
            path: own.join(MANIFEST),
            action: "write",
            source: std::io::Error::other(e),
        };
        let content = Content {
            number: self.number,
            origin: to_exact(self.origin).map_err(invalid)?,
            state: to_exact(self.state).map_err(invalid)?,
            tables,
            best: best.clone(),
        };
        replace_manifest(&own, FORMAT, VERSION, &content)?;
        Ok(Some(Written { bytes, best }))
    }
}

/// Writes all rows of `tables` behind one another as they are in memory: little-endian words.
fn write_tables<'t>(
    path: &Path,
    name: &str,
    tables: impl Iterator<Item = &'t mut SharedTable>,
    stop: &AtomicBool,
) -> Result<Option<FileRecord>, StorageError> {
    let mut file = CheckedWriter::create(path, KIND, VERSION)?;
    let mut result = Ok(());
    for table in tables {
        table.strips(|_, strip| {
            if result.is_ok() && !stop.load(Ordering::Relaxed) {
                result = file.put(bytemuck::cast_slice(strip));
            }
        });
    }
    result?;
    if stop.load(Ordering::Relaxed) { Ok(None) } else { file.finish(name, HEADER_LEN as u64).map(Some) }
}

fn read_tables<'t>(file: &CheckedFile, tables: impl Iterator<Item = &'t mut SharedTable>) -> Result<(), StorageError> {
    let damaged = || StorageError::Damaged {
        path: file.path().to_path_buf(),
        reason: "its length is not that of the tables".to_string(),
    };
    let tables: Vec<_> = tables.collect();
    let words: usize = tables.iter().map(|table| table.rows() * table.stride()).sum();
    if file.bytes().len() != (HEADER_LEN + words * 4).next_multiple_of(8) {
        return Err(damaged());
    }
    let mut at = HEADER_LEN;
    for table in tables {
        table.strips(|_, strip| {
            let range = at..at + strip.len() * 4;
            bytemuck::cast_slice_mut(strip).copy_from_slice(&file.bytes()[range.clone()]);
            at = range.end;
            file.release(range);
        });
    }
    Ok(())
}
