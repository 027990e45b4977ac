//! The same context: which items were taken in the same stretch of time as a positive.

use std::ops::Range;

use crate::context::{Context, Interrupted};
use crate::dataset::{Dataset, Interactions};

/// The items of each stretch of time: those with at least one train interaction in it. Stretches have one length and are
/// counted from 1970-01-01 UTC, so that days are days of UTC.
#[derive(Debug)]
pub(crate) struct SameContext {
    /// Milliseconds of a stretch.
    length: i64,
    /// Number of the stretch of the first interaction.
    first: i64,
    /// Distinct pairs of a stretch, from the first on, in the high half and an item in the low half; ascending.
    pairs: Vec<u64>,
}

impl SameContext {
    /// Bytes for each interaction while it is built.
    pub(crate) const BYTES: u64 = 8;

    /// From all train interactions. O(n log n).
    pub(crate) fn new(dataset: &Dataset, length: i64, ctx: &Context) -> Result<Self, Interrupted> {
        let interactions = dataset.train();
        let first = interactions.summary().time_range.map_or(0, |(first, _)| first.div_euclid(length));
        let mut context = Self { length, first, pairs: Vec::with_capacity(interactions.len() as usize) };
        for c in 0..interactions.chunks() {
            ctx.check()?;
            let chunk = interactions.chunk(c);
            for u in 0..chunk.users() {
                let user = chunk.user(u);
                for (item, time) in user.items.iter().zip(user.times) {
                    context.pairs.push(context.stretch(time.to_native()) << 32 | u64::from(item.to_native()));
                }
            }
            interactions.release(c);
        }
        context.pairs.sort_unstable();
        context.pairs.dedup();
        context.pairs.shrink_to_fit();
        Ok(context)
    }

    /// The number of the stretch that `time` is in. All beyond 2³² are taken for one: of minutes these are 8,000 years.
    fn stretch(&self, time: i64) -> u64 {
        (time.div_euclid(self.length) - self.first).clamp(0, u32::MAX.into()) as u64
    }

    /// Where the items of the stretch of `user`'s interaction with `item` are. O(log interactions).
    pub(crate) fn around(&self, interactions: &Interactions, user: u32, item: u32) -> Range<usize> {
        let of = interactions.user(user);
        let at = of.items.binary_search_by_key(&item, |i| i.to_native()).ok();
        let Some(time) = at.and_then(|at| of.times.get(at)) else { return 0..0 };
        let stretch = self.stretch(time.to_native());
        let start = self.pairs.partition_point(|pair| pair >> 32 < stretch);
        start..start + self.pairs[start..].partition_point(|pair| pair >> 32 == stretch)
    }

    /// The items there, ascending.
    pub(crate) fn items(&self, range: Range<usize>) -> Within<'_> {
        Within(&self.pairs[range])
    }
}

/// The items that candidates must be of, in the low halves, ascending.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a>(&'a [u64]);

impl Within<'_> {
    /// How many there are.
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// Item `index` of them.
    pub(crate) fn get(self, index: usize) -> Option<u32> {
        self.0.get(index).map(|pair| *pair as u32)
    }

    /// All of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|pair| *pair as u32)
    }

    /// Whether `item` is one of them. O(log items).
    pub(crate) fn contains(self, item: u32) -> bool {
        self.0.binary_search_by_key(&item, |pair| *pair as u32).is_ok()
    }
}

/// The length, in milliseconds, of the stretches that `text` asks for, such as `time:1d` or `time:90m`.
pub(crate) fn stretch_length(text: &str) -> Option<i64> {
    let length = text.strip_prefix("time:")?;
    let unit = match length.as_bytes().last()? {
        b'm' => 60_000,
        b'h' => 3_600_000,
        b'd' => 86_400_000,
        b'w' => 7 * 86_400_000,
        _ => return None,
    };
    let number: i64 = length[..length.len() - 1].parse().ok()?;
    (1..=100_000).contains(&number).then(|| number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_numbers_and_units() {
        for (text, length) in [
            ("time:1d", Some(86_400_000)),
            ("time:90m", Some(5_400_000)),
            ("time:2w", Some(1_209_600_000)),
            ("time:6h", Some(21_600_000)),
            ("time:0d", None),
            ("time:-1d", None),
            ("time:1", None),
            ("time:1é", None),
            ("time:", None),
            ("1d", None),
            ("device", None),
        ] {
            assert_eq!(stretch_length(text), length, "{text}");
        }
    }
}
