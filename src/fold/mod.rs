//! Folding in: the row of a user (or of an item) learnt from the rows on the other side, which stay as they are.
//!
//! Training minimizes, over all rows, the sum of the loss's terms and λ/2 |x|² for each term that touches a row x. With
//! the other side frozen, what concerns one row z with positives P is
//!
//! F(z) = 1/|P| Σ_{p∈P} E[ℓ(s_p, s_1 … s_n)] + T λ/2 |z|²,   s_i = z·x_i, or the cosine of both
//!
//! with n negatives, drawn among what is no positive, and T terms a positive: n of pairs, n + 1 of scores, 1 of lists. The
//! expectation is taken over one sample of negatives, drawn once by a seed: F then is a plain function, convex for the
//! losses of pairs and scores on dot products, and its minimum is looked for by L-BFGS ([`descend()`]). The idea is that of
//! Rendle and
//! Schmidt-Thieme ("Online-Updating Regularized Kernel Matrix Factorization Models", RecSys 2008): a new user's row alone
//! is learnt, by the model's own objective.

mod descend;
mod objective;
#[cfg(test)]
mod tests;

use descend::descend;
use objective::Objective;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::loss::{AnyLoss, Loss, LossKind, Terms};
use crate::model::{Similarity, stride_of};
use crate::train::{TrainConfig, any_loss};

/// Negatives of all positives together, where each has its own; at least this many a positive.
const ROWS: usize = 2048;
const EACH_AT_LEAST: usize = 4;
/// Pairs of positives and negatives, where positives share negatives and each pair is a term of its own; so many negatives
/// at least and at most.
const PAIRS: usize = 1 << 14;
const SHARED: (usize, usize) = (256, 2048);
/// So many of CCL, fewer the more positives there are: with many negatives, whose hinges weigh the less, it finds worse rows.
const OF_CCL: (usize, usize) = (64, 2048);
/// Where that makes more than so many pairs, positives go into groups, each with negatives of its own: fewer a positive,
/// this many at least, and more of them altogether.
const MOST_PAIRS: usize = 1 << 15;
const GROUPED_AT_LEAST: usize = 32;
const GROUPED: usize = 1024;
/// Looks at the gradient, at most. With a hinge, what more looks find fits this sample of negatives better and new items
/// worse; with that of CCL it takes many to get anywhere.
const LOOKS: usize = 16;
const LOOKS_OF_HINGE: usize = 8;
const LOOKS_OF_CCL: usize = 48;
/// Times that WARP looks again at which rank each positive has.
const ROUNDS: usize = 2;

/// Which side's row is folded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folded {
    User,
    Item,
}

/// How rows of a model are folded in.
#[derive(Clone, Debug)]
pub(crate) struct Folding {
    loss: AnyLoss,
    /// Whether hinges are weighed by the ranks of their positives, as WARP does.
    by_rank: bool,
    cosine: bool,
    l2: f32,
    /// Negatives a positive in training.
    negatives: usize,
    allow_positives: bool,
    max_norm: Option<f32>,
    dimensions: usize,
    width: usize,
    /// The column that is always 1, with biases.
    fixed: Option<usize>,
    /// Whether a start for training will do.
    rough: bool,
}

impl Folding {
    /// As `config` trains: its loss and the numbers of it, similarity, temperature, biases, L2, largest norm and count of
    /// negatives. Negatives are uniform, whatever training proposes, and neither dropout nor confidence has a part in it.
    pub(crate) fn new(config: &TrainConfig, side: Folded) -> Self {
        let (dimensions, biases) = (config.dimensions, config.biases());
        Self {
            loss: any_loss(config),
            by_rank: config.loss.kind == LossKind::Warp,
            cosine: config.similarity() == Similarity::Cosine,
            l2: config.l2(),
            negatives: config.negatives().max(1),
            allow_positives: config.negatives.allow_positives,
            max_norm: config.regularization.max_norm,
            dimensions,
            width: dimensions + if biases { 2 } else { 0 },
            fixed: biases.then_some(match side {
                Folded::User => dimensions,
                Folded::Item => dimensions + 1,
            }),
            rough: false,
        }
    }

    /// The same with a quarter of the negatives: a row to go on training from.
    pub(crate) fn roughly(self) -> Self {
        Self { rough: true, ..self }
    }

