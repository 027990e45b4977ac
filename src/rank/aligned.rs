//! A scorer beside a dataset that has grown since it was made.

use std::ops::Range;

use roaring::RoaringBitmap;

use super::{RankError, Scorer};
use crate::dataset::Dataset;
use crate::model::{Calibration, Factors, ModelError};

/// A scorer with the users and items of a dataset.
///
/// Ids keep their numbers whatever is appended, so that what the scorer knows are the first of each. Of items that came
/// later it knows nothing, and never recommends them: their scores are −∞. To users who came later all items that it
/// knows are alike: their scores are 0.
pub(crate) struct Aligned<'a> {
    scorer: &'a dyn Scorer,
    users: u32,
    items: u32,
    known: Known,
}

/// The users of a dataset whom a scorer knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The first so many,
    first: u32,
    /// but for those who had an id, and no train interactions before they came to have some.
    but: RoaringBitmap,
}

impl Known {
    fn new(scorer: &dyn Scorer, dataset: &Dataset) -> Result<Self, RankError> {
        let first = scorer.users() as u32;
        let appended = scorer.learnt_from().map(|then| dataset.appended_since(then)).transpose()?.flatten();
        let mut but = appended.map(|appended| appended.new_users(dataset.train())).unwrap_or_default();
        but.remove_range(first..);
        Ok(Self { first, but })
    }

    /// Whether `user` is one.
    pub(crate) fn has(&self, user: u32) -> bool {
        user < self.first && (self.but.is_empty() || !self.but.contains(user))
    }

    /// Whether it has all of the first so many users.
    fn has_all(&self, users: u32) -> bool {
        self.first == users && self.but.is_empty()
    }

    /// How many they are.
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.first) - self.but.len()
    }

    /// Those whom both know.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self { first: self.first.min(other.first), but: &self.but | &other.but }
    }
}

impl<'a> Aligned<'a> {
    /// O(train interactions that were appended since the scorer learnt).
    ///
    /// # Errors
    /// If the scorer does not belong to the dataset, or knows more users or items than that has.
    pub(crate) fn new(scorer: &'a dyn Scorer, dataset: &Dataset) -> Result<Self, RankError> {
        scorer.check(dataset)?;
        let (users, items) = (dataset.users().len(), dataset.items().len());
        if scorer.users() > users as usize || scorer.items() > items as usize {
            return Err(shape(scorer.users(), scorer, dataset));
        }
        Ok(Self { scorer, users, items, known: Known::new(scorer, dataset)? })
    }

    /// Makes sure that nothing is asked of it that it does not know, for what makes no sense of that.
    ///
    /// # Errors
    /// If it does not know all users and items.
    pub(crate) fn check_whole(&self, dataset: &Dataset) -> Result<(), RankError> {
        if self.knows_all() { Ok(()) } else { Err(shape(self.known.count() as usize, self.scorer, dataset)) }
    }

    /// The users whom the scorer knows.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    /// How many rows of users it has: those of the first so many.
    fn known_users(&self) -> u32 {
        self.scorer.users() as u32
    }

    /// The items that the scorer knows: the first so many.
    pub(crate) fn known_items(&self) -> u32 {
        self.scorer.items() as u32
    }

    /// Whether it knows all users and items.
    pub(crate) fn knows_all(&self) -> bool {
        self.known.has_all(self.users) && self.known_items() == self.items
    }

    fn of_known(range: Range<u32>, known: u32) -> Range<u32> {
        range.start.min(known)..range.end.min(known)
    }
}

fn shape(users: usize, scorer: &dyn Scorer, dataset: &Dataset) -> RankError {
    RankError::Shape {
        users,
        items: scorer.items(),
        dataset_users: dataset.users().len() as usize,
        dataset_items: dataset.items().len() as usize,
    }
}

