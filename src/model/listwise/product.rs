//! Matrix products of private memory: C = A·B or C += A·B, the rows of B and C whole tiles of sixteen floats.
//!
//! A is read float by float with any two strides, so that one kernel serves A and Aᵀ without packing. An inner product
//! over more than [`DEPTH`] rows of B is cut, so that they stay in the first level of the cache.

use super::tile::Tile;

/// Rows of B that are gone through at once: 64 of 256 bytes are a third of the first level of the cache.
const DEPTH: usize = 128;
/// Rows of C that are kept in registers.
const ROWS: usize = 6;

/// Where the floats of a matrix lie: `at[row × row_stride + column × column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Strided {
    pub(super) at: *const f32,
    pub(super) row: usize,
    pub(super) column: usize,
}

/// C = A·B (or C += A·B, with `ADD`) for A of `rows` × `depth`, B of `depth` × 16 `tiles`, C of `rows` × 16 `tiles`;
/// rows of B and C are `b.1` and `c.1` floats apart.
///
/// # Safety
/// The matrices lie where they are said to, C overlaps neither A nor B, and the machine has the instruction set of `T`.
#[inline(always)]
pub(super) unsafe fn product<T: Tile, const ADD: bool>(
    (rows, depth, tiles): (usize, usize, usize),
    a: Strided,
    b: (*const f32, usize),
    c: (*mut f32, usize),
) {
    let mut from = 0;
    while from < depth {
        let to = (from + DEPTH).min(depth);
        // SAFETY: all of it lies within the matrices.
        unsafe {
            let a = Strided { at: a.at.add(from * a.column), ..a };
            let b = (b.0.add(from * b.1), b.1);
            if ADD || from > 0 {
                slice::<T, true>((rows, to - from, tiles), a, b, c);
            } else {
                slice::<T, false>((rows, to - from, tiles), a, b, c);
            }
        }
        from = to;
    }
}

/// A product of little depth.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn slice<T: Tile, const ADD: bool>(
    (rows, depth, tiles): (usize, usize, usize),
    a: Strided,
    b: (*const f32, usize),
    c: (*mut f32, usize),
) {
    let mut tile = 0;
    while tile < tiles {
        // SAFETY: the tiles lie within the rows.
        let (b, c) = unsafe { ((b.0.add(tile * 16), b.1), (c.0.add(tile * 16), c.1)) };
        // SAFETY: passed on from the caller; four tiles are taken where there are four.
        unsafe {
            if T::WIDE && tile + 4 <= tiles {
                columns::<T, 4, ADD>(rows, depth, a, b, c);
                tile += 4;
            } else {
                columns::<T, 1, ADD>(rows, depth, a, b, c);
                tile += 1;
            }
        }
    }
}

/// All rows of `N` tiles.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn columns<T: Tile, const N: usize, const ADD: bool>(
    rows: usize,
    depth: usize,
    a: Strided,
    b: (*const f32, usize),
    c: (*mut f32, usize),
) {
    let mut row = 0;
    while row < rows {
        // SAFETY: the rows lie within the matrices.
        unsafe {
            let (a, c) = (Strided { at: a.at.add(row * a.row), ..a }, (c.0.add(row * c.1), c.1));
            match rows - row {
                1 => kernel::<T, 1, N, ADD>(depth, a, b, c),
                2 => kernel::<T, 2, N, ADD>(depth, a, b, c),
                3 => kernel::<T, 3, N, ADD>(depth, a, b, c),
                4 => kernel::<T, 4, N, ADD>(depth, a, b, c),
                5 => kernel::<T, 5, N, ADD>(depth, a, b, c),
                _ => kernel::<T, ROWS, N, ADD>(depth, a, b, c),
            }
        }
        row += ROWS;
    }
}

/// `R` rows of `N` tiles, all in registers: each tile of B is loaded once, each float of A is spread over a register.
///
/// # Safety
/// As for [`product`].
#[inline(always)]
unsafe fn kernel<T: Tile, const R: usize, const N: usize, const ADD: bool>(
    depth: usize,
    a: Strided,
    b: (*const f32, usize),
    c: (*mut f32, usize),
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut sums = [[T::splat(0.0); N]; R];
        if ADD {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = T::read(c.0.add(r * c.1 + t * 16));
                }
            }
        }
        for k in 0..depth {
            let mut tiles = [T::splat(0.0); N];
            for (t, tile) in tiles.iter_mut().enumerate() {
                *tile = T::read(b.0.add(k * b.1 + t * 16));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let factor = T::splat(*a.at.add(r * a.row + k * a.column));
                for (sum, tile) in sums.iter_mut().zip(tiles) {
                    *sum = factor.mul_add(tile, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (t, sum) in sums.iter().enumerate() {
                sum.write(c.0.add(r * c.1 + t * 16));
            }
        }
    }
}
