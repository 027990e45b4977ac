//! Whatever scores users and items: models, and the baselines that every model stands beside.

use std::ops::Range;

use rkyv::rend::u32_le;

use super::user_seed;
use crate::dataset::Dataset;
use crate::mix::mix;
use crate::model::{Calibration, Factors, Model, ModelError, Rows, dot_products};
use crate::storage::check_in_use;

/// Scores users and items; higher is better.
///
/// Both methods give the same bits for the same pair. A score of −∞ means "never": such an item is never recommended
/// and counts as below all others. NaN ends the ranking with an error.
pub trait Scorer: Sync {
    /// How many users it knows: the first so many of the dataset, which may have grown since.
    fn users(&self) -> usize;

    /// How many items it knows: the first so many of the dataset. The others are never recommended.
    fn items(&self) -> usize;

    /// Makes sure that it belongs to `dataset`, beyond the numbers of users and items, and that its files are still whole.
    /// Asked before users are ranked and after.
    ///
    /// # Errors
    /// If it does not.
    fn check(&self, dataset: &Dataset) -> Result<(), ModelError> {
        let _ = dataset;
        Ok(())
    }

    /// Fingerprint of the dataset that it has learnt from, if it remembers one.
    fn learnt_from(&self) -> Option<&str> {
        None
    }

    /// Bytes of mapped files that an item takes, and that [`Scorer::score`] reads in the order of items; 0 without any.
    /// Where all items together are more than fits the memory budget, they are ranked region by region.
    fn item_bytes(&self) -> usize {
        0
    }

    /// Bytes of mapped files that a user takes; 0 without any.
    ///
    /// Where its files and those of the dataset are together more than fits the memory budget, the methods that follow
    /// are called, and only there.
    fn user_bytes(&self) -> usize {
        0
    }

    /// Bytes of memory that it holds beside mapped files: what is left of the budget is for rankings.
    fn held_bytes(&self) -> usize {
        0
    }

    /// A vector for each item that it knows, by which recommendations are told to be alike: a table of which so many columns
    /// count,
    /// from the first. It is read as [`Scorer::score`] reads items.
    fn item_vectors(&self) -> Option<(&Factors, usize)> {
        None
    }

    /// Learns that all it has mapped does not fit: from now on, if `exactly`, what is scored soon is said before, and
    /// little is to be read beside it.
    fn read_exactly(&self, exactly: bool) {
        let _ = exactly;
    }

    /// Learns that all of these items are scored soon.
    fn will_score(&self, items: Range<u32>) {
        let _ = items;
    }

    /// Learns that most of these users are ranked for soon.
    fn will_rank(&self, users: Range<u32>) {
        let _ = users;
    }

    /// May let go of what it mapped for `items`.
    fn release_items(&self, items: Range<u32>) {
        let _ = items;
    }

    /// May let go of what it mapped for `users`.
    fn release_users(&self, users: Range<u32>) {
        let _ = users;
    }

    /// What makes probabilities of its scores, if it has that.
    fn calibration(&self) -> Option<&Calibration> {
        None
    }

    /// Scores every item of `items` for each of `users`, into the row-major `out` (users × items).
    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]);

    /// Scores the listed items for one user; `out` is as long as `items`.
    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]);
}

impl Scorer for Model {
    fn users(&self) -> usize {
        Model::users(self).rows()
    }

    fn items(&self) -> usize {
        Model::items(self).rows()
    }

    fn check(&self, dataset: &Dataset) -> Result<(), ModelError> {
        self.check_dataset(dataset)?;
        check_in_use(self.path())?;
        Ok(check_in_use(dataset.path())?)
    }

    fn learnt_from(&self) -> Option<&str> {
        Some(&self.manifest().dataset)
    }

    fn calibration(&self) -> Option<&Calibration> {
        self.manifest().calibration.as_ref()
    }

    fn item_bytes(&self) -> usize {
        Model::items(self).stride() * size_of::<f32>()
    }

    fn user_bytes(&self) -> usize {
        Model::users(self).stride() * size_of::<f32>()
    }

    fn item_vectors(&self) -> Option<(&Factors, usize)> {
        // Biases, if there are any, come behind the factors.
        Some((Model::items(self), self.manifest().dimensions))
    }

