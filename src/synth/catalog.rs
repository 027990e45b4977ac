//! The items: popularity by rank, clusters, and constant-time draws within a cluster.

use super::config::SynthConfig;
use super::error::SynthError;
use super::random::{Purpose, hash};
use crate::context::{ByteSize, Context};

/// Most clusters of items.
const MOST_CLUSTERS: u64 = 256;

/// Items a cluster has on average in small catalogues.
const CLUSTER_ITEMS: u64 = 16;

/// Bytes a drawable item takes in the tables, while they are built.
const ITEM_BYTES: u64 = 24;

/// Items between two looks at whether to stop.
const CHECK_EVERY: u64 = 1 << 20;

/// One slot of an alias table (Walker, 1974): `own` where the low half of the random word is below `cut`, else `other`.
#[derive(Clone, Copy)]
struct Slot {
    cut: u32,
    own: u32,
    other: u32,
}

/// The catalogue. The item of popularity rank r has the weight (r + 1 + q)⁻ˢ, divided by the sum over all items; its
/// number comes from an affine permutation, so that numbers tell nothing about popularity; its cluster from a hash.
pub(super) struct Catalog {
    seed: u64,
    items: u64,
    exponent: f64,
    shift: f64,
    total: f64,
    multiplier: u64,
    offset: u64,
    inverse: u64,
    clusters: usize,
    mass: Vec<f32>,
    starts: Vec<usize>,
    slots: Vec<Slot>,
    last_filled: usize,
}

impl Catalog {
    /// Builds the tables: 12 bytes an item, time linear in the items.
    pub(super) fn new(config: &SynthConfig, ctx: &Context) -> Result<Self, SynthError> {
        let items = config.items;
        let needed = ByteSize(items * ITEM_BYTES);
        if needed > ctx.memory() {
            return Err(SynthError::Memory { items, needed, budget: ctx.memory() });
        }
        let clusters = (items / CLUSTER_ITEMS).max(items.min(8)).min(MOST_CLUSTERS) as usize;
        // A multiplier near the golden section scatters neighbouring ranks; it must share no divisor with the items.
        let mut multiplier = ((items as f64 * 0.618_033_988_75) as u64).max(1);
        while gcd(multiplier, items) != 1 {
            multiplier += 1;
        }
        let mut catalog = Self {
            seed: config.seed,
            items,
            exponent: config.zipf,
            shift: 1.0 + (items as f64 / 200.0).min(10.0),
            total: 1.0,
            multiplier,
            offset: hash(config.seed, Purpose::Numbering, 0) % items,
            inverse: inverse(multiplier, items),
            clusters,
            mass: vec![0.0; clusters],
            starts: Vec::with_capacity(clusters + 1),
            slots: Vec::with_capacity(items as usize),
            last_filled: 0,
        };
        catalog.fill(ctx)?;
        Ok(catalog)
    }

    fn fill(&mut self, ctx: &Context) -> Result<(), SynthError> {
        // Counting sort of the ranks by cluster, then an alias table for each.
        let mut counts = vec![0usize; self.clusters + 1];
        for rank in 0..self.items {
            if rank % CHECK_EVERY == 0 {
                ctx.check()?;
            }
            counts[self.cluster(rank) + 1] += 1;
        }
        for cluster in 0..self.clusters {
            counts[cluster + 1] += counts[cluster];
        }
        self.starts = counts.clone();
        let mut ranks = vec![0u32; self.items as usize];
        for rank in 0..self.items {
            if rank % CHECK_EVERY == 0 {
                ctx.check()?;
            }
            let place = &mut counts[self.cluster(rank)];
            ranks[*place] = rank as u32;
            *place += 1;
        }
        // Summed from the rare end, where the addends are small.
        self.total = 0.0;
        for rank in (0..self.items).rev() {
            if rank % CHECK_EVERY == 0 {
                ctx.check()?;
            }
            self.total += (rank as f64 + self.shift).powf(-self.exponent);
        }
        for cluster in 0..self.clusters {
            let members = &ranks[self.starts[cluster]..self.starts[cluster + 1]];
            let weights: Vec<f64> = members.iter().map(|&rank| self.weight(u64::from(rank))).collect();
            self.mass[cluster] = weights.iter().sum::<f64>() as f32;
            if !members.is_empty() {
                self.last_filled = cluster;
            }
            let numbers: Vec<u32> = members.iter().map(|&rank| self.number(u64::from(rank))).collect();
            self.slots.extend(alias_table(&numbers, &weights));
            ctx.check()?;
        }
        Ok(())
    }

    /// Number of items.
    pub(super) fn len(&self) -> u64 {
        self.items
    }

    /// Number of clusters.
    pub(super) fn clusters(&self) -> usize {
        self.clusters
    }

    /// The share of popularity of each cluster.
    pub(super) fn mass(&self) -> &[f32] {
        &self.mass
    }

    /// The last cluster that has items.
    pub(super) fn last_filled(&self) -> usize {
        self.last_filled
    }