impl Scorer for Aligned<'_> {
    fn users(&self) -> usize {
        self.users as usize
    }

    fn items(&self) -> usize {
        self.items as usize
    }

    fn check(&self, dataset: &Dataset) -> Result<(), ModelError> {
        self.scorer.check(dataset)
    }

    fn learnt_from(&self) -> Option<&str> {
        self.scorer.learnt_from()
    }

    fn item_bytes(&self) -> usize {
        self.scorer.item_bytes()
    }

    fn user_bytes(&self) -> usize {
        self.scorer.user_bytes()
    }

    fn held_bytes(&self) -> usize {
        self.scorer.held_bytes()
    }

    fn item_vectors(&self) -> Option<(&Factors, usize)> {
        self.scorer.item_vectors()
    }

    fn read_exactly(&self, exactly: bool) {
        self.scorer.read_exactly(exactly);
    }

    fn will_score(&self, items: Range<u32>) {
        self.scorer.will_score(Self::of_known(items, self.known_items()));
    }

    fn will_rank(&self, users: Range<u32>) {
        self.scorer.will_rank(Self::of_known(users, self.known_users()));
    }

    fn release_items(&self, items: Range<u32>) {
        self.scorer.release_items(Self::of_known(items, self.known_items()));
    }

    fn release_users(&self, users: Range<u32>) {
        self.scorer.release_users(Self::of_known(users, self.known_users()));
    }

    fn calibration(&self) -> Option<&Calibration> {
        self.scorer.calibration()
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        let (known_users, known) = (self.known_users(), Self::of_known(items.clone(), self.known_items()));
        let width = items.len();
        if width == 0 {
            return;
        }
        if known == items && users.iter().all(|user| *user < known_users) {
            return self.scorer.score(users, items, out);
        }
        // Row by row where rows have a tail that is not the scorer's: of all tiles of items one at most has both.
        let run = if known == items { users.len() } else { 1 };
        let mut start = 0;
        for users in users.chunk_by(|a, b| (*a < known_users) == (*b < known_users)) {
            for users in users.chunks(run.max(1)) {
                let rows = &mut out[start * width..(start + users.len()) * width];
                start += users.len();
                match users[0] < known_users {
                    false => rows.fill(0.0),
                    true if known == items => self.scorer.score(users, items.clone(), rows),
                    true if known.is_empty() => {}
                    true => self.scorer.score(users, known.clone(), &mut rows[..known.len()]),
                }
                rows.chunks_exact_mut(width).for_each(|row| row[known.len()..].fill(f32::NEG_INFINITY));
            }
        }
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        let known_items = self.known_items();
        let is_known = |item: &u32| *item < known_items;
        if user < self.known_users() && items.iter().all(is_known) {
            return self.scorer.score_items(user, items, out);
        }
        let mut start = 0;
        for run in items.chunk_by(|a, b| is_known(a) == is_known(b)) {
            let out = &mut out[start..start + run.len()];
            start += run.len();
            match (is_known(&run[0]), user < self.known_users()) {
                (false, _) => out.fill(f32::NEG_INFINITY),
                (true, false) => out.fill(0.0),
                (true, true) => self.scorer.score_items(user, run, out),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Part;
    use crate::rank::fixture::{Matrix, dataset, noise};

    fn grown(folder: &std::path::Path) -> Dataset {
        dataset(&folder.join("d"), 9, &[(Part::Train, (0..7).map(|u| vec![u, (u + 1) % 9]).collect())])
    }

    fn matrix(users: usize, items: usize) -> Matrix {
        let scores = (0..users * items).map(|at| noise(at, 1)).collect();
        Matrix { users, items, scores }
    }

    #[test]
    fn what_came_later_is_never_recommended_and_nothing_is_known_of_who_came_later() {
        let folder = tempfile::tempdir().unwrap();
        let data = grown(folder.path());
        let own = matrix(5, 6);
        let aligned = Aligned::new(&own, &data).unwrap();
        assert_eq!((aligned.users(), aligned.items(), aligned.knows_all()), (7, 9, false));
        let expected = |user: u32, item: u32| match (user < 5, item < 6) {
            (_, false) => f32::NEG_INFINITY,
            (false, true) => 0.0,
            (true, true) => own.scores[user as usize * 6 + item as usize],
        };
        for users in [vec![0, 1, 2], vec![6, 0, 5, 4, 3], vec![5, 6], vec![2]] {
            for start in 0..9 {
                for end in start..=9 {
                    let mut out = vec![7.0; users.len() * (end - start) as usize];
                    aligned.score(&users, start..end, &mut out);
                    let all = users.iter().flat_map(|user| (start..end).map(|item| expected(*user, item)));
                    assert_eq!(out, all.collect::<Vec<_>>(), "{users:?} {start}..{end}");
                }
            }
            for user in users {
                let items = [8, 0, 5, 6, 7, 2, 1];
                let mut out = [7.0; 7];
                aligned.score_items(user, &items, &mut out);
                assert_eq!(out, items.map(|item| expected(user, item)));
            }
        }
    }

    #[test]
    fn what_knows_more_than_the_dataset_is_not_its_scorer() {
        let folder = tempfile::tempdir().unwrap();
        let data = grown(folder.path());
        for (users, items) in [(8, 9), (7, 10)] {
            let own = matrix(users, items);
            assert!(matches!(Aligned::new(&own, &data), Err(RankError::Shape { .. })));
        }
        let whole = |own: &Matrix| Aligned::new(own, &data).unwrap().check_whole(&data);
        assert!(whole(&matrix(7, 9)).is_ok());
        assert!(matches!(whole(&matrix(7, 8)), Err(RankError::Shape { .. })));
        assert!(matches!(whole(&matrix(6, 9)), Err(RankError::Shape { .. })));
    }
}
