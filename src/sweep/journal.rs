//! What a sweep has measured: a file of checksummed lines, each made durable before the next run begins.
//!
//! The first line says what is swept; each that follows is a run. A line is the xxh3-64 of its JSON in hexadecimal, a
//! space and the JSON. A last line without its end is what a killed process was writing: it is cut off.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::SweepError;
use crate::storage::disk::{self, DiskFile};
use crate::storage::{IoContext, StorageError, sync_folder};

const FORMAT: &str = "peccary-sweep";
const VERSION: u32 = 1;
const NAME: &str = "journal";

/// What is swept: two sweeps whose heads are equal may share their runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Fingerprint of the dataset.
    pub(super) dataset: String,
    /// The configuration that choices change.
    pub(super) base: Value,
    /// The space of choices.
    pub(super) space: Value,
    /// By which they are compared.
    pub(super) metric: String,
    /// The size of the sample of users, if they are one.
    pub(super) users: Option<usize>,
}

impl Head {
    /// What is different.
    fn difference(&self, now: &Self) -> Option<&'static str> {
        let same = [
            ("the dataset", self.dataset == now.dataset),
            ("the configuration (--config and flags)", self.base == now.base),
            ("the space", self.space == now.space),
            ("--metric", self.metric == now.metric),
            ("--users", self.users == now.users),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

/// The head with what it is the head of.
#[derive(Serialize, Deserialize)]
struct First {
    format: String,
    version: u32,
    #[serde(flatten)]
    head: Head,
}

/// A run that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Of the configuration in force with its epochs and seed.
    pub(super) key: String,
    /// The choices, for who reads the file.
    pub(super) choices: Vec<String>,
    pub(super) epochs: u32,
    pub(super) seed: u64,
    pub(super) outcome: Outcome,
}

/// How a run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It has been measured.
    Measured(Measured),
    /// Its configuration cannot be trained on this dataset, or diverged; why.
    Failed(String),
}

/// What was measured of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) metrics: Vec<(String, f64)>,
    /// Seconds of training alone.
    pub(super) seconds: f64,
    pub(super) triples_per_second: f64,
    /// Means of the chosen metric over users drawn again.
    pub(super) replicates: Vec<f32>,
}

/// An open journal, which nobody else has.
pub(super) struct Journal {
    path: PathBuf,
    file: DiskFile,
    done: HashMap<String, Entry>,
}

impl Journal {
    /// Begins a journal in `folder`, which is made unless it is there and empty; with `resume` goes on with the one
    /// there is.
    pub(super) fn open(folder: &Path, head: &Head, resume: bool) -> Result<Self, SweepError> {
        let path = folder.join(NAME);
        match (path.exists(), resume) {
            (true, false) => return Err(SweepError::Exists { folder: folder.to_path_buf() }),
            (false, true) => return Err(SweepError::NothingToResume { folder: folder.to_path_buf() }),
            (true, true) => {}
            (false, false) => {
                let taken = match folder.read_dir() {
                    Ok(mut entries) => entries.next().is_some(),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => false,
                    Err(_) => true,
                };
                if taken {
                    return Err(SweepError::NotASweep { folder: folder.to_path_buf() });
                }
                disk::create_folders(folder).at(folder, "create")?;
            }
        }
        let mut file = DiskFile::open_or_create(&path).at(&path, "open")?;
        match file.try_lock() {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(SweepError::Busy { folder: folder.to_path_buf() });
            }
            Err(e) => Err(e).at(&path, "lock")?,
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at(&path, "read")?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
        if whole == 0 && !bytes.iter().take(16).all(u8::is_ascii_hexdigit) {
            // Not what a head that was never finished begins with: somebody else's file.
            return Err(SweepError::Journal { path, line: 1 });
        }
        let (first, entries) = lines(&path, &bytes[..whole])?;
        file.set_len(whole as u64).at(&path, "shorten")?;
        file.seek(SeekFrom::Start(whole as u64)).at(&path, "seek in")?;
        let mut journal = Self { path, file, done: entries };
        match first {
            None => {
                let (format, version) = (FORMAT.to_string(), VERSION);
                journal.append(&First { format, version, head: head.clone() })?;
                sync_folder(folder)?;
            }
            Some(first) => {
                if let Some(what) = first.head.difference(head) {
                    return Err(SweepError::Changed { folder: folder.to_path_buf(), what });
                }
            }
        }
        Ok(journal)
    }

