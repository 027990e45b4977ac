//! Logs into rows: delimited text, NDJSON and Parquet, plain or compressed, from files, folders or standard input.
//!
//! [`sources`] lists what there is to read, [`open`] yields a source's bytes as [`Block`]s cut at record boundaries, and
//! [`Block::parse`] turns a block into rows. Opening and iterating (decompression, finding record boundaries) is
//! sequential; blocks are independent of each other and are meant to be parsed by many threads.
//!
//! # Memory
//!
//! With `n` blocks alive at a time the readers hold at most `(n + 2) × block_bytes` for text ([`Limits`], 1 MiB a block
//! by default). Only a record longer than that makes a block longer, up to `record_bytes` (16 MiB; a longer record is an
//! error); its buffer is freed with its block, while others are recycled. On top come the decompressor's window (32 KiB
//! for gzip; for zstd 8 MiB at common levels and 128 MiB at most, larger windows are refused) and 256 KiB of compressed
//! input. For Parquet, a block is 32,768 rows of the projected columns, and the reader holds a decompressed page and a
//! dictionary of each of them besides.

mod blocks;
mod columns;
mod decompress;
mod delimited;
mod error;
mod head;
mod ndjson;
mod options;
mod pages;
mod parquet;
mod quote;
mod row;
mod source;
mod table;
mod timestamp;

pub use blocks::{Block, Limits, Position, Scratch, SourceInfo, open, open_at};
pub use columns::{Role, Roles};
pub use decompress::Compression;
pub use error::ReadError;
pub use options::{Column, Delimiter, Format, MAX_CONTEXT, ReadOptions, TimeUnit};
pub use row::{BadRow, ContextKey, Place, Reason, Row, RowSink};
pub use source::{Input, Source, sources};
pub(crate) use table::Table;

/// Milliseconds since 1970 of a date in text, if it is one.
pub(super) fn date(text: &str) -> Option<i64> {
    timestamp::parse(text.as_bytes(), TimeUnit::Rfc3339).ok()
}

#[cfg(test)]
mod tests;
