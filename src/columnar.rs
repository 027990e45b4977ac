//! Parquet as it is written here: within bounded memory, whatever the number of rows.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// A batch of columns ends at so many rows, or at so many bytes of ids.
pub(crate) const BATCH_ROWS: usize = 8192;
pub(crate) const BATCH_BYTES: usize = 512 << 10;
/// A row group ends when this much of it waits in memory.
const GROUP_BYTES: usize = 4 << 20;
/// What writing Parquet takes in all: the row group and the batch before it, dictionaries, pages, the compressor.
pub(crate) const BYTES: usize = 16 << 20;

/// Writes batches of columns to `W`.
pub(crate) struct Columnar<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
}

impl<W: Write + Send> Columnar<W> {
    /// Columns of these names and types; the last says whether a value may be absent.
    pub(crate) fn new(out: W, columns: &[(&str, DataType, bool)]) -> Result<Self, ParquetError> {
        let fields = columns.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        // An index of pages would grow with the file until it is closed.
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        Ok(Self { writer: ArrowWriter::try_new(out, schema.clone(), Some(properties))?, schema })
    }

    /// Writes a batch: one array a column, all equally long.
    pub(crate) fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), ParquetError> {
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), columns)?)?;
        if self.writer.memory_size() > GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Ends the file, and gives back what it was written to.
    pub(crate) fn finish(self) -> Result<W, ParquetError> {
        self.writer.into_inner()
    }
}

/// The I/O error inside, where there is one.
pub(crate) fn io_error(error: ParquetError) -> Result<io::Error, ParquetError> {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(io) => Ok(*io),
            Err(inner) => Err(ParquetError::External(inner)),
        },
        other => Err(other),
    }
}
