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
    /// Bytes for each item while it is built, and for each interaction.
    pub(crate) const ITEM_BYTES: u64 = 16;
    pub(crate) const BYTES: u64 = 4;

    /// From a random `share` of the interactions. Two passes.
    pub(crate) fn new(
        interactions: &'a Interactions,
        items: u32,
        share: f64,
        ctx: &Context,
    ) -> Result<Self, Interrupted> {
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
                interactions.release(c);
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
