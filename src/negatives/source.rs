//! Where the candidates of a component come from.

use std::sync::Arc;

use rand::{Rng, RngExt};

use super::nearest::Nearest;
use super::neighbours;
use super::recent::Recent;
use super::sampler::{TRIES, draw_exactly};
use super::{Distribution, Excluded, MixConfig, NegativesConfig, Popularity, Propose, Uniform, Within, below};
use crate::context::{Context, Interrupted};
use crate::cooccurrence::ItemUsers;
use crate::dataset::{Dataset, Exposures};

/// Positives that a reservoir holds by default.
const RESERVOIR: usize = 1 << 14;
/// Bytes of an item's weight and its slot of an alias table, and of what the table is made of.
const WEIGHT: u64 = 40;

/// The positive at hand, and what is around it.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) user: u32,
    /// The positive's position in the block.
    pub(super) position: u32,
    /// Items by position.
    pub(super) block: &'a [u32],
    /// Pairs of the same batch.
    pub(super) pool: &'a [u64],
    /// The positive's time, where it is known.
    pub(super) time: Option<i64>,
}

/// Why a draw was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The item is a positive, or a negative already.
    Excluded,
    /// It is not of the context of the positive.
    Outside,
}

/// What a component proposes, and by what. What is shared is built once a run.
#[derive(Clone)]
pub(super) enum Source<'a> {
    Uniform,
    Popularity(Arc<Popularity>),
    Recent(Arc<Recent>),
    InBatch,
    Reservoir {
        held: Vec<u32>,
        size: usize,
    },
    Cooccurrence(Arc<ItemUsers<'a>>),
    /// None where the dataset has none; plans refuse that.
    Exposures(Option<&'a Exposures>),
    Nearest(Nearest),
}

impl<'a> Source<'a> {
    /// Builds what `config` proposes by, out of a random `share` of the interactions where it needs them.
    pub(super) fn new(
        dataset: &'a Dataset,
        config: &MixConfig,
        share: f64,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        Ok(match config.propose {
            Propose::Uniform => Self::Uniform,
            Propose::Popularity => {
                let counts = dataset.popularity().iter().map(|c| c.to_native());
                Self::Popularity(Arc::new(Popularity::new(counts, config.alpha.unwrap_or(0.75))))
            }
            Propose::Recent => {
                Self::Recent(Arc::new(Recent::new(dataset.train(), config.half_life.unwrap_or(30.0), share, ctx)?))
            }
            Propose::InBatch => Self::InBatch,
            Propose::Reservoir => Self::Reservoir { held: Vec::new(), size: config.size.unwrap_or(RESERVOIR) },
            Propose::Cooccurrence => {
                Self::Cooccurrence(Arc::new(ItemUsers::new(dataset.train(), dataset.items().len(), share, ctx)?))
            }
            Propose::Exposures => Self::Exposures(dataset.exposures()),
            Propose::Nearest => Self::Nearest(Nearest::new(dataset.items().len(), config, ctx)),
        })
    }

    /// A block begins: what is held must be of it. `bucket` are its pairs.
    pub(super) fn begin(&mut self, bucket: &[u64], rng: &mut impl Rng) {
        if let Self::Reservoir { held, size } = self {
            held.clear();
            if !bucket.is_empty() {
                held.extend((0..*size).map(|_| bucket[below(bucket.len(), rng)] as u32));
            }
        }
    }

    /// A positive has gone by.
    pub(super) fn passed(&mut self, position: u32, rng: &mut impl Rng) {
        if let Self::Reservoir { held, .. } = self
            && !held.is_empty()
        {
            let slot = below(held.len(), rng);
            held[slot] = position;
        }
    }

    /// How many interactions there were at the time of the positive, for `recent`: found once a positive.
    pub(super) fn until(&self, case: &Case<'_>) -> usize {
        match self {
            Self::Recent(recent) => case.time.map_or(0, |t| recent.until(t)),
            _ => 0,
        }
    }

    /// A candidate that is not excluded, by its position; and one of `within`, where that is given, which takes a block of
    /// all items, whose positions are items. `None` where it found none: then there is nothing to propose, or hardly
    /// anything that is allowed. `refused` hears of those that are excluded or not of `within`.
    pub(super) fn draw(
        &self,
        case: &Case<'_>,
        (until, within): (usize, Option<Within<'_>>),
        excluded: &Excluded,
        rng: &mut impl Rng,
        mut refused: impl FnMut(u32, Refused),
    ) -> Option<u32> {
        let refuse = |position: u32| match within {
            _ if excluded.contains(position) => Some(Refused::Excluded),
            Some(within) if !within.contains(position) => Some(Refused::Outside),
            _ => None,
        };
        for _ in 0..TRIES {
            let candidate = match self {
                Self::Uniform => match within {
                    Some(within) => Some(within.get(below(within.len(), rng))?),
                    None => Some(Uniform.draw(case.block, rng)),
                },
                Self::Popularity(popularity) => Some(popularity.draw(case.block, rng)),
                Self::Recent(recent) => Some(recent.draw(until, rng)?),
                Self::InBatch => Some(*case.pool.get(below(case.pool.len(), rng))? as u32),
                Self::Reservoir { held, .. } => Some(*held.get(below(held.len(), rng))?),
                Self::Cooccurrence(users) => neighbours::walk(users, case.user, case.position, rng),
                Self::Exposures(exposures) => {
                    let shown = exposures.map_or(&[][..], |e| e.user(case.user));
                    Some(shown.get(below(shown.len(), rng))?.to_native())
                }
                Self::Nearest(nearest) => return nearest.draw(refuse, rng, refused),
            };
            let Some(position) = candidate else { continue };
            match refuse(position) {
                None => return Some(position),
                Some(why) => refused(position, why),
            }
        }
        match (self, within) {
            (Self::Uniform, Some(within)) => {
                let allowed = || within.iter().filter(|i| !excluded.contains(*i));
                allowed().nth(below(allowed().count(), rng))
            }
            (Self::Popularity(popularity), Some(within)) => {
                let allowed = || within.iter().filter(|i| !excluded.contains(*i)).map(|i| (i, popularity.weight(i)));
                let mut left = rng.random::<f64>() * allowed().map(|(_, weight)| weight).sum::<f64>();
                let mut drawn = None;
                for (item, weight) in allowed().filter(|(_, weight)| *weight > 0.0) {
                    drawn = Some(item);
                    left -= weight;
                    if left < 0.0 {
                        break;
                    }
                }
                drawn
            }
            (Self::Uniform, None) => draw_exactly(&Uniform, excluded, case.block, rng),
            (Self::Popularity(popularity), None) => draw_exactly(&**popularity, excluded, case.block, rng),
            (Self::Exposures(exposures), _) => {
                let shown = exposures.map_or(&[][..], |e| e.user(case.user));
                let allowed = || shown.iter().map(|i| i.to_native()).filter(|i| refuse(*i).is_none());
                allowed().nth(below(allowed().count(), rng))
            }
            _ => None,
        }
    }

    /// Whether uniform candidates may stand in where it has none. Not where that would be ahead of time.
    pub(super) fn may_be_filled(&self) -> bool {
        !matches!(self, Self::Uniform | Self::Popularity(_) | Self::Recent(_))
    }
}

impl MixConfig {
    /// Bytes that the component takes on `items` items, one for each of `copies` samplers where they do not share: and
    /// those for each interaction that it looks up.
    fn bytes(&self, items: u64, copies: u64) -> (u64, u64) {
        match self.propose {
            // What `nearest` takes depends on the rows: see `index_bytes`.
            Propose::Uniform | Propose::InBatch | Propose::Exposures | Propose::Nearest => (0, 0),
            Propose::Popularity => (items * WEIGHT, 0),
            Propose::Recent => (0, Recent::BYTES),
            Propose::Reservoir => (copies * self.size.unwrap_or(RESERVOIR) as u64 * 4, 0),
            Propose::Cooccurrence => (items * ItemUsers::ITEM_BYTES, ItemUsers::BYTES),
        }
    }
}

impl NegativesConfig {
    /// Bytes that the components of a mixture take on `items` items with so many samplers at work, and those for each
    /// interaction that they look up.
    pub(crate) fn bytes(&self, items: u64, copies: u64) -> (u64, u64) {
        let chances = if self.corrects() { items * WEIGHT * self.mix.len() as u64 } else { 0 };
        let add = |sum: (u64, u64), own: (u64, u64)| (sum.0 + own.0, sum.1 + own.1);
        self.mix.iter().map(|c| c.bytes(items, copies)).fold((chances, 0), add)
    }
}

/// The chance that a component proposes an item, where it is known.
pub(super) enum Chance {
    /// One in so many items.
    Uniform(f64),
    /// By weight, of this total.
    Weighted(Arc<Popularity>, f64),
}

impl Chance {
    /// For components whose chances are known: those of in-batch and reservoir negatives are by popularity.
    pub(super) fn new(dataset: &Dataset, config: &MixConfig) -> Self {
        let alpha = match config.propose {
            Propose::Popularity => config.alpha.unwrap_or(0.75),
            Propose::InBatch | Propose::Reservoir => 1.0,
            _ => return Self::Uniform(f64::from(dataset.items().len())),
        };
        let popularity = Popularity::new(dataset.popularity().iter().map(|c| c.to_native()), alpha);
        let total = (0..dataset.items().len()).map(|i| popularity.weight(i)).sum();
        Self::Weighted(Arc::new(popularity), total)
    }

    pub(super) fn of(&self, item: u32) -> f64 {
        match self {
            Self::Uniform(items) => 1.0 / items,
            Self::Weighted(popularity, total) => popularity.weight(item) / total,
        }
    }
}
