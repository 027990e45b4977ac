//! Context of the train interactions: for each the number of a combination of values, and what the combinations are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rkyv::rend::u32_le;
use rkyv::{Archive, Serialize};

use super::interactions::CHECKED;
use super::live::{Stream, record};
use super::manifest::{ContextColumn, ContextSummary};
use super::shard::MAX_SHARD_BYTES;
use super::{DatasetError, Interactions, Part};
use crate::storage::{Archived, CheckedFile, CheckedWriter, Column, FileRecord, StorageError, write_root};

const KIND: &str = "contexts";
const VALUES_KIND: &str = "ctxvals";
const VERSION: u32 = 1;
pub(super) const VALUES: &str = "contexts.pec";

/// Interactions of a chunk of the train part, in its order.
#[derive(Archive, Serialize)]
struct ChunkRoot {
    codes: Column<u32>,
    first_user: u32,
}

#[derive(Archive, Serialize)]
struct CodesRoot {
    chunks: Vec<ChunkRoot>,
}

/// A column: its distinct values, ascending, and which of them each combination has.
#[derive(Archive, Serialize)]
struct ColumnRoot {
    name: Column<u8>,
    /// One more than values: positions in `bytes`, from 0.
    offsets: Column<u32>,
    bytes: Column<u8>,
    of: Column<u32>,
}

#[derive(Archive, Serialize)]
struct ValuesRoot {
    columns: Vec<ColumnRoot>,
    combinations: u32,
}

/// What the combinations are, as the writer takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContextTable {
    columns: Vec<TableColumn>,
    combinations: usize,
}

#[derive(Clone, Debug)]
struct TableColumn {
    name: String,
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    of: Vec<u32>,
}

impl ContextTable {
    /// `count` combinations of these columns; `value` gives the value of a combination in a column.
    pub(crate) fn new<'a>(names: Vec<String>, count: usize, value: impl Fn(usize, usize) -> &'a [u8]) -> Self {
        let column = |(k, name): (usize, String)| {
            let mut values: Vec<&[u8]> = (0..count).map(|at| value(at, k)).collect();
            values.sort_unstable();
            values.dedup();
            let place = |at| values.binary_search(&value(at, k)).unwrap_or_default() as u32;
            let of = (0..count).map(place).collect();
            let (mut offsets, mut bytes) = (vec![0], Vec::new());
            for value in values {
                bytes.extend_from_slice(value);
                offsets.push(bytes.len() as u32);
            }
            TableColumn { name, offsets, bytes, of }
        };
        Self { columns: names.into_iter().enumerate().map(column).collect(), combinations: count }
    }

    /// Those of `base`, and behind them `count` more; `value` gives the value of one of these in a column. Values that are new
    /// come behind those that are there.
    pub(crate) fn grown<'a>(base: &Contexts, count: usize, value: impl Fn(usize, usize) -> &'a [u8]) -> Self {
        let column = |(k, (column, summary)): (usize, (&ArchivedColumnRoot, &ContextColumn))| {
            let mut offsets: Vec<u32> = column.offsets.iter().map(|o| o.to_native()).collect();
            let mut bytes = column.bytes.to_vec();
            let mut of: Vec<u32> = column.of.iter().map(|v| v.to_native()).collect();
            let text = |v: usize| {
                &column.bytes[column.offsets[v].to_native() as usize..column.offsets[v + 1].to_native() as usize]
            };
            let mut places: HashMap<&[u8], u32> = (0..summary.values).map(|v| (text(v as usize), v)).collect();
            for at in 0..count {
                let next = places.len() as u32;
                let place = *places.entry(value(at, k)).or_insert(next);
                if place == next {
                    bytes.extend_from_slice(value(at, k));
                    offsets.push(bytes.len() as u32);
                }
                of.push(place);
            }
            TableColumn { name: summary.name.clone(), offsets, bytes, of }
        };
        let columns = base.values.columns.iter().zip(&base.summary.columns).enumerate().map(column).collect();
        Self { columns, combinations: base.summary.combinations as usize + count }
    }

    /// How many combinations there are.
    #[cfg(test)]
    pub(crate) fn combinations(&self) -> usize {
        self.combinations
    }

    /// Writes it to a folder of a dataset, where it is the file [`VALUES`].
    pub(super) fn write(&self, folder: &Path) -> Result<(FileRecord, ContextSummary), StorageError> {
        let mut file = CheckedWriter::create(&folder.join(VALUES), VALUES_KIND, VERSION)?;
        let mut columns = Vec::with_capacity(self.columns.len());
        for TableColumn { name, offsets, bytes, of } in &self.columns {
            columns.push(ColumnRoot {
                name: Column::write(&mut file, name.as_bytes(), |byte| [byte])?,
                offsets: Column::write(&mut file, offsets, u32::to_le_bytes)?,
                bytes: Column::write(&mut file, bytes, |byte| [byte])?,
                of: Column::write(&mut file, of, u32::to_le_bytes)?,
            });
        }
        let combinations = self.combinations as u32;
        let root = write_root(&mut file, &ValuesRoot { columns, combinations })?;
        let summary = |c: &TableColumn| ContextColumn { name: c.name.clone(), values: c.offsets.len() as u32 - 1 };
        let columns = self.columns.iter().map(summary).collect();
        Ok((file.finish(VALUES, root)?, ContextSummary { columns, combinations }))
    }
}

