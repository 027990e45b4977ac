//! What is asked for before it is ranked and let go of behind, where model and dataset do not fit the memory budget.

use std::ops::Range;

use super::{RankError, Scorer};
use crate::context::Context;
use crate::dataset::{Dataset, Interactions};

/// Of an item table that does not fit, this much is read, ranked by all and let go of at a time.
const REGION: u64 = 4 << 20;
/// Reading a region in one go takes as long as reading every so many-th of its pages by itself, or less.
const SPARSE: u64 = 16;
const PAGE: u64 = 4096;

/// While it lives, nothing of the dataset and of the scorer's files is read from the disk but what is touched or asked
/// for, and what lies behind leaves the page cache, too; unless all of it fits half of the budget. The other half is
/// for rankings.
pub(crate) struct Paging<'a> {
    scorer: &'a dyn Scorer,
    parts: Vec<&'a Interactions>,
    soft: u64,
    fits: bool,
}

impl<'a> Paging<'a> {
    pub(crate) fn begin(scorer: &'a dyn Scorer, dataset: &'a Dataset, ctx: &Context) -> Self {
        let parts: Vec<_> = dataset.parts().map(|(_, part)| part).collect();
        let soft = ctx.memory().0 / 2;
        let tables = [(scorer.users(), scorer.user_bytes()), (scorer.items(), scorer.item_bytes())];
        let tables: u64 = tables.iter().map(|(rows, bytes)| *rows as u64 * *bytes as u64).sum();
        let fits = tables + parts.iter().map(|part| part.bytes()).sum::<u64>() <= soft;
        if !fits {
            scorer.read_exactly(true);
            parts.iter().for_each(|part| part.read_exactly(true));
        }
        Self { scorer, parts, soft, fits }
    }

    /// Items to score before those behind are let go of; `None` where all of them fit.
    pub(crate) fn region(&self, scorer: &dyn Scorer) -> Option<usize> {
        let bytes = scorer.item_bytes() as u64;
        (scorer.items() as u64 * bytes > self.soft).then(|| (REGION / bytes.max(1)).max(1) as usize)
    }

    /// `count` of the users from `first` to `last` are ranked for soon.
    pub(crate) fn ask(&self, scorer: &dyn Scorer, (first, last): (u32, u32), count: usize) {
        // Of a sample there is little to read beside what is not needed.
        let most = count as u64 * SPARSE > u64::from(last - first);
        if !self.fits && most {
            scorer.will_rank(first..last + 1);
            self.parts.iter().for_each(|part| part.will_need_users(first, last));
        }
    }

    /// Nobody from `first` to `last` is ranked for any more.
    pub(crate) fn release(&self, scorer: &dyn Scorer, (first, last): (u32, u32)) {
        if !self.fits {
            scorer.release_users(first..last + 1);
            self.parts.iter().for_each(|part| part.evict_users(first, last));
        }
    }

    /// Calls `work` with one region of `region` items after the other, in which `rows` rows are read in all; the next is
    /// asked for meanwhile, the last let go of.
    pub(crate) fn by_regions(
        &self,
        scorer: &dyn Scorer,
        region: Option<usize>,
        rows: u64,
        mut work: impl FnMut(Range<u32>) -> Result<(), RankError>,
    ) -> Result<(), RankError> {
        let items = scorer.items();
        let pages = items as u64 * scorer.item_bytes() as u64 / PAGE;
        let ask = |range: Range<usize>| {
            if !self.fits && !range.is_empty() && rows.saturating_mul(SPARSE) >= pages {
                scorer.will_score(range.start as u32..range.end as u32);
            }
        };
        let step = region.unwrap_or(items).max(1);
        ask(0..step.min(items));
        for start in (0..items).step_by(step) {
            let end = (start + step).min(items);
            ask(end..(end + step).min(items));
            work(start as u32..end as u32)?;
            if region.is_some() {
                scorer.release_items(start as u32..end as u32);
            }
        }
        Ok(())
    }
}

impl Drop for Paging<'_> {
    fn drop(&mut self) {
        if !self.fits {
            self.scorer.read_exactly(false);
            self.parts.iter().for_each(|part| part.read_exactly(false));
        }
    }
}
