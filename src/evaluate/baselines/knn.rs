//! Item-kNN: items near those that the user has taken, by the cosine of who took them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::{Baseline, EvaluateError, too_little};
use crate::context::{Context, Unit};
use crate::dataset::{Dataset, Interactions};
use crate::mix::mix;
use crate::rank::{Scorer, program_bytes, user_seed};

/// Neighbours of an item, and the fewest for which the baseline is worth its name.
const NEIGHBOURS: usize = 50;
const FEWEST: usize = 10;
/// Of each user that many interactions count, a random choice.
const HISTORY: usize = 500;
/// That many pairs of items that one user took are counted; where there are more, those of a sample of users.
const PAIRS: f64 = 5e8;
/// The least that lists and neighbours get.
const SPARE: usize = 64 << 10;

/// Scores an item by Σ cos(i, j) over the items j that the user took in train and whose `NEIGHBOURS` nearest ones i is
/// among; cos(i, j) = |U(i) ∩ U(j)| / √(|U(i)| |U(j)|), with U(i) the users who took i (Sarwar et al. 2001; Deshpande &
/// Karypis 2004, "Item-Based Top-N Recommendation Algorithms").
///
/// Everything is held in memory, within the budget: where train does not fit, users are sampled; where neighbours do
/// not, each item has fewer; and where not even ten of each fit, only the most popular items have any.
pub(super) struct ItemKnn<'a> {
    train: &'a Interactions,
    learnt_from: &'a str,
    users: usize,
    /// Where each item's neighbours begin, and where the last one's end.
    offsets: Vec<u32>,
    /// (item, cosine), ascending by item.
    neighbours: Vec<(u32, f32)>,
}

/// Who took what, of a sample of the users: lists of items by user, and of users by item.
struct Taken {
    by_user: Lists<u32>,
    by_item: Lists<u32>,
}

struct Lists<T> {
    offsets: Vec<u32>,
    values: Vec<T>,
}

impl Lists<u32> {
    fn of(&self, at: usize) -> &[u32] {
        &self.values[self.offsets[at] as usize..self.offsets[at + 1] as usize]
    }
}

impl<'a> ItemKnn<'a> {
    pub(super) fn new(dataset: &'a Dataset, seed: u64, ctx: &Context) -> Result<Self, EvaluateError> {
        let (train, items) = (dataset.train(), dataset.items().len() as usize);
        let threads = ctx.threads();
        let room = ctx.memory().0.saturating_sub(program_bytes(threads) as u64) as usize;
        // Half for neighbours, half for what they are counted from; a thread that counts takes 8 bytes an item.
        let (half, counter) = (room / 2, 8 * items);
        let fixed = 8 * items;
        if half < fixed + counter + SPARE {
            return Err(too_little(Baseline::ItemKnn, Self::least(items, threads), ctx));
        }
        let counters = ((half - fixed) / 2 / counter.max(1)).clamp(1, threads);
        let taken = Self::taken(dataset, half - fixed - counters * counter, seed, ctx)?;
        // Neighbours are made in place of lists, and joined at the end: both count.
        let places = (half - 4 * items) / (2 * size_of::<(u32, f32)>());
        let with = (0..items).filter(|i| !taken.by_item.of(*i).is_empty()).count().max(1);
        let k = (places / with).clamp(FEWEST, NEIGHBOURS);
        let mut counts: Vec<u32> = (0..items).map(|i| taken.by_item.of(i).len() as u32).collect();
        counts.sort_unstable_by_key(|count| Reverse(*count));
        // Where not all have neighbours, those that more users took than the first that does not fit.
        let least = counts.get(places / k).map_or(1, |count| count + 1);
        drop(counts);
        let stage = ctx.stage("nearest items", Some(items as u64), Unit::Items);
        let near = |(cells, touched): &mut (Vec<u32>, Vec<u32>), i: usize| {
            if i.is_multiple_of(1 << 8) {
                stage.add((1 << 8).min(items as u64 - i as u64));
            }
            let of = taken.by_item.of(i);
            if (of.len() as u32) < least || ctx.cancelled() {
                return Vec::new();
            }
            for item in of.iter().flat_map(|user| taken.by_user.of(*user as usize)) {
                let cell = &mut cells[*item as usize];
                if *cell == 0 {
                    touched.push(*item);
                }
                *cell += 1;
            }
            // The least of the best is on top: by cosine, which is positive, so that its bits order as it does; then by lot.
            let mut best: BinaryHeap<Reverse<(u32, u64, u32)>> = BinaryHeap::with_capacity(k + 1);
            for item in touched.drain(..) {
                let both = std::mem::take(&mut cells[item as usize]);
                if item as usize == i {
                    continue;
                }
                let sizes = of.len() as f64 * taken.by_item.of(item as usize).len() as f64;
                let cosine = (f64::from(both) / sizes.sqrt()) as f32;
                best.push(Reverse((cosine.to_bits(), mix(seed ^ (i as u64) << 32 ^ u64::from(item)), item)));
                if best.len() > k {
                    best.pop();
                }
            }
            let mut near: Vec<_> =
                best.into_iter().map(|Reverse((bits, _, item))| (item, f32::from_bits(bits))).collect();
            near.sort_unstable_by_key(|(item, _)| *item);
            near
        };
        let pool = crate::rank::workers(&ctx.clone().with_threads(counters))?;
        // As many pieces as there are threads at most hold counters at a time.
        let piece = items.div_ceil(counters * 16).max(1);
        let counters: Vec<_> = (0..counters).map(|_| Mutex::new((vec![0u32; items], Vec::new()))).collect();
        let pieces: Vec<Lists<(u32, f32)>> = pool.install(|| {
            let each = |number: usize| {
                let own = &counters[rayon::current_thread_index().unwrap_or(0) % counters.len()];
                let mut own = own.lock().unwrap_or_else(PoisonError::into_inner);
                let mut lists = Lists { offsets: Vec::new(), values: Vec::new() };
                for item in number * piece..((number + 1) * piece).min(items) {
                    lists.values.extend(near(&mut own, item));
                    lists.offsets.push(lists.values.len() as u32);
                }
                lists
            };
            (0..items.div_ceil(piece)).into_par_iter().map(each).collect()
        });
        ctx.check()?;
        drop((taken, counters));
        let mut offsets = Vec::with_capacity(items + 1);
        let mut neighbours: Vec<(u32, f32)> = Vec::with_capacity(pieces.iter().map(|piece| piece.values.len()).sum());
        offsets.push(0);
        for piece in pieces {
            let from = neighbours.len() as u32;
            neighbours.extend(piece.values);
            offsets.extend(piece.offsets.into_iter().map(|end| from + end));
        }
        let (users, learnt_from) = (dataset.users().len() as usize, dataset.fingerprint());
        Ok(Self { train, learnt_from, users, offsets, neighbours })
    }

