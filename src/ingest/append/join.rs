//! The rows of one user from a dataset and from what is appended to it, merged by the rule of ingest.

use super::numbers::{Contexts, Events};
use crate::dataset::{Dataset, Event, PairsWriter, Part, UserBlock, UserItems};
use crate::ingest::error::IngestError;
use crate::ingest::merge::LARGE_USER;

/// Rows after which the pages that they were read from are let go of.
const OFTEN: usize = 1 << 16;

/// What one of the two has of a pair.
#[derive(Clone, Copy)]
struct Row {
    event: Event,
    part: Part,
    new: bool,
    /// Whether the pair was in train before.
    was_train: bool,
}

/// Bytes of a row while a user is merged, and its share of the blocks being filled and written.
pub(in crate::ingest) const ROW: usize = size_of::<Row>() + 2 * 30;

/// Counts of what was merged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Joined {
    /// Pairs that were not there before.
    pub(super) new: u64,
    /// Those of them that were held out.
    pub(super) held: u64,
    /// Pairs that were, and had more rows merged into them.
    pub(super) merged: u64,
}

/// Merges users one after the other.
pub(super) struct Join<'a> {
    base: &'a Dataset,
    piece: &'a Dataset,
    /// Whether new rows say which part they belong to.
    stated: bool,
    items: Vec<u32>,
    events: &'a Events,
    contexts: Option<&'a Contexts>,
    most: usize,
    rows: Vec<Row>,
    shown: Vec<u32>,
    /// Rows of the piece since pages were let go of.
    read: usize,
    joined: Joined,
}

impl<'a> Join<'a> {
    /// `items` has the number in the whole dataset of each item of `piece`. Users with more than `most` rows are refused.
    pub(super) fn new(
        base: &'a Dataset,
        piece: &'a Dataset,
        stated: bool,
        items: Vec<u32>,
        events: &'a Events,
        contexts: Option<&'a Contexts>,
        most: usize,
    ) -> Self {
        let (rows, shown, joined) = (Vec::new(), Vec::new(), Joined::default());
        Self { base, piece, stated, items, events, contexts, most, rows, shown, read: 0, joined }
    }

    /// Begins the next user. The buffers of a very active one are given back.
    pub(super) fn clear(&mut self) {
        if self.rows.capacity() > LARGE_USER {
            self.rows = Vec::new();
        }
        self.rows.clear();
        if self.shown.capacity() > LARGE_USER {
            self.shown = Vec::new();
        }
        self.shown.clear();
    }

    /// Adds what the dataset has of the `at`-th user of chunk `index`.
    pub(super) fn add_base(&mut self, index: usize, at: usize) {
        let chunk = self.base.train().chunk(index);
        let user = chunk.first_user() + at as u32;
        for (part, rows) in self.base.parts() {
            let contexts = self.base.contexts().filter(|_| part == Part::Train);
            let codes = contexts.map(|contexts| contexts.user(self.base.train(), user)).unwrap_or_default();
            for (i, event) in events(&rows.chunk(index).user(at)) {
                let context = codes.get(i).map_or(0, |code| code.to_native());
                let event = Event { context, ..event };
                self.rows.push(Row { event, part, new: false, was_train: part == Part::Train });
            }
        }
        if let Some(exposures) = self.base.exposures() {
            self.shown.extend(exposures.user(user).iter().map(|item| item.to_native()));
        }
    }

    /// Adds the rows of user `number` of the piece.
    pub(super) fn add_piece(&mut self, number: u32) {
        for (part, rows) in self.piece.parts() {
            let contexts = self.piece.contexts().filter(|_| part == Part::Train);
            let codes = contexts.map(|contexts| contexts.user(self.piece.train(), number)).unwrap_or_default();
            let user = rows.user(number);
            self.read += user.items.len();
            for (i, event) in events(&user) {
                let code = codes.get(i).map(|code| code.to_native() as usize);
                let context = code.zip(self.contexts).map_or(0, |(code, contexts)| contexts.numbers[code]);
                let number = self.events.numbers.get(usize::from(event.event)).copied().unwrap_or_default();
                let item = self.items[event.item as usize];
                let event = Event { item, context, event: number, ..event };
                self.rows.push(Row { event, part, new: true, was_train: false });
            }
        }
        if let Some(exposures) = self.piece.exposures() {
            let items = exposures.user(number);
            self.read += items.len();
            self.shown.extend(items.iter().map(|item| self.items[item.to_native() as usize]));
        }
        if self.read > OFTEN {
            self.read = 0;
            self.piece.let_go();
        }
    }

