//! A mixture of components: for every negative one of them is drawn by its share, and it proposes candidates, filters
//! them, selects one and weighs it.

use rand::Rng;

use super::select::{Now, choose, normal};
use super::source::{Case, Chance, Source};
use super::{Batch, Excluded, MixConfig, NegativesConfig, Run, Scores, Select, Weigh};
use crate::dataset::{Dataset, Interactions};
use crate::model::Similarity;

/// One component, with its numbers at the moment.
#[derive(Clone)]
struct Component<'a> {
    config: MixConfig,
    source: Source<'a>,
    now: Now,
    /// Of the positive at hand (see [`Source::until`]).
    until: usize,
}

/// Room to work in.
#[derive(Clone, Default)]
struct Room {
    positions: Vec<u32>,
    items: Vec<u32>,
    scores: Vec<f32>,
    noisy: Vec<f32>,
    order: Vec<u32>,
    /// Of the positive at hand: which component drew each negative, and whether it was filled in, or is void.
    drawn: Vec<(u8, Outcome)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Drawn,
    /// Uniform, where the component had nothing to propose.
    Filled,
    /// No candidate was left: the negative has weight 0.
    Void,
}

/// What all lanes share; each has a copy.
#[derive(Clone)]
pub(crate) struct Mixture<'a> {
    interactions: &'a Interactions,
    components: Vec<Component<'a>>,
    /// For log-q: the chances of the components.
    chances: std::sync::Arc<Vec<Chance>>,
    each: usize,
    with_replacement: bool,
    allow_positives: bool,
    needs_times: bool,
    weighted: bool,
    margin: f64,
    inverse_temperature: f32,
    /// Positives of the mean user.
    mean_activity: f64,
    /// For propensities: exposure of the most popular item.
    popularity: &'a [rkyv::rend::u32_le],
    most: f32,
    excluded: Excluded,
    room: Room,
}

impl<'a> Mixture<'a> {
    /// Builds what the components of `config` propose by, within `budget` bytes. `largest_block` is in items.
    pub(crate) fn new(
        dataset: &'a Dataset,
        config: &NegativesConfig,
        (similarity, temperature): (Similarity, f32),
        largest_block: usize,
        budget: u64,
    ) -> Self {
        let margin = if similarity == Similarity::Cosine { 0.1 } else { 1.0 };
        let own = budget / config.mix.len().max(1) as u64;
        let component = |c: &MixConfig| Component {
            config: c.clone(),
            source: Source::new(dataset, c, own),
            now: Now::at(c, 0.0, margin),
            until: 0,
        };
        let log_q = config.mix.iter().any(|c| c.weigh == Weigh::LogQ);
        let chances = if log_q { config.mix.iter().map(|c| Chance::new(dataset, c)).collect() } else { Vec::new() };
        let weighs = |c: &MixConfig| {
            !matches!(c.weigh, Weigh::One | Weigh::LogQ) || c.filters() || c.select == Select::Violation
        };
        let summary = dataset.train().summary();
        Self {
            interactions: dataset.train(),
            components: config.mix.iter().map(component).collect(),
            chances: std::sync::Arc::new(chances),
            each: config.count,
            with_replacement: config.with_replacement,
            allow_positives: config.allow_positives,
            needs_times: config.needs_times(),
            weighted: config.mix.iter().any(weighs),
            margin,
            inverse_temperature: 1.0 / temperature,
            mean_activity: summary.interactions as f64 / f64::from(summary.users.max(1)),
            popularity: dataset.popularity(),
            most: dataset.popularity().iter().map(|c| c.to_native()).max().unwrap_or(1).max(1) as f32,
            excluded: Excluded::new(largest_block),
            room: Room::default(),
        }
    }

    /// Whether it depends on the scores of the moment.
    pub(crate) fn reads_scores(&self) -> bool {
        self.components
            .iter()
            .any(|c| c.config.select != Select::First || c.config.filters() || c.config.weigh == Weigh::Gap)
    }

    /// A block begins, when the share `progress` of the run is over; `bucket` are its pairs.
    pub(crate) fn begin(&mut self, progress: f64, bucket: &[u64], rng: &mut impl Rng) {
        for component in &mut self.components {
            component.now = Now::at(&component.config, progress, self.margin);
            component.source.begin(bucket, rng);
        }
    }

