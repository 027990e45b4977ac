//! Entropy regularization: predictions that are sure of themselves cost more (Pereyra et al., "Regularizing Neural
//! Networks by Penalizing Confident Output Distributions", ICLR workshop 2017): L − λH.
//!
//! A pair predicts p = σ((s⁺ − s⁻)/τ), a single score p = σ(s/τ): with x what σ is of, H = −p ln p − (1 − p) ln(1 − p) and
//! dH/dx = −p(1 − p)x. A list predicts which of its negatives is hard, p the softmax over them: with eⱼ = e^zⱼ,
//! E = Σ e and G = Σ eⱼ ln eⱼ, H = ln E − G/E and ∂H/∂zⱼ = −pⱼ(ln eⱼ − G/E).

use super::listwise::Outcome;
use super::math::{exp, ln};

/// λ and the temperature that scores are divided by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entropy {
    /// λ.
    pub(crate) weight: f32,
    pub(crate) inverse_temperature: f32,
}

/// How the slopes of a list change: eⱼ becomes eⱼ(1 + factor × (ln eⱼ − mean)).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    factor: f32,
    mean: f32,
}

impl Entropy {
    /// −λH of what has the score x τ, and its derivative by the score.
    #[inline(always)]
    fn at(self, score: f32) -> (f32, f32) {
        let x = score * self.inverse_temperature;
        let tail = ln(1.0 + exp(-x.abs()));
        let (ln_p, ln_q) = (x.min(0.0) - tail, (-x).min(0.0) - tail);
        let (p, q) = (exp(ln_p), exp(ln_q));
        (self.weight * (p * ln_p + q * ln_q), self.weight * self.inverse_temperature * p * q * x)
    }

    /// Adds the gradient of every score.
    #[inline(always)]
    pub(super) fn add_to_scores(self, scores: &[f32], gradient: &mut [f32]) {
        for (s, g) in scores.iter().zip(gradient) {
            *g += self.at(*s).1;
        }
    }

    /// Adds the gradient of every pair.
    #[inline(always)]
    pub(super) fn add_to_pairs(self, positives: &[f32], negatives: &[f32], pg: &mut [f32], ng: &mut [f32]) {
        let each = negatives.len() / positives.len().max(1);
        for (k, (p, pg)) in positives.iter().zip(pg).enumerate() {
            let mut sum = 0.0;
            for j in k * each..(k + 1) * each {
                let g = self.at(p - negatives[j]).1;
                ng[j] -= g;
                sum += g;
            }
            *pg += sum;
        }
    }

    /// Its part of the loss of scores.
    pub(super) fn of_scores(self, scores: &[f32]) -> f32 {
        scores.iter().map(|s| self.at(*s).0).sum()
    }

    /// Its part of the loss of pairs.
    pub(super) fn of_pairs(self, positives: &[f32], negatives: &[f32]) -> f32 {
        let each = (negatives.len() / positives.len().max(1)).max(1);
        negatives.iter().enumerate().map(|(j, n)| self.at(positives[j / each] - n).0).sum()
    }

    /// A term's part of the sum G, given the term e.
    #[inline(always)]
    pub(crate) fn log_term(term: f32) -> f32 {
        term * ln(term)
    }

    /// Adds its part to the loss of a list with terms of the sum E and G; returns how slopes change.
    #[inline(always)]
    pub(crate) fn spread(self, terms: f32, log_terms: f32, outcome: &mut Outcome) -> Spread {
        let mean = log_terms / terms;
        outcome.loss -= self.weight * (ln(terms) - mean);
        Spread { factor: self.weight * self.inverse_temperature / (terms * outcome.scale), mean }
    }
}

impl Spread {
    /// The slope of the term e.
    #[inline(always)]
    pub(crate) fn slope(self, term: f32) -> f32 {
        term * (1.0 + self.factor * (ln(term) - self.mean))
    }
}
