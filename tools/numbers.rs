//! Numbers, rates and durations as people read them.

use std::time::Duration;

use peccary::{ByteSize, Unit};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 user`, `1,234 users`: `what` with an s, unless there is one.
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// Milliseconds since 1970 as a date.
pub fn date(milliseconds: i64) -> String {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000);
    date.ok().and_then(|d| d.format(&Rfc3339).ok()).unwrap_or_else(|| milliseconds.to_string())
}

/// `12345678` as `12.3M`: three digits and k, M, G or T.
pub fn short(number: f64) -> String {
    let mut value = number;
    for unit in ["", "k", "M", "G"] {
        // Rounding must not show "1000k".
        if value.abs() < 999.5 {
            return three_digits(value, unit);
        }
        value /= 1000.0;
    }
    three_digits(value, "T")
}

fn three_digits(value: f64, unit: &str) -> String {
    let decimals = match value.abs() {
        _ if unit.is_empty() && value.fract() == 0.0 => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{unit}")
}

/// `83 s` as `1:23`, an hour and more as `1:02:03`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A count of a stage with its unit: `1,234 rows` or `12.5MiB`.
pub fn amount(count: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => ByteSize(count).to_string(),
        _ => format!("{} {}", grouped(count), name(unit)),
    }
}

/// A speed with its unit: `3.10M rows/s` or `12.5MiB/s`.
pub fn rate(a_second: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => format!("{}/s", ByteSize(a_second as u64)),
        _ => format!("{} {}/s", short(a_second), name(unit)),
    }
}

fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Rows => "rows",
        Unit::Users => "users",
        Unit::Items => "items",
        Unit::Triples => "triples",
        Unit::Epochs => "epochs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([0, 1, 1234].map(|n| counted(n, "user")), ["0 users", "1 user", "1,234 users"]);
    }

    #[test]
    fn short_numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (7.0, "7"),
            (7.25, "7.25"),
            (999.0, "999"),
            (999.7, "1.00k"),
            (12_345_678.0, "12.3M"),
            (999_999.0, "1.00M"),
            (3.1e6, "3.10M"),
            (123e9, "123G"),
            (5e15, "5000T"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn durations_read_as_clocks() {
        for (seconds, text) in [(0, "0:00"), (83, "1:23"), (3723, "1:02:03"), (360_000, "100:00:00")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn amounts_and_rates_name_their_units() {
        assert_eq!(amount(1234, Unit::Rows), "1,234 rows");
        assert_eq!(amount(3 << 20, Unit::Bytes), "3MiB");
        assert_eq!(rate(3.1e6, Unit::Triples), "3.10M triples/s");
        assert_eq!(rate(1536.0, Unit::Bytes), "1.5KiB/s");
    }
}
