//! Writes a dataset from blocks of users: streams to disk, publishes whole or not at all.

use std::path::Path;

use serde_json::Value;

use super::block::UserBlock;
use super::chunks::{ChunkWriter, Written};
use super::contexts::ContextTable;
use super::dictionary::DictionaryWriter;
use super::manifest::{Columns, Manifest, Source};
use super::{DatasetError, FORMAT, INGESTED_VERSION, ITEMS, POPULARITY, Part, USERS, popularity};
use crate::storage::{FileRecord, Staging, fingerprint, write_manifest};

/// What the manifest says of how a dataset was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    pub(crate) options: Value,
    pub(crate) ingest: Value,
    pub(crate) sources: Vec<Source>,
    pub(crate) events: Vec<String>,
    /// What the numbers of combinations mean, in a dataset with context.
    pub(crate) contexts: Option<ContextTable>,
}

/// A dataset in the making. Dropping it without [`DatasetWriter::finish`] leaves nothing behind.
///
/// Memory: 4 bytes an item and part, and the block being appended.
pub(crate) struct DatasetWriter {
    staging: Staging,
    columns: Columns,
    hash_seed: u64,
    users: DictionaryWriter,
    chunks: ChunkWriter,
    files: Vec<FileRecord>,
}

impl DatasetWriter {
    /// Starts the dataset that will appear at `target`, with the options of [`DatasetWriter::create_within`].
    #[cfg(test)]
    pub(crate) fn create(
        target: &Path,
        force: bool,
        columns: Columns,
        parts: &[Part],
        hash_seed: u64,
    ) -> Result<Self, DatasetError> {
        Self::start(Staging::new(target, force, FORMAT)?, columns, parts, hash_seed)
    }

    /// Starts the dataset that will appear at `target`, whose users and items are ordered by `hash_seed`; it is built in
    /// `folder`.
    pub(crate) fn create_within(
        folder: &Path,
        target: &Path,
        force: bool,
        parts: &[Part],
        hash_seed: u64,
    ) -> Result<Self, DatasetError> {
        Self::start(Staging::within(folder, target, force, FORMAT)?, Columns::default(), parts, hash_seed)
    }

    fn start(staging: Staging, columns: Columns, parts: &[Part], hash_seed: u64) -> Result<Self, DatasetError> {
        let chunks = ChunkWriter::create(staging.path(), parts)?;
        let users = DictionaryWriter::create(&staging.path().join(USERS), hash_seed)?;
        Ok(Self { staging, columns, hash_seed, users, chunks, files: Vec::new() })
    }

    /// Sets the columns, for those who learn them while reading. Before [`DatasetWriter::finish`].
    pub(crate) fn set_columns(&mut self, columns: Columns) {
        self.columns = columns;
    }

    /// Starts the item dictionary; give it to [`DatasetWriter::finish_items`] when it holds all items.
    pub(crate) fn start_items(&self) -> Result<DictionaryWriter, DatasetError> {
        Ok(DictionaryWriter::create(&self.staging.path().join(ITEMS), self.hash_seed)?)
    }

    /// Ends the item dictionary. Blocks of users come after it.
    pub(crate) fn finish_items(&mut self, items: DictionaryWriter) -> Result<(), DatasetError> {
        self.chunks.set_items(items.len() as usize);
        self.files.push(items.finish(ITEMS)?);
        Ok(())
    }

    /// Appends the next users.
    pub(crate) fn append(&mut self, block: &UserBlock) -> Result<(), DatasetError> {
        let first_user = self.users.len();
        self.users.append(&block.id_offsets, &block.ids)?;
        self.chunks.append(first_user, block)
    }

    /// Ends all files and makes the dataset appear.
    pub(crate) fn finish(self, description: Description) -> Result<Manifest, DatasetError> {
        let Self { staging, columns, hash_seed, users, chunks, mut files } = self;
        let n_users = users.len();
        files.push(users.finish(USERS)?);
        let Written { files: more, parts, popularity: counts, exposures, repeated } = chunks.finish()?;
        files.extend(more);
        files.push(popularity::write(&staging.path().join(POPULARITY), POPULARITY, &counts)?);
        let has_context = files.iter().any(|f| f.path.ends_with(".contexts"));
        let contexts = match description.contexts.filter(|_| has_context) {
            Some(table) => {
                let (record, summary) = table.write(staging.path())?;
                files.push(record);
                Some(summary)
            }
            None => None,
        };
        let columns = Columns { count: columns.count && repeated, ..columns };
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest {
            peccary: env!("CARGO_PKG_VERSION").to_string(),
            fingerprint: fingerprint(files.iter().flat_map(|f| [f.path.as_bytes(), f.checksum.as_bytes()])),
            users: n_users,
            items: counts.len() as u32,
            parts,
            exposures,
            contexts,
            columns,
            events: description.events,
            options: description.options,
            ingest: description.ingest,
            sources: description.sources,
            hash_seed,
            layout: None,
            changes: Vec::new(),
            files,
        };
        write_manifest(staging.path(), FORMAT, INGESTED_VERSION, &manifest)?;
        staging.publish()?;
        Ok(manifest)
    }
}
