//! The sampled protocol: each held-out item alone among negatives drawn for it.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;

use super::cases::Cases;
use super::metrics::{Metrics, Totals};
use super::{EvaluateError, EvaluateOptions};
use crate::context::{ByteSize, Context, Unit};
use crate::dataset::Dataset;
use crate::rank::{Candidate, RankError, Scorer, not_a_number, program_bytes, user_seed, workers};

/// Users a task, and tasks that are listed at a time.
const BLOCK: usize = 32;
const TASKS: usize = 512;

/// The metrics, and how many users have fewer candidates than `negatives`.
pub(super) fn measure(
    name: &str,
    scorer: &dyn Scorer,
    cases: &Cases<'_>,
    dataset: &Dataset,
    negatives: usize,
    options: &EvaluateOptions,
    ctx: &Context,
) -> Result<(Metrics, u64), EvaluateError> {
    let stage = ctx.stage(name, Some(cases.users), Unit::Users);
    let (pool, mut users) = (workers(ctx)?, cases.users());
    let (mut totals, mut short) = (Totals::new(options.k.len()), 0);
    let measure = |users: &[u32]| {
        let mut totals = Totals::new(options.k.len());
        let mut short = 0;
        for user in users {
            ctx.check()?;
            short += u64::from(measure_user(scorer, cases, dataset, *user, negatives, options, &mut totals)?);
        }
        stage.add(users.len() as u64);
        Ok::<_, RankError>((totals, short))
    };
    loop {
        let listed: Vec<u32> = users.by_ref().take(BLOCK * TASKS).collect();
        let (Some(first), Some(last)) = (listed.first(), listed.last()) else { break };
        // All results, and then the first: which error is reported does not depend on the threads.
        let measured: Vec<_> = pool.install(|| listed.par_chunks(BLOCK).map(measure).collect());
        for block in measured {
            let (more, more_short) = block?;
            totals.merge(&more);
            short += more_short;
        }
        dataset.parts().for_each(|(_, part)| part.release_users(*first, *last));
        scorer.release_users(*first..*last + 1);
    }
    Ok((totals.means(&options.k), short))
}

/// Whether the budget will do, whichever users are sampled.
pub(super) fn check_memory(
    cases: &Cases<'_>,
    dataset: &Dataset,
    negatives: usize,
    ctx: &Context,
) -> Result<(), RankError> {
    let negatives = negatives.min(dataset.items().len() as usize);
    let seen = |user: u32| dataset.parts().map(|(_, p)| p.user(user).items.len()).sum::<usize>();
    let most_seen = cases.users().map(seen).max().unwrap_or(0);
    // Ranks, items and scores; what is seen, which may grow by doubling.
    let a_thread = (negatives + 1) * 12 + most_seen * 8;
    let taken = cases.bytes() + BLOCK * TASKS * 4;
    let needed = ByteSize(program_bytes(ctx.threads()).saturating_add(taken + a_thread * ctx.threads()) as u64);
    if needed > ctx.memory() {
        return Err(RankError::Memory { needed, threads: ctx.threads(), given: ctx.memory() });
    }
    Ok(())
}

/// Adds one ranking for each held-out item of `user`. Returns whether there were fewer candidates than negatives.
fn measure_user(
    scorer: &dyn Scorer,
    cases: &Cases<'_>,
    dataset: &Dataset,
    user: u32,
    negatives: usize,
    options: &EvaluateOptions,
    totals: &mut Totals,
) -> Result<bool, RankError> {
    let own_seed = user_seed(options.seed, user);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(own_seed);
    let mut seen: Vec<u32> = dataset.parts().flat_map(|(_, p)| p.user(user).items).map(|i| i.to_native()).collect();
    seen.sort_unstable();
    // Parts share no pair; that opening leaves to `verify`, and drawing must not depend on it.
    seen.dedup();
    let candidates = dataset.items().len() - seen.len() as u32;
    let count = negatives.min(candidates as usize);
    let mut items = Vec::with_capacity(count + 1);
    let mut scores = vec![0.0; count + 1];
    for positive in cases.held_out.user(user).items {
        items.clear();
        draw(candidates, count, &seen, &mut rng, &mut items);
        items.push(positive.to_native());
        scorer.score_items(user, &items, &mut scores);
        if let Some(at) = scores.iter().position(|s| s.is_nan()) {
            return Err(not_a_number(dataset, user, items[at]));
        }
        let place = |at: usize| Candidate::new(scores[at], items[at], own_seed);
        let own = place(count);
        let rank = 1 + (0..count).filter(|at| place(*at) > own).count() as u32;
        totals.add(&[rank], 1, &options.k);
    }
    Ok(count < negatives)
}

/// Appends `count` of the `candidates` items that are not in `seen` (ascending): uniformly, without replacement.
///
/// Floyd's algorithm (Bentley & Floyd 1987) draws ranks among the candidates, so that nothing is ever rejected.
fn draw(candidates: u32, count: usize, seen: &[u32], rng: &mut Xoshiro256PlusPlus, items: &mut Vec<u32>) {
    let mut drawn: Vec<u32> = Vec::with_capacity(count);
    for last in candidates - count as u32..candidates {
        let rank = rng.random_range(0..=last);
        match drawn.binary_search(&rank) {
            Err(at) => drawn.insert(at, rank),
            // `last` is greater than all that were drawn.
            Ok(_) => drawn.push(last),
        }
    }
    // The item of rank r is r + j, where j seen items lie below it.
    items.extend(drawn.into_iter().map(|rank| {
        let (mut low, mut high) = (0, seen.len());
        while low < high {
            let middle = (low + high) / 2;
            if seen[middle] - middle as u32 <= rank { low = middle + 1 } else { high = middle }
        }
        rank + low as u32
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn negatives_are_uniform_never_seen_and_never_repeated() {
        let seen = [0, 1, 5, 9, 10, 11, 23, 39];
        let free: Vec<u32> = (0..40).filter(|i| !seen.contains(i)).collect();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let (draws, count) = (20_000, 10);
        let mut counts = [0u32; 40];
        for _ in 0..draws {
            let mut items = Vec::new();
            draw(free.len() as u32, count, &seen, &mut rng, &mut items);
            assert_eq!(items.iter().collect::<HashSet<_>>().len(), count);
            items.iter().for_each(|i| counts[*i as usize] += 1);
        }
        assert!(seen.iter().all(|i| counts[*i as usize] == 0));
        // Drawing without replacement shrinks the variance by (1 − n/N): the statistic, scaled so, is χ² with 31
        // degrees of freedom, whose 99.9 % quantile is 61.1.
        let share = count as f64 / free.len() as f64;
        let expected = draws as f64 * share;
        let chi: f64 = free.iter().map(|i| (f64::from(counts[*i as usize]) - expected).powi(2) / expected).sum();
        let chi = chi / (1.0 - share) * (free.len() - 1) as f64 / free.len() as f64;
        assert!(chi < 61.1, "χ² = {chi}");
    }

    #[test]
    fn all_candidates_are_used_where_there_are_no_more() {
        let mut items = Vec::new();
        draw(3, 3, &[1, 2, 4], &mut Xoshiro256PlusPlus::seed_from_u64(1), &mut items);
        items.sort_unstable();
        assert_eq!(items, [0, 3, 5]);
    }
}