    /// Appends a run to `batch`, as [`Sampler::run`](super::Sampler::run) does.
    pub(crate) fn run(&mut self, run: Run<'_>, scores: &impl Scores, rng: &mut impl Rng, batch: &mut Batch) {
        let needed = if self.with_replacement { 1 } else { self.each };
        let excluded = if self.allow_positives { 1 } else { run.pairs.len() };
        if run.block.len() < excluded + needed {
            batch.skipped += run.pairs.len() as u64;
            return;
        }
        if !self.allow_positives {
            run.pairs.iter().for_each(|pair| self.excluded.insert(*pair as u32));
        }
        let before = batch.positives.len();
        for pair in run.pairs {
            let position = *pair as u32;
            if self.allow_positives {
                self.excluded.insert(position);
            }
            let first = batch.negatives.len();
            let time = self.time(run.user, run.block[position as usize]);
            let case = Case { user: run.user, position, block: run.block, pool: run.pool, time };
            self.negatives(&case, scores, rng, batch);
            if !self.with_replacement {
                batch.negatives[first..].iter().for_each(|n| self.excluded.remove(*n));
            }
            if self.allow_positives {
                self.excluded.remove(position);
            }
            if batch.negatives.len() - first < self.each {
                batch.negatives.truncate(first);
                batch.weights.truncate(if self.weighted { first } else { 0 });
                batch.skipped += 1;
            } else {
                self.finish(&case, first, batch);
            }
            for component in &mut self.components {
                component.source.passed(position, rng);
            }
        }
        if !self.allow_positives {
            run.pairs.iter().for_each(|pair| self.excluded.remove(*pair as u32));
        }
        if batch.positives.len() > before {
            batch.users.push(run.user);
            batch.ends.push(batch.positives.len() as u32);
        }
    }

    /// When `user` took `item`, if a component asks.
    fn time(&self, user: u32, item: u32) -> Option<i64> {
        let of = self.needs_times.then(|| self.interactions.user(user))?;
        let at = of.items.binary_search_by_key(&item, |i| i.to_native()).ok()?;
        of.times.get(at).map(|t| t.to_native())
    }

    /// Turns positions into items, and keeps count.
    fn finish(&self, case: &Case<'_>, first: usize, batch: &mut Batch) {
        let item = case.block[case.position as usize];
        batch.drawn.resize(self.components.len(), 0);
        for (component, outcome) in &self.room.drawn {
            match outcome {
                Outcome::Drawn => batch.drawn[usize::from(*component)] += 1,
                Outcome::Filled => batch.filled += 1,
                Outcome::Void => batch.void += 1,
            }
        }
        for n in &mut batch.negatives[first..] {
            *n = case.block[*n as usize];
        }
        if !self.chances.is_empty() {
            let total: f64 = self.components.iter().map(|c| c.now.share).sum();
            let least = 1e-3 / self.popularity.len() as f64;
            let offset = |item: u32| {
                let parts = self.chances.iter().zip(&self.components).map(|(q, c)| q.of(item) * c.now.share);
                let q = (parts.sum::<f64>() / total).max(least);
                -(self.each as f64 * q).ln() as f32
            };
            batch.positive_offsets.push(offset(item));
            batch.negative_offsets.extend(batch.negatives[first..].iter().map(|n| offset(*n)));
        }
        batch.positives.push(item);
    }

    /// Pushes the positions of the negatives of one positive, and their weights; fewer where none is left.
    fn negatives(&mut self, case: &Case<'_>, scores: &impl Scores, rng: &mut impl Rng, batch: &mut Batch) {
        self.room.drawn.clear();
        for component in &mut self.components {
            component.until = component.source.until(case);
        }
        let mut positive = None;
        for _ in 0..self.each {
            let c = self.component(rng);
            let Some((position, weight, outcome)) = self.one(c, case, &mut positive, scores, rng) else { return };
            if !self.with_replacement {
                self.excluded.insert(position);
            }
            self.room.drawn.push((c as u8, outcome));
            batch.negatives.push(position);
            if self.weighted {
                batch.weights.push(weight);
            }
        }
    }

