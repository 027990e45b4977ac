//! Full ranking: every held-out item among the whole catalogue.

use std::ops::Range;

use rkyv::rend::u32_le;

use super::EvaluateError;
use super::beyond::{Beyond, BeyondSums, BlockBeyond, Lists};
use super::cases::Cases;
use super::subject::{Measured, Subject};
use super::tally::{Sums, Tally};
use crate::context::{Context, Unit};
use crate::model::count_above_and_equal;
use crate::rank::{Candidate, Needs, Outcomes, RankError, Ranking, Scorer, Tiling, Tops, user_seed};

/// A held-out item of the block at hand: how its score stands among those of the catalogue.
#[derive(Clone, Copy, Default)]
struct Positive {
    score: f32,
    above: u32,
    /// Itself included.
    equal: u32,
    /// Of the equal ones, those that ties place before it; counted where slices of interactions are measured.
    before: u32,
}

/// What a held-out item takes while its block is ranked: itself, its id and its score.
const POSITIVE_BYTES: usize = size_of::<Positive>() + 8;

pub(super) fn measure(subject: &Subject<'_>, ctx: &Context) -> Result<Measured, EvaluateError> {
    let ranking = ranking(subject, ctx)?;
    let stage = ctx.stage(subject.name, Some(subject.cases.users), Unit::Users);
    let k = &subject.options.k;
    let mut sums = Sums::new(subject.shape());
    let mut beyond = subject.beyond.map(BeyondSums::new);
    let exact = subject.slices.of_interactions();
    ranking.run(subject.cases.users(), &FullRanking { subject, exact }, ctx, |(users, block, outside)| {
        sums.merge(block);
        if let (Some(beyond), Some(block)) = (&mut beyond, outside) {
            beyond.merge(k, &block);
        }
        stage.add(users);
        Ok::<_, EvaluateError>(())
    })?;
    let mut metrics = sums.totals[0].means(k);
    if let Some(beyond) = beyond {
        beyond.append_to(k, &mut metrics);
    }
    Ok(Measured { metrics, sums, short: None })
}

/// The ranking of a subject, in sizes that fit the budget.
pub(super) fn ranking<'a>(subject: &'a Subject<'a>, ctx: &Context) -> Result<Ranking<'a>, RankError> {
    let Subject { scorer, cases, dataset, options, paging, .. } = *subject;
    let k = options.largest_k();
    let beyond = subject.outside.map_or(0, |space| Beyond::user_bytes(&options.k, space));
    let groups = subject.slices.most_of_a_user(cases.most);
    let needs = Needs {
        users: cases.users,
        k,
        taken: subject.taken(),
        user_bytes: size_of::<usize>()
            + cases.seen.parts() * size_of::<&[u32_le]>()
            + 2 * size_of::<u32>()
            + if subject.slices.of_interactions() { size_of::<(u32, u64)>() } else { 0 }
            + beyond
            + subject.shape().ranking_bytes(groups),
        // While its items are scored they are held too; the ranks of hits are no more than these.
        largest: cases.most * POSITIVE_BYTES,
    };
    let tiling = Tiling::new(&needs, paging.region(scorer), ctx)?;
    Ok(Ranking { scorer, dataset, seen: &cases.seen, paging, k, seed: options.seed, tiling })
}

/// Metrics of rankings.
struct FullRanking<'a> {
    subject: &'a Subject<'a>,
    /// Whether the rank of every held-out item is found, not of those among the best K only.
    exact: bool,
}

/// The held-out items of a block's users, where those of each begin, and what is recommended.
struct Positives {
    all: Vec<Positive>,
    offsets: Vec<usize>,
    /// The users' seeds, where ties are counted.
    seeds: Vec<(u32, u64)>,
    lists: Option<Lists>,
}

