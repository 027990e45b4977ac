//! What an interrupted ingest has done and made durable, and for which inputs and options: a small checksummed file.
//!
//! One line of text (magic, version, xxh3-64 of the rest in hexadecimal), then JSON. It is replaced whole, so it is never
//! half written; the checksum is for what disks do later.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::error::IngestError;
use super::options::IngestOptions;
use super::read::{ReadError, Source};
use super::read_state::ReadState;
use crate::dataset::Part;
use crate::storage::{IoContext, StorageError};

/// Its name in the folder of the ingest.
pub(super) const JOURNAL: &str = "journal";
const MAGIC: &str = "peccary-ingest-journal";
const VERSION: u32 = 1;
/// Bytes at the start of an input by which it is known again, beside its size and time.
const HEAD: u64 = 64 << 10;

/// An input as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    name: String,
    part: Part,
    /// Absent for pipes, as all that follows.
    bytes: Option<u64>,
    /// Nanoseconds since 1970.
    modified: Option<u64>,
    head: Option<u64>,
}

impl Mark {
    /// Looks at a source; pipes are known by their name alone.
    pub(super) fn of(source: &Source, part: Part) -> Result<Self, IngestError> {
        let mut mark =
            Self { name: source.name().to_string(), part, bytes: source.bytes(), modified: None, head: None };
        if let (Some(path), Some(_)) = (source.path(), source.bytes()) {
            let failed = |e| ReadError::Unreadable { path: source.name().into(), source: e };
            let mut file = File::open(path).map_err(failed)?;
            let modified = file.metadata().and_then(|m| m.modified()).map_err(failed)?;
            mark.modified = modified.duration_since(UNIX_EPOCH).ok().and_then(|d| u64::try_from(d.as_nanos()).ok());
            let mut head = Vec::new();
            file.by_ref().take(HEAD).read_to_end(&mut head).map_err(failed)?;
            mark.head = Some(xxh3_64(&head));
        }
        Ok(mark)
    }

    /// What of it changed.
    fn difference(&self, now: &Self) -> Option<String> {
        let name = &self.name;
        if self.name != now.name || self.part != now.part {
            return Some(format!("the input {} ({}) was {name} ({})", now.name, now.part.name(), self.part.name()));
        }
        let size = |bytes: Option<u64>| bytes.map_or("a pipe".to_string(), |b| format!("{b} bytes"));
        if self.bytes != now.bytes {
            return Some(format!("{name} was {} and is {}", size(self.bytes), size(now.bytes)));
        }
        if self.head != now.head {
            return Some(format!("the content of {name} changed"));
        }
        (self.modified != now.modified).then(|| format!("{name} was modified"))
    }
}

/// What the checkpoints write.
#[derive(Serialize, Deserialize)]
pub(super) struct Journal {
    /// Version of the program.
    peccary: String,
    inputs: Vec<Mark>,
    options: Value,
    /// What has been read.
    pub(super) read: ReadState,
}

impl Journal {
    /// The journal of an ingest of `inputs` that got as far as `read`.
    pub(super) fn new(inputs: Vec<Mark>, options: &IngestOptions, read: ReadState) -> Result<Self, IngestError> {
        let peccary = env!("CARGO_PKG_VERSION").to_string();
        Ok(Self { peccary, inputs, options: to_value(options)?, read })
    }

    /// Its file's content.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, IngestError> {
        let body = serde_json::to_vec(self).map_err(|e| IngestError::Options(e.to_string()))?;
        let mut bytes = format!("{MAGIC} {VERSION} {:016x}\n", xxh3_64(&body)).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Self, IngestError> {
        let damaged = |reason: &str| IngestError::Journal { path: path.to_path_buf(), reason: reason.into() };
        let bytes = std::fs::read(path).at(path, "read")?;
        let end = memchr::memchr(b'\n', &bytes).ok_or_else(|| damaged("it has no first line"))?;
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let fields: Vec<&str> = line.split(' ').collect();
        let [MAGIC, version, sum] = fields[..] else { return Err(damaged("its first line is not one of a journal")) };
        match version.parse() {
            Ok(VERSION) => {}
            Ok(got) => return Err(StorageError::Version { path: path.to_path_buf(), expected: VERSION, got }.into()),
            Err(_) => return Err(damaged("its version is not a number")),
        }
        if u64::from_str_radix(sum, 16).ok() != Some(xxh3_64(&bytes[end + 1..])) {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_slice(&bytes[end + 1..]).map_err(|e| damaged(&e.to_string()))
    }

    /// Refuses to go on for other inputs, options or versions than those of the start, naming what changed, and from a state
    /// that cannot be.
    ///
    /// One change is none: rows before the checkpoint were all good where bad ones were errors, so `--on-error skip` gives
    /// the same from there on as from the start.
    pub(super) fn check(&self, inputs: &[Mark], options: &IngestOptions, folder: &Path) -> Result<(), IngestError> {
        let mut changes = Vec::new();
        if self.peccary != env!("CARGO_PKG_VERSION") {
            changes.push(format!("peccary was {} and is {}", self.peccary, env!("CARGO_PKG_VERSION")));
        }
        if self.inputs.len() != inputs.len() {
            changes.push(format!("there were {} inputs and are {}", self.inputs.len(), inputs.len()));
        } else {
            changes.extend(self.inputs.iter().zip(inputs).filter_map(|(then, now)| then.difference(now)));
        }
        let now = to_value(options)?;
        let failed = self.options.get("on_error").is_some_and(|v| v == "fail");
        differences("", &self.options, &now, &mut changes, &|key| failed && matches!(key, "on-error" | "rejects"));
        if changes.is_empty() {
            let path = folder.join(JOURNAL);
            return self.read.check(inputs.len(), options).map_err(|reason| IngestError::Journal { path, reason });
        }
        Err(IngestError::Changed { folder: folder.to_path_buf(), what: changes.join("; ") })
    }
}

fn to_value(options: &IngestOptions) -> Result<Value, IngestError> {
    serde_json::to_value(options).map_err(|e| IngestError::Options(e.to_string()))
}

/// Lists the options that differ, by the names of their flags as far as that is what the fields are called.
fn differences(key: &str, then: &Value, now: &Value, out: &mut Vec<String>, ignored: &dyn Fn(&str) -> bool) {
    if let (Value::Object(then), Value::Object(now)) = (then, now) {
        for (name, value) in now {
            let flag = match name.as_str() {
                "user" | "item" | "time" | "weight" | "event" => format!("{name}-column"),
                _ => name.replace('_', "-"),
            };
            differences(&flag, then.get(name).unwrap_or(&Value::Null), value, out, ignored);
        }
    } else if then != now && !ignored(key) {
        out.push(format!("--{key} was {then} and is {now}"));
    }
}
