//! Writes a changed dataset beside the files that are there: chunks that stay where they are, and chunks written anew.

use std::path::PathBuf;

use super::block::UserBlock;
use super::change::{DatasetLock, SEGMENTS};
use super::chunks::{ChunkWriter, Written};
use super::dictionary::{DictionaryWriter, IdGatherer};
use super::live::{CONTEXTS, EXPOSURES, LiveChunks, Stream};
use super::manifest::{Change, Columns, ContextSummary, Layout, Manifest, Source};
use super::open::Dataset;
use super::pairs::{self, Listed, PairsWriter};
use super::{ContextTable, DatasetError, FORMAT, FORMAT_VERSION, POPULARITY, Part, popularity};
use crate::storage::{
    FileRecord, check_in_use, create_folder, read_manifest, remove_file, remove_folder, replace_manifest, sync_folder,
    sync_tree,
};

/// A user with more interactions in a part begins a block.
pub(super) const LARGE_USER: usize = 1 << 16;

/// A change in the making. Dropping it without [`Rewrite::publish`] leaves the dataset as it was.
///
/// Memory: 4 bytes an item and part, the index of chunks, and the block being appended.
pub(crate) struct Rewrite<'a> {
    base: &'a Dataset,
    generation: u32,
    /// Of the new files, relative to the dataset.
    prefix: String,
    folder: PathBuf,
    chunks: ChunkWriter,
    streams: Vec<Stream>,
    shape: Shape,
    /// Users being gathered; the first of them is `next_user`.
    block: UserBlock,
    next_user: u32,
    /// Files outside of the folder.
    others: Vec<PathBuf>,
    published: bool,
}

/// What the chunks of a dataset have.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) columns: Columns,
    pub(crate) parts: Vec<Part>,
    pub(crate) exposed: bool,
    pub(crate) context: bool,
    pub(crate) items: u32,
}

impl Shape {
    /// That of a dataset.
    pub(crate) fn of(base: &Dataset) -> Self {
        Self {
            columns: base.manifest().columns,
            parts: base.parts().map(|(part, _)| part).collect(),
            exposed: base.exposures().is_some(),
            context: base.contexts().is_some(),
            items: base.items().len(),
        }
    }

    /// Bytes of memory that counting takes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.items) * (4 * self.parts.len() as u64 + u64::from(self.exposed))
    }

    pub(super) fn block(&self) -> UserBlock {
        // Counts are gathered always, and written where one is not 1.
        let block = UserBlock::new(Columns { count: true, ..self.columns }, &self.parts);
        let block = if self.context { block.with_contexts() } else { block };
        if self.exposed { block.with_exposures() } else { block }
    }
}

/// What the manifest says of a changed dataset, beside its chunks.
pub(crate) struct Outcome {
    /// Files of the dictionaries, old and new, in the order of their ids.
    pub(crate) users: Vec<FileRecord>,
    pub(crate) items: Vec<FileRecord>,
    pub(crate) n_items: u32,
    pub(crate) contexts: Option<(FileRecord, ContextSummary)>,
    pub(crate) columns: Columns,
    pub(crate) events: Vec<String>,
    /// Pairs of this append and of those before.
    pub(crate) pairs: Vec<FileRecord>,
    pub(crate) sources: Vec<Source>,
    pub(crate) fingerprint: String,
    pub(crate) changes: Vec<Change>,
}

impl Outcome {
    /// Nothing but the chunks changes.
    pub(crate) fn same(base: &Dataset) -> Self {
        let manifest = base.manifest();
        let is_pairs = |f: &&FileRecord| f.path.ends_with(".pairs");
        Self {
            users: base.user_files(),
            items: base.item_files(),
            n_items: manifest.items,
            contexts: base.context_file().zip(manifest.contexts.clone()),
            columns: manifest.columns,
            events: manifest.events.clone(),
            pairs: manifest.files.iter().filter(is_pairs).cloned().collect(),
            sources: manifest.sources.clone(),
            fingerprint: manifest.fingerprint.clone(),
            changes: manifest.changes.clone(),
        }
    }
}

impl<'a> Rewrite<'a> {
    /// Begins a change of `base` into a dataset of this shape, under its lock.
    pub(crate) fn begin(base: &'a Dataset, _held: &'a DatasetLock, shape: Shape) -> Result<Self, DatasetError> {
        let generation = base.manifest().layout.as_ref().map_or(0, |layout| layout.generation) + 1;
        let prefix = format!("{SEGMENTS}/{generation:06}");
        let folder = base.path().join(&prefix);
        remove_folder(&folder)?;
        create_folder(&folder)?;
        let mut chunks = ChunkWriter::create(&folder, &shape.parts)?;
        chunks.set_items(shape.items as usize);
        let streams = shape.parts.iter().map(|part| Stream::new(part.name())).collect();
        let (block, others) = (shape.block(), Vec::new());
        Ok(Self {
            base,
            generation,
            prefix,
            folder,
            chunks,
            streams,
            shape,
            block,
            next_user: 0,
            others,
            published: false,
        })
    }

