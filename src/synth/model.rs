//! The planted model: what was planted, and the oracle over it.

use super::activity::Activity;
use super::catalog::Catalog;
use super::config::SynthConfig;
use super::error::SynthError;
use super::random::{Purpose, hash, unit};
use super::rows::{Author, Row};
use super::taste::{Clusters, Taste};
use crate::context::Context;

/// The model that a synthetic log is drawn from, and the oracle that knows the true probabilities.
///
/// An evaluation of a trained model can rank by [`PlantedModel::scores`] to learn the best result there is to have.
pub struct PlantedModel {
    pub(super) config: SynthConfig,
    pub(super) catalog: Catalog,
    pub(super) clusters: Clusters,
    pub(super) activity: Activity,
}

impl PlantedModel {
    /// Builds the tables of `config`: 12 bytes an item and 8 bytes a block of users; a few passes over users and items,
    /// which take a fraction of a second a million.
    ///
    /// # Errors
    /// A number out of range, more interactions than users and items can hold, tables beyond the memory budget, or an
    /// interruption.
    pub fn new(config: &SynthConfig, ctx: &Context) -> Result<Self, SynthError> {
        config.validate()?;
        let catalog = Catalog::new(config, ctx)?;
        let clusters = Clusters::new(config.seed, catalog.clusters());
        let activity = Activity::new(config, ctx)?;
        Ok(Self { config: config.clone(), catalog, clusters, activity })
    }

    /// The configuration.
    pub fn config(&self) -> &SynthConfig {
        &self.config
    }

    /// The original id of the user of a number, as the log writes it.
    pub fn user_id(&self, number: u32) -> String {
        self.id('u', number)
    }

    /// The original id of the item of a number, as the log writes it.
    pub fn item_id(&self, number: u32) -> String {
        self.id('i', number)
    }

    fn id(&self, letter: char, number: u32) -> String {
        if self.config.integer_ids { number.to_string() } else { format!("{letter}{number}") }
    }

    /// The number behind a user's original id, 0 ≤ number < users.
    ///
    /// # Errors
    /// [`SynthError::UnknownId`] if this log has no such user.
    pub fn user_number(&self, id: &str) -> Result<u32, SynthError> {
        self.number("user", 'u', self.config.users, id)
    }

    /// The number behind an item's original id, 0 ≤ number < items.
    ///
    /// # Errors
    /// [`SynthError::UnknownId`] if this log has no such item.
    pub fn item_number(&self, id: &str) -> Result<u32, SynthError> {
        self.number("item", 'i', self.config.items, id)
    }

    fn number(&self, what: &'static str, letter: char, count: u64, id: &str) -> Result<u32, SynthError> {
        let digits = if self.config.integer_ids { Some(id) } else { id.strip_prefix(letter) };
        let number = digits.and_then(|d| d.parse::<u32>().ok()).filter(|&n| u64::from(n) < count);
        // Only the canonical spelling is an id: neither "u007" nor "u+7".
        number.filter(|&n| self.id(letter, n) == id).ok_or_else(|| SynthError::UnknownId {
            what,
            id: id.to_owned(),
            first: self.id(letter, 0),
            last: self.id(letter, (count - 1) as u32),
        })
    }

    /// The planted score of every item for a user, by item number: the probability that the user's next row is of that
    /// item, before leaving out what the user has already. The scores sum to 1.
    ///
    /// `time` (seconds since 1970) asks for one moment of the drifting taste; `None` for the mean over the time in which
    /// the user is active. Ranking unseen items by this score is the best that any model can do in expectation. O(items).
    ///
    /// # Errors
    /// [`SynthError::UnknownId`] if this log has no such user.
    pub fn scores(&self, user: &str, time: Option<i64>) -> Result<Vec<f64>, SynthError> {
        let number = u64::from(self.user_number(user)?);
        let lifts = self.lifts(number, time);
        let score = |number| {
            let rank = self.catalog.rank(number);
            self.catalog.weight(rank) * lifts[self.catalog.cluster(rank)]
        };
        Ok((0..self.catalog.len() as u32).map(score).collect())
    }

    /// The popularity planted for every item, by item number; sums to 1. O(items).
    pub fn popularity(&self) -> Vec<f64> {
        (0..self.catalog.len() as u32).map(|number| self.catalog.weight(self.catalog.rank(number))).collect()
    }

    /// The `k` items of the highest planted score for a user, best first, as (item number, probability); what the user
    /// has already is not left out. O(clusters + k log clusters).
    ///
    /// # Errors
    /// [`SynthError::UnknownId`] if this log has no such user.
    pub fn top_items(&self, user: &str, time: Option<i64>, k: usize) -> Result<Vec<(u32, f64)>, SynthError> {
        let lifts = self.lifts(u64::from(self.user_number(user)?), time);
        let score = |cluster: usize, number| self.catalog.weight(self.catalog.rank(number)) * lifts[cluster];
        // Within a cluster items fall with popularity, so a merge of the clusters' lists is the ranking.
        let mut lists: Vec<_> = (0..lifts.len()).map(|cluster| self.catalog.members(cluster)).collect();
        let mut heap = std::collections::BinaryHeap::new();
        let mut push = |heap: &mut std::collections::BinaryHeap<Head>, cluster: usize| {
            if let Some(item) = lists[cluster].next() {
                heap.push(Head { score: score(cluster, item), item, cluster });
            }
        };
        for cluster in 0..lifts.len() {
            push(&mut heap, cluster);
        }
        let mut top = Vec::with_capacity(k.min(self.catalog.len() as usize));
        while top.len() < k {
            let Some(head) = heap.pop() else { break };
            top.push((head.item, head.score));
            push(&mut heap, head.cluster);
        }
        Ok(top)
    }

    fn lifts(&self, user: u64, time: Option<i64>) -> Vec<f64> {
        let mut taste = Taste::default();
        taste.fill(user, &self.config, &self.clusters, &self.catalog);
        let moment = time.map_or_else(
            || {
                let (joins, leaves) = self.window(user);
                (joins + leaves) / 2.0
            },
            |time| time as f64,
        );
        let tau = ((moment - self.config.start as f64) / self.config.seconds() as f64).clamp(0.0, 1.0);
        (0..self.catalog.clusters()).map(|cluster| taste.lift(cluster, tau)).collect()
    }

    /// When a user joins and leaves, in seconds since 1970.
    pub(super) fn window(&self, user: u64) -> (f64, f64) {
        let bits = hash(self.config.seed, Purpose::Window, user);
        let joins = 0.9 * unit(bits);
        let stays = (1.0 - joins) * (0.25 + 0.75 * unit(bits << 32));
        let at = |share: f64| self.config.start as f64 + share * self.config.seconds() as f64;
        (at(joins), at(joins + stays))
    }

    /// Blocks of users that the log is made in.
    pub(super) fn blocks(&self) -> usize {
        self.activity.blocks()
    }

    /// Calls `each` with every user of a block and their rows; returns the number of distinct interactions among them.
    pub(super) fn write_block(&self, author: &mut Author, block: usize, mut each: impl FnMut(u64, &[Row])) -> u64 {
        let mut rows = Vec::new();
        let mut unique = 0;
        for (user, count) in self.activity.of_block(block) {
            unique += author.write(user, count, &mut rows);
            each(user, &rows);
        }
        unique
    }
}

/// The head of a cluster's list in the merge, ordered by score and then by item number.
struct Head {
    score: f64,
    item: u32,
    cluster: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then(other.item.cmp(&self.item))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}