/// Writes the numbers of combinations block by block, in files that are closed before they would outgrow 1 GiB.
pub(super) struct ContextsWriter {
    folder: PathBuf,
    open: Option<(CheckedWriter, CodesRoot, String)>,
    files: Vec<FileRecord>,
}

impl ContextsWriter {
    /// In the folder of a dataset, which has that of the train part.
    pub(super) fn new(dataset: &Path) -> Self {
        Self { folder: dataset.to_path_buf(), open: None, files: Vec::new() }
    }

    /// Appends the next users.
    pub(super) fn append(&mut self, first_user: u32, codes: &[u32]) -> Result<(), StorageError> {
        let bytes = codes.len() as u64 * 4 + 512;
        if self.open.as_ref().is_some_and(|(file, ..)| file.position() + bytes > MAX_SHARD_BYTES) {
            self.close()?;
        }
        let (file, root, _) = match &mut self.open {
            Some(open) => open,
            none => {
                let name = format!("{}/{:05}.contexts", Part::Train.name(), self.files.len());
                let file = CheckedWriter::create(&self.folder.join(&name), KIND, VERSION)?;
                none.insert((file, CodesRoot { chunks: Vec::new() }, name))
            }
        };
        let codes = Column::write(file, codes, u32::to_le_bytes)?;
        root.chunks.push(ChunkRoot { codes, first_user });
        Ok(())
    }

    /// The file that the last block went to, and its number in it.
    pub(super) fn last(&self) -> Option<(&str, u32)> {
        self.open.as_ref().map(|(_, root, name)| (&name[..], root.chunks.len() as u32 - 1))
    }

    fn close(&mut self) -> Result<(), StorageError> {
        if let Some((mut file, root, name)) = self.open.take() {
            let root = write_root(&mut file, &root)?;
            self.files.push(file.finish(&name, root)?);
        }
        Ok(())
    }

    /// Ends the files.
    pub(super) fn finish(mut self) -> Result<Vec<FileRecord>, StorageError> {
        self.close()?;
        Ok(self.files)
    }
}

/// The context of the train interactions, read in place; nothing is loaded. Each interaction has a combination of the
/// values of all columns: that of its last occurrence.
pub struct Contexts {
    values: Archived<ArchivedValuesRoot>,
    files: Vec<Archived<ArchivedCodesRoot>>,
    /// (file, chunk in the file) of each chunk of the train part.
    index: Vec<(u32, u32)>,
    summary: ContextSummary,
}

