//! A table of factors on disk, read in place.

use std::ops::Range;
use std::path::Path;

use crate::storage::{CheckedFile, CheckedWriter, FileRecord, HEADER_LEN, StorageError};

use super::stride_of;

const KIND: &str = "factors";
const VERSION: u32 = 1;
const SHAPE_LEN: usize = 64;
const START: usize = HEADER_LEN + SHAPE_LEN;

#[cfg(target_endian = "big")]
compile_error!("factor tables are little-endian and read in place; big-endian machines are not supported");

/// An immutable table of `rows` × `width` factors (f32), each row padded with zeros to a multiple of 16 floats.
///
/// The score of a user and an item is the dot product of their rows, whatever the model: biases are columns of the
/// table, and rows of cosine models have unit length.
pub struct Factors {
    file: CheckedFile,
    rows: usize,
    width: usize,
}

impl Factors {
    /// Writes a table as a stream: `row(i, out)` fills the first `width` floats of row `i`.
    pub(crate) fn write(
        path: &Path,
        relative: &str,
        rows: usize,
        width: usize,
        mut row: impl FnMut(usize, &mut [f32]),
    ) -> Result<FileRecord, StorageError> {
        let mut file = CheckedWriter::create(path, KIND, VERSION)?;
        let mut shape = [0u8; SHAPE_LEN];
        shape[..8].copy_from_slice(&(rows as u64).to_le_bytes());
        shape[8..16].copy_from_slice(&(width as u64).to_le_bytes());
        file.put(&shape)?;
        let mut values = vec![0.0f32; stride_of(width)];
        for i in 0..rows {
            row(i, &mut values[..width]);
            file.put(bytemuck::cast_slice(&values))?;
        }
        file.finish(relative, HEADER_LEN as u64)
    }

    pub(crate) fn open(folder: &Path, record: &FileRecord) -> Result<Self, StorageError> {
        let file = CheckedFile::open(folder, record, KIND, VERSION)?;
        let word = |at: usize| file.bytes().get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let shape =
            word(HEADER_LEN).zip(word(HEADER_LEN + 8)).filter(|(_, width)| *width > 0).and_then(|(rows, width)| {
                let bytes = width.checked_next_multiple_of(16)?.checked_mul(4)?.checked_mul(rows)?;
                let end = bytes.checked_add(START as u64)?;
                (end == file.bytes().len() as u64).then_some((rows as usize, width as usize))
            });
        match shape {
            Some((rows, width)) => Ok(Self { file, rows, width }),
            None => Err(StorageError::Damaged {
                path: folder.join(&record.path),
                reason: "the table's shape does not fit its length".to_string(),
            }),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns that mean something.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Floats from one row to the next: `width` rounded up to a multiple of 16.
    pub fn stride(&self) -> usize {
        stride_of(self.width)
    }

    /// The whole table, row-major: `rows × stride` floats, aligned to 64 bytes.
    pub fn as_slice(&self) -> &[f32] {
        bytemuck::cast_slice(&self.file.bytes()[START..])
    }

    /// Row `index`: `stride` floats, zero behind `width`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.as_slice()[index * self.stride()..(index + 1) * self.stride()]
    }

    /// Tells the system that these rows are read soon.
    pub(crate) fn will_need(&self, rows: Range<usize>) {
        self.file.will_need(self.bytes_of(rows));
    }

    /// Lets go of the pages of these rows: in a large table they no longer count as memory of this process.
    pub(crate) fn release(&self, rows: Range<usize>) {
        self.file.release(self.bytes_of(rows));
    }

    /// Lets go of the pages of these rows in the system's page cache, too: the next reader gets them from the disk.
    pub(crate) fn evict(&self, rows: Range<usize>) {
        self.file.evict(self.bytes_of(rows));
    }

    /// Lets go of the whole table, in the page cache, too. Until `read_exactly(false)` nothing is read from it but what
    /// is touched or asked for.
    pub(crate) fn read_exactly(&self, exactly: bool) {
        self.file.read_exactly(exactly);
        if exactly {
            self.file.evict(0..self.file.bytes().len());
        }
    }

    /// Where the rows lie in the file.
    fn bytes_of(&self, rows: Range<usize>) -> Range<usize> {
        let row = self.stride() * size_of::<f32>();
        START + rows.start.min(self.rows) * row..START + rows.end.min(self.rows) * row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_written_and_a_table_without_columns_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, width| {
            Factors::write(&folder.path().join(name), name, 3, width, |i, row| row.fill(i as f32)).unwrap()
        };
        let table = Factors::open(folder.path(), &write("good", 17)).unwrap();
        assert_eq!((table.rows(), table.width(), table.stride()), (3, 17, 32));
        assert!(table.row(2)[..17].iter().all(|x| *x == 2.0) && table.row(2)[17..].iter().all(|x| *x == 0.0));
        assert!(table.as_slice().as_ptr().cast::<u8>().align_offset(64) == 0);
        let error = Factors::open(folder.path(), &write("empty", 0)).err().unwrap();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    }
}
