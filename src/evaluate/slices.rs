//! Slices of users and of held-out interactions, each measured for itself.

use std::fmt;
use std::str::FromStr;

use super::by_attribute::ByAttribute;
use super::cases::Cases;
use super::{EvaluateError, EvaluateOptions};
use crate::context::Context;
use crate::dataset::{Contexts, Dataset, UserItems};
use crate::nearest::did_you_mean;

/// Values of a context column or an attribute that are slices of their own; the rest is one slice.
const VALUES: usize = 12;
/// Windows of time unless their number is given.
const WINDOWS: usize = 4;
const MOST_WINDOWS: usize = 100;
const DAY: i64 = 86_400_000;

/// By what to slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceBy {
    /// Users by their number of train interactions: quarters of the users.
    Activity,
    /// Held-out interactions by their item's number of train interactions: quarters of the interactions, and items that
    /// train never saw.
    Popularity,
    /// Held-out interactions by time: so many windows of equal length.
    Time(usize),
    /// Held-out interactions by event type.
    Event,
    /// Users by the value of a context column that most of their train interactions have.
    Context(String),
}

impl fmt::Display for SliceBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity => f.write_str("activity"),
            Self::Popularity => f.write_str("popularity"),
            Self::Time(_) => f.write_str("time"),
            Self::Event => f.write_str("event"),
            Self::Context(column) => f.write_str(column),
        }
    }
}

impl FromStr for SliceBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text.is_empty() => Err("name what to slice by, such as activity".into()),
            None => Ok(match text {
                "activity" => Self::Activity,
                "popularity" => Self::Popularity,
                "time" => Self::Time(WINDOWS),
                "event" => Self::Event,
                column => Self::Context(column.into()),
            }),
            Some(("time", windows)) => match windows.parse() {
                Ok(windows) if (1..=MOST_WINDOWS).contains(&windows) => Ok(Self::Time(windows)),
                _ => Err(format!("'{text}': write time:N for N windows of the held-out time, 1 to {MOST_WINDOWS}")),
            },
            Some(("context", column)) if !column.is_empty() => Ok(Self::Context(column.into())),
            _ => Err(format!("'{text}' is no slicing; write activity, popularity, time:4, event or context:COLUMN")),
        }
    }
}

/// The slices to measure. Number 0 is everybody; those of each axis follow.
pub(super) struct Slices<'a> {
    dataset: &'a Dataset,
    pub(super) axes: Vec<Axis<'a>>,
    /// Bytes of attributes.
    held: usize,
}

/// Slices of one kind, which share out users or interactions.
pub(super) struct Axis<'a> {
    pub(super) by: String,
    /// The number of the first.
    pub(super) first: usize,
    pub(super) names: Vec<String>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// The greatest count of each slice but the last.
    Activity(Vec<u32>),
    Popularity(Vec<u32>),
    Time {
        start: i64,
        length: i64,
    },
    Event,
    /// Of each value its slice.
    Context {
        contexts: &'a Contexts,
        column: usize,
        of: Vec<u16>,
    },
    Attribute(ByAttribute),
}

impl<'a> Slices<'a> {
    /// None but everybody.
    pub(super) fn none(dataset: &'a Dataset) -> Self {
        Self { dataset, axes: Vec::new(), held: 0 }
    }

