//! The first bytes of a source: what they show of its format, delimiter, header and columns.

use memchr::memchr_iter;

use super::blocks::newlines;
use super::columns::{asked, available, looks_like_header, recognise, resolve};
use super::decompress::Bytes;
use super::row::excerpt;
use super::{Column, Compression, Delimiter, Format, Limits, ReadError, ReadOptions, Role, Roles, Source};
use super::{delimited, ndjson, quote};

/// Bytes that are looked at, or the first line if it is longer.
const HEAD_BYTES: usize = 64 << 10;

/// Lines that are compared to find the delimiter.
const DELIMITER_LINES: usize = 10;

/// Lines among which an object is looked for to know its keys.
const KEY_LINES: usize = 100;

/// What the head of a table shows.
pub(super) struct TableHead {
    /// The bytes read so far, from the first record behind the header on.
    pub(super) bytes: Vec<u8>,
    /// The 1-based line number of that record.
    pub(super) line: u64,
    /// What stands between fields.
    pub(super) delimiter: Delimiter,
    /// The names of the columns.
    pub(super) names: Vec<String>,
}

/// What the head of a source shows.
pub(super) struct Head {
    /// The bytes read so far, from the first record on.
    pub(super) bytes: Vec<u8>,
    /// The 1-based line number of the first record.
    pub(super) line: u64,
    /// How to read on.
    pub(super) body: Body,
    /// Whether the first line named the columns.
    pub(super) header: bool,
    /// The columns read; by name where they have names.
    pub(super) columns: Option<Roles<Column>>,
}

/// What follows the head.
pub(super) enum Body {
    Empty,
    Delimited(delimited::Layout),
    Ndjson(ndjson::Layout),
    Parquet,
}

/// Reads the head of `source` from `bytes` and draws the conclusions.
pub(super) fn examine(
    source: &Source,
    bytes: &mut Bytes,
    options: &ReadOptions,
    limits: Limits,
) -> Result<Head, ReadError> {
    let name = source.name();
    if source.format == Some(Format::Parquet) {
        return parquet(source, bytes.compression());
    }
    let (mut head, complete) = first_bytes(name, bytes, limits)?;
    if head.starts_with(b"PAR1") {
        return match source.format {
            Some(format) => Err(ReadError::UnexpectedParquet { name: name.into(), format }),
            None => parquet(source, bytes.compression()),
        };
    }
    let line = first_text(name, &mut head)?;
    if head.is_empty() && complete {
        return Ok(Head { bytes: head, line, body: Body::Empty, header: false, columns: None });
    }
    let opening = head.trim_ascii_start();
    let array = opening.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"{"));
    if array && matches!(source.format, None | Some(Format::Ndjson)) {
        return Err(ReadError::JsonArray { name: name.into() });
    }
    match source.format {
        Some(Format::Ndjson) => json(name, head, line, options),
        None if opening.starts_with(b"{") => json(name, head, line, options),
        format => text(name, head, complete, line, format, options),
    }
}

/// Reads the head of a table: delimited text whose first record names the columns.
pub(super) fn table(source: &Source, bytes: &mut Bytes, limits: Limits) -> Result<TableHead, ReadError> {
    let name = source.name();
    let (mut head, complete) = first_bytes(name, bytes, limits)?;
    if matches!(source.format, Some(Format::Parquet | Format::Ndjson)) || head.starts_with(b"PAR1") {
        return Err(ReadError::NoTable { name: name.into() });
    }
    let line = first_text(name, &mut head)?;
    let lines = first_lines(&head, complete, DELIMITER_LINES);
    let delimiter = match source.format {
        Some(Format::Tsv) => Some(Delimiter::literal("\t")),
        format => delimited::detect_delimiter(&lines, format.map(|_| ","), true),
    };
    let delimiter = delimiter.ok_or_else(|| ReadError::NoTable { name: name.into() })?;
    let (names, length) = first_record(&head, &delimiter, delimited::quoting(&delimiter, true));
    let line = line + newlines(&head[..length]);
    head.drain(..length);
    Ok(TableHead { bytes: head, line, delimiter, names })
}

