//! How alike two models are: whether items keep their neighbours, and users their recommendations.

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_xoshiro::Xoshiro256PlusPlus;
use rayon::prelude::*;
use serde::Serialize;

use crate::context::Context;
use crate::model::{Factors, Model, ModelError, Rows, dot_products};

/// Rows whose scores a thread finds at a time.
const AT_ONCE: usize = 8;

/// How models are compared.
#[derive(Clone, Copy, Debug)]
pub struct LikenessOptions {
    /// Neighbours of an item, and items for a user.
    pub k: usize,
    /// Items and users that are looked at, at most: a random sample.
    pub sample: usize,
    /// Seed of the sample.
    pub seed: u64,
}

impl Default for LikenessOptions {
    fn default() -> Self {
        Self { k: 20, sample: 1000, seed: 42 }
    }
}

/// How alike two models are: both shares are 1 for a model and itself, and k / items for two that have nothing in common.
#[derive(Clone, Debug, Serialize)]
pub struct Likeness {
    /// Neighbours, and items for a user.
    pub k: usize,
    /// Items that both models have, and users.
    pub items: usize,
    /// Users that both models have.
    pub users: usize,
    /// Items and users that were looked at.
    pub sampled: [usize; 2],
    /// Neighbourhood preservation: the mean share of an item's k nearest items, by cosine of the factors, in one model that
    /// are among those in the other.
    pub neighbours: f64,
    /// Top-K overlap: the mean share of a user's k best items, by score and of the whole catalogue, that are among those of
    /// the other model.
    pub top: f64,
}

/// Compares two models with the same items and users in the same rows, as versions of a model have; where one has more, in
/// those that both have.
///
/// Time: O(sample × items × dimensions).
///
/// # Errors
/// If their items differ, or the operation was stopped.
pub fn likeness(a: &Model, b: &Model, options: LikenessOptions, ctx: &Context) -> Result<Likeness, ModelError> {
    let items = a.items().rows().min(b.items().rows());
    let users = a.users().rows().min(b.users().rows());
    let same = (0..items as u32).all(|item| a.item_ids().id(item) == b.item_ids().id(item));
    if !same {
        return Err(ModelError::Inconsistent {
            path: b.path().to_path_buf(),
            reason: format!("its items are others than those of {}: compare models of one dataset", a.path().display()),
        });
    }
    let k = options.k.clamp(1, items.saturating_sub(1).max(1));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(options.seed);
    let mut drawn = |all: usize| -> Vec<u32> {
        let mut drawn: Vec<u32> = sample(&mut rng, all, options.sample.min(all)).iter().map(|row| row as u32).collect();
        drawn.sort_unstable();
        drawn
    };
    let (some_items, some_users) = (drawn(items), drawn(users));
    let neighbours = overlap(&some_items, k, ctx, |row| [a, b].map(|model| nearest(model, row, items, k)))?;
    let top = overlap(&some_users, k, ctx, |row| {
        [a, b].map(|model| {
            let mut scores = vec![0.0; items];
            score(model.users(), model.items(), row, &mut scores);
            best(&scores, k, None)
        })
    })?;
    Ok(Likeness { k, items, users, sampled: [some_items.len(), some_users.len()], neighbours, top })
}

/// The mean share that two lists of `k` have in common.
fn overlap(
    rows: &[u32],
    k: usize,
    ctx: &Context,
    lists: impl Fn(u32) -> [Vec<u32>; 2] + Sync,
) -> Result<f64, ModelError> {
    let shared = |row: &u32| -> Result<usize, ModelError> {
        ctx.check()?;
        let [mut one, other] = lists(*row);
        one.sort_unstable();
        Ok(other.iter().filter(|item| one.binary_search(item).is_ok()).count())
    };
    let counts = rows.par_chunks(AT_ONCE).map(|rows| rows.iter().map(shared).sum::<Result<usize, _>>());
    let all: usize = counts.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
    Ok(all as f64 / (k * rows.len()).max(1) as f64)
}

/// Dot products of a row of one table with the first rows of another.
fn score(from: &Factors, to: &Factors, row: u32, out: &mut [f32]) {
    let (from, to) = (Rows::new(from.as_slice(), from.stride()), Rows::new(to.as_slice(), to.stride()));
    let all = 0..out.len() as u32;
    dot_products(from, &[row], to, all, out);
}

/// The `k` items nearest to `item` by the cosine of the factors, without itself.
fn nearest(model: &Model, item: u32, items: usize, k: usize) -> Vec<u32> {
    let (table, dimensions) = (model.items(), model.manifest().dimensions);
    let own = table.row(item as usize);
    let mut scores = vec![0.0; items];
    score(table, table, item, &mut scores);
    for (other, score) in scores.iter_mut().enumerate() {
        let row = table.row(other);
        // Biases, and the ones beside them, are no part of the embedding.
        let beside: f32 = own[dimensions..].iter().zip(&row[dimensions..]).map(|(x, y)| x * y).sum();
        let norm = row[..dimensions].iter().map(|x| x * x).sum::<f32>().sqrt();
        *score = if norm > 0.0 { (*score - beside) / norm } else { f32::NEG_INFINITY };
    }
    best(&scores, k, Some(item))
}

/// The `k` highest of `scores`, in no order; of equal ones those that come first.
fn best(scores: &[f32], k: usize, without: Option<u32>) -> Vec<u32> {
    let mut all: Vec<u32> = (0..scores.len() as u32).filter(|item| Some(*item) != without).collect();
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if k < all.len() {
        all.select_nth_unstable_by(k, order);
        all.truncate(k);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;
    use crate::dataset::Part;
    use crate::rank::fixture::{self, noise};

    #[test]
    fn a_model_is_like_itself_turned_and_unlike_another() {
        let folder = tempfile::tempdir().unwrap();
        let parts = [(Part::Train, (0..30).map(|u| vec![u % 100]).collect::<Vec<_>>())];
        let data = fixture::dataset(&folder.path().join("d"), 100, &parts);
        let ctx = Context::new(2, ByteSize(1 << 28));
        let row = |shift: usize| {
            move |i: usize, row: &mut [f32]| {
                row.iter_mut().take(4).enumerate().for_each(|(j, x)| *x = noise(i + shift, j) - 0.5);
            }
        };
        // Factors turned by a quarter: (x, y) becomes (−y, x). Scores and cosines stay.
        let turned = |shift: usize| {
            move |i: usize, out: &mut [f32]| {
                let mut old = [0.0; 4];
                row(shift)(i, &mut old);
                out[..4].copy_from_slice(&[-old[1], old[0], old[2], old[3]]);
            }
        };
        let model = |name: &str, user: &dyn Fn(usize, &mut [f32]), item: &dyn Fn(usize, &mut [f32])| {
            fixture::model(&folder.path().join(name), &data, (4, false), user, item)
        };
        let (a, b) = (model("a", &row(0), &row(500)), model("b", &turned(0), &turned(500)));
        let c = model("c", &row(9000), &row(7000));
        let options = LikenessOptions { k: 10, ..LikenessOptions::default() };
        let alike = likeness(&a, &b, options, &ctx).unwrap();
        assert_eq!((alike.items, alike.users, alike.sampled), (100, 30, [100, 30]));
        assert!(alike.neighbours > 0.99 && alike.top > 0.99, "{alike:?}");
        let unlike = likeness(&a, &c, options, &ctx).unwrap();
        assert!((0.02..0.25).contains(&unlike.neighbours) && (0.0..0.35).contains(&unlike.top), "{unlike:?}");
    }
}
