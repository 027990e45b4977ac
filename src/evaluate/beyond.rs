//! Beyond accuracy: what is recommended, whether or not it is taken. Definitions: `docs/metrics.md`.

use std::cmp::Reverse;
use std::ops::Range;

use super::cases::Cases;
use super::metrics::{Metrics, Sum};
use crate::dataset::{Dataset, Distribution};
use crate::model::Factors;
use crate::rank::{Candidate, Scorer};

/// The head is those items that together have this share of the train interactions; the rest is the long tail.
const HEAD: f64 = 0.8;

/// Means over users, at each cut-off, in the order of a report.
const NAMES: [&str; 5] = ["mean_popularity", "tail_share", "novelty", "serendipity", "diversity"];
const DIVERSITY: usize = 4;

/// What recommendations are held against: popularity, and the item vectors of the scorer that is evaluated.
pub(super) struct Beyond<'a> {
    dataset: &'a Dataset,
    k: &'a [usize],
    /// The most popular items, as many as any user's most popular candidates can be among.
    popular: Vec<u32>,
    /// Items with fewer train interactions are the long tail.
    tail: u32,
    /// Where distances are taken: whose items they are, the table, and its columns that count.
    pub(super) space: Option<(&'a dyn Scorer, &'a Factors, usize)>,
}

/// What the recommendations of a block of users add up to.
pub(super) struct BlockBeyond {
    sums: Vec<[(Sum, u64); NAMES.len()]>,
    /// The recommended items of each user, best first, each list ended by `END`.
    items: Vec<u32>,
}

const END: u32 = u32::MAX;

/// The recommended items of a block's users in the order of items, and the sums of their unit vectors at each cut-off.
pub(super) struct Lists {
    /// (item, rank from 0).
    items: Vec<(u32, u32)>,
    offsets: Vec<usize>,
    sums: Vec<f32>,
    /// Items with a direction, by user and cut-off.
    counts: Vec<u32>,
}

impl<'a> Beyond<'a> {
    pub(super) fn new(dataset: &'a Dataset, cases: &Cases<'_>, k: &'a [usize], scorer: &'a dyn Scorer) -> Self {
        let count = |item: u32| dataset.popularity()[item as usize].to_native();
        let items = dataset.items().len();
        let mut popular: Vec<u32> = (0..items).collect();
        popular.sort_unstable_by_key(|item| Reverse(count(*item)));
        let (mut of_head, total) = (0u64, dataset.train().len());
        let last = popular.iter().find(|item| {
            of_head += u64::from(count(**item));
            of_head as f64 >= HEAD * total as f64
        });
        let tail = last.map_or(0, |item| count(*item));
        popular.truncate(Self::popular(dataset, cases, k));
        popular.shrink_to_fit();
        let space = scorer.item_vectors().map(|(table, columns)| (scorer, table, columns));
        Self { dataset, k, popular, tail, space }
    }

    fn popular(dataset: &Dataset, cases: &Cases<'_>, k: &[usize]) -> usize {
        let most = k.iter().max().copied().unwrap_or(0).saturating_add(cases.most_seen);
        most.min(dataset.items().len() as usize)
    }

    /// Bytes as long as anything is ranked: the most popular items, and how often each item was recommended.
    pub(super) fn bytes(dataset: &Dataset, cases: &Cases<'_>, k: &[usize]) -> usize {
        4 * (Self::popular(dataset, cases, k) + (k.len() + 1) * dataset.items().len() as usize)
    }

    /// Bytes that a user's recommendations take.
    pub(super) fn user_bytes(k: &[usize], scorer: &dyn Scorer) -> usize {
        let most = k.iter().max().copied().unwrap_or(0);
        let vectors = scorer
            .item_vectors()
            .map_or(0, |(_, columns)| most * size_of::<(u32, u32)>() + k.len() * (columns * size_of::<f32>() + 4) + 8);
        // What is recommended grows by doubling, and is there of three waves: one is added up, one waits, one is ranked.
        6 * (most + 1) * size_of::<u32>() + most * size_of::<u32>() + vectors
    }

    /// The lists of a block, `best(u)` being the recommendations of its user `u`.
    pub(super) fn lists(&self, users: usize, mut best: impl FnMut(usize, &mut dyn FnMut(&[Candidate]))) -> Lists {
        let columns = self.space.map_or(0, |(_, _, columns)| columns);
        let most = self.k.iter().max().copied().unwrap_or(0);
        let (mut items, mut offsets) = (Vec::with_capacity(users * most), vec![0]);
        for u in 0..users {
            let from = items.len();
            best(u, &mut |best: &[Candidate]| items.extend((0..).zip(best).map(|(rank, c)| (c.item(), rank))));
            items[from..].sort_unstable();
            offsets.push(items.len());
        }
        let cells = users * self.k.len();
        Lists { items, offsets, sums: vec![0.0; cells * columns], counts: vec![0; cells] }
    }

