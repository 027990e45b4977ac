//! Scores of the tables while they are trained: read without locks, as the kernels read them.

use super::Similarity;
#[cfg(target_arch = "x86_64")]
use super::kernel::{Avx2, Avx512};
use super::kernel::{InstructionSet, Lanes, Portable};
use super::{LANES, Side, Tables};

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
    dispatch(set, (&tables.users, user), (&tables.items, items), cosine, None, out);
}

/// Cosines of the angles between the factors of `item` and of `items`, biases left out, into `out`.
///
/// # Panics
/// As for [`scores_of`].
pub(crate) fn cosines_of(set: InstructionSet, tables: &Tables, item: u32, items: &[u32], out: &mut [f32]) {
    // Rows of items are [factors, bias, 1] where there are biases.
    let bias = tables.items.fixed().map(|one| one - 1);
    dispatch(set, (&tables.items, item), (&tables.items, items), true, bias, out);
}

fn dispatch(
    set: InstructionSet,
    from: (&Side, u32),
    to: (&Side, &[u32]),
    cosine: bool,
    bias: Option<usize>,
    out: &mut [f32],
) {
    assert_eq!(to.1.len(), out.len());
    assert!(set.is_available());
    // SAFETY: the machine has the instruction set.
    unsafe {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => avx512(from, to, cosine, bias, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => avx2(from, to, cosine, bias, out),
            _ => products::<Portable>(from, to, cosine, bias, out),
        }
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512(f: (&Side, u32), t: (&Side, &[u32]), cosine: bool, bias: Option<usize>, out: &mut [f32]) {
    // SAFETY: passed on from the caller.
    unsafe { products::<Avx512>(f, t, cosine, bias, out) }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(f: (&Side, u32), t: (&Side, &[u32]), cosine: bool, bias: Option<usize>, out: &mut [f32]) {
    // SAFETY: passed on from the caller.
    unsafe { products::<Avx2>(f, t, cosine, bias, out) }
}

/// Dot products of row `from` with each of the rows `to`, or their cosines; `bias` is a column to leave out, with the
/// one behind it.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn products<V: Lanes>(
    (side, index): (&Side, u32),
    (others, rows): (&Side, &[u32]),
    cosine: bool,
    bias: Option<usize>,
    out: &mut [f32],
) {
    let stride = side.factors.stride();
    let from = side.factors.row_ptr(index as usize);
    for row in rows {
        let row = others.factors.row_ptr(*row as usize);
        for offset in (0..stride * 4).step_by(64) {
            V::prefetch(row, offset);
        }
    }
    // SAFETY: `row_ptr` checked every row, all of `stride` floats; the caller vouches for the instruction set.
    unsafe {
        let own = if cosine { dot::<V, 1>([from], from, stride, bias)[0].max(1e-24) } else { 1.0 };
        let fours = rows.len() - rows.len() % 4;
        let mut k = 0;
        while k < fours {
            let mut four = [from.cast_const(); 4];
            for (j, row) in four.iter_mut().enumerate() {
                *row = others.factors.row_ptr(rows[k + j] as usize);
            }
            let products = dot::<V, 4>(four, from, stride, bias);
            for (to, (row, product)) in out[k..k + 4].iter_mut().zip(four.into_iter().zip(products)) {
                let square = if cosine { dot::<V, 1>([row], row, stride, bias)[0].max(1e-24) } else { 1.0 };
                *to = if cosine { product / (own * square).sqrt() } else { product };
            }
            k += 4;
        }
        while k < rows.len() {
            let row = others.factors.row_ptr(rows[k] as usize);
            let product = dot::<V, 1>([row], from, stride, bias)[0];
            let square = if cosine { dot::<V, 1>([row], row, stride, bias)[0].max(1e-24) } else { 1.0 };
            out[k] = if cosine { product / (own * square).sqrt() } else { product };
            k += 1;
        }
    }
}

/// Dot products of `N` rows with row `b`.
///
/// # Safety
/// All rows are valid for `stride` floats, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn dot<V: Lanes, const N: usize>(
    rows: [*const f32; N],
    b: *const f32,
    stride: usize,
    bias: Option<usize>,
) -> [f32; N] {
    // SAFETY: passed on from the caller; `bias` and the column behind it lie in the row.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        let mut offset = 0;
        while offset < stride / LANES * 64 {
            let tile = V::load(b, offset);
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum = V::load(row, offset).mul_add(tile, *sum);
            }
            offset += 64;
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
                    *to -= V::load_one(row.add(at)) * V::load_one(b.add(at));
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::Optimizer;
    use super::*;
    use proptest::prelude::*;

    fn filled(dimensions: usize, biases: bool, seed: f32) -> Tables {
        let mut tables = Tables::new(2, 9, dimensions, biases, Optimizer::Sgd).unwrap();
        let (width, stride) = (tables.width, tables.items.factors.stride());
        for (side, phase) in [(&mut tables.users, 0.0), (&mut tables.items, 1.0)] {
            let fixed = side.fixed();
            for (i, row) in side.factors.as_mut_slice().chunks_exact_mut(stride).enumerate() {
                for (d, x) in row[..width].iter_mut().enumerate() {
                    *x = (seed + phase + (i * 31 + d * 7) as f32).sin();
                }
                if let Some(column) = fixed {
                    row[column] = 1.0;
                }
            }
        }
        tables
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_what_the_formulas_say(dimensions in 1usize..150, biases: bool, seed in 0f32..9.0) {
            let mut tables = filled(dimensions, biases, seed);
            let (width, stride) = (tables.width, tables.items.factors.stride());
            let rows = |table: &[f32]| -> Vec<Vec<f64>> {
                table.chunks_exact(stride).map(|r| r[..width].iter().map(|x| f64::from(*x)).collect()).collect()
            };
            let (users, items) = (rows(tables.users.factors.as_slice()), rows(tables.items.factors.as_slice()));
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
                cosines_of(set, &tables, 2, &wanted, &mut out);
                for (got, i) in out.iter().zip(wanted) {
                    let want = cosine(&items[2][..dimensions], &items[i as usize][..dimensions]);
                    prop_assert!((f64::from(*got) - want).abs() < 1e-3, "{}: {got}, not {want}", set.name());
                }
            }
        }
    }
}