    /// Those that `options` ask for. Goes through the users once for each; O(interactions) time.
    pub(super) fn new(
        dataset: &'a Dataset,
        cases: &Cases<'_>,
        options: &EvaluateOptions,
        ctx: &Context,
    ) -> Result<Self, EvaluateError> {
        let mut slices = Self::none(dataset);
        for by in &options.slices {
            let (kind, names) = Self::kind(dataset, cases, by, ctx)?;
            let first = slices.groups();
            slices.axes.push(Axis { by: by.to_string(), first, names, kind });
        }
        for (column, attribute) in options.attributes.iter().flat_map(|a| a.columns().iter().enumerate()) {
            let by = format!("item.{}", attribute.name);
            let attributes = options.attributes.as_ref().filter(|a| a.items() == dataset.items().len() as usize);
            let Some(attributes) = attributes else {
                let reason = "these attributes were read for the items of another dataset".into();
                return Err(EvaluateError::Slice { by, reason });
            };
            let (kind, names) = ByAttribute::new(attributes, column, cases, VALUES, ctx)?;
            let first = slices.groups();
            slices.held = attributes.bytes();
            slices.axes.push(Axis { by, first, names, kind: Kind::Attribute(kind) });
        }
        Ok(slices)
    }

    fn kind(
        dataset: &'a Dataset,
        cases: &Cases<'_>,
        by: &SliceBy,
        ctx: &Context,
    ) -> Result<(Kind<'a>, Vec<String>), EvaluateError> {
        let refuse = |reason: String| EvaluateError::Slice { by: by.to_string(), reason };
        match by {
            SliceBy::Activity => {
                let mut counts = Counts::new();
                cases.each_user(ctx, |user| counts.add(dataset.train().user(user).items.len() as u32))?;
                let (bounds, names) = counts.quarters();
                Ok((Kind::Activity(bounds), names))
            }
            SliceBy::Popularity => {
                let mut counts = Counts::new();
                cases.each_item(ctx, |item| counts.add(dataset.popularity()[item as usize].to_native()))?;
                let (bounds, names) = counts.quarters();
                Ok((Kind::Popularity(bounds), names))
            }
            SliceBy::Time(windows) => {
                let Some((start, end)) = cases.held_out.summary().time_range else {
                    return Err(refuse(
                        "the interactions have no times; ingest the log again with --time-column".into(),
                    ));
                };
                let length = ((end - start) / *windows as i64 + 1).max(1);
                let name = |w: usize| {
                    format!("{}..{}", date(start + w as i64 * length), date(start + (w as i64 + 1) * length))
                };
                Ok((Kind::Time { start, length }, (0..*windows).map(name).collect()))
            }
            SliceBy::Event => {
                let events = &dataset.manifest().events;
                if !dataset.manifest().columns.event || events.is_empty() {
                    return Err(refuse(
                        "the interactions have no event types; ingest the log again with --event-column".into(),
                    ));
                }
                Ok((Kind::Event, events.clone()))
            }
            SliceBy::Context(name) => {
                let Some(contexts) = dataset.contexts() else {
                    let known = ["activity", "popularity", "time", "event"];
                    let hint = did_you_mean(name, known.into_iter()).map_or(String::new(), |hint| hint + " Or ");
                    return Err(refuse(format!(
                        "{hint}ingest the log again with --context {name}: the dataset has none"
                    )));
                };
                let Some(column) = contexts.column(name) else {
                    let columns = || contexts.summary().columns.iter().map(|c| c.name.as_str());
                    let known = ["activity", "popularity", "time", "event"].into_iter().chain(columns());
                    let hint = did_you_mean(name, known).unwrap_or_default();
                    let columns = columns().collect::<Vec<_>>().join(", ");
                    return Err(refuse(format!("there is no such column of context, only {columns}; {hint}")));
                };
                let mut counts = vec![0u32; contexts.summary().columns[column].values as usize];
                let mut codes = Vec::new();
                cases.each_user(ctx, |user| {
                    if let Some(value) = dominant(dataset, contexts, column, user, &mut codes) {
                        counts[value as usize] += 1;
                    }
                })?;
                let mut order: Vec<u32> = (0..counts.len() as u32).filter(|v| counts[*v as usize] > 0).collect();
                order.sort_by_key(|value| (std::cmp::Reverse(counts[*value as usize]), *value));
                let shown = order.len().min(VALUES);
                let mut of = vec![shown as u16; counts.len()];
                order.iter().take(shown).enumerate().for_each(|(at, value)| of[*value as usize] = at as u16);
                let mut names: Vec<_> =
                    order.iter().take(shown).map(|value| contexts.value(column, *value).into_owned()).collect();
                names.push("(other)".into());
                Ok((Kind::Context { contexts, column, of }, names))
            }
        }
    }

