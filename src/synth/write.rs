//! The log as a stream of bytes or as a file: blocks of users are made in parallel and written in order.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression as PageCompression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::blocks::in_order;
use super::columns::{Columns, schema};
use super::error::SynthError;
use super::model::PlantedModel;
use super::rows::{Author, Row};
use super::text::TextLayout;
use crate::context::{Context, Unit};
use crate::storage::{AtomicFile, StorageError};

/// Rows in a row group of a Parquet file, which is what its writer holds in memory.
const ROW_GROUP: usize = 1 << 19;

/// File format of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SynthFormat {
    /// Comma-separated, with a header line.
    Csv,
    /// Tab-separated, with a header line.
    Tsv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet with Snappy pages.
    Parquet,
}

impl SynthFormat {
    /// The format that a file's name tells, ignoring a final `.gz` or `.zst`.
    pub fn of_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// Compression of a text log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SynthCompression {
    /// None.
    #[default]
    None,
    /// gzip, one member a block of users.
    Gzip,
    /// Zstandard, one frame a block of users.
    Zstd,
}

impl SynthCompression {
    /// The compression that a file's name tells: `.gz`, `.zst` or none.
    pub fn of_path(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// One member or frame. Decompressors read their concatenation as one text, which lets every thread compress.
    fn apply(self, text: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(text),
            Self::Gzip => {
                let room = Vec::with_capacity(text.len() / 2);
                let mut encoder = flate2::write::GzEncoder::new(room, flate2::Compression::new(4));
                encoder.write_all(&text)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(&text, 3),
        }
    }
}

/// What a written log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SynthSummary {
    /// Rows, as many as asked for.
    pub rows: u64,
    /// Distinct (user, item) pairs; equal to `rows` unless repeats are asked for.
    pub unique_interactions: u64,
    /// Users with at least one row.
    pub users: u64,
    /// Items with at least one row.
    pub items: u64,
    /// Bytes written, after compression.
    pub bytes: u64,
}

/// Counts of one block.
#[derive(Default)]
struct Counts {
    rows: u64,
    unique: u64,
    users: u64,
}

/// Writes the log of `model` to `output`: users in the order of their numbers, each user's rows by time.
///
/// The bytes depend on the model's configuration, the format and the compression only, not on the threads. Memory is
/// bounded by the model's tables and some 8 MiB a thread (for Parquet, one row group besides), whatever the number of
/// rows; but the rows of a single user are held at once, and a user who exhausts what they like takes 16 bytes an item.
///
/// # Errors
/// [`SynthError::Output`] when `output` refuses bytes, [`SynthError::Interrupted`] when the context is cancelled.
pub fn write_synth(
    model: &PlantedModel,
    format: SynthFormat,
    compression: SynthCompression,
    output: &mut (dyn Write + Send),
    ctx: &Context,
) -> Result<SynthSummary, SynthError> {
    let mut output = Counted { inner: output, bytes: 0 };
    let mut summary = match format {
        SynthFormat::Parquet => write_parquet(model, &mut output, ctx)?,
        _ => write_text(model, format, compression, &mut output, ctx)?,
    };
    output.flush().map_err(SynthError::Output)?;
    summary.bytes = output.bytes;
    Ok(summary)
}

fn write_text(
    model: &PlantedModel,
    format: SynthFormat,
    compression: SynthCompression,
    output: &mut Counted,
    ctx: &Context,
) -> Result<SynthSummary, SynthError> {
    let layout = TextLayout::new(format, &model.config);
    let write = |output: &mut Counted, bytes: io::Result<Vec<u8>>| {
        bytes.and_then(|bytes| output.write_all(&bytes)).map_err(SynthError::Output)
    };
    if !layout.header().is_empty() {
        write(output, compression.apply(layout.header().to_vec()))?;
    }
    let start = || Vec::with_capacity(1 << 20);
    let append = |text: &mut Vec<u8>, user: u64, rows: &[Row]| layout.write(user, rows, text);
    write_blocks(model, ctx, start, append, |text| compression.apply(text), |bytes| write(output, bytes))
}

