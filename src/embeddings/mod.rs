//! The health of a model's embeddings: their norms, how many directions they use, how evenly they are spread; and how alike
//! those of two models are. Definitions: `docs/embeddings.md`.

mod likeness;
mod spectrum;

pub use likeness::{Likeness, LikenessOptions, likeness};

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Serialize;

use crate::context::Context;
use crate::dataset::{Dataset, Part};
use crate::model::{Factors, Model, ModelError};
use spectrum::{Gram, effective_rank};

/// Rows that are looked at, at most; and pairs of them.
const ROWS: usize = 100_000;
const PAIRS: usize = 100_000;
/// Seed of the pairs.
const SEED: u64 = 42;

/// How a model's embeddings are.
#[derive(Clone, Debug, Serialize)]
pub struct EmbeddingHealth {
    /// Those of users.
    pub users: SideHealth,
    /// Those of items.
    pub items: SideHealth,
    /// Mean of |û − î|², û and î being a user's row and that of an item that the user took, at unit length: 0 at best, 2
    /// where they have nothing to do with each other. Of users drawn at random, and one of their train interactions each;
    /// none without a dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alignment: Option<f64>,
}

/// How one table is: its factors, without biases.
#[derive(Clone, Debug, Serialize)]
pub struct SideHealth {
    /// Rows of the table.
    pub rows: usize,
    /// Rows that were looked at, evenly spaced.
    pub sampled: usize,
    /// Factors of a row.
    pub dimensions: usize,
    /// RowNorms of the rows.
    pub norms: RowNorms,
    /// Rows shorter than 1e-9: of users and items that were never trained, or regularized away.
    pub zero_rows: usize,
    /// e to the entropy of the singular values as shares of their sum: from 1 (all rows on a line) to `dimensions`.
    pub effective_rank: f64,
    /// ln of the mean of e^(−2 |x̂ − ŷ|²) over random pairs of rows at unit length: 0 where all are the same, near −4 where
    /// they are spread over a sphere of many dimensions. None with fewer than two rows.
    pub uniformity: Option<f64>,
}

/// A distribution of norms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct RowNorms {
    pub mean: f64,
    pub deviation: f64,
    pub min: f64,
    pub p25: f64,
    pub median: f64,
    pub p75: f64,
    pub p99: f64,
    pub max: f64,
}

/// Looks at the embeddings of `model`; alignment is measured on the train part of `dataset`, if there is one.
///
/// Time: O(rows × dimensions²), of 100,000 rows of each table at most.
///
/// # Errors
/// If the model was not trained on `dataset`, or the operation was stopped.
pub fn embedding_health(
    model: &Model,
    dataset: Option<&Dataset>,
    ctx: &Context,
) -> Result<EmbeddingHealth, ModelError> {
    let dimensions = model.manifest().dimensions;
    if let Some(dataset) = dataset {
        model.check_dataset(dataset)?;
    }
    Ok(EmbeddingHealth {
        users: side(model.users(), dimensions, ctx)?,
        items: side(model.items(), dimensions, ctx)?,
        alignment: dataset.and_then(|dataset| alignment(model, dataset, dimensions)),
    })
}

fn side(table: &Factors, dimensions: usize, ctx: &Context) -> Result<SideHealth, ModelError> {
    let sampled = table.rows().min(ROWS);
    // Evenly spaced: rows may be in the order of popularity, or of time.
    let row = |k: usize| &table.row((k as u128 * table.rows() as u128 / sampled.max(1) as u128) as usize)[..dimensions];
    let mut gram = Gram::new(dimensions);
    let mut norms = Vec::with_capacity(sampled);
    for k in 0..sampled {
        if k % 1024 == 0 {
            ctx.check()?;
        }
        gram.add(row(k));
        norms.push(norm(row(k)));
    }
    let zero_rows = norms.iter().filter(|norm| **norm < 1e-9).count();
    let long: Vec<usize> = (0..sampled).filter(|k| norms[*k] >= 1e-9).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut spread = || {
        let (a, b) = (rng.random_range(0..long.len()), rng.random_range(0..long.len() - 1));
        // Of two different rows.
        let (a, b) = (long[a], long[if b >= a { b + 1 } else { b }]);
        (-2.0 * distance(row(a), row(b))).exp()
    };
    let uniformity = (long.len() > 1).then(|| ((0..PAIRS).map(|_| spread()).sum::<f64>() / PAIRS as f64).ln());
    ctx.check()?;
    Ok(SideHealth {
        rows: table.rows(),
        sampled,
        dimensions,
        zero_rows,
        effective_rank: effective_rank(&gram.eigenvalues()),
        uniformity,
        norms: distribution(norms),
    })
}

