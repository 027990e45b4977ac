//! A factor table in anonymous memory or in a file, shared between trainers without locks.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::MmapMut;
use rayon::prelude::*;

use super::stride_of;
use crate::storage::{InUse, IoContext, StorageError, evict};

/// Rows are gone through in strips of about this many bytes where a table is read or written from end to end.
const STRIP: usize = 4 << 20;

/// `rows` × `stride` floats, each row aligned to 64 bytes. While shared, rows are touched by the kernels only.
pub(crate) struct SharedTable {
    /// Before the map, so that it is dropped before.
    _in_use: Option<InUse>,
    /// Reached through `base` alone: a reference to what it maps would end what others may do by that.
    map: MmapMut,
    /// The file that the rows are in, if they are: without a name, so that it goes with the process.
    file: Option<File>,
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
    /// Rows of `width` zeros, padded to whole cache lines: in memory, where huge pages are asked for, or in a file
    /// without a name in `folder`.
    pub(crate) fn zeros(rows: usize, width: usize, folder: Option<&Path>) -> Result<Self, StorageError> {
        Self::with_stride(rows, stride_of(width), folder)
    }

    /// Rows of `stride` zeros, one behind the other: for a few floats of optimizer state a row.
    pub(crate) fn with_stride(rows: usize, stride: usize, folder: Option<&Path>) -> Result<Self, StorageError> {
        let bytes = (rows * stride * 4).max(4096);
        let (mut map, file) = match folder {
            None => (anonymous(bytes)?, None),
            Some(folder) => {
                let (map, file) = in_file(bytes, folder)?;
                (map, Some(file))
            }
        };
        let in_use = file.as_ref().zip(folder).map(|(file, folder)| InUse::new(&map, file, folder));
        let base = map.as_mut_ptr().cast();
        Ok(Self { _in_use: in_use, map, file, base, rows, stride })
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
        // SAFETY: the map has so many floats, aligned to a page; `&mut self` rules out that anyone else reaches them.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.rows * self.stride) }
    }

    /// The table and all its rows for reading, while nobody trains: `&mut` rules out that a kernel runs.
    pub(crate) fn at_rest(&mut self) -> (&Self, &[f32]) {
        let this: &Self = self;
        // SAFETY: as above; as long as the slice lives, `&mut self` is lent, so that no kernel writes.
        (this, unsafe { std::slice::from_raw_parts(this.base, this.rows * this.stride) })
    }

    /// Whether the rows are in a file.
    pub(crate) fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// Takes over all rows of a table of the same shape, by all threads where both are in memory; lets go of those in files
    /// behind itself. `check` is asked whether to go on, of files now and then.
    pub(crate) fn copy_from<E>(&mut self, other: &mut Self, check: impl Fn() -> Result<(), E>) -> Result<(), E> {
        assert_eq!((self.rows, self.stride), (other.rows, other.stride), "tables of one shape");
        if !self.is_in_file() && !other.is_in_file() {
            check()?;
            let pieces = self.as_mut_slice().par_chunks_mut(STRIP / 4).zip(other.at_rest().1.par_chunks(STRIP / 4));
            pieces.for_each(|(to, from)| to.copy_from_slice(from));
            return Ok(());
        }
        let each = (STRIP / (self.stride.max(1) * 4)).max(1);
        for first in (0..self.rows).step_by(each) {
            check()?;
            let rows = first..(first + each).min(self.rows);
            let words = first * self.stride..rows.end * self.stride;
            self.as_mut_slice()[words.clone()].copy_from_slice(&other.at_rest().1[words]);
            self.let_go(rows.clone());
            other.let_go(rows);
        }
        Ok(())
    }

    /// Goes through all rows in strips, each given with its first row, and lets go of those of a file behind itself.
    pub(crate) fn strips(&mut self, mut visit: impl FnMut(usize, &mut [f32])) {
        let (rows, stride) = (self.rows, self.stride.max(1));
        let each = (STRIP / (stride * 4)).max(1);
        let mut behind = 0..0;
        for first in (0..rows).step_by(each) {
            let now = first..(first + each).min(rows);
            visit(first, &mut self.as_mut_slice()[first * stride..now.end * stride]);
            self.let_go(now.clone());
            self.let_go(std::mem::replace(&mut behind, now));
        }
        self.let_go(behind);
    }

