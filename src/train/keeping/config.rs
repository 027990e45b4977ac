//! How often a run is made safe against interruptions, and what it does when it diverges.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::train::TrainError;

/// What is kept of a run while it trains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// When checkpoints are taken.
    pub every: CheckpointEvery,
}

/// When checkpoints are taken; as text `10m` (also `ms`, `s`, `h`, `d`), `50M-triples` (also `k`, `G`, or a plain
/// number), `epoch` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum CheckpointEvery {
    /// Never, not even when the run is interrupted.
    Off,
    /// After so much time, or later where the pauses would else come to more than a hundredth of it. When the run is
    /// interrupted as well, as with those below.
    Time(Duration),
    /// After so many triples (user, positive, negative).
    Triples(u64),
    /// After each epoch.
    Epoch,
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        Self::Time(Duration::from_secs(600))
    }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const COUNTS: [(&str, u64); 4] = [("G", 1_000_000_000), ("M", 1_000_000), ("k", 1000), ("", 1)];

impl fmt::Display for CheckpointEvery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut number = |all: u64, units: &[(&str, u64)], behind: &str| {
            let (name, unit) = units.iter().find(|(_, unit)| all.is_multiple_of(*unit)).unwrap_or(&("", 1));
            write!(f, "{}{name}{behind}", all / unit)
        };
        match self {
            Self::Off => f.write_str("off"),
            Self::Epoch => f.write_str("epoch"),
            Self::Time(time) => number(time.as_millis() as u64, &UNITS, ""),
            Self::Triples(triples) => number(*triples, &COUNTS, "-triples"),
        }
    }
}

impl FromStr for CheckpointEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no interval of checkpoints: write one such as 10m, 90s, 2h, 50M-triples, 50000000-triples, \
                 epoch or off"
            )
        };
        let number = |text: &str, units: &[(&str, u64)]| -> Option<u64> {
            let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
            let (number, name) = text.split_at(split);
            let unit = units.iter().find(|(unit, _)| *unit == name)?.1;
            let value = number.parse::<f64>().ok()? * unit as f64;
            (1.0..=1e15).contains(&value).then_some(value as u64)
        };
        match text.trim() {
            "off" => Ok(Self::Off),
            "epoch" => Ok(Self::Epoch),
            text => match text.strip_suffix("-triples") {
                Some(count) => number(count, &COUNTS).map(Self::Triples),
                None => number(text, &UNITS).map(|ms| Self::Time(Duration::from_millis(ms))),
            }
            .ok_or_else(wrong),
        }
    }
}

impl From<CheckpointEvery> for String {
    fn from(every: CheckpointEvery) -> Self {
        every.to_string()
    }
}

impl TryFrom<String> for CheckpointEvery {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What a run does when it diverges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DivergenceConfig {
    /// How often it may go back to a checkpoint, or to its start, with a lower learning rate; 0: it stops.
    pub rollbacks: u32,
    /// What the learning rate is multiplied by each time.
    pub factor: f64,
}

impl Default for DivergenceConfig {
    fn default() -> Self {
        Self { rollbacks: 3, factor: 0.5 }
    }
}

impl DivergenceConfig {
    pub(in crate::train) fn validate(&self) -> Result<(), TrainError> {
        if self.factor > 0.0 && self.factor < 1.0 {
            return Ok(());
        }
        Err(TrainError::Config {
            key: "divergence.factor".into(),
            value: self.factor.to_string(),
            must: "be above 0 and below 1; to stop at the first divergence set divergence.rollbacks = 0 \
                   (--no-rollback)"
                .into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn intervals_are_read_and_written() {
        for (text, every) in [
            ("10m", CheckpointEvery::default()),
            ("90s", CheckpointEvery::Time(Duration::from_secs(90))),
            ("250ms", CheckpointEvery::Time(Duration::from_millis(250))),
            ("36h", CheckpointEvery::Time(Duration::from_secs(36 * 3600))),
            ("50M-triples", CheckpointEvery::Triples(50_000_000)),
            ("1234-triples", CheckpointEvery::Triples(1234)),
            ("epoch", CheckpointEvery::Epoch),
            ("off", CheckpointEvery::Off),
        ] {
            assert_eq!(text.parse(), Ok(every));
            assert_eq!(every.to_string(), text);
        }
        assert_eq!("50000000-triples".parse(), Ok(CheckpointEvery::Triples(50_000_000)));
        assert_eq!("1.5h".parse(), Ok(CheckpointEvery::Time(Duration::from_secs(5400))));
        for text in
            ["", "10", "0s", "-1s", "10M", "m", "triples", "-triples", "5x-triples", "epochs", "1e9d", "9999999999d"]
        {
            assert!(text.parse::<CheckpointEvery>().is_err_and(|e| e.contains("10m")), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_interval_survives_its_text(number in 1u64..1_000_000_000, time: bool) {
            let every = match time {
                true => CheckpointEvery::Time(Duration::from_millis(number)),
                false => CheckpointEvery::Triples(number),
            };
            prop_assert_eq!(every.to_string().parse(), Ok(every));
        }
    }
}
