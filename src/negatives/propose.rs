//! Proposals: the distributions that candidates are drawn from.

use std::sync::Arc;

use rand::Rng;

use super::Alias;

/// Draws candidates among the items of a block, by position.
pub(crate) trait Distribution: Send {
    /// One candidate. `block` holds the items by position.
    fn draw(&self, block: &[u32], rng: &mut impl Rng) -> u32;

    /// The relative weight of a candidate; only those with weight are ever proposed.
    fn weight(&self, item: u32) -> f64;
}

/// Every item of the block alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uniform;

impl Distribution for Uniform {
    #[inline(always)]
    fn draw(&self, block: &[u32], rng: &mut impl Rng) -> u32 {
        // Multiply-shift (Lemire 2019); without its rejection step the bias is below block / 2³².
        ((u64::from(rng.next_u32()) * block.len() as u64) >> 32) as u32
    }

    fn weight(&self, _: u32) -> f64 {
        1.0
    }
}

/// Items by popularity^α. Works on a single block, whose positions are item ids: popular rows are in cache anyway.
/// Clones share weights and table.
#[derive(Clone, Debug)]
pub(crate) struct Popularity {
    weights: Arc<[f64]>,
    alias: Alias,
}

impl Popularity {
    /// `counts` are train interactions by item; items without any are never proposed (unless α is 0).
    pub(crate) fn new(counts: impl Iterator<Item = u32>, alpha: f64) -> Self {
        let weights: Arc<[f64]> =
            counts.map(|c| if c == 0 && alpha != 0.0 { 0.0 } else { f64::from(c).powf(alpha) }).collect();
        let alias = Alias::new(&weights);
        Self { weights, alias }
    }
}

impl Distribution for Popularity {
    #[inline(always)]
    fn draw(&self, _: &[u32], rng: &mut impl Rng) -> u32 {
        let word = rng.next_u64();
        self.alias.pick((word >> 32) as u32, word as u32)
    }

    fn weight(&self, item: u32) -> f64 {
        self.weights[item as usize]
    }
}

impl<D: Distribution + Sync> Distribution for Arc<D> {
    #[inline(always)]
    fn draw(&self, block: &[u32], rng: &mut impl Rng) -> u32 {
        (**self).draw(block, rng)
    }

    fn weight(&self, item: u32) -> f64 {
        (**self).weight(item)
    }
}
