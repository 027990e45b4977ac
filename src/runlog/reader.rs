//! Reads a run log, also one that is being written.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{NAME, RUN_LOG_VERSION, RunEnd, RunEpoch, RunEvent, RunHappening, RunHeader, RunLogError, RunMoment};
use super::{RunRecord, RunValidation};
use crate::model::MODEL_FORMAT_VERSION;
use crate::storage::{FileRecord, IoContext, check_plain, disk, read_manifest};

/// What is read at a time.
const PIECE: usize = 1 << 16;

/// An open run log: what was whole of it when it was read last.
pub struct RunLog {
    path: PathBuf,
    file: File,
    /// Where the first byte that is not in `records` or `tail` is.
    offset: u64,
    /// A line that has no end yet.
    tail: Vec<u8>,
    lines: u64,
    header: RunHeader,
    records: Vec<RunRecord>,
}

/// The only thing asked of a manifest.
#[derive(Deserialize)]
struct Listing {
    files: Vec<FileRecord>,
}

impl RunLog {
    /// Opens the log at `path`: that of a model that is published; else that of the training that makes it; or, where
    /// `path` is a file, itself. The log of a model is compared with its checksum.
    ///
    /// # Errors
    /// If there is none, or it is damaged or of a newer version. A last line that is cut off is no error.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RunLogError> {
        Self::find(path.as_ref(), false)
    }

    /// The same, but where a training is making a model of that name, or a new version of it, its log goes first.
    ///
    /// # Errors
    /// Those of [`RunLog::open`].
    pub fn open_running(path: impl AsRef<Path>) -> Result<Self, RunLogError> {
        Self::find(path.as_ref(), true)
    }

    fn find(path: &Path, running: bool) -> Result<Self, RunLogError> {
        if path.is_file() {
            return Self::read(path);
        }
        let mut partial = path.as_os_str().to_os_string();
        partial.push(".partial");
        let partial = Path::new(&partial).join(NAME);
        if running && partial.is_file() {
            return Self::read(&partial);
        }
        if path.join("manifest.json").is_file() {
            let listing: Listing = read_manifest(path, "peccary-model", MODEL_FORMAT_VERSION)?;
            if let Some(log) = Self::listed(path, &listing.files)? {
                return Ok(log);
            }
        }
        let found = [path.join(NAME), partial].into_iter().find(|candidate| candidate.is_file());
        match found {
            Some(file) => Self::read(&file),
            None => {
                let reason = match path.is_dir() {
                    true => "the folder has none; it may be a model of an earlier build",
                    false => "there is no such model, and no training that makes it",
                };
                Err(RunLogError::None { path: path.to_path_buf(), reason })
            }
        }
    }

    /// The log among the `files` of a version of the model at `path`; none where an earlier build trained it.
    pub(crate) fn listed(path: &Path, files: &[FileRecord]) -> Result<Option<Self>, RunLogError> {
        let is_log = |file: &&FileRecord| Path::new(&file.path).file_name().is_some_and(|name| name == NAME);
        let Some(record) = files.iter().find(is_log) else { return Ok(None) };
        check_plain(path, record)?;
        Self::read(&path.join(&record.path)).map(Some)
    }

    fn read(path: &Path) -> Result<Self, RunLogError> {
        let mut file = File::open(path).at(path, "open")?;
        let mut tail = Vec::new();
        let mut offset = 0;
        let fail = |reason: &str| RunLogError::Header { path: path.to_path_buf(), reason: reason.to_string() };
        let end = loop {
            if let Some(end) = memchr::memchr(b'\n', &tail) {
                break end;
            }
            if read_on(&mut file, &mut tail, &mut offset).at(path, "read")? == 0 {
                return Err(fail(if tail.is_empty() { "the file is empty" } else { "it is cut off" }));
            }
        };
        #[derive(Deserialize)]
        struct Versioned {
            k: String,
            v: u32,
        }
        let first = &tail[..end];
        let start: Versioned = serde_json::from_slice(first).map_err(|error| fail(&error.to_string()))?;
        if start.k != "run" {
            return Err(fail("its k is not \"run\""));
        }
        if start.v > RUN_LOG_VERSION {
            return Err(RunLogError::Version { path: path.to_path_buf(), expected: RUN_LOG_VERSION, got: start.v });
        }
        let RunRecord::Run(header) = serde_json::from_slice(first).map_err(|error| fail(&error.to_string()))? else {
            return Err(fail("its k is not \"run\""));
        };
        tail.drain(..=end);
        let mut log =
            Self { path: path.to_path_buf(), file, offset, tail, lines: 1, header: *header, records: Vec::new() };
        log.refresh()?;
        Ok(log)
    }

    /// Reads what has been written since. Returns how many records that are; [`RunLog::records`] has them last.
    ///
    /// # Errors
    /// If the file cannot be read, or a whole line cannot be understood.
    pub fn refresh(&mut self) -> Result<usize, RunLogError> {
        let before = self.records.len();
        loop {
            let mut start = 0;
            while let Some(end) = memchr::memchr(b'\n', &self.tail[start..]) {
                let line = &self.tail[start..start + end];
                start += end + 1;
                self.lines += 1;
                if line.is_empty() {
                    continue;
                }
                let record = serde_json::from_slice(line).map_err(|error| RunLogError::Line {
                    path: self.path.clone(),
                    line: self.lines,
                    reason: error.to_string(),
                })?;
                self.records.push(record);
            }
            self.tail.drain(..start);
            if read_on(&mut self.file, &mut self.tail, &mut self.offset).at(&self.path, "read")? == 0 {
                return Ok(self.records.len() - before);
            }
        }
    }

    /// Where it was found. A training moves it into the model when that is published; this stays open.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its first line.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// All that follows, in the order of writing, also what was lost when the run was interrupted and gone on with.
    pub fn records(&self) -> &[RunRecord] {
        &self.records
    }

    /// Whether the last line has no end: the process was killed in the middle of it, or is writing it.
    pub fn is_cut_off(&self) -> bool {
        !self.tail.is_empty()
    }

    /// Whether a process has it open for writing. False also where the file system has no locks.
    pub fn is_being_written(&self) -> bool {
        is_locked(&self.file)
    }

    /// What was measured at intervals, of the run as it went on: what was lost is left out.
    pub fn moments(&self) -> Vec<&RunMoment> {
        self.kept(
            |record| if let RunRecord::Now(moment) = record { Some(moment) } else { None },
            |moment, (_, triples)| moment.triples <= triples,
        )
    }

    /// Its epochs, each once.
    pub fn epochs(&self) -> Vec<&RunEpoch> {
        self.kept(
            |record| if let RunRecord::Epoch(epoch) = record { Some(&**epoch) } else { None },
            |epoch, (epochs, _)| f64::from(epoch.epoch) <= epochs,
        )
    }

    /// Its validations, each once.
    pub fn validations(&self) -> Vec<&RunValidation> {
        self.kept(
            |record| if let RunRecord::Valid(validation) = record { Some(validation) } else { None },
            |validation, (epochs, _)| f64::from(validation.epoch) <= epochs,
        )
    }

    /// What has happened to it, all of it.
    pub fn events(&self) -> impl Iterator<Item = &RunEvent> {
        self.records.iter().filter_map(|record| if let RunRecord::Event(event) = record { Some(event) } else { None })
    }

    /// How it ended, if it has, and was not gone on with.
    pub fn end(&self) -> Option<&RunEnd> {
        // Behind the end there may be what the user was told of it.
        let told = |record: &&RunRecord| {
            matches!(record, RunRecord::Event(event) if event.what != RunHappening::Resumed)
                || matches!(record, RunRecord::Unknown)
        };
        match self.records.iter().rev().find(|record| !told(record)) {
            Some(RunRecord::End(end)) => Some(end),
            _ => None,
        }
    }

    /// Records of a kind, without those that were lost when the run went on from a place before them: `survives` has the
    /// first place of all that it went on from later. O(records).
    fn kept<'a, T>(
        &'a self,
        of: impl Fn(&'a RunRecord) -> Option<&'a T>,
        survives: impl Fn(&T, (f64, u64)) -> bool,
    ) -> Vec<&'a T> {
        let mut kept = Vec::new();
        let (mut epochs, mut triples) = (f64::INFINITY, u64::MAX);
        for record in self.records.iter().rev() {
            match record {
                RunRecord::Event(event) if matches!(event.what, RunHappening::Resumed | RunHappening::Rollback) => {
                    (epochs, triples) = (epochs.min(event.epochs), triples.min(event.triples));
                }
                other => kept.extend(of(other).filter(|seen| survives(seen, (epochs, triples)))),
            }
        }
        kept.reverse();
        kept
    }
}

/// Whether a process has the log at `path` open for writing.
pub(crate) fn is_being_written(path: &Path) -> bool {
    let free = |file: &File| if is_locked(file) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) };
    File::open(path).is_ok_and(|file| disk::patiently(|| free(&file)).is_err())
}

fn is_locked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // A lock that is not returned is let go of with the file.
            let _ = file.unlock();
            false
        }
        Err(error) => io::Error::from(error).kind() == io::ErrorKind::WouldBlock,
    }
}

/// Reads a piece more behind `offset`; returns the bytes, 0 at the end.
fn read_on(file: &mut File, tail: &mut Vec<u8>, offset: &mut u64) -> io::Result<usize> {
    file.seek(SeekFrom::Start(*offset))?;
    let read = file.take(PIECE as u64).read_to_end(tail)?;
    *offset += read as u64;
    Ok(read)
}
