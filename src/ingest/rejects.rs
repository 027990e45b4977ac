//! Rows that cannot be used, set aside in the order of the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::read::{BadRow, Place, Reason};
use crate::storage::disk::DiskFile;
use crate::storage::{AtomicFile, IoContext, StorageError};

/// Bytes that a block's lines may take in memory; those of more wait for their turn to be written.
pub(super) const MAX_LINES: usize = 256 << 10;
/// Bytes of lines ahead of their turn, of all blocks.
const MAX_EARLY: usize = 1 << 20;
/// Bytes of a row that are kept.
const MAX_RAW: usize = 64 << 10;
const BUFFER: usize = 256 << 10;
/// How long a thread waits before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// The rejects file in the making: one JSON object a line. It appears only if [`Finished::publish`] is called; until then
/// the lines are in the folder of the ingest.
pub(super) struct Rejects {
    target: PathBuf,
    force: bool,
    path: PathBuf,
    state: Mutex<State>,
    /// The turn has come to another block.
    turn: Condvar,
}

/// How far the file is durable.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct RejectsState {
    rows: u64,
    bytes: u64,
}

impl RejectsState {
    /// Rows in the file.
    pub(super) fn rows(self) -> u64 {
        self.rows
    }

    /// Bytes of it.
    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }
}

struct State {
    file: BufWriter<DiskFile>,
    rows: u64,
    next_block: u64,
    /// Lines of blocks that are ahead of their turn.
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
}

impl Rejects {
    /// Makes sure that `target` can appear, and starts `path`; or goes on there behind `kept`.
    pub(super) fn create(target: &Path, force: bool, path: &Path, kept: RejectsState) -> Result<Self, StorageError> {
        // Started and dropped again: what stands in its way is told before the log is read.
        AtomicFile::new(target, force)?;
        let mut file = DiskFile::open_or_create(path).at(path, "create")?;
        if file.metadata().at(path, "open")?.len() < kept.bytes {
            return Err(StorageError::Damaged { path: path.to_path_buf(), reason: "it ends too early".into() });
        }
        file.set_len(kept.bytes).and_then(|()| file.seek(SeekFrom::End(0))).at(path, "cut")?;
        let file = BufWriter::with_capacity(BUFFER, file);
        let state = State { file, rows: kept.rows, next_block: 0, early: BTreeMap::new(), early_bytes: 0 };
        Ok(Self {
            target: target.to_path_buf(),
            force,
            path: path.to_path_buf(),
            state: Mutex::new(state),
            turn: Condvar::new(),
        })
    }

    /// Makes all lines durable; every block begun must have been handed in.
    pub(super) fn sync(&self) -> Result<RejectsState, StorageError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = state.rows;
        let file = &mut state.file;
        let bytes = file.flush().and_then(|()| file.get_ref().sync()).and_then(|()| file.stream_position());
        Ok(RejectsState { rows, bytes: bytes.at(&self.path, "sync")? })
    }

    /// Hands in the first lines of a block, when its turn has come; waits until then, or until `stop`. The block whose
    /// turn it is never waits, and blocks are begun in order: so all get theirs.
    pub(super) fn lines(&self, number: u64, lines: &mut Vec<u8>, stop: impl Fn() -> bool) -> Result<(), StorageError> {
        let mut state = self.wait(number, |_| false, stop);
        if state.next_block == number {
            state.file.write_all(lines).at(&self.path, "write")?;
        }
        lines.clear();
        Ok(())
    }

    /// Hands in the rest of a block's lines, and how many rows it rejects in all. Every block must be handed in, from
    /// number 0 on, in about that order.
    pub(super) fn block(
        &self,
        number: u64,
        rows: u64,
        lines: Vec<u8>,
        stop: impl Fn() -> bool,
    ) -> Result<(), StorageError> {
        let fits = |state: &State| lines.is_empty() || state.early_bytes + lines.len() <= MAX_EARLY;
        let mut state = self.wait(number, fits, stop);
        let State { file, rows: total, next_block, early, early_bytes } = &mut *state;
        *total += rows;
        *early_bytes += lines.len();
        early.insert(number, lines);
        while let Some(lines) = early.remove(next_block) {
            *early_bytes -= lines.len();
            file.write_all(&lines).at(&self.path, "write")?;
            *next_block += 1;
        }
        self.turn.notify_all();
        Ok(())
    }

    /// Waits for the turn of block `number`, or until `enough`, or `stop`.
    fn wait(&self, number: u64, enough: impl Fn(&State) -> bool, stop: impl Fn() -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.next_block != number && !enough(&state) && !stop() {
            state = self.turn.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Writes the file beside its target, so that there is only a name to change when the dataset has appeared.
    pub(super) fn finish(self) -> Result<Finished, StorageError> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut file = AtomicFile::new(&self.target, self.force)?;
        if state.rows > 0 {
            state.file.flush().at(&self.path, "write")?;
            let mut lines = File::open(&self.path).at(&self.path, "open")?;
            io::copy(&mut lines, &mut file).at(&self.target, "write")?;
            file.complete()?;
        }
        Ok(Finished { file, target: self.target, rows: state.rows })
    }
}

/// All lines, durable but for the name.
pub(super) struct Finished {
    file: AtomicFile,
    target: PathBuf,
    rows: u64,
}

impl Finished {
    /// Makes the file appear if there is anything in it, and returns its path then; else removes one of an earlier run.
    pub(super) fn publish(self) -> Result<Option<PathBuf>, StorageError> {
        if self.rows == 0 {
            self.file.remove()?;
            return Ok(None);
        }
        self.file.publish()?;
        Ok(Some(self.target))
    }
}

/// Appends a bad row as a line of JSON.
pub(super) fn put(bad: &BadRow<'_>, out: &mut Vec<u8>) {
    let (place, number) = match bad.place {
        Place::Line(line) => ("line", line),
        Place::Row(row) => ("row", row),
    };
    let mut object = serde_json::Map::new();
    object.insert("source".into(), (*bad.source).into());
    object.insert(place.into(), number.into());
    object.insert("reason".into(), bad.reason.to_string().into());
    object.insert("raw".into(), String::from_utf8_lossy(&bad.raw[..bad.raw.len().min(MAX_RAW)]).into());
    out.extend_from_slice(serde_json::Value::Object(object).to_string().as_bytes());
    out.push(b'\n');
}

/// The kind of a reason, to count by.
pub(super) fn kind(reason: &Reason) -> &'static str {
    match reason {
        Reason::TooFewFields { .. } => "too few fields",
        Reason::EmptyId(_) => "empty id",
        Reason::LongId { .. } => "id too long",
        Reason::InvalidUtf8(_) => "invalid UTF-8",
        Reason::InvalidTime { .. } => "unreadable time",
        Reason::TimeOutOfRange(_) => "time out of range",
        Reason::InvalidWeight(_) => "unreadable weight",
        Reason::NanWeight | Reason::InfiniteWeight(_) => "weight not finite",
        Reason::NegativeWeight(_) => "negative weight",
        Reason::UnclosedQuote => "unclosed quote",
        Reason::InvalidJson(_) => "not a JSON object",
        Reason::MissingKey { .. } => "missing key",
        Reason::WrongType { .. } => "wrong type",
    }
}