impl<'a> Outcomes for FullRanking<'a> {
    const PREPARES: bool = true;
    type Own = Positives;
    type Outcome = (u64, Tally<'a>, Option<BlockBeyond>);

    fn lookups(&self, user: u32) -> usize {
        self.subject.cases.held_out.user(user).items.len()
    }

    fn extra(&self, user: u32) -> usize {
        self.subject.cases.held_out.user(user).items.len() * POSITIVE_BYTES
    }

    fn begin(&self, users: &[u32]) -> Positives {
        let mut offsets = Vec::with_capacity(users.len() + 1);
        let mut count = 0;
        offsets.push(0);
        for user in users {
            count += self.subject.cases.held_out.user(*user).items.len();
            offsets.push(count);
        }
        let seed = self.subject.options.seed;
        let seeds = if self.exact { users.iter().map(|u| (*u, user_seed(seed, *u))).collect() } else { Vec::new() };
        Positives { all: vec![Positive::default(); count], offsets, seeds, lists: None }
    }

    fn prepare(&self, own: &mut Positives, users: &[u32], region: Range<u32>) {
        let (mut items, mut scores) = (Vec::new(), Vec::new());
        for (user, offset) in users.iter().zip(&own.offsets) {
            let held_out = self.subject.cases.held_out.user(*user).items;
            let from = held_out.partition_point(|i| i.to_native() < region.start);
            let to = held_out.partition_point(|i| i.to_native() < region.end);
            if from == to {
                continue;
            }
            items.clear();
            items.extend(held_out[from..to].iter().map(|i| i.to_native()));
            scores.resize(items.len(), 0.0);
            self.subject.scorer.score_items(*user, &items, &mut scores);
            for (positive, score) in own.all[offset + from..offset + to].iter_mut().zip(&scores) {
                positive.score = *score;
            }
        }
    }

    fn visit(&self, own: &mut Positives, index: usize, first: u32, scores: &[f32]) {
        let positives = &mut own.all[own.offsets[index]..own.offsets[index + 1]];
        let Some((user, seed)) = own.seeds.get(index) else {
            for positive in positives {
                let (above, equal) = count_above_and_equal(scores, positive.score);
                positive.above += above;
                positive.equal += equal;
            }
            return;
        };
        let held_out = self.subject.cases.held_out.user(*user).items;
        for (positive, item) in positives.iter_mut().zip(held_out) {
            let (above, equal) = count_above_and_equal(scores, positive.score);
            positive.above += above;
            positive.equal += equal;
            // Few tiles hold an equal score; only those are looked at one by one.
            if equal == 0 || positive.score == f32::NEG_INFINITY {
                continue;
            }
            let place = Candidate::new(positive.score, item.to_native(), *seed);
            let ties = (first..).zip(scores).filter(|(_, score)| **score == positive.score);
            positive.before +=
                ties.filter(|(item, score)| Candidate::new(**score, *item, *seed) > place).count() as u32;
        }
    }

    fn follows(&self) -> Option<&dyn Scorer> {
        self.subject.beyond?.space.map(|(scorer, ..)| scorer)
    }

    fn ranked(&self, own: &mut Positives, users: &[u32], tops: &mut Tops) {
        own.lists = self.subject.beyond.map(|b| b.lists(users.len(), |u, take| take(tops.sorted(u))));
    }

    fn follow(&self, own: &mut Positives, region: Range<u32>) {
        if let (Some(beyond), Some(lists)) = (self.subject.beyond, &mut own.lists) {
            beyond.add_vectors(lists, &region);
        }
    }

    fn finish(&self, users: &[u32], tops: &mut Tops, own: Positives) -> Self::Outcome {
        let Subject { cases, slices, .. } = *self.subject;
        let mut tally = Tally::new(self.subject.shape());
        let mut outside = self.subject.beyond.map(Beyond::begin);
        for (u, user) in users.iter().enumerate() {
            let positives = &own.all[own.offsets[u]..own.offsets[u + 1]];
            let best = tops.sorted(u);
            let ranks = ranks_of_hits(cases, *user, best);
            let masked = cases.seen.len(*user);
            let candidates = self.subject.scorer.items() - masked;
            let auc = area_under_curve(positives, candidates, masked);
            for group in std::iter::once(0).chain(slices.of_user(*user)) {
                tally.add(*user, group, (&ranks, positives.len(), auc));
            }
            if self.exact {
                self.by_interaction(*user, positives, (candidates, masked), &mut tally);
            }
            if let (Some(beyond), Some(outside)) = (self.subject.beyond, &mut outside) {
                beyond.add(outside, (u, *user), cases, best, own.lists.as_ref());
            }
        }
        (users.len() as u64, tally, outside)
    }
}

impl FullRanking<'_> {
    /// Measures the slices of a user's held-out items: those of each are ranked without the user's others.
    fn by_interaction(
        &self,
        user: u32,
        positives: &[Positive],
        (candidates, masked): (usize, usize),
        tally: &mut Tally<'_>,
    ) {
        let held_out = self.subject.cases.held_out.user(user);
        let rank = |at: usize| {
            let p = &positives[at];
            if p.score == f32::NEG_INFINITY { u32::MAX } else { 1 + p.above + p.before }
        };
        let mut order: Vec<usize> = (0..positives.len()).collect();
        order.sort_unstable_by_key(|at| rank(*at));
        // (slice, place in the order): each slice's items together, from the best.
        let mut of: Vec<(usize, usize)> = Vec::new();
        for (place, at) in order.iter().enumerate() {
            of.extend(self.subject.slices.of_interaction(&held_out, *at).map(|group| (group, place)));
        }
        of.sort_unstable();
        for slice in of.chunk_by(|a, b| a.0 == b.0) {
            let ranked = slice.iter().filter(|(_, place)| rank(order[*place]) < u32::MAX);
            // Of the `place` held-out items before it, all but those of the slice are taken out.
            let ranks: Vec<u32> =
                ranked.enumerate().map(|(own, (_, place))| rank(order[*place]) - (*place - own) as u32).collect();
            let negatives = candidates - positives.len();
            let auc = (negatives > 0).then(|| {
                let below: f64 = slice
                    .iter()
                    .map(|(_, place)| {
                        let p = &positives[order[*place]];
                        let others = |f: &dyn Fn(f32) -> bool| positives.iter().filter(|q| f(q.score)).count() as f64;
                        let tied = f64::from(unmasked_equal(p, masked)) - others(&|score| score == p.score);
                        f64::from(p.above) - others(&|score| score > p.score) + 0.5 * tied
                    })
                    .sum();
                1.0 - below / (slice.len() as f64 * negatives as f64)
            });
            tally.add(user, slice[0].0, (&ranks, slice.len(), auc));
        }
    }
}

/// The ranks, from 1, at which held-out items stand among the top K.
fn ranks_of_hits(cases: &Cases<'_>, user: u32, best: &[Candidate]) -> Vec<u32> {
    let held_out = cases.held_out.user(user).items;
    let is_hit = |item: u32| held_out.binary_search_by_key(&item, |i| i.to_native()).is_ok();
    let ranked = (1..).zip(best);
    ranked.filter(|(_, candidate)| is_hit(candidate.item())).map(|(rank, _)| rank).collect()
}

/// How many candidates tie with a held-out item, itself included. Masked items stand at −∞ in the tiles, and tie with
/// nothing.
fn unmasked_equal(positive: &Positive, masked: usize) -> u32 {
    positive.equal - if positive.score == f32::NEG_INFINITY { masked as u32 } else { 0 }
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
    let below_others: f64 =
        positives.iter().map(|p| f64::from(p.above) + 0.5 * (f64::from(unmasked_equal(p, masked)) - 1.0)).sum();
    Some(1.0 - (below_others - n * (n - 1.0) / 2.0) / (n * negatives))
}
