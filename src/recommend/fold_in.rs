//! Recommendations for a user who was not trained, from a history of items: a row is learnt on the spot, items frozen.

use std::cmp::Reverse;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use super::RecommendError;
use super::similar::{lets_go, room_for};
use crate::context::Context;
use crate::fold::{Folded, Folding};
use crate::model::{Model, dots};
use crate::rank::{Candidate, STACK, Tops};
use crate::train::{TrainConfig, trained_with};

/// Items between two looks at whether to stop.
const TILE: usize = 4096;
/// Tiles that are worth a thread: some megabytes of rows take as long to read as several threads to start.
const TILES_A_THREAD: usize = 4;

/// Settings of [`fold_in`].
#[derive(Clone, Copy, Debug)]
pub struct FoldInOptions {
    /// Items to recommend; fewer where the catalogue has no more.
    pub k: usize,
    /// Recommend items of the history, too.
    pub include_seen: bool,
    /// Leave out items that the model does not know, instead of refusing them.
    pub ignore_unknown: bool,
    /// Seed of the negatives; equal seeds give equal rows, whatever the number of threads.
    pub seed: u64,
}

impl Default for FoldInOptions {
    fn default() -> Self {
        Self { k: 10, include_seen: false, ignore_unknown: false, seed: 0 }
    }
}

/// What [`fold_in`] has found.
#[derive(Clone, Debug)]
pub struct FoldedIn {
    /// Dense item ids and scores, best first.
    pub items: Vec<(u32, f32)>,
    /// The row of the user: as long as those of [`Model::users`], zeros behind its width. Its dot products with rows of
    /// items are the scores.
    pub row: Vec<f32>,
    /// Dense ids of the history, ascending, each once.
    pub history: Vec<u32>,
    /// Ids that the model does not know, in the order given.
    pub unknown: Vec<String>,
    /// Wall time of learning the row.
    pub row_seconds: f64,
    /// Wall time of ranking the catalogue by it.
    pub rank_seconds: f64,
}

/// Recommends items to a user with this `history` of original item ids, without training: the row of the user is that
/// which minimizes the model's own loss, with its similarity, temperature, L2 and biases, while items stay as they are
/// (`docs/models.md` has the objective and its source). Repeats count once. Items of the history are left out of the
/// recommendations, unless `options.include_seen`.
///
/// Time: 8 to 48 passes over the history and some thousand negatives, then one over the item table,
/// O(items × dimensions), which threads share; memory O(history × dimensions + threads × k). Nothing is written.
///
/// # Errors
/// If an item is unknown and that is not to be ignored, the history is empty or the whole catalogue, the model's
/// configuration cannot be read, `k` is 0 or does not fit the memory budget, factors are not finite, or the operation was
/// stopped.
pub fn fold_in<S: AsRef<str>>(
    model: &Model,
    history: &[S],
    options: &FoldInOptions,
    ctx: &Context,
) -> Result<FoldedIn, RecommendError> {
    let k = room_for(options.k, model, ctx)?;
    let begun = Instant::now();
    let (history, unknown) = find_items(model, history, options.ignore_unknown)?;
    let config = config_of(model)?;
    let items = model.items();
    let row = Folding::new(&config, Folded::User)
        .row(&history, items.rows() as u32, |i| items.row(i as usize), options.seed)
        .ok_or(RecommendError::WholeCatalogue { items: items.rows() })?;
    let row_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let seen = if options.include_seen { &[][..] } else { &history };
    let items = best(model, &row, seen, (k, options.seed), ctx)?;
    Ok(FoldedIn { items, row, history, unknown, row_seconds, rank_seconds: begun.elapsed().as_secs_f64() })
}