    /// The row, `stride` floats, of who has the `positives` (ascending, without repeats) among rows `0..all` of the other
    /// side, which `row` reads: as a model publishes it, of unit length for cosines. `None` if nothing is no positive, or
    /// there is no positive. Equal seeds draw equal negatives.
    ///
    /// O((|P| + negatives) × width) for each of 16 looks at the gradient at most (8 with hinges, 48 with CCL), for 2048
    /// negatives; with PSL, hinge and WARP |P| × negatives terms are looked at besides, about 16,384 of them for up to 64
    /// positives, 32,768 for up to 1,024, and 32 a positive beyond.
    pub(crate) fn row<'a>(
        &self,
        positives: &[u32],
        all: u32,
        row: impl Fn(u32) -> &'a [f32],
        seed: u64,
    ) -> Option<Vec<f32>> {
        let count = positives.len();
        let (lists, hinge) = (self.loss.terms() == Terms::Lists, self.loss.hinge_margin().is_some());
        let shared = lists || hinge;
        let looks = match (self.loss.is_ccl(), hinge) {
            (true, _) => LOOKS_OF_CCL,
            (_, true) => LOOKS_OF_HINGE,
            _ => LOOKS,
        };
        let (rows, pairs) = if self.rough { (ROWS / 4, PAIRS / 4) } else { (ROWS, PAIRS) };
        let (drawn, each, groups) = if self.loss.is_separate() {
            let each = match self.loss.is_ccl() {
                true => (pairs / 4 / count.max(1)).clamp(OF_CCL.0, OF_CCL.1),
                false => rows,
            };
            (each, each, Some(1))
        } else if shared {
            let each = (pairs / count.max(1)).clamp(SHARED.0, SHARED.1);
            match each * count <= MOST_PAIRS {
                true => (each, each, Some(1)),
                false => {
                    let each = (MOST_PAIRS / count).clamp(GROUPED_AT_LEAST.min(each), each);
                    let groups = GROUPED / each;
                    (each * groups, each, Some(groups))
                }
            }
        } else {
            let each = (rows / count.max(1)).max(EACH_AT_LEAST);
            (each * count, each, None)
        };
        let mut negatives = self.draw(positives, all, drawn, seed)?;
        if groups.is_some_and(|groups| groups > 1) {
            // Those of a small catalogue ascend: each group is to have some of everywhere.
            negatives.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(!seed));
        }
        if count == 0 {
            return None;
        }
        let stride = stride_of(self.width);
        let mut gathered = Vec::with_capacity((count + negatives.len()) * stride);
        positives.iter().chain(&negatives).for_each(|index| gathered.extend_from_slice(&row(*index)[..stride]));
        let mut objective = Objective::new(self, gathered, (count, each, groups), u64::from(all));
        let mut z = objective.start();
        let rounds = if self.by_rank { ROUNDS } else { 1 };
        for _ in 0..rounds {
            objective.look_at_ranks(&z);
            descend(&mut z, looks / rounds, |z, g| objective.gradient(z, g));
        }
        self.finish(&mut z);
        Some(z)
    }

    /// As models have rows: of unit length for cosines, and no longer than allowed.
    fn finish(&self, z: &mut [f32]) {
        let factors = &mut z[..self.dimensions];
        let norm = factors.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        let to = match (self.cosine, self.max_norm) {
            (true, _) => 1.0,
            (false, Some(most)) if norm > most => most,
            _ => return,
        };
        factors.iter_mut().for_each(|x| *x *= to / norm);
    }

    /// So many of `0..all` that are no positives, uniformly, with repeats; all of them about as often where there are no more.
    fn draw(&self, positives: &[u32], all: u32, wanted: usize, seed: u64) -> Option<Vec<u32>> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let allowed = |index: &u32| self.allow_positives || positives.binary_search(index).is_err();
        let mut drawn = Vec::with_capacity(wanted);
        // Rejection is quick where little is refused; where much may be, what is left is listed.
        if (all as usize) > 4 * wanted.max(positives.len()) {
            while drawn.len() < wanted {
                drawn.extend(Some(rng.random_range(0..all)).filter(allowed));
            }
        } else {
            let left: Vec<u32> = (0..all).filter(allowed).collect();
            if left.is_empty() {
                return None;
            }
            match left.len() <= wanted {
                // Each as often, so that the sample is the whole as nearly as can be.
                true => drawn.extend(left.iter().cycle().take(wanted)),
                false => drawn.extend((0..wanted).map(|_| left[rng.random_range(0..left.len())])),
            }
        }
        Some(drawn)
    }
}
