//! Times in text to milliseconds since 1970 (UTC), without allocation.

use super::TimeUnit;

/// First millisecond of year 1 and last of year 9999.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// From this magnitude on, a bare number counts milliseconds: as seconds it would lie beyond the year 5138, as
/// milliseconds it is after March 1973.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Why text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Not of the expected form.
    Syntax,
    /// Outside of years 1 to 9999.
    Range,
}

/// Reads a time without spaces around it.
#[inline]
pub(super) fn parse(text: &[u8], unit: TimeUnit) -> Result<i64, Wrong> {
    match unit {
        TimeUnit::Rfc3339 => date_time(text),
        TimeUnit::Auto if text.len() >= 10 && text[4] == b'-' && text[7] == b'-' => date_time(text),
        _ => number(text, unit),
    }
}

/// Applies a unit to an integer.
#[inline]
pub(super) fn from_integer(value: i64, unit: TimeUnit) -> Result<i64, Wrong> {
    let milliseconds = match unit {
        TimeUnit::Milliseconds => value,
        TimeUnit::Seconds => value.checked_mul(1000).ok_or(Wrong::Range)?,
        TimeUnit::Auto if value.unsigned_abs() >= MILLISECONDS_FROM.unsigned_abs() => value,
        TimeUnit::Auto => value * 1000,
        TimeUnit::Rfc3339 => return Err(Wrong::Syntax),
    };
    in_range(milliseconds)
}

/// Applies a unit to a floating point number; what is finer than a millisecond is rounded.
pub(super) fn from_float(value: f64, unit: TimeUnit) -> Result<i64, Wrong> {
    let scale = match unit {
        TimeUnit::Milliseconds => 1.0,
        TimeUnit::Seconds => 1000.0,
        TimeUnit::Auto if value.abs() >= MILLISECONDS_FROM as f64 => 1.0,
        TimeUnit::Auto => 1000.0,
        TimeUnit::Rfc3339 => return Err(Wrong::Syntax),
    };
    if value.is_nan() {
        return Err(Wrong::Syntax);
    }
    // The cast saturates, and the ends of i64 are out of range.
    in_range((value * scale).round() as i64)
}

#[inline]
fn in_range(milliseconds: i64) -> Result<i64, Wrong> {
    if RANGE.contains(&milliseconds) { Ok(milliseconds) } else { Err(Wrong::Range) }
}

/// An integer, or a decimal number.
#[inline]
fn number(text: &[u8], unit: TimeUnit) -> Result<i64, Wrong> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    // 18 digits cannot overflow.
    if digits.is_empty() || digits.len() > 18 {
        return decimal(text, unit);
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return decimal(text, unit);
        }
        value = value * 10 + i64::from(digit);
    }
    from_integer(if negative { -value } else { value }, unit)
}

/// Numbers with a fraction or an exponent. An f64 holds a time of this range to better than a hundredth of a millisecond.
#[cold]
fn decimal(text: &[u8], unit: TimeUnit) -> Result<i64, Wrong> {
    if !text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E')) {
        return Err(Wrong::Syntax);
    }
    let text = std::str::from_utf8(text).map_err(|_| Wrong::Syntax)?;
    from_float(text.parse().map_err(|_| Wrong::Syntax)?, unit)
}

