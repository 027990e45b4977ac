//! Sources cut into blocks at record boundaries, and blocks parsed into rows.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use super::decompress::Bytes;
use super::head::{self, Body};
use super::{BadRow, Column, Compression, Delimiter, Format, Place, ReadError, ReadOptions, Reason, Roles, RowSink};
use super::{Source, delimited, ndjson, parquet, quote};

/// Sizes that bound the memory of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text in a block, if no single record is longer.
    pub block_bytes: usize,
    /// The longest record accepted, in bytes.
    pub record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_bytes: 1 << 20, record_bytes: 16 << 20 }
    }
}

/// A place between two records of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes of decompressed text before it; for Parquet, rows.
    at: u64,
    /// Line of the next record; for Parquet, number of the next row.
    line: u64,
}

/// What was found out about a source when it was opened.
#[derive(Debug)]
pub struct SourceInfo {
    /// Its name in messages.
    pub name: Arc<str>,
    /// Its format.
    pub format: Format,
    /// Its compression.
    pub compression: Compression,
    /// The delimiter of delimited text.
    pub delimiter: Option<Delimiter>,
    /// Whether the first line of delimited text names the columns.
    pub header: bool,
    /// The columns that are read, by name where they have names; `None` if the source is empty.
    pub columns: Option<Roles<Column>>,
}

/// Good and bad rows of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCount {
    /// Rows that were handed on.
    pub good: u64,
    /// Rows that could not be used.
    pub bad: u64,
}

/// Buffers for parsing, one for each thread, kept from block to block.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) text: Vec<u8>,
    pub(super) fields: Vec<(usize, usize)>,
    pub(super) context: Vec<u8>,
}

/// Some records of a source.
#[derive(Debug)]
pub struct Block {
    info: Arc<SourceInfo>,
    content: Content,
    first: u64,
    consumed: u64,
}

#[derive(Debug)]
enum Content {
    Delimited(Buffer, Arc<delimited::Layout>),
    Ndjson(Buffer, Arc<ndjson::Layout>),
    Parquet(Box<parquet::Table>),
}

/// Bytes that return to the reader when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Sender<Vec<u8>>,
}

impl Buffer {
    /// The records.
    pub(super) fn records(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // A full channel or a reader that is gone means that nobody needs it.
        let _ = self.home.try_send(mem::take(&mut self.bytes));
    }
}

impl Block {
    /// Bytes of the source as stored that were read for this block; for Parquet its share of the file.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Hands every row to `sink` in order. Fails only if `sink` does.
    pub fn parse<S: RowSink>(&self, scratch: &mut Scratch, sink: &mut S) -> Result<RowCount, S::Error> {
        let name = &self.info.name;
        match &self.content {
            Content::Delimited(buffer, layout) => {
                let bytes = buffer.records();
                delimited::parse(layout, bytes, BadRows::new(name, bytes, self.first), scratch, sink)
            }
            Content::Ndjson(buffer, layout) => {
                let bytes = buffer.records();
                ndjson::parse(layout, bytes, BadRows::new(name, bytes, self.first), scratch, sink)
            }
            Content::Parquet(table) => table.parse(name, self.first, sink),
        }
    }
}

/// Reports bad rows of a block of text. Lines are counted only when there is something to report.
pub(super) struct BadRows<'a> {
    source: &'a Arc<str>,
    bytes: &'a [u8],
    counted: usize,
    line: u64,
}

impl<'a> BadRows<'a> {
    fn new(source: &'a Arc<str>, bytes: &'a [u8], first_line: u64) -> Self {
        Self { source, bytes, counted: 0, line: first_line }
    }

    /// The record from `start` to `end`; each call begins behind the one before.
    #[cold]
    pub(super) fn report(&mut self, start: usize, end: usize, reason: Reason) -> BadRow<'a> {
        self.line += newlines(&self.bytes[self.counted..start]);
        self.counted = start;
        let raw = &self.bytes[start..end];
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        BadRow { source: self.source.clone(), place: Place::Line(self.line), reason, raw: Cow::Borrowed(raw) }
    }
}

