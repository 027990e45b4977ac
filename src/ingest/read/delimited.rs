//! Parses blocks of delimited text.
//!
//! Lines without quotes take the fast path: `memchr` to the line's end and from delimiter to delimiter, ids handed out
//! as slices of the block. A record with a quote goes through [`quote::split`].

use memchr::{memchr, memchr_iter};

use super::blocks::{BadRows, RowCount, Scratch};
use super::row::{check_id, check_utf8, parse_time, parse_weight};
use super::{ContextKey, Delimiter, Reason, Role, Roles, Row, RowSink, TimeUnit, quote};

/// How the lines of a source are laid out.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) delimiter: Delimiter,
    /// The delimiter, if quotes are syntax.
    pub(super) quoting: Option<u8>,
    /// 0-based columns.
    pub(super) columns: Roles<usize>,
    /// Fields that a record must have.
    pub(super) needed: usize,
    pub(super) time_unit: TimeUnit,
}

impl Layout {
    pub(super) fn new(delimiter: Delimiter, quotes: bool, columns: Roles<usize>, time_unit: TimeUnit) -> Self {
        let needed = columns.each().map(|(_, &column)| column + 1).max().unwrap_or(0);
        let quoting = quoting(&delimiter, quotes);
        Self { delimiter, quoting, columns, needed, time_unit }
    }

    /// The row of a record whose fields stand in `text` at `fields`.
    #[inline]
    fn row<'a>(
        &self,
        text: &'a [u8],
        fields: &[(usize, usize)],
        ascii: bool,
        key: &'a mut Vec<u8>,
    ) -> Result<Row<'a>, Reason> {
        let field = |column: usize| {
            let (from, to) = fields[column];
            &text[from..to]
        };
        let user = field(self.columns.user);
        let item = field(self.columns.item);
        check_id(Role::User, user, ascii)?;
        check_id(Role::Item, item, ascii)?;
        let time = self.columns.time.map(|column| parse_time(field(column), self.time_unit)).transpose()?;
        let weight = self.columns.weight.map(|column| parse_weight(field(column))).transpose()?;
        let event = self.columns.event.map(field);
        if let Some(event) = event {
            check_utf8(Role::Event, event, ascii)?;
        }
        let mut context = None;
        if !self.columns.context.is_empty() {
            key.clear();
            for column in &self.columns.context {
                check_utf8(Role::Context, field(*column), ascii)?;
                ContextKey::put(field(*column), key);
            }
            context = Some(ContextKey(key));
        }
        Ok(Row { user, item, time, weight, event, context })
    }
}

/// The delimiter's byte, if quotes are syntax beside it.
pub(super) fn quoting(delimiter: &Delimiter, quotes: bool) -> Option<u8> {
    match *delimiter.as_bytes() {
        [byte] if quotes => Some(byte),
        _ => None,
    }
}

/// Finds the next delimiter.
trait Separator: Copy {
    fn find(self, text: &[u8]) -> Option<usize>;
    fn len(self) -> usize;
}

impl Separator for u8 {
    #[inline]
    fn find(self, text: &[u8]) -> Option<usize> {
        memchr(self, text)
    }

    #[inline]
    fn len(self) -> usize {
        1
    }
}

impl Separator for &[u8] {
    #[inline]
    fn find(self, text: &[u8]) -> Option<usize> {
        memchr_iter(self[0], text).find(|&at| text[at..].starts_with(self))
    }

    #[inline]
    fn len(self) -> usize {
        <[u8]>::len(self)
    }
}

/// Hands the rows of `bytes` to `sink`.
pub(super) fn parse<S: RowSink>(
    layout: &Layout,
    bytes: &[u8],
    bad_rows: BadRows<'_>,
    scratch: &mut Scratch,
    sink: &mut S,
) -> Result<RowCount, S::Error> {
    match layout.delimiter.as_bytes() {
        &[byte] => parse_with(byte, layout, bytes, bad_rows, scratch, sink),
        several => parse_with(several, layout, bytes, bad_rows, scratch, sink),
    }
}

fn parse_with<D: Separator, S: RowSink>(
    delimiter: D,
    layout: &Layout,
    bytes: &[u8],
    mut bad_rows: BadRows<'_>,
    scratch: &mut Scratch,
    sink: &mut S,
) -> Result<RowCount, S::Error> {
    let ascii = bytes.is_ascii();
    let quoting = layout.quoting.filter(|_| memchr(b'"', bytes).is_some());
    scratch.fields.clear();
    scratch.fields.resize(layout.needed, (0, 0));
    let fields = &mut scratch.fields[..];
    let mut count = RowCount::default();
    let mut next = 0;
    while next < bytes.len() {
        let start = next;
        let end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |i| start + i);
        next = (end + 1).min(bytes.len());
        let line = &bytes[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let row = match quoting {
            Some(byte) if memchr(b'"', line).is_some() => {
                let record = quote::split(&bytes[start..], byte, &mut scratch.text, fields);
                next = start + record.next;
                if record.unclosed {
                    Err(Reason::UnclosedQuote)
                } else if record.found < fields.len() {
                    Err(Reason::TooFewFields { found: record.found, needed: fields.len() })
                } else {
                    layout.row(&scratch.text, fields, ascii, &mut scratch.context)
                }
            }
            _ => match split(delimiter, line, fields) {
                found if found < fields.len() => Err(Reason::TooFewFields { found, needed: fields.len() }),
                _ => layout.row(line, fields, ascii, &mut scratch.context),
            },
        };
        match row {
            Ok(row) => {
                count.good += 1;
                sink.row(row)?;
            }
            Err(reason) => {
                count.bad += 1;
                sink.bad(bad_rows.report(start, next, reason))?;
            }
        }
    }
    Ok(count)
}