/// Takes a byte order mark and blank lines off, which come before the first record; returns its line. Refuses what is no
/// text.
fn first_text(name: &str, head: &mut Vec<u8>) -> Result<u64, ReadError> {
    if let Some((what, remedy)) = binary(head) {
        return Err(ReadError::Binary { name: name.into(), what, remedy });
    }
    let mut start = if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    start += head[start..].iter().take_while(|b| matches!(b, b'\n' | b'\r')).count();
    let line = 1 + newlines(&head[..start]);
    head.drain(..start);
    Ok(line)
}

fn parquet(source: &Source, compression: Compression) -> Result<Head, ReadError> {
    let remedy = if compression != Compression::None {
        "decompress the file first (Parquet compresses its columns itself)"
    } else if source.bytes.is_none() {
        "save it to a file and give the file's path"
    } else {
        return Ok(Head { bytes: Vec::new(), line: 1, body: Body::Parquet, header: true, columns: None });
    };
    Err(ReadError::ParquetStream { name: source.name().into(), remedy })
}

/// Reads up to [`HEAD_BYTES`], or a whole line; the flag tells that the data ends with them.
fn first_bytes(name: &str, bytes: &mut Bytes, limits: Limits) -> Result<(Vec<u8>, bool), ReadError> {
    let mut head = Vec::new();
    loop {
        let filled = head.len();
        head.resize((filled * 2).max(HEAD_BYTES), 0);
        let (count, result) = bytes.fill(&mut head[filled..]);
        let complete = filled + count < head.len();
        head.truncate(filled + count);
        result.map_err(|e| bytes.explain(e, newlines(&head)))?;
        if complete || memchr::memchr(b'\n', &head).is_some() {
            return Ok((head, complete));
        }
        if head.len() >= limits.record_bytes {
            return Err(ReadError::RecordTooLong { name: name.into(), line: 1, limit: limits.record_bytes });
        }
    }
}

/// What the data is, if it is no text, and what to do about it.
fn binary(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "unpack it first, or compress it as .gz or .zst";
    match head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some(("it is UTF-16", "convert it to UTF-8, such as by: iconv -f UTF-16 -t UTF-8 FILE"))
        }
        [b'P', b'K', 3, 4, ..] => Some(("it is a zip archive", UNPACK)),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Some(("it is compressed by bzip2", UNPACK)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(("it is compressed by xz", UNPACK)),
        _ if memchr::memchr(0, head).is_some() => {
            Some(("it contains NUL bytes", "logs are CSV, TSV, NDJSON or Parquet; check the file and --format"))
        }
        _ => None,
    }
}

fn text(
    name: &str,
    mut head: Vec<u8>,
    complete: bool,
    mut line: u64,
    format: Option<Format>,
    options: &ReadOptions,
) -> Result<Head, ReadError> {
    let lines = first_lines(&head, complete, DELIMITER_LINES);
    let delimiter = match (&options.delimiter, format) {
        (Some(delimiter), _) => delimiter.clone(),
        (None, Some(Format::Tsv)) => Delimiter::literal("\t"),
        (None, format) => {
            delimited::detect_delimiter(&lines, format.map(|_| ","), options.quotes).ok_or_else(|| {
                ReadError::NoDelimiter { name: name.into(), line: excerpt(lines.first().copied().unwrap_or_default()) }
            })?
        }
    };
    let quoting = delimited::quoting(&delimiter, options.quotes);
    let (fields, length) = first_record(&head, &delimiter, quoting);
    let named = [Role::User, Role::Item, Role::Time, Role::Weight, Role::Event]
        .into_iter()
        .filter_map(|role| asked(options, role))
        .chain(&options.context)
        .any(|column| matches!(column, Column::Name(_)));
    let header = match options.header {
        Some(header) => header,
        None if named || looks_like_header(&fields) => true,
        None if unlike_the_rest(&fields, &lines, &delimiter, quoting) => {
            return Err(ReadError::UnclearHeader { name: name.into(), line: excerpt(lines[0]) });
        }
        None => false,
    };
    let roles = resolve(name, options, &fields, header)?;
    if header {
        line += newlines(&head[..length]);
        head.drain(..length);
    }
    let columns = roles.map(|&at| if header { Column::Name(fields[at].clone()) } else { Column::Position(at + 1) });
    let layout = delimited::Layout::new(delimiter, options.quotes, roles, options.time_unit);
    Ok(Head { bytes: head, line, body: Body::Delimited(layout), header, columns: Some(columns) })
}

