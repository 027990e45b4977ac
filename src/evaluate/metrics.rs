//! Metrics of one ranking, and their exact means over many.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::nearest::did_you_mean;

/// Metrics by name, such as `recall@20` or `auc`, in the order of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Names and values in the order of a report.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// Adds a metric at the end.
    pub(super) fn push(&mut self, name: String, value: f64) {
        self.0.push((name, value));
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// The metrics at a cut-off, in the order of a report.
pub(super) const NAMES: [&str; 6] = ["recall", "precision", "hit_rate", "ndcg", "mrr", "map"];
/// The metrics at cut-off `k` of a ranking whose relevant items stand at `ranks` (from 1, ascending; those beyond the
/// cut-off may be missing), out of `relevant` in all. Formulas: `docs/metrics.md`.
fn at_cut_off(ranks: &[u32], relevant: usize, k: usize) -> [f64; NAMES.len()] {
    let hits = ranks.partition_point(|rank| *rank as usize <= k);
    let ranks = &ranks[..hits];
    let gain = |rank: u32| 1.0 / (f64::from(rank) + 1.0).log2();
    let attainable = relevant.min(k);
    let dcg: f64 = ranks.iter().copied().map(gain).sum();
    let ideal: f64 = (1..=attainable as u32).map(gain).sum();
    let precision_sum: f64 = ranks.iter().enumerate().map(|(i, rank)| (i + 1) as f64 / f64::from(*rank)).sum();
    [
        hits as f64 / relevant as f64,
        hits as f64 / k as f64,
        if hits > 0 { 1.0 } else { 0.0 },
        dcg / ideal,
        ranks.first().map_or(0.0, |rank| 1.0 / f64::from(*rank)),
        precision_sum / attainable as f64,
    ]
}

/// One of the metrics at one cut-off, written and read as `ndcg@20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricAt {
    /// Its place in [`NAMES`].
    which: usize,
    k: usize,
}

impl MetricAt {
    /// The cut-off.
    pub fn k(self) -> usize {
        self.k
    }

    /// The metric that may be meant by `wrong`, for the end of a message; nothing where none is like it.
    pub(crate) fn near(wrong: &str) -> String {
        let (name, k) = wrong.split_once('@').unwrap_or((wrong, "20"));
        let right: Vec<String> = NAMES.iter().map(|right| format!("{right}@{k}")).collect();
        let is_cut_off = k.parse::<usize>().is_ok_and(|k| k > 0);
        let near = did_you_mean(&format!("{name}@{k}"), right.iter().map(String::as_str)).filter(|_| is_cut_off);
        near.map_or(String::new(), |near| format!("; {near}"))
    }

    /// Its place among the values of a [`Totals`] at cut-offs `k`; `None` where `k` lacks its cut-off.
    pub(super) fn place(self, k: &[usize]) -> Option<usize> {
        Some(k.iter().position(|k| *k == self.k)? * NAMES.len() + self.which)
    }
}

impl fmt::Display for MetricAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", NAMES[self.which], self.k)
    }
}

impl FromStr for MetricAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(name, k)| {
            let which = NAMES.iter().position(|known| *known == name)?;
            Some(Self { which, k: k.parse().ok().filter(|k| *k > 0)? })
        });
        parts.ok_or_else(|| {
            let (names, near) = (NAMES.join(", "), Self::near(text));
            format!("'{text}' is no metric; write one of {names} at a cut-off, such as ndcg@20{near}")
        })
    }
}

/// How many values a ranking has at `cut_offs` cut-offs: the metrics at each, then the AUC.
pub(super) fn width(cut_offs: usize) -> usize {
    cut_offs * NAMES.len() + 1
}

/// A sum of values that are not negative, in fixed point with 63 fractional bits: exact additions, so that neither the
/// order of users nor the number of threads can change a bit of the mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u128);

const ONE: f64 = (1u64 << 63) as f64;

impl Sum {
    pub(super) fn add(&mut self, value: f64) {
        self.0 += (value * ONE) as u128;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }

    pub(super) fn mean(self, n: u64) -> f64 {
        self.0 as f64 / ONE / n as f64
    }
}

/// Sums of metrics over rankings.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    at: Vec<[Sum; NAMES.len()]>,
    rankings: u64,
    relevant: u64,
    auc: Sum,
    aucs: u64,
}

impl Totals {
    /// Bytes for that many cut-offs.
    pub(super) fn bytes(cut_offs: usize) -> usize {
        size_of::<Self>() + cut_offs * size_of::<[Sum; NAMES.len()]>() + 32
    }

    /// Of no ranking yet, for that many cut-offs.
    pub(super) fn new(cut_offs: usize) -> Self {
        Self { at: vec![Default::default(); cut_offs], rankings: 0, relevant: 0, auc: Sum::default(), aucs: 0 }
    }

