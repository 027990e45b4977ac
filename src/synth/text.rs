//! Rows as CSV, TSV and NDJSON, written digit by digit.

use super::config::SynthConfig;
use super::rows::{EVENTS, Row};
use super::write::SynthFormat;

/// The fixed texts between the values of a row.
pub(super) struct TextLayout {
    user: &'static str,
    item: &'static str,
    time: &'static str,
    weight: Option<&'static str>,
    event: Option<&'static str>,
    end: &'static str,
    header: String,
}

impl TextLayout {
    pub(super) fn new(format: SynthFormat, config: &SynthConfig) -> Self {
        let ids = !config.integer_ids;
        let separated = |comma: &'static str, user: &'static str, item: &'static str| {
            let names = [Some("user"), Some("item"), Some("time"), config.weights.then_some("weight")];
            let names: Vec<_> = names.into_iter().chain([config.events.then_some("event")]).flatten().collect();
            Self {
                user,
                item,
                time: comma,
                weight: config.weights.then_some(comma),
                event: config.events.then_some(comma),
                end: "\n",
                header: names.join(comma) + "\n",
            }
        };
        match format {
            SynthFormat::Tsv => separated("\t", if ids { "u" } else { "" }, if ids { "\ti" } else { "\t" }),
            SynthFormat::Ndjson => Self {
                user: if ids { "{\"user\":\"u" } else { "{\"user\":" },
                item: if ids { "\",\"item\":\"i" } else { ",\"item\":" },
                time: if ids { "\",\"time\":" } else { ",\"time\":" },
                weight: config.weights.then_some(",\"weight\":"),
                event: config.events.then_some(",\"event\":\""),
                end: if config.events { "\"}\n" } else { "}\n" },
                header: String::new(),
            },
            // Parquet never comes here: see `columns`.
            SynthFormat::Csv | SynthFormat::Parquet => {
                separated(",", if ids { "u" } else { "" }, if ids { ",i" } else { "," })
            }
        }
    }

    /// The header line, empty for NDJSON.
    pub(super) fn header(&self) -> &[u8] {
        self.header.as_bytes()
    }

    /// Appends the rows of one user.
    pub(super) fn write(&self, user: u64, rows: &[Row], out: &mut Vec<u8>) {
        // What precedes the item's number is the same for all rows of a user.
        let mut lead = Vec::with_capacity(48);
        lead.extend_from_slice(self.user.as_bytes());
        push_number(&mut lead, user);
        lead.extend_from_slice(self.item.as_bytes());
        for row in rows {
            out.extend_from_slice(&lead);
            push_number(out, u64::from(row.item));
            out.extend_from_slice(self.time.as_bytes());
            push_number(out, row.time.unsigned_abs());
            if let Some(before) = self.weight {
                out.extend_from_slice(before.as_bytes());
                out.push(b'0' + row.halves / 2);
                out.extend_from_slice(if row.halves.is_multiple_of(2) { b".0" } else { b".5" });
            }
            if let Some(before) = self.event {
                out.extend_from_slice(before.as_bytes());
                out.extend_from_slice(EVENTS[row.event as usize].as_bytes());
            }
            out.extend_from_slice(self.end.as_bytes());
        }
    }
}

/// All two-digit numbers, one after the other.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut n = 0;
    while n < 100 {
        pairs[2 * n] = b'0' + (n / 10) as u8;
        pairs[2 * n + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    pairs
};

/// Appends a number in decimal digits, two at a time.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while number >= 100 {
        let pair = (number % 100) as usize * 2;
        number /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number >= 10 {
        let pair = number as usize * 2;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_display_does() {
        let mut numbers = vec![0, 9, 10, 99, 100, 101, 12345, u64::MAX];
        numbers.extend((0..64).map(|shift| 0x9e37_79b9_7f4a_7c15u64 >> shift));
        for number in numbers {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn rows_look_as_documented() {
        let row = Row { item: 42, time: 1_704_067_200, halves: 9, event: 1 };
        let text = |format, integer_ids, labels| {
            let config = SynthConfig { integer_ids, weights: labels, events: labels, ..SynthConfig::default() };
            let layout = TextLayout::new(format, &config);
            let mut out = layout.header().to_vec();
            layout.write(7, &[row], &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(SynthFormat::Csv, false, false), "user,item,time\nu7,i42,1704067200\n");
        assert_eq!(text(SynthFormat::Csv, true, true), "user,item,time,weight,event\n7,42,1704067200,4.5,cart\n");
        assert_eq!(text(SynthFormat::Tsv, false, false), "user\titem\ttime\nu7\ti42\t1704067200\n");
        assert_eq!(
            text(SynthFormat::Ndjson, false, true),
            "{\"user\":\"u7\",\"item\":\"i42\",\"time\":1704067200,\"weight\":4.5,\"event\":\"cart\"}\n"
        );
        assert_eq!(text(SynthFormat::Ndjson, true, false), "{\"user\":7,\"item\":42,\"time\":1704067200}\n");
    }
}
