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
#[derive(Clone, Copy)]
struct Placed {
    /// What it is if it is held out as a whole.
    whole: Merged,
    /// What it is otherwise.
    rest: Merged,
    part: Part,
    /// Whether the splits may hold it out.
    open: bool,
}

/// The interactions that leave-one-out takes from a user, by item.
#[derive(Clone, Copy, Default)]
struct LeftOut {
    test: Option<u32>,
    valid: Option<u32>,
}

impl Assign {
    /// Places the interactions of a user: `emit` is called with each, by item. `item_hash` gives the hash of an item as
    /// numbered in `user`. Returns whether leave-one-out found too few interactions.
    ///
    /// A pair with rows in several parts belongs to the earliest of train, valid and test, with these rows only.
    /// Nothing is held besides `user`: interactions are placed anew each time they are looked at.
    pub(super) fn user(
        &self,
        user: &User,
        item_hash: impl Fn(u32) -> u64,
        mut emit: impl FnMut(Part, &Merged),
    ) -> bool {
        let mut left_out = LeftOut::default();
        let mut too_few = false;
        if self.split == Split::LeaveOneOut {
            // One to leave out, or two, and at least one to learn from.
            let least = if self.valid_split == Split::LeaveOneOut { 3 } else { 2 };
            let (open, last) = self.last(Part::Test, user, &item_hash, left_out);
            left_out.test = last.filter(|_| open >= least);
            too_few = open < least;
        }
        if self.valid_split == Split::LeaveOneOut {
            let (open, last) = self.last(Part::Valid, user, &item_hash, left_out);
            // Both are left out, or neither.
            too_few |= open < 2;
            left_out.valid = last.filter(|_| !too_few);
        }
        for rows in pairs(user) {
            let mut placed = self.place(rows);
            self.hold_out(Part::Test, user.hash, &item_hash, left_out, &mut placed);
            self.hold_out(Part::Valid, user.hash, &item_hash, left_out, &mut placed);
            emit(placed.part, &placed.rest);
        }
        too_few
    }

    /// A pair as its rows alone place it.
    fn place(&self, rows: &[Merged]) -> Placed {
        let first = rows[0];
        let mut whole = first;
        // What is valid by time is still open to a test split of another kind, with all its rows.
        let by_time = self.valid_split.is_by_time();
        if by_time && first.part == Part::Train {
            rows[1..].iter().filter(|r| r.part == Part::Valid).for_each(|r| whole.absorb(r));
        }
        let open = first.part == Part::Train || (by_time && first.part == Part::Valid);
        Placed { whole, rest: first, part: first.part, open }
    }

    /// How many interactions are open to the split of `part`, and the item of the latest one.
    fn last(
        &self,
        part: Part,
        user: &User,
        item_hash: &impl Fn(u32) -> u64,
        left_out: LeftOut,
    ) -> (usize, Option<u32>) {
        let (mut open, mut last) = (0, None);
        for rows in pairs(user) {
            let mut placed = self.place(rows);
            if part == Part::Valid {
                self.hold_out(Part::Test, user.hash, item_hash, left_out, &mut placed);
                // What the test split left is open to the validation split where it is train.
                placed.open &= placed.part == Part::Train;
            }
            if placed.open {
                open += 1;
                let time = if part == Part::Test { placed.whole.time } else { placed.rest.time };
                let item = item_hash(rows[0].item);
                let key = (time, pair_hash(self.seed, part as u8, user.hash, item), item);
                if last.is_none_or(|(other, _)| key >= other) {
                    last = Some((key, rows[0].item));
                }
            }
        }
        (open, last.map(|(_, item)| item))
    }

    /// Moves `placed` to `part` if its split holds it out.
    fn hold_out(&self, part: Part, user: u64, item_hash: &impl Fn(u32) -> u64, left_out: LeftOut, placed: &mut Placed) {
        let item = placed.rest.item;
        let (split, left_out) = match part {
            Part::Test => (self.split, left_out.test),
            _ => (self.valid_split, left_out.valid),
        };
        let open = placed.open && (part == Part::Test || placed.part == Part::Train);
        let held_out = match split {
            Split::LeaveOneOut => left_out == Some(item),
            Split::Random(fraction) => {
                let below = (fraction * 2f64.powi(64)) as u64;
                open && pair_hash(self.seed, part as u8, user, item_hash(item)) < below
            }
            _ => false,
        };
        if open && held_out {
            (placed.part, placed.open) = (part, false);
            if part == Part::Test {
                placed.rest = placed.whole;
            }
        }
    }
}

/// The rows of each pair.
fn pairs(user: &User) -> impl Iterator<Item = &[Merged]> {
    user.rows.chunk_by(|a, b| a.item == b.item)
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
