//! Items that the same users have: the users of every item, and the items most similar to each.

use std::sync::{Mutex, PoisonError};

use rand::Rng;

use crate::context::{Context, Interrupted, Unit};
use crate::dataset::Interactions;
use crate::mix::{GOLDEN, mix};

/// The users of every item.
pub(crate) struct ItemUsers<'a> {
    interactions: &'a Interactions,
    /// Where the users of each item begin, and the end.
    starts: Vec<u64>,
    users: Vec<u32>,
}

impl<'a> ItemUsers<'a> {
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

    /// The interactions that it is of.
    pub(crate) fn interactions(&self) -> &'a Interactions {
        self.interactions
    }

    /// The users of `item`, ascending.
    pub(crate) fn of(&self, item: u32) -> &[u32] {
        &self.users[self.starts[item as usize] as usize..self.starts[item as usize + 1] as usize]
    }

    fn items(&self) -> usize {
        self.starts.len() - 1
    }
}

/// Users of an item that are looked at, evenly spaced where it has more; what bounds the time for popular items.
const MOST_USERS: usize = 2_000;
/// The same for the items of a user.
const MOST_ITEMS: usize = 2_000;
/// Items that a thread takes at a time.
const GROUP: usize = 64;

/// The items most similar to each: by the cosine of the vectors of their users, |U(i) ∩ U(j)| / √(|U(i)| |U(j)|) (Sarwar
/// et al., WWW 2001).
pub(crate) struct SimilarItems {
    /// Up to `most` for each item, the most similar first, then [`NOBODY`].
    similar: Vec<(u32, f32)>,
    most: usize,
}

const NOBODY: u32 = u32::MAX;

impl SimilarItems {
    /// Bytes that it takes on `items` items while it is built, besides [`ItemUsers`], on so many threads.
    pub(crate) fn bytes(items: u64, most: usize, threads: u64) -> u64 {
        items * (8 * most as u64 + threads * (4 + 4 + 8))
    }

    /// The `most` most similar items of each, those of smaller id first where they are as similar. The same for any number
    /// of threads. Time: O(Σ n²) over the users' numbers of items, both bounded.
    pub(crate) fn new(of: &ItemUsers<'_>, most: usize, ctx: &Context) -> Result<Self, Interrupted> {
        let items = of.items();
        let stage = ctx.stage("similar items", Some(items as u64), Unit::Items);
        let mut similar = vec![(NOBODY, 0.0); items * most];
        // Groups of items as they come: popular items take longer.
        let groups = Mutex::new(similar.chunks_mut(GROUP * most.max(1)).enumerate());
        let next = || groups.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let (mut sums, mut touched, mut found) = (vec![0.0; items], Vec::new(), Vec::new());
            while let Some((group, out)) = next() {
                ctx.check()?;
                for (k, out) in out.chunks_mut(most.max(1)).enumerate() {
                    Self::of_item(of, group * GROUP + k, (&mut sums, &mut touched, &mut found), out);
                    stage.add(1);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..ctx.threads()).map(|_| scope.spawn(work)).collect();
            let own = work();
            // A panic goes on here.
            let panicked = |panic| std::panic::resume_unwind(panic);
            others.into_iter().fold(own, |all, other| all.and(other.join().unwrap_or_else(panicked)))
        })?;
        drop(stage);
        Ok(Self { similar, most })
    }

    fn of_item(
        of: &ItemUsers<'_>,
        item: usize,
        (sums, touched, found): (&mut [f32], &mut Vec<u32>, &mut Vec<(u32, f32)>),
        out: &mut [(u32, f32)],
    ) {
        let users = of.of(item as u32);
        for user in evenly(users, MOST_USERS) {
            let all = of.interactions.user(*user).items;
            // What is left out of either list is made up for by the rest of it.
            let each = (users.len().max(1) as f32 / users.len().clamp(1, MOST_USERS) as f32)
                * (all.len().max(1) as f32 / all.len().clamp(1, MOST_ITEMS) as f32);
            for other in evenly(all, MOST_ITEMS) {
                let sum = &mut sums[other.to_native() as usize];
                if *sum == 0.0 {
                    touched.push(other.to_native());
                }
                *sum += each;
            }
        }
        found.clear();
        for other in touched.drain(..) {
            let sum = std::mem::take(&mut sums[other as usize]);
            let theirs = of.of(other).len();
            if other as usize != item && theirs > 0 {
                found.push((other, sum / (users.len() as f32 * theirs as f32).sqrt()));
            }
        }
        let before = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if found.len() > out.len() {
            found.select_nth_unstable_by(out.len(), before);
            found.truncate(out.len());
        }
        found.sort_unstable_by(before);
        out[..found.len()].copy_from_slice(found);
    }

    /// The items most similar to `item`, the most similar first, with their cosines.
    pub(crate) fn of(&self, item: u32) -> &[(u32, f32)] {
        let own = &self.similar[item as usize * self.most..][..self.most];
        &own[..own.partition_point(|(other, _)| *other != NOBODY)]
    }

    /// One of the items most similar to `item`, with chances in proportion to their cosines; `None` if it has none.
    pub(crate) fn draw(&self, item: u32, rng: &mut impl Rng) -> Option<u32> {
        let own = self.of(item);
        let total: f32 = own.iter().map(|(_, cosine)| cosine).sum();
        let mut left = total * (rng.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
        for (other, cosine) in own {
            left -= cosine;
            if left < 0.0 {
                return Some(*other);
            }
        }
        own.last().map(|(other, _)| *other)
    }
}

