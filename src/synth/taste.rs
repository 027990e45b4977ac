//! Users' tastes: low-rank factors, drawn from the seed on demand, and what they make of each item cluster.

use rand::Rng;

use super::catalog::Catalog;
use super::config::SynthConfig;
use super::random::{Purpose, exp, rough_normal, stream};

/// Rank of the planted preferences.
pub(super) const RANK: usize = 16;

/// The factors of the item clusters, each of unit length, stored factor by factor.
pub(super) struct Clusters {
    factors: Vec<f32>,
    count: usize,
}

impl Clusters {
    /// Draws the factors: uniform directions, approximately.
    pub(super) fn new(seed: u64, count: usize) -> Self {
        let mut factors = vec![0.0; RANK * count];
        for cluster in 0..count {
            let drawn = deviates(&mut stream(seed, Purpose::Clusters, cluster as u64));
            let norm = drawn.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            for (k, x) in drawn.into_iter().enumerate() {
                factors[k * count + cluster] = x / norm;
            }
        }
        Self { factors, count }
    }
}

fn deviates(rng: &mut impl Rng) -> [f32; RANK] {
    std::array::from_fn(|_| rough_normal(rng.next_u64()))
}

/// What one vector of taste makes of the clusters.
#[derive(Clone, Default)]
pub(super) struct Affinity {
    /// exp(β x·y) of each cluster.
    lifts: Vec<f32>,
    /// Running sums of mass × lift.
    sums: Vec<f32>,
}

impl Affinity {
    fn fill(&mut self, taste: &[f32; RANK], strength: f32, clusters: &Clusters, mass: &[f32]) {
        let count = clusters.count;
        self.lifts.clear();
        self.lifts.resize(count, 0.0);
        for (k, factors) in clusters.factors.chunks_exact(count).enumerate() {
            let x = taste[k] * strength;
            for (logit, y) in self.lifts.iter_mut().zip(factors) {
                *logit += x * y;
            }
        }
        for lift in &mut self.lifts {
            *lift = exp(*lift);
        }
        self.sums.clear();
        let mut sum = 0.0;
        self.sums.extend(self.lifts.iter().zip(mass).map(|(lift, mass)| {
            sum += lift * mass;
            sum
        }));
    }

    fn total(&self) -> f32 {
        self.sums.last().copied().unwrap_or(1.0)
    }

    /// Draws a cluster by mass × lift; `last` is the last that has items.
    #[inline]
    pub(super) fn draw(&self, unit: f32, last: usize) -> usize {
        let target = unit * self.total();
        self.sums.partition_point(|&sum| sum <= target).min(last)
    }

    /// How much likelier than for the average of the catalogue a cluster's items are.
    #[inline]
    pub(super) fn lift(&self, cluster: usize) -> f32 {
        self.lifts[cluster] / self.total()
    }
}

/// A user's taste at the first and the last moment of the period. At the share τ of the period, a row is drawn by the
/// last with probability τ and by the first otherwise.
#[derive(Clone, Default)]
pub(super) struct Taste {
    pub(super) first: Affinity,
    pub(super) last: Affinity,
}

impl Taste {
    /// Computes the taste of `user`; O(rank × clusters).
    pub(super) fn fill(&mut self, user: u64, config: &SynthConfig, clusters: &Clusters, catalog: &Catalog) {
        let mut rng = stream(config.seed, Purpose::Taste, user);
        let first = deviates(&mut rng);
        let fresh = deviates(&mut rng);
        let kept = (1.0 - config.drift) as f32;
        let renewed = (1.0 - kept * kept).max(0.0).sqrt();
        let last = std::array::from_fn(|k| kept * first[k] + renewed * fresh[k]);
        let strength = config.preference as f32;
        self.first.fill(&first, strength, clusters, catalog.mass());
        self.last.fill(&last, strength, clusters, catalog.mass());
    }

    /// The lift of a cluster at the share τ of the period.
    pub(super) fn lift(&self, cluster: usize, tau: f64) -> f64 {
        (1.0 - tau) * f64::from(self.first.lift(cluster)) + tau * f64::from(self.last.lift(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{ByteSize, Context};

    #[test]
    fn probabilities_sum_to_one_and_draws_follow_them() {
        let config = SynthConfig { items: 640, ..SynthConfig::default() };
        let catalog = Catalog::new(&config, &Context::new(1, ByteSize(1 << 30))).unwrap();
        let clusters = Clusters::new(1, catalog.clusters());
        let mut taste = Taste::default();
        taste.fill(11, &config, &clusters, &catalog);
        let shares: Vec<f64> =
            (0..catalog.clusters()).map(|c| f64::from(catalog.mass()[c]) * f64::from(taste.first.lift(c))).collect();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        let n = 100_000;
        let mut counts = vec![0u32; catalog.clusters()];
        let mut rng = stream(5, Purpose::Rows, 0);
        for _ in 0..n {
            let unit = (rng.next_u64() >> 40) as f32 / (1 << 24) as f32;
            counts[taste.first.draw(unit, catalog.last_filled())] += 1;
        }
        for (count, share) in counts.into_iter().zip(shares) {
            let allowed = 5.0 * (share / f64::from(n)).sqrt() + 1e-5;
            assert!((f64::from(count) / f64::from(n) - share).abs() < allowed);
        }
    }

    #[test]
    fn drift_moves_tastes_apart() {
        let catalog_of = |config: &SynthConfig| Catalog::new(config, &Context::new(1, ByteSize(1 << 30))).unwrap();
        let distance = |drift: f64| {
            let config = SynthConfig { drift, ..SynthConfig::default() };
            let catalog = catalog_of(&config);
            let clusters = Clusters::new(config.seed, catalog.clusters());
            let mut taste = Taste::default();
            let mut sum = 0.0;
            for user in 0..200 {
                taste.fill(user, &config, &clusters, &catalog);
                for cluster in 0..catalog.clusters() {
                    let mass = f64::from(catalog.mass()[cluster]);
                    sum += 0.5 * mass * (taste.lift(cluster, 0.0) - taste.lift(cluster, 1.0)).abs();
                }
            }
            sum / 200.0
        };
        // Total variation between the first and the last taste, averaged over users.
        assert!(distance(0.0) < 1e-9);
        assert!(distance(0.3) > 0.2, "{}", distance(0.3));
        assert!(distance(1.0) > distance(0.3) + 0.1);
    }
}
