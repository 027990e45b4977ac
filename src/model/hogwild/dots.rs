//! Dot products of a user's row with the items' of a group.

use super::super::kernel::{Element, Lanes};
use super::dropout::{Dropped, load_user};
use super::{Group, TILES, load_tiles};

/// Dot products of the user's row, or what is seen of it, with every item's, and the squared norms if `norms`; returns |u|²,
/// or 0 without.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn dot_rows<V: Lanes, E: Element>(
    group: &Group<'_>,
    dropped: Option<Dropped>,
    tiles: usize,
    norms: bool,
    dots: &mut [f32],
    squares: &mut [f32],
) -> f32 {
    let whole = tiles - tiles % TILES;
    let mut square = 0.0;
    // SAFETY: every tile lies within the rows; the instruction set is passed on from the caller.
    unsafe {
        for tile in (0..whole).step_by(TILES) {
            square += dot_tiles::<V, E, TILES>(group, dropped, tile, norms, dots, squares);
        }
        for tile in whole..tiles {
            square += dot_tiles::<V, E, 1>(group, dropped, tile, norms, dots, squares);
        }
    }
    square
}

/// The part of `N` tiles from tile `first`: written by the first, added by the others.
///
/// # Safety
/// The tiles lie within the rows, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn dot_tiles<V: Lanes, E: Element, const N: usize>(
    group: &Group<'_>,
    dropped: Option<Dropped>,
    first: usize,
    norms: bool,
    dots: &mut [f32],
    squares: &mut [f32],
) -> f32 {
    let n = group.rows.len();
    let fours = if norms { 0 } else { n - n % 4 };
    // SAFETY: passed on from the caller.
    unsafe {
        let user = load_user::<V, E, N>(group.user, dropped, first);
        let mut i = 0;
        while i < fours {
            let mut products = [user[0]; 4];
            for (j, out) in products.iter_mut().enumerate() {
                *out = product(&load_tiles::<V, E, N>(group.rows[i + j], first), &user);
            }
            for (dot, sum) in dots[i..i + 4].iter_mut().zip(V::sum4(products)) {
                *dot = if first == 0 { sum } else { *dot + sum };
            }
            i += 4;
        }
        while i < n {
            let x = load_tiles::<V, E, N>(group.rows[i], first);
            let dot = product(&x, &user).sum();
            dots[i] = if first == 0 { dot } else { dots[i] + dot };
            if norms {
                let square = product(&x, &x).sum();
                squares[i] = if first == 0 { square } else { squares[i] + square };
            }
            i += 1;
        }
        if norms { product(&user, &user).sum() } else { 0.0 }
    }
}

/// The sum of a × b over tiles, lane by lane.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn product<V: Lanes, const N: usize>(a: &[V; N], b: &[V; N]) -> V {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut sum = a[0].mul(b[0]);
        for t in 1..N {
            sum = a[t].mul_add(b[t], sum);
        }
        sum
    }
}
