//! The sampler of a run: plain draws from one distribution by the fast path, anything else by a mixture.

use std::sync::Arc;

use rand::Rng;

use super::audit::{Looking, NoOne, Onlooker};
use super::{Auditor, Batch, Distribution, Mixture, NegativesConfig, Popularity, Proposal, Renewal, Sampler, Uniform};
use crate::context::{Context, Interrupted};
use crate::dataset::Dataset;
use crate::model::Similarity;

/// Scores as they are at the moment, for samplers that choose by them.
pub(crate) trait Scores {
    /// The scores of `items` for `user`, into a slice of the same length.
    fn of_user(&self, user: u32, items: &[u32], out: &mut [f32]);

    /// The cosines of the angles between the embeddings of `item` and of `items`.
    fn of_item(&self, item: u32, items: &[u32], out: &mut [f32]);

    /// Floats of a row.
    fn width(&self) -> usize;

    /// The row of `user`, `width` floats: its dot products with rows of items are in the order of their scores.
    fn user_row(&self, user: u32, out: &mut [f32]);

    /// The row of `item`.
    fn item_row(&self, item: u32, out: &mut [f32]);
}

/// Which positives are to be trained on, by user and item, where that is not all of them. The others are no negatives all
/// the same.
pub(crate) type Wanted<'a> = Option<&'a dyn Fn(u32, u32) -> bool>;

/// A user's positives in a block.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) user: u32,
    /// Their positions, in the low halves: all that the user has in the block.
    pub(crate) pairs: &'a [u64],
    /// The items of the block, by position.
    pub(crate) block: &'a [u32],
    /// The pairs of the batch that the run becomes part of.
    pub(crate) pool: &'a [u64],
}

/// Draws the negatives of runs.
#[derive(Clone)]
pub(crate) enum Sampling<'a> {
    Uniform(Sampler<Uniform>),
    Popularity(Sampler<Arc<Popularity>>),
    Mixture(Box<Mixture<'a>>),
}

impl<'a> Sampling<'a> {
    /// What `config` says, so many negatives a positive, in blocks of at most `largest_block` items. What components
    /// build once of interactions (their times, users of items) they build of a random `share` of them, from 0 to 1.
    /// `score` is how scores are made, and the temperature of the loss.
    pub(crate) fn new(
        dataset: &'a Dataset,
        (config, each): (&NegativesConfig, usize),
        score: (Similarity, f32),
        largest_block: usize,
        share: f64,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        Ok(match config.simple() {
            Some((Proposal::Uniform, _)) => Self::Uniform(Sampler::new(Uniform, (config, each), largest_block)),
            Some((Proposal::Popularity, alpha)) => {
                let counts = dataset.popularity().iter().map(|c| c.to_native());
                let popularity = Arc::new(Popularity::new(counts, alpha));
                Self::Popularity(Sampler::new(popularity, (config, each), largest_block))
            }
            None => Self::Mixture(Box::new(Mixture::new(dataset, (config, each), score, largest_block, share, ctx)?)),
        })
    }

    /// Whether it depends on the scores of the moment, and so on how far training is.
    pub(crate) fn reads_scores(&self) -> bool {
        match self {
            Self::Uniform(_) | Self::Popularity(_) => false,
            Self::Mixture(mixture) => mixture.reads_scores(),
        }
    }

    /// Renews what it has made of the tables, where that is due.
    pub(crate) fn renew(&self, renewal: Renewal, scores: &(impl Scores + Sync), ctx: &Context) {
        if let Self::Mixture(mixture) = self {
            mixture.renew(renewal, scores, ctx);
        }
    }

    /// Forgets what it has made of tables that are no longer.
    pub(crate) fn forget(&self) {
        if let Self::Mixture(mixture) = self {
            mixture.forget();
        }
    }

    /// Whether a run can only be gone on with, to the bit, where what it has made of the tables is made anew: that is not
    /// so at `progress`, or `None` for inside of an epoch.
    pub(crate) fn remembers(&self, progress: Option<f64>) -> bool {
        match self {
            Self::Uniform(_) | Self::Popularity(_) => false,
            Self::Mixture(mixture) => mixture.remembers(progress),
        }
    }

    /// Whether it has yet to make of the tables what it draws by.
    pub(crate) fn lacks_index(&self) -> bool {
        match self {
            Self::Uniform(_) | Self::Popularity(_) => false,
            Self::Mixture(mixture) => mixture.lacks_index(),
        }
    }

    /// A block begins, when the share `progress` of the run is over; `bucket` are its pairs.
    pub(crate) fn begin(&mut self, progress: f64, bucket: &[u64], rng: &mut impl Rng) {
        if let Self::Mixture(mixture) = self {
            mixture.begin(progress, bucket, rng);
        }
    }

    /// Appends the runs at the front of the bucket `rest` of `block`, with their negatives, to `batch` until it has
    /// `most` positives; returns what is left of the bucket. `pool` are the pairs of the batch. Positives that are not
    /// `wanted` are left out; those that get too few negatives, too, and are counted. `auditor` may ask how the negatives
    /// came about.
    pub(crate) fn fill<'b>(
        &mut self,
        (block, rest, pool): (&[u32], &'b [u64], &[u64]),
        most: usize,
        (scores, auditor, wanted): (&impl Scores, Option<&dyn Auditor>, Wanted<'_>),
        rng: &mut impl Rng,
        batch: &mut Batch,
    ) -> &'b [u64] {
        let of = (block, rest, wanted);
        // Chosen once a batch: once a run costs a quarter of the sampling of plain negatives.
        match (self, auditor) {
            (Self::Uniform(s), None) => plain(s, of, most, rng, batch, &mut NoOne),
            (Self::Popularity(s), None) => plain(s, of, most, rng, batch, &mut NoOne),
            (Self::Uniform(s), Some(a)) => plain(s, of, most, rng, batch, &mut Looking::new(a, scores)),
            (Self::Popularity(s), Some(a)) => plain(s, of, most, rng, batch, &mut Looking::new(a, scores)),
            (Self::Mixture(mixture), _) => each_run(rest, most, batch, |user, pairs, batch| {
                mixture.run(Run { user, pairs, block, pool }, (scores, auditor, wanted), rng, batch);
            }),
        }
    }
}

/// Fills a batch by plain draws from one distribution.
#[inline(always)]
fn plain<'b, P: Distribution>(
    sampler: &mut Sampler<P>,
    (block, rest, wanted): (&[u32], &'b [u64], Wanted<'_>),
    most: usize,
    rng: &mut impl Rng,
    batch: &mut Batch,
    onlooker: &mut impl Onlooker,
) -> &'b [u64] {
    each_run(rest, most, batch, |user, pairs, batch| sampler.run((user, pairs), block, wanted, rng, batch, onlooker))
}

/// Gives the runs of one user each at the front of `rest` to `run`, until `batch` has `most` positives.
#[inline(always)]
fn each_run<'b>(
    mut rest: &'b [u64],
    most: usize,
    batch: &mut Batch,
    mut run: impl FnMut(u32, &'b [u64], &mut Batch),
) -> &'b [u64] {
    while batch.positives.len() < most && !rest.is_empty() {
        let user = rest[0] >> 32;
        let end = rest.iter().position(|pair| pair >> 32 != user).unwrap_or(rest.len());
        let (pairs, later) = rest.split_at(end);
        run(user as u32, pairs, batch);
        rest = later;
    }
    rest
}
