//! Which train interactions an update trains on: all that are new, and a share of the others that is drawn each epoch.

use crate::dataset::{Appended, Dataset};
use crate::mix::{GOLDEN, mix};

/// Of the interactions that are replayed, the share that is of users who have new ones; the rest is of everybody. A row that
/// learns what is new, and little of what it learnt before, forgets that: with none of this share, what is ranked first was
/// worse by 1 % (docs/update.md).
const THEIRS: f64 = 0.7;

/// The new interactions by user, and how many of the others are replayed. Memory: 8 bytes a user, 4 a new interaction.
#[derive(Debug)]
pub(in crate::train) struct Selection {
    /// Where each user's items begin, and the end.
    offsets: Vec<u64>,
    /// Items of new interactions, ascending for each user.
    items: Vec<u32>,
    /// An old interaction of a user who has new ones is replayed where its hash is below this; all are where there is no
    /// bound.
    theirs: Option<u64>,
    /// The same for the others.
    others: Option<u64>,
    /// Interactions that are replayed in an epoch, about.
    replayed: u64,
}

impl Selection {
    /// Of what was `appended` to `dataset`; the share `replay` of what is trained is to be old.
    pub(super) fn new(appended: &Appended, dataset: &Dataset, replay: f64) -> Self {
        let activity = |user| dataset.train().user(user).items.len() as u64;
        Self::of_pairs(
            (appended.pairs(), appended.len()),
            dataset.users().len(),
            dataset.train().len(),
            replay,
            activity,
        )
    }

    /// Of pairs that ascend, in a dataset of so many `users` and `interactions`, with `activity` interactions each.
    pub(super) fn of_pairs(
        (pairs, new): (impl Iterator<Item = (u32, u32)>, u64),
        users: u32,
        interactions: u64,
        replay: f64,
        activity: impl Fn(u32) -> u64,
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
        let has_new = (0..users).filter(|user| offsets[*user as usize] < offsets[*user as usize + 1]);
        let of_theirs = has_new.map(activity).sum::<u64>().saturating_sub(items.len() as u64).min(old);
        let (theirs, all) = (of_theirs as f64, old.max(1) as f64);
        // Where there are not as many, others stand in.
        let from_theirs = (wanted * (THEIRS + (1.0 - THEIRS) * theirs / all)).min(theirs);
        let from_others = (wanted - from_theirs).min(old as f64 - theirs).max(0.0);
        // A cast from above saturates.
        let below = |wanted: f64, of: f64| (wanted < of).then(|| (wanted / of * u64::MAX as f64) as u64);
        let replayed = (from_theirs + from_others) as u64;
        Self {
            theirs: below(from_theirs, theirs),
            others: below(from_others, old as f64 - theirs),
            replayed,
            offsets,
            items,
        }
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

    /// Interactions of an epoch, about.
    pub(in crate::train) fn expected(&self) -> u64 {
        self.len() + self.replayed
    }

    /// Items of the new interactions of `user`, ascending.
    pub(super) fn of(&self, user: u32) -> &[u32] {
        let range = self.offsets[user as usize] as usize..self.offsets[user as usize + 1] as usize;
        &self.items[range]
    }

    /// Whether the epoch of this seed trains on an interaction.
    pub(in crate::train) fn keeps(&self, seed: u64, user: u32, item: u32) -> bool {
        let own = self.of(user);
        let Some(below) = (if own.is_empty() { self.others } else { self.theirs }) else { return true };
        own.binary_search(&item).is_ok()
            || mix(seed ^ (u64::from(user) << 32 | u64::from(item)).wrapping_mul(GOLDEN)) < below
    }
}
