//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
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

/// A number in three digits: `0.00412`, `3.10`, `12.3M`.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    if !number.is_finite() {
        return "–".to_string();
    }
    for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // Rounding must not show "1000k".
        if size >= unit * 0.9995 {
            let value = number / unit;
            return format!("{value:.*}{name}", 2usize.saturating_sub(digits_before(value)));
        }
    }
    if size == 0.0 {
        return "0".to_string();
    }
    if number.fract() == 0.0 {
        return format!("{number:.0}");
    }
    if size < 1e-3 {
        return format!("{number:.2e}");
    }
    // Three digits behind the zeros.
    let decimals = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
    format!("{number:.decimals$}")
}

/// A round number as ticks have it: `1k`, `2.5M`, `0.02`.
pub(super) fn round(number: f64) -> String {
    let text = short(number);
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if !digits.contains('.') || unit.starts_with('e') {
        return text;
    }
    digits.trim_end_matches('0').trim_end_matches('.').to_string() + unit
}

/// Digits before the point, less one; rounding counted.
fn digits_before(value: f64) -> usize {
    match value.abs() {
        size if size < 9.995 => 0,
        size if size < 99.95 => 1,
        _ => 2,
    }
}

/// A metric: four decimals.
pub(super) fn metric(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { "–".to_string() }
}

/// A share as percent.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.*} %", usize::from(share.abs() < 0.0995), share * 100.0)
    } else {
        "–".to_string()
    }
}

/// Seconds as `12.3 s`, `4 min 10 s` or `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (number, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.0123456, "0.0123"),
            (3.14159, "3.14"),
            (999.6, "1.00k"),
            (12_345_678.0, "12.3M"),
            (-123_456.0, "-123k"),
            (1e-7, "1.00e-7"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(short(number), text);
        }
        let rounded: Vec<String> = [1e3, 2.5e6, 0.02, 300.0, 1e-7].into_iter().map(round).collect();
        assert_eq!(rounded, ["1k", "2.5M", "0.02", "300", "1.00e-7"]);
        assert_eq!((count(0), count(1_234_567)), ("0".to_string(), "1,234,567".to_string()));
        assert_eq!((percent(0.05), percent(0.876)), ("5.0 %".to_string(), "88 %".to_string()));
        assert_eq!((duration(3.25), duration(250.2)), ("3.2 s".to_string(), "4 min 10 s".to_string()));
    }
}
