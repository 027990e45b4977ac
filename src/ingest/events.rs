//! Event types by number: interned while reading, ordered by name in the dataset.

use std::sync::{Mutex, PoisonError};

use super::error::IngestError;

/// Event types that an index of one byte can tell apart.
pub(super) const MAX_EVENTS: usize = 255;

/// The event types seen, shared by the parsers.
pub(super) struct Events {
    /// In the order of first sight, which depends on threads: numbers of it stay in temporary files.
    names: Mutex<Vec<Vec<u8>>>,
    /// Whether other types than the first ones are dropped.
    closed: bool,
}

impl Events {
    /// Keeps `keep` only, or all types where that is empty.
    pub(super) fn new(keep: &[String]) -> Self {
        let mut names: Vec<Vec<u8>> = keep.iter().map(|name| name.as_bytes().to_vec()).collect();
        names.sort_unstable();
        names.dedup();
        Self { names: Mutex::new(names), closed: !keep.is_empty() }
    }

    /// Those that were seen before, in the order of [`Events::seen`].
    pub(super) fn restore(keep: &[String], seen: &[String]) -> Self {
        Self { names: Mutex::new(seen.iter().map(|name| name.as_bytes().to_vec()).collect()), closed: !keep.is_empty() }
    }

    /// The types by number. Readers hand out valid UTF-8 only.
    pub(super) fn seen(&self) -> Vec<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    fn number(&self, name: &[u8]) -> Result<Option<u8>, IngestError> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = names.iter().position(|n| n == name) {
            return Ok(Some(at as u8));
        }
        if self.closed {
            return Ok(None);
        }
        if names.len() == MAX_EVENTS {
            return Err(IngestError::Events { example: String::from_utf8_lossy(name).into_owned() });
        }
        names.push(name.to_vec());
        Ok(Some((names.len() - 1) as u8))
    }

    /// The names in order, and the place in it of each number given out.
    pub(super) fn finish(self) -> (Vec<String>, Vec<u8>) {
        let names = self.names.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_unstable_by(|a, b| names[*a].cmp(&names[*b]));
        let mut place = vec![0u8; names.len()];
        for (at, number) in order.iter().enumerate() {
            place[*number] = at as u8;
        }
        let sorted = order.iter().map(|n| String::from_utf8_lossy(&names[*n]).into_owned()).collect();
        (sorted, place)
    }
}

/// A parser's own copy of what it has seen, so that no row takes the lock twice.
#[derive(Default)]
pub(super) struct SeenEvents {
    known: Vec<(Vec<u8>, u8)>,
    last: usize,
}

impl SeenEvents {
    /// The number of `name`, or `None` if such rows are dropped.
    pub(super) fn number(&mut self, name: &[u8], events: &Events) -> Result<Option<u8>, IngestError> {
        if let Some((known, number)) = self.known.get(self.last)
            && known == name
        {
            return Ok(Some(*number));
        }
        if let Some(at) = self.known.iter().position(|(known, _)| known == name) {
            self.last = at;
            return Ok(Some(self.known[at].1));
        }
        let number = events.number(name)?;
        if let Some(number) = number {
            self.last = self.known.len();
            self.known.push((name.to_vec(), number));
        }
        Ok(number)
    }
}
