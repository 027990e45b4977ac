//! A mixture of components: for every negative one of them is drawn by its share, and it proposes candidates, filters
//! them, selects one and weighs it.

mod component;

use std::sync::Arc;

use rand::Rng;

use self::component::{Catalogue, Component, Outcome, Positive, Room};
use super::audit::Trail;
use super::nearest::Nearest;
use super::select::Now;
use super::source::{Case, Chance, Source};
use super::{
    Auditor, Batch, Excluded, MAX_CANDIDATES, MixConfig, NegativesConfig, Propose, Renewal, Run, SameContext, Scores,
    Select, Wanted, Weigh,
};
use crate::context::{Context, Interrupted};
use crate::dataset::{Dataset, Interactions};
use crate::model::Similarity;

/// What all lanes share; each has a copy.
#[derive(Clone)]
pub(crate) struct Mixture<'a> {
    interactions: &'a Interactions,
    components: Vec<Component<'a>>,
    /// For log-q: the chances of the components.
    chances: Arc<Vec<Chance>>,
    each: usize,
    with_replacement: bool,
    allow_positives: bool,
    needs_times: bool,
    weighted: bool,
    margin: f64,
    /// Positives of the mean user.
    mean_activity: f64,
    catalogue: Catalogue<'a>,
    excluded: Excluded,
    room: Room,
}

impl<'a> Mixture<'a> {
    /// Builds what the components of `config` propose by, out of a random `share` of the interactions. `largest_block`
    /// is in items.
    pub(crate) fn new(
        dataset: &'a Dataset,
        (config, each): (&NegativesConfig, usize),
        (similarity, temperature): (Similarity, f32),
        largest_block: usize,
        share: f64,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        let margin = similarity.margin();
        let component = |c: &MixConfig| {
            let source = Source::new(dataset, c, share, ctx)?;
            let context = match &c.same_context {
                Some(text) => SameContext::new(dataset, text, ctx)?.map(Arc::new),
                None => None,
            };
            Ok(Component { config: c.clone(), source, now: Now::at(c, 0.0, margin), until: 0, context, around: 0..0 })
        };
        let chances =
            if config.corrects() { config.mix.iter().map(|c| Chance::new(dataset, c)).collect() } else { Vec::new() };
        let summary = dataset.train().summary();
        Ok(Self {
            interactions: dataset.train(),
            components: config.mix.iter().map(component).collect::<Result<_, _>>()?,
            chances: Arc::new(chances),
            each,
            with_replacement: config.with_replacement,
            allow_positives: config.allow_positives,
            needs_times: config.needs_times(),
            weighted: config.weighs(),
            margin,
            mean_activity: summary.interactions as f64 / f64::from(summary.users.max(1)),
            catalogue: Catalogue::new(dataset, temperature),
            excluded: Excluded::new(largest_block),
            room: Room::default(),
        })
    }

    /// Whether it depends on the scores of the moment.
    pub(crate) fn reads_scores(&self) -> bool {
        self.components
            .iter()
            .map(|c| &c.config)
            .any(|c| c.select != Select::First || c.filters() || c.weigh == Weigh::Gap || c.propose == Propose::Nearest)
    }

    /// Renews what the components have made of the tables, where that is due.
    pub(crate) fn renew(&self, renewal: Renewal, scores: &(impl Scores + Sync), ctx: &Context) {
        self.indexes().for_each(|nearest| nearest.renew(renewal, scores, ctx));
    }

    /// Forgets what the components have made of tables that are no longer.
    pub(crate) fn forget(&self) {
        self.indexes().for_each(Nearest::forget);
    }

    /// Whether a component holds what was made of tables of before, and is not to be made anew at `progress`, if that is
    /// where an epoch begins.
    pub(crate) fn remembers(&self, progress: Option<f64>) -> bool {
        self.indexes().any(|nearest| progress.is_none_or(|progress| nearest.remembers(progress)))
    }

    /// Whether an index has yet to be built.
    pub(crate) fn lacks_index(&self) -> bool {
        self.indexes().any(Nearest::lacks_index)
    }

