//! A factor table in anonymous memory, shared between trainers without locks.

#[cfg(not(miri))]
use memmap2::MmapMut;

use super::stride_of;
#[cfg(miri)]
use super::unmapped::MmapMut;
use crate::storage::StorageError;

/// `rows` × `stride` floats, each row aligned to 64 bytes. While shared, rows are touched by the kernels only.
pub(crate) struct SharedTable {
    map: MmapMut,
    base: *mut f32,
    rows: usize,
    stride: usize,
}

// SAFETY: `base` points into `map`, which this value owns and never moves. Through `&self` the memory is reached only
// by the kernels, whose loads and stores tolerate races (see `kernel`).
unsafe impl Send for SharedTable {}
// SAFETY: as above.
unsafe impl Sync for SharedTable {}

impl SharedTable {
    /// Rows of `width` zeros, padded to whole cache lines; huge pages are asked for.
    pub(crate) fn zeros(rows: usize, width: usize) -> Result<Self, StorageError> {
        Self::with_stride(rows, stride_of(width))
    }

    /// Rows of `stride` zeros, one behind the other: for a few floats of optimizer state a row.
    pub(crate) fn with_stride(rows: usize, stride: usize) -> Result<Self, StorageError> {
        let bytes = (rows * stride * 4).max(4096);
        let mut map = MmapMut::map_anon(bytes).map_err(|source| StorageError::Io {
            path: "factor table".into(),
            action: "get memory for it",
            source,
        })?;
        #[cfg(all(target_os = "linux", not(miri)))]
        // Advice only: without huge pages the table works as well, if more slowly when it is large.
        let _ = map.advise(memmap2::Advice::HugePage);
        let base = map.as_mut_ptr().cast();
        Ok(Self { map, base, rows, stride })
    }

    /// Bytes that a table takes.
    pub(crate) fn bytes(rows: usize, width: usize) -> u64 {
        rows as u64 * stride_of(width) as u64 * 4
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Address of row `index`, for the kernels.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub(super) fn row_ptr(&self, index: usize) -> *mut f32 {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        // SAFETY: `index` is below `rows`, so that the row lies inside the allocation.
        unsafe { self.base.add(index * self.stride) }
    }

    /// All rows, while nobody else has the table.
    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.rows * self.stride;
        &mut bytemuck::cast_slice_mut(&mut self.map[..])[..len]
    }

    /// All rows for reading, while nobody trains: `&mut` rules out that a kernel runs.
    pub(crate) fn as_slice(&mut self) -> &[f32] {
        self.as_mut_slice()
    }
}
