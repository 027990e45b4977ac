//! Which interactions are held out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::merge::{Merged, User};
use super::read::date;
use crate::dataset::Part;

/// How interactions are chosen to be held out. Written as `none`, `leave-one-out`, `random:0.1`, `time:0.1` or
/// `time:2024-01-01`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Split {
    /// None is.
    #[default]
    None,
    /// Each user's latest one; without times a random one.
    LeaveOneOut,
    /// Each with this probability.
    Random(f64),
    /// About this fraction of the rows: the latest ones.
    TimeFraction(f64),
    /// All from this moment on, in milliseconds since 1970-01-01 UTC.
    TimeAt(i64),
}

impl Split {
    /// Whether it needs times.
    pub(super) fn is_by_time(self) -> bool {
        matches!(self, Self::TimeFraction(_) | Self::TimeAt(_))
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fraction = |value: &str| {
            let fraction = value.parse::<f64>().ok().filter(|f| *f > 0.0 && *f < 1.0);
            fraction.ok_or_else(|| format!("'{value}' is not a fraction between 0 and 1"))
        };
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "leave-one-out" => Ok(Self::LeaveOneOut),
            Some(("random", value)) => fraction(value).map(Self::Random),
            Some(("time", value)) => match date(value) {
                Some(time) => Ok(Self::TimeAt(time)),
                None => fraction(value).map(Self::TimeFraction).map_err(|e| format!("{e}, nor a date")),
            },
            _ => Err(format!(
                "unknown split '{text}'; it is none, leave-one-out, random:0.1, time:0.1 or time:2024-01-01"
            )),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::LeaveOneOut => f.write_str("leave-one-out"),
            Self::Random(fraction) => write!(f, "random:{fraction}"),
            Self::TimeFraction(fraction) => write!(f, "time:{fraction}"),
            Self::TimeAt(time) => {
                let nanoseconds = i128::from(*time) * 1_000_000;
                let date = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
                match date.and_then(|d| d.format(&Rfc3339).ok()) {
                    Some(date) => write!(f, "time:{date}"),
                    None => write!(f, "time:{time}"),
                }
            }
        }
    }
}

impl TryFrom<String> for Split {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Split> for String {
    fn from(split: Split) -> Self {
        split.to_string()
    }
}

/// A uniform number that depends on nothing but the seed, the salt and the pair's hashes.
pub(super) fn pair_hash(seed: u64, salt: u8, user: u64, item: u64) -> u64 {
    let mut bytes = [0u8; 17];
    bytes[..8].copy_from_slice(&user.to_le_bytes());
    bytes[8..16].copy_from_slice(&item.to_le_bytes());
    bytes[16] = salt;
    xxh3_64_with_seed(&bytes, seed)
}

/// Where each of a user's interactions goes.
pub(super) struct Assign {
    pub(super) split: Split,
    pub(super) valid_split: Split,
    pub(super) seed: u64,
}

/// An interaction on its way to a part.
struct Placed {
    /// What it is if it is held out as a whole.
    whole: Merged,
    /// What it is otherwise.
    rest: Merged,
    part: Part,
    /// Whether the splits may hold it out.
    open: bool,
    hash: u64,
}

/// Buffers of [`Assign::user`].
#[derive(Default)]
pub(super) struct Assigned {
    placed: Vec<Placed>,
    /// The user was to be split by leave-one-out but has too few interactions.
    pub(super) too_few: bool,
}

impl Assigned {
    /// Interactions by item, each in its part.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Part, &Merged)> {
        self.placed.iter().map(|p| (p.part, &p.rest))
    }
}

impl Assign {
    /// Places the interactions of a user; `item_hash` gives the hash of an item as numbered in `user`.
    ///
    /// A pair with rows in several parts belongs to the earliest of train, valid and test, with these rows only.
    pub(super) fn user(&self, user: &User, item_hash: impl Fn(u32) -> u64, out: &mut Assigned) {
        let placed = &mut out.placed;
        placed.clear();
        out.too_few = false;
        let hashed = !matches!((self.split, self.valid_split), (Split::None, Split::None));
        for rows in user.rows.chunk_by(|a, b| a.item == b.item) {
            let first = rows[0];
            let mut whole = first;
            // What is valid by time is still open to a test split of another kind, with all its rows.
            let by_time = self.valid_split.is_by_time();
            if by_time && first.part == Part::Train {
                rows[1..].iter().filter(|r| r.part == Part::Valid).for_each(|r| whole.absorb(r));
            }
            let open = first.part == Part::Train || (by_time && first.part == Part::Valid);
            let hash = if hashed { item_hash(first.item) } else { 0 };
            placed.push(Placed { whole, rest: first, part: first.part, open, hash });
        }
        let mut may_leave_out = true;
        if self.split == Split::LeaveOneOut {
            // One to leave out, or two, and at least one to learn from.
            let least = if self.valid_split == Split::LeaveOneOut { 3 } else { 2 };
            may_leave_out = placed.iter().filter(|p| p.open).count() >= least;
            out.too_few |= !may_leave_out;
        }
        self.hold_out(self.split, Part::Test, may_leave_out, user.hash, placed);
        // What the test split left is open to the validation split where it is train.
        placed.iter_mut().for_each(|p| p.open &= p.part == Part::Train);
        if self.valid_split == Split::LeaveOneOut {
            may_leave_out &= placed.iter().filter(|p| p.open).count() > 1;
            out.too_few |= !may_leave_out;
        }
        self.hold_out(self.valid_split, Part::Valid, may_leave_out, user.hash, placed);
    }

    fn hold_out(&self, split: Split, part: Part, may_leave_out: bool, user: u64, placed: &mut [Placed]) {
        let hash = |p: &Placed| pair_hash(self.seed, part as u8, user, p.hash);
        let mut take = |p: &mut Placed| {
            (p.part, p.open) = (part, false);
            if part == Part::Test {
                p.rest = p.whole;
            }
        };
        match split {
            Split::LeaveOneOut if may_leave_out => {
                let time = |p: &Placed| if part == Part::Test { p.whole.time } else { p.rest.time };
                let open = placed.iter_mut().filter(|p| p.open);
                if let Some(last) = open.max_by_key(|p| (time(p), hash(p), p.hash)) {
                    take(last);
                }
            }
            Split::Random(fraction) => {
                let below = (fraction * 2f64.powi(64)) as u64;
                placed.iter_mut().filter(|p| p.open && hash(p) < below).for_each(&mut take);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_and_written() {
        for text in ["none", "leave-one-out", "random:0.1", "time:0.25", "time:2024-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Split>().unwrap().to_string(), text);
        }
        assert_eq!("time:2024-01-01".parse(), Ok(Split::TimeAt(1_704_067_200_000)));
        assert_eq!("time:2024-01-01T12:00:00+01:00".parse(), Ok(Split::TimeAt(1_704_106_800_000)));
        for text in ["", "random", "random:0", "random:1", "random:x", "time:", "time:soon", "time:2024-13-01"] {
            assert!(text.parse::<Split>().is_err(), "{text}");
        }
    }
}
