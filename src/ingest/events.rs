//! Event types by number: interned while reading, ordered by name in the dataset.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::IngestError;
use super::options::IngestOptions;
use crate::nearest::did_you_mean;

/// Event types that an index of one byte can tell apart.
pub(super) const MAX_EVENTS: usize = 255;
/// Stands for every type that is an exposure; none has this number.
pub(super) const EXPOSURE: u8 = 255;

/// The event types seen, shared by the parsers.
pub(super) struct Events {
    /// In the order of first sight, which depends on threads: numbers of it stay in temporary files.
    names: Mutex<Vec<Vec<u8>>>,
    /// Whether other types than the first ones are dropped.
    closed: bool,
    /// Types that are exposures, and whether a row had them.
    exposures: Vec<(String, AtomicBool)>,
}

impl Events {
    /// Keeps the types that `options` name, or all where they name none.
    pub(super) fn new(options: &IngestOptions) -> Self {
        let mut names: Vec<Vec<u8>> = options.keep_events.iter().map(|name| name.as_bytes().to_vec()).collect();
        names.sort_unstable();
        names.dedup();
        let exposures = options.exposure_events.iter().map(|name| (name.clone(), AtomicBool::new(false))).collect();
        Self { names: Mutex::new(names), closed: !options.keep_events.is_empty(), exposures }
    }

    /// Those that were seen before, in the order of [`Events::seen`], and of them those that are exposures.
    pub(super) fn restore(options: &IngestOptions, seen: &[String], exposures: &[String]) -> Self {
        let events = Self::new(options);
        for (name, came) in &events.exposures {
            came.store(exposures.contains(name), Ordering::Relaxed);
        }
        Self { names: Mutex::new(seen.iter().map(|name| name.as_bytes().to_vec()).collect()), ..events }
    }

    /// The types of exposures that rows had.
    pub(super) fn exposures_seen(&self) -> Vec<String> {
        let came = self.exposures.iter().filter(|(_, came)| came.load(Ordering::Relaxed));
        came.map(|(name, _)| name.clone()).collect()
    }

    /// Refuses types of exposures that no row had: where they are misspelt, all exposures became positives.
    pub(super) fn check_exposures(&self) -> Result<(), IngestError> {
        let Some((name, _)) = self.exposures.iter().find(|(_, came)| !came.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let mut others = self.seen();
        others.sort_unstable();
        let guess = did_you_mean(name, others.iter().map(String::as_str)).map_or(String::new(), |g| format!("; {g}"));
        others.truncate(20);
        Err(IngestError::Options(format!(
            "--exposure-events {name}: no row has this event type; the others are: {}{guess}. Correct it, leave it out, or \
             check --event-column",
            others.join(", ")
        )))
    }

    /// The types by number. Readers hand out valid UTF-8 only.
    pub(super) fn seen(&self) -> Vec<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    fn number(&self, name: &[u8]) -> Result<Option<u8>, IngestError> {
        if let Some((_, came)) = self.exposures.iter().find(|(n, _)| n.as_bytes() == name) {
            came.store(true, Ordering::Relaxed);
            return Ok(Some(EXPOSURE));
        }
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
    /// The number of `name`, [`EXPOSURE`] for exposures, or `None` if such rows are dropped.
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
