//! What can stop the reading of a log. Rows that cannot be used are no errors of this kind but [`super::BadRow`]s.

use std::io;

use super::{Compression, Format, Role};

/// Why a log cannot be read. Each names the file and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first line may be a header, or a row.
    #[error(
        "{name}: the first line, '{line}', holds no digit, unlike those below it: pass --header if it names the columns, \
         and the columns themselves by --user-column and --item-column, or --no-header if it is a row"
    )]
    UnclearHeader {
        /// The source.
        name: String,
        /// The line.
        line: String,
    },
    /// No input was named.
    #[error("there is nothing to read: name files or folders, or - for standard input")]
    NoInputs,
    /// The path leads nowhere.
    #[error("{path}: there is no such file or folder; check the path")]
    NotFound {
        /// The path as given.
        path: String,
    },
    /// The file exists but cannot be opened.
    #[error("{path}: cannot be opened: {source}; check its permissions")]
    Unreadable {
        /// The path as given.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A folder holds nothing that looks like a log.
    #[error(
        "{path}: no logs in this folder ({files} files, none ends in .csv, .tsv, .txt, .dat, .ndjson, .jsonl or \
         .parquet, with or without .gz or .zst); name the files, or pass --format to read every file in it"
    )]
    NoLogs {
        /// The folder.
        path: String,
        /// Files it holds, hidden ones not counted.
        files: usize,
    },
    /// Standard input was named more than once.
    #[error("standard input (-) is named more than once; it can be read only once")]
    StdinTwice,
    /// A file was named more than once.
    #[error(
        "{name} is the same file as {first}: its rows would count twice; name it once (the files of a folder that is named are \
         named, too)"
    )]
    Twice {
        /// The file, as named the second time.
        name: String,
        /// The same, as named first.
        first: String,
    },
    /// Reading failed underway.
    #[error("{name}: reading failed after {lines} good lines: {source}")]
    Io {
        /// The source.
        name: String,
        /// Complete lines read before.
        lines: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A compressed file ends too early.
    #[error(
        "{name}: the {compression} data is truncated: it ends in the middle after {lines} good lines; \
         copy or download the file again"
    )]
    Truncated {
        /// The source.
        name: String,
        /// Its compression.
        compression: Compression,
        /// Complete lines read before.
        lines: u64,
    },
    /// A compressed file is damaged.
    #[error("{name}: the {compression} data is damaged after {lines} good lines ({source}); copy or download it again")]
    Damaged {
        /// The source.
        name: String,
        /// Its compression.
        compression: Compression,
        /// Complete lines read before.
        lines: u64,
        /// What the decompressor said.
        source: io::Error,
    },
    /// Not a delimited table with a header.
    #[error("{name}: this is no table: write delimited text (CSV, TSV), whose first line names the columns")]
    NoTable {
        /// The source.
        name: String,
    },
    /// A record of a table that does not fit its header.
    #[error("{name}, line {line}: {reason}")]
    Record {
        /// The source.
        name: String,
        /// The line where the record begins.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The data is not text.
    #[error("{name}: this is not text ({what}); {remedy}")]
    Binary {
        /// The source.
        name: String,
        /// What it looks like.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// No delimiter occurs in the first lines.
    #[error(
        "{name}: no delimiter found (tab, ::, comma, semicolon or |) in its first lines, such as '{line}'; \
         pass --delimiter, or --format if this is no delimited text"
    )]
    NoDelimiter {
        /// The source.
        name: String,
        /// Its first line, shortened.
        line: String,
    },
    /// A column that was asked for, or is needed, is not there.
    #[error("{name}: {wanted}; {available}; name the {role} column by {flag}", flag = role.flag())]
    MissingColumn {
        /// The source.
        name: String,
        /// What the column is for.
        role: Role,
        /// What was looked for.
        wanted: String,
        /// The columns there are.
        available: String,
    },
    /// Users and items would come from one column.
    #[error(
        "{name}: users and items would both be read from column {column}; \
         name the columns by --user-column and --item-column"
    )]
    SameColumn {
        /// The source.
        name: String,
        /// The column.
        column: String,
    },
    /// A column is named although the file is said to have no header.
    #[error("{name}: {flag} {column} is a name, but there is no header to find it in; give a position (1, 2, …) instead", flag = role.flag())]
    NoHeader {
        /// The source.
        name: String,
        /// What the column is for.
        role: Role,
        /// The name given.
        column: String,
    },
    /// JSON objects have no positions.
    #[error("{name}: {flag} {position} is a position, but JSON objects have only names; give the key instead", flag = role.flag())]
    PositionInJson {
        /// The source.
        name: String,
        /// What the column is for.
        role: Role,
        /// The position given.
        position: usize,
    },
    /// One JSON array instead of an object a line.
    #[error("{name}: this is one JSON array, not one object a line; convert it first, such as by: jq -c '.[]' FILE")]
    JsonArray {
        /// The source.
        name: String,
    },
    /// A record does not fit.
    #[error(
        "{name}: line {line} begins a record of more than {limit} bytes; if a field begins with a quote that is part \
         of it, pass --no-quotes, else check --format and --delimiter"
    )]
    RecordTooLong {
        /// The source.
        name: String,
        /// The line where the record begins.
        line: u64,
        /// The longest record accepted, in bytes.
        limit: usize,
    },
    /// Parquet's footer is at its end, so it cannot be read from a pipe.
    #[error("{name}: Parquet cannot be read from a pipe or compressed as a whole; {remedy}")]
    ParquetStream {
        /// The source.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A Parquet file is damaged or uses something unknown.
    #[error("{name}: cannot be read as Parquet: {message}; write or download the file again")]
    Parquet {
        /// The source.
        name: String,
        /// What the Parquet reader said.
        message: String,
    },
    /// A Parquet column's type cannot serve.
    #[error("{name}: column '{column}' has type {found}, which cannot be read as {role}; it must be {needed}")]
    ColumnType {
        /// The source.
        name: String,
        /// The column.
        column: String,
        /// What it was to be read as.
        role: Role,
        /// Its type.
        found: String,
        /// The types that can.
        needed: &'static str,
    },
    /// Extension and content disagree.
    #[error("{name}: this is Parquet, but it is to be read as {format}; pass --format parquet")]
    UnexpectedParquet {
        /// The source.
        name: String,
        /// The format it was to be read as.
        format: Format,
    },
}
