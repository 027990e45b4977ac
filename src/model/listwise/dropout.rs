//! Dropout in blocks: rows as the scores see them, and the way of their gradients back.
//!
//! With a mask m, a row x is seen as r = m ∘ x, for cosines r = m ∘ x / |m ∘ x|. The gradient by x then is m ∘ g for the
//! gradient g by r, for cosines m ∘ (g − (g·r) r) / |m ∘ x|. Masks are kept with that norm divided out.

use super::strip::{add, dot};
use crate::model::regularization::Dropout;

/// Private rows, one behind the other, that dropout is applied to.
pub(super) struct Dropped<'a> {
    /// What columns are multiplied by, row by row.
    pub(super) masks: &'a mut [f32],
    /// Floats of a row, and how many of them are factors.
    pub(super) shape: (usize, usize),
    /// Whether rows are scaled to unit length.
    pub(super) unit: bool,
}

impl Dropped<'_> {
    /// Draws a mask for each of `rows`, and makes them what the scores see.
    pub(super) fn apply(&mut self, dropout: Dropout, seed: &mut u64, rows: &mut [f32]) {
        let (stride, factors) = self.shape;
        for (row, mask) in rows.chunks_exact_mut(stride).zip(self.masks.chunks_exact_mut(stride)) {
            dropout.draw(seed, factors, mask);
            multiply(row, mask);
            if self.unit {
                // A row that is dropped as a whole stays zero.
                let inverse = 1.0 / dot(row, row).max(1e-24).sqrt();
                scale(row, inverse);
                scale(mask, inverse);
            }
        }
    }

    /// Turns the gradients by what [`Dropped::apply`] made of `rows` into those by the rows before.
    pub(super) fn pass_back(&self, rows: &[f32], gradients: &mut [f32]) {
        let (stride, _) = self.shape;
        let each = rows.chunks_exact(stride).zip(self.masks.chunks_exact(stride));
        for ((row, mask), gradient) in each.zip(gradients.chunks_exact_mut(stride)) {
            if self.unit {
                add(row, -dot(row, gradient), gradient);
            }
            multiply(gradient, mask);
        }
    }
}

fn multiply(row: &mut [f32], mask: &[f32]) {
    for (x, m) in row.iter_mut().zip(mask) {
        *x *= m;
    }
}

fn scale(row: &mut [f32], factor: f32) {
    for x in row {
        *x *= factor;
    }
}
