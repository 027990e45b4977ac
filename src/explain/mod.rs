//! Why a user's negatives are what they are: draws some as training did, by the factors of the finished model, and shows
//! every candidate.

mod draw;
mod error;

use std::collections::BTreeMap;

use serde::Serialize;

use self::draw::{Drawing, draw};
pub use self::error::ExplainError;
use crate::context::Context;
use crate::dataset::Dataset;
use crate::model::{Model, Similarity};
use crate::negatives::{Candidate, Decision};
use crate::train::{TrainConfig, trained_with};

/// What to explain.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainOptions {
    /// How many of the user's positives, drawn at random.
    pub positives: usize,
    /// Instead of them this one, by its original id.
    pub item: Option<String>,
    /// The moment of the run that schedules stand at, from 0 to 1; factors are those of the end in any case.
    pub progress: f64,
    /// Seed of the positives and of the draws.
    pub seed: u64,
}

impl Default for ExplainOptions {
    fn default() -> Self {
        Self { positives: 3, item: None, progress: 1.0, seed: 42 }
    }
}

/// How some negatives of a user come about.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Original id of the user.
    pub user: String,
    /// Train interactions of the user.
    pub positives: u64,
    /// Those of the mean user.
    pub mean_positives: f64,
    /// The loss, as in TOML.
    pub loss: &'static str,
    /// How scores are made.
    pub similarity: Similarity,
    /// Negatives for each positive; for listwise losses those that a block shares.
    pub negatives: usize,
    /// Whether they are shared by a block of positives.
    pub shared: bool,
    /// The moment of the run that schedules stand at.
    pub progress: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// The part of the interactions that `recent` and `cooccurrence` look up.
    pub sampled_share: f64,
    /// Components of the mixture, or the one way there is.
    pub components: Vec<ExplainedComponent>,
    /// The positives, in the order of the dataset.
    pub explained: Vec<ExplainedPositive>,
}

/// A component of a mixture, and what it has done here.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedComponent {
    /// What it proposes by, as in TOML.
    pub propose: &'static str,
    /// How it makes a negative, in words.
    pub makes: String,
    /// Its share of the negatives at this moment.
    pub share: f64,
    /// Negatives that it was asked for.
    pub negatives: u64,
    /// Candidates that it looked at, those included that were dropped.
    pub candidates: u64,
    /// How many were dropped, by what dropped them.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Negatives that were filled in by uniform ones because it had nothing to propose.
    pub filled: u64,
    /// Negatives without weight because no candidate passed.
    pub void: u64,
}

/// A positive and its negatives.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedPositive {
    /// Original id of the item.
    pub item: String,
    /// Users who have it in train.
    pub popularity: u32,
    /// Its score.
    pub score: f32,
    /// Whether it is left out of training: there are too few negatives for it.
    pub left_out: bool,
    /// The share of the negatives that score above it.
    pub harder: f64,
    /// Mean of its score less those of its negatives.
    pub mean_gap: f64,
    /// The negatives' popularity by its own, as a ratio of geometric means of 1 + users.
    pub popularity_ratio: f64,
    /// The negatives in the order in which they were drawn.
    pub negatives: Vec<ExplainedNegative>,
}

/// A negative and the candidates for it.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedNegative {
    /// Which of the positive's negatives it is, from 0.
    pub negative: u32,
    /// The number of the component that made it.
    pub component: u8,
    /// What that proposes by, as in TOML.
    pub proposer: &'static str,
    /// In the order in which they were looked at.
    pub candidates: Vec<ExplainedCandidate>,
}

/// A candidate for a negative.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedCandidate {
    /// Original id of the item.
    pub item: String,
    /// Users who have it in train.
    pub popularity: u32,
    /// Its score.
    pub score: f32,
    /// Added to the score that it was selected by; 0 without noise.
    pub noise: f32,
    /// What dropped it, if anything did.
    pub filtered_by: Option<&'static str>,
    /// Why it is the negative, if it is.
    pub reason: Option<String>,
    /// What it counts in the loss, if it is the negative.
    pub weight: Option<f32>,
    /// Added to its score in the loss, if it is the negative and anything is.
    pub correction: Option<f32>,
}

impl ExplainedNegative {
    /// The candidate that was chosen; none where a positive has more candidates than are written down.
    pub fn chosen(&self) -> Option<&ExplainedCandidate> {
        self.candidates.iter().find(|c| c.reason.is_some())
    }
}

