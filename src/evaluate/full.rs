//! Full ranking: every held-out item among the whole catalogue.

use std::ops::Range;

use rayon::prelude::*;

use super::cases::Cases;
use super::metrics::{Metrics, Totals};
use super::{EvaluateError, EvaluateOptions};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::model::count_above_and_equal;
use crate::rank::{RankError, Scorer, Tiling, Top, rank_block, workers};

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

pub(super) fn measure(
    name: &str,
    scorer: &dyn Scorer,
    cases: &Cases<'_>,
    dataset: &Dataset,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<Metrics, EvaluateError> {
    let k = options.largest_k();
    let (taken, spare) = (cases.users.len() * 4, cases.most * POSITIVE_BYTES);
    let tiling = Tiling::new(cases.users.len(), k, taken, k * 4 + size_of::<usize>(), spare, ctx)?;
    let blocks = blocks(cases, tiling);
    let stage = ctx.stage(name, Some(cases.users.len() as u64), Unit::Users);
    let totals = workers(ctx)?.install(|| {
        blocks
            .into_par_iter()
            .map(|block| {
                let users = &cases.users[block];
                let totals = measure_block(scorer, cases, dataset, users, tiling.tile, options, ctx)?;
                stage.add(users.len() as u64);
                Ok(totals)
            })
            .try_reduce(|| Totals::new(options.k.len()), |a, b| Ok(a.merge(b)))
            .map_err(|e: RankError| e)
    })?;
    Ok(totals.means(&options.k))
}

/// Consecutive users, as many as the tiling allows and as their held-out items fit into its spare memory.
fn blocks(cases: &Cases<'_>, tiling: Tiling) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, user) in cases.users.iter().enumerate() {
        let more = cases.held_out.user(*user).items.len() * POSITIVE_BYTES;
        if i > start && (i - start == tiling.block || bytes + more > tiling.spare) {
            blocks.push(start..i);
            (start, bytes) = (i, 0);
        }
        bytes += more;
    }
    blocks.push(start..cases.users.len());
    blocks
}

fn measure_block(
    scorer: &dyn Scorer,
    cases: &Cases<'_>,
    dataset: &Dataset,
    users: &[u32],
    tile: usize,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<Totals, RankError> {
    let mut positives = Vec::new();
    let mut offsets = vec![0];
    for user in users {
        let items: Vec<u32> = cases.held_out.user(*user).items.iter().map(|i| i.to_native()).collect();
        let mut scores = vec![0.0; items.len()];
        scorer.score_items(*user, &items, &mut scores);
        positives.extend(scores.iter().map(|score| Positive { score: *score, ..Positive::default() }));
        offsets.push(positives.len());
    }
    let ranking = (options.largest_k(), options.seed);
    let tops = rank_block(scorer, dataset, users, &cases.seen, ranking, tile, ctx, |u, scores| {
        for positive in &mut positives[offsets[u]..offsets[u + 1]] {
            let (above, equal) = count_above_and_equal(scores, positive.score);
            positive.above += above;
            positive.equal += equal;
        }
    })?;
    let mut totals = Totals::new(options.k.len());
    for (u, (user, top)) in users.iter().zip(tops).enumerate() {
        let positives = &positives[offsets[u]..offsets[u + 1]];
        totals.add(&ranks_of_hits(cases, *user, top), positives.len(), &options.k);
        let masked = cases.seen.len(*user);
        if let Some(auc) = area_under_curve(positives, scorer.items() - masked, masked) {
            totals.add_auc(auc);
        }
    }
    Ok(totals)
}

/// The ranks, from 1, at which held-out items stand among the top K.
fn ranks_of_hits(cases: &Cases<'_>, user: u32, top: Top) -> Vec<u32> {
    let held_out = cases.held_out.user(user).items;
    let is_hit = |item: u32| held_out.binary_search_by_key(&item, |i| i.to_native()).is_ok();
    let ranked = (1..).zip(top.into_sorted());
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
