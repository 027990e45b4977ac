//! Combinations of the values of context columns by number: interned while reading, in their own order in the dataset.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::budget::SMALLEST;
use super::error::IngestError;
use super::options::IngestOptions;
use super::read::{ContextKey, MAX_CONTEXT};
use super::record::MAX_CONTEXTS;
use crate::context::{ByteSize, Context};
use crate::dataset::{ContextTable, id_hash};

/// One part in so many of the memory is for combinations.
const SHARE: u64 = 9;
/// Bytes that a combination takes beside its values: its place in a table that grows by doubling, and the allocator's.
pub(super) const EACH: usize = 112;
/// Combinations that a parser keeps at hand, a power of two, and the longest of them.
const SLOTS: usize = 256;
const LONGEST: usize = 128;

/// What of the budget is for the rest, and what for combinations, where `options` ask for context.
pub(super) fn shared_out(options: &IngestOptions, ctx: &Context) -> Result<(Context, usize), IngestError> {
    let given = ctx.memory();
    if options.read.context.is_empty() {
        return Ok((ctx.clone(), 0));
    }
    let held = given.0 / SHARE;
    let smallest = ByteSize(SMALLEST.0 * SHARE / (SHARE - 1));
    if given < smallest {
        return Err(IngestError::Budget { given, smallest });
    }
    Ok((ctx.clone().with_memory(ByteSize(given.0 - held)), usize::try_from(held).unwrap_or(usize::MAX)))
}

#[derive(Default)]
struct Known {
    numbers: HashMap<Box<[u8]>, u32>,
    bytes: usize,
}

/// The combinations seen, shared by the parsers.
pub(super) struct Contexts {
    columns: Vec<String>,
    /// Numbers are given in the order of first sight, which depends on threads: those of it stay in temporary files.
    known: Mutex<Known>,
    /// Bytes that all of them may take.
    most: usize,
}

impl Contexts {
    pub(super) fn new(options: &IngestOptions, most: usize) -> Self {
        let columns = options.read.context.iter().map(ToString::to_string).collect();
        Self { columns, known: Mutex::default(), most }
    }

    /// Those that were seen before, in the order of [`Contexts::seen`].
    pub(super) fn restore(options: &IngestOptions, most: usize, seen: &[Vec<String>]) -> Self {
        let contexts = Self::new(options, most);
        let mut known = Known::default();
        for (number, values) in (0..).zip(seen) {
            let mut key = Vec::new();
            values.iter().for_each(|value| ContextKey::put(value.as_bytes(), &mut key));
            known.bytes += key.len() + EACH;
            known.numbers.insert(key.into(), number);
        }
        Self { known: Mutex::new(known), ..contexts }
    }

    /// The values of each, by number. Readers hand out valid UTF-8 only.
    pub(super) fn seen(&self) -> Vec<Vec<String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = vec![Vec::new(); known.numbers.len()];
        for (key, number) in &known.numbers {
            seen[*number as usize] =
                ContextKey(key).values().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        }
        seen
    }

    fn number(&self, key: &[u8]) -> Result<u32, IngestError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(key) {
            return Ok(*number);
        }
        let number = known.numbers.len();
        let bytes = known.bytes + key.len() + EACH;
        if number >= MAX_CONTEXTS || bytes > self.most {
            let example = ContextKey(key).values().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
            return Err(IngestError::Contexts {
                columns: self.columns.join(","),
                number,
                example: example.chars().take(100).collect(),
                remedy: if number >= MAX_CONTEXTS { "" } else { "raise --memory, " },
            });
        }
        known.bytes = bytes;
        known.numbers.insert(key.into(), number as u32);
        Ok(number as u32)
    }

    /// The combinations in the order of their bytes, where there are columns, and the place in it of each number.
    pub(super) fn finish(self) -> (Option<ContextTable>, Vec<u32>) {
        let Self { columns, known, .. } = self;
        let known = known.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<(Box<[u8]>, u32)> = known.numbers.into_iter().collect();
        keys.sort_unstable();
        let mut places = vec![0; keys.len()];
        for (at, (_, number)) in (0..).zip(&keys) {
            places[*number as usize] = at;
        }
        let value = |at: usize, column: usize| ContextKey(&keys[at].0).values().nth(column).unwrap_or_default();
        let table = (!columns.is_empty()).then(|| ContextTable::new(columns, keys.len(), value));
        (table, places)
    }
}

/// A parser's own copy of what it has seen lately, so that few rows take the lock.
pub(super) struct SeenContexts {
    slots: Vec<(Vec<u8>, u32)>,
}

impl Default for SeenContexts {
    fn default() -> Self {
        Self { slots: vec![(Vec::new(), 0); SLOTS] }
    }
}

impl SeenContexts {
    /// The number of a combination.
    pub(super) fn number(&mut self, key: ContextKey<'_>, contexts: &Contexts) -> Result<u32, IngestError> {
        let key = key.0;
        let (known, number) = &mut self.slots[id_hash(key, 0) as usize % SLOTS];
        // No key is empty: each value has a length.
        if known == key {
            return Ok(*number);
        }
        let found = contexts.number(key)?;
        if key.len() <= LONGEST {
            known.clear();
            known.extend_from_slice(key);
            *number = found;
        }
        Ok(found)
    }
}

/// Refuses columns that are too many or given twice.
pub(super) fn check(options: &IngestOptions) -> Result<(), IngestError> {
    let columns = &options.read.context;
    if columns.len() > MAX_CONTEXT {
        let (given, most) = (columns.len(), MAX_CONTEXT);
        return Err(IngestError::Options(format!("--context has {given} columns; name at most {most}")));
    }
    if let Some(twice) = columns.iter().enumerate().find_map(|(at, c)| columns[..at].contains(c).then_some(c)) {
        return Err(IngestError::Options(format!("--context has the column {twice} twice; name it once")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Column, ReadOptions};

    fn options(columns: &[&str]) -> IngestOptions {
        let context = columns.iter().map(|c| Column::Name((*c).into())).collect();
        IngestOptions { read: ReadOptions { context, ..ReadOptions::default() }, ..IngestOptions::default() }
    }

    fn key(values: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        values.iter().for_each(|value| ContextKey::put(value.as_bytes(), &mut key));
        key
    }

    #[test]
    fn numbers_are_kept_restored_and_bounded_by_memory() {
        let options = options(&["a", "b"]);
        let contexts = Contexts::new(&options, 4 * EACH);
        let mut seen = SeenContexts::default();
        let mut of = |values: &[&str], contexts: &Contexts| seen.number(ContextKey(&key(values)), contexts);
        assert_eq!(of(&["x", "yz"], &contexts).unwrap(), 0);
        assert_eq!(of(&["xy", "z"], &contexts).unwrap(), 1);
        assert_eq!(of(&["x", "yz"], &contexts).unwrap(), 0);
        let contexts = Contexts::restore(&options, 4 * EACH, &contexts.seen());
        let long = "v".repeat(300);
        let error = of(&[&long, &long], &contexts).unwrap_err().to_string();
        assert!(["--context a,b", "2 combinations", "--memory"].iter().all(|w| error.contains(w)), "{error}");
        assert_eq!(of(&["", ""], &contexts).unwrap(), 2);
        let (table, places) = contexts.finish();
        assert_eq!(table.unwrap().combinations(), 3);
        let mut sorted = places.clone();
        sorted.sort_unstable();
        assert_eq!((sorted, places[2]), (vec![0, 1, 2], 0), "the empty one is the first");
    }
}