    /// How many there are, everybody included.
    pub(super) fn groups(&self) -> usize {
        1 + self.axes.iter().map(|axis| axis.names.len()).sum::<usize>()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let of = |axis: &Axis<'_>| match &axis.kind {
            Kind::Context { of, .. } => of.len() * 2,
            Kind::Attribute(by) => by.bytes(),
            _ => 0,
        };
        self.held + self.axes.iter().map(of).sum::<usize>()
    }

    /// How many of them a user's rankings may count in.
    pub(super) fn most_of_a_user(&self, interactions: usize) -> usize {
        let of = |axis: &Axis<'_>| if axis.is_of_users() { 1 } else { axis.names.len().min(interactions) };
        1 + self.axes.iter().map(of).sum::<usize>()
    }

    /// Whether some are of interactions.
    pub(super) fn of_interactions(&self) -> bool {
        self.axes.iter().any(|axis| !axis.is_of_users())
    }

    /// The slices of users that `user` is in.
    pub(super) fn of_user(&self, user: u32) -> impl Iterator<Item = usize> + '_ {
        let mut codes = Vec::new();
        self.axes.iter().filter_map(move |axis| {
            let at = match &axis.kind {
                Kind::Activity(bounds) => place(bounds, self.dataset.train().user(user).items.len() as u32),
                Kind::Context { contexts, column, of } => {
                    let value = dominant(self.dataset, contexts, *column, user, &mut codes);
                    value.map_or(axis.names.len() - 1, |value| usize::from(of[value as usize]))
                }
                _ => return None,
            };
            Some(axis.first + at)
        })
    }

    /// For each axis of interactions, the slice of the `at`-th of `held_out`.
    pub(super) fn of_interaction(&self, held_out: &UserItems<'_>, at: usize) -> impl Iterator<Item = usize> + '_ {
        let item = held_out.items[at].to_native();
        let popularity = self.dataset.popularity()[item as usize].to_native();
        let (time, event) = (held_out.times.get(at).map(|t| t.to_native()), held_out.events.get(at).copied());
        self.axes.iter().filter_map(move |axis| {
            let at = match &axis.kind {
                Kind::Popularity(bounds) => place(bounds, popularity),
                Kind::Time { start, length } => (((time? - start) / length).max(0) as usize).min(axis.names.len() - 1),
                Kind::Event => usize::from(event?).min(axis.names.len() - 1),
                Kind::Attribute(by) => by.place(item),
                _ => return None,
            };
            Some(axis.first + at)
        })
    }
}

impl Axis<'_> {
    fn is_of_users(&self) -> bool {
        matches!(self.kind, Kind::Activity(_) | Kind::Context { .. })
    }
}

/// The value of the column that most of the user's train interactions have; of equals the first in the order of values.
fn dominant(dataset: &Dataset, contexts: &Contexts, column: usize, user: u32, codes: &mut Vec<u32>) -> Option<u32> {
    let of = contexts.values(column);
    codes.clear();
    codes.extend(contexts.user(dataset.train(), user).iter().map(|code| of[code.to_native() as usize].to_native()));
    codes.sort_unstable();
    let runs = codes.chunk_by(|a, b| a == b);
    runs.max_by_key(|run| (run.len(), std::cmp::Reverse(run[0]))).map(|run| run[0])
}

/// The slice of `count`, where `bounds` holds the greatest of each but the last.
fn place(bounds: &[u32], count: u32) -> usize {
    bounds.partition_point(|bound| *bound < count)
}

/// How often each count occurs: exact up to 127, and to 1 in 64 above.
struct Counts {
    cells: Vec<u64>,
    most: u32,
}