    /// The popularity of a rank; all together sum to 1.
    pub(super) fn weight(&self, rank: u64) -> f64 {
        (rank as f64 + self.shift).powf(-self.exponent) / self.total
    }

    /// The cluster of a rank.
    pub(super) fn cluster(&self, rank: u64) -> usize {
        (hash(self.seed, Purpose::Membership, rank) % self.clusters as u64) as usize
    }

    /// The number that the item of a rank goes by.
    pub(super) fn number(&self, rank: u64) -> u32 {
        ((rank * self.multiplier + self.offset) % self.items) as u32
    }

    /// The popularity rank of a number.
    pub(super) fn rank(&self, number: u32) -> u64 {
        (u64::from(number) + self.items - self.offset) % self.items * self.inverse % self.items
    }

    /// The numbers of a cluster's items, most popular first.
    pub(super) fn members(&self, cluster: usize) -> impl Iterator<Item = u32> + '_ {
        self.slots[self.starts[cluster]..self.starts[cluster + 1]].iter().map(|slot| slot.own)
    }

    /// Draws an item of a cluster that has some, by popularity.
    #[inline]
    pub(super) fn draw(&self, cluster: usize, bits: u64) -> u32 {
        let slots = &self.slots[self.starts[cluster]..self.starts[cluster + 1]];
        let place = ((bits >> 32) * slots.len() as u64) >> 32;
        let slot = slots[place as usize];
        if (bits as u32) < slot.cut { slot.own } else { slot.other }
    }
}

/// Vose's construction (1991) of an alias table over `numbers` with probabilities proportional to `weights`.
fn alias_table(numbers: &[u32], weights: &[f64]) -> Vec<Slot> {
    let scale = numbers.len() as f64 / weights.iter().sum::<f64>();
    let mut scaled: Vec<f64> = weights.iter().map(|w| w * scale).collect();
    let mut slots: Vec<Slot> = numbers.iter().map(|&own| Slot { cut: u32::MAX, own, other: own }).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..numbers.len()).partition(|&i| scaled[i] < 1.0);
    while let (Some(poor), Some(&rich)) = (small.pop(), large.last()) {
        slots[poor].cut = (scaled[poor] * f64::from(u32::MAX)) as u32;
        slots[poor].other = numbers[rich];
        scaled[rich] -= 1.0 - scaled[poor];
        if scaled[rich] < 1.0 {
            large.pop();
            small.push(rich);
        }
    }
    slots
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The x with a·x ≡ 1 (mod m), for a that shares no divisor with m (extended Euclid).
fn inverse(a: u64, m: u64) -> u64 {
    let (mut r, mut next_r) = (i128::from(m), i128::from(a % m));
    let (mut t, mut next_t) = (0i128, 1i128);
    while next_r != 0 {
        let quotient = r / next_r;
        (r, next_r) = (next_r, r - quotient * next_r);
        (t, next_t) = (next_t, t - quotient * next_t);
    }
    t.rem_euclid(i128::from(m)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    fn catalog(items: u64, zipf: f64) -> Catalog {
        let config = SynthConfig { items, zipf, ..SynthConfig::default() };
        Catalog::new(&config, &Context::new(1, ByteSize(1 << 30))).unwrap()
    }

    #[test]
    fn numbering_is_a_permutation_and_its_inverse() {
        for items in [1, 2, 3, 10, 12, 100, 997, 30_030] {
            let catalog = catalog(items, 1.0);
            let mut seen = vec![false; items as usize];
            for rank in 0..items {
                let number = catalog.number(rank);
                assert!(!std::mem::replace(&mut seen[number as usize], true));
                assert_eq!(catalog.rank(number), rank);
            }
            let members: usize = (0..catalog.clusters()).map(|c| catalog.members(c).count()).sum();
            assert_eq!(members as u64, items);
        }
    }

    #[test]
    fn draws_follow_popularity() {
        let catalog = catalog(500, 1.2);
        let mut rng = super::super::random::stream(3, Purpose::Rows, 0);
        for cluster in 0..catalog.clusters() {
            let members: Vec<u32> = catalog.members(cluster).collect();
            let n = 200_000;
            let mut counts = std::collections::HashMap::new();
            for _ in 0..n {
                *counts.entry(catalog.draw(cluster, rng.next_u64())).or_insert(0u32) += 1;
            }
            let mass = f64::from(catalog.mass()[cluster]);
            for number in members {
                let share = catalog.weight(catalog.rank(number)) / mass;
                let seen = f64::from(counts.remove(&number).unwrap_or(0)) / f64::from(n);
                // Five standard errors.
                let allowed = 5.0 * (share * (1.0 - share) / f64::from(n)).sqrt();
                assert!((seen - share).abs() < allowed + 1e-9, "{number}: {seen} for {share}");
            }
            assert!(counts.is_empty(), "items of other clusters were drawn");
        }
    }

    #[test]
    fn the_budget_is_kept() {
        let config = SynthConfig { items: 1_000_000, ..SynthConfig::default() };
        let refused = Catalog::new(&config, &Context::new(1, ByteSize(1 << 20)));
        assert!(matches!(refused, Err(SynthError::Memory { .. })));
    }
}