    /// The run with that key, if it is done.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.done.get(key)
    }

    /// Epochs of the runs that are done.
    pub(super) fn epochs(&self) -> u64 {
        self.done.values().map(|entry| u64::from(entry.epochs)).sum()
    }

    /// Makes a run durable. It is kept as it will be read again, to the last bit.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), SweepError> {
        let json = self.append(entry)?;
        let again: Entry = serde_json::from_slice(&json).map_err(|e| unwritable(&self.path, e))?;
        self.done.insert(again.key.clone(), again);
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<Vec<u8>, SweepError> {
        let json = serde_json::to_vec(line).map_err(|e| unwritable(&self.path, e))?;
        let mut bytes = format!("{:016x} ", xxh3_64(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
        self.file.write_all(&bytes).and_then(|()| self.file.sync()).at(&self.path, "write")?;
        Ok(json)
    }
}

/// JSON that cannot be made is a fault of the disk as far as anyone can do something about it.
fn unwritable(path: &Path, error: serde_json::Error) -> SweepError {
    StorageError::Io { path: path.to_path_buf(), action: "write", source: error.into() }.into()
}

/// The head and the runs of whole lines.
fn lines(path: &Path, bytes: &[u8]) -> Result<(Option<First>, HashMap<String, Entry>), SweepError> {
    let (mut first, mut done) = (None, HashMap::new());
    for (number, line) in (1..).zip(bytes.split_inclusive(|b| *b == b'\n')) {
        let damaged = || SweepError::Journal { path: path.to_path_buf(), line: number };
        let json = checked(line).ok_or_else(damaged)?;
        if number == 1 {
            let value: Value = serde_json::from_slice(json).map_err(|_| damaged())?;
            let version = value.get("version").and_then(Value::as_u64).unwrap_or_default();
            if value.get("format").and_then(Value::as_str) != Some(FORMAT) {
                return Err(damaged());
            }
            if version > u64::from(VERSION) {
                let got = u32::try_from(version).unwrap_or(u32::MAX);
                return Err(StorageError::Version { path: path.to_path_buf(), expected: VERSION, got }.into());
            }
            first = Some(serde_json::from_value::<First>(value).map_err(|_| damaged())?);
        } else {
            let entry: Entry = serde_json::from_slice(json).map_err(|_| damaged())?;
            done.insert(entry.key.clone(), entry);
        }
    }
    Ok((first, done))
}

/// The JSON of a line, if it is what was written.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(17)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    (u64::from_str_radix(sum, 16).ok()? == xxh3_64(json)).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let (base, space) = (serde_json::json!({"epochs": 3}), serde_json::json!({"l2": [0.1]}));
        Head { dataset: "d".into(), base, space, metric: "ndcg@20".into(), users: None }
    }

    fn entry(number: u64) -> Entry {
        let metrics = vec![("ndcg@20".to_string(), 0.1 + 0.2 / number as f64)];
        let (seconds, triples_per_second) = (1.0 / 3.0, 1e7 / 3.0);
        let measured = Measured { metrics, seconds, triples_per_second, replicates: vec![0.1, 1.0 / 3.0] };
        let outcome = if number == 2 { Outcome::Failed("why".into()) } else { Outcome::Measured(measured) };
        Entry { key: format!("k{number}"), choices: vec!["x".into()], epochs: 3, seed: number, outcome }
    }

    #[test]
    fn a_journal_cut_off_anywhere_keeps_the_whole_lines() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sweep");
        let mut journal = Journal::open(&folder, &head(), false).unwrap();
        (1..=3).for_each(|n| journal.add(&entry(n)).unwrap());
        let kept: Vec<Entry> = (1..=3).map(|n| journal.get(&format!("k{n}")).unwrap().clone()).collect();
        assert!(matches!(Journal::open(&folder, &head(), true), Err(SweepError::Busy { .. })));
        drop(journal);
        let path = folder.join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let whole = bytes[..end].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
            let mut journal = Journal::open(&folder, &head(), true).unwrap();
            for (n, kept) in kept.iter().enumerate() {
                assert_eq!(journal.get(&kept.key), (n < whole).then_some(kept), "cut off at {end}");
            }
            if end % 97 == 0 {
                journal.add(&entry(9)).unwrap();
                drop(journal);
                assert!(Journal::open(&folder, &head(), true).unwrap().get("k9").is_some(), "written after {end}");
            }
        }
    }

    #[test]
    fn damage_and_other_sweeps_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sweep");
        assert!(matches!(Journal::open(&folder, &head(), true), Err(SweepError::NothingToResume { .. })));
        let mut journal = Journal::open(&folder, &head(), false).unwrap();
        (1..=2).for_each(|n| journal.add(&entry(n)).unwrap());
        drop(journal);
        assert!(matches!(Journal::open(&folder, &head(), false), Err(SweepError::Exists { .. })));
        assert!(matches!(Journal::open(root.path(), &head(), false), Err(SweepError::NotASweep { .. })));
        for (changed, expected) in [
            (Head { dataset: "e".into(), ..head() }, "the dataset"),
            (Head { base: Value::Null, ..head() }, "the configuration (--config and flags)"),
            (Head { space: Value::Null, ..head() }, "the space"),
            (Head { metric: "mrr@5".into(), ..head() }, "--metric"),
            (Head { users: Some(3), ..head() }, "--users"),
        ] {
            match Journal::open(&folder, &changed, true) {
                Err(SweepError::Changed { what, .. }) => assert_eq!(what, expected),
                other => panic!("{expected}: {:?}", other.err()),
            }
        }
        let path = folder.join(NAME);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, "Dear diary").unwrap();
        assert!(matches!(Journal::open(&folder, &head(), true), Err(SweepError::Journal { line: 1, .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"Dear diary");
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let refused = Journal::open(&folder, &head(), true).err();
            assert!(matches!(refused, Some(SweepError::Journal { .. })), "byte {at}: {refused:?}");
        }
    }
}
