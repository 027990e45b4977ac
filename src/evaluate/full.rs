//! Full ranking: every held-out item among the whole catalogue.

use std::ops::Range;

use rkyv::rend::u32_le;

use super::cases::Cases;
use super::metrics::{MetricAt, Metrics, Totals};
use super::{EvaluateError, EvaluateOptions};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::model::count_above_and_equal;
use crate::rank::{Candidate, Needs, Outcomes, Paging, RankError, Ranking, Scorer, Tiling, Tops};

/// A held-out item of the block at hand: how its score stands among those of the catalogue.
#[derive(Clone, Copy, Default)]
struct Positive {
    score: f32,
    above: u32,
    /// Itself included.
    equal: u32,
}

/// What a held-out item takes while its block is ranked: itself, its id and its score.
const POSITIVE_BYTES: usize = size_of::<Positive>() + 8;

/// A metric of each user, and who takes it, in the order of users.
pub(super) type ByUser<'a> = (MetricAt, &'a mut dyn FnMut(u32, f64));

pub(super) fn measure(
    (name, mut by_user): (&str, Option<ByUser<'_>>),
    scorer: &dyn Scorer,
    cases: &Cases<'_>,
    dataset: &Dataset,
    options: &EvaluateOptions,
    paging: &Paging<'_>,
    ctx: &Context,
) -> Result<Metrics, EvaluateError> {
    let ranking = ranking(scorer, cases, dataset, options, paging, ctx)?;
    let stage = ctx.stage(name, Some(cases.users), Unit::Users);
    let mut totals = Totals::new(options.k.len());
    let each = by_user.as_ref().map(|(metric, _)| *metric);
    ranking.run(cases.users(), &FullRanking { scorer, cases, options, each }, ctx, |(users, block, values)| {
        totals.merge(&block);
        stage.add(users);
        if let Some((_, take)) = &mut by_user {
            values.into_iter().for_each(|(user, value)| take(user, value));
        }
        Ok::<_, EvaluateError>(())
    })?;
    Ok(totals.means(&options.k))
}

/// The ranking of `cases`, in sizes that fit the budget.
pub(super) fn ranking<'a>(
    scorer: &'a dyn Scorer,
    cases: &'a Cases<'_>,
    dataset: &'a Dataset,
    options: &EvaluateOptions,
    paging: &'a Paging<'a>,
    ctx: &Context,
) -> Result<Ranking<'a>, RankError> {
    let k = options.largest_k();
    let needs = Needs {
        users: cases.users,
        k,
        taken: cases.bytes(),
        user_bytes: size_of::<usize>() + cases.seen.parts() * size_of::<&[u32_le]>() + 2 * size_of::<u32>(),
        // While its items are scored they are held too; the ranks of hits are no more than these.
        largest: cases.most * POSITIVE_BYTES,
    };
    let tiling = Tiling::new(&needs, paging.region(scorer), ctx)?;
    Ok(Ranking { scorer, dataset, seen: &cases.seen, paging, k, seed: options.seed, tiling })
}

/// Metrics of rankings.
struct FullRanking<'a> {
    scorer: &'a dyn Scorer,
    cases: &'a Cases<'a>,
    options: &'a EvaluateOptions,
    /// What to keep of each user.
    each: Option<MetricAt>,
}

/// The held-out items of a block's users, and where those of each begin.
struct Positives {
    all: Vec<Positive>,
    offsets: Vec<usize>,
}

impl Outcomes for FullRanking<'_> {
    const PREPARES: bool = true;
    type Own = Positives;
    type Outcome = (u64, Totals, Vec<(u32, f64)>);

    fn lookups(&self, user: u32) -> usize {
        self.cases.held_out.user(user).items.len()
    }

    fn extra(&self, user: u32) -> usize {
        self.cases.held_out.user(user).items.len() * POSITIVE_BYTES
    }

    fn begin(&self, users: &[u32]) -> Positives {
        let mut offsets = Vec::with_capacity(users.len() + 1);
        let mut count = 0;
        offsets.push(0);
        for user in users {
            count += self.cases.held_out.user(*user).items.len();
            offsets.push(count);
        }
        Positives { all: vec![Positive::default(); count], offsets }
    }

    fn prepare(&self, own: &mut Positives, users: &[u32], region: Range<u32>) {
        let (mut items, mut scores) = (Vec::new(), Vec::new());
        for (user, offset) in users.iter().zip(&own.offsets) {
            let held_out = self.cases.held_out.user(*user).items;
            let from = held_out.partition_point(|i| i.to_native() < region.start);
            let to = held_out.partition_point(|i| i.to_native() < region.end);
            if from == to {
                continue;
            }
            items.clear();
            items.extend(held_out[from..to].iter().map(|i| i.to_native()));
            scores.resize(items.len(), 0.0);
            self.scorer.score_items(*user, &items, &mut scores);
            for (positive, score) in own.all[offset + from..offset + to].iter_mut().zip(&scores) {
                positive.score = *score;
            }
        }
    }

    fn visit(&self, own: &mut Positives, index: usize, scores: &[f32]) {
        for positive in &mut own.all[own.offsets[index]..own.offsets[index + 1]] {
            let (above, equal) = count_above_and_equal(scores, positive.score);
            positive.above += above;
            positive.equal += equal;
        }
    }

    fn finish(&self, users: &[u32], tops: &mut Tops, own: Positives) -> Self::Outcome {
        let mut totals = Totals::new(self.options.k.len());
        let mut values = Vec::new();
        for (u, user) in users.iter().enumerate() {
            let positives = &own.all[own.offsets[u]..own.offsets[u + 1]];
            let ranks = ranks_of_hits(self.cases, *user, tops.sorted(u));
            totals.add(&ranks, positives.len(), &self.options.k);
            values.extend(self.each.map(|metric| (*user, metric.of(&ranks, positives.len()))));
            let masked = self.cases.seen.len(*user);
            if let Some(auc) = area_under_curve(positives, self.scorer.items() - masked, masked) {
                totals.add_auc(auc);
            }
        }
        (users.len() as u64, totals, values)
    }
}

/// The ranks, from 1, at which held-out items stand among the top K.
fn ranks_of_hits(cases: &Cases<'_>, user: u32, best: &[Candidate]) -> Vec<u32> {
    let held_out = cases.held_out.user(user).items;
    let is_hit = |item: u32| held_out.binary_search_by_key(&item, |i| i.to_native()).is_ok();
    let ranked = (1..).zip(best);
    ranked.filter(|(_, candidate)| is_hit(candidate.item())).map(|(rank, _)| rank).collect()
}

/// The share of pairs (held-out item, negative) in the right order, ties counting half; `None` without negatives.
///
/// The counts include the other held-out items. Each pair of these adds one to their sum, whichever is above, or
/// twice a half; so the sum over negatives alone follows without sorting.
fn area_under_curve(positives: &[Positive], candidates: usize, masked: usize) -> Option<f64> {
    let n = positives.len() as f64;
    let negatives = (candidates - positives.len()) as f64;
    if negatives == 0.0 {
        return None;
    }
    let below_others: f64 = positives
        .iter()
        .map(|p| {
            // Masked items stand at −∞ in the tiles, and tie with nothing.
            let equal = p.equal - if p.score == f32::NEG_INFINITY { masked as u32 } else { 0 };
            f64::from(p.above) + 0.5 * (f64::from(equal) - 1.0)
        })
        .sum();
    Some(1.0 - (below_others - n * (n - 1.0) / 2.0) / (n * negatives))
}
