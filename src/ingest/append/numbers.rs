//! What the numbers of new rows are in the dataset that they are appended to: of items, users, events and contexts.

use std::collections::HashMap;
use std::sync::Arc;

use super::order::Order;
use crate::context::Context;
use crate::dataset::{self, ContextTable, Dataset, Dictionary, IdGatherer};
use crate::ingest::contexts::EACH;
use crate::ingest::error::IngestError;
use crate::ingest::events::MAX_EVENTS;
use crate::ingest::read::ContextKey;
use crate::ingest::record::MAX_CONTEXTS;
use crate::ingest::spill::TempSpace;

/// Ids between two looks at whether to stop, and after which pages are let go of.
const OFTEN: u32 = 1 << 14;

/// Calls `known` with the number of every id of `new` and the one that `old` has for it, if it does.
fn match_ids(
    what: &'static str,
    old: &Dictionary,
    new: &Dictionary,
    ctx: &Context,
    mut each: impl FnMut(u32, &str, Option<u32>) -> Result<(), IngestError>,
) -> Result<(), IngestError> {
    for (count, (hash, number)) in (1u32..).zip(new.by_hash()) {
        let id = new.id(number).unwrap_or_default();
        let known = match old.of_hash(hash) {
            Some((known, text)) if text == id.as_bytes() => Some(known),
            Some((_, text)) => {
                let (first, second) = (String::from_utf8_lossy(text).into_owned(), id.to_string());
                return Err(IngestError::Collides { what, first, second });
            }
            None => None,
        };
        each(number, id, known)?;
        if count.is_multiple_of(OFTEN) {
            ctx.check()?;
            old.let_go();
            new.let_go();
        }
    }
    old.let_go();
    new.let_go();
    Ok(())
}

/// The number in the whole dataset of each item of `piece`; ids that are new go to `file`, too.
pub(super) fn number_items(
    base: &Dataset,
    piece: &Dataset,
    file: &mut IdGatherer,
    ctx: &Context,
) -> Result<Vec<u32>, IngestError> {
    let mut numbers = vec![0; piece.items().len() as usize];
    let first = base.items().len();
    match_ids("item", base.items(), piece.items(), ctx, |number, id, known| {
        numbers[number as usize] = match known {
            Some(known) => known,
            None => {
                file.push(id.as_bytes())?;
                first + file.len() - 1
            }
        };
        Ok(())
    })?;
    Ok(numbers)
}

/// The users of `piece` that are there already, each as its number there and in `piece`, and those that are new, as
/// their place among them and the number in `piece`; their ids go to `file`. New users without an interaction are none.
pub(super) fn number_users<'s>(
    base: &Dataset,
    piece: &Dataset,
    file: &mut IdGatherer,
    space: &'s Arc<TempSpace>,
    ctx: &Context,
) -> Result<(Order<'s>, Order<'s>), IngestError> {
    let share = usize::try_from(ctx.memory().0 / 32).unwrap_or(usize::MAX);
    let (mut there, mut new) = (Order::new(space, share), Order::new(space, share));
    let has_rows = |user: u32| piece.parts().any(|(_, part)| !part.user(user).items.is_empty());
    let mut looked = 0u32;
    match_ids("user", base.users(), piece.users(), ctx, |number, id, known| {
        match known {
            Some(known) => there.push((known, number))?,
            None => {
                looked += 1;
                if looked.is_multiple_of(OFTEN) {
                    piece.let_go();
                }
                if piece.exposures().is_none() || has_rows(number) {
                    new.push((file.len(), number))?;
                    file.push(id.as_bytes())?;
                }
            }
        }
        Ok(())
    })?;
    if u32::checked_add(base.users().len(), file.len()).is_none() {
        return Err(dataset::DatasetError::TooMany { what: "users" }.into());
    }
    Ok((there, new))
}

/// The types of events.
pub(super) struct Events {
    /// Those of the dataset, then new ones.
    pub(super) names: Vec<String>,
    /// The number of each type of the piece.
    pub(super) numbers: Vec<u8>,
    /// The place of each by name.
    pub(super) ranks: Vec<u8>,
}

impl Events {
    pub(super) fn new(base: &[String], piece: &[String]) -> Result<Self, IngestError> {
        let mut names = base.to_vec();
        let mut numbers = Vec::with_capacity(piece.len());
        for name in piece {
            let known = names.iter().position(|n| n == name);
            numbers.push(known.unwrap_or(names.len()) as u8);
            if known.is_none() {
                names.push(name.clone());
            }
            if names.len() > MAX_EVENTS {
                return Err(IngestError::Events { example: name.clone() });
            }
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by_key(|at| names[*at].as_bytes());
        let mut ranks = vec![0; names.len()];
        for (rank, at) in order.into_iter().enumerate() {
            ranks[at] = rank as u8;
        }
        Ok(Self { names, numbers, ranks })
    }
}

/// The combinations of context.
pub(super) struct Contexts {
    /// All of them, if some are new.
    pub(super) table: Option<ContextTable>,
    /// The number of each combination of the piece.
    pub(super) numbers: Vec<u32>,
    /// The place of each by its values.
    pub(super) ranks: Vec<u32>,
}

impl Contexts {
    /// Those of both, within `most` bytes.
    pub(super) fn new(base: &dataset::Contexts, piece: &dataset::Contexts, most: usize) -> Result<Self, IngestError> {
        let key = |contexts: &dataset::Contexts, combination: u32| {
            let mut key = Vec::new();
            for column in 0..contexts.summary().columns.len() {
                let value = contexts.values(column)[combination as usize].to_native();
                ContextKey::put(contexts.value(column, value).as_bytes(), &mut key);
            }
            key
        };
        let mut keys: Vec<Box<[u8]>> = (0..base.summary().combinations).map(|c| key(base, c).into()).collect();
        let mut known: HashMap<Box<[u8]>, u32> = (0..).zip(&keys).map(|(number, key)| (key.clone(), number)).collect();
        let mut bytes: usize = keys.iter().map(|key| EACH + key.len()).sum();
        let (mut numbers, first_new) = (Vec::new(), keys.len());
        for combination in 0..piece.summary().combinations {
            let key: Box<[u8]> = key(piece, combination).into();
            if let Some(number) = known.get(&key) {
                numbers.push(*number);
                continue;
            }
            let number = keys.len();
            bytes += key.len() + EACH;
            if number >= MAX_CONTEXTS || bytes > most {
                let example = ContextKey(&key).values().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
                return Err(IngestError::Contexts {
                    columns: base.summary().columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(","),
                    number,
                    example: example.chars().take(100).collect(),
                    remedy: if number >= MAX_CONTEXTS { "" } else { "raise --memory, " },
                });
            }
            numbers.push(number as u32);
            known.insert(key.clone(), number as u32);
            keys.push(key);
        }
        drop(known);
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by_key(|at| &keys[*at as usize]);
        let mut ranks = vec![0; keys.len()];
        for (rank, at) in (0..).zip(order) {
            ranks[at as usize] = rank;
        }
        let added = &keys[first_new..];
        let value = |at: usize, column: usize| ContextKey(&added[at]).values().nth(column).unwrap_or_default();
        let table = (!added.is_empty()).then(|| ContextTable::grown(base, added.len(), value));
        Ok(Self { table, numbers, ranks })
    }
}
