//! Popularity that decays with time, as it was at any moment.

use rand::{Rng, RngExt};

use crate::context::{Context, Interrupted};
use crate::dataset::Interactions;
use crate::mix::{GOLDEN, mix};

const DAY: f64 = 86_400_000.0;

/// Train interactions in the order of their times. An item's weight at time t is Σ 2^−((t − tₖ)/h) over its interactions
/// k with tₖ ≤ t: an interaction is drawn with its term's probability, and its item taken.
///
/// The terms' sum up to k, 2^(tₖ/h) Cₖ with Cₖ = 1 + Cₖ₋₁ 2^−((tₖ − tₖ₋₁)/h), would overflow, so that its logarithm is
/// kept, which ascends: a draw is one binary search.
#[derive(Debug)]
pub(crate) struct Recent {
    times: Vec<i64>,
    items: Vec<u32>,
    /// log₂ of the sum of the terms up to each interaction.
    mass: Vec<f64>,
}

impl Recent {
    /// Bytes for each interaction while it is built.
    pub(crate) const BYTES: u64 = 48;

    /// From a random `share` of the interactions. O(n log n).
    pub(crate) fn new(
        interactions: &Interactions,
        half_life_days: f64,
        share: f64,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        let keep = |k: u64| share >= 1.0 || (mix(k.wrapping_mul(GOLDEN)) as f64) < share * 2f64.powi(64);
        let mut events = Vec::new();
        let mut k = 0;
        for c in 0..interactions.chunks() {
            ctx.check()?;
            let chunk = interactions.chunk(c);
            for u in 0..chunk.users() {
                let user = chunk.user(u);
                for (item, time) in user.items.iter().zip(user.times) {
                    k += 1;
                    if keep(k) {
                        events.push((time.to_native(), item.to_native()));
                    }
                }
            }
            interactions.release(c);
        }
        Ok(Self::of(events, half_life_days))
    }

    /// From (time in milliseconds, item) pairs.
    pub(super) fn of(mut events: Vec<(i64, u32)>, half_life_days: f64) -> Self {
        events.sort_unstable();
        let rate = 1.0 / (half_life_days * DAY);
        let start = events.first().map_or(0, |e| e.0);
        let mut mass = Vec::with_capacity(events.len());
        let (mut sum, mut before) = (0f64, start);
        for (time, _) in &events {
            sum = 1.0 + sum * (-((time - before) as f64) * rate).exp2();
            before = *time;
            mass.push(sum.log2() + (time - start) as f64 * rate);
        }
        let (times, items) = events.into_iter().unzip();
        Self { times, items, mass }
    }

    /// How many interactions there are up to `time`.
    pub(crate) fn until(&self, time: i64) -> usize {
        self.times.partition_point(|t| *t <= time)
    }

    /// The item of one of the first `until` interactions. O(log interactions).
    pub(crate) fn draw(&self, until: usize, rng: &mut impl Rng) -> Option<u32> {
        let last = *self.mass.get(until.checked_sub(1)?)?;
        let target = last + (1.0 - rng.random::<f64>()).log2();
        let at = self.mass[..until].partition_point(|m| *m < target);
        Some(self.items[at.min(until - 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_follows;
    use super::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn draws_follow_the_decayed_popularity_of_their_moment_and_nothing_is_ahead_of_its_time() {
        let day = DAY as i64;
        // 20 items that appear one after the other, over years, so that sums of powers of two would overflow.
        let events: Vec<(i64, u32)> = (0..4000i64).map(|k| (k * day / 2, (k % (1 + k / 200)) as u32)).collect();
        for half_life in [0.7, 30.0, 400.0] {
            let recent = Recent::of(events.clone(), half_life);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(17);
            for now in [0, 99 * day, 700 * day + 5, 1_234 * day] {
                let mut weights = vec![0f64; 20];
                for (time, item) in events.iter().filter(|(t, _)| *t <= now) {
                    weights[*item as usize] += (-((now - time) as f64) / DAY / half_life).exp2();
                }
                let until = recent.until(now);
                let drawn: Vec<u32> = (0..50_000).map(|_| recent.draw(until, &mut rng).unwrap()).collect();
                for item in &drawn {
                    assert!(events.iter().any(|(t, i)| i == item && *t <= now), "{item} was not there yet");
                }
                assert_follows(&drawn, &weights);
            }
            assert_eq!(recent.until(-1), 0);
            assert_eq!(recent.draw(0, &mut rng), None, "nothing was there before the first interaction");
        }
    }
}