/// `YYYY-MM-DD`, optionally followed by `T` or a space, `HH:MM`, `:SS`, a fraction, and an offset.
fn date_time(text: &[u8]) -> Result<i64, Wrong> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    byte(&mut rest, b'-')?;
    let month = digits(&mut rest, 2)?;
    byte(&mut rest, b'-')?;
    let day = digits(&mut rest, 2)?;
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return Err(Wrong::Syntax);
    }
    if year == 0 {
        return Err(Wrong::Range);
    }
    let midnight = days_since_1970(year, month, day) * 86_400_000;
    let [b'T' | b't' | b' ', clock @ ..] = rest else {
        return if rest.is_empty() { in_range(midnight) } else { Err(Wrong::Syntax) };
    };
    let mut rest = clock;
    let hour = digits(&mut rest, 2)?;
    byte(&mut rest, b':')?;
    let minute = digits(&mut rest, 2)?;
    let mut second = 0;
    let mut millisecond = 0;
    if rest.first() == Some(&b':') {
        rest = &rest[1..];
        second = digits(&mut rest, 2)?;
        if let [b'.' | b',', fraction @ ..] = rest {
            let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if length == 0 {
                return Err(Wrong::Syntax);
            }
            let digits = fraction[..length].iter().map(|digit| i64::from(digit - b'0'));
            millisecond = digits.chain([0, 0]).take(3).fold(0, |sum, digit| sum * 10 + digit);
            rest = &fraction[length..];
        }
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err(Wrong::Syntax);
    }
    // A leap second is the last millisecond before the minute turns.
    if second == 60 {
        (second, millisecond) = (59, 999);
    }
    let clock = ((hour * 60 + minute) * 60 + second) * 1000 + millisecond;
    in_range(midnight + clock - offset_minutes(rest)? * 60_000)
}

/// Nothing, `Z`, `UTC`, `GMT`, `±HH:MM`, `±HHMM` or `±HH`, with or without a space before it.
fn offset_minutes(text: &[u8]) -> Result<i64, Wrong> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, mut rest) = match text {
        [] | [b'Z' | b'z'] | b"UTC" | b"GMT" => return Ok(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return Err(Wrong::Syntax),
    };
    let hours = digits(&mut rest, 2)?;
    let mut minutes = 0;
    if !rest.is_empty() {
        rest = rest.strip_prefix(b":").unwrap_or(rest);
        minutes = digits(&mut rest, 2)?;
    }
    if hours > 23 || minutes > 59 || !rest.is_empty() {
        return Err(Wrong::Syntax);
    }
    Ok(sign * (hours * 60 + minutes))
}

/// Takes exactly `count` digits.
#[inline]
fn digits(rest: &mut &[u8], count: usize) -> Result<i64, Wrong> {
    let (head, tail) = rest.split_at_checked(count).ok_or(Wrong::Syntax)?;
    let mut value = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return Err(Wrong::Syntax);
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    *rest = tail;
    Ok(value)
}