    /// Bytes that will do.
    fn least(items: usize, threads: usize) -> usize {
        program_bytes(threads) + 2 * (16 * items + SPARE) + 1
    }

    /// Lists of as many users as fit `room` bytes, or all of them.
    fn taken(dataset: &Dataset, room: usize, seed: u64, ctx: &Context) -> Result<Taken, EvaluateError> {
        let (train, items) = (dataset.train(), dataset.items().len() as usize);
        let (mut bytes, mut pairs) = (0f64, 0f64);
        for c in 0..train.chunks() {
            ctx.check()?;
            for ends in train.chunk(c).offsets().windows(2) {
                let n = ((ends[1].to_native() - ends[0].to_native()) as usize).min(HISTORY) as f64;
                bytes += if n > 1.0 { 8.0 * n + 8.0 } else { 0.0 };
                pairs += n * n;
            }
        }
        // Somewhat less than fits, for a sample varies.
        let share = (0.9 * room as f64 / bytes.max(1.0)).min(PAIRS / pairs.max(1.0));
        let share = if bytes <= room as f64 && pairs <= PAIRS { 1.0 } else { share.min(1.0) };
        let chosen = |user: u32| share >= 1.0 || (user_seed(!seed, user) >> 11) as f64 / 2f64.powi(53) < share;
        let mut by_user = Lists { offsets: vec![0], values: Vec::new() };
        by_user.values.reserve_exact(((bytes * share / 8.0) as usize).min(room / 8));
        let mut counts = vec![0u32; items + 1];
        let stage = ctx.stage("histories", Some(train.len()), Unit::Rows);
        'all: for c in 0..train.chunks() {
            ctx.check()?;
            let chunk = train.chunk(c);
            for u in 0..chunk.users() {
                let user = chunk.first_user() + u as u32;
                let own = chunk.user(u).items;
                if own.len() < 2 || !chosen(user) {
                    continue;
                }
                let from = by_user.values.len();
                if (from + own.len().min(HISTORY)) * 8 > room {
                    break 'all;
                }
                if own.len() <= HISTORY {
                    by_user.values.extend(own.iter().map(|i| i.to_native()));
                } else {
                    let mut own: Vec<u32> = own.iter().map(|i| i.to_native()).collect();
                    let key = user_seed(seed, user);
                    own.select_nth_unstable_by_key(HISTORY - 1, |item| mix(key ^ u64::from(*item)));
                    own.truncate(HISTORY);
                    own.sort_unstable();
                    by_user.values.extend(own);
                }
                by_user.offsets.push(by_user.values.len() as u32);
                by_user.values[from..].iter().for_each(|item| counts[*item as usize + 1] += 1);
            }
            train.release(c);
            stage.add(chunk.items().len() as u64);
        }
        for item in 0..items {
            counts[item + 1] += counts[item];
        }
        let mut by_item = Lists { offsets: counts, values: vec![0; by_user.values.len()] };
        let mut next = by_item.offsets.clone();
        for user in 0..by_user.offsets.len() - 1 {
            for item in by_user.of(user) {
                let at = &mut next[*item as usize];
                by_item.values[*at as usize] = user as u32;
                *at += 1;
            }
        }
        Ok(Taken { by_user, by_item })
    }

    fn near(&self, item: u32) -> &[(u32, f32)] {
        &self.neighbours[self.offsets[item as usize] as usize..self.offsets[item as usize + 1] as usize]
    }
}