    /// Whether the user is to begin a block.
    pub(super) fn is_large(&self) -> bool {
        self.rows.len() + self.shown.len() > LARGE_USER
    }

    /// Puts what was added in order: a row a pair, ascending by item. A row is `new` where the log had to do with it.
    pub(super) fn merge(&mut self) -> Result<(), IngestError> {
        if self.rows.len() + self.shown.len() > self.most {
            return Err(IngestError::ActiveUser { most: self.most });
        }
        self.rows.sort_unstable_by_key(|row| (row.event.item, row.new));
        let mut kept = 0usize;
        for at in 0..self.rows.len() {
            let row = self.rows[at];
            match kept.checked_sub(1).map(|last| self.rows[last]).filter(|last| last.event.item == row.event.item) {
                Some(last) => self.rows[kept - 1] = self.both(last, row),
                None => {
                    self.joined.new += u64::from(row.new);
                    self.joined.held += u64::from(row.new && row.part != Part::Train);
                    self.rows[kept] = row;
                    kept += 1;
                }
            }
        }
        self.rows.truncate(kept);
        self.shown.sort_unstable();
        self.shown.dedup();
        let rows = &self.rows;
        self.shown.retain(|item| rows.binary_search_by_key(item, |row| row.event.item).is_err());
        Ok(())
    }

    /// A pair of the dataset that the log has, too.
    fn both(&mut self, old: Row, new: Row) -> Row {
        if self.stated && old.part != new.part {
            // A pair with rows in several parts belongs to the earliest, with these rows only.
            return if new.part < old.part {
                self.joined.merged += 1;
                new
            } else {
                old
            };
        }
        self.joined.merged += 1;
        let rank = |event: &Event| {
            let context = self.contexts.and_then(|c| c.ranks.get(event.context as usize)).copied();
            (event.time, self.events.ranks.get(usize::from(event.event)).copied(), context)
        };
        let later = if rank(&new.event) > rank(&old.event) { new.event } else { old.event };
        let weight = (f64::from(old.event.weight) + f64::from(new.event.weight)).min(f64::from(f32::MAX)) as f32;
        let count = old.event.count.saturating_add(new.event.count);
        Row { event: Event { weight, count, ..later }, new: true, ..old }
    }

    /// Ends the user, number `user` of the whole dataset, in `block`; train interactions that the log has go to `pairs`,
    /// and to `repeated` where they were there before.
    pub(super) fn write(
        &self,
        user: u32,
        block: &mut UserBlock,
        (pairs, repeated): (&mut PairsWriter, &mut PairsWriter),
    ) -> Result<(), IngestError> {
        for row in &self.rows {
            block.push(row.part, row.event);
            if row.new && row.part == Part::Train {
                pairs.push(user, row.event.item)?;
                if row.was_train {
                    repeated.push(user, row.event.item)?;
                }
            }
        }
        self.shown.iter().for_each(|item| block.expose(*item));
        block.end_user(&[]);
        Ok(())
    }

    /// The counts.
    pub(super) fn finish(self) -> Joined {
        self.joined
    }
}

/// Interactions by place; columns that the dataset does not have are what they mean: no time, one, once.
fn events<'a>(user: &UserItems<'a>) -> impl Iterator<Item = (usize, Event)> + use<'a> {
    let user = *user;
    user.items.iter().enumerate().map(move |(i, item)| {
        let event = Event {
            item: item.to_native(),
            time: user.times.get(i).map_or(0, |t| t.to_native()),
            weight: user.weights.get(i).map_or(1.0, |w| w.to_native()),
            count: user.counts.get(i).map_or(1, |c| c.to_native()),
            event: user.events.get(i).copied().unwrap_or_default(),
            context: 0,
        };
        (i, event)
    })
}
