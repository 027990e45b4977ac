//! What is asked for before a window is filled and let go of behind it: chunks of the dataset, rows of tables in files.

use super::plan::{TablePlace, TrainPlan};
use crate::dataset::Interactions;
use crate::model::Tables;

/// Keeps resident what the windows of all lanes need, and little else.
pub(super) struct Paging<'a> {
    interactions: &'a Interactions,
    tables: &'a Tables,
    place: TablePlace,
    releases_cache: bool,
}

impl<'a> Paging<'a> {
    pub(super) fn new(interactions: &'a Interactions, tables: &'a Tables, plan: &TrainPlan) -> Self {
        Self { interactions, tables, place: plan.tables, releases_cache: plan.releases_cache }
    }

    /// A window of these chunks will be filled soon.
    pub(super) fn ask(&self, chunks: &[u32]) {
        for &chunk in chunks {
            self.interactions.will_need(chunk as usize);
            if self.place != TablePlace::Memory {
                self.tables.users.will_need(self.users(chunk));
            }
        }
    }

    /// These chunks have been read into a window.
    pub(super) fn read(&self, chunks: &[u32]) {
        if self.releases_cache {
            chunks.iter().for_each(|chunk| self.interactions.evict(*chunk as usize));
        }
    }

    /// All of a window of these chunks has been trained on.
    pub(super) fn trained(&self, chunks: &[u32]) {
        if self.place != TablePlace::Memory {
            chunks.iter().for_each(|chunk| self.tables.users.let_go(self.users(*chunk)));
        }
        if self.place == TablePlace::BothInFiles {
            self.tables.items.let_go(0..self.tables.items.factors.rows());
        }
    }

    fn users(&self, chunk: u32) -> std::ops::Range<usize> {
        let chunk = self.interactions.chunk(chunk as usize);
        let first = chunk.first_user() as usize;
        first..first + chunk.users()
    }
}

/// While it lives, nothing of the train part is read ahead of what is asked for, if the plan lets go of the page cache.
pub(super) struct ExactReading<'a>(Option<&'a Interactions>);

impl<'a> ExactReading<'a> {
    pub(super) fn begin(interactions: &'a Interactions, plan: &TrainPlan) -> Self {
        let exact = plan.releases_cache.then_some(interactions);
        exact.inspect(|interactions| interactions.read_exactly(true));
        Self(exact)
    }
}

impl Drop for ExactReading<'_> {
    fn drop(&mut self) {
        self.0.inspect(|interactions| interactions.read_exactly(false));
    }
}
