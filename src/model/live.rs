//! Scores of the tables while they are trained: read without locks, as the kernels read them.

#[cfg(target_arch = "aarch64")]
use super::kernel::Neon;
#[cfg(target_arch = "x86_64")]
use super::kernel::{Avx2, Avx512};
use super::kernel::{Bf16, Element, F32, InstructionSet, Lanes, Portable};
use super::{LANES, Precision, Side, Similarity, Tables};

/// Scores of `items` for `user`, into `out`: dot products, or cosines. Rows may change meanwhile; a score is then that
/// of some mix of old and new factors.
///
/// # Panics
/// If there is no such user or item, or `out` is not as long as `items`.
pub(crate) fn scores_of(
    set: InstructionSet,
    tables: &Tables,
    similarity: Similarity,
    user: u32,
    items: &[u32],
    out: &mut [f32],
) {
    let cosine = similarity == Similarity::Cosine;
    dispatch(set, tables, (&tables.users, user), (&tables.items, items), (cosine, None), out);
}

/// Cosines of the angles between the factors of `item` and of `items`, biases left out, into `out`.
///
/// # Panics
/// As for [`scores_of`].
pub(crate) fn cosines_of(set: InstructionSet, tables: &Tables, item: u32, items: &[u32], out: &mut [f32]) {
    // Rows of items are [factors, bias, 1] where there are biases.
    let bias = tables.items.fixed().map(|one| one - 1);
    dispatch(set, tables, (&tables.items, item), (&tables.items, items), (true, bias), out);
}

/// The square of the norm of a row of `side`, one of the tables' two, biases and the constant beside them included.
///
/// # Panics
/// If there is no such row.
pub(crate) fn square_norm_of(set: InstructionSet, tables: &Tables, side: &Side, row: u32) -> f32 {
    let mut square = [0.0];
    dispatch(set, tables, (side, row), (side, &[row]), (false, None), &mut square);
    square[0]
}

/// The first factors of row `index` of `side`, into `out`. The row may change meanwhile.
///
/// # Panics
/// If there is no such row, or `out` is longer than it.
pub(crate) fn row_of(side: &Side, index: u32, out: &mut [f32]) {
    assert!(out.len() <= side.width());
    match side.precision() {
        Precision::F32 => copy::<F32>(side, index, out),
        Precision::Bf16 => copy::<Bf16>(side, index, out),
    }
}

fn copy<E: Element>(side: &Side, index: u32, out: &mut [f32]) {
    let row = side.factors.row_ptr(index as usize);
    for (k, part) in out.chunks_mut(LANES).enumerate() {
        // SAFETY: `row_ptr` checked the row, whose width the tile lies in; any machine has the instruction set.
        let tile = unsafe { tile::<Portable, E>(row, k) };
        part.copy_from_slice(&tile[..part.len()]);
    }
}

/// How products are taken: whether as cosines, and a column to leave out with the one behind it.
type How = (bool, Option<usize>);
/// Rows of a side.
type RowsOf<'a> = (&'a Side, &'a [u32]);

fn dispatch(set: InstructionSet, tables: &Tables, from: (&Side, u32), to: RowsOf<'_>, how: How, out: &mut [f32]) {
    assert_eq!(to.1.len(), out.len());
    assert!(set.is_available());
    match tables.precision() {
        Precision::F32 => with_element::<F32>(set, tables, from, to, how, out),
        Precision::Bf16 => with_element::<Bf16>(set, tables, from, to, how, out),
    }
}

