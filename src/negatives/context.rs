//! The same context: which items were taken in the same stretch of time as a positive, or with the same value of a column
//! of context, such as the device.

use std::ops::Range;

use rkyv::rend::u32_le;

use super::NegativesConfig;
use crate::context::{Context, Interrupted};
use crate::dataset::{Contexts, Dataset, Interactions};
use crate::nearest::did_you_mean;

/// What makes contexts the same.
#[derive(Clone, Copy)]
enum By<'a> {
    /// The stretch of time: `length` milliseconds, counted from 1970-01-01 UTC, so that days are days of UTC. `first` is
    /// the number of the stretch of the first interaction.
    Time { length: i64, first: i64 },
    /// The value of a column: that of each combination is in `values`.
    Column { contexts: &'a Contexts, values: &'a [u32_le] },
}

/// The items of each context: those with at least one train interaction in it.
pub(crate) struct SameContext<'a> {
    by: By<'a>,
    /// Distinct pairs of a context, by number, in the high half and an item in the low half; ascending.
    pairs: Vec<u64>,
}

impl<'a> SameContext<'a> {
    /// Bytes for each interaction while it is built.
    pub(crate) const BYTES: u64 = 8;

    /// From all train interactions, by what `text` asks for. O(n log n). `None` where the dataset has no such context;
    /// plans refuse that.
    pub(crate) fn new(dataset: &'a Dataset, text: &str, ctx: &Context) -> Result<Option<Self>, Interrupted> {
        let interactions = dataset.train();
        let by = match stretch_length(text) {
            Some(length) => {
                let first = interactions.summary().time_range.map_or(0, |(first, _)| first.div_euclid(length));
                By::Time { length, first }
            }
            None => {
                let column = dataset.contexts().and_then(|contexts| Some((contexts, contexts.column(text)?)));
                let Some((contexts, column)) = column else { return Ok(None) };
                By::Column { contexts, values: contexts.values(column) }
            }
        };
        let mut context = Self { by, pairs: Vec::with_capacity(interactions.len() as usize) };
        for c in 0..interactions.chunks() {
            ctx.check()?;
            let chunk = interactions.chunk(c);
            match by {
                By::Time { .. } => {
                    for u in 0..chunk.users() {
                        let user = chunk.user(u);
                        for (item, time) in user.items.iter().zip(user.times) {
                            context.pairs.push(context.stretch(time.to_native()) << 32 | u64::from(item.to_native()));
                        }
                    }
                }
                By::Column { contexts, values } => {
                    let of = |code: &u32_le| u64::from(values[code.to_native() as usize].to_native());
                    let codes = contexts.chunk(c).iter().map(of);
                    let pairs = codes.zip(chunk.items()).map(|(of, item)| of << 32 | u64::from(item.to_native()));
                    context.pairs.extend(pairs);
                    contexts.release(c);
                }
            }
            interactions.release(c);
        }
        context.pairs.sort_unstable();
        context.pairs.dedup();
        context.pairs.shrink_to_fit();
        Ok(Some(context))
    }

    /// The number of the stretch that `time` is in. All beyond 2³² are taken for one: of minutes these are 8,000 years.
    fn stretch(&self, time: i64) -> u64 {
        match self.by {
            By::Time { length, first } => (time.div_euclid(length) - first).clamp(0, u32::MAX.into()) as u64,
            By::Column { .. } => 0,
        }
    }

    /// The number of the context of `user`'s interaction with `item`.
    fn of(&self, interactions: &Interactions, user: u32, item: u32) -> Option<u64> {
        let own = interactions.user(user);
        let at = own.items.binary_search_by_key(&item, |i| i.to_native()).ok()?;
        match self.by {
            By::Time { .. } => own.times.get(at).map(|time| self.stretch(time.to_native())),
            By::Column { contexts, values } => {
                let code = contexts.user(interactions, user).get(at)?.to_native();
                values.get(code as usize).map(|value| u64::from(value.to_native()))
            }
        }
    }

    /// Where the items of the context of `user`'s interaction with `item` are. O(log interactions).
    pub(crate) fn around(&self, interactions: &Interactions, user: u32, item: u32) -> Range<usize> {
        let Some(context) = self.of(interactions, user, item) else { return 0..0 };
        let start = self.pairs.partition_point(|pair| pair >> 32 < context);
        start..start + self.pairs[start..].partition_point(|pair| pair >> 32 == context)
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

impl NegativesConfig {
    /// A context that `dataset` does not have, as it was asked for, and what it must be instead.
    pub(crate) fn missing_context(&self, dataset: &Dataset) -> Option<(String, String)> {
        let lacks = |text: &String| {
            if stretch_length(text).is_some() {
                let must = "be left out: the dataset has no times; or ingest the log again with --time-column";
                return (!dataset.manifest().columns.time).then(|| (text.clone(), must.to_string()));
            }
            let columns = dataset.contexts().map_or(&[][..], |contexts| &contexts.summary().columns);
            if columns.iter().any(|column| column.name == *text) {
                return None;
            }
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let guess = did_you_mean(text, names.iter().copied()).map_or(String::new(), |guess| format!("; {guess}"));
            let must = match &names[..] {
                [] => format!(
                    "be left out: the dataset has no columns of context; or ingest the log again with --context {text}; \
                     stretches of time are written as \"time:1d\""
                ),
                names => format!(
                    "be a column of context that the dataset has, {}, or a stretch of time, such as \"time:1d\"{guess}; or \
                     ingest the log again with --context {text}",
                    names.join(", ")
                ),
            };
            Some((text.clone(), must))
        };
        self.mix.iter().filter_map(|component| component.same_context.as_ref()).find_map(lacks)
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