/// Line breaks in `bytes`.
pub(super) fn newlines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// Opens a source: finds its format, header and columns, and reads as much as that takes.
///
/// # Errors
/// When the file cannot be read, is not of its format, or lacks a column. An empty source is no error: it has no blocks.
pub fn open(source: &Source, options: &ReadOptions, limits: Limits) -> Result<Blocks, ReadError> {
    let limits = Limits { block_bytes: limits.block_bytes.max(1), ..limits };
    let mut bytes = Bytes::open(source)?;
    let head = head::examine(source, &mut bytes, options, limits)?;
    let mut info = SourceInfo {
        name: source.name.clone(),
        format: source.format.unwrap_or(Format::Csv),
        compression: bytes.compression(),
        delimiter: None,
        header: head.header,
        columns: head.columns,
    };
    let kind = match head.body {
        Body::Empty => Kind::Empty,
        Body::Parquet => {
            let reader = parquet::Reader::open(source, options, limits, 0)?;
            info.format = Format::Parquet;
            info.columns = Some(reader.columns().clone());
            Kind::Parquet(Box::new(reader))
        }
        Body::Delimited(layout) => {
            info.delimiter = Some(layout.delimiter.clone());
            let quoting = layout.quoting;
            Kind::Text(Text::new(bytes, head.bytes, head.line, limits, quoting), Records::Delimited(Arc::new(layout)))
        }
        Body::Ndjson(layout) => {
            info.format = Format::Ndjson;
            Kind::Text(Text::new(bytes, head.bytes, head.line, limits, None), Records::Ndjson(Arc::new(layout)))
        }
    };
    Ok(Blocks { info: Arc::new(info), kind, consumed: 0 })
}

/// Like [`open`], but goes on at `position`, which [`Blocks::position`] told of the same source under the same options.
///
/// Plain files are sought; compressed text is decompressed and passed over; Parquet passes over whole row groups. Ends
/// early when `stop` says so, and what is read then is of no use.
pub fn open_at(
    source: &Source,
    options: &ReadOptions,
    limits: Limits,
    position: Position,
    stop: &dyn Fn() -> bool,
) -> Result<Blocks, ReadError> {
    let mut blocks = open(source, options, limits)?;
    match &mut blocks.kind {
        Kind::Empty => {}
        Kind::Text(text, _) => {
            text.skip_to(position, stop)?;
            blocks.consumed = text.bytes.stored();
        }
        Kind::Parquet(reader) => {
            **reader = parquet::Reader::open(source, options, limits, position.at)?;
            blocks.consumed = reader.stored();
        }
    }
    Ok(blocks)
}

/// The blocks of a source, in order. After an error there are no more.
pub struct Blocks {
    info: Arc<SourceInfo>,
    kind: Kind,
    consumed: u64,
}

enum Kind {
    Empty,
    Text(Text, Records),
    Parquet(Box<parquet::Reader>),
}

enum Records {
    Delimited(Arc<delimited::Layout>),
    Ndjson(Arc<ndjson::Layout>),
}

impl Blocks {
    /// What was found out about the source.
    pub fn info(&self) -> &Arc<SourceInfo> {
        &self.info
    }

    /// Where the next block begins.
    pub fn position(&self) -> Position {
        match &self.kind {
            Kind::Empty => Position::default(),
            Kind::Text(text, _) => text.position(),
            Kind::Parquet(reader) => Position { at: reader.rows(), line: reader.rows() + 1 },
        }
    }
}

impl Iterator for Blocks {
    type Item = Result<Block, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match &mut self.kind {
            Kind::Empty => None,
            Kind::Text(text, records) => text.next().map(|result| {
                result.map(|(buffer, line)| {
                    let content = match records {
                        Records::Delimited(layout) => Content::Delimited(buffer, layout.clone()),
                        Records::Ndjson(layout) => Content::Ndjson(buffer, layout.clone()),
                    };
                    (content, line, text.bytes.stored())
                })
            }),
            Kind::Parquet(reader) => reader
                .next()
                .map(|result| result.map(|(table, row, stored)| (Content::Parquet(Box::new(table)), row, stored))),
        };
        match next {
            Some(Ok((content, first, stored))) => {
                let consumed = stored - mem::replace(&mut self.consumed, stored);
                Some(Ok(Block { info: self.info.clone(), content, first, consumed }))
            }
            Some(Err(error)) => {
                self.kind = Kind::Empty;
                Some(Err(error))
            }
            None => {
                self.kind = Kind::Empty;
                None
            }
        }
    }
}