    /// The number of the next change of the content.
    pub(crate) fn change_number(base: &Manifest) -> u32 {
        base.changes.last().map_or(0, |change| change.number) + 1
    }

    /// Leaves chunk `index` of the dataset where it is. Its users must be the next ones, and the dataset must have all parts
    /// and columns of what is made.
    pub(crate) fn keep(&mut self, index: usize) -> Result<(), DatasetError> {
        self.flush()?;
        let (base, train) = (self.base, self.base.train());
        let (first, users) = (train.chunk(index).first_user(), train.chunk(index).users());
        if first != self.next_user {
            return Err(self.inconsistent(format!("chunk {index} begins at user {first}, not {}", self.next_user)));
        }
        let mut push = |name: &str, (file, chunk): (u32, u32)| {
            let path = base.live().streams.iter().find(|s| s.name == name).and_then(|s| s.files.get(file as usize));
            let stream = stream(&mut self.streams, name);
            if let Some(path) = path {
                let file = stream.file(path);
                stream.push(file, chunk);
            }
        };
        for (part, interactions) in base.parts() {
            push(part.name(), interactions.place(index));
            self.chunks.count_kept(part, interactions.chunk(index));
            interactions.let_go(index);
        }
        if let Some(contexts) = base.contexts() {
            push(CONTEXTS, contexts.place(index));
            contexts.let_go(index);
        }
        if let Some(exposures) = base.exposures() {
            push(EXPOSURES, exposures.place(index));
            for user in first..first + users as u32 {
                self.chunks.count_exposures(exposures.user(user))?;
            }
            exposures.let_go(index);
        }
        self.next_user += users as u32;
        Ok(())
    }

    /// The block that the next user goes to, who is to be ended in it without an id. A `large` one begins a block, so that a
    /// block is bounded by the usual size or by one user.
    pub(crate) fn block(&mut self, large: bool) -> Result<&mut UserBlock, DatasetError> {
        if self.block.is_full() || (large && self.block.users() > 0) {
            self.flush()?;
        }
        Ok(&mut self.block)
    }

    /// Writes the `at`-th user of chunk `index` anew, as it is, or with nothing if it is `empty`.
    pub(crate) fn copy(&mut self, index: usize, at: usize, empty: bool) -> Result<(), DatasetError> {
        let base = self.base;
        let large = base.parts().any(|(_, part)| part.chunk(index).user(at).items.len() > LARGE_USER);
        let block = self.block(large)?;
        if empty {
            block.end_user(&[]);
        } else {
            base.copy_user(index, at, block);
        }
        Ok(())
    }

    /// Writes the users that were gathered.
    fn flush(&mut self) -> Result<(), DatasetError> {
        if self.block.users() == 0 {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, self.shape.block());
        self.chunks.append(self.next_user, &block)?;
        for (name, path, chunk) in self.chunks.last() {
            let stream = stream(&mut self.streams, name);
            let file = stream.file(&format!("{}/{path}", self.prefix));
            stream.push(file, chunk);
        }
        let users = u32::try_from(block.users()).ok().and_then(|n| self.next_user.checked_add(n));
        self.next_user = users.ok_or(DatasetError::TooMany { what: "users" })?;
        Ok(())
    }

    /// A file of this change: its path, and the one relative to the dataset.
    pub(crate) fn file(&self, name: &str) -> (PathBuf, String) {
        (self.folder.join(name), format!("{}/{name}", self.prefix))
    }

    /// Says how many items there are after all: no more than was said at the start.
    pub(crate) fn set_items(&mut self, items: u32) {
        self.chunks.cut_items(items as usize);
    }

    /// A dictionary file of this change.
    pub(crate) fn dictionary(&self, name: &str) -> Result<IdGatherer, DatasetError> {
        Ok(IdGatherer::new(DictionaryWriter::create(&self.folder.join(name), self.base.manifest().hash_seed)?))
    }

    /// A file that lists what change `number` of the content appended, and its name.
    pub(crate) fn pairs(&mut self, number: u32, what: Listed) -> Result<(PairsWriter, String), DatasetError> {
        let name = pairs::name(number, self.generation, what);
        let path = self.base.path().join(&name);
        create_folder(&self.base.path().join(pairs::FOLDER))?;
        // One that an interrupted change left.
        remove_file(&path)?;
        self.others.push(path.clone());
        Ok((PairsWriter::create(&path)?, name))
    }

