//! Which chunks make up a dataset, in order, and in which files they lie: all of all files, or those an index lists.
//!
//! A dataset has several streams of chunks: the interactions of each part, the context of the train part, the exposures.
//! Chunk *k* of each is of the same users.

use std::collections::HashSet;
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

    /// Files and chunks in order; `chunks` says how many a file has. `None` at a run that is not there, and where there are
    /// more than all files have: chunks without users could else be repeated without end.
    pub(super) fn places<'a>(
        &'a self,
        chunks: impl Fn(usize) -> usize + 'a,
    ) -> impl Iterator<Item = Option<(u32, u32)>> + 'a {
        let most: usize = (0..self.files.len()).map(&chunks).sum();
        let places = self.runs.iter().flat_map(move |run| {
            let held = if (run.file as usize) < self.files.len() { chunks(run.file as usize) } else { 0 };
            let end = match run.count {
                u32::MAX => Some(held as u64),
                count => Some(u64::from(run.first) + u64::from(count)).filter(|end| *end <= held as u64),
            };
            let wrong = end.is_none().then_some(None);
            let file = run.file;
            let places = u64::from(run.first)..end.unwrap_or_default();
            wrong.into_iter().chain(places.map(move |chunk| Some((file, chunk as u32))))
        });
        places.enumerate().map(move |(number, place)| place.filter(|_| number < most))
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
        let streams: Vec<Stream> = archive.streams.iter().map(stream).collect();
        // Each is opened, and compared with its checksum, as often as it is listed.
        let listed: Vec<&String> = streams.iter().flat_map(|s| &s.files).collect();
        if listed.iter().collect::<HashSet<_>>().len() < listed.len() {
            let reason = "it lists a file twice".to_string();
            return Err(StorageError::Damaged { path: folder.join(&record.path), reason });
        }
        Ok(Self { streams })
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

#[cfg(test)]
mod tests {
    use super::super::interactions::Interactions;
    use super::*;
    use crate::rank::fixture;

    const SHARD: &str = "train/00000.shard";

    fn stream(count: u32, times: usize) -> Stream {
        Stream { name: "train".into(), files: vec![SHARD.into()], runs: vec![Run { file: 0, first: 0, count }; times] }
    }

    #[test]
    fn chunks_without_users_cannot_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d");
        // A chunk without users, and one with two.
        for (users, runs, is_sound) in [(vec![], 1, true), (vec![], 2, false), (vec![vec![0], vec![1]], 1, true)] {
            let _ = std::fs::remove_dir_all(&path);
            let counts = (users.len() as u32, 3);
            let data = fixture::dataset(&path, 3, &[(Part::Train, users)]);
            let (files, summary) = (&data.manifest().files, data.train().summary());
            let opened = Interactions::open(&path, files, &stream(1, runs), counts, summary);
            assert_eq!(opened.is_ok(), is_sound, "{counts:?} {runs}");
        }
    }

    #[test]
    fn no_more_places_are_looked_at_than_there_are_chunks() {
        // Billions of them in a few bytes.
        let lies = stream(u32::MAX - 1, 1000);
        assert_eq!(lies.places(|_| u32::MAX as usize).take_while(Option::is_some).take(1 << 20).count(), 1 << 20);
        assert_eq!(stream(2, 1000).places(|_| 2).take_while(Option::is_some).count(), 2);
        assert_eq!(stream(3, 1).places(|_| 2).next(), Some(None));
    }

    #[test]
    fn an_index_that_lists_a_file_twice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (files, is_sound) in [(vec!["a", "b"], true), (vec!["a", "b", "a"], false)] {
            let files = files.into_iter().map(String::from).collect();
            let streams = vec![Stream { files, ..stream(1, 1) }, Stream::new("test")];
            let path = folder.path().join("chunks.pec");
            let record = LiveChunks { streams }.write(&path, "chunks.pec").unwrap();
            assert_eq!(LiveChunks::open(folder.path(), &record).is_ok(), is_sound);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