fn with_element<E: Element>(
    set: InstructionSet,
    tables: &Tables,
    from: (&Side, u32),
    to: RowsOf<'_>,
    how: How,
    out: &mut [f32],
) {
    // SAFETY: `dispatch` made sure that the machine has the instruction set.
    unsafe {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512::<E>(tables, from, to, how, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2::<E>(tables, from, to, how, out),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => products::<Neon, E>(tables, from, to, how, out),
            _ => products::<Portable, E>(tables, from, to, how, out),
        }
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512<E: Element>(t: &Tables, f: (&Side, u32), to: RowsOf<'_>, how: How, out: &mut [f32]) {
    // SAFETY: passed on from the caller.
    unsafe { products::<Avx512, E>(t, f, to, how, out) }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<E: Element>(t: &Tables, f: (&Side, u32), to: RowsOf<'_>, how: How, out: &mut [f32]) {
    // SAFETY: passed on from the caller.
    unsafe { products::<Avx2, E>(t, f, to, how, out) }
}

/// Dot products of row `from` with each row `to`, or their cosines.
///
/// # Safety
/// The machine has the instruction set of `V`, and the tables hold factors as `E`.
#[inline(always)]
unsafe fn products<V: Lanes, E: Element>(
    tables: &Tables,
    (side, index): (&Side, u32),
    (others, rows): RowsOf<'_>,
    (cosine, bias): How,
    out: &mut [f32],
) {
    let tiles = tables.width.div_ceil(LANES);
    let stride = side.factors.stride();
    let from = side.factors.row_ptr(index as usize);
    for row in rows {
        let row = others.factors.row_ptr(*row as usize);
        for offset in (0..stride * 4).step_by(64) {
            V::prefetch(row, offset);
        }
    }
    // SAFETY: `row_ptr` checked every row, and they hold `tiles` tiles; the caller vouches for the instruction set.
    unsafe {
        let own = if cosine { dot::<V, E, 1>([from], from, tiles, bias)[0].max(1e-24) } else { 1.0 };
        let fours = rows.len() - rows.len() % 4;
        let mut k = 0;
        while k < fours {
            let mut four = [from.cast_const(); 4];
            for (j, row) in four.iter_mut().enumerate() {
                *row = others.factors.row_ptr(rows[k + j] as usize);
            }
            let products = dot::<V, E, 4>(four, from, tiles, bias);
            for (to, (row, product)) in out[k..k + 4].iter_mut().zip(four.into_iter().zip(products)) {
                let square = if cosine { dot::<V, E, 1>([row], row, tiles, bias)[0].max(1e-24) } else { 1.0 };
                *to = if cosine { product / (own * square).sqrt() } else { product };
            }
            k += 4;
        }
        while k < rows.len() {
            let row = others.factors.row_ptr(rows[k] as usize);
            let product = dot::<V, E, 1>([row], from, tiles, bias)[0];
            let square = if cosine { dot::<V, E, 1>([row], row, tiles, bias)[0].max(1e-24) } else { 1.0 };
            out[k] = if cosine { product / (own * square).sqrt() } else { product };
            k += 1;
        }
    }
}

/// Dot products of `N` rows with row `b`.
///
/// # Safety
/// All rows are valid for `tiles` tiles of `E`, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn dot<V: Lanes, E: Element, const N: usize>(
    rows: [*const f32; N],
    b: *const f32,
    tiles: usize,
    bias: Option<usize>,
) -> [f32; N] {
    // SAFETY: passed on from the caller; `bias` and the column behind it lie in the row.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        let mut k = 0;
        while k < tiles {
            let tile = E::load::<V>(b, k);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = E::load::<V>(row, k).mul_add(tile, *sum);
            }
            k += 1;
        }
        let mut out = [0f32; N];
        if N == 4 {
            let four = V::sum4([sums[0], sums[1 % N], sums[2 % N], sums[3 % N]]);
            for (to, sum) in out.iter_mut().zip(four) {
                *to = sum;
            }
        } else {
            for (to, sum) in out.iter_mut().zip(sums) {
                *to = sum.sum();
            }
        }
        if let Some(column) = bias {
            for (to, row) in out.iter_mut().zip(rows) {
                for at in [column, column + 1] {
                    *to -= one::<V, E>(row, at) * one::<V, E>(b, at);
                }
            }
        }
        out
    }
}

