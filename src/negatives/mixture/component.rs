//! One component of a mixture: how one negative comes about.

use std::ops::Range;
use std::sync::Arc;

use rand::Rng;
use rkyv::rend::u32_le;

use super::super::audit::{Chosen, Trail};
use super::super::select::{Now, aim, choose, normal};
use super::super::source::{Case, Refused, Source};
use super::super::{Excluded, Filtered, MixConfig, SameContext, Scores, Select, Weigh, Within};
use crate::dataset::Dataset;

/// Candidates that are scored at once until one violates.
const AT_ONCE: usize = 4;

/// How a component was configured, and its numbers at the moment.
#[derive(Clone)]
pub(super) struct Component<'a> {
    pub(super) config: MixConfig,
    pub(super) source: Source<'a>,
    pub(super) now: Now,
    /// Of the positive at hand (see [`Source::until`]).
    pub(super) until: usize,
    /// The filter by context, and where the items of the context of the positive at hand are.
    pub(super) context: Option<Arc<SameContext<'a>>>,
    pub(super) around: Range<usize>,
}

/// Room to work in.
#[derive(Clone, Default)]
pub(super) struct Room {
    positions: Vec<u32>,
    items: Vec<u32>,
    scores: Vec<f32>,
    noisy: Vec<f32>,
    order: Vec<u32>,
    /// Of the positive at hand: which component drew each negative, and how that went.
    pub(super) drawn: Vec<(u8, Outcome)>,
    /// Of the positive at hand, if somebody asks about it.
    pub(super) trail: Option<Trail>,
}

/// How a negative came about.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Outcome {
    Drawn,
    /// Uniform, where the component had nothing to propose.
    Filled,
    /// No candidate passed or violated: the negative has weight 0.
    Void,
}

/// What weights and filters need to know of all items, and of the loss.
#[derive(Clone, Copy)]
pub(super) struct Catalogue<'a> {
    popularity: &'a [u32_le],
    /// Train interactions of the most popular item.
    most: f32,
    inverse_temperature: f32,
}

/// The positive at hand; its score is looked up where somebody asks.
pub(super) struct Positive<'a, S> {
    pub(super) case: &'a Case<'a>,
    pub(super) item: u32,
    pub(super) score: Option<f32>,
    pub(super) scores: &'a S,
}

impl<S: Scores> Positive<'_, S> {
    pub(super) fn score(&mut self) -> f32 {
        *self.score.get_or_insert_with(|| {
            let mut out = [0f32];
            self.scores.of_user(self.case.user, &[self.item], &mut out);
            out[0]
        })
    }
}

impl<'a> Catalogue<'a> {
    pub(super) fn new(dataset: &'a Dataset, temperature: f32) -> Self {
        let popularity = dataset.popularity();
        let most = popularity.iter().map(|c| c.to_native()).max().unwrap_or(1).max(1) as f32;
        Self { popularity, most, inverse_temperature: 1.0 / temperature }
    }

    /// How many items there are.
    pub(super) fn items(&self) -> usize {
        self.popularity.len()
    }
}

