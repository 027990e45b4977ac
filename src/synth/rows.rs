//! The rows of one user, in the order of time.

use std::collections::VecDeque;

use rand::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::model::PlantedModel;
use super::random::{Purpose, hash, stream, unit};
use super::taste::Taste;
use crate::mix::GOLDEN;

/// Names of the events, by depth of the funnel.
pub(super) const EVENTS: [&str; 3] = ["view", "cart", "purchase"];

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Number of the item.
    pub item: u32,
    /// Seconds since 1970.
    pub time: i64,
    /// The weight in halves, 2 to 10.
    pub halves: u8,
    /// Index into [`EVENTS`].
    pub event: u8,
}

/// Makes the rows of one user after the other, with scratch space that is reused.
pub(super) struct Author<'a> {
    model: &'a PlantedModel,
    taste: Taste,
    seen: Seen,
    history: Vec<u32>,
}

impl<'a> Author<'a> {
    pub(super) fn new(model: &'a PlantedModel) -> Self {
        Self { model, taste: Taste::default(), seen: Seen::default(), history: Vec::new() }
    }

    /// Replaces `out` by the `rows` rows of `user`; returns how many of them are distinct interactions.
    ///
    /// Items are drawn by the planted probabilities and drawn again when the user has them already. Someone who has
    /// nearly all that they like would draw for ever: after 40 draws a row, the rest is drawn at once, in the same
    /// distribution, by an exponential race over all items.
    pub(super) fn write(&mut self, user: u64, rows: u64, out: &mut Vec<Row>) -> u64 {
        out.clear();
        if rows == 0 {
            return 0;
        }
        let (config, catalog) = (&self.model.config, &self.model.catalog);
        self.taste.fill(user, config, &self.model.clusters, catalog);
        let mut rng = stream(config.seed, Purpose::Rows, user);
        let mut clock = Clock::new(self.model.window(user), config.start + config.seconds() - 1, rows);
        let period = config.seconds() as f64;
        self.seen.reset(rows.min(catalog.len()));
        self.history.clear();
        let mut draws_left = 40 * rows + 1_000;
        let mut raced: Option<VecDeque<u32>> = None;
        let labelled = config.weights || config.events;
        for row in 0..rows {
            let time = clock.next(row, rng.next_u64());
            let tau = (time - config.start) as f64 / period;
            let exhausted = self.history.len() as u64 == catalog.len();
            let repeat = !self.history.is_empty()
                && (exhausted || (config.repeats > 0.0 && unit(rng.next_u64()) < config.repeats));
            let item = if repeat {
                // The square of a uniform number prefers what came lately.
                let back = (unit(rng.next_u64()).powi(2) * self.history.len() as f64) as usize;
                self.history[self.history.len() - 1 - back]
            } else {
                let drawn = loop {
                    if draws_left == 0 {
                        let most = (rows - row) as usize;
                        let taste = &self.taste;
                        let queue =
                            raced.get_or_insert_with(|| race(self.model, taste, &self.seen, tau, most, &mut rng));
                        break queue.pop_front().unwrap_or(self.history[0]);
                    }
                    draws_left -= 1;
                    let bits = rng.next_u64();
                    let affinity = if unit(bits << 24) < tau { &self.taste.last } else { &self.taste.first };
                    let cluster = affinity.draw((bits >> 40) as f32 * (1.0 / (1 << 24) as f32), catalog.last_filled());
                    let item = catalog.draw(cluster, rng.next_u64());
                    if self.seen.insert(item) {
                        break item;
                    }
                };
                self.history.push(drawn);
                drawn
            };
            let (halves, event) = if labelled { self.label(item, tau, rng.next_u64()) } else { (2, 0) };
            out.push(Row { item, time, halves, event });
        }
        self.history.len() as u64
    }

