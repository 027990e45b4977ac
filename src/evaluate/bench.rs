//! How fast users are ranked and evaluated: each stage alone, the whole, and what the machine could do at most.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use super::cases::Cases;
use super::slices::Slices;
use super::subject::Subject;
use super::{EvaluateError, EvaluateOptions, full};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::mix::mix;
use crate::model::InstructionSet;
use crate::rank::{Aligned, Outcomes, Paging, RankError, Scorer, Tops, workers};

/// Each stage is measured that often; the median counts.
const ROUNDS: usize = 3;
/// Users and items whose scores the bare kernel computes again and again: their rows stay in L2.
const KERNEL_USERS: usize = 512;
const KERNEL_ITEMS: usize = 64;
const KERNEL_SECONDS: f64 = 0.3;
/// Scores drawn before top-K is measured, a power of two.
const DRAWN: usize = 1 << 16;

/// Rates of [`bench_evaluate`], a second.
#[derive(Clone, Debug, Serialize)]
pub struct EvaluateBench {
    /// The whole evaluation: ranking, all metrics and the AUC.
    pub users_per_second: f64,
    /// The bare kernel of scores on rows that stay in cache: what the evaluation could reach at most.
    pub limit_users_per_second: f64,
    /// Scoring every item of the catalogue, and nothing else.
    pub score_users_per_second: f64,
    /// Finding the best K in scores that are there already, and nothing else.
    pub top_users_per_second: f64,
    /// Scoring, masking what was seen, and the best K: what recommending takes.
    pub rank_users_per_second: f64,
    /// Scores of [`EvaluateBench::score_users_per_second`].
    pub scores_per_second: f64,
    /// Scores of the bare kernel.
    pub limit_scores_per_second: f64,
    /// Worker threads.
    pub threads: usize,
    /// Kernels used.
    pub instruction_set: String,
    /// Users evaluated.
    pub users: u64,
    /// Their held-out interactions.
    pub interactions: u64,
    /// Items of the catalogue.
    pub items: u64,
    /// The largest cut-off.
    pub k: usize,
}

/// Measures the full ranking of [`evaluate`](super::evaluate) with `scorer`, without baselines.
///
/// # Errors
/// As for [`evaluate`](super::evaluate).
pub fn bench_evaluate(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<EvaluateBench, EvaluateError> {
    let scorer = &Aligned::new(scorer, dataset)?;
    options.check(dataset)?;
    let paging = &Paging::begin(scorer, dataset, ctx);
    let cases = super::choose(scorer, scorer.known().clone(), dataset, options, paging, ctx)?;
    let slices = &Slices::none(dataset);
    let subject = Subject::new("evaluating", scorer, &cases, dataset, options, (paging, slices));
    let ranking = full::ranking(&subject, ctx)?;
    let stage = ctx.stage("measuring", None, Unit::Users);
    let median = |name: &str, run: &dyn Fn() -> Result<f64, EvaluateError>| -> Result<f64, EvaluateError> {
        stage.note(name);
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            rates.push(run()?);
            ctx.check()?;
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[rates.len() / 2])
    };
    let since = |began: Instant| cases.users as f64 / began.elapsed().as_secs_f64();
    let items = scorer.items();
    let tile = ranking.tiling.tile;
    let score = median("score", &|| {
        let began = Instant::now();
        by_blocks(&cases, ranking.tiling.block, ctx, |users| {
            let mut scores = vec![0.0; users.len() * tile];
            for start in (0..items).step_by(tile) {
                let range = start as u32..(start + tile).min(items) as u32;
                scorer.score(users, range.clone(), &mut scores[..users.len() * range.len()]);
                black_box(&mut scores);
            }
        })?;
        Ok(since(began))
    })?;
    let drawn: Vec<f32> = (0..DRAWN).map(|i| (mix(i as u64) >> 40) as f32).collect();
    let top = median("top-K", &|| {
        let began = Instant::now();
        by_blocks(&cases, ranking.tiling.block, ctx, |users| {
            let mut tops = Tops::new(ranking.k);
            for user in users {
                tops.begin(options.seed, &[*user]);
                for start in (0..items).step_by(tile) {
                    // Another place for each user and tile, so that no two rankings are the same.
                    let at = mix(u64::from(*user) << 32 | start as u64) as usize % (DRAWN - tile);
                    // Scores drawn are no NaN.
                    let _ = tops.offer(0, start as u32, &drawn[at..at + tile.min(items - start)]);
                }
                black_box(tops.sorted(0));
            }
        })?;
        Ok(since(began))
    })?;
    let rank = median("score, mask and top-K", &|| {
        let began = Instant::now();
        ranking.run(cases.users(), &Nothing, ctx, |()| Ok::<_, EvaluateError>(()))?;
        Ok(since(began))
    })?;
    let whole = median("evaluate", &|| {
        let began = Instant::now();
        full::measure(&subject, ctx)?;
        Ok(since(began))
    })?;
    let limit = median("bare kernel", &|| bare_kernel(scorer, ctx))?;
    drop(stage);
    Ok(EvaluateBench {
        users_per_second: whole,
        limit_users_per_second: limit / items as f64,
        score_users_per_second: score,
        top_users_per_second: top,
        rank_users_per_second: rank,
        scores_per_second: score * items as f64,
        limit_scores_per_second: limit,
        threads: ctx.threads(),
        instruction_set: InstructionSet::detect().name().to_string(),
        users: cases.users,
        interactions: cases.interactions,
        items: items as u64,
        k: ranking.k,
    })
}

/// Calls `work` with blocks of the users to evaluate, on all threads.
fn by_blocks(cases: &Cases<'_>, block: usize, ctx: &Context, work: impl Fn(&[u32]) + Sync) -> Result<(), RankError> {
    let users = &std::sync::Mutex::new(cases.users());
    workers(ctx)?.broadcast(|_| {
        loop {
            let next: Vec<u32> =
                users.lock().unwrap_or_else(std::sync::PoisonError::into_inner).by_ref().take(block).collect();
            if next.is_empty() || ctx.cancelled() {
                return;
            }
            work(&next);
        }
    });
    Ok(ctx.check()?)
}

/// Scores a second of all threads together, each of which scores a few rows again and again.
fn bare_kernel(scorer: &dyn Scorer, ctx: &Context) -> Result<f64, EvaluateError> {
    let users: Vec<u32> = (0..scorer.users().min(KERNEL_USERS) as u32).collect();
    let items = 0..scorer.items().min(KERNEL_ITEMS) as u32;
    let rates = workers(ctx)?.broadcast(|_| {
        let mut scores = vec![0.0; users.len() * items.len()];
        scorer.score(&users, items.clone(), &mut scores);
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed().as_secs_f64() < KERNEL_SECONDS {
            scorer.score(&users, items.clone(), black_box(&mut scores));
            count += scores.len();
        }
        count as f64 / began.elapsed().as_secs_f64()
    });
    Ok(rates.iter().sum())
}

/// Makes nothing of rankings.
struct Nothing;

impl Outcomes for Nothing {
    const PREPARES: bool = false;
    type Own = ();
    type Outcome = ();

    fn lookups(&self, _: u32) -> usize {
        0
    }

    fn extra(&self, _: u32) -> usize {
        0
    }

    fn begin(&self, _: &[u32]) {}

    fn prepare(&self, (): &mut (), _: &[u32], _: std::ops::Range<u32>) {}

    fn visit(&self, (): &mut (), _: usize, _: u32, _: &[f32]) {}

    fn finish(&self, users: &[u32], tops: &mut Tops, (): ()) {
        for u in 0..users.len() {
            black_box(tops.sorted(u));
        }
    }
}