    /// Adds the unit vectors of the recommended items of a region.
    pub(super) fn add_vectors(&self, lists: &mut Lists, region: &Range<u32>) {
        let Some((_, table, columns)) = self.space else { return };
        for (u, bounds) in lists.offsets.windows(2).enumerate() {
            let own = &lists.items[bounds[0]..bounds[1]];
            let from = own.partition_point(|(item, _)| *item < region.start);
            for (item, rank) in own[from..].iter().take_while(|(item, _)| *item < region.end) {
                // What came later than the table has none.
                let Some(row) = (*item < table.rows() as u32).then(|| &table.row(*item as usize)[..columns]) else {
                    continue;
                };
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                // A row of zeros, or of numbers that overflow, has no direction.
                if !(norm > 0.0 && norm.is_finite()) {
                    continue;
                }
                for (at, _) in self.k.iter().enumerate().filter(|(_, k)| (*rank as usize) < **k) {
                    let cell = u * self.k.len() + at;
                    lists.counts[cell] += 1;
                    let sums = &mut lists.sums[cell * columns..(cell + 1) * columns];
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / norm);
                }
            }
        }
    }

    pub(super) fn begin(&self) -> BlockBeyond {
        BlockBeyond { sums: vec![Default::default(); self.k.len()], items: Vec::new() }
    }

    /// Adds the recommendations `best` of the block's user at `index`.
    pub(super) fn add(
        &self,
        block: &mut BlockBeyond,
        (index, user): (usize, u32),
        cases: &Cases<'_>,
        best: &[Candidate],
        lists: Option<&Lists>,
    ) {
        block.items.extend(best.iter().map(|c| c.item()));
        block.items.push(END);
        if best.is_empty() {
            return;
        }
        let held_out = cases.held_out.user(user).items;
        let is_hit = |item: u32| held_out.binary_search_by_key(&item, |i| i.to_native()).is_ok();
        let is_masked =
            |item: u32| cases.seen.lists(user).any(|l| l.binary_search_by_key(&item, |i| i.to_native()).is_ok());
        let count = |item: u32| self.dataset.popularity()[item as usize].to_native();
        let most = self.k.iter().max().copied().unwrap_or(0);
        let popular = self.popular.iter().copied().filter(|item| !is_masked(*item)).take(most);
        let popular: Vec<u32> = popular.map(count).collect();
        let users = f64::from(self.dataset.train().summary().users.max(1));
        let columns = self.space.map_or(0, |(_, _, columns)| columns);
        for (at, (k, sums)) in self.k.iter().zip(&mut block.sums).enumerate() {
            let best = &best[..best.len().min(*k)];
            let n = best.len() as f64;
            // What is as popular as the last of the user's most popular candidates is expected.
            let least = popular.get(k - 1).or(popular.last()).copied().unwrap_or(0);
            let (mut popularity, mut tail, mut bits, mut surprises) = (0.0, 0.0, 0.0, 0.0);
            for item in best.iter().map(|c| c.item()) {
                let count = count(item);
                popularity += f64::from(count);
                tail += f64::from(u8::from(count < self.tail));
                bits += (users / f64::from(count.max(1))).log2().max(0.0);
                surprises += f64::from(u8::from(count < least && is_hit(item)));
            }
            let mut add = |name: usize, value: f64| {
                sums[name].0.add(value);
                sums[name].1 += 1;
            };
            for (name, value) in [popularity / n, tail / n, bits / n, surprises / *k as f64].into_iter().enumerate() {
                add(name, value);
            }
            let Some(lists) = lists else { continue };
            let cell = index * self.k.len() + at;
            let with = f64::from(lists.counts[cell]);
            if best.len() > 1 {
                let own = &lists.sums[cell * columns..(cell + 1) * columns];
                // The square of the sum of unit vectors holds each pair's cosine twice, and a one for each vector.
                let square: f64 = own.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
                add(DIVERSITY, (1.0 - (square - with) / (n * (n - 1.0))).clamp(0.0, 2.0));
            }
        }
    }
}

/// What all recommendations add up to.
pub(super) struct BeyondSums {
    sums: Vec<[(Sum, u64); NAMES.len()]>,
    /// By cut-off and item.
    counts: Vec<Vec<u32>>,
}

impl BeyondSums {
    pub(super) fn new(beyond: &Beyond<'_>) -> Self {
        let items = beyond.dataset.items().len() as usize;
        Self { sums: vec![Default::default(); beyond.k.len()], counts: vec![vec![0; items]; beyond.k.len()] }
    }

    pub(super) fn merge(&mut self, k: &[usize], block: &BlockBeyond) {
        for ((sum, count), (more, n)) in self.sums.iter_mut().flatten().zip(block.sums.iter().flatten()) {
            sum.merge(*more);
            *count += n;
        }
        let mut rank = 0;
        for item in &block.items {
            if *item == END {
                rank = 0;
                continue;
            }
            for (counts, _) in self.counts.iter_mut().zip(k).filter(|(_, k)| rank < **k) {
                counts[*item as usize] = counts[*item as usize].saturating_add(1);
            }
            rank += 1;
        }
    }

    /// Appends them to `metrics`.
    pub(super) fn append_to(self, k: &[usize], metrics: &mut Metrics) {
        for ((k, sums), counts) in k.iter().zip(self.sums).zip(self.counts) {
            let recommended = counts.iter().filter(|count| **count > 0).count();
            metrics.push(format!("coverage@{k}"), recommended as f64 / counts.len().max(1) as f64);
            metrics.push(format!("gini@{k}"), Distribution::new(counts).gini);
            for (name, (sum, n)) in NAMES.iter().zip(sums).filter(|(_, (_, n))| *n > 0) {
                metrics.push(format!("{name}@{k}"), sum.mean(n));
            }
        }
    }
}