    /// The component of the next negative, by the shares of the moment.
    fn component(&self, rng: &mut impl Rng) -> usize {
        if self.components.len() == 1 {
            return 0;
        }
        let total: f64 = self.components.iter().map(|c| c.now.share).sum();
        let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        let mut last = 0;
        for (i, component) in self.components.iter().enumerate().filter(|(_, c)| c.now.share > 0.0) {
            last = i;
            left -= component.now.share;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// One negative of component `c`: its position, its weight, and how it came about.
    fn one(
        &mut self,
        c: usize,
        case: &Case<'_>,
        positive: &mut Option<f32>,
        scores: &impl Scores,
        rng: &mut impl Rng,
    ) -> Option<(u32, f32, Outcome)> {
        let Self { components, room, excluded, .. } = self;
        let Component { config, source, now, until } = &components[c];
        let item = case.block[case.position as usize];
        let mut score = || {
            *positive.get_or_insert_with(|| {
                let mut out = [0f32];
                scores.of_user(case.user, &[item], &mut out);
                out[0]
            })
        };
        let mut most = now.candidates;
        if let Some(exponent) = config.activity {
            let own = self.interactions.user(case.user).items.len() as f64;
            most *= (own / self.mean_activity.max(1e-9)).powf(exponent);
        }
        let most = (most.round() as usize).clamp(1, super::MAX_CANDIDATES);
        let by_score = !matches!(config.select, Select::First) || config.band.is_some() || config.weigh == Weigh::Gap;
        let filters = config.filters();
        // Candidates come in rounds: all at once, or for violations a few at a time until one does.
        let round = if config.select == Select::Violation { most.min(4) } else { most };
        let mut tries = 0;
        let mut last = None;
        while tries < most {
            room.positions.clear();
            for _ in 0..round.min(most - tries) {
                room.positions.extend(source.draw(case, *until, excluded, rng));
            }
            if room.positions.is_empty() {
                break;
            }
            last = room.positions.last().copied();
            room.items.clear();
            room.items.extend(room.positions.iter().map(|p| case.block[*p as usize]));
            room.scores.resize(room.items.len(), 0.0);
            if by_score {
                scores.of_user(case.user, &room.items, &mut room.scores);
            }
            if config.select == Select::Violation {
                let least = score() - now.margin;
                for k in 0..room.positions.len() {
                    tries += 1;
                    let noise = if now.noise > 0.0 { now.noise * normal(rng) } else { 0.0 };
                    let (at, s) = (room.items[k], room.scores[k]);
                    if s + noise > least
                        && (!filters || keeps(config, self.inverse_temperature, item, score(), (at, s), scores))
                    {
                        let weight = weigh(
                            config,
                            (self.popularity, self.most),
                            self.inverse_temperature,
                            score(),
                            (at, s),
                            tries,
                        );
                        return Some((room.positions[k], weight, Outcome::Drawn));
                    }
                }
                continue;
            }
            if filters {
                let positive = if config.band.is_some() { score() } else { 0.0 };
                let mut kept = 0;
                for k in 0..room.positions.len() {
                    let candidate = (room.items[k], room.scores[k]);
                    if keeps(config, self.inverse_temperature, item, positive, candidate, scores) {
                        room.positions[kept] = room.positions[k];
                        (room.items[kept], room.scores[kept]) = candidate;
                        kept += 1;
                    }
                }
                room.positions.truncate(kept);
                room.items.truncate(kept);
                room.scores.truncate(kept);
                if kept == 0 {
                    break;
                }
            }
            room.noisy.clear();
            if now.noise > 0.0 {
                room.noisy.extend(room.scores.iter().map(|s| s + now.noise * normal(rng)));
            } else {
                room.noisy.extend_from_slice(&room.scores);
            }
            let s = if config.select == Select::Adaptive || config.weigh == Weigh::Gap { score() } else { 0.0 };
            let k = choose(config, now, s, &room.noisy, &mut room.order, rng);
            let candidate = (room.items[k], room.scores[k]);
            let weight = weigh(config, (self.popularity, self.most), self.inverse_temperature, s, candidate, 1);
            return Some((room.positions[k], weight, Outcome::Drawn));
        }
        match last {
            // None violates, or the filters dropped them all: there is nothing to learn from.
            Some(position) => Some((position, 0.0, Outcome::Void)),
            None if source.may_be_filled() => {
                let position = Source::Uniform.draw(case, 0, excluded, rng)?;
                Some((position, 1.0, Outcome::Filled))
            }
            None => None,
        }
    }
}

/// Whether a candidate, an item and its score, passes the filters.
fn keeps(
    config: &MixConfig,
    inverse_temperature: f32,
    item: u32,
    positive: f32,
    (candidate, score): (u32, f32),
    scores: &impl Scores,
) -> bool {
    let plausible = config.band.is_none_or(|[low, high]| {
        let p = 1.0 / (1.0 + (inverse_temperature * (positive - score)).exp());
        (low as f32..=high as f32).contains(&p)
    });
    plausible
        && config.min_distance.is_none_or(|least| {
            let mut cosine = [0f32];
            scores.of_item(item, &[candidate], &mut cosine);
            1.0 - cosine[0] >= least as f32
        })
}

/// What a negative, an item and its score, counts.
fn weigh(
    config: &MixConfig,
    (popularity, most): (&[rkyv::rend::u32_le], f32),
    inverse_temperature: f32,
    positive: f32,
    (item, score): (u32, f32),
    tries: usize,
) -> f32 {
    let clip = |default: f64| config.clip.unwrap_or(default) as f32;
    match config.weigh {
        Weigh::One | Weigh::LogQ => 1.0,
        Weigh::Propensity => {
            let exposure = popularity[item as usize].to_native() as f32 / most;
            exposure.powf(-config.gamma.unwrap_or(0.5) as f32).min(clip(10.0))
        }
        Weigh::Gap => 2.0 / (1.0 + (inverse_temperature * (score - positive)).exp()),
        Weigh::Rank => (((popularity.len() - 1) / tries).max(1) as f32).ln().min(clip(f64::INFINITY)),
    }
}

#[cfg(test)]
mod tests;
