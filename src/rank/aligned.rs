//! A scorer beside a dataset that has grown since it was made.

use std::ops::Range;

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
}

impl<'a> Aligned<'a> {
    /// # Errors
    /// If the scorer does not belong to the dataset, or knows more users or items than that has.
    pub(crate) fn new(scorer: &'a dyn Scorer, dataset: &Dataset) -> Result<Self, RankError> {
        scorer.check(dataset)?;
        let (users, items) = (dataset.users().len(), dataset.items().len());
        if scorer.users() > users as usize || scorer.items() > items as usize {
            return Err(shape(scorer, dataset));
        }
        Ok(Self { scorer, users, items })
    }

    /// As [`Aligned::new`], for what makes no sense of users and items that the scorer does not know.
    ///
    /// # Errors
    /// Those of [`Aligned::new`], and if there are any.
    pub(crate) fn whole(scorer: &'a dyn Scorer, dataset: &Dataset) -> Result<Self, RankError> {
        let aligned = Self::new(scorer, dataset)?;
        match aligned.knows_all() {
            true => Ok(aligned),
            false => Err(shape(scorer, dataset)),
        }
    }

    /// The users that the scorer knows: the first so many.
    pub(crate) fn known_users(&self) -> u32 {
        self.scorer.users() as u32
    }

    /// The items that the scorer knows: the first so many.
    pub(crate) fn known_items(&self) -> u32 {
        self.scorer.items() as u32
    }

    /// Whether those are all.
    pub(crate) fn knows_all(&self) -> bool {
        (self.known_users(), self.known_items()) == (self.users, self.items)
    }

    fn known(range: Range<u32>, known: u32) -> Range<u32> {
        range.start.min(known)..range.end.min(known)
    }
}

fn shape(scorer: &dyn Scorer, dataset: &Dataset) -> RankError {
    RankError::Shape {
        users: scorer.users(),
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
        self.scorer.will_score(Self::known(items, self.known_items()));
    }

    fn will_rank(&self, users: Range<u32>) {
        self.scorer.will_rank(Self::known(users, self.known_users()));
    }

    fn release_items(&self, items: Range<u32>) {
        self.scorer.release_items(Self::known(items, self.known_items()));
    }

    fn release_users(&self, users: Range<u32>) {
        self.scorer.release_users(Self::known(users, self.known_users()));
    }

    fn calibration(&self) -> Option<&Calibration> {
        self.scorer.calibration()
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        let (known_users, known) = (self.known_users(), Self::known(items.clone(), self.known_items()));
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
        if user >= self.known_users() {
            out.fill(0.0);
        } else if items.iter().all(|item| *item < known_items) {
            return self.scorer.score_items(user, items, out);
        } else {
            let mut start = 0;
            for run in items.chunk_by(|a, b| (*a < known_items) == (*b < known_items)) {
                if run[0] < known_items {
                    self.scorer.score_items(user, run, &mut out[start..start + run.len()]);
                }
                start += run.len();
            }
        }
        let unknown = items.iter().zip(out).filter(|(item, _)| **item >= known_items);
        unknown.for_each(|(_, score)| *score = f32::NEG_INFINITY);
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
        assert!(Aligned::whole(&matrix(7, 9), &data).is_ok());
        assert!(matches!(Aligned::whole(&matrix(7, 8), &data), Err(RankError::Shape { .. })));
    }
}