/// Finds the first `fields.len()` fields of the record at the start of `bytes`; returns where the next one begins, and how
/// many there are, or `None` where a quoted field never ends. They stand in `text`.
pub(super) fn record(
    delimiter: &Delimiter,
    bytes: &[u8],
    text: &mut Vec<u8>,
    fields: &mut [(usize, usize)],
) -> (usize, Option<usize>) {
    let end = memchr(b'\n', bytes).unwrap_or(bytes.len());
    let line = &bytes[..end];
    match quoting(delimiter, true) {
        Some(byte) if memchr(b'"', line).is_some() => {
            let split = quote::split(bytes, byte, text, fields);
            (split.next, (!split.unclosed).then_some(split.found))
        }
        _ => {
            text.clear();
            text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            let found = match delimiter.as_bytes() {
                &[byte] => split(byte, text, fields),
                several => split(several, text, fields),
            };
            ((end + 1).min(bytes.len()), Some(found))
        }
    }
}

/// Finds the first `fields.len()` fields of a line without quotes; returns how many there are of them.
#[inline]
fn split<D: Separator>(delimiter: D, line: &[u8], fields: &mut [(usize, usize)]) -> usize {
    let mut start = 0;
    for (found, field) in fields.iter_mut().enumerate() {
        match delimiter.find(&line[start..]) {
            Some(length) => {
                *field = (start, start + length);
                start += length + delimiter.len();
            }
            None => {
                *field = (start, line.len());
                return found + 1;
            }
        }
    }
    fields.len()
}

/// The delimiter that the first lines of a text have in common.
///
/// `preferred` is taken if the first line has it. Else the first of tab, `::`, comma, semicolon and `|` is taken that
/// stands equally often in every line, or else in every line, or else in the first. Delimiters inside of quotes do not
/// count if `quotes` are syntax.
pub(super) fn detect_delimiter(lines: &[&[u8]], preferred: Option<&'static str>, quotes: bool) -> Option<Delimiter> {
    let candidates = ["\t", "::", ",", ";", "|"].map(|text| {
        let counts: Vec<usize> = lines.iter().map(|line| occurrences(line, text.as_bytes(), quotes)).collect();
        (text, counts)
    });
    let in_first = |counts: &[usize]| counts.first().is_some_and(|&count| count > 0);
    let everywhere = |counts: &[usize]| in_first(counts) && counts.iter().all(|&count| count > 0);
    let alike = |counts: &[usize]| in_first(counts) && counts.iter().all(|count| *count == counts[0]);
    let find = |accept: &dyn Fn(&[usize]) -> bool| candidates.iter().find(|(_, counts)| accept(counts));
    let found = candidates
        .iter()
        .find(|(text, counts)| Some(*text) == preferred && in_first(counts))
        .or_else(|| find(&alike))
        .or_else(|| find(&everywhere))
        .or_else(|| find(&in_first));
    found.map(|(text, _)| Delimiter::literal(text))
}

/// How often `text` stands in `line`, outside of quotes if they are syntax.
fn occurrences(line: &[u8], text: &[u8], quotes: bool) -> usize {
    let (mut at, mut count, mut quoted) = (0, 0, false);
    while at < line.len() {
        if line[at] == b'"' && quotes {
            quoted = !quoted;
        } else if !quoted && line[at..].starts_with(text) {
            count += 1;
            at += text.len();
            continue;
        }
        at += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_found_in_the_first_lines() {
        let detect = |text: &str, preferred| {
            let lines: Vec<_> = text.lines().map(str::as_bytes).collect();
            detect_delimiter(&lines, preferred, true).map(String::from)
        };
        assert_eq!(detect("196\t242\t3\n186\t302\t3", None).as_deref(), Some("\t"));
        assert_eq!(detect("1::1193::5\n1::661::3", None).as_deref(), Some("::"));
        assert_eq!(detect("u;i;1,5\nu;j;2,5", None).as_deref(), Some(","), "both alike: the comma comes first");
        assert_eq!(detect("u;i;1\nu;j;2,5", None).as_deref(), Some(";"));
        assert_eq!(detect("u;i\nv;j", Some(",")).as_deref(), Some(";"));
        assert_eq!(detect("\"a;b\"|c\n\"d;e\"|f", None).as_deref(), Some("|"));
        assert_eq!(detect("u,i,x y\nv,j", None).as_deref(), Some(","));
        assert_eq!(detect("a;b;\"c,\nd\"", Some(",")).as_deref(), Some(";"));
        assert_eq!(detect("one\ntwo", None), None);
        assert_eq!(detect("", None), None);
    }
}