/// Takes `expected`.
#[inline]
fn byte(rest: &mut &[u8], expected: u8) -> Result<(), Wrong> {
    match rest {
        [first, tail @ ..] if *first == expected => {
            *rest = tail;
            Ok(())
        }
        _ => Err(Wrong::Syntax),
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the leap day is
/// their last (Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;
    use time::{OffsetDateTime, UtcOffset};

    use super::*;

    fn auto(text: &str) -> Result<i64, Wrong> {
        parse(text.as_bytes(), TimeUnit::Auto)
    }

    #[test]
    fn numbers_carry_their_unit() {
        assert_eq!(auto("1700000000"), Ok(1_700_000_000_000));
        assert_eq!(auto("1700000000123"), Ok(1_700_000_000_123));
        assert_eq!(auto("1700000000.123"), Ok(1_700_000_000_123));
        assert_eq!(auto("1.7e9"), Ok(1_700_000_000_000));
        assert_eq!(auto("-1.5"), Ok(-1500));
        assert_eq!(auto("99999999999"), Ok(99_999_999_999_000));
        assert_eq!(auto("100000000000"), Ok(100_000_000_000));
        assert_eq!(parse(b"5", TimeUnit::Milliseconds), Ok(5));
        assert_eq!(parse(b"5", TimeUnit::Seconds), Ok(5000));
        assert_eq!(parse(b"5", TimeUnit::Rfc3339), Err(Wrong::Syntax));
        assert_eq!(parse(b"2024-01-01", TimeUnit::Seconds), Err(Wrong::Syntax));
        assert_eq!(auto("1700000000000000"), Err(Wrong::Range), "microseconds");
        assert_eq!(auto("99999999999999999999999"), Err(Wrong::Range));
        assert_eq!(parse(b"9223372036854775807", TimeUnit::Seconds), Err(Wrong::Range));
        for text in ["", "-", "abc", "nan", "inf", "1e", "1 2", "0x10", "1.2.3", "12:30"] {
            assert_eq!(auto(text), Err(Wrong::Syntax), "{text}");
        }
    }

    #[test]
    fn dates_have_many_spellings() {
        let noon = 1_706_702_400_000;
        for text in [
            "2024-01-31T12:00:00Z",
            "2024-01-31t12:00:00z",
            "2024-01-31 12:00:00",
            "2024-01-31 12:00:00 UTC",
            "2024-01-31 12:00",
            "2024-01-31T12:00:00.000999Z",
            "2024-01-31T14:30:00+02:30",
            "2024-01-31T14:30:00+0230",
            "2024-01-31 07:00:00-05",
        ] {
            assert_eq!(auto(text), Ok(noon), "{text}");
            assert_eq!(parse(text.as_bytes(), TimeUnit::Rfc3339), Ok(noon), "{text}");
        }
        assert_eq!(auto("2024-01-31"), Ok(noon - 12 * 3_600_000));
        assert_eq!(auto("2016-12-31T23:59:60Z"), Ok(1_483_228_799_999));
        for text in [
            "2024-1-31",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024-01-31T",
            "2024-01-31T24:00:00Z",
            "2024-01-31T12:60:00Z",
            "2024-01-31T12:00:00.Z",
            "2024-01-31T12:00:00+",
            "2024-01-31T12:00:00+1",
            "2024-01-31T12:00:00+24:00",
            "2024-01-31T12:00:00Zulu",
            "2024-01-31x",
        ] {
            assert_eq!(auto(text), Err(Wrong::Syntax), "{text}");
        }
        assert_eq!(auto("0000-01-01"), Err(Wrong::Range));
        assert_eq!(auto("0001-01-01T00:00:00+01:00"), Err(Wrong::Range));
    }

    proptest! {
        #[test]
        fn rfc3339_is_read_as_the_time_crate_does(
            seconds in -62_135_000_000i64..253_402_000_000,
            nanoseconds in 0i64..1_000_000_000,
            offset in -1439i32..1440,
        ) {
            let moment = OffsetDateTime::from_unix_timestamp(seconds).unwrap() + time::Duration::nanoseconds(nanoseconds);
            let offset = UtcOffset::from_whole_seconds(offset * 60).unwrap();
            if let Some(local) = moment.checked_to_offset(offset)
                && let Ok(text) = local.format(&Rfc3339)
            {
                prop_assert_eq!(auto(&text), Ok(seconds * 1000 + nanoseconds / 1_000_000), "{}", text);
            }
        }

        #[test]
        fn text_is_accepted_only_where_the_time_crate_does(
            text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-5][0-9](Z|[+-][01][0-9]:[0-5][0-9])"
        ) {
            let oracle = OffsetDateTime::parse(&text, &Rfc3339);
            let ours = auto(&text);
            match oracle {
                Ok(moment) => {
                    let milliseconds = (moment.unix_timestamp_nanos() / 1_000_000) as i64;
                    prop_assert_eq!(ours, in_range(milliseconds).and(if text.starts_with("0000") {
                        Err(Wrong::Range)
                    } else {
                        Ok(milliseconds)
                    }));
                }
                Err(_) => prop_assert!(ours.is_err(), "{} was read as {:?}", text, ours),
            }
        }

        #[test]
        fn any_bytes_are_answered(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            for unit in [TimeUnit::Auto, TimeUnit::Seconds, TimeUnit::Milliseconds, TimeUnit::Rfc3339] {
                let _ = parse(&text, unit);
            }
        }

        #[test]
        fn integers_are_read_exactly(value in any::<i64>()) {
            prop_assert_eq!(parse(value.to_string().as_bytes(), TimeUnit::Milliseconds), in_range(value));
        }
    }
}
