//! Which train interactions an update trains on: all that are new, and a share of the others that is drawn each epoch.

use crate::dataset::{Appended, Dataset};
use crate::mix::{GOLDEN, mix};
use crate::negatives::Batch;

/// The new interactions by user, and how many of the others are replayed. Memory: 8 bytes a user, 4 a new interaction.
#[derive(Debug)]
pub(in crate::train) struct Selection {
    /// Where each user's items begin, and the end.
    offsets: Vec<u64>,
    /// Items of new interactions, ascending for each user.
    items: Vec<u32>,
    /// An old interaction is replayed where its hash is below this; all are where there is no bound.
    below: Option<u64>,
}

impl Selection {
    /// Of what was `appended` to `dataset`; the share `replay` of what is trained is to be old.
    pub(super) fn new(appended: &Appended, dataset: &Dataset, replay: f64) -> Self {
        Self::of_pairs((appended.pairs(), appended.len()), dataset.users().len(), dataset.train().len(), replay)
    }

    /// Of pairs that ascend.
    pub(super) fn of_pairs(
        (pairs, new): (impl Iterator<Item = (u32, u32)>, u64),
        users: u32,
        interactions: u64,
        replay: f64,
    ) -> Self {
        // Exactly as much as is said.
        let mut offsets = Vec::with_capacity(users as usize + 1);
        let mut items = Vec::with_capacity(new as usize);
        offsets.push(0);
        for (user, item) in pairs.filter(|(user, _)| *user < users) {
            offsets.resize(user as usize + 1, items.len() as u64);
            items.push(item);
        }
        offsets.resize(users as usize + 1, items.len() as u64);
        let old = interactions.saturating_sub(items.len() as u64);
        let wanted = items.len() as f64 * replay / (1.0 - replay);
        // A cast from above saturates.
        let below = (wanted < old as f64).then(|| (wanted / old.max(1) as f64 * u64::MAX as f64) as u64);
        Self { offsets, items, below }
    }

    /// Bytes of the lists of so many users and new interactions.
    pub(super) fn bytes(users: u32, new: u64) -> u64 {
        8 * (u64::from(users) + 1) + 4 * new
    }

    /// Bytes of its own.
    pub(super) fn held(&self) -> u64 {
        Self::bytes(self.offsets.len() as u32 - 1, self.len())
    }

    /// New interactions.
    pub(super) fn len(&self) -> u64 {
        self.items.len() as u64
    }

    /// Interactions of an epoch, about, of so many in all.
    pub(in crate::train) fn expected(&self, interactions: u64) -> u64 {
        let old = interactions.saturating_sub(self.len());
        self.len() + self.below.map_or(old, |below| (old as f64 * (below as f64 / u64::MAX as f64)) as u64)
    }

    /// Items of the new interactions of `user`, ascending.
    pub(super) fn of(&self, user: u32) -> &[u32] {
        let range = self.offsets[user as usize] as usize..self.offsets[user as usize + 1] as usize;
        &self.items[range]
    }

    /// Whether the epoch of this seed trains on an interaction.
    pub(in crate::train) fn keeps(&self, seed: u64, user: u32, item: u32) -> bool {
        let Some(below) = self.below else { return true };
        self.of(user).binary_search(&item).is_ok()
            || mix(seed ^ (u64::from(user) << 32 | u64::from(item)).wrapping_mul(GOLDEN)) < below
    }

    /// Leaves the other positives out of `batch`, with their negatives, `each` of a positive. They were there so that they
    /// are no negatives.
    pub(in crate::train) fn retain(&self, seed: u64, batch: &mut Batch, each: usize) {
        let (mut run, mut kept, mut runs, mut start) = (0, 0, 0, 0);
        for at in 0..batch.positives.len() {
            while batch.ends[run] as usize <= at {
                (runs, start) = end_run(batch, run, (runs, start), kept);
                run += 1;
            }
            if !self.keeps(seed, batch.users[run], batch.positives[at]) {
                continue;
            }
            batch.positives[kept] = batch.positives[at];
            batch.negatives.copy_within(at * each..(at + 1) * each, kept * each);
            for by_negative in [&mut batch.weights, &mut batch.negative_offsets] {
                if !by_negative.is_empty() {
                    by_negative.copy_within(at * each..(at + 1) * each, kept * each);
                }
            }
            if !batch.positive_offsets.is_empty() {
                batch.positive_offsets[kept] = batch.positive_offsets[at];
            }
            kept += 1;
        }
        if run < batch.ends.len() {
            (runs, _) = end_run(batch, run, (runs, start), kept);
        }
        batch.users.truncate(runs);
        batch.ends.truncate(runs);
        batch.positives.truncate(kept);
        batch.positive_offsets.truncate(kept);
        [&mut batch.weights, &mut batch.negative_offsets].into_iter().for_each(|of| of.truncate(kept * each));
        batch.negatives.truncate(kept * each);
    }
}

/// Ends the run `run`, of which something is left if more than `start` positives are kept by now: it becomes run `runs`.
fn end_run(batch: &mut Batch, run: usize, (runs, start): (usize, usize), kept: usize) -> (usize, usize) {
    if kept == start {
        return (runs, start);
    }
    batch.users[runs] = batch.users[run];
    batch.ends[runs] = kept as u32;
    (runs + 1, kept)
}
