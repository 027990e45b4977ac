//! One component of a mixture: how one negative comes about.

use std::ops::Range;
use std::sync::Arc;

use rand::Rng;
use rkyv::rend::u32_le;

use super::super::select::{Now, choose, normal};
use super::super::source::{Case, Source};
use super::super::{Excluded, MixConfig, SameContext, Scores, Select, Weigh, Within};
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
    pub(super) context: Option<Arc<SameContext>>,
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
    fn score(&mut self) -> f32 {
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
                return Some((room.positions[k], weight, Outcome::Drawn));
            }
            tries += at_once;
        }
        match last {
            // There is nothing to learn from.
            Some(position) => Some((position, 0.0, Outcome::Void)),
            None => self.stand_in(|within| Source::Uniform.draw(positive.case, (0, within), excluded, rng)),
        }
    }

    /// What is taken where the component has nothing to propose: an item that `uniform` draws, of the same context where
    /// that is asked for. Where nothing of the context is allowed, any item, and there is nothing to learn from it.
    fn stand_in(&self, mut uniform: impl FnMut(Option<Within<'_>>) -> Option<u32>) -> Option<(u32, f32, Outcome)> {
        let within = self.within();
        if self.source.may_be_filled()
            && let Some(position) = uniform(within)
        {
            return Some((position, 1.0, Outcome::Filled));
        }
        within?;
        Some((uniform(None)?, 0.0, Outcome::Void))
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
        let Room { positions, items, scores, .. } = room;
        let within = self.within();
        positions.clear();
        for _ in 0..n {
            // Where one draw finds nothing that is allowed, the next hardly will.
            let Some(position) = self.source.draw(positive.case, (self.until, within), excluded, rng) else { break };
            positions.push(position);
        }
        items.clear();
        items.extend(positions.iter().map(|p| positive.case.block[*p as usize]));
        scores.resize(items.len(), 0.0);
        if self.config.select != Select::First || self.config.band.is_some() || self.config.weigh == Weigh::Gap {
            positive.scores.of_user(positive.case.user, items, scores);
        }
    }

    /// The first candidate that violates and passes the filters.
    fn violating<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        catalogue: Catalogue<'_>,
        room: &Room,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let least = positive.score() - self.now.margin;
        (0..room.positions.len()).find(|k| {
            let noise = if self.now.noise > 0.0 { self.now.noise * normal(rng) } else { 0.0 };
            room.scores[*k] + noise > least && self.keeps(positive, catalogue, (room.items[*k], room.scores[*k]))
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
                if self.keeps(positive, catalogue, candidate) {
                    room.positions[kept] = room.positions[k];
                    (room.items[kept], room.scores[kept]) = candidate;
                    kept += 1;
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

    /// Whether a candidate, an item and its score, passes the filters.
    fn keeps<S: Scores>(
        &self,
        positive: &mut Positive<'_, S>,
        catalogue: Catalogue<'_>,
        candidate: (u32, f32),
    ) -> bool {
        let plausible = self.config.band.is_none_or(|[low, high]| {
            let gap = positive.score() - candidate.1;
            let p = 1.0 / (1.0 + (catalogue.inverse_temperature * gap).exp());
            (low as f32..=high as f32).contains(&p)
        });
        plausible
            && self.config.min_distance.is_none_or(|least| {
                let mut cosine = [0f32];
                positive.scores.of_item(positive.item, &[candidate.0], &mut cosine);
                1.0 - cosine[0] >= least as f32
            })
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
