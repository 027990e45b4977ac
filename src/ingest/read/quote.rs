//! Quotes (RFC 4180): where records that contain them end, and what their fields are.
//!
//! A quote opens a quoted field only at the field's beginning; elsewhere it is an ordinary character. Inside, a doubled
//! quote stands for one, and delimiters and line breaks are ordinary. What follows the closing quote up to the delimiter
//! belongs to the field as it stands. These are the rules of the `csv` crate, against which this is tested.

use memchr::{memchr, memchr2, memrchr};

/// The end of the last complete record in `bytes`, which begins with a record; 0 if there is none.
pub(super) fn last_boundary(bytes: &[u8], quoting: Option<u8>) -> usize {
    let last_newline = || memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    let Some(delimiter) = quoting else { return last_newline() };
    let Some(first_quote) = memchr(b'"', bytes) else { return last_newline() };
    // Up to the line of the first quote, every line is a record.
    let mut boundary = memrchr(b'\n', &bytes[..first_quote]).map_or(0, |at| at + 1);
    let mut at = first_quote;
    while let Some(next) = memchr2(b'"', b'\n', &bytes[at..]) {
        at += next;
        if bytes[at] == b'\n' {
            at += 1;
            boundary = at;
        } else if at == boundary || bytes[at - 1] == delimiter {
            match closing(bytes, at + 1) {
                Some(close) => at = close + 1,
                None => return boundary,
            }
        } else {
            at += 1;
        }
    }
    boundary
}

/// The quote that closes the field whose content begins at `at`.
fn closing(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(b'"', &bytes[at..])?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

/// What [`split`] found.
pub(super) struct Split {
    /// Where the next record begins.
    pub(super) next: usize,
    /// Fields seen: all of them if fewer than wanted, else as many as wanted.
    pub(super) found: usize,
    /// The record ends inside of quotes.
    pub(super) unclosed: bool,
}

/// Splits the record at the start of `bytes` into its first `fields.len()` fields: their text without quotes goes to
/// `text`, where they stand in it to `fields`.
pub(super) fn split(bytes: &[u8], delimiter: u8, text: &mut Vec<u8>, fields: &mut [(usize, usize)]) -> Split {
    text.clear();
    let mut at = 0;
    let mut found = 0;
    loop {
        let start = text.len();
        if bytes.get(at) == Some(&b'"') {
            let Some(close) = closing(bytes, at + 1) else {
                return Split { next: bytes.len(), found, unclosed: true };
            };
            unescape(&bytes[at + 1..close], text);
            at = close + 1;
        }
        let end = memchr2(delimiter, b'\n', &bytes[at..]).map_or(bytes.len(), |i| at + i);
        let last = bytes.get(end) != Some(&delimiter);
        let mut rest = &bytes[at..end];
        if last {
            rest = rest.strip_suffix(b"\r").unwrap_or(rest);
        }
        text.extend_from_slice(rest);
        if let Some(field) = fields.get_mut(found) {
            *field = (start, text.len());
            found += 1;
        } else {
            text.truncate(start);
        }
        at = (end + 1).min(bytes.len());
        if last {
            return Split { next: at, found, unclosed: false };
        }
    }
}

/// Appends a quoted field's content, each doubled quote once.
fn unescape(mut content: &[u8], text: &mut Vec<u8>) {
    while let Some(quote) = memchr(b'"', content) {
        text.extend_from_slice(&content[..=quote]);
        content = &content[(quote + 2).min(content.len())..];
    }
    text.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_never_lie_inside_quotes() {
        let boundary = |text: &str| last_boundary(text.as_bytes(), Some(b','));
        assert_eq!(boundary(""), 0);
        assert_eq!(boundary("a,b"), 0);
        assert_eq!(boundary("a,b\nc"), 4);
        assert_eq!(boundary("a,b\n\"c\n"), 4);
        assert_eq!(boundary("a,\"b\nc\"\nd"), 8);
        assert_eq!(boundary("a,\"b\"\"\n\"\"c\"\nd"), 12);
        assert_eq!(boundary("5\" pipe,x\ny"), 10, "a quote inside a field is a character");
        assert_eq!(boundary("\"a\"b\"c\nd,\"\n"), 7);
        assert_eq!(last_boundary(b"a,\"b\nc", None), 5);
    }

    #[test]
    fn fields_lose_their_quotes() {
        let fields = |text: &str, wanted: usize| {
            let (mut out, mut places) = (Vec::new(), vec![(0, 0); wanted]);
            let found = split(text.as_bytes(), b',', &mut out, &mut places);
            let out = String::from_utf8(out).unwrap();
            let places: Vec<_> = places[..found.found].iter().map(|&(from, to)| out[from..to].to_owned()).collect();
            (places.join("|"), found.next, found.unclosed)
        };
        assert_eq!(fields("a,\"b,\"\"c\"\"\",d\nx", 3), ("a|b,\"c\"|d".into(), 14, false));
        assert_eq!(fields("\"a\"x,b\r\n", 3), ("ax|b".into(), 8, false));
        assert_eq!(fields("\"a\",\"b\",c,d\n", 2), ("a|b".into(), 12, false));
        assert_eq!(fields("a,", 3), ("a|".into(), 2, false));
        assert_eq!(fields("a,\"b\n", 3), ("a".into(), 5, true));
        assert_eq!(fields("\"\",\"a\r\"\r\n", 3), ("|a\r".into(), 9, false));
    }
}