impl Contexts {
    pub(super) fn open(
        folder: &Path,
        files: &[FileRecord],
        (name, stream): (&str, &Stream),
        train: &Interactions,
        summary: &ContextSummary,
    ) -> Result<Self, DatasetError> {
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: folder.join(name), reason };
        let file = CheckedFile::open(folder, record(folder, files, name)?, VALUES_KIND, VERSION)?;
        let values = Archived::<ArchivedValuesRoot>::new(file)?;
        let combinations = values.combinations.to_native();
        let column = |c: &ArchivedColumnRoot| {
            let name = String::from_utf8_lossy(&c.name).into_owned();
            ContextColumn { name, values: (c.offsets.len() as u32).saturating_sub(1) }
        };
        let found = ContextSummary { columns: values.columns.iter().map(column).collect(), combinations };
        if found != *summary {
            return Err(inconsistent("its columns are not those of the manifest".into()));
        }
        for (column, known) in values.columns.iter().zip(&summary.columns) {
            let ends = [column.offsets.first(), column.offsets.last()].map(|o| o.map(|o| o.to_native() as usize));
            let whole = ends == [Some(0), Some(column.bytes.len())] && column.offsets.is_sorted();
            let in_range = column.of.iter().all(|value| value.to_native() < known.values);
            if !whole || !in_range || column.of.len() != combinations as usize {
                return Err(inconsistent(format!("the column {} has invalid offsets or values", known.name)));
            }
        }
        let mut opened = Vec::with_capacity(stream.files.len());
        for path in &stream.files {
            let file = CheckedFile::open(folder, record(folder, files, path)?, KIND, VERSION)?;
            opened.push(Archived::<ArchivedCodesRoot>::new(file)?);
        }
        let mut index = Vec::new();
        for place in stream.places(|file| opened[file].chunks.len()) {
            let (file, c) =
                place.ok_or_else(|| inconsistent("the index lists chunks that are not there, or one twice".into()))?;
            if index.len().is_multiple_of(CHECKED) {
                opened[file as usize].file().let_go();
            }
            let chunk = &opened[file as usize].chunks[c as usize];
            let of = (index.len() < train.chunks()).then(|| train.chunk(index.len()));
            let fits =
                of.is_some_and(|of| chunk.first_user == of.first_user() && chunk.codes.len() == of.items().len());
            if !fits || chunk.codes.iter().any(|code| code.to_native() >= combinations) {
                let path = &stream.files[file as usize];
                let reason = format!("{path}: chunk {c} differs from the interactions or the values");
                return Err(inconsistent(reason));
            }
            index.push((file, c));
        }
        // Checking the chunks touched every code.
        opened.iter().for_each(|archive| archive.file().release(0..archive.file().bytes().len()));
        if index.len() != train.chunks() {
            return Err(inconsistent(format!("{} chunks of {} have context", index.len(), train.chunks())));
        }
        Ok(Self { values, files: opened, index, summary: summary.clone() })
    }

    /// Writes a copy of the values to the file [`VALUES`] in a folder of a dataset.
    pub(super) fn copy_values(&self, folder: &Path) -> Result<(), StorageError> {
        self.values.file().copy_to(&folder.join(VALUES))
    }

    /// The file, in the order of its stream, and the chunk in it of each chunk.
    pub(super) fn place(&self, index: usize) -> (u32, u32) {
        self.index[index]
    }

    /// The first user of every chunk in file `file`, those included that are no more read. Chunks do not say where they end.
    pub(super) fn firsts_in(&self, file: u32) -> impl Iterator<Item = u32> + '_ {
        self.files[file as usize].chunks.iter().map(|chunk| chunk.first_user.to_native())
    }

    /// Lets go of all pages of the file that chunk `index` is in: they are read again when touched.
    pub(crate) fn let_go(&self, index: usize) {
        self.files[self.index[index].0 as usize].file().let_go();
    }

    /// The same for all files.
    pub(crate) fn let_go_all(&self) {
        self.values.file().let_go();
        self.files.iter().for_each(|archive| archive.file().let_go());
    }

    /// Columns and counts.
    pub fn summary(&self) -> &ContextSummary {
        &self.summary
    }

    /// The number of the column `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.summary.columns.iter().position(|c| c.name == name)
    }

    /// Which of the column's values each combination has.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn values(&self, column: usize) -> &[u32_le] {
        &self.values.columns[column].of
    }

    /// A value of a column, as it stood in the log.
    ///
    /// # Panics
    /// If there is no such column or value.
    pub fn value(&self, column: usize, value: u32) -> std::borrow::Cow<'_, str> {
        let column = &self.values.columns[column];
        let end = |at: u32| column.offsets[at as usize].to_native() as usize;
        String::from_utf8_lossy(&column.bytes[end(value)..end(value + 1)])
    }

    /// Lets go of the codes of chunk `index`, read for now.
    pub(crate) fn release(&self, index: usize) {
        let (codes, file) = (self.chunk(index), self.files[self.index[index].0 as usize].file());
        let start = (codes.as_ptr() as usize) - (file.bytes().as_ptr() as usize);
        file.release(start..start + std::mem::size_of_val(codes));
    }

    /// The combinations of the interactions of `user` in `train`, the train part, in its order. O(log chunks).
    pub(crate) fn user(&self, train: &Interactions, user: u32) -> &[u32_le] {
        let index = train.chunk_of(user);
        let chunk = train.chunk(index);
        let at = (user - chunk.first_user()) as usize;
        let offset = |at: usize| chunk.offsets()[at].to_native() as usize;
        &self.chunk(index)[offset(at)..offset(at + 1)]
    }

    /// The combinations of the interactions of chunk `index` of the train part, in its order.
    ///
    /// # Panics
    /// If the train part has no such chunk.
    pub fn chunk(&self, index: usize) -> &[u32_le] {
        let (file, chunk) = self.index[index];
        &self.files[file as usize].chunks[chunk as usize].codes
    }
}
