//! The best items of each user, in the order of users, for any number of users.

use rkyv::rend::u32_le;
use serde::Serialize;

use super::RecommendError;
use crate::context::{Context, Unit};
use crate::dataset::{Dataset, Part};
use crate::rank::{Aligned, Known, Needs, Outcomes, Paging, RankError, Ranking, Scorer, Seen, Tiling, Tops, sample};

/// Breaks ties between equal scores.
const SEED: u64 = 42;

/// For whom to recommend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecommendUsers {
    /// Every user with train interactions, in the order of the dataset.
    All,
    /// These original ids, in this order.
    Ids(Vec<String>),
    /// A uniform sample of the users with train interactions, in the order of the dataset.
    Sample {
        /// How many; all where there are no more.
        users: usize,
        /// Equal seeds draw equal samples.
        seed: u64,
    },
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
    /// Of all users, those left out because they have no train interactions; 0 if not all were asked for.
    pub cold_users: u64,
    /// Of all users, those left out because all of their train interactions came after the model; 0 if not all were asked
    /// for.
    pub later_users: u64,
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
/// items are not, for they are what recommendations are to find. Users without train interactions, and those whom the
/// scorer does not know because they came later, are skipped and counted, or refused if they were named: their factors
/// were never trained. Items that came later are not recommended. The output is the same for any number of
/// threads. The next users are being ranked while `sink` takes the last. O(users × items × dimensions) time; memory,
/// without what `sink` takes, stays within `ctx.memory()`.
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
    sink: impl FnMut(&Recommendations) -> Result<(), RecommendError>,
) -> Result<RecommendSummary, RecommendError> {
    recommend_beside(0, scorer, dataset, users, options, ctx, sink)
}

/// As [`recommend`], while `sink` takes up to `taken` bytes of the budget.
pub(super) fn recommend_beside(
    taken: usize,
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
    let aligned = Aligned::new(scorer, dataset)?;
    let scorer = &aligned;
    let users_of_dataset = dataset.users().len() as usize;
    let k = options.k.min(aligned.known_items() as usize).max(1);
    let paging = &Paging::begin(scorer, dataset, ctx);
    let known = aligned.known();
    let is_warm = |user: &u32| known.has(*user) && !dataset.train().user(*user).items.is_empty();
    let with_train = dataset.train().summary().users as usize;
    let warm = match aligned.knows_all() {
        true => with_train,
        false => (0..dataset.users().len()).filter(is_warm).count(),
    };
    let later = if *users == RecommendUsers::All { with_train - warm } else { 0 };
    let mut named = match users {
        RecommendUsers::Ids(ids) => Some(find_users(known, dataset, ids)?),
        _ => None,
    };
    // Those to rank for, those without train interactions, and how many ids are held.
    let (wanted, cold, held) = match users {
        RecommendUsers::All => {
            (warm, users_of_dataset.saturating_sub(with_train + dataset.users().holes() as usize), 0)
        }
        RecommendUsers::Ids(ids) => (ids.len(), 0, ids.len()),
        RecommendUsers::Sample { users, .. } => ((*users).min(warm), 0, users.saturating_mul(2).min(warm)),
    };
    let parts = if options.include_seen { &[][..] } else { &[Part::Train, Part::Valid] };
    let seen = Seen::new(parts.iter().filter_map(|part| dataset.part(*part)).collect());
    let needs = Needs {
        users: wanted as u64,
        k,
        taken: taken + k * size_of::<(u32, f32)>() + held * size_of::<u32>(),
        // Three times the result: one wave is being made, one waits, one is handed out.
        user_bytes: 3 * (k * size_of::<(u32, f32)>() + size_of::<(u32, usize)>())
            + seen.parts() * size_of::<&[u32_le]>()
            + 2 * size_of::<u32>(),
        largest: 0,
    };
    let tiling = Tiling::new(&needs, paging.region(scorer), ctx)?;
    if let RecommendUsers::Sample { seed, .. } = users {
        named = Some(sample((0..dataset.users().len()).filter(is_warm), wanted, held, *seed, ctx)?);
    }
    let stage = ctx.stage("recommending", Some(wanted as u64), Unit::Users);
    let mut summary = RecommendSummary { cold_users: cold as u64, later_users: later as u64, ..Default::default() };
    let ranking = Ranking { scorer, dataset, seen: &seen, paging, k, seed: SEED, tiling };
    let all = named.is_none().then_some(0..dataset.users().len()).into_iter().flatten();
    let warm = all.filter(is_warm);
    let mut one = Recommendations { user: 0, items: Vec::with_capacity(k) };
    ranking.run(warm.chain(named.iter().flatten().copied()), &Best { k }, ctx, |block| {
        let mut start = 0;
        for (user, end) in &block.users {
            one.user = *user;
            one.items.clear();
            one.items.extend_from_slice(&block.items[start..*end]);
            start = *end;
            sink(&one)?;
        }
        summary.recommendations += block.items.len() as u64;
        summary.users += block.users.len() as u64;
        stage.add(block.users.len() as u64);
        Ok::<_, RecommendError>(())
    })?;
    scorer.check(dataset).map_err(RankError::from)?;
    Ok(summary)
}

/// The best `k` items, as they are handed out.
struct Best {
    k: usize,
}

/// Those of a block: each user, and where the user's items end.
struct Ranked {
    users: Vec<(u32, usize)>,
    items: Vec<(u32, f32)>,
}

impl Outcomes for Best {
    const PREPARES: bool = false;
    type Own = ();
    type Outcome = Ranked;

    fn lookups(&self, _: u32) -> usize {
        0
    }

    fn extra(&self, _: u32) -> usize {
        0
    }

    fn begin(&self, _: &[u32]) {}

    fn prepare(&self, (): &mut (), _: &[u32], _: std::ops::Range<u32>) {}

    fn visit(&self, (): &mut (), _: usize, _: u32, _: &[f32]) {}

    fn finish(&self, users: &[u32], tops: &mut Tops, (): ()) -> Ranked {
        let mut ranked =
            Ranked { users: Vec::with_capacity(users.len()), items: Vec::with_capacity(users.len() * self.k) };
        for (u, user) in users.iter().enumerate() {
            ranked.items.extend(tops.sorted(u).iter().map(|c| (c.item(), c.score())));
            ranked.users.push((*user, ranked.items.len()));
        }
        ranked
    }
}

/// The dense ids of `ids`, all of which must be known to both and have train interactions.
fn find_users(known: &Known, dataset: &Dataset, ids: &[String]) -> Result<Vec<u32>, RecommendError> {
    let find = |id: &String| {
        let user = dataset.users().find(id).ok_or_else(|| RecommendError::UnknownUser {
            id: id.clone(),
            dataset: dataset.path().to_path_buf(),
            similar: dataset.users().similar(id).into_iter().map(str::to_string).collect(),
        })?;
        if dataset.train().user(user).items.is_empty() {
            return Err(RecommendError::ColdUser { id: id.clone() });
        }
        if !known.has(user) {
            return Err(RecommendError::LaterUser { id: id.clone() });
        }
        Ok(user)
    };
    ids.iter().map(find).collect()
}
