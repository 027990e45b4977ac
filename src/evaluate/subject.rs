//! One scorer to measure, and all that it is measured by.

use super::beyond::Beyond;
use super::cases::Cases;
use super::metrics::Metrics;
use super::slices::Slices;
use super::tally::{Keep, Shape, Sums};
use super::{EvaluateOptions, Protocol};
use crate::dataset::Dataset;
use crate::rank::{Paging, Scorer};

/// One scorer to measure, and all that it is measured by.
pub(super) struct Subject<'a> {
    /// What progress calls it.
    pub(super) name: &'a str,
    pub(super) scorer: &'a dyn Scorer,
    pub(super) cases: &'a Cases<'a>,
    pub(super) dataset: &'a Dataset,
    pub(super) options: &'a EvaluateOptions,
    pub(super) paging: &'a Paging<'a>,
    pub(super) slices: &'a Slices<'a>,
    pub(super) keep: Keep,
    /// Whether what is beyond accuracy is measured, too, in the space of whose items.
    pub(super) outside: Option<&'a dyn Scorer>,
    /// That, once it is there.
    pub(super) beyond: Option<&'a Beyond<'a>>,
    /// Bytes that something else holds meanwhile.
    pub(super) held: usize,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) metrics: Metrics,
    pub(super) sums: Sums,
    /// Of the sampled protocol: users with fewer candidates than negatives; of a list: held-out items without one.
    pub(super) short: Option<u64>,
}

impl<'a> Subject<'a> {
    /// Accuracy alone.
    pub(super) fn new(
        name: &'a str,
        scorer: &'a dyn Scorer,
        cases: &'a Cases<'a>,
        dataset: &'a Dataset,
        options: &'a EvaluateOptions,
        (paging, slices): (&'a Paging<'a>, &'a Slices<'a>),
    ) -> Self {
        let (keep, outside, beyond, held) = (Keep::Means, None, None, 0);
        Self { name, scorer, cases, dataset, options, paging, slices, keep, outside, beyond, held }
    }

    /// All that the options ask for.
    pub(super) fn whole(mut self) -> Self {
        if self.options.intervals || self.slices.groups() > 1 {
            self.keep = Keep::Replicates;
        }
        let outside = self.options.beyond_accuracy && self.options.protocol == Protocol::Full;
        self.outside = outside.then_some(self.scorer);
        self
    }

    pub(super) fn shape(&self) -> Shape<'a> {
        Shape { groups: self.slices.groups(), k: &self.options.k, keep: self.keep }
    }

    /// Bytes in use as long as anything is ranked.
    pub(super) fn taken(&self) -> usize {
        let beyond = self.outside.map_or(0, |_| Beyond::bytes(self.dataset, self.cases, &self.options.k));
        let held = self.held + self.scorer.held_bytes() + self.slices.bytes();
        self.cases.bytes() + held + self.shape().bytes() + beyond
    }
}