/// The dense ids of `history`, ascending and each once, and those that the model does not know.
fn find_items<S: AsRef<str>>(
    model: &Model,
    history: &[S],
    ignore_unknown: bool,
) -> Result<(Vec<u32>, Vec<String>), RecommendError> {
    let (mut known, mut unknown) = (Vec::with_capacity(history.len()), Vec::new());
    for id in history.iter().map(AsRef::as_ref) {
        match model.item_ids().find(id) {
            Some(item) => known.push(item),
            None => unknown.push(id.to_string()),
        }
    }
    if !unknown.is_empty() && !ignore_unknown {
        let near = |id: String| {
            let near = model.item_ids().similar(&id).into_iter().map(str::to_string).collect();
            (id, near)
        };
        let items = unknown.into_iter().map(near).collect();
        return Err(RecommendError::UnknownHistory { model: model.path().to_path_buf(), items });
    }
    if known.is_empty() {
        return Err(RecommendError::EmptyHistory { given: history.len() });
    }
    known.sort_unstable();
    known.dedup();
    Ok((known, unknown))
}

/// The configuration in the model's manifest.
fn config_of(model: &Model) -> Result<TrainConfig, RecommendError> {
    trained_with(model).map_err(|reason| RecommendError::Config {
        model: model.path().to_path_buf(),
        reason,
        version: model.manifest().peccary.clone(),
    })
}

/// The `k` items that `row` scores best, without those `seen`, which ascend. Threads rank a part of the catalogue each.
fn best(
    model: &Model,
    row: &[f32],
    seen: &[u32],
    (k, seed): (usize, u64),
    ctx: &Context,
) -> Result<Vec<(u32, f32)>, RecommendError> {
    let items = model.items();
    let tiles = items.rows().div_ceil(TILE);
    let a_thread = STACK + Tops::bytes(k) + 2 * k * size_of::<Candidate>();
    let fit = (ctx.memory().0 / 4) as usize / a_thread;
    let threads = ctx.threads().min(tiles / TILES_A_THREAD).min(fit).max(1);
    let part = tiles.div_ceil(threads).max(1) * TILE;
    let ranked = |start: usize| best_of(model, row, seen, start..items.rows().min(start + part), (k, seed), ctx);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let spawned = |start: usize| {
            let thread = std::thread::Builder::new().name("rank".into()).stack_size(STACK);
            (start, thread.spawn_scoped(scope, move || ranked(start)))
        };
        let others: Vec<_> = (part..items.rows()).step_by(part).map(spawned).collect();
        let own = ranked(0);
        let join = |(start, thread): (usize, std::io::Result<ScopedJoinHandle<'_, _>>)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // The system gives no more threads.
            Err(_) => ranked(start),
        };
        std::iter::once(own).chain(others.into_iter().map(join)).collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    all.sort_unstable_by_key(|candidate| Reverse(*candidate));
    all.truncate(k);
    Ok(all.iter().map(|candidate| (candidate.item(), candidate.score())).collect())
}

/// The same of the items in `part`.
fn best_of(
    model: &Model,
    row: &[f32],
    seen: &[u32],
    part: Range<usize>,
    (k, seed): (usize, u64),
    ctx: &Context,
) -> Result<Vec<Candidate>, RecommendError> {
    let (items, lets_go) = (model.items(), lets_go(model, ctx));
    let mut seen = &seen[seen.partition_point(|item| (*item as usize) < part.start)..];
    let mut top = Tops::new(k);
    top.begin(seed, &[0]);
    let mut scores = vec![0.0; TILE];
    for start in part.clone().step_by(TILE) {
        ctx.check()?;
        let tile = &mut scores[..TILE.min(part.end - start)];
        dots(&items.as_slice()[start * items.stride()..][..tile.len() * items.stride()], row, tile);
        while let Some((first, rest)) = seen.split_first().filter(|(first, _)| (**first as usize) < start + tile.len())
        {
            tile[*first as usize - start] = f32::NEG_INFINITY;
            seen = rest;
        }
        top.offer(0, start as u32, tile).map_err(|i| RecommendError::NotANumber {
            item: model.item_ids().id(i).unwrap_or_default().to_string(),
            model: model.path().to_path_buf(),
        })?;
        if lets_go {
            items.release(start..start + tile.len());
        }
    }
    Ok(top.sorted(0).to_vec())
}
