//! Draws negatives as training did, with the tables of a finished model.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{ExplainError, ExplainOptions};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Dictionary};
use crate::model::Model;
use crate::negatives::{
    Auditor, Batch, Decision, Distribution, Popularity, Proposal, Renewal, Sampling, Scores, SharedBlock,
    SharedSampler, Uniform, audit_block,
};
use crate::rank::Scorer;
use crate::train::{LOOKED_UP_AT_LEAST, TrainConfig};

/// Pairs that stand for the block of a window, and for a batch of it.
const BLOCK: usize = 1 << 16;
const BATCH: usize = 4096;
/// What the program and small things take.
const FIXED: u64 = 4 << 20;

/// What was drawn.
pub(super) struct Drawing {
    /// Train interactions of the user.
    pub(super) own: u64,
    /// The positives asked about.
    pub(super) positives: Vec<u32>,
    /// Theirs, but for those that are left out.
    pub(super) decisions: Vec<Decision>,
    pub(super) shared: bool,
    pub(super) sampled_share: f64,
}

/// Scores of a finished model.
struct Finished<'a> {
    model: &'a Model,
    dimensions: usize,
}

impl Scores for Finished<'_> {
    fn of_user(&self, user: u32, items: &[u32], out: &mut [f32]) {
        self.model.score_items(user, items, out);
    }

    fn of_item(&self, item: u32, items: &[u32], out: &mut [f32]) {
        let row = |item: u32| &self.model.items().row(item as usize)[..self.dimensions];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let own = row(item);
        for (to, other) in out.iter_mut().zip(items) {
            let other = row(*other);
            *to = dot(own, other) / (dot(own, own).max(1e-24) * dot(other, other).max(1e-24)).sqrt();
        }
    }

    fn width(&self) -> usize {
        self.model.users().row(0).len()
    }

    fn user_row(&self, user: u32, out: &mut [f32]) {
        out.copy_from_slice(self.model.users().row(user as usize));
    }

    fn item_row(&self, item: u32, out: &mut [f32]) {
        out.copy_from_slice(self.model.items().row(item as usize));
    }
}

/// Asks about some positives of one user.
struct Asked {
    positives: HashSet<u32>,
    decisions: Mutex<Vec<Decision>>,
}

impl Auditor for Asked {
    fn takes(&self, _: u32, item: u32) -> bool {
        self.positives.contains(&item)
    }

    fn keep(&self, decision: Decision) {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner).push(decision);
    }
}

pub(super) fn draw(
    model: &Model,
    dataset: &Dataset,
    config: &TrainConfig,
    user: &str,
    options: &ExplainOptions,
    ctx: &Context,
) -> Result<Drawing, ExplainError> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(options.seed);
    let dense = dataset.users().find(user).ok_or_else(|| {
        let (similar, sample) = alike(dataset.users(), user);
        ExplainError::UnknownUser { id: user.to_string(), dataset: dataset.path().to_path_buf(), similar, sample }
    })?;
    let own: Vec<u32> = dataset.train().user(dense).items.iter().map(|i| i.to_native()).collect();
    if own.is_empty() {
        return Err(ExplainError::ColdUser { id: user.to_string() });
    }
    let mut positives = match &options.item {
        Some(item) => vec![named(dataset, item, user, &own)?],
        None => own.sample(&mut rng, options.positives).copied().collect(),
    };
    positives.sort_unstable();
    let scores = Finished { model, dimensions: model.manifest().dimensions };
    let asked = Asked { positives: positives.iter().copied().collect(), decisions: Mutex::default() };
    let sampled_share = looked_up(dataset, config, (own.len(), positives.len()), ctx)?;
    let simple = config.negatives.simple();
    let shared = simple.filter(|_| config.shares_negatives());
    match shared {
        Some((Proposal::Uniform, _)) => {
            draw_shared(Uniform, dataset, config, (dense, &positives), &scores, &asked, &mut rng)
        }
        Some((Proposal::Popularity, alpha)) => {
            let proposal = Popularity::new(dataset.popularity().iter().map(|c| c.to_native()), alpha);
            draw_shared(proposal, dataset, config, (dense, &positives), &scores, &asked, &mut rng);
        }
        None => {
            draw_own(dataset, config, (dense, &own), (options.progress, sampled_share), &scores, &asked, &mut rng, ctx)?
        }
    }
    let mut decisions = asked.decisions.into_inner().unwrap_or_else(PoisonError::into_inner);
    decisions.sort_unstable_by_key(|d| d.positive);
    Ok(Drawing { own: own.len() as u64, positives, decisions, shared: shared.is_some(), sampled_share })
}

/// The dense id of `item`, which must be among the user's `own`.
fn named(dataset: &Dataset, item: &str, user: &str, own: &[u32]) -> Result<u32, ExplainError> {
    let dense = dataset.items().find(item).ok_or_else(|| {
        let (similar, sample) = alike(dataset.items(), item);
        ExplainError::UnknownItem { id: item.to_string(), dataset: dataset.path().to_path_buf(), similar, sample }
    })?;
    if own.binary_search(&dense).is_err() {
        let sample = dataset.items().id(own[0]).unwrap_or_default().to_string();
        return Err(ExplainError::NotTaken { item: item.to_string(), user: user.to_string(), sample });
    }
    Ok(dense)
}