/// The factor in `column` of `row`: its whole tile is loaded, as the kernels do.
///
/// # Safety
/// The column lies in the row, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn one<V: Lanes, E: Element>(row: *const f32, column: usize) -> f32 {
    // SAFETY: passed on from the caller.
    unsafe { tile::<V, E>(row, column / LANES)[column % LANES] }
}

/// The sixteen factors of tile `k` of `row`.
///
/// # Safety
/// As for `one`.
#[inline(always)]
unsafe fn tile<V: Lanes, E: Element>(row: *const f32, k: usize) -> [f32; LANES] {
    #[repr(align(64))]
    struct Tile([f32; LANES]);
    let mut tile = Tile([0.0; LANES]);
    // SAFETY: passed on from the caller; the tile is as long as a register, and aligned.
    unsafe { E::load::<V>(row, k).store(tile.0.as_mut_ptr(), 0) };
    tile.0
}

#[cfg(test)]
mod tests {
    use super::super::Optimizer;
    use super::*;
    use proptest::prelude::*;

    fn filled(dimensions: usize, biases: bool, precision: Precision, seed: f32) -> Tables {
        let mut tables = Tables::new(2, 9, dimensions, biases, (Optimizer::Sgd, precision), [None, None]).unwrap();
        for (side, phase) in [(&mut tables.users, 0.0), (&mut tables.items, 1.0)] {
            let fixed = side.fixed();
            side.fill(|i, row| {
                for (d, x) in row.iter_mut().enumerate() {
                    *x = (seed + phase + (i * 31 + d * 7) as f32).sin();
                }
                if let Some(column) = fixed {
                    row[column] = 1.0;
                }
            });
        }
        tables
    }

    /// The rows of a side as they are kept.
    fn rows(side: &mut Side, width: usize) -> Vec<Vec<f64>> {
        let (count, rows) = (side.factors.rows(), side.rows());
        let read = |i| {
            let mut row = vec![0f32; width];
            rows.read(i, &mut row);
            row.into_iter().map(f64::from).collect()
        };
        (0..count).map(read).collect()
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_what_the_formulas_say(
            dimensions in 1usize..150, (biases, half) in any::<(bool, bool)>(), seed in 0f32..9.0,
        ) {
            let precision = if half { Precision::Bf16 } else { Precision::F32 };
            let mut tables = filled(dimensions, biases, precision, seed);
            let width = tables.width;
            let (users, items) = (rows(&mut tables.users, width), rows(&mut tables.items, width));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12);
            let wanted = [3u32, 0, 8, 3, 5, 1];
            for set in InstructionSet::available() {
                let mut out = [0f32; 6];
                for similarity in [Similarity::Dot, Similarity::Cosine] {
                    scores_of(set, &tables, similarity, 1, &wanted, &mut out);
                    for (got, i) in out.iter().zip(wanted) {
                        let (u, x) = (&users[1], &items[i as usize]);
                        let want = if similarity == Similarity::Dot { dot(u, x) } else { cosine(u, x) };
                        prop_assert!((f64::from(*got) - want).abs() < 1e-3, "{}: {got}, not {want}", set.name());
                    }
                }
                for (side, rows) in [(&tables.users, &users), (&tables.items, &items)] {
                    let mut row = vec![0f32; width];
                    row_of(side, 1, &mut row);
                    prop_assert!(row.iter().zip(&rows[1]).all(|(got, want)| f64::from(*got) == *want));
                    let (got, want) = (square_norm_of(set, &tables, side, 1), dot(&rows[1], &rows[1]));
                    prop_assert!((f64::from(got) - want).abs() < 1e-3, "{}: {got}, not {want}", set.name());
                }
                cosines_of(set, &tables, 2, &wanted, &mut out);
                for (got, i) in out.iter().zip(wanted) {
                    let want = cosine(&items[2][..dimensions], &items[i as usize][..dimensions]);
                    prop_assert!((f64::from(*got) - want).abs() < 1e-3, "{}: {got}, not {want}", set.name());
                }
            }
        }
    }
}
