//! Writes chunks of users to the files of all streams: shards with positives, exposures, context; and counts them.

use std::path::{Path, PathBuf};

use super::block::UserBlock;
use super::contexts::ContextsWriter;
use super::exposures::ExposuresWriter;
use super::interactions::Chunk;
use super::live::{CONTEXTS, EXPOSURES};
use super::manifest::{ExposureSummary, PartSummary};
use super::shard::ShardWriter;
use super::{DatasetError, Part};
use crate::storage::{FileRecord, create_folder};

struct PartWriter {
    part: Part,
    summary: PartSummary,
    item_counts: Vec<u32>,
    shard: Option<ShardWriter>,
    shards: usize,
}

impl PartWriter {
    fn count(&mut self, interactions: u64, users: u32, times: Option<(i64, i64)>) {
        self.summary.interactions += interactions;
        self.summary.users += users;
        self.summary.time_range = match (self.summary.time_range, times) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
    }
}

/// Writes chunks to files in a folder. Memory: 4 bytes an item and part, and the block being appended.
pub(super) struct ChunkWriter {
    folder: PathBuf,
    parts: Vec<PartWriter>,
    exposures: Option<ExposuresWriter>,
    contexts: Option<ContextsWriter>,
    files: Vec<FileRecord>,
    repeated: bool,
}

/// What was written.
pub(super) struct Written {
    pub(super) files: Vec<FileRecord>,
    pub(super) parts: Vec<(Part, PartSummary)>,
    /// Train interactions by item.
    pub(super) popularity: Vec<u32>,
    pub(super) exposures: Option<ExposureSummary>,
    /// Whether any interaction occurred more than once.
    pub(super) repeated: bool,
}

impl ChunkWriter {
    /// In `folder`, which must be there.
    pub(super) fn create(folder: &Path, parts: &[Part]) -> Result<Self, DatasetError> {
        for part in parts {
            create_folder(&folder.join(part.name()))?;
        }
        let part = |part: &Part| PartWriter {
            part: *part,
            summary: PartSummary::default(),
            item_counts: Vec::new(),
            shard: None,
            shards: 0,
        };
        let parts = parts.iter().map(part).collect();
        let (folder, files) = (folder.to_path_buf(), Vec::new());
        Ok(Self { folder, parts, exposures: None, contexts: None, files, repeated: false })
    }

    /// Says how many items there are; before anything is appended.
    pub(super) fn set_items(&mut self, items: usize) {
        for part in &mut self.parts {
            part.item_counts = vec![0; items];
        }
    }

    /// Leaves out items from `items` on, which have none.
    pub(super) fn cut_items(&mut self, items: usize) {
        for part in &mut self.parts {
            part.item_counts.truncate(items);
        }
    }

    fn exposures(&mut self) -> Result<&mut ExposuresWriter, DatasetError> {
        Ok(match &mut self.exposures {
            Some(writer) => writer,
            none => {
                let items = self.parts.first().map_or(0, |part| part.item_counts.len());
                none.insert(ExposuresWriter::create(&self.folder, items)?)
            }
        })
    }

    /// Appends the next users, of which `first_user` is the first.
    pub(super) fn append(&mut self, first_user: u32, block: &UserBlock) -> Result<(), DatasetError> {
        for (writer, (part, columns)) in self.parts.iter_mut().zip(&block.parts) {
            debug_assert_eq!(writer.part, *part);
            writer.count(columns.items.len() as u64, columns.active_users, columns.time_range);
            self.repeated |= columns.repeated;
            for item in &columns.items {
                writer.item_counts[*item as usize] += 1;
            }
            if let Some(full) = writer.shard.take_if(|s| !s.has_room(columns)) {
                self.files.extend(full.finish()?);
            }
            let shard = match &mut writer.shard {
                Some(shard) => shard,
                none => {
                    let shard = ShardWriter::create(&self.folder, part.name(), writer.shards)?;
                    writer.shards += 1;
                    none.insert(shard)
                }
            };
            shard.append(first_user, columns)?;
        }
        if let Some(exposures) = &block.exposures {
            self.exposures()?.append(first_user, exposures)?;
        }
        if let Some(codes) = &block.contexts {
            let writer = self.contexts.get_or_insert_with(|| ContextsWriter::new(&self.folder));
            writer.append(first_user, codes)?;
        }
        Ok(())
    }

    /// Counts a chunk that stays where it is, in another file.
    pub(super) fn count_kept(&mut self, part: Part, chunk: Chunk<'_>) {
        let Some(writer) = self.parts.iter_mut().find(|w| w.part == part) else { return };
        let active = chunk.offsets().windows(2).filter(|w| w[0] < w[1]).count();
        let times = chunk.times().iter().map(|t| t.to_native());
        let times = times.fold(None, |range: Option<(i64, i64)>, t| {
            Some(range.map_or((t, t), |(first, last)| (first.min(t), last.max(t))))
        });
        writer.count(chunk.items().len() as u64, active as u32, times);
        chunk.items().iter().for_each(|item| writer.item_counts[item.to_native() as usize] += 1);
    }

    /// The same for the exposures of one of its users.
    pub(super) fn count_exposures(&mut self, items: &[rkyv::rend::u32_le]) -> Result<(), DatasetError> {
        self.exposures()?.count_kept(items);
        Ok(())
    }

    /// The file of each stream that the last block went to, relative to the folder, and its number in it.
    pub(super) fn last(&self) -> impl Iterator<Item = (&'static str, &str, u32)> {
        let part = |w: &PartWriter| w.part.name();
        let shards = self.parts.iter().filter_map(move |w| w.shard.as_ref().map(|s| (part(w), s.last())));
        let contexts = self.contexts.as_ref().and_then(|c| Some((CONTEXTS, c.last()?)));
        let exposures = self.exposures.as_ref().and_then(|e| Some((EXPOSURES, e.last()?)));
        shards.chain(contexts).chain(exposures).map(|(stream, (path, chunk))| (stream, path, chunk))
    }

    /// Ends all files.
    pub(super) fn finish(self) -> Result<Written, DatasetError> {
        let Self { parts, exposures, contexts, mut files, repeated, .. } = self;
        let (mut summaries, mut popularity) = (Vec::new(), Vec::new());
        for mut writer in parts {
            if let Some(shard) = writer.shard.take() {
                files.extend(shard.finish()?);
            }
            writer.summary.items = writer.item_counts.iter().filter(|c| **c > 0).count() as u32;
            summaries.push((writer.part, writer.summary));
            if writer.part == Part::Train {
                popularity = writer.item_counts;
            }
        }
        let exposures = match exposures.map(ExposuresWriter::finish).transpose()? {
            Some((more, summary)) => {
                files.extend(more);
                Some(summary)
            }
            None => None,
        };
        if let Some(writer) = contexts {
            files.extend(writer.finish()?);
        }
        Ok(Written { files, parts: summaries, popularity, exposures, repeated })
    }
}