/// Cuts text at record boundaries.
pub(super) struct Text {
    bytes: Bytes,
    /// Bytes read before and not yet cut, from `taken` on.
    ahead: Vec<u8>,
    taken: usize,
    /// Line of the next record.
    line: u64,
    limits: Limits,
    quoting: Option<u8>,
    home: Sender<Vec<u8>>,
    returned: Receiver<Vec<u8>>,
    name: Arc<str>,
}

impl Text {
    pub(super) fn new(bytes: Bytes, ahead: Vec<u8>, line: u64, limits: Limits, quoting: Option<u8>) -> Self {
        let (home, returned) = bounded(64);
        let name = bytes.name().clone();
        Self { bytes, ahead, taken: 0, line, limits, quoting, home, returned, name }
    }

    /// A block's bytes and the number of their first line.
    pub(super) fn next(&mut self) -> Option<Result<(Buffer, u64), ReadError>> {
        // Buffers that had to grow are not kept, lest one long record cost memory for ever.
        let kept = self.returned.try_iter().find(|bytes| bytes.len() == self.limits.block_bytes);
        let mut bytes = kept.unwrap_or_else(|| vec![0; self.limits.block_bytes]);
        let mut length = 0;
        let cut = loop {
            let (count, result) = self.fill(&mut bytes[length..]);
            length += count;
            if let Err(error) = result {
                let lines = self.line - 1 + newlines(&bytes[..length]);
                return Some(Err(self.bytes.explain(error, lines)));
            }
            if length < bytes.len() {
                break length;
            }
            match quote::last_boundary(&bytes, self.quoting) {
                0 if length >= self.limits.record_bytes => {
                    let (name, line, limit) = (self.name.to_string(), self.line, self.limits.record_bytes);
                    return Some(Err(ReadError::RecordTooLong { name, line, limit }));
                }
                0 => bytes.resize((length * 2).min(self.limits.record_bytes.max(length + 1)), 0),
                cut => break cut,
            }
        };
        if length == 0 {
            return None;
        }
        self.keep(&bytes[cut..length]);
        let line = self.line;
        self.line += newlines(&bytes[..cut]);
        Some(Ok((Buffer { bytes, length: cut, home: self.home.clone() }, line)))
    }

    /// Where the next record begins.
    fn position(&self) -> Position {
        let ahead = (self.ahead.len() - self.taken) as u64;
        Position { at: self.bytes.filled() - ahead, line: self.line }
    }

    /// Goes on at `position`.
    fn skip_to(&mut self, position: Position, stop: &dyn Fn() -> bool) -> Result<(), ReadError> {
        self.line = position.line;
        let back = usize::try_from(self.bytes.filled().saturating_sub(position.at)).unwrap_or(usize::MAX);
        if (1..=self.ahead.len()).contains(&back) {
            // It lies in what was read to find the columns.
            self.taken = self.ahead.len() - back;
            return Ok(());
        }
        self.ahead.clear();
        self.taken = 0;
        self.bytes.skip_to(position.at, stop).map_err(|e| self.bytes.explain(e, position.line.saturating_sub(1)))
    }

    /// Fills `buffer` with what was read before, then with what comes.
    fn fill(&mut self, buffer: &mut [u8]) -> (usize, std::io::Result<()>) {
        let ahead = &self.ahead[self.taken..];
        let count = ahead.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ahead[..count]);
        self.taken += count;
        let (more, result) = self.bytes.fill(&mut buffer[count..]);
        (count + more, result)
    }

    /// Puts back the `rest` of what was filled last.
    fn keep(&mut self, rest: &[u8]) {
        if self.taken < self.ahead.len() {
            // All of it came from there.
            self.taken -= rest.len();
        } else {
            self.ahead.clear();
            self.ahead.shrink_to(self.limits.block_bytes);
            self.ahead.extend_from_slice(rest);
            self.taken = 0;
        }
    }
}
