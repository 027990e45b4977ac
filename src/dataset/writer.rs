//! Writes a dataset from blocks of users: streams to disk, publishes whole or not at all.

use std::path::Path;

use serde_json::Value;

use super::block::UserBlock;
use super::contexts::{ContextTable, ContextsWriter};
use super::dictionary::DictionaryWriter;
use super::exposures::ExposuresWriter;
use super::manifest::{Columns, Manifest, PartSummary, Source};
use super::shard::ShardWriter;
use super::{DatasetError, FORMAT_VERSION, Part, popularity};
use crate::storage::{FileRecord, IoContext, Staging, disk, fingerprint, write_manifest};

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

struct PartWriter {
    part: Part,
    summary: PartSummary,
    item_counts: Vec<u32>,
    shard: Option<ShardWriter>,
    shards: usize,
}

/// A dataset in the making. Dropping it without [`DatasetWriter::finish`] leaves nothing behind.
///
/// Memory: 4 bytes an item and part, and the block being appended.
pub(crate) struct DatasetWriter {
    staging: Staging,
    columns: Columns,
    hash_seed: u64,
    users: DictionaryWriter,
    parts: Vec<PartWriter>,
    exposures: Option<ExposuresWriter>,
    contexts: Option<ContextsWriter>,
    files: Vec<FileRecord>,
    /// Whether any interaction occurred more than once.
    repeated: bool,
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
        Self::start(Staging::new(target, force, "peccary-dataset")?, columns, parts, hash_seed)
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
        Self::start(Staging::within(folder, target, force, "peccary-dataset")?, Columns::default(), parts, hash_seed)
    }

    fn start(staging: Staging, columns: Columns, parts: &[Part], hash_seed: u64) -> Result<Self, DatasetError> {
        for part in parts {
            let folder = staging.path().join(part.name());
            disk::create_folder(&folder).at(&folder, "create")?;
        }
        let users = DictionaryWriter::create(&staging.path().join("users.dict"), hash_seed)?;
        let parts = parts
            .iter()
            .map(|p| PartWriter {
                part: *p,
                summary: PartSummary::default(),
                item_counts: Vec::new(),
                shard: None,
                shards: 0,
            })
            .collect();
        let (exposures, contexts) = (None, None);
        Ok(Self { staging, columns, hash_seed, users, parts, exposures, contexts, files: Vec::new(), repeated: false })
    }

    /// Sets the columns, for those who learn them while reading. Before [`DatasetWriter::finish`].
    pub(crate) fn set_columns(&mut self, columns: Columns) {
        self.columns = columns;
    }

    /// Starts the item dictionary; give it to [`DatasetWriter::finish_items`] when it holds all items.
    pub(crate) fn start_items(&self) -> Result<DictionaryWriter, DatasetError> {
        Ok(DictionaryWriter::create(&self.staging.path().join("items.dict"), self.hash_seed)?)
    }

    /// Ends the item dictionary. Blocks of users come after it.
    pub(crate) fn finish_items(&mut self, items: DictionaryWriter) -> Result<(), DatasetError> {
        for part in &mut self.parts {
            part.item_counts = vec![0; items.len() as usize];
        }
        self.files.push(items.finish("items.dict")?);
        Ok(())
    }

    /// Appends the next users.
    pub(crate) fn append(&mut self, block: &UserBlock) -> Result<(), DatasetError> {
        let first_user = self.users.len();
        self.users.append(&block.id_offsets, &block.ids)?;
        for (writer, (part, columns)) in self.parts.iter_mut().zip(&block.parts) {
            debug_assert_eq!(writer.part, *part);
            writer.summary.interactions += columns.items.len() as u64;
            writer.summary.users += columns.active_users;
            self.repeated |= columns.repeated;
            writer.summary.time_range = match (writer.summary.time_range, columns.time_range) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (a, b) => a.or(b),
            };
            for item in &columns.items {
                writer.item_counts[*item as usize] += 1;
            }
            if let Some(full) = writer.shard.take_if(|s| !s.has_room(columns)) {
                self.files.extend(full.finish()?);
            }
            let shard = match &mut writer.shard {
                Some(shard) => shard,
                none => {
                    let shard = ShardWriter::create(self.staging.path(), part.name(), writer.shards)?;
                    writer.shards += 1;
                    none.insert(shard)
                }
            };
            shard.append(first_user, columns)?;
        }
        if let Some(exposures) = &block.exposures {
            let writer = match &mut self.exposures {
                Some(writer) => writer,
                none => {
                    let items = self.parts.first().map_or(0, |part| part.item_counts.len());
                    none.insert(ExposuresWriter::create(self.staging.path(), items)?)
                }
            };
            writer.append(first_user, exposures)?;
        }
        if let Some(codes) = &block.contexts {
            let writer = self.contexts.get_or_insert_with(|| ContextsWriter::new(self.staging.path()));
            writer.append(first_user, codes)?;
        }
        Ok(())
    }

    /// Ends all files and makes the dataset appear.
    pub(crate) fn finish(self, description: Description) -> Result<Manifest, DatasetError> {
        let Self { staging, columns, hash_seed, users, parts, exposures, contexts, mut files, repeated } = self;
        let columns = Columns { count: columns.count && repeated, ..columns };
        let n_users = users.len();
        files.push(users.finish("users.dict")?);
        let mut summaries = Vec::new();
        let mut n_items = 0;
        for mut writer in parts {
            if let Some(shard) = writer.shard.take() {
                files.extend(shard.finish()?);
            }
            n_items = writer.item_counts.len() as u32;
            writer.summary.items = writer.item_counts.iter().filter(|c| **c > 0).count() as u32;
            summaries.push((writer.part, writer.summary));
            if writer.part == Part::Train {
                let name = "popularity.pec";
                files.push(popularity::write(&staging.path().join(name), name, &writer.item_counts)?);
            }
        }
        let exposures = match exposures.map(ExposuresWriter::finish).transpose()? {
            Some((more, summary)) => {
                files.extend(more);
                Some(summary)
            }
            None => None,
        };
        let contexts = match (contexts, description.contexts) {
            (Some(writer), Some(table)) => {
                files.extend(writer.finish()?);
                let (record, summary) = table.write(staging.path())?;
                files.push(record);
                Some(summary)
            }
            _ => None,
        };
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = Manifest {
            peccary: env!("CARGO_PKG_VERSION").to_string(),
            fingerprint: fingerprint(files.iter().flat_map(|f| [f.path.as_bytes(), f.checksum.as_bytes()])),
            users: n_users,
            items: n_items,
            parts: summaries,
            exposures,
            contexts,
            columns,
            events: description.events,
            options: description.options,
            ingest: description.ingest,
            sources: description.sources,
            hash_seed,
            files,
        };
        write_manifest(staging.path(), "peccary-dataset", FORMAT_VERSION, &manifest)?;
        staging.publish()?;
        Ok(manifest)
    }
}
