//! The nearest items of a user: those that score highest by an index of the items' rows, built anew as they change.

#[cfg_attr(not(feature = "nearest"), path = "absent.rs")]
mod index;
#[cfg(all(test, feature = "nearest"))]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};

use rand::Rng;

use self::index::Index;
use super::sampler::TRIES;
use super::source::Refused;
use super::{MixConfig, NegativesConfig, Propose, Scheduled, Scores, below};
use crate::context::Context;

/// Neighbours that are retrieved for a user by default.
pub(super) const NEIGHBOURS: usize = 100;
/// The share of the run after which the index is built anew by default.
const REBUILD: f64 = 0.1;
/// Shares of the run are sums of floats.
const TOLERANCE: f64 = 1e-9;

/// How an index is built anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    /// The share of the run that is over.
    pub(crate) progress: f64,
    /// Threads to build it with; with one the same rows give the same index.
    pub(crate) threads: usize,
    /// Whether nobody draws meanwhile, so that the old index may go first.
    pub(crate) alone: bool,
}

/// What the lanes share.
struct Shared {
    items: u32,
    neighbours: usize,
    rebuild: Scheduled,
    /// Lanes that search.
    searchers: usize,
    index: RwLock<Option<Arc<Index>>>,
    /// The share of the run that was over when it was last built; locked while it is.
    built: Mutex<Option<f64>>,
}

/// A user's nearest items. Clones share the index.
#[derive(Clone)]
pub(super) struct Nearest {
    shared: Arc<Shared>,
    /// The items retrieved for the user at hand, positives included.
    found: Vec<u32>,
    query: Vec<f32>,
}

impl Nearest {
    /// Nothing is built before [`Nearest::renew`].
    pub(super) fn new(items: u32, config: &MixConfig, ctx: &Context) -> Self {
        let shared = Shared {
            items,
            neighbours: config.neighbours.unwrap_or(NEIGHBOURS).min(items as usize),
            rebuild: config.rebuild.clone().unwrap_or(Scheduled::Constant(REBUILD)),
            searchers: ctx.threads(),
            index: RwLock::new(None),
            built: Mutex::new(None),
        };
        Self { shared: Arc::new(shared), found: Vec::new(), query: Vec::new() }
    }

    /// Builds the index anew out of the rows of the moment, if it is due and nobody else is at it.
    pub(super) fn renew(&self, renewal: Renewal, scores: &(impl Scores + Sync), ctx: &Context) {
        let Renewal { progress, threads, alone } = renewal;
        let mut built = match self.shared.built.try_lock() {
            Ok(built) => built,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if !self.is_due(*built, progress) {
            return;
        }
        let Shared { items, neighbours, searchers, .. } = *self.shared;
        if alone {
            self.put(None);
        }
        match Index::new(items, neighbours, scores, (threads, searchers), &|| ctx.cancelled()) {
            Ok(None) => return,
            Ok(Some(index)) => self.put(Some(Arc::new(index))),
            Err(why) => {
                let instead = if alone { "uniform ones stand in" } else { "those of before go on" };
                ctx.message(&format!("nearest negatives: the index could not be built ({why}); {instead}"));
            }
        }
        *built = Some(progress);
    }

    /// Whether an index `built` then is to be built anew.
    fn is_due(&self, built: Option<f64>, progress: f64) -> bool {
        built.is_none_or(|at| progress - at >= self.shared.rebuild.at(progress) - TOLERANCE)
    }

    /// Forgets the index: the next renewal builds one.
    pub(super) fn forget(&self) {
        *self.shared.built.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.put(None);
    }

    /// Whether there is an index that stays as it is when the share `progress` of the run is over.
    pub(super) fn remembers(&self, progress: f64) -> bool {
        let built = *self.shared.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.is_some() && !self.is_due(built, progress)
    }

    /// Whether it has yet to be built.
    pub(super) fn lacks_index(&self) -> bool {
        self.shared.built.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn put(&self, index: Option<Arc<Index>>) {
        *self.shared.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// Retrieves the nearest items of `user`: once for a run of positives.
    pub(super) fn retrieve(&mut self, user: u32, scores: &impl Scores) {
        let Self { shared, found, query } = self;
        let index = shared.index.read().unwrap_or_else(PoisonError::into_inner).clone();
        match index {
            Some(index) => index.search(user, shared.neighbours, scores, query, found),
            None => found.clear(),
        }
    }

    /// One of them that nothing speaks against, each with the same chance; `None` if there is none. Items are positions, in
    /// the single block of the whole catalogue. `refused` hears of those that `refuse` gives a reason against.
    pub(super) fn draw(
        &self,
        refuse: impl Fn(u32) -> Option<Refused>,
        rng: &mut impl Rng,
        mut refused: impl FnMut(u32, Refused),
    ) -> Option<u32> {
        for _ in 0..TRIES.min(self.found.len()) {
            let item = self.found[below(self.found.len(), rng)];
            match refuse(item) {
                None => return Some(item),
                Some(why) => refused(item, why),
            }
        }
        // A trained model has a user's own items in front: hardly any may be left.
        let allowed = || self.found.iter().copied().filter(|item| refuse(*item).is_none());
        allowed().nth(below(allowed().count(), rng))
    }
}

impl NegativesConfig {
    /// Bytes of the indexes of `nearest` components on `items` items with rows of `width` floats, with so many lanes to
    /// search them: two of each where lanes go on while the next is built.
    pub(crate) fn index_bytes(&self, (items, width): (u64, u64), lanes: u64, go_on: bool) -> u64 {
        let indexes = self.mix.iter().filter(|c| c.propose == Propose::Nearest).count() as u64;
        indexes * (1 + u64::from(go_on)) * Index::bytes(items, width, lanes)
    }
}