fn alignment(model: &Model, dataset: &Dataset, dimensions: usize) -> Option<f64> {
    let train = dataset.part(Part::Train)?;
    // The dataset may have grown since.
    let (users, known_items) = (model.manifest().users, model.manifest().items);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let (mut sum, mut count) = (0.0, 0u32);
    for _ in 0..PAIRS {
        let user = rng.random_range(0..users.max(1));
        let items = train.user(user).items;
        if items.is_empty() {
            continue;
        }
        let item = items[rng.random_range(0..items.len())].to_native();
        if item >= known_items {
            continue;
        }
        let (u, i) = (&model.users().row(user as usize)[..dimensions], &model.items().row(item as usize)[..dimensions]);
        if norm(u) >= 1e-9 && norm(i) >= 1e-9 {
            (sum, count) = (sum + distance(u, i), count + 1);
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt()
}

/// |x̂ − ŷ|² = 2 − 2 cos(x, y), for rows that are not zero.
fn distance(x: &[f32], y: &[f32]) -> f64 {
    let dot: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    (2.0 - 2.0 * dot / (norm(x) * norm(y))).max(0.0)
}

fn distribution(mut norms: Vec<f64>) -> RowNorms {
    norms.sort_unstable_by(f64::total_cmp);
    let n = norms.len();
    if n == 0 {
        return RowNorms::default();
    }
    let mean = norms.iter().sum::<f64>() / n as f64;
    let variance = norms.iter().map(|norm| (norm - mean).powi(2)).sum::<f64>() / n as f64;
    let at = |share: f64| norms[((n - 1) as f64 * share).round() as usize];
    RowNorms {
        mean,
        deviation: variance.sqrt(),
        min: norms[0],
        p25: at(0.25),
        median: at(0.5),
        p75: at(0.75),
        p99: at(0.99),
        max: norms[n - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;
    use crate::rank::fixture;

    #[test]
    fn rows_on_axes_are_healthy_and_rows_on_a_line_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let parts = [(Part::Train, (0..8).map(|u| vec![u % 8]).collect::<Vec<_>>())];
        let data = fixture::dataset(&folder.path().join("d"), 8, &parts);
        let ctx = Context::new(1, ByteSize(1 << 28));
        // Users on four axes, twice as long each; items on a line, one of them zero, and biases that must not count.
        let user = |i: usize, row: &mut [f32]| {
            row.fill(0.0);
            row[i % 4] = 2.0;
            row[4..].copy_from_slice(&[1.0, 50.0]);
        };
        let item = |i: usize, row: &mut [f32]| {
            row.fill(0.0);
            row[0] = i as f32;
            row[4..].copy_from_slice(&[70.0, 1.0]);
        };
        let model = fixture::model(&folder.path().join("m"), &data, (4, true), user, item);
        let health = embedding_health(&model, Some(&data), &ctx).unwrap();
        assert!((health.users.effective_rank - 4.0).abs() < 1e-9);
        assert!((health.items.effective_rank - 1.0).abs() < 1e-9);
        assert_eq!((health.users.norms.mean, health.users.norms.max, health.users.zero_rows), (2.0, 2.0, 0));
        assert_eq!((health.items.norms.median, health.items.zero_rows, health.items.rows), (4.0, 1, 8));
        // All items point the same way. Of two users one in seven is on the same axis, others at a right angle: |x̂ − ŷ|² = 2.
        assert!(health.items.uniformity.unwrap().abs() < 1e-9);
        let expected = (1.0 / 7.0 + 6.0 / 7.0 * (-4f64).exp()).ln();
        assert!((health.users.uniformity.unwrap() - expected).abs() < 0.05, "{:?}", health.users.uniformity);
        // Items 1 to 7 are on the first axis: users 4 is there too, the others at right angles. User 0 took item 0, which is zero.
        assert!((health.alignment.unwrap() - 2.0 * 6.0 / 7.0).abs() < 0.02, "{:?}", health.alignment);
        assert!(embedding_health(&model, None, &ctx).unwrap().alignment.is_none());
    }
}
