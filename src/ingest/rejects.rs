//! Rows that cannot be used, set aside in the order of the log.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::read::{BadRow, Place, Reason};
use crate::storage::{AtomicFile, IoContext, StorageError};

/// The rejects file in the making: one JSON object a line. It appears only if [`Rejects::publish`] is called.
pub(super) struct Rejects {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: AtomicFile,
    rows: u64,
    next_block: u64,
    /// Lines of blocks that are ahead of their turn.
    early: BTreeMap<u64, Vec<u8>>,
}

impl Rejects {
    /// Claims `path`.
    pub(super) fn create(path: &Path, force: bool) -> Result<Self, StorageError> {
        let file = AtomicFile::new(path, force)?;
        let state = State { file, rows: 0, next_block: 0, early: BTreeMap::new() };
        Ok(Self { path: path.to_path_buf(), state: Mutex::new(state) })
    }

    /// Hands in the lines of a block. Every block must be handed in, from number 0 on, in any order.
    pub(super) fn block(&self, number: u64, rows: u64, lines: Vec<u8>) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, rows: total, next_block, early } = &mut *state;
        *total += rows;
        early.insert(number, lines);
        while let Some(lines) = early.remove(next_block) {
            file.write_all(&lines).at(&self.path, "write")?;
            *next_block += 1;
        }
        Ok(())
    }

    /// Makes the file appear if there is anything in it; returns its path then.
    pub(super) fn publish(self) -> Result<Option<PathBuf>, StorageError> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.rows == 0 {
            return Ok(None);
        }
        state.file.publish()?;
        Ok(Some(self.path))
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
    object.insert("raw".into(), String::from_utf8_lossy(&bad.raw).into());
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
