//! What a dataset is like: density, and how activity and popularity are distributed.

use serde::Serialize;

use super::open::Dataset;
use crate::context::{Context, Interrupted, Unit};

/// How counts are distributed over users or items, those with none included.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// Arithmetic mean.
    pub mean: f64,
    /// Smallest count.
    pub min: u32,
    /// A quarter have at most this many.
    pub p25: u32,
    /// Half have at most this many.
    pub median: u32,
    /// Three quarters have at most this many.
    pub p75: u32,
    /// Nine in ten have at most this many.
    pub p90: u32,
    /// 99 in a hundred have at most this many.
    pub p99: u32,
    /// Largest count.
    pub max: u32,
    /// Gini coefficient: 0 if all have equally many, towards 1 if one has them all.
    pub gini: f64,
    /// Share of all interactions that the topmost hundredth has (rounded up to whole users or items).
    pub top_1_percent: f64,
    /// Share of all interactions that the topmost tenth has.
    pub top_10_percent: f64,
}

impl Distribution {
    /// Of `counts`, which are sorted for it. O(n log n).
    pub fn new(mut counts: Vec<u32>) -> Self {
        counts.sort_unstable();
        let (Some(min), Some(max)) = (counts.first().copied(), counts.last().copied()) else { return Self::default() };
        let n = counts.len();
        let total: f64 = counts.iter().map(|c| f64::from(*c)).sum();
        // Nearest rank.
        let quantile = |q: f64| counts[((q * n as f64).ceil() as usize).clamp(1, n) - 1];
        let top = |share: f64| {
            let many = (share * n as f64).ceil() as usize;
            counts.iter().rev().take(many).map(|c| f64::from(*c)).sum::<f64>() / total.max(1.0)
        };
        let ranked: f64 = (1..).zip(&counts).map(|(rank, c): (u64, _)| rank as f64 * f64::from(*c)).sum();
        let gini = if total > 0.0 { 2.0 * ranked / (n as f64 * total) - (n as f64 + 1.0) / n as f64 } else { 0.0 };
        Self {
            mean: total / n as f64,
            min,
            p25: quantile(0.25),
            median: quantile(0.5),
            p75: quantile(0.75),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max,
            gini,
            top_1_percent: top(0.01),
            top_10_percent: top(0.1),
        }
    }
}

/// What [`Dataset::statistics`] finds out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetStatistics {
    /// Interactions over users × items, all parts together.
    pub density: f64,
    /// Train interactions by user.
    pub activity: Distribution,
    /// Train interactions by item.
    pub popularity: Distribution,
}

impl Dataset {
    /// How interactions are distributed over users and items. O(users + items · log items); 4 bytes of memory for each.
    ///
    /// # Errors
    /// If `ctx` is cancelled.
    pub fn statistics(&self, ctx: &Context) -> Result<DatasetStatistics, Interrupted> {
        let holes = self.users().holes();
        let (users, items) = (self.users().len() - holes, self.items().len());
        let interactions: u64 = self.parts().map(|(_, part)| part.len()).sum();
        let stage = ctx.stage("counting", Some(users.into()), Unit::Users);
        let mut activity = Vec::with_capacity(users as usize);
        for index in 0..self.train().chunks() {
            ctx.check()?;
            let chunk = self.train().chunk(index);
            let counts = chunk.offsets().windows(2).map(|w| w[1].to_native() - w[0].to_native());
            // Who was forgotten is no user any more.
            let there = |user: u32| holes == 0 || self.users().id(user).is_some();
            activity.extend((chunk.first_user()..).zip(counts).filter(|(user, _)| there(*user)).map(|(_, n)| n));
            stage.add(chunk.users() as u64);
        }
        Ok(DatasetStatistics {
            density: interactions as f64 / (f64::from(users) * f64::from(items)).max(1.0),
            activity: Distribution::new(activity),
            popularity: Distribution::new(self.popularity().iter().map(|c| c.to_native()).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_those_computed_by_hand() {
        let d = Distribution::new(vec![4, 1, 3, 2]);
        assert_eq!((d.min, d.p25, d.median, d.p75, d.p90, d.max), (1, 1, 2, 3, 4, 4));
        assert_eq!((d.mean, d.gini, d.top_10_percent), (2.5, 0.25, 0.4));
        let equal = Distribution::new(vec![7; 100]);
        assert!(equal.gini.abs() < 1e-12 && (equal.top_1_percent - 0.01).abs() < 1e-12);
        assert_eq!(Distribution::new(Vec::new()), Distribution::default());
        assert_eq!(Distribution::new(vec![0, 0]).gini, 0.0);
    }
}