/// Ids like `id`, and one that there is.
fn alike(ids: &Dictionary, id: &str) -> (Vec<String>, String) {
    let first = (0..ids.len()).find_map(|dense| ids.id(dense));
    (ids.similar(id).into_iter().map(str::to_string).collect(), first.unwrap_or_default().to_string())
}

/// The part of the interactions that samplers look up within the budget.
fn looked_up(
    dataset: &Dataset,
    config: &TrainConfig,
    (own, asked): (usize, usize),
    ctx: &Context,
) -> Result<f64, ExplainError> {
    let items = u64::from(dataset.items().len());
    let (samplers, each) = config.negatives.bytes(items, 1);
    let samplers = samplers + dataset.train().len() * config.negatives.context_bytes();
    let shared = SharedSampler::<Uniform>::bytes(config.shared_by(), config.negatives(), dataset.items().len());
    // The block of all items and the user's bits, tables of popularity, and what a run of all the user's positives takes.
    let run = own as u64 * (24 + 16 * config.negatives() as u64) + (BLOCK as u64) * 16;
    // Decisions, and what is said of them.
    let decisions = 2 * (asked as u64 + 1) * Decision::MOST_BYTES as u64;
    let width = config.dimensions as u64 + if config.biases() { 2 } else { 0 };
    let index = config.negatives.index_bytes((items, width), ctx.threads() as u64, false);
    let fixed = FIXED + samplers + shared + index + items * 45 + run + decisions;
    let all = dataset.train().len() * each;
    let least = fixed + all.div_ceil(LOOKED_UP_AT_LEAST);
    if least > ctx.memory().0 {
        return Err(ExplainError::Memory { needed: ByteSize(least), given: ctx.memory() });
    }
    Ok(if all == 0 { 1.0 } else { ((ctx.memory().0 - fixed) as f64 / all as f64).min(1.0) })
}

/// Draws the negatives of every positive of the user by the sampler that the configuration makes.
#[allow(clippy::too_many_arguments)] // what to draw, of whom, and who looks on
fn draw_own(
    dataset: &Dataset,
    config: &TrainConfig,
    (user, own): (u32, &[u32]),
    (progress, share): (f64, f64),
    scores: &Finished<'_>,
    asked: &Asked,
    rng: &mut Xoshiro256PlusPlus,
    ctx: &Context,
) -> Result<(), ExplainError> {
    let items = dataset.items().len();
    let block: Vec<u32> = (0..items).collect();
    let negatives = (&config.negatives, config.negatives());
    let score = (config.similarity(), config.temperature());
    let mut sampling = Sampling::new(dataset, negatives, score, items as usize, share, ctx)?;
    let pairs: Vec<u64> = own.iter().map(|item| u64::from(user) << 32 | u64::from(*item)).collect();
    let around = around(dataset, rng);
    let pool: Vec<u64> = pairs.iter().chain(&around).take(BATCH.max(pairs.len() + 1)).copied().collect();
    sampling.renew(Renewal { progress, threads: ctx.threads(), alone: true }, scores, ctx);
    sampling.begin(progress, &around, rng);
    sampling.fill((&block, &pairs, &pool), usize::MAX, (scores, Some(asked), None), rng, &mut Batch::default());
    Ok(())
}

/// Interactions of other users, in random order of users: what a block of a window holds beside the user's.
fn around(dataset: &Dataset, rng: &mut Xoshiro256PlusPlus) -> Vec<u64> {
    let train = dataset.train();
    let chunk = train.chunk(rng.random_range(0..train.chunks().max(1)));
    let mut users: Vec<usize> = (0..chunk.users()).collect();
    users.shuffle(rng);
    let of = |user: usize| {
        let id = u64::from(chunk.first_user() + user as u32);
        chunk.user(user).items.iter().map(move |item| id << 32 | u64::from(item.to_native()))
    };
    users.into_iter().flat_map(of).take(BLOCK).collect()
}

/// Draws the negatives that a block of the positives asked about shares.
fn draw_shared<P: Distribution>(
    proposal: P,
    dataset: &Dataset,
    config: &TrainConfig,
    (user, positives): (u32, &[u32]),
    scores: &Finished<'_>,
    asked: &Asked,
    rng: &mut Xoshiro256PlusPlus,
) {
    let items = dataset.items().len();
    let sizes = (config.shared_by(), config.negatives().min(items as usize));
    let mut sampler = SharedSampler::new(proposal, sizes, items, config.negatives.allow_positives, config.log_q());
    let pairs: Vec<u64> = positives.iter().map(|item| u64::from(user) << 32 | u64::from(*item)).collect();
    let mut block = SharedBlock::default();
    for pairs in pairs.chunks(sizes.0) {
        sampler.fill(pairs, dataset.train(), rng, &mut block);
        if block.negatives > 0 {
            audit_block(&block, scores, asked);
        }
    }
}