fn write_parquet(model: &PlantedModel, output: &mut Counted, ctx: &Context) -> Result<SynthSummary, SynthError> {
    let properties = WriterProperties::builder()
        .set_compression(PageCompression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let failed = |error: ParquetError| SynthError::Output(io_error(error));
    let mut writer = ArrowWriter::try_new(output, schema(&model.config), Some(properties)).map_err(failed)?;
    let summary = write_blocks(
        model,
        ctx,
        || Columns::new(&model.config),
        Columns::write,
        Columns::finish,
        |batch: Result<RecordBatch, ArrowError>| {
            let batch = batch.map_err(|error| SynthError::Output(io::Error::other(error)))?;
            writer.write(&batch).map_err(failed)
        },
    )?;
    writer.close().map_err(failed)?;
    Ok(summary)
}

/// The I/O error inside a Parquet error, so that a closed pipe and a full disk are still recognized as such.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}

/// Makes all blocks (`start`, `append` a user's rows, `finish`) on the context's threads and hands them to `write`.
fn write_blocks<B, T: Send>(
    model: &PlantedModel,
    ctx: &Context,
    start: impl Fn() -> B + Sync,
    append: impl Fn(&mut B, u64, &[Row]) + Sync,
    finish: impl Fn(B) -> T + Sync,
    mut write: impl FnMut(T) -> Result<(), SynthError>,
) -> Result<SynthSummary, SynthError> {
    let stage = ctx.stage("writing", Some(model.config.interactions), Unit::Rows);
    let seen = ItemsSeen::new(model.config.items);
    let make = |author: &mut Author, block: usize| {
        let mut made = start();
        let mut counts = Counts::default();
        counts.unique = model.write_block(author, block, |user, rows| {
            counts.rows += rows.len() as u64;
            counts.users += u64::from(!rows.is_empty());
            rows.iter().for_each(|row| seen.mark(row.item));
            append(&mut made, user, rows);
        });
        (finish(made), counts)
    };
    let mut summary = SynthSummary::default();
    in_order(
        ctx,
        model.blocks(),
        || Author::new(model),
        make,
        |_, (made, counts)| {
            write(made)?;
            summary.rows += counts.rows;
            summary.unique_interactions += counts.unique;
            summary.users += counts.users;
            stage.add(counts.rows);
            Ok(())
        },
    )?;
    summary.items = seen.count();
    Ok(summary)
}

/// One bit an item, set by any thread.
struct ItemsSeen(Vec<AtomicU64>);

impl ItemsSeen {
    fn new(items: u64) -> Self {
        Self((0..items.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn mark(&self, item: u32) {
        let (word, bit) = (&self.0[item as usize / 64], 1 << (item % 64));
        // Reading first keeps the line shared between the cores: nearly all bits are set soon.
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }
}

/// Counts the bytes on their way.
struct Counted<'a> {
    inner: &'a mut (dyn Write + Send),
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes the log of `model` to the file `path`, compressed as its name tells (`.gz`, `.zst`).
///
/// The file appears whole or not at all: rows go to a temporary file in the same folder, which is synced and renamed at
/// the end and removed on any failure. `replace` allows a file of that name to be replaced.
///
/// # Errors
/// [`SynthError::Storage`] if the file exists or cannot be written, [`SynthError::CompressedParquet`], or an interruption.
pub fn save_synth(
    model: &PlantedModel,
    format: SynthFormat,
    path: &Path,
    replace: bool,
    ctx: &Context,
) -> Result<SynthSummary, SynthError> {
    let compression = SynthCompression::of_path(path);
    if format == SynthFormat::Parquet && compression != SynthCompression::None {
        return Err(SynthError::CompressedParquet { path: path.to_owned() });
    }
    publish(path, replace, |output| write_synth(model, format, compression, output, ctx))
}

/// Writes a file by `write`, whole or not at all.
pub(super) fn publish<T>(
    path: &Path,
    replace: bool,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, SynthError>,
) -> Result<T, SynthError> {
    let mut file = AtomicFile::new(path, replace)?;
    let result = write(&mut file).map_err(|error| match error {
        // Named, so that a full disk is said with the file that it was to hold.
        SynthError::Output(source) => StorageError::Io { path: path.to_owned(), action: "write", source }.into(),
        other => other,
    })?;
    file.publish()?;
    Ok(result)
}
