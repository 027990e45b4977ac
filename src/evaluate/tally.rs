//! What rankings add up to: exact means by slice, replicates for intervals, and sign flips for comparisons.

use super::bootstrap::{Draws, ONE, Replicates, interval};
use super::flips::Flips;
use super::metrics::{Metrics, Totals, width};

/// What is kept of users beside exact means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing.
    Means,
    /// Replicates of each slice.
    Replicates,
    /// Replicates, and sign flips over all users.
    Flips,
}

/// How much is added up: slices (the first is everybody), cut-offs, and what is kept of users.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    pub(super) groups: usize,
    pub(super) k: &'a [usize],
    pub(super) keep: Keep,
}

impl Shape<'_> {
    /// Bytes as long as anything is ranked.
    pub(super) fn bytes(&self) -> usize {
        let width = width(self.k.len());
        let replicates = self.groups * width * Replicates::BYTES;
        match self.keep {
            Keep::Means => 0,
            Keep::Replicates => Draws::BYTES + replicates,
            Keep::Flips => Draws::BYTES + replicates + width * Flips::BYTES,
        }
    }

    /// Bytes of the values of a ranking that counts in `groups` slices.
    pub(super) fn ranking_bytes(&self, groups: usize) -> usize {
        match self.keep {
            Keep::Means => 0,
            // They grow by doubling, and three waves may be there: one is added up, one waits, one is ranked.
            _ => {
                let values = width(self.k.len()) * size_of::<f32>() + size_of::<(u32, u32)>();
                let totals = if groups > 1 { Totals::bytes(self.k.len()) } else { 0 };
                6 * groups * (values + totals)
            }
        }
    }
}

/// What the rankings of a block of users add up to.
pub(super) struct Tally<'a> {
    shape: Shape<'a>,
    /// By slice, those that there are.
    totals: Vec<(usize, Totals)>,
    /// (user, slice) of each ranking, and its values, one after the other.
    of: Vec<(u32, u32)>,
    values: Vec<f32>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(shape: Shape<'a>) -> Self {
        Self { shape, totals: Vec::new(), of: Vec::new(), values: Vec::new() }
    }

    /// Adds a ranking of `user` to a slice: ranks of hits, how many items are relevant, and the AUC if there is one.
    pub(super) fn add(&mut self, user: u32, group: usize, ranking: (&[u32], usize, Option<f64>)) {
        let keeps = self.shape.keep != Keep::Means;
        let values = &mut self.values;
        let at = self.totals.iter().position(|(of, _)| *of == group).unwrap_or_else(|| {
            self.totals.push((group, Totals::new(self.shape.k.len())));
            self.totals.len() - 1
        });
        self.totals[at].1.add(ranking, self.shape.k, |value| {
            if keeps {
                values.push(value as f32);
            }
        });
        if keeps {
            self.of.push((user, group as u32));
        }
    }
}

/// What is added up over all blocks.
pub(super) struct Sums {
    pub(super) totals: Vec<Totals>,
    /// By slice and metric.
    replicates: Vec<Vec<Replicates>>,
    /// By metric.
    flips: Vec<Flips>,
    draws: Option<Draws>,
    /// Users of each slice, and the last of them.
    users: Vec<(u64, Option<u32>)>,
}

impl Sums {
    pub(super) fn new(shape: Shape<'_>) -> Self {
        let width = width(shape.k.len());
        let keeps = shape.keep != Keep::Means;
        Self {
            totals: vec![Totals::new(shape.k.len()); shape.groups],
            replicates: if keeps { vec![vec![Replicates::new(); width]; shape.groups] } else { Vec::new() },
            flips: if shape.keep == Keep::Flips { vec![Flips::new(); width] } else { Vec::new() },
            draws: keeps.then(Draws::new),
            users: vec![(0, None); shape.groups],
        }
    }

    /// Adds a block, blocks in the order of users.
    pub(super) fn merge(&mut self, block: Tally<'_>) {
        for (group, more) in &block.totals {
            self.totals[*group].merge(more);
        }
        let Some(draws) = &mut self.draws else { return };
        let width = self.replicates.first().map_or(1, Vec::len);
        for ((user, group), values) in block.of.iter().zip(block.values.chunks_exact(width)) {
            let (count, last) = &mut self.users[*group as usize];
            *count += u64::from(*last != Some(*user));
            *last = Some(*user);
            let drawn = draws.of(*user);
            for (replicates, value) in self.replicates[*group as usize].iter_mut().zip(values) {
                if !value.is_nan() {
                    replicates.add(drawn, *value);
                }
            }
            if *group == 0 && !self.flips.is_empty() {
                let signs = super::flips::signs(*user);
                for (flips, value) in self.flips.iter_mut().zip(values).filter(|(_, value)| !value.is_nan()) {
                    flips.add(&signs, (value * ONE) as i64);
                }
            }
        }
    }

    /// Users of a slice; 0 where nothing is kept of users.
    pub(super) fn users(&self, group: usize) -> u64 {
        self.users[group].0
    }

    /// The replicates of a slice's mean of the metric at `place`.
    pub(super) fn replicates(&self, group: usize, place: usize) -> Vec<f64> {
        self.replicates.get(group).and_then(|of| of.get(place)).map(Replicates::means).unwrap_or_default()
    }

    /// The sign flips of the metric at `place`.
    pub(super) fn flips(&self, place: usize) -> Option<&Flips> {
        self.flips.get(place)
    }

    /// The 95 % intervals of a slice's `metrics`; `None` where nothing is kept of users.
    pub(super) fn intervals(&self, group: usize, metrics: &Metrics) -> Option<super::Intervals> {
        let of = self.replicates.get(group)?;
        // The AUC comes last, and is no metric of every slice.
        let all = metrics.iter().zip(of);
        Some(super::Intervals(
            all.filter_map(|((name, _), r)| Some((name.to_string(), interval(r.means())?))).collect(),
        ))
    }
}
