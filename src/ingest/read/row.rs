//! One interaction of a log, and what is said about a row that is none.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{Role, TimeUnit, timestamp};

/// The longest id accepted, in bytes.
pub(super) const MAX_ID_BYTES: usize = u16::MAX as usize;

/// One interaction as it stands in a log. Ids are non-empty UTF-8 of at most 65,535 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// User id.
    pub user: &'a [u8],
    /// Item id.
    pub item: &'a [u8],
    /// Milliseconds since 1970 in UTC, from year 1 to year 9999.
    pub time: Option<i64>,
    /// Finite and not negative.
    pub weight: Option<f32>,
    /// Event type, UTF-8, possibly empty.
    pub event: Option<&'a [u8]>,
    /// The values of all columns of context, if they are read.
    pub context: Option<ContextKey<'a>>,
}

/// The values of a row's columns of context: for each its length (u32, little-endian), and its UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextKey<'a>(pub &'a [u8]);

impl<'a> ContextKey<'a> {
    /// Appends a value to a key in the making.
    #[inline]
    pub fn put(value: &[u8], key: &mut Vec<u8>) {
        key.extend_from_slice(&(value.len() as u32).to_le_bytes());
        key.extend_from_slice(value);
    }

    /// The values.
    pub fn values(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (value, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(value)
        })
    }
}

/// Takes what [`super::Block::parse`] finds. An error of either method ends the parsing of the block.
pub trait RowSink {
    /// Why parsing should stop.
    type Error;

    /// A good row.
    fn row(&mut self, row: Row<'_>) -> Result<(), Self::Error>;

    /// A row that cannot be used. Within a block they come in the order of the log.
    fn bad(&mut self, bad: BadRow<'_>) -> Result<(), Self::Error>;
}

/// Where in a source a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// 1-based line of text where the record begins.
    Line(u64),
    /// 1-based row of a Parquet file.
    Row(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A row that cannot be used, with all that a rejects file needs.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRow<'a> {
    /// The source's name.
    pub source: Arc<str>,
    /// Where the row stands.
    pub place: Place,
    /// What is wrong.
    pub reason: Reason,
    /// The record's bytes without the line break; for Parquet its columns written as `name=value, …`.
    pub raw: Cow<'a, [u8]>,
}

#[cfg(test)]
impl BadRow<'_> {
    /// The same, owning its bytes.
    pub fn into_owned(self) -> BadRow<'static> {
        BadRow { source: self.source, place: self.place, reason: self.reason, raw: Cow::Owned(self.raw.into_owned()) }
    }
}

impl fmt::Display for BadRow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.source, self.place, self.reason)
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The record ends before the last column that is read.
    #[error("too few fields: found {found}, needed {needed}")]
    TooFewFields {
        /// Fields there are.
        found: usize,
        /// Fields there must be.
        needed: usize,
    },
    /// An id without characters.
    #[error("the {0} id is empty")]
    EmptyId(Role),
    /// An id beyond 65,535 bytes.
    #[error("the {role} id has {bytes} bytes; the longest possible is 65535")]
    LongId {
        /// Which id.
        role: Role,
        /// Its length.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the {0} is not valid UTF-8")]
    InvalidUtf8(Role),
    /// Neither number nor date.
    #[error("the time '{text}' cannot be read as {expected}")]
    InvalidTime {
        /// What stands there.
        text: String,
        /// What should.
        expected: &'static str,
    },
    /// Before year 1 or after year 9999.
    #[error("the time '{0}' is out of range (years 1 to 9999); check its unit")]
    TimeOutOfRange(String),
    /// Not a number.
    #[error("the weight '{0}' is not a number")]
    InvalidWeight(String),
    /// NaN.
    #[error("the weight is NaN")]
    NanWeight,
    /// Infinite, or beyond `f32`.
    #[error("the weight '{0}' is not finite")]
    InfiniteWeight(String),
    /// Less than zero.
    #[error("the weight '{0}' is negative")]
    NegativeWeight(String),
    /// A quoted field does not end.
    #[error("a quoted field is never closed")]
    UnclosedQuote,
    /// Not a JSON object.
    #[error("not a JSON object: {0}")]
    InvalidJson(String),
    /// A key is not there.
    #[error("no key '{key}' for the {role}; the keys are: {keys}")]
    MissingKey {
        /// What the key is for.
        role: Role,
        /// The key.
        key: String,
        /// The keys there are.
        keys: String,
    },
    /// A value of a type that cannot serve.
    #[error("the {role} is {found}; it must be {needed}")]
    WrongType {
        /// What the value is for.
        role: Role,
        /// What it is.
        found: &'static str,
        /// What it must be.
        needed: &'static str,
    },
}

/// `bytes` as text for a message, at most 60 characters of it.
#[cold]
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
    let mut short = String::new();
    for c in text.chars().take(60) {
        if c.is_control() { short.extend(c.escape_default()) } else { short.push(c) }
    }
    if text.chars().nth(60).is_some() || bytes.len() > 256 {
        short.push('…');
    }
    short
}