    fn read_exactly(&self, exactly: bool) {
        Model::users(self).read_exactly(exactly);
        Model::items(self).read_exactly(exactly);
    }

    fn will_score(&self, items: Range<u32>) {
        Model::items(self).will_need(items.start as usize..items.end as usize);
    }

    fn will_rank(&self, users: Range<u32>) {
        Model::users(self).will_need(users.start as usize..users.end as usize);
    }

    fn release_items(&self, items: Range<u32>) {
        Model::items(self).evict(items.start as usize..items.end as usize);
    }

    fn release_users(&self, users: Range<u32>) {
        Model::users(self).evict(users.start as usize..users.end as usize);
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        let (u, i) = (Model::users(self), Model::items(self));
        dot_products(Rows::new(u.as_slice(), u.stride()), users, Rows::new(i.as_slice(), i.stride()), items, out);
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        let (u, i) = (Model::users(self), Model::items(self));
        let (u, i) = (Rows::new(u.as_slice(), u.stride()), Rows::new(i.as_slice(), i.stride()));
        dot_products(u, &[user], i, items.iter().copied(), out);
    }
}

/// The popularity baseline: an item's score is its number of train interactions, the same for every user.
#[derive(Clone, Copy, Debug)]
pub struct Popularity<'a> {
    counts: &'a [u32_le],
    users: usize,
    learnt_from: &'a str,
}

impl<'a> Popularity<'a> {
    /// The baseline of `dataset`.
    pub fn new(dataset: &'a Dataset) -> Self {
        Self { counts: dataset.popularity(), users: dataset.users().len() as usize, learnt_from: dataset.fingerprint() }
    }
}

impl Scorer for Popularity<'_> {
    fn users(&self) -> usize {
        self.users
    }

    fn items(&self) -> usize {
        self.counts.len()
    }

    fn learnt_from(&self) -> Option<&str> {
        Some(self.learnt_from)
    }

    fn score(&self, _: &[u32], items: Range<u32>, out: &mut [f32]) {
        let counts = &self.counts[items.start as usize..items.end as usize];
        let mut rows = out.chunks_exact_mut(counts.len().max(1));
        let Some(first) = rows.next() else { return };
        for (score, count) in first.iter_mut().zip(counts) {
            *score = count.to_native() as f32;
        }
        rows.for_each(|row| row.copy_from_slice(first));
    }

    fn score_items(&self, _: u32, items: &[u32], out: &mut [f32]) {
        for (score, item) in out.iter_mut().zip(items) {
            *score = self.counts[*item as usize].to_native() as f32;
        }
    }
}

/// The random baseline: every pair has a pseudo-random score of its own.
#[derive(Clone, Copy, Debug)]
pub struct RandomScores {
    users: usize,
    items: usize,
    seed: u64,
}

impl RandomScores {
    /// The baseline of `dataset`; equal seeds give equal scores.
    pub fn new(dataset: &Dataset, seed: u64) -> Self {
        let (users, items) = (dataset.users().len() as usize, dataset.items().len() as usize);
        // Another stream than the one that breaks ties under the same seed.
        Self { users, items, seed: mix(!seed) }
    }

    /// A 32-bit mixer (the finalizer of MurmurHash3) keyed twice by the user: 24 bits of it, which compilers vectorize.
    fn draw(user: u64, item: u32) -> f32 {
        let mut x = item.wrapping_mul(0x9E37_79B1) ^ user as u32;
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35) ^ (user >> 32) as u32;
        x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
        ((x ^ (x >> 15)) >> 8) as f32
    }
}

impl Scorer for RandomScores {
    fn users(&self) -> usize {
        self.users
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        for (row, user) in out.chunks_exact_mut(items.len().max(1)).zip(users) {
            let user = user_seed(self.seed, *user);
            for (score, item) in row.iter_mut().zip(items.clone()) {
                *score = Self::draw(user, item);
            }
        }
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        let user = user_seed(self.seed, user);
        for (score, item) in out.iter_mut().zip(items) {
            *score = Self::draw(user, *item);
        }
    }
}