impl Counts {
    fn new() -> Self {
        Self { cells: vec![0; cell(u32::MAX) + 1], most: 0 }
    }

    fn add(&mut self, count: u32) {
        self.cells[cell(count)] += 1;
        self.most = self.most.max(count);
    }

    /// The greatest counts of slices, but of the last, and the names of all: 0 by itself if it occurs, then quarters of
    /// what is left, as nearly as counts that are equal allow.
    fn quarters(&self) -> (Vec<u32>, Vec<String>) {
        let rest: u64 = self.cells[1..].iter().sum();
        let mut bounds = if self.cells[0] > 0 { vec![0] } else { Vec::new() };
        let mut below = 0;
        for (at, cell) in self.cells.iter().enumerate().skip(1) {
            let quarters = |n: u64| (n * 4).checked_div(rest).unwrap_or(0);
            if quarters(below + cell) > quarters(below) && upper(at) < self.most {
                bounds.push(upper(at));
            }
            below += cell;
        }
        if rest == 0 {
            bounds.clear();
        }
        let mut from = if self.cells[0] > 0 { 0 } else { 1 };
        let name = |to: &u32| {
            let name = if *to == from { format!("{to}") } else { format!("{from}-{to}") };
            from = *to + 1;
            name
        };
        let names = bounds.iter().chain([&self.most]).map(name).collect();
        (bounds, names)
    }
}

fn cell(count: u32) -> usize {
    if count < 128 {
        return count as usize;
    }
    let shift = 25 - count.leading_zeros();
    64 * shift as usize + (count >> shift) as usize
}

/// The greatest count of a cell.
fn upper(cell: usize) -> u32 {
    if cell < 128 {
        return cell as u32;
    }
    let shift = cell / 64 - 1;
    ((((cell - 64 * shift) as u64 + 1) << shift) - 1) as u32
}

/// A time in milliseconds since 1970 as a date, or with minutes where it is not midnight.
fn date(time: i64) -> String {
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(time) * 1_000_000) else {
        return format!("{time}");
    };
    let day = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
    if time % DAY == 0 { day } else { format!("{day}T{:02}:{:02}", at.hour(), at.minute()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_ascend_without_gaps_and_quarters_are_quarters() {
        let mut last = 0;
        for count in (0..5000).chain([1 << 20, u32::MAX - 1, u32::MAX]) {
            let at = cell(count);
            assert!(at == last || at == last + 1 || count >= 1 << 20, "{count}");
            assert!(count <= upper(at) && (at == 0 || upper(at - 1) < count), "{count}");
            last = at;
        }
        let mut counts = Counts::new();
        (1..=100).for_each(|c| counts.add(c));
        assert_eq!(counts.quarters().0, [25, 50, 75]);
        counts.add(0);
        assert_eq!(
            counts.quarters(),
            (vec![0, 25, 50, 75], ["0", "1-25", "26-50", "51-75", "76-100"].map(String::from).to_vec())
        );
        let mut equal = Counts::new();
        (0..9).for_each(|_| equal.add(7));
        let (bounds, names) = equal.quarters();
        assert_eq!((bounds.len(), names.len(), place(&bounds, 7)), (0, 1, 0));
    }

    #[test]
    fn slicings_are_read_and_mistakes_are_named() {
        for (text, by) in [
            ("activity", SliceBy::Activity),
            ("time", SliceBy::Time(4)),
            ("time:7", SliceBy::Time(7)),
            ("device", SliceBy::Context("device".into())),
            ("context:time", SliceBy::Context("time".into())),
        ] {
            assert_eq!(text.parse::<SliceBy>(), Ok(by), "{text}");
        }
        for text in ["", "time:0", "time:x", "time:101", "context:", "x:y"] {
            assert!(text.parse::<SliceBy>().is_err(), "{text}");
        }
        assert_eq!((date(0), date(90_000).as_str()), ("1970-01-01".to_string(), "1970-01-01T00:01"));
    }
}
