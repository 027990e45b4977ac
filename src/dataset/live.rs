//! Which chunks make up a dataset, in order, and in which files they lie: all of all files, or those an index lists.
//!
//! A dataset has several streams of chunks: the interactions of each part, the context of the train part, the exposures.
//! Chunk *k* of each is of the same users.

use std::path::Path;

use rkyv::{Archive, Serialize};

use super::{DatasetError, Part};
use crate::storage::{Archived, CheckedFile, CheckedWriter, FileRecord, StorageError, write_root};

const KIND: &str = "chunks";
const VERSION: u32 = 1;
/// The stream of exposures, and its folder.
pub(super) const EXPOSURES: &str = "exposures";
/// The stream of the context of the train part.
pub(super) const CONTEXTS: &str = "contexts";

#[derive(Archive, Serialize)]
struct StreamRoot {
    name: String,
    files: Vec<String>,
    runs: Vec<RunRoot>,
}

#[derive(Archive, Serialize)]
struct RunRoot {
    file: u32,
    first: u32,
    count: u32,
}

#[derive(Archive, Serialize)]
struct IndexRoot {
    streams: Vec<StreamRoot>,
}

/// Chunks `first .. first + count` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) file: u32,
    pub(super) first: u32,
    /// `u32::MAX` stands for all that follow.
    pub(super) count: u32,
}

/// The chunks of a stream: runs of those of its files, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) name: String,
    /// Paths relative to the dataset; of a part, those of the shards, beside each of which lie its positives.
    pub(super) files: Vec<String>,
    pub(super) runs: Vec<Run>,
}

impl Stream {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_string(), ..Self::default() }
    }

    /// The number of a file, which is added if it is not there. Only the last ones are looked at: chunks come in order.
    pub(super) fn file(&mut self, path: &str) -> u32 {
        let known = self.files.iter().rposition(|f| f == path);
        known.unwrap_or_else(|| {
            self.files.push(path.to_string());
            self.files.len() - 1
        }) as u32
    }

    /// Adds a chunk at the end.
    pub(super) fn push(&mut self, file: u32, chunk: u32) {
        match self.runs.last_mut() {
            Some(run) if run.file == file && run.first + run.count == chunk => run.count += 1,
            _ => self.runs.push(Run { file, first: chunk, count: 1 }),
        }
    }

    /// Files and chunks in order; `chunks` says how many a file has. `None` at a run that is not there.
    pub(super) fn places<'a>(
        &'a self,
        chunks: impl Fn(usize) -> usize + 'a,
    ) -> impl Iterator<Item = Option<(u32, u32)>> + 'a {
        self.runs.iter().flat_map(move |run| {
            let held = if (run.file as usize) < self.files.len() { chunks(run.file as usize) } else { 0 };
            let end = match run.count {
                u32::MAX => Some(held as u64),
                count => Some(u64::from(run.first) + u64::from(count)).filter(|end| *end <= held as u64),
            };
            let wrong = end.is_none().then_some(None);
            let file = run.file;
            let places = u64::from(run.first)..end.unwrap_or_default();
            wrong.into_iter().chain(places.map(move |chunk| Some((file, chunk as u32))))
        })
    }
}

/// The suffix of the files of a stream, and the folder that they are in.
fn names(stream: &str) -> (&str, &'static str) {
    match stream {
        EXPOSURES => (EXPOSURES, ".exposures"),
        CONTEXTS => (Part::Train.name(), ".contexts"),
        part => (part, ".shard"),
    }
}

/// All streams of a dataset.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveChunks {
    pub(super) streams: Vec<Stream>,
}

impl LiveChunks {
    /// All chunks of all files, in the order of the files' names.
    pub(super) fn all(files: &[FileRecord]) -> Self {
        let parts = Part::ALL.map(Part::name);
        let stream = |name: &str| {
            let (folder, suffix) = names(name);
            let is_of =
                |path: &str| path.strip_prefix(folder).is_some_and(|p| p.starts_with('/')) && path.ends_with(suffix);
            let files: Vec<String> = files.iter().map(|f| &f.path).filter(|p| is_of(p)).cloned().collect();
            let runs = (0..files.len() as u32).map(|file| Run { file, first: 0, count: u32::MAX }).collect();
            Stream { name: name.to_string(), files, runs }
        };
        Self { streams: parts.into_iter().chain([CONTEXTS, EXPOSURES]).map(stream).collect() }
    }

    /// Reads the index.
    pub(super) fn open(folder: &Path, record: &FileRecord) -> Result<Self, StorageError> {
        let archive = Archived::<ArchivedIndexRoot>::new(CheckedFile::open(folder, record, KIND, VERSION)?)?;
        let stream = |s: &ArchivedStreamRoot| Stream {
            name: s.name.to_string(),
            files: s.files.iter().map(|f| f.to_string()).collect(),
            // A run of all that follow is not written.
            runs: s
                .runs
                .iter()
                .map(|r| Run {
                    file: r.file.to_native(),
                    first: r.first.to_native(),
                    count: r.count.to_native().min(u32::MAX - 1),
                })
                .collect(),
        };
        Ok(Self { streams: archive.streams.iter().map(stream).collect() })
    }

    /// Writes the index.
    pub(super) fn write(&self, path: &Path, relative: &str) -> Result<FileRecord, StorageError> {
        let mut file = CheckedWriter::create(path, KIND, VERSION)?;
        let run = |r: &Run| RunRoot { file: r.file, first: r.first, count: r.count };
        let stream = |s: &Stream| StreamRoot {
            name: s.name.clone(),
            files: s.files.clone(),
            runs: s.runs.iter().map(run).collect(),
        };
        let root = write_root(&mut file, &IndexRoot { streams: self.streams.iter().map(stream).collect() })?;
        file.finish(relative, root)
    }

    /// A stream by its name; one without chunks where there is none.
    pub(super) fn stream(&self, name: &str) -> Stream {
        self.streams.iter().find(|s| s.name == name).cloned().unwrap_or_else(|| Stream::new(name))
    }
}

/// The record of a file that something names.
pub(super) fn record<'a>(folder: &Path, files: &'a [FileRecord], path: &str) -> Result<&'a FileRecord, DatasetError> {
    files.iter().find(|f| f.path == path).ok_or_else(|| DatasetError::Inconsistent {
        path: folder.to_path_buf(),
        reason: format!("the manifest does not list {path}"),
    })
}