/// Accepts an id, or says what is wrong. `ascii` tells that the bytes are known to be ASCII.
#[inline]
pub(super) fn check_id(role: Role, id: &[u8], ascii: bool) -> Result<(), Reason> {
    if id.is_empty() {
        return Err(Reason::EmptyId(role));
    }
    if id.len() > MAX_ID_BYTES {
        return Err(Reason::LongId { role, bytes: id.len() });
    }
    check_utf8(role, id, ascii)
}

/// Accepts UTF-8.
#[inline]
pub(super) fn check_utf8(role: Role, text: &[u8], ascii: bool) -> Result<(), Reason> {
    if ascii || std::str::from_utf8(text).is_ok() { Ok(()) } else { Err(Reason::InvalidUtf8(role)) }
}

/// Reads a time in text.
#[inline]
pub(super) fn parse_time(text: &[u8], unit: TimeUnit) -> Result<i64, Reason> {
    timestamp::parse(text.trim_ascii(), unit).map_err(|wrong| time_reason(wrong, text, unit))
}

/// Reads a time given as an integer.
pub(super) fn integer_time(value: i64, unit: TimeUnit) -> Result<i64, Reason> {
    timestamp::from_integer(value, unit).map_err(|wrong| time_reason(wrong, value.to_string().as_bytes(), unit))
}

/// Reads a time given as a floating point number.
pub(super) fn float_time(value: f64, unit: TimeUnit) -> Result<i64, Reason> {
    timestamp::from_float(value, unit).map_err(|wrong| time_reason(wrong, value.to_string().as_bytes(), unit))
}

#[cold]
fn time_reason(wrong: timestamp::Wrong, text: &[u8], unit: TimeUnit) -> Reason {
    let text = excerpt(text);
    match wrong {
        timestamp::Wrong::Range => Reason::TimeOutOfRange(text),
        timestamp::Wrong::Syntax => Reason::InvalidTime {
            text,
            expected: match unit {
                TimeUnit::Auto => "seconds, milliseconds or a date such as 2024-01-31T12:00:00Z",
                TimeUnit::Seconds => "seconds",
                TimeUnit::Milliseconds => "milliseconds",
                TimeUnit::Rfc3339 => "a date such as 2024-01-31T12:00:00Z",
            },
        },
    }
}

/// Reads a weight in text.
#[inline]
pub(super) fn parse_weight(text: &[u8]) -> Result<f32, Reason> {
    let trimmed = text.trim_ascii();
    // Star ratings and small counts are the usual weights.
    if let [digit @ b'0'..=b'9'] = trimmed {
        return Ok(f32::from(digit - b'0'));
    }
    let value = std::str::from_utf8(trimmed).ok().and_then(|t| t.parse::<f32>().ok());
    check_weight(value.ok_or_else(|| Reason::InvalidWeight(excerpt(text)))?, || excerpt(text))
}

/// Accepts a weight that is finite and not negative; minus zero becomes zero.
#[inline]
pub(super) fn check_weight(value: f32, text: impl FnOnce() -> String) -> Result<f32, Reason> {
    if value >= 0.0 && value.is_finite() {
        Ok(value + 0.0)
    } else if value.is_nan() {
        Err(Reason::NanWeight)
    } else if value < 0.0 {
        Err(Reason::NegativeWeight(text()))
    } else {
        Err(Reason::InfiniteWeight(text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_finite_and_not_negative() {
        for (text, value) in [("5", 5.0), ("4.5", 4.5), (" 1e3 ", 1000.0), ("+2", 2.0), ("0", 0.0)] {
            assert_eq!(parse_weight(text.as_bytes()), Ok(value), "{text}");
        }
        assert_eq!(parse_weight(b"-0").unwrap().to_bits(), 0.0f32.to_bits());
        assert_eq!(parse_weight(b"NaN"), Err(Reason::NanWeight));
        assert_eq!(parse_weight(b"-1"), Err(Reason::NegativeWeight("-1".into())));
        assert_eq!(parse_weight(b"-inf"), Err(Reason::NegativeWeight("-inf".into())));
        assert_eq!(parse_weight(b"1e39"), Err(Reason::InfiniteWeight("1e39".into())));
        assert_eq!(parse_weight(b"inf"), Err(Reason::InfiniteWeight("inf".into())));
        for text in ["", "five", "1,5", "\u{ff15}"] {
            assert!(matches!(parse_weight(text.as_bytes()), Err(Reason::InvalidWeight(_))), "{text}");
        }
    }

    #[test]
    fn ids_are_text_of_bounded_length() {
        assert_eq!(check_id(Role::User, "Zoë".as_bytes(), false), Ok(()));
        assert_eq!(check_id(Role::User, &vec![b'a'; MAX_ID_BYTES], true), Ok(()));
        assert_eq!(check_id(Role::User, b"", true), Err(Reason::EmptyId(Role::User)));
        assert_eq!(check_id(Role::Item, &[0xff], false), Err(Reason::InvalidUtf8(Role::Item)));
        let reason = check_id(Role::Item, &vec![b'a'; 65_536], true).unwrap_err();
        assert_eq!(reason.to_string(), "the item id has 65536 bytes; the longest possible is 65535");
    }

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(excerpt(b"a\x00\"b\n"), "a\\u{0}\"b\\n");
        assert!(excerpt(&[b'x'; 1000]).chars().count() == 61);
    }
}