/// Draws negatives of some positives of `user`, an original id, as `model` was trained, and says how each came about.
///
/// The samplers are those of the model's configuration, with schedules at `options.progress`; scores are those of the
/// finished model, from which no item is missing, so that all items are one block. What stands for the batch and the
/// reservoir are interactions of a random chunk of the dataset. Time: that of drawing the negatives of all positives of
/// the user, once; samplers that look up interactions read them all before.
///
/// # Errors
/// If the model was trained on another dataset, on this one before it changed, or by another version, an id is unknown, the
/// user has no train
/// interactions, `options` make no sense, what samplers look up does not fit the memory budget, or the operation was
/// stopped.
pub fn explain(
    model: &Model,
    dataset: &Dataset,
    user: &str,
    options: &ExplainOptions,
    ctx: &Context,
) -> Result<Explanation, ExplainError> {
    model.check_unchanged(dataset)?;
    if !(0.0..=1.0).contains(&options.progress) {
        return Err(ExplainError::Progress { given: options.progress });
    }
    if options.positives == 0 {
        return Err(ExplainError::NoPositives);
    }
    let config = config_of(model)?;
    let drawing = draw(model, dataset, &config, user, options, ctx)?;
    if drawing.decisions.iter().any(|d| !d.score.is_finite() || d.candidates.iter().any(|c| !c.score.is_finite())) {
        return Err(ExplainError::NotANumber { user: user.to_string(), model: model.path().to_path_buf() });
    }
    Ok(told(dataset, &config, user, options, &drawing))
}

/// The configuration in the model's manifest.
fn config_of(model: &Model) -> Result<TrainConfig, ExplainError> {
    trained_with(model).map_err(|reason| ExplainError::Config {
        model: model.path().to_path_buf(),
        reason,
        version: model.manifest().peccary.clone(),
    })
}

fn told(
    dataset: &Dataset,
    config: &TrainConfig,
    user: &str,
    options: &ExplainOptions,
    drawing: &Drawing,
) -> Explanation {
    let summary = dataset.train().summary();
    let margin = config.similarity().margin();
    let proposers = config.negatives.proposers();
    let described = config.negatives.describe(options.progress, margin);
    let mut components: Vec<_> = proposers
        .iter()
        .zip(described)
        .map(|(propose, (share, makes))| ExplainedComponent {
            propose,
            makes,
            share,
            negatives: 0,
            candidates: 0,
            dropped: BTreeMap::new(),
            filled: 0,
            void: 0,
        })
        .collect();
    for candidate in drawing.decisions.iter().flat_map(|d| &d.candidates) {
        let Some(component) = components.get_mut(usize::from(candidate.component)) else { continue };
        component.count(candidate);
    }
    let explained = drawing.positives.iter().map(|item| {
        let decision = drawing.decisions.iter().find(|d| d.positive == *item);
        positive(dataset, *item, decision, &proposers)
    });
    Explanation {
        user: user.to_string(),
        positives: drawing.own,
        mean_positives: summary.interactions as f64 / f64::from(summary.users.max(1)),
        loss: config.loss.kind.name(),
        similarity: config.similarity(),
        negatives: config.negatives().min(dataset.items().len() as usize),
        shared: drawing.shared,
        progress: options.progress,
        seed: options.seed,
        sampled_share: drawing.sampled_share,
        explained: explained.collect(),
        components,
    }
}

impl ExplainedComponent {
    fn count(&mut self, candidate: &Candidate) {
        self.candidates += 1;
        if let Some(filtered) = candidate.filtered {
            *self.dropped.entry(filtered.name()).or_default() += 1;
        }
        self.negatives += u64::from(candidate.chosen.is_some());
        self.filled += u64::from(candidate.is_filled());
        self.void += u64::from(candidate.is_void());
    }
}

fn positive(
    dataset: &Dataset,
    item: u32,
    decision: Option<&Decision>,
    proposers: &[&'static str],
) -> ExplainedPositive {
    let popularity = |item: u32| dataset.popularity()[item as usize].to_native();
    let id = |item: u32| dataset.items().id(item).unwrap_or_default().to_string();
    let log = |item: u32| f64::from(popularity(item)).ln_1p();
    let known = |x: f32| Some(x).filter(|x| !x.is_nan());
    let (score, candidates) = decision.map_or((f32::NAN, &[][..]), |d| (d.score, &d.candidates));
    let chosen: Vec<&Candidate> = candidates.iter().filter(|c| c.chosen.is_some()).collect();
    let mean = |of: &dyn Fn(&Candidate) -> f64| chosen.iter().map(|c| of(c)).sum::<f64>() / chosen.len().max(1) as f64;
    let negatives = candidates.chunk_by(|a, b| a.slot == b.slot).map(|group| ExplainedNegative {
        negative: group[0].slot,
        component: group[0].component,
        proposer: proposers.get(usize::from(group[0].component)).copied().unwrap_or_default(),
        candidates: group
            .iter()
            .map(|c| ExplainedCandidate {
                item: id(c.item),
                popularity: popularity(c.item),
                score: c.score,
                noise: c.noise,
                filtered_by: c.filtered.map(|f| f.name()),
                reason: c.chosen.map(|why| why.to_string()),
                weight: c.chosen.and(known(c.weight)),
                correction: c.chosen.and(known(c.correction)),
            })
            .collect(),
    });
    ExplainedPositive {
        item: id(item),
        popularity: popularity(item),
        score,
        left_out: decision.is_none(),
        harder: mean(&|c| f64::from(u8::from(c.score > score))),
        mean_gap: mean(&|c| f64::from(score - c.score)),
        popularity_ratio: mean(&|c| log(c.item) - log(item)).exp(),
        negatives: negatives.collect(),
    }
}