/// Up to `most` of `all`, evenly spaced.
fn evenly<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let taken = all.len().min(most);
    (0..taken).map(move |k| &all[k * all.len() / taken])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Part;
    use crate::rank::fixture;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    proptest! {
        #[test]
        fn similar_items_are_those_of_a_naive_count(
            users in proptest::collection::vec(proptest::collection::btree_set(0u32..12, 0..9), 1..30),
            most in 1usize..6,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let users: Vec<Vec<u32>> = users.into_iter().map(|items| items.into_iter().collect()).collect();
            let data = fixture::dataset(&folder.path().join("d"), 12, &[(Part::Train, users.clone())]);
            let ctx = Context::default();
            let of = ItemUsers::new(data.train(), 12, 1.0, &ctx).unwrap();
            let similar = SimilarItems::new(&of, most, &ctx).unwrap();
            let count = |i: u32, j: u32| users.iter().filter(|u| u.contains(&i) && u.contains(&j)).count() as f64;
            for i in 0..12 {
                let mut expected: Vec<(u32, f64)> = (0..12)
                    .filter(|j| *j != i && count(i, *j) > 0.0)
                    .map(|j| (j, count(i, j) / (count(i, i) * count(j, j)).sqrt()))
                    .collect();
                expected.sort_by(|a, b| (b.1 as f32).total_cmp(&(a.1 as f32)).then(a.0.cmp(&b.0)));
                expected.truncate(most);
                let found = similar.of(i);
                prop_assert_eq!(found.len(), expected.len());
                for (f, e) in found.iter().zip(&expected) {
                    prop_assert!((f64::from(f.1) - e.1).abs() < 1e-6, "{:?} {:?}", found, expected);
                }
                // Ids where cosines are far enough apart for rounding not to matter.
                let apart = expected.windows(2).all(|w| w[0].1 - w[1].1 > 1e-6);
                prop_assert!(!apart || found.iter().map(|f| f.0).eq(expected.iter().map(|e| e.0)) || found.len() == most);
            }
        }
    }

    #[test]
    fn draws_are_in_proportion_to_cosines() {
        let similar = SimilarItems { similar: vec![(1, 0.5), (2, 0.3), (3, 0.2), (NOBODY, 0.0)], most: 4 };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut seen = [0f64; 4];
        for _ in 0..30_000 {
            seen[similar.draw(0, &mut rng).unwrap() as usize] += 1.0;
        }
        let expected = [0.0, 15_000.0, 9_000.0, 6_000.0];
        let chi2: f64 = (1..4).map(|i| (seen[i] - expected[i]).powi(2) / expected[i]).sum();
        // Two degrees of freedom: 99.9 % of the time below 13.8.
        assert!(chi2 < 13.8 && seen[0] == 0.0, "χ² {chi2}");
        let none = SimilarItems { similar: vec![(NOBODY, 0.0)], most: 1 };
        assert_eq!(none.draw(0, &mut rng), None);
    }
}