    /// Adds a ranking, as [`at_cut_off`] takes it, with its area under the curve if it has one, and hands its values to
    /// `value`, as many as [`width`] says; NaN for a missing area.
    pub(super) fn add(
        &mut self,
        (ranks, relevant, auc): (&[u32], usize, Option<f64>),
        k: &[usize],
        mut value: impl FnMut(f64),
    ) {
        for (sums, k) in self.at.iter_mut().zip(k) {
            for (sum, at) in sums.iter_mut().zip(at_cut_off(ranks, relevant, *k)) {
                sum.add(at);
                value(at);
            }
        }
        self.rankings += 1;
        self.relevant += relevant as u64;
        if let Some(auc) = auc {
            self.auc.add(auc);
            self.aucs += 1;
        }
        value(auc.unwrap_or(f64::NAN));
    }

    /// Relevant items of all rankings.
    pub(super) fn relevant(&self) -> u64 {
        self.relevant
    }

    /// Whether there is no ranking.
    pub(super) fn is_empty(&self) -> bool {
        self.rankings == 0
    }

    /// Adds the rankings of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.at.iter_mut().flatten().zip(other.at.iter().flatten()) {
            sum.merge(*more);
        }
        self.rankings += other.rankings;
        self.relevant += other.relevant;
        self.auc.merge(other.auc);
        self.aucs += other.aucs;
    }

    /// The means.
    pub(super) fn means(&self, k: &[usize]) -> Metrics {
        let mut metrics = Vec::new();
        for (sums, k) in self.at.iter().zip(k) {
            let means = NAMES.iter().zip(sums).map(|(name, sum)| (format!("{name}@{k}"), sum.mean(self.rankings)));
            metrics.extend(means);
        }
        if self.aucs > 0 {
            metrics.push(("auc".to_string(), self.auc.mean(self.aucs)));
        }
        Metrics(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_worked_out_by_hand() {
        // Four relevant items, of which three were found, at ranks 1, 3 and 6.
        let at_5 = at_cut_off(&[1, 3, 6], 4, 5);
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5 + 1.0 / 5f64.log2();
        let expected = [0.5, 0.4, 1.0, 1.5 / ideal, 1.0, (1.0 + 2.0 / 3.0) / 4.0];
        for (got, want) in at_5.iter().zip(expected) {
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
        // At 2 only two of the four can be found.
        let at_2 = at_cut_off(&[1, 3, 6], 4, 2);
        let expected = [0.25, 0.5, 1.0, 1.0 / (1.0 + 1.0 / 3f64.log2()), 1.0, 0.5];
        for (got, want) in at_2.iter().zip(expected) {
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
        assert_eq!(at_cut_off(&[], 3, 10), [0.0; 6]);
        assert_eq!(at_cut_off(&[1, 2], 2, 2), [1.0; 6]);
    }

    #[test]
    fn metrics_at_a_cut_off_are_read_and_written() {
        for name in NAMES {
            let text = format!("{name}@5");
            assert_eq!(text.parse::<MetricAt>().unwrap().to_string(), text);
        }
        let recall: MetricAt = "recall@5".parse().unwrap();
        assert_eq!((recall.k(), recall.place(&[5]), recall.place(&[2, 5])), (5, Some(0), Some(6)));
        assert_eq!(recall.place(&[2]), None);
        for text in ["", "ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndgc@20", "auc", "@5"] {
            assert!(text.parse::<MetricAt>().unwrap_err().contains("such as ndcg@20"), "{text}");
        }
    }

    #[test]
    fn means_do_not_depend_on_the_order() {
        let rankings: [(&[u32], usize); 4] = [(&[1, 3], 3), (&[7], 7), (&[], 1), (&[2, 5, 9], 11)];
        let k = [3, 10];
        let one = |(ranks, relevant): &(&[u32], usize)| {
            let mut totals = Totals::new(2);
            totals.add((ranks, *relevant, Some(1.0 / *relevant as f64)), &k, |_| ());
            totals
        };
        let add = |mut sum: Totals, one: Totals| {
            sum.merge(&one);
            sum
        };
        let forward = rankings.iter().map(one).fold(Totals::new(2), add).means(&k);
        let backward = rankings.iter().rev().map(one).fold(Totals::new(2), add).means(&k);
        assert_eq!(forward, backward);
        assert!((forward.get("auc").unwrap() - (1.0 / 3.0 + 1.0 / 7.0 + 1.0 + 1.0 / 11.0) / 4.0).abs() < 1e-15);
        assert_eq!(forward.get("ndcg@4"), None);
    }
}
