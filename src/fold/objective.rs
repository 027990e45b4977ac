//! The gradient of what a folded row is to minimize.

use std::ops::Range;

use super::Folding;
use crate::loss::{Loss, OfLists, Terms};
use crate::model::{Apart, add_weighted, dot, dots, stride_of};

/// Negatives of their own that are looked at together: their rows stay in the nearest cache for the second look.
const BLOCK: usize = 64;

/// The gradient of F of [`crate::fold`], over one sample of negatives. Its value is nowhere needed.
pub(super) struct Objective<'a> {
    how: &'a Folding,
    loss: Apart,
    /// The positives' rows, then the negatives'.
    rows: Vec<f32>,
    stride: usize,
    positives: usize,
    /// Negatives of each positive.
    each: usize,
    /// Groups of positives whose negatives are the same; none where each positive has its own.
    groups: Option<usize>,
    /// Rows that there are on the other side.
    all: f32,
    /// How many negatives of training each one here stands for.
    stands_for: f32,
    /// What each positive counts, by its rank; empty where all count alike.
    ranks: Vec<f32>,
    /// Weights of a list's terms.
    weights: Vec<f32>,
    /// Scores and slopes: of all rows where negatives are shared, else of the positives.
    scores: Vec<f32>,
    slopes: Vec<f32>,
    /// Slopes of shared negatives, for one positive.
    of_one: Vec<f32>,
}