impl Component<'_> {
    /// One negative out of at most `most` candidates: its position, its weight, and how it came about. `None` where
    /// there is nothing to propose.
    pub(super) fn negative<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        most: usize,
        catalogue: Catalogue<'_>,
        excluded: &Excluded,
        room: &mut Room,
        rng: &mut impl Rng,
    ) -> Option<(u32, f32, Outcome)> {
        let mut last = None;
        let mut tries = 0;
        while tries < most {
            // All at once, or for violations a few at a time until one does.
            let at_once = if self.config.select == Select::Violation { AT_ONCE.min(most - tries) } else { most };
            self.propose(positive, at_once, excluded, room, rng);
            let Some(position) = room.positions.last() else { break };
            last = Some(*position);
            let chosen = if self.config.select == Select::Violation {
                self.violating(positive, catalogue, room, rng)
            } else {
                self.selected(positive, catalogue, room, rng)
            };
            if let Some(k) = chosen {
                let weight = self.weigh(positive, catalogue, (room.items[k], room.scores[k]), tries + k + 1);
                self.explain(positive, room, (k, tries + k + 1), weight);
                return Some((room.positions[k], weight, Outcome::Drawn));
            }
            tries += at_once;
        }
        match last {
            // There is nothing to learn from.
            Some(position) => {
                if let Some(trail) = &mut room.trail {
                    trail.make_do(positive.case.block[position as usize]);
                }
                Some((position, 0.0, Outcome::Void))
            }
            None => self.stand_in(positive.case, excluded, &mut room.trail, rng),
        }
    }

    /// What is taken where the component has nothing to propose: an item that `uniform` draws, of the same context where
    /// that is asked for. Where nothing of the context is allowed, any item, and there is nothing to learn from it.
    fn stand_in(
        &self,
        case: &Case<'_>,
        excluded: &Excluded,
        trail: &mut Option<Trail>,
        rng: &mut impl Rng,
    ) -> Option<(u32, f32, Outcome)> {
        let within = self.within();
        let mut uniform = |within: Option<Within<'_>>, trail: &mut Option<Trail>| {
            Source::Uniform.draw(case, (0, within), excluded, rng, refuse(trail, case.block))
        };
        let filled = if self.source.may_be_filled() { uniform(within, trail) } else { None };
        let (position, weight, outcome) = match filled {
            Some(position) => (position, 1.0, Outcome::Filled),
            None => {
                within?;
                (uniform(None, trail)?, 0.0, Outcome::Void)
            }
        };
        if let Some(trail) = trail {
            let (item, context) = (case.block[position as usize], within.is_some());
            let why = if outcome == Outcome::Filled { Chosen::Filled { context } } else { Chosen::Void { context } };
            trail.candidate(item, f32::NAN, 0.0, None);
            trail.choose(item, 0, weight, why);
        }
        Some((position, weight, outcome))
    }

    /// The items of the context of the positive at hand, where candidates must be of it.
    fn within(&self) -> Option<Within<'_>> {
        self.context.as_ref().map(|context| context.items(self.around.clone()))
    }

    /// Puts up to `n` candidates into the room, with their scores where they count.
    fn propose<S: Scores>(
        &self,
        positive: &Positive<'_, S>,
        n: usize,
        excluded: &Excluded,
        room: &mut Room,
        rng: &mut impl Rng,
    ) {
        let Room { positions, items, scores, trail, .. } = room;
        let (block, at) = (positive.case.block, (self.until, self.within()));
        positions.clear();
        for _ in 0..n {
            // Where one draw finds nothing that is allowed, the next hardly will.
            let refuse = refuse(trail, block);
            let Some(position) = self.source.draw(positive.case, at, excluded, rng, refuse) else { break };
            positions.push(position);
        }
        items.clear();
        items.extend(positions.iter().map(|p| block[*p as usize]));
        scores.resize(items.len(), 0.0);
        let asked = trail.is_some() || self.config.band.is_some() || self.config.weigh == Weigh::Gap;
        if self.config.select != Select::First || asked {
            positive.scores.of_user(positive.case.user, items, scores);
        }
    }

    /// The first candidate that violates and passes the filters.
    fn violating<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        catalogue: Catalogue<'_>,
        room: &mut Room,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let least = positive.score() - self.now.margin;
        (0..room.positions.len()).find(|k| {
            let noise = if self.now.noise > 0.0 { self.now.noise * normal(rng) } else { 0.0 };
            let (item, score) = (room.items[*k], room.scores[*k]);
            let violates = score + noise > least;
            let filtered = if violates { self.filtered(positive, catalogue, (item, score)) } else { None };
            if let Some(trail) = &mut room.trail {
                trail.candidate(item, score, noise, filtered);
            }
            violates && filtered.is_none()
        })
    }

    /// The candidate that is selected of those that pass the filters, which alone are left in the room.
    fn selected<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        catalogue: Catalogue<'_>,
        room: &mut Room,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        if self.config.filters() {
            let mut kept = 0;
            for k in 0..room.positions.len() {
                let candidate = (room.items[k], room.scores[k]);
                let filtered = self.filtered(positive, catalogue, candidate);
                if filtered.is_none() {
                    room.positions[kept] = room.positions[k];
                    (room.items[kept], room.scores[kept]) = candidate;
                    kept += 1;
                } else if let Some(trail) = &mut room.trail {
                    trail.candidate(candidate.0, candidate.1, 0.0, filtered);
                }
            }
            room.positions.truncate(kept);
            room.scores.truncate(kept);
            if kept == 0 {
                return None;
            }
        }
        if self.config.select == Select::First {
            return Some(0);
        }
        room.noisy.clear();
        room.noisy.extend_from_slice(&room.scores);
        if self.now.noise > 0.0 {
            room.noisy.iter_mut().for_each(|s| *s += self.now.noise * normal(rng));
        }
        let score = if self.config.select == Select::Adaptive { positive.score() } else { 0.0 };
        Some(choose(&self.config, &self.now, score, &room.noisy, &mut room.order, rng))
    }

    /// Writes down why candidate `k` was chosen of those in the room, as the `tries`th, if somebody asks.
    fn explain<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        room: &mut Room,
        (k, tries): (usize, usize),
        weight: f32,
    ) {
        let Some(trail) = &mut room.trail else { return };
        let (count, select) = (room.positions.len(), self.config.select);
        let of = count as u32;
        if select != Select::Violation {
            for (j, (item, score)) in room.items[..count].iter().zip(&room.scores).enumerate() {
                let noise = if self.now.noise > 0.0 { room.noisy[j] - score } else { 0.0 };
                trail.candidate(*item, *score, noise, None);
            }
        }
        let why = match select {
            Select::First => Chosen::First,
            Select::Hardest => Chosen::Hardest { of },
            Select::Top => Chosen::Top { top: of.min(self.now.top as u32), of },
            Select::Softmax => {
                let most = room.noisy.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let part = |s: f32| ((s - most) / self.now.temperature).exp();
                Chosen::Softmax { chance: part(room.noisy[k]) / room.noisy.iter().map(|s| part(*s)).sum::<f32>(), of }
            }
            Select::Adaptive => Chosen::Adaptive { aim: aim(positive.score(), &self.config, self.now.hardness), of },
            Select::Violation => {
                let by = room.scores[k] + trail.last_noise() - (positive.score() - self.now.margin);
                Chosen::Violation { by, tries: tries as u32 }
            }
        };
        let behind = if select == Select::Violation { 0 } else { count - 1 - k };
        trail.choose(room.items[k], behind, weight, why);
    }

    /// The filter that a candidate, an item and its score, does not pass.
    fn filtered<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        catalogue: Catalogue<'_>,
        candidate: (u32, f32),
    ) -> Option<Filtered> {
        let plausible = self.config.band.is_none_or(|[low, high]| {
            let gap = positive.score() - candidate.1;
            let p = 1.0 / (1.0 + (catalogue.inverse_temperature * gap).exp());
            (low as f32..=high as f32).contains(&p)
        });
        if !plausible {
            return Some(Filtered::Band);
        }
        let apart = self.config.min_distance.is_none_or(|least| {
            let mut cosine = [0f32];
            positive.scores.of_item(positive.item, &[candidate.0], &mut cosine);
            1.0 - cosine[0] >= least as f32
        });
        if apart { None } else { Some(Filtered::MinDistance) }
    }

    /// What a negative, an item and its score, counts.
    fn weigh<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        catalogue: Catalogue<'_>,
        (item, score): (u32, f32),
        tries: usize,
    ) -> f32 {
        let clip = |default: f64| self.config.clip.unwrap_or(default) as f32;
        match self.config.weigh {
            Weigh::One | Weigh::LogQ => 1.0,
            Weigh::Propensity => {
                let exposure = catalogue.popularity[item as usize].to_native() as f32 / catalogue.most;
                exposure.powf(-self.config.gamma.unwrap_or(0.5) as f32).min(clip(10.0))
            }
            Weigh::Gap => 2.0 / (1.0 + (catalogue.inverse_temperature * (score - positive.score())).exp()),
            Weigh::Rank => (((catalogue.items() - 1) / tries).max(1) as f32).ln().min(clip(f64::INFINITY)),
        }
    }
}

/// Tells the trail, if there is one, which draws were refused.
fn refuse<'t>(trail: &'t mut Option<Trail>, block: &'t [u32]) -> impl FnMut(u32, Refused) + 't {
    move |position, why| {
        if let Some(trail) = trail {
            trail.refuse(block[position as usize], why);
        }
    }
}
