//! Files with a magic, a version and a checksum for every MiB, written once as a stream and read from a map.
//!
//! Layout (`docs/format.md` draws it): a 64-byte header, the payload, padding to 8 bytes, one xxh3-64 for each MiB of
//! everything before, and a 32-byte trailer. The trailer's last word is a checksum of the checksums and the trailer.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::bus::InUse;
use super::disk::DiskFile;
use super::error::{IoContext, StorageError};

const MAGIC: [u8; 8] = *b"PECCARY\n";
/// The payload begins here, on a cache line of its own.
pub const HEADER_LEN: usize = 64;
const TRAILER_LEN: usize = 32;
const BLOCK: usize = 1 << 20;

/// A file as its manifest remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path relative to the manifest, with `/` between folders.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// xxh3-64 over the file's table of block checksums and its trailer, in hexadecimal.
    pub checksum: String,
}

impl FileRecord {
    /// Where it lies, `folder` being that of its manifest.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if that would be outside of the folder: names come from a file, and what is read, copied
    /// or removed by them must stay inside.
    pub(crate) fn within(&self, folder: &Path) -> Result<PathBuf, StorageError> {
        let inside = |part| matches!(part, std::path::Component::Normal(_));
        if !self.path.is_empty() && Path::new(&self.path).components().all(inside) {
            return Ok(folder.join(&self.path));
        }
        let reason = format!("it names a file outside of its folder: {}", self.path.escape_debug());
        Err(StorageError::Damaged { path: folder.join("manifest.json"), reason })
    }
}

/// Writes a checked file as a stream; its memory is one block of 1 MiB.
pub struct CheckedWriter {
    path: PathBuf,
    file: DiskFile,
    block: Vec<u8>,
    flushed: u64,
    checksums: Vec<u64>,
}