    /// A weight and an event, both rising with the lift ℓ of the item: the weight is 1 + 4ℓ/(ℓ+2) plus noise of up to
    /// one, rounded to halves; a purchase has the probability 0.3·ℓ/(ℓ+8), a cart 0.3·ℓ/(ℓ+4).
    fn label(&self, item: u32, tau: f64, bits: u64) -> (u8, u8) {
        let catalog = &self.model.catalog;
        let lift = self.taste.lift(catalog.cluster(catalog.rank(item)), tau);
        let noise = unit(bits << 32) * 2.0 - 1.0;
        let halves = (2.0 * (1.0 + 4.0 * lift / (lift + 2.0) + noise)).round().clamp(2.0, 10.0) as u8;
        let draw = unit(bits);
        let purchase = 0.3 * lift / (lift + 8.0);
        let cart = 0.3 * lift / (lift + 4.0);
        let event = if draw < purchase { 2 } else { u8::from(draw < purchase + cart) };
        (halves, event)
    }
}

/// Draws up to `most` further items without replacement, each by its planted probability at the share `tau` of the
/// period: the items with the smallest Exp(1)/probability, in that order (Efraimidis and Spirakis, 2006). O(items).
fn race(
    model: &PlantedModel,
    taste: &Taste,
    seen: &Seen,
    tau: f64,
    most: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> VecDeque<u32> {
    let catalog = &model.catalog;
    let salt = rng.next_u64();
    let mut finishers: Vec<(f64, u32)> = (0..catalog.len())
        .map(|rank| (rank, catalog.number(rank)))
        .filter(|&(_, number)| !seen.contains(number))
        .map(|(rank, number)| {
            let chance = catalog.weight(rank) * taste.lift(catalog.cluster(rank), tau);
            (-(1.0 - unit(hash(salt, Purpose::Rows, rank))).ln() / chance, number)
        })
        .collect();
    let by_time = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if most < finishers.len() {
        finishers.select_nth_unstable_by(most, by_time);
        finishers.truncate(most);
    }
    finishers.sort_unstable_by(by_time);
    finishers.into_iter().map(|(_, number)| number).collect()
}

/// Rising times of one user's rows: visits spread over the user's window, and in each visit rows a few minutes apart.
struct Clock {
    first: f64,
    step: f64,
    now: i64,
    end: i64,
}

impl Clock {
    fn new((joins, leaves): (f64, f64), end: i64, rows: u64) -> Self {
        Self { first: joins, step: (leaves - joins) / rows as f64, now: joins as i64, end }
    }

    fn next(&mut self, row: u64, bits: u64) -> i64 {
        let jitter = unit(bits);
        // Two rows of three belong to the visit of the row before.
        let place = if row > 0 && !bits.is_multiple_of(3) {
            self.now + 15 + (jitter * jitter * 600.0) as i64
        } else {
            (self.first + (row as f64 + jitter) * self.step) as i64
        };
        self.now = place.max(self.now).min(self.end);
        self.now
    }
}

/// The items a user has: open addressing over a power of two of places, at most half of them filled.
#[derive(Default)]
struct Seen {
    places: Vec<u32>,
    mask: usize,
}

impl Seen {
    /// Empties the set and makes room for `most` items.
    fn reset(&mut self, most: u64) {
        let size = (most as usize * 2).next_power_of_two();
        self.places.clear();
        self.places.resize(size, u32::MAX);
        self.mask = size - 1;
    }

    /// The place that holds `item`, or the empty one where it belongs. Items are below `u32::MAX`.
    fn place(&self, item: u32) -> usize {
        let mut place = (u64::from(item).wrapping_mul(GOLDEN) >> 32) as usize & self.mask;
        while self.places[place] != u32::MAX && self.places[place] != item {
            place = (place + 1) & self.mask;
        }
        place
    }

    fn contains(&self, item: u32) -> bool {
        self.places[self.place(item)] == item
    }

    /// Whether the item is new.
    fn insert(&mut self, item: u32) -> bool {
        let place = self.place(item);
        let new = self.places[place] != item;
        self.places[place] = item;
        new
    }
}
