//! The bytes of a source: counted as stored, decompressed as their first bytes demand.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use super::{ReadError, Source};

/// How a source is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard, of one or more frames.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// A source's decompressed bytes.
pub(super) struct Bytes {
    reader: Box<dyn Read + Send>,
    stored: Arc<AtomicU64>,
    compression: Compression,
    name: Arc<str>,
    /// Decompressed bytes handed out so far.
    filled: u64,
    /// The file, if it is one that can be read from any place.
    file: Option<File>,
}

/// Counts what is read from a file or pipe.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

const INPUT_BUFFER: usize = 256 << 10;

impl Bytes {
    /// Opens `source` and finds its compression.
    pub(super) fn open(source: &Source) -> Result<Self, ReadError> {
        let Some(path) = &source.path else { return Self::new(Box::new(io::stdin()), source.name.clone()) };
        let failed = |e| ReadError::Unreadable { path: source.name.to_string(), source: e };
        let file = File::open(path).map_err(failed)?;
        // The clone shares the place in the file, which is what seeking needs.
        let again = source.bytes.map(|_| file.try_clone()).transpose().map_err(failed)?;
        Ok(Self { file: again, ..Self::new(Box::new(file), source.name.clone())? })
    }

    /// Reads `raw`, called `name`.
    pub(super) fn new(raw: Box<dyn Read + Send>, name: Arc<str>) -> Result<Self, ReadError> {
        let stored = Arc::new(AtomicU64::new(0));
        let mut counted = Counted { inner: raw, count: stored.clone() };
        let mut magic = Vec::with_capacity(4);
        let failed = |source| ReadError::Io { name: name.to_string(), lines: 0, source };
        counted.by_ref().take(4).read_to_end(&mut magic).map_err(failed)?;
        let compression = match magic[..] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            // A frame to be skipped, as parallel compressors put in front.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
            _ => Compression::None,
        };
        let whole = Cursor::new(magic).chain(counted);
        let reader: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(whole),
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(INPUT_BUFFER, whole))),
            Compression::Zstd => {
                let buffered = BufReader::with_capacity(INPUT_BUFFER, whole);
                Box::new(zstd::stream::read::Decoder::with_buffer(buffered).map_err(failed)?)
            }
        };
        Ok(Self { reader, stored, compression, name, filled: 0, file: None })
    }

    /// The source's name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How the source is compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Bytes read so far, as stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Decompressed bytes handed out so far.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    /// Passes over what comes before the decompressed byte `to`, by a seek in plain files and by reading in others; ends
    /// early when `stop` says so.
    pub(super) fn skip_to(&mut self, to: u64, stop: &dyn Fn() -> bool) -> io::Result<()> {
        if let (Compression::None, Some(file)) = (self.compression, &self.file) {
            let mut file = file.try_clone()?;
            file.seek(SeekFrom::Start(to))?;
            self.stored.store(to, Ordering::Relaxed);
            self.reader = Box::new(Counted { inner: file, count: self.stored.clone() });
            self.filled = to;
            return Ok(());
        }
        let mut passed = vec![0; INPUT_BUFFER];
        while self.filled < to && !stop() {
            let wanted = usize::try_from(to - self.filled).unwrap_or(usize::MAX).min(passed.len());
            match self.fill(&mut passed[..wanted]) {
                (_, Err(e)) => return Err(e),
                (0, Ok(())) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Fills `buffer`, but for the end of the data. Returns the bytes read, and what went wrong after them.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> (usize, io::Result<()>) {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    self.filled += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return (filled, Err(e)),
            }
        }
        (filled, Ok(()))
    }

    /// What an error of [`Self::fill`] means, `lines` complete lines having been read.
    pub(super) fn explain(&self, source: io::Error, lines: u64) -> ReadError {
        let name = self.name.to_string();
        let compression = self.compression;
        // An error with a number comes from the system, not from the decompressor.
        if compression == Compression::None || source.raw_os_error().is_some() {
            ReadError::Io { name, lines, source }
        } else if source.kind() == io::ErrorKind::UnexpectedEof {
            ReadError::Truncated { name, compression, lines }
        } else {
            ReadError::Damaged { name, compression, lines, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(data: &[u8]) -> Result<(Vec<u8>, Compression), ReadError> {
        let mut bytes = Bytes::new(Box::new(Cursor::new(data.to_vec())), "log".into())?;
        let mut text = vec![0; 1 << 16];
        let (count, result) = bytes.fill(&mut text);
        text.truncate(count);
        match result {
            Ok(()) => {
                assert_eq!(bytes.stored(), data.len() as u64);
                Ok((text, bytes.compression()))
            }
            Err(e) => Err(bytes.explain(e, 0)),
        }
    }

    /// Two members or frames of text that does not compress to nothing, and the length of the first.
    fn compressed(compress: impl Fn(&[u8]) -> Vec<u8>) -> (Vec<u8>, Vec<u8>, usize) {
        let lines = |range: std::ops::Range<u32>| -> Vec<u8> {
            range.flat_map(|n| format!("u{},i{}\n", n.wrapping_mul(2_654_435_761), n).into_bytes()).collect()
        };
        let mut data = compress(&lines(0..50));
        let first = data.len();
        data.extend(compress(&lines(50..100)));
        (lines(0..100), data, first)
    }

    fn every_cut_is_noticed(text: &[u8], data: &[u8], first: usize, expected: Compression) {
        assert_eq!(read(data).unwrap(), (text.to_vec(), expected));
        for cut in 4..data.len() {
            let result = read(&data[..cut]);
            if cut == first {
                assert!(result.is_ok(), "a whole member is no truncation");
            } else {
                assert!(matches!(result, Err(ReadError::Truncated { .. })), "cut at {cut}: {result:?}");
            }
        }
    }

    #[test]
    fn gzip_of_several_members_is_read_and_every_truncation_noticed() {
        let (text, data, first) = compressed(gzip);
        every_cut_is_noticed(&text, &data, first, Compression::Gzip);
    }

    #[test]
    fn zstd_of_several_frames_is_read_and_every_truncation_noticed() {
        let (text, data, first) = compressed(|text| zstd::encode_all(text, 3).unwrap());
        every_cut_is_noticed(&text, &data, first, Compression::Zstd);
    }

    #[test]
    fn flipped_bits_never_pass_in_gzip() {
        let (text, data, _) = compressed(gzip);
        // The ten header bytes hold a time and a system that mean nothing here.
        for at in 10..data.len() {
            let mut flipped = data.clone();
            flipped[at] ^= 0x10;
            if let Ok((read, _)) = read(&flipped) {
                assert!(read == text, "byte {at}");
            }
        }
    }

    #[test]
    fn plain_text_passes_through() {
        for text in [&b""[..], b"a", b"u,i\n", b"(\xb5/"] {
            assert_eq!(read(text).unwrap(), (text.to_vec(), Compression::None));
        }
    }
}