impl Scorer for ItemKnn<'_> {
    fn users(&self) -> usize {
        self.users
    }

    fn items(&self) -> usize {
        self.offsets.len() - 1
    }

    fn learnt_from(&self) -> Option<&str> {
        Some(self.learnt_from)
    }

    fn held_bytes(&self) -> usize {
        size_of_val(&*self.offsets) + size_of_val(&*self.neighbours)
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        out.fill(0.0);
        for (row, user) in out.chunks_exact_mut(items.len().max(1)).zip(users) {
            for taken in self.train.user(*user).items {
                let near = self.near(taken.to_native());
                let from = near.partition_point(|(item, _)| *item < items.start);
                for (item, cosine) in near[from..].iter().take_while(|(item, _)| *item < items.end) {
                    row[(*item - items.start) as usize] += cosine;
                }
            }
        }
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        out.fill(0.0);
        for taken in self.train.user(user).items {
            let near = self.near(taken.to_native());
            for (score, item) in out.iter_mut().zip(items) {
                if let Ok(at) = near.binary_search_by_key(item, |(item, _)| *item) {
                    *score += near[at].1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;
    use crate::dataset::Part;
    use crate::rank::fixture::{self, noise};

    #[test]
    fn scores_are_sums_of_cosines_as_the_definition_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let (users, items) = (60usize, 45u32);
        let own = |u: usize| (0..items).filter(|i| noise(u, *i as usize) < 0.2).collect::<Vec<_>>();
        let taken: Vec<Vec<u32>> = (0..users).map(own).collect();
        let dataset = fixture::dataset(&folder.path().join("d"), items as usize, &[(Part::Train, taken.clone())]);
        let knn = ItemKnn::new(&dataset, 1, &Context::new(2, ByteSize(1 << 30))).unwrap();
        // There are fewer items than neighbours, so that no tie matters; users with one item count in no pair.
        let of = |i: u32| (0..users).filter(|u| taken[*u].len() > 1 && taken[*u].contains(&i)).collect::<Vec<_>>();
        let cosine = |i: u32, j: u32| {
            let (a, b) = (of(i), of(j));
            if a.is_empty() || b.is_empty() {
                return 0.0;
            }
            a.iter().filter(|u| b.contains(u)).count() as f64 / ((a.len() * b.len()) as f64).sqrt()
        };
        let all: Vec<u32> = (0..users as u32).collect();
        for range in [0..items, 7..20] {
            let mut out = vec![1.0; users * range.len()];
            knn.score(&all, range.clone(), &mut out);
            for user in 0..users {
                let wanted: Vec<u32> = range.clone().collect();
                let mut single = vec![1.0; wanted.len()];
                knn.score_items(user as u32, &wanted, &mut single);
                let row = &out[user * range.len()..(user + 1) * range.len()];
                assert_eq!(row, single, "the same bits");
                for (item, score) in wanted.iter().zip(row) {
                    let sum: f64 = taken[user].iter().filter(|j| *j != item).map(|j| cosine(*j, *item)).sum();
                    assert!((f64::from(*score) - sum).abs() < 1e-5, "{user} {item}: {score} {sum}");
                }
            }
        }
    }

    #[test]
    fn a_budget_is_kept_by_fewer_neighbours_and_a_smaller_sample_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (users, items) = (4000usize, 3000u32);
        let own = |u: usize| (0..20).map(|n| (noise(u, n).powi(2) * items as f32) as u32).collect::<Vec<_>>();
        let taken: Vec<Vec<u32>> = (0..users).map(own).collect();
        let dataset = fixture::dataset(&folder.path().join("d"), items as usize, &[(Part::Train, taken)]);
        let with =
            |bytes: usize| ItemKnn::new(&dataset, 1, &Context::new(1, ByteSize((program_bytes(1) + bytes) as u64)));
        let ample = with(64 << 20).unwrap();
        assert_eq!(ample.near(0).len(), NEIGHBOURS);
        let tight = with(600 << 10).unwrap();
        assert!(tight.held_bytes() < 300 << 10 && tight.held_bytes() > 20 << 10, "{}", tight.held_bytes());
        let text = with(1 << 10).err().unwrap().to_string();
        assert!(text.contains("item_knn") && text.contains("raise --memory"), "{text}");
        let least = ItemKnn::least(items as usize, 1) - program_bytes(1);
        assert!(with(least).is_ok() && with(least - 4).is_err());
    }
}