    fn indexes(&self) -> impl Iterator<Item = &Nearest> {
        self.components.iter().filter_map(|component| match &component.source {
            Source::Nearest(nearest) => Some(nearest),
            _ => None,
        })
    }

    /// A block begins, when the share `progress` of the run is over; `bucket` are its pairs.
    pub(crate) fn begin(&mut self, progress: f64, bucket: &[u64], rng: &mut impl Rng) {
        for component in &mut self.components {
            component.now = Now::at(&component.config, progress, self.margin);
            component.source.begin(bucket, rng);
        }
    }

    /// Appends a run to `batch`, as [`Sampler::run`](super::Sampler::run) does.
    pub(crate) fn run(
        &mut self,
        run: Run<'_>,
        (scores, auditor, wanted): (&impl Scores, Option<&dyn Auditor>, Wanted<'_>),
        rng: &mut impl Rng,
        batch: &mut Batch,
    ) {
        let needed = if self.with_replacement { 1 } else { self.each };
        let excluded = if self.allow_positives { 1 } else { run.pairs.len() };
        if run.block.len() < excluded + needed {
            let wants = |pair: &&u64| wanted.is_none_or(|wanted| wanted(run.user, run.block[**pair as u32 as usize]));
            batch.skipped += run.pairs.iter().filter(wants).count() as u64;
            return;
        }
        if !self.allow_positives {
            run.pairs.iter().for_each(|pair| self.excluded.insert(*pair as u32));
        }
        for component in &mut self.components {
            if let Source::Nearest(nearest) = &mut component.source
                && component.now.share > 0.0
            {
                nearest.retrieve(run.user, scores);
            }
        }
        let before = batch.positives.len();
        for pair in run.pairs {
            let position = *pair as u32;
            if wanted.is_some_and(|wanted| !wanted(run.user, run.block[position as usize])) {
                // Taken all the same.
                self.components.iter_mut().for_each(|component| component.source.passed(position, rng));
                continue;
            }
            if self.allow_positives {
                self.excluded.insert(position);
            }
            let first = batch.negatives.len();
            let time = self.time(run.user, run.block[position as usize]);
            let case = Case { user: run.user, position, block: run.block, pool: run.pool, time };
            self.room.trail = Trail::begin(auditor, run.user, run.block[position as usize]);
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
                if let (Some(trail), Some(auditor)) = (self.room.trail.take(), auditor) {
                    trail.end(batch.negative_offsets.get(first..).unwrap_or_default(), auditor);
                }
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
            let least = 1e-3 / self.catalogue.items() as f64;
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
        let item = case.block[case.position as usize];
        for component in &mut self.components {
            component.until = component.source.until(case);
            if let Some(context) = &component.context {
                component.around = context.around(self.interactions, case.user, item);
            }
        }
        let mut positive = Positive { case, item, score: None, scores };
        for slot in 0..self.each {
            let c = self.component(rng);
            let most = self.candidates(&self.components[c], case.user);
            let Self { components, catalogue, excluded, room, .. } = self;
            if let Some(trail) = &mut room.trail {
                trail.next(slot, c);
            }
            let negative = components[c].negative(&mut positive, most, *catalogue, excluded, room, rng);
            let Some((position, weight, outcome)) = negative else { return };
            if !self.with_replacement {
                self.excluded.insert(position);
            }
            self.room.drawn.push((c as u8, outcome));
            batch.negatives.push(position);
            if self.weighted {
                batch.weights.push(weight);
            }
        }
        if let Some(trail) = &mut self.room.trail {
            trail.complete(positive.score(), scores);
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

    /// Candidates for each negative of `component`, for `user`.
    fn candidates(&self, component: &Component<'_>, user: u32) -> usize {
        let mut most = component.now.candidates;
        if let Some(exponent) = component.config.activity {
            let own = self.interactions.user(user).items.len() as f64;
            most *= (own / self.mean_activity.max(1e-9)).powf(exponent);
        }
        (most.round() as usize).clamp(1, MAX_CANDIDATES)
    }
}

#[cfg(test)]
mod tests;
