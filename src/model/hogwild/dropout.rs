//! Dropout of the user's row in a group.

use super::super::kernel::{Element, F32, Lanes};
use super::super::regularization::Dropout;
use super::load_tiles;
use super::scratch::Row;

/// What the scores of a group see of the user's row, in floats whatever the precision.
#[derive(Clone, Copy)]
pub(super) struct Dropped {
    /// What columns are multiplied by.
    pub(super) mask: *const f32,
    /// The row, multiplied by it.
    row: *const f32,
}

impl Dropped {
    /// Draws a mask for the first `factors` of `user`.
    ///
    /// # Safety
    /// `user` is a row of `tiles` tiles, and the machine has the instruction set of `V`. The result is good for as long as
    /// nobody touches `mask` and `seen`.
    #[inline(always)]
    pub(super) unsafe fn new<V: Lanes, E: Element>(
        user: *const f32,
        dropout: Dropout,
        seed: &mut u64,
        (tiles, factors): (usize, usize),
        (mask, seen): (&mut Row, &mut Row),
    ) -> Self {
        dropout.draw(seed, factors, &mut mask.0[..tiles * 16]);
        // SAFETY: passed on from the caller; `mask` and `seen` are as long as the longest row.
        unsafe {
            for tile in 0..tiles {
                let kept = V::load(mask.0.as_mut_ptr(), tile * 64);
                E::load::<V>(user, tile).mul(kept).store(seen.0.as_mut_ptr(), tile * 64);
            }
        }
        Self { mask: mask.0.as_mut_ptr(), row: seen.0.as_mut_ptr() }
    }
}

/// `N` tiles of the user's row from tile `first`, as the scores see it.
///
/// # Safety
/// The tiles lie within the row, and the machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn load_user<V: Lanes, E: Element, const N: usize>(
    user: *const f32,
    dropped: Option<Dropped>,
    first: usize,
) -> [V; N] {
    // SAFETY: passed on from the caller.
    unsafe {
        match dropped {
            None => load_tiles::<V, E, N>(user, first),
            Some(dropped) => load_tiles::<V, F32, N>(dropped.row, first),
        }
    }
}
