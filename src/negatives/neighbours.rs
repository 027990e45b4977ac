//! Co-occurrence: items of other users of an item, by a random walk of item, user, item.

use rand::Rng;

use super::below;
use crate::context::{Context, Interrupted};
use crate::dataset::Interactions;
use crate::mix::{GOLDEN, mix};

/// The users of every item.
pub(crate) struct Neighbours<'a> {
    interactions: &'a Interactions,
    /// Where the users of each item begin, and the end.
    starts: Vec<u64>,
    users: Vec<u32>,
}

impl<'a> Neighbours<'a> {
    /// From all interactions, or a random sample of them where `budget` bytes do not hold 4 bytes for each. Two passes.
    pub(crate) fn new(
        interactions: &'a Interactions,
        items: u32,
        budget: u64,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
        let share = (budget.saturating_sub(u64::from(items) * 8) / 4) as f64 / interactions.len().max(1) as f64;
        let keep = |k: u64| share >= 1.0 || (mix(k.wrapping_mul(GOLDEN)) as f64) < share * 2f64.powi(64);
        let each = |visit: &mut dyn FnMut(u32, u32)| -> Result<(), Interrupted> {
            let mut k = 0;
            for c in 0..interactions.chunks() {
                ctx.check()?;
                let chunk = interactions.chunk(c);
                for u in 0..chunk.users() {
                    for item in chunk.user(u).items {
                        k += 1;
                        if keep(k) {
                            visit(chunk.first_user() + u as u32, item.to_native());
                        }
                    }
                }
            }
            Ok(())
        };
        let mut starts = vec![0u64; items as usize + 1];
        each(&mut |_, item| starts[item as usize + 1] += 1)?;
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut users = vec![0; starts.last().map_or(0, |n| *n as usize)];
        let mut next = starts.clone();
        each(&mut |user, item| {
            users[next[item as usize] as usize] = user;
            next[item as usize] += 1;
        })?;
        Ok(Self { interactions, starts, users })
    }

    /// An item of a random user of `item`; `None` if that is `user`, or there is none.
    pub(crate) fn draw(&self, user: u32, item: u32, rng: &mut impl Rng) -> Option<u32> {
        let of = &self.users[self.starts[item as usize] as usize..self.starts[item as usize + 1] as usize];
        let other = *of.get(below(of.len(), rng))?;
        let items = self.interactions.user(other).items;
        (other != user).then(|| items[below(items.len(), rng)].to_native())
    }
}
