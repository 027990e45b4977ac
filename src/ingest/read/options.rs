//! What a user can say about how logs are to be read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The format of a log, apart from its compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Delimited text; the delimiter is a comma, or found out from the first lines where there are no commas.
    Csv,
    /// Delimited text; the delimiter is a tab.
    Tsv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "ndjson" | "jsonl" => Ok(Self::Ndjson),
            "parquet" => Ok(Self::Parquet),
            _ => Err(format!("unknown format '{text}'; the formats are csv, tsv, ndjson and parquet")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        })
    }
}

/// A column, by name or by place. Text of digits only is a position, everything else is a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Column {
    /// 1-based position.
    Position(usize),
    /// Name in the header, key of a JSON object (`event.user` reaches into objects), or name of a Parquet column.
    Name(String),
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a column is a name or a position from 1 on".into());
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return match text.parse() {
                Ok(0) | Err(_) => Err(format!("'{text}' is not a column: positions count from 1")),
                Ok(position) => Ok(Self::Position(position)),
            };
        }
        Ok(Self::Name(text.into()))
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => write!(f, "{position}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What stands between fields: one or more bytes, none of them a quote or a line break.
///
/// Quotes have a meaning only with a delimiter of one byte: the formats with longer ones (such as MovieLens' `::`) have
/// no quoting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delimiter(String);

impl Delimiter {
    /// The delimiter's bytes, at least one.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// For delimiters known to be valid.
    pub(super) fn literal(text: &'static str) -> Self {
        Self(text.into())
    }
}

impl FromStr for Delimiter {
    type Err = String;

    /// `tab`, `\t` and `space` are understood besides the characters themselves.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text {
            "\\t" | "tab" => "\t",
            "space" => " ",
            other => other,
        };
        if text.is_empty() || text.bytes().any(|b| matches!(b, b'"' | b'\n' | b'\r' | 0)) {
            return Err("a delimiter is one character or more (',', 'tab', '::'), no quotes or line breaks".into());
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Delimiter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Delimiter> for String {
    fn from(delimiter: Delimiter) -> Self {
        delimiter.0
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == "\t" { "tab" } else { &self.0 })
    }
}

/// How the time column is to be understood. Times become milliseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Numbers from ±10¹¹ on are milliseconds, smaller ones seconds; everything else is a date.
    #[default]
    Auto,
    /// Seconds since 1970, with or without a fraction.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// A date: RFC 3339, also `2024-01-31`, `2024-01-31 23:59:59` and the like; UTC unless an offset is given.
    Rfc3339,
}

impl FromStr for TimeUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "seconds" | "s" => Ok(Self::Seconds),
            "milliseconds" | "ms" => Ok(Self::Milliseconds),
            "rfc3339" => Ok(Self::Rfc3339),
            _ => Err(format!("unknown time unit '{text}'; it is auto, seconds, milliseconds or rfc3339")),
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Rfc3339 => "rfc3339",
        })
    }
}

/// The most columns of context.
pub const MAX_CONTEXT: usize = 8;

/// How logs are to be read. The default finds everything out; a dataset's manifest records what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// The format; by extension, and then by the first bytes, when absent.
    pub format: Option<Format>,
    /// The delimiter; by format, and then by the first lines, when absent.
    pub delimiter: Option<Delimiter>,
    /// Whether the first line names the columns. When absent, it does if a column is asked for by name, or if one of its
    /// fields is a known name (such as `user_id`, `item`, `timestamp`, `rating`) and none is a number.
    pub header: Option<bool>,
    /// Whether quotes around a field are syntax (RFC 4180) rather than part of it.
    pub quotes: bool,
    /// Column of user ids; by known names, else the first, when absent.
    pub user: Option<Column>,
    /// Column of item ids; by known names, else the second, when absent.
    pub item: Option<Column>,
    /// Column of times; by known names, else no times, when absent.
    pub time: Option<Column>,
    /// Column of weights; no weights when absent.
    pub weight: Option<Column>,
    /// Column of event types; no events when absent.
    pub event: Option<Column>,
    /// Columns of context, such as the device: at most eight.
    pub context: Vec<Column>,
    /// How to understand times.
    pub time_unit: TimeUnit,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            format: None,
            delimiter: None,
            header: None,
            quotes: true,
            user: None,
            item: None,
            time: None,
            weight: None,
            event: None,
            context: Vec::new(),
            time_unit: TimeUnit::Auto,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_positions_or_names() {
        assert_eq!("3".parse(), Ok(Column::Position(3)));
        assert_eq!("3rd".parse(), Ok(Column::Name("3rd".into())));
        for text in ["", "0", "99999999999999999999999"] {
            assert!(text.parse::<Column>().is_err(), "{text}");
        }
    }

    #[test]
    fn options_survive_a_manifest() {
        let options = ReadOptions {
            format: Some(Format::Tsv),
            delimiter: Some("::".parse().unwrap()),
            header: Some(true),
            user: Some(Column::Position(2)),
            item: Some(Column::Name("movie".into())),
            time_unit: TimeUnit::Milliseconds,
            ..ReadOptions::default()
        };
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<ReadOptions>(&text).unwrap(), options);
        assert_eq!(serde_json::from_str::<ReadOptions>("{}").unwrap(), ReadOptions::default());
        assert!(serde_json::from_str::<ReadOptions>(r#"{"delimiter":"\n"}"#).is_err());
    }

    #[test]
    fn delimiters_have_spellings() {
        for (text, bytes) in [("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), ("space", " "), ("::", "::"), ("|", "|")] {
            assert_eq!(text.parse::<Delimiter>().unwrap().as_bytes(), bytes.as_bytes());
        }
        for text in ["", "\"", "\n", "a\r"] {
            assert!(text.parse::<Delimiter>().is_err(), "{text:?}");
        }
    }
}
