//! The best items of each user, in the order of users, for any number of users.

use rayon::prelude::*;
use serde::Serialize;

use super::RecommendError;
use crate::context::{Context, Unit};
use crate::dataset::{Dataset, Part};
use crate::rank::{RankError, Scorer, Seen, Tiling, rank_block, workers};

/// Breaks ties between equal scores.
const SEED: u64 = 42;

/// For whom to recommend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecommendUsers {
    /// Every user with train interactions, in the order of the dataset.
    All,
    /// These original ids, in this order.
    Ids(Vec<String>),
}

/// Settings of [`recommend`].
#[derive(Clone, Copy, Debug)]
pub struct RecommendOptions {
    /// Items for each user; fewer where the catalogue has no more.
    pub k: usize,
    /// Recommend items of the user's train and validation interactions too.
    pub include_seen: bool,
}

impl Default for RecommendOptions {
    fn default() -> Self {
        Self { k: 10, include_seen: false }
    }
}

/// What was recommended, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecommendSummary {
    /// Users with recommendations.
    pub users: u64,
    /// Recommendations of all of them.
    pub recommendations: u64,
    /// Users left out because they have no train interactions.
    pub cold_users: u64,
}

/// The recommendations of one user.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendations {
    /// Dense user id.
    pub user: u32,
    /// Dense item ids and scores, best first.
    pub items: Vec<(u32, f32)>,
}

/// Ranks the whole catalogue for `users` and hands their best items to `sink`, user by user.
///
/// Left out are the items of a user's train and validation interactions, unless `options.include_seen`; held-out test
/// items are not, for they are what recommendations are to find. Users without train interactions are skipped and
/// counted, or refused if they were named: their factors were never trained. The output is the same for any number of
/// threads. O(users × items × dimensions) time; memory stays within `ctx.memory()`.
///
/// # Errors
/// If the scorer does not belong to the dataset, an id is unknown or cold, a score is NaN, not even one user fits the
/// memory budget, the operation was stopped, or `sink` fails.
pub fn recommend(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    users: &RecommendUsers,
    options: RecommendOptions,
    ctx: &Context,
    mut sink: impl FnMut(&Recommendations) -> Result<(), RecommendError>,
) -> Result<RecommendSummary, RecommendError> {
    if options.k == 0 {
        return Err(RecommendError::NoItems);
    }
    scorer.check(dataset).map_err(RankError::from)?;
    let shape = (dataset.users().len() as usize, dataset.items().len() as usize);
    if (scorer.users(), scorer.items()) != shape {
        let (users, items) = (scorer.users(), scorer.items());
        return Err(RankError::Shape { users, items, dataset_users: shape.0, dataset_items: shape.1 }.into());
    }
    let k = options.k.min(shape.1).max(1);
    let named = match users {
        RecommendUsers::All => None,
        RecommendUsers::Ids(ids) => Some(find_users(dataset, ids)?),
    };
    let total = named.as_ref().map_or(shape.0, Vec::len);
    let parts = if options.include_seen { &[][..] } else { &[Part::Train, Part::Valid] };
    let seen = Seen::new(parts.iter().filter_map(|part| dataset.part(*part)).collect());
    // Twice the ranking: the items wait for those of the blocks before them to be written.
    let user_bytes = 2 * (k * 8 + size_of::<Recommendations>()) + k * 16;
    let tiling = Tiling::new(total, k, total.min(named.as_ref().map_or(0, Vec::len)) * 4, user_bytes, 0, ctx)?;
    let pool = workers(ctx)?;
    let stage = ctx.stage("recommending", Some(total as u64), Unit::Users);
    let mut summary = RecommendSummary::default();
    // One block a thread at once, then all of them are written, in order.
    let wave = tiling.block * ctx.threads();
    for start in (0..total).step_by(wave) {
        let range = start..(start + wave).min(total);
        let asked = range.len();
        let warm: Vec<u32> = match &named {
            Some(users) => users[range].to_vec(),
            None => range.map(|u| u as u32).filter(|u| !dataset.train().user(*u).items.is_empty()).collect(),
        };
        summary.cold_users += (asked - warm.len()) as u64;
        let rank = |users: &[u32]| -> Result<Vec<Recommendations>, RankError> {
            let tops = rank_block(scorer, dataset, users, &seen, (k, SEED), tiling.tile, ctx, |_, _| {})?;
            let items = tops.into_iter().map(|top| top.into_sorted().iter().map(|c| (c.item(), c.score())).collect());
            Ok(users.iter().zip(items).map(|(user, items)| Recommendations { user: *user, items }).collect())
        };
        let ranked: Vec<_> =
            pool.install(|| warm.par_chunks(tiling.block).map(rank).collect::<Result<_, RankError>>())?;
        for user in ranked.iter().flatten() {
            sink(user)?;
            summary.users += 1;
            summary.recommendations += user.items.len() as u64;
        }
        stage.add(asked as u64);
    }
    Ok(summary)
}

/// The dense ids of `ids`, all of which must be known and have train interactions.
fn find_users(dataset: &Dataset, ids: &[String]) -> Result<Vec<u32>, RecommendError> {
    let find = |id: &String| {
        let user = dataset.users().find(id).ok_or_else(|| RecommendError::UnknownUser {
            id: id.clone(),
            dataset: dataset.path().to_path_buf(),
            similar: dataset.users().similar(id).into_iter().map(str::to_string).collect(),
        })?;
        if dataset.train().user(user).items.is_empty() {
            return Err(RecommendError::ColdUser { id: id.clone() });
        }
        Ok(user)
    };
    ids.iter().map(find).collect()
}
