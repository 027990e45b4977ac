//! What a folded row is to minimize, and its gradient.

use super::Folding;
use crate::loss::{Loss, OfLists, Terms};
use crate::model::stride_of;

/// F of [`crate::fold`], over one sample of negatives.
pub(super) struct Objective<'a> {
    how: &'a Folding,
    /// The positives' rows, then the negatives'.
    rows: Vec<f32>,
    stride: usize,
    positives: usize,
    /// Negatives of each positive.
    each: usize,
    /// Whether all positives have the same negatives.
    shared: bool,
    /// Rows that there are on the other side.
    all: f32,
    /// How many negatives of training each one here stands for.
    stands_for: f32,
    /// What each positive counts, by its rank; empty where all count alike.
    ranks: Vec<f32>,
    /// Weights of a list's terms.
    weights: Vec<f32>,
    // Scores and slopes: of each row, and of the negatives of each positive in turn.
    scores: Vec<f32>,
    slopes: Vec<f32>,
    negatives: Vec<f32>,
    negative_slopes: Vec<f32>,
}

impl<'a> Objective<'a> {
    pub(super) fn new(
        how: &'a Folding,
        rows: Vec<f32>,
        (positives, each, shared): (usize, usize, bool),
        all: u64,
    ) -> Self {
        let stride = stride_of(how.width);
        let count = rows.len() / stride;
        let stands_for = how.negatives as f32 / each as f32;
        let lists = how.loss.terms() == Terms::Lists;
        Self {
            how,
            rows,
            stride,
            positives,
            each,
            shared,
            all: all as f32,
            stands_for,
            ranks: Vec::new(),
            weights: if lists { vec![stands_for; positives * each] } else { Vec::new() },
            scores: vec![0.0; count],
            slopes: vec![0.0; count],
            negatives: vec![0.0; positives * each],
            negative_slopes: vec![0.0; positives * each],
        }
    }

    /// Where to start: nothing, or the mean of the positives for cosines.
    pub(super) fn start(&self) -> Vec<f32> {
        let mut z = vec![0.0; self.stride];
        if self.how.cosine {
            for row in self.rows.chunks_exact(self.stride).take(self.positives) {
                z.iter_mut().zip(row).for_each(|(z, x)| *z += x);
            }
            let norm = dot(&z, &z).sqrt();
            match norm > 1e-6 {
                true => z.iter_mut().for_each(|x| *x /= norm),
                // Positives that cancel out: any direction will do.
                false => z[0] = 1.0,
            }
        }
        if let Some(column) = self.how.fixed {
            z[column] = 1.0;
        }
        z
    }

    /// Scores of all rows for `z`, and its norm where scores are cosines.
    fn score(&mut self, z: &[f32]) -> f32 {
        let norm = if self.how.cosine { dot(z, z).sqrt().max(1e-12) } else { 1.0 };
        for (score, row) in self.scores.iter_mut().zip(self.rows.chunks_exact(self.stride)) {
            *score = dot(row, z) / norm;
        }
        self.negatives.clear();
        for p in 0..self.positives {
            let first = self.first_of(p);
            self.negatives.extend_from_slice(&self.scores[first..first + self.each]);
        }
        norm
    }

    /// The row of the first negative of positive `p`.
    fn first_of(&self, p: usize) -> usize {
        self.positives + if self.shared { 0 } else { p * self.each }
    }

    /// What WARP makes of each positive, from how many of the negatives violate its margin now: with V of m, the first
    /// violator is one of them at random, and comes after m/V tries, which hint at the rank (N − 1) V/m.
    pub(super) fn look_at_ranks(&mut self, z: &[f32]) {
        let Some(margin) = self.how.loss.hinge_margin().filter(|_| self.how.by_rank) else { return };
        self.score(z);
        let of = |p: usize| {
            let negatives = &self.negatives[p * self.each..(p + 1) * self.each];
            let violating = negatives.iter().filter(|s| margin - self.scores[p] + **s > 0.0).count().max(1) as f32;
            let rank = ((self.all - 1.0) * violating / self.each as f32).max(1.0);
            // Undoes that each of m negatives stands for 1/m of one.
            rank.ln() / violating / self.stands_for
        };
        self.ranks = (0..self.positives).map(of).collect();
    }

    /// F at `z`, and its gradient into `gradient`.
    pub(super) fn value(&mut self, z: &[f32], gradient: &mut [f32]) -> f64 {
        let norm = self.score(z);
        let (count, each, terms) = (self.positives, self.each, self.how.loss.terms());
        let (positives, slopes) = (&self.scores[..count], &mut self.slopes);
        slopes.fill(0.0);
        let lists = OfLists { weights: &self.weights, ..OfLists::default() };
        let mean = 1.0 / count as f32;
        let mut value = 0f64;
        match terms {
            Terms::Lists => {
                let loss = &self.how.loss;
                loss.gradient(positives, &self.negatives, lists, &mut slopes[..count], &mut self.negative_slopes);
                value += f64::from(loss.value(positives, &self.negatives, lists));
            }
            _ => {
                // What a positive costs without its negatives, of losses over scores.
                let (loss, none) = (&self.how.loss, OfLists::default());
                for p in 0..count {
                    let own = p * each..(p + 1) * each;
                    let negatives = &self.negatives[own.clone()];
                    let weight = self.stands_for * self.ranks.get(p).copied().unwrap_or(1.0);
                    let slope = &mut slopes[p..=p];
                    loss.gradient(&positives[p..=p], negatives, none, slope, &mut self.negative_slopes[own.clone()]);
                    let all = loss.value(&positives[p..=p], negatives, none);
                    if terms == Terms::Pairs {
                        slope[0] *= weight;
                        value += f64::from(weight * all);
                    } else {
                        let alone = loss.value(&positives[p..=p], &[], none);
                        value += f64::from(alone + weight * (all - alone));
                    }
                    self.negative_slopes[own].iter_mut().for_each(|slope| *slope *= weight);
                }
            }
        }
        for p in 0..count {
            let first = self.first_of(p);
            let of = &self.negative_slopes[p * each..(p + 1) * each];
            self.slopes[first..first + each].iter_mut().zip(of).for_each(|(sum, slope)| *sum += slope);
        }
        gradient.fill(0.0);
        for (slope, row) in self.slopes.iter().zip(self.rows.chunks_exact(self.stride)) {
            let slope = slope * mean / norm;
            gradient.iter_mut().zip(row).for_each(|(sum, x)| *sum += slope * x);
        }
        value *= f64::from(mean);
        if self.how.cosine {
            // The part along the row changes no cosine, and neither does its length: L2 has no say.
            let along = dot(gradient, z) / (norm * norm);
            gradient.iter_mut().zip(z).for_each(|(g, x)| *g -= along * x);
            return value;
        }
        let terms = match terms {
            Terms::Pairs => self.how.negatives as f32,
            Terms::Scores => self.how.negatives as f32 + 1.0,
            Terms::Lists => 1.0,
        };
        let l2 = self.how.l2 * terms;
        for (column, (g, x)) in gradient.iter_mut().zip(z).enumerate() {
            if Some(column) == self.how.fixed {
                *g = 0.0;
                continue;
            }
            *g += l2 * x;
            value += f64::from(l2) / 2.0 * f64::from(*x) * f64::from(*x);
        }
        value
    }
}

/// The dot product of two rows of whole tiles: sixteen sums side by side, which compilers vectorize.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