/// Whether the first line may name columns by unknown words: it holds no digit, and in some column all others do.
fn unlike_the_rest(first: &[String], lines: &[&[u8]], delimiter: &Delimiter, quoting: Option<u8>) -> bool {
    let has_digit = |field: &String| field.bytes().any(|b| b.is_ascii_digit());
    let rest: Vec<Vec<String>> = lines.iter().skip(1).map(|line| first_record(line, delimiter, quoting).0).collect();
    !first.iter().any(has_digit)
        && !rest.is_empty()
        && (0..first.len()).any(|at| rest.iter().all(|fields| fields.get(at).is_some_and(has_digit)))
}

/// Up to `count` complete lines that are not blank.
fn first_lines(head: &[u8], complete: bool, count: usize) -> Vec<&[u8]> {
    let whole = if complete { head } else { &head[..quote::last_boundary(head, None)] };
    let lines = whole.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).take(count).collect()
}

/// The fields of the first record and the bytes that it takes.
fn first_record(head: &[u8], delimiter: &Delimiter, quoting: Option<u8>) -> (Vec<String>, usize) {
    let lossy = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let end = memchr::memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    let line = head[..end].trim_ascii_end();
    if let Some(byte) = quoting.filter(|_| line.contains(&b'"')) {
        let mut places = vec![(0, 0); memchr_iter(byte, head).count() + 1];
        let mut text = Vec::new();
        let record = quote::split(head, byte, &mut text, &mut places);
        let fields = places[..record.found].iter().map(|&(from, to)| lossy(&text[from..to])).collect();
        return (fields, record.next);
    }
    let line = &head[..end];
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let mut fields = Vec::new();
    while let Some(at) = finder.find(line) {
        fields.push(lossy(&line[..at]));
        line = &line[at + delimiter.as_bytes().len()..];
    }
    fields.push(lossy(line));
    (fields, end)
}

fn json(name: &str, head: Vec<u8>, line: u64, options: &ReadOptions) -> Result<Head, ReadError> {
    let names = head.split(|&b| b == b'\n').take(KEY_LINES).find_map(ndjson::keys).unwrap_or_default();
    let named = |role, column: &Column| match column {
        Column::Name(key) => Ok(key.clone()),
        &Column::Position(position) => Err(ReadError::PositionInJson { name: name.into(), role, position }),
    };
    let key = |role| match asked(options, role) {
        Some(column) => named(role, column).map(Some),
        None if matches!(role, Role::Weight | Role::Event) => Ok(None),
        None => Ok(recognise(role, &names).map(|at| names[at].clone())),
    };
    let required = |role| {
        key(role)?.ok_or_else(|| ReadError::MissingColumn {
            name: name.into(),
            role,
            wanted: format!("no key is known to be the {role} id"),
            available: available(&names, true),
        })
    };
    let keys = Roles {
        user: required(Role::User)?,
        item: required(Role::Item)?,
        time: key(Role::Time)?,
        weight: key(Role::Weight)?,
        event: key(Role::Event)?,
        context: options.context.iter().map(|column| named(Role::Context, column)).collect::<Result<_, _>>()?,
    };
    if keys.user == keys.item {
        return Err(ReadError::SameColumn { name: name.into(), column: keys.user });
    }
    let columns = Some(keys.map(|key| Column::Name(key.clone())));
    let body = Body::Ndjson(ndjson::Layout { keys, time_unit: options.time_unit });
    Ok(Head { bytes: head, line, body, header: false, columns })
}