    /// Writes a table of context.
    pub(crate) fn contexts(&self, table: &ContextTable) -> Result<(FileRecord, ContextSummary), DatasetError> {
        let (record, summary) = table.write(&self.folder)?;
        Ok((FileRecord { path: format!("{}/{}", self.prefix, record.path), ..record }, summary))
    }

    fn inconsistent(&self, reason: String) -> DatasetError {
        DatasetError::Inconsistent { path: self.base.path().to_path_buf(), reason }
    }

    /// Makes the change durable, and then visible in one step: the manifest is replaced. What it made unnecessary can be
    /// removed afterwards.
    pub(crate) fn publish(mut self, outcome: Outcome) -> Result<Manifest, DatasetError> {
        self.flush()?;
        let base = self.base.manifest();
        let empty = ChunkWriter::create(&self.folder, &[])?;
        let written = std::mem::replace(&mut self.chunks, empty).finish()?;
        let Written { files: new, parts, popularity: counts, exposures, repeated } = written;
        let (path, relative) = self.file(POPULARITY);
        let popularity = popularity::write(&path, &relative, &counts)?;
        let (path, relative) = self.file("chunks.pec");
        let live = LiveChunks { streams: std::mem::take(&mut self.streams) };
        let index = live.write(&path, &relative)?;
        let names = |files: &[FileRecord]| files.iter().map(|f| f.path.clone()).collect();
        let layout = Layout {
            generation: self.generation,
            users: names(&outcome.users),
            items: names(&outcome.items),
            popularity: relative_of(&popularity),
            contexts: outcome.contexts.as_ref().map(|(record, _)| relative_of(record)),
            chunks: relative_of(&index),
            number_of_chunks: live.streams.first().map_or(0, |s| s.runs.iter().map(|run| run.count).sum()),
        };
        let new = new.into_iter().map(|f| FileRecord { path: format!("{}/{}", self.prefix, f.path), ..f });
        let mut files: Vec<FileRecord> = new.chain([popularity, index]).collect();
        for path in live.streams.iter().flat_map(|s| &s.files) {
            let beside = path.strip_suffix(".shard").map(|stem| format!("{stem}.positives"));
            let kept = base.files.iter().filter(|f| f.path == *path || Some(&f.path) == beside.as_ref());
            files.extend(kept.cloned());
        }
        files.extend(outcome.users.into_iter().chain(outcome.items).chain(outcome.pairs));
        let contexts = outcome.contexts.map(|(record, summary)| {
            files.push(record);
            summary
        });
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup();
        let manifest = Manifest {
            peccary: env!("CARGO_PKG_VERSION").to_string(),
            fingerprint: outcome.fingerprint,
            users: self.next_user,
            items: outcome.n_items,
            parts,
            exposures,
            contexts,
            columns: Columns { count: base.columns.count || repeated, ..outcome.columns },
            events: outcome.events,
            options: base.options.clone(),
            ingest: base.ingest.clone(),
            sources: outcome.sources,
            hash_seed: base.hash_seed,
            layout: Some(layout),
            changes: outcome.changes,
            files,
        };
        let folder = self.base.path();
        // What was cut off a file meanwhile was read as zeros, where it raised no signal.
        check_in_use(folder)?;
        sync_tree(&self.folder)?;
        for name in [SEGMENTS, pairs::FOLDER] {
            if folder.join(name).is_dir() {
                sync_folder(&folder.join(name))?;
            }
        }
        sync_folder(folder)?;
        // Nobody else changes it while it is locked, but for someone who moves another one here by hand.
        let now: Manifest = read_manifest(folder, FORMAT, FORMAT_VERSION)?;
        if now.files != base.files {
            return Err(DatasetError::Changed { path: folder.to_path_buf() });
        }
        let replaced = replace_manifest(folder, FORMAT, FORMAT_VERSION, &manifest);
        // Where only the folder could not be synced, the new manifest is there, and needs its files.
        let now = read_manifest::<Manifest>(folder, FORMAT, FORMAT_VERSION);
        self.published = replaced.is_ok() || now.is_ok_and(|now| now.files != base.files);
        replaced?;
        Ok(manifest)
    }
}

fn relative_of(record: &FileRecord) -> String {
    record.path.clone()
}

fn stream<'s>(streams: &'s mut Vec<Stream>, name: &str) -> &'s mut Stream {
    let at = streams.iter().position(|s| s.name == name).unwrap_or_else(|| {
        streams.push(Stream::new(name));
        streams.len() - 1
    });
    &mut streams[at]
}

impl Drop for Rewrite<'_> {
    fn drop(&mut self) {
        if !self.published {
            // Failing to tidy up is no reason to fail; the next change removes it.
            let _ = remove_folder(&self.folder);
            for path in &self.others {
                let _ = remove_file(path);
            }
        }
    }
}