    /// Asks for `rows` to be read from the table's file; nothing where it has none.
    pub(crate) fn will_need(&self, rows: Range<usize>) {
        if self.file.is_some() && !rows.is_empty() {
            let range = self.range(rows);
            // Advice only: where the system refuses it, pages are read when they are touched.
            let _ = self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
    }

    /// Lets go of `rows` of the table's file: they are no longer memory of this process, but stay in the page cache while
    /// the system has room. What is touched nevertheless comes back.
    pub(crate) fn release(&self, rows: Range<usize>) {
        if self.file.is_some() && !rows.is_empty() {
            let range = self.range(rows);
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: a shared map of a file: changes to a page that is let go of are kept with the file, where the next
            // touch of the page finds them, whoever else uses it at the time.
            let _ = unsafe { self.map.unchecked_advise_range(advice, range.start, range.len()) };
        }
    }

    /// The same, and writing what has changed begins, and what is written already leaves the page cache.
    pub(crate) fn let_go(&self, rows: Range<usize>) {
        self.release(rows.clone());
        if let Some(file) = self.file.as_ref().filter(|_| !rows.is_empty()) {
            evict(file, &self.range(rows));
        }
    }

    fn range(&self, rows: Range<usize>) -> Range<usize> {
        let (row, all) = (self.stride * 4, self.rows * self.stride * 4);
        (rows.start * row).min(all)..(rows.end * row).min(all)
    }
}

fn anonymous(bytes: usize) -> Result<MmapMut, StorageError> {
    let map = MmapMut::map_anon(bytes).at(Path::new("factor table"), "get memory for it")?;
    #[cfg(all(target_os = "linux", not(miri)))]
    // Advice only: without huge pages the table works as well, if more slowly when it is large.
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(map)
}

/// A file without a name in `folder`, mapped for all to share. Its space is reserved, so that a full disk is an error
/// here and not a fault in the middle of training.
fn in_file(bytes: usize, folder: &Path) -> Result<(MmapMut, File), StorageError> {
    let file = tempfile::tempfile_in(folder).at(folder, "create a file for a factor table in it")?;
    reserve(&file, bytes as u64).at(folder, "reserve space for a factor table in it")?;
    // SAFETY: nobody else can open the file, for it has no name: it is never truncated, and changes by this map alone.
    let map = unsafe { MmapMut::map_mut(&file) }.at(folder, "map a factor table in it")?;
    Ok((map, file))
}

fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    use rustix::io::Errno;
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        other => return other.map_err(Into::into),
    }
    // Where the file system cannot reserve, zeros that are written take the space as well.
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes), &mut &*file).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_in_a_file_keeps_what_it_lets_go_of_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        // 64 bytes a row: a strip and most of another, ending inside a page.
        let rows = 120_001;
        let mut table = SharedTable::zeros(rows, 9, Some(folder.path())).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the file has no name");
        let mut seen = 0;
        table.strips(|first, strip| {
            assert_eq!(first, seen);
            for (i, row) in strip.chunks_exact_mut(16).enumerate() {
                row.fill((first + i) as f32);
            }
            seen += strip.len() / 16;
        });
        assert_eq!(seen, rows);
        table.let_go(0..rows);
        table.will_need(5..rows - 3);
        for (i, row) in table.at_rest().1.chunks_exact(16).enumerate() {
            assert!(row.iter().all(|x| *x == i as f32), "row {i}");
        }
    }

    #[test]
    fn a_copy_has_the_same_rows_wherever_both_are() {
        let folder = tempfile::tempdir().unwrap();
        let rows = 70_003;
        for places in [[None, None], [None, Some(folder.path())], [Some(folder.path()), None]] {
            let [mut from, mut to] = places.map(|place| SharedTable::with_stride(rows, 32, place).unwrap());
            from.strips(|first, strip| strip.iter_mut().enumerate().for_each(|(i, x)| *x = (first * 32 + i) as f32));
            to.copy_from(&mut from, || Ok::<_, ()>(())).unwrap();
            assert!(to.at_rest().1.iter().enumerate().all(|(i, x)| *x == i as f32));
            assert_eq!(to.copy_from(&mut from, || Err("stopped")), Err("stopped"));
        }
    }

    #[test]
    fn a_disk_without_room_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = in_file(1 << 60, folder.path()).unwrap_err().to_string();
        assert!(error.contains(folder.path().to_str().unwrap()) && error.contains("reserve space"), "{error}");
    }
}