impl<'a> Objective<'a> {
    pub(super) fn new(
        how: &'a Folding,
        rows: Vec<f32>,
        (positives, each, groups): (usize, usize, Option<usize>),
        all: u64,
    ) -> Self {
        let stride = stride_of(how.width);
        let stands_for = how.negatives as f32 / each as f32;
        let scored = positives + groups.map_or(0, |groups| groups * each);
        Self {
            how,
            loss: Apart::new(how.loss),
            rows,
            stride,
            positives,
            each,
            groups,
            all: all as f32,
            stands_for,
            ranks: Vec::new(),
            weights: if how.loss.terms() == Terms::Lists { vec![stands_for; each] } else { Vec::new() },
            scores: vec![0.0; scored],
            slopes: vec![0.0; scored],
            of_one: vec![0.0; if groups.is_some() { each } else { 0 }],
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

    /// What scores are divided by.
    fn norm(&self, z: &[f32]) -> f32 {
        if self.how.cosine { dot(z, z).sqrt().max(1e-12) } else { 1.0 }
    }

    /// What WARP makes of each positive, from how many of the negatives violate its margin now: with V of m, the first
    /// violator is one of them at random, and comes after m/V tries, which hint at the rank (N − 1) V/m.
    pub(super) fn look_at_ranks(&mut self, z: &[f32]) {
        let Some(margin) = self.how.loss.hinge_margin().filter(|_| self.how.by_rank) else { return };
        score(&self.rows, z, self.norm(z), &mut self.scores);
        let (positives, negatives) = self.scores.split_at(self.positives);
        let of = |(negatives, positive): (&[f32], &f32)| {
            let violating = negatives.iter().filter(|s| margin - positive + **s > 0.0).count().max(1) as f32;
            let rank = ((self.all - 1.0) * violating / self.each as f32).max(1.0);
            // Undoes that each of m negatives stands for 1/m of one.
            rank.ln() / violating / self.stands_for
        };
        let groups = self.groups();
        let pairs = groups.flat_map(|(own, with)| positives[own].iter().map(move |p| (&negatives[with.clone()], p)));
        self.ranks = pairs.map(of).collect();
    }

    /// Positives that share negatives, and those, as far as any share.
    fn groups(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        let (positives, each, groups) = (self.positives, self.each, self.groups.unwrap_or_default());
        (0..groups).map(move |g| (positives * g / groups..positives * (g + 1) / groups, each * g..each * (g + 1)))
    }

    /// What each positive counts; empty where all count alike.
    #[cfg(test)]
    pub(super) fn ranks(&self) -> &[f32] {
        &self.ranks
    }

    /// The gradient of F at `z`, into `gradient`.
    pub(super) fn gradient(&mut self, z: &[f32], gradient: &mut [f32]) {
        let norm = self.norm(z);
        gradient.fill(0.0);
        match self.groups {
            Some(_) => self.add_shared(z, norm, gradient),
            None => self.add_own(z, norm, gradient),
        }
        let mean = 1.0 / (self.positives as f32 * norm);
        gradient.iter_mut().for_each(|g| *g *= mean);
        if self.how.cosine {
            // The part along the row changes no cosine, and neither does its length: L2 has no say.
            let along = dot(gradient, z) / (norm * norm);
            gradient.iter_mut().zip(z).for_each(|(g, x)| *g -= along * x);
            return;
        }
        let terms = match self.how.loss.terms() {
            Terms::Pairs => self.how.negatives as f32,
            Terms::Scores => self.how.negatives as f32 + 1.0,
            Terms::Lists => 1.0,
        };
        gradient.iter_mut().zip(z).for_each(|(g, x)| *g += self.how.l2 * terms * x);
        if let Some(column) = self.how.fixed {
            gradient[column] = 0.0;
        }
    }

    /// The summed rows times their slopes, of negatives that positives share: one positive at a time.
    fn add_shared(&mut self, z: &[f32], norm: f32, gradient: &mut [f32]) {
        score(&self.rows, z, norm, &mut self.scores);
        let groups = self.groups();
        let (positives, negatives) = self.scores.split_at(self.positives);
        let (of_positives, of_negatives) = self.slopes.split_at_mut(self.positives);
        if self.how.loss.terms() == Terms::Lists {
            for (own, with) in groups {
                let (scores, negatives) = (&positives[own.clone()], (&negatives[with.clone()], &self.weights[..]));
                let (slopes, of_negatives) = (&mut of_positives[own], &mut of_negatives[with]);
                self.loss.shared_gradient(scores, negatives, slopes, of_negatives, &mut self.of_one);
            }
            return add_weighted(&self.rows, &self.slopes, gradient);
        }
        of_negatives.fill(0.0);
        for (p, with) in groups.flat_map(|(own, with)| own.map(move |p| (p, with.clone()))) {
            let (own, of_one) = (p..p + 1, &mut self.of_one);
            let scores = (&positives[own.clone()], &negatives[with.clone()]);
            self.loss.gradient(scores.0, scores.1, OfLists::default(), &mut of_positives[own], of_one);
            let weight = self.stands_for * self.ranks.get(p).copied().unwrap_or(1.0);
            of_positives[p] *= weight;
            of_negatives[with].iter_mut().zip(&self.of_one).for_each(|(sum, slope)| *sum += weight * slope);
        }
        add_weighted(&self.rows, &self.slopes, gradient);
    }

    /// The same where each positive has its own: block by block, for terms that know nothing of one another.
    fn add_own(&mut self, z: &[f32], norm: f32, gradient: &mut [f32]) {
        let (positives, negatives) = self.rows.split_at(self.positives * self.stride);
        let pairs = self.how.loss.terms() == Terms::Pairs;
        let none = OfLists::default();
        score(positives, z, norm, &mut self.scores);
        match pairs {
            true => self.slopes.fill(0.0),
            false => self.loss.gradient(&self.scores, &[], none, &mut self.slopes, &mut []),
        }
        let [mut scores, mut slopes, mut of_positives, mut slopes_of_positives] = [[0f32; BLOCK]; 4];
        for (block, rows) in negatives.chunks(BLOCK * self.stride).enumerate() {
            let (first, count) = (block * BLOCK, rows.len() / self.stride);
            let (scores, slopes) = (&mut scores[..count], &mut slopes[..count]);
            score(rows, z, norm, scores);
            if pairs {
                runs(first, count, self.each, |p, of| of_positives[of].fill(self.scores[p]));
                let of_pairs = &mut slopes_of_positives[..count];
                self.loss.gradient(&of_positives[..count], scores, none, of_pairs, slopes);
                runs(first, count, self.each, |p, of| {
                    self.slopes[p] += self.stands_for * of_pairs[of].iter().sum::<f32>();
                });
            } else {
                self.loss.gradient(&[], scores, none, &mut [], slopes);
            }
            slopes.iter_mut().for_each(|slope| *slope *= self.stands_for);
            add_weighted(rows, slopes, gradient);
        }
        add_weighted(positives, &self.slopes, gradient);
    }
}

/// Scores of `rows` for `z` of norm `norm`.
fn score(rows: &[f32], z: &[f32], norm: f32, scores: &mut [f32]) {
    dots(rows, z, scores);
    if norm != 1.0 {
        scores.iter_mut().for_each(|score| *score /= norm);
    }
}

/// Of `count` negatives from `first` on, `each` a positive: the positive of each run, and where the run lies among them.
fn runs(first: usize, count: usize, each: usize, mut with: impl FnMut(usize, Range<usize>)) {
    let mut at = 0;
    while at < count {
        let end = count.min(at + each - (first + at) % each);
        with((first + at) / each, at..end);
        at = end;
    }
}