impl CheckedWriter {
    /// Creates `path`, a file of `kind` (at most eight ASCII characters) and format `version`.
    pub fn create(path: &Path, kind: &str, version: u32) -> Result<Self, StorageError> {
        let file = DiskFile::create_new(path).at(path, "create")?;
        let mut block = Vec::with_capacity(BLOCK);
        block.extend_from_slice(&MAGIC);
        let mut name = [0u8; 8];
        name[..kind.len()].copy_from_slice(kind.as_bytes());
        block.extend_from_slice(&name);
        block.extend_from_slice(&version.to_le_bytes());
        block.resize(HEADER_LEN, 0);
        Ok(Self { path: path.to_path_buf(), file, block, flushed: 0, checksums: Vec::new() })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The offset in the file at which the next byte goes.
    pub fn position(&self) -> u64 {
        self.flushed + self.block.len() as u64
    }

    /// Appends `bytes`.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let room = BLOCK - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    /// Appends zeros until the position is a multiple of `alignment` (a power of two, at most 64).
    pub fn align(&mut self, alignment: usize) -> Result<(), StorageError> {
        let past = (self.position() as usize) & (alignment - 1);
        if past == 0 { Ok(()) } else { self.put(&[0u8; HEADER_LEN][..alignment - past]) }
    }

    fn flush_block(&mut self) -> Result<(), StorageError> {
        self.checksums.push(xxh3_64(&self.block));
        self.file.write_all(&self.block).at(&self.path, "write")?;
        self.flushed += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    /// Ends the file: `root` is the offset that readers start from. The data is on the medium when this returns.
    pub fn finish(mut self, relative: &str, root: u64) -> Result<FileRecord, StorageError> {
        self.align(8)?;
        let covered = self.position();
        if !self.block.is_empty() {
            self.flush_block()?;
        }
        let mut tail = Vec::with_capacity(self.checksums.len() * 8 + TRAILER_LEN);
        for sum in &self.checksums {
            tail.extend_from_slice(&sum.to_le_bytes());
        }
        tail.extend_from_slice(&covered.to_le_bytes());
        tail.extend_from_slice(&root.to_le_bytes());
        tail.extend_from_slice(&(BLOCK as u64).to_le_bytes());
        let checksum = xxh3_64(&tail);
        tail.extend_from_slice(&checksum.to_le_bytes());
        self.file.write_all(&tail).at(&self.path, "write")?;
        self.file.sync().at(&self.path, "sync")?;
        Ok(FileRecord {
            path: relative.to_string(),
            bytes: covered + tail.len() as u64,
            checksum: format!("{checksum:016x}"),
        })
    }
}

/// For serializers that want an [`io::Write`].
impl Write for CheckedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A checked file, mapped for reading; every byte has been compared with its checksum.
#[derive(Debug)]
pub struct CheckedFile {
    path: PathBuf,
    file: File,
    /// Before the map, so that it is dropped before.
    _in_use: InUse,
    map: Mmap,
    covered: usize,
    root: usize,
}

impl CheckedFile {
    /// Maps `folder/record.path` and checks it whole: kind, version, length and all checksums, on all cores.
    ///
    /// Reads the file once from the disk; from the page cache that is some 10 GiB a second and core.
    pub fn open(folder: &Path, record: &FileRecord, kind: &str, version: u32) -> Result<Self, StorageError> {
        let path = record.within(folder)?;
        let damaged = |reason: String| StorageError::Damaged { path: path.clone(), reason };
        let file = File::open(&path).at(&path, "open")?;
        let length = file.metadata().at(&path, "read the size of")?.len();
        if length < (HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(damaged(format!("{length} bytes are too few for a header and a trailer")));
        }
        // SAFETY: published files are never edited or truncated by Peccary (new versions are new files), so the
        // mapped bytes do not change while they are borrowed. That no other program does so is the assumption stated
        // in docs/reliability.md; should one, the process ends and says so (see `bus`).
        let map = unsafe { Mmap::map(&file) }.at(&path, "map")?;
        let in_use = InUse::new(&map, &file, &path);
        if map[..8] != MAGIC || map[8..16].split(|b| *b == 0).next() != Some(kind.as_bytes()) {
            return Err(StorageError::WrongKind { path, expected: kind.to_string() });
        }
        let got = u32::from_le_bytes(word(&map, 16));
        if got > version {
            return Err(StorageError::Version { path, expected: version, got });
        }
        if length != record.bytes {
            return Err(damaged(format!("{length} bytes, but the manifest says {}", record.bytes)));
        }
        let trailer = map.len() - TRAILER_LEN;
        let covered = u64::from_le_bytes(word(&map, trailer)) as usize;
        let root = u64::from_le_bytes(word(&map, trailer + 8)) as usize;
        let stated = u64::from_le_bytes(word(&map, trailer + 24));
        let blocks = covered.div_ceil(BLOCK);
        let table = trailer.checked_sub(blocks * 8).filter(|t| *t == covered);
        let Some(table) = table.filter(|_| root <= covered) else {
            return Err(damaged("the trailer's sizes do not add up".to_string()));
        };
        if xxh3_64(&map[table..trailer + 24]) != stated || format!("{stated:016x}") != record.checksum {
            return Err(damaged("the table of checksums does not match the manifest".to_string()));
        }
        let bad = (0..blocks).into_par_iter().find_first(|b| {
            let range = b * BLOCK..covered.min((b + 1) * BLOCK);
            let differs = xxh3_64(&map[range.clone()]).to_le_bytes() != map[table + b * 8..table + b * 8 + 8];
            release(&map, range);
            differs
        });
        if let Some(b) = bad {
            return Err(damaged(format!("checksum mismatch in the MiB at offset {}", b * BLOCK)));
        }
        Ok(Self { path, file, _in_use: in_use, map, covered, root })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Header and payload; offsets into it are offsets into the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map[..self.covered]
    }

    /// The offset that the writer gave to [`CheckedWriter::finish`].
    pub fn root(&self) -> usize {
        self.root
    }

    /// Writes the whole file, frame included, to a new file at `path`, and syncs it.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<(), StorageError> {
        let mut file = DiskFile::create_new(path).at(path, "create")?;
        file.write_all(&self.map).at(path, "write")?;
        file.sync().at(path, "sync")
    }

    /// Tells the system that the pages of `range` will be read soon.
    pub fn will_need(&self, range: std::ops::Range<usize>) {
        // Advice only: where the system refuses it, pages are read when they are touched.
        let _ = self.map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
    }

    /// Lets go of the pages of `range` if the file is large: they stay in the system's cache while there is room, but
    /// are no longer memory of this process.
    pub fn release(&self, range: std::ops::Range<usize>) {
        release(&self.map, range);
    }

    /// Lets go of all pages, of a small file, too: for those who read many files in turn within a budget.
    pub(crate) fn let_go(&self) {
        unmap(&self.map, &(0..self.map.len()));
    }

    /// The version of its kind.
    pub(crate) fn version(&self) -> u32 {
        u32::from_le_bytes(word(&self.map, 16))
    }

    /// Lets go of the pages of `range` in the system's cache, too: the next reader gets them from the disk.
    pub(crate) fn evict(&self, range: std::ops::Range<usize>) {
        unmap(&self.map, &range);
        evict(&self.file, &range);
    }

    /// Whether only what is asked for by [`CheckedFile::will_need`] or touched is read from the disk, and nothing ahead.
    pub(crate) fn read_exactly(&self, exactly: bool) {
        // Advice only: where the system refuses it, more is read than needed.
        let _ = self.map.advise(if exactly { memmap2::Advice::Random } else { memmap2::Advice::Normal });
    }
}

/// Asks the system to forget its copy of `range` of `file`. Pages that are still to be written stay, but their writing
/// begins, so that a second call finds them clean; pages that any process has mapped stay.
pub(crate) fn evict(file: &File, range: &std::ops::Range<usize>) {
    #[cfg(target_os = "linux")]
    if let Some(len) = std::num::NonZeroU64::new(range.len() as u64) {
        // Advice only: where the file system refuses it, the pages stay until the memory is needed.
        let _ = rustix::fs::fadvise(file, range.start as u64, Some(len), rustix::fs::Advice::DontNeed);
    }
}

/// Files up to this size stay mapped in whole once touched.
const KEPT: usize = 8 << 20;

fn release(map: &Mmap, range: std::ops::Range<usize>) {
    if map.len() > KEPT {
        unmap(map, &range);
    }
}

fn unmap(map: &Mmap, range: &std::ops::Range<usize>) {
    // SAFETY: the map is read-only and of a file: a page that is let go of is read from it again when touched, and has
    // the same bytes. Advice only: where the system refuses it, the pages stay.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// xxh3-64 of several pieces in turn, in hexadecimal.
pub(crate) fn fingerprint<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Xxh3::new();
    for piece in pieces {
        hash.update(&(piece.len() as u64).to_le_bytes());
        hash.update(piece);
    }
    format!("{:016x}", hash.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, payload: &[u8]) -> FileRecord {
        let mut writer = CheckedWriter::create(&folder.join("a.bin"), "test", 1).unwrap();
        writer.put(payload).unwrap();
        writer.finish("a.bin", HEADER_LEN as u64).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 63, BLOCK - HEADER_LEN - 1, BLOCK - HEADER_LEN, 2 * BLOCK + 5] {
            let folder = tempfile::tempdir().unwrap();
            let payload: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            let record = write(folder.path(), &payload);
            let file = CheckedFile::open(folder.path(), &record, "test", 1).unwrap();
            assert_eq!(&file.bytes()[HEADER_LEN..HEADER_LEN + len], payload);
        }
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let record = write(folder.path(), b"some payload");
        let path = folder.path().join("a.bin");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(CheckedFile::open(folder.path(), &record, "test", 1).is_err(), "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(CheckedFile::open(folder.path(), &record, "test", 1).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn files_outside_of_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let record = write(folder.path(), b"some payload");
        for path in ["../a.bin", "../inner/../a.bin", "/etc/passwd", "", ".", "x/../../a.bin", "\u{1b}[2J/../../a.bin"]
        {
            let error = CheckedFile::open(&inner, &FileRecord { path: path.into(), ..record.clone() }, "test", 1);
            let text = error.unwrap_err().to_string();
            assert!(text.contains("outside of its folder") && !text.contains('\u{1b}'), "{path}: {text}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        let writer = CheckedWriter::create(&folder.path().join("a.bin"), "test", 9).unwrap();
        let record = writer.finish("a.bin", 64).unwrap();
        let error = CheckedFile::open(folder.path(), &record, "test", 1).unwrap_err();
        assert!(matches!(error, StorageError::Version { expected: 1, got: 9, .. }), "{error}");
    }
}
