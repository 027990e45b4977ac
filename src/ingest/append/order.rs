//! Pairs of numbers in order, within a share of memory: sorted runs in temporary files, merged when they are read.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::ingest::error::IngestError;
use crate::ingest::spill::{Spill, SpillReader, TempSpace};

const WIDTH: usize = 8;

/// Takes pairs in any order.
pub(super) struct Order<'a> {
    space: &'a Arc<TempSpace>,
    /// Pairs that are held.
    most: usize,
    held: Vec<(u32, u32)>,
    runs: Vec<Spill>,
}

impl<'a> Order<'a> {
    /// Holds about `share` bytes.
    pub(super) fn new(space: &'a Arc<TempSpace>, share: usize) -> Self {
        Self { space, most: (share / WIDTH).max(2), held: Vec::new(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, pair: (u32, u32)) -> Result<(), IngestError> {
        if self.held.len() == self.most {
            self.spill()?;
        }
        self.held.push(pair);
        Ok(())
    }

    fn spill(&mut self) -> Result<(), IngestError> {
        self.held.sort_unstable();
        let spill = Spill::new(self.space);
        for group in self.held.chunks(1 << 13) {
            let mut bytes = Vec::with_capacity(group.len() * WIDTH);
            for (a, b) in group {
                bytes.extend_from_slice(&a.to_le_bytes());
                bytes.extend_from_slice(&b.to_le_bytes());
            }
            spill.append(&bytes)?;
        }
        spill.seal();
        self.runs.push(spill);
        self.held.clear();
        Ok(())
    }

    /// All pairs, ascending.
    pub(super) fn into_sorted(mut self) -> Result<Sorted, IngestError> {
        if !self.runs.is_empty() {
            self.spill()?;
        }
        self.held.sort_unstable();
        let readers = self.runs.iter().map(Spill::read).collect::<Result<Vec<_>, _>>()?;
        let mut sorted = Sorted {
            held: std::mem::take(&mut self.held).into_iter(),
            next: BinaryHeap::new(),
            readers,
            _runs: self.runs,
        };
        for run in 0..sorted.readers.len() {
            sorted.advance(run)?;
        }
        Ok(sorted)
    }
}

/// Pairs in order.
pub(super) struct Sorted {
    /// All of them, where they fit.
    held: std::vec::IntoIter<(u32, u32)>,
    next: BinaryHeap<Reverse<((u32, u32), usize)>>,
    readers: Vec<SpillReader>,
    /// They go when this is dropped.
    _runs: Vec<Spill>,
}

impl Sorted {
    fn advance(&mut self, run: usize) -> Result<(), IngestError> {
        if let Some(bytes) = self.readers[run].take(WIDTH)? {
            let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            self.next.push(Reverse(((number(0), number(4)), run)));
        }
        Ok(())
    }

    /// The next pair.
    pub(super) fn next(&mut self) -> Result<Option<(u32, u32)>, IngestError> {
        let Some(Reverse((pair, run))) = self.next.pop() else { return Ok(self.held.next()) };
        self.advance(run)?;
        Ok(Some(pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_come_in_order_whatever_fits(
            pairs in proptest::collection::vec((0u32..50, any::<u32>()), 0..200),
            share in 0usize..300,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let space = TempSpace::create(folder.path().join("t")).unwrap();
            let mut order = Order::new(&space, share);
            for pair in &pairs {
                order.push(*pair).unwrap();
            }
            let mut sorted = order.into_sorted().unwrap();
            let mut found = Vec::new();
            while let Some(pair) = sorted.next().unwrap() {
                found.push(pair);
            }
            let mut wanted = pairs;
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
            drop(sorted);
            space.remove().unwrap();
        }
    }
}
