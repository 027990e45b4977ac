//! Scores of a block of users for a run of items: small matrix products, SIMD by run-time detection.

use super::LANES;
use super::kernel::InstructionSet;

/// Items a panel: the columns that a kernel works on at once, two AVX-512 registers.
const PANEL: usize = 32;

/// Rows of factors, borrowed: `stride` floats a row, zero behind the columns that mean something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// The rows in `values`, whose length is a multiple of `stride`, itself a multiple of 16.
    pub(crate) fn new(values: &'a [f32], stride: usize) -> Self {
        assert!(stride > 0 && stride.is_multiple_of(LANES) && values.len().is_multiple_of(stride));
        Self { values, stride }
    }

    fn row(&self, index: u32) -> &'a [f32] {
        &self.values[index as usize * self.stride..][..self.stride]
    }
}

/// Dot products of `user_ids` × `item_ids`, into the row-major `out`.
///
/// A product is one sequence of multiply-adds in the order of the columns, so that a pair's score has the same bits
/// whatever block it is computed in. O(users × items × stride), and one panel of `32 × stride` floats of memory.
pub(crate) fn dot_products(
    users: Rows<'_>,
    user_ids: &[u32],
    items: Rows<'_>,
    item_ids: impl Iterator<Item = u32>,
    out: &mut [f32],
) {
    assert_eq!(users.stride, items.stride);
    if user_ids.is_empty() {
        return;
    }
    let columns = out.len() / user_ids.len();
    let set = InstructionSet::detect();
    let mut panel = vec![[0.0f32; PANEL]; items.stride];
    let mut item_ids = item_ids.take(columns);
    for start in (0..columns).step_by(PANEL) {
        let width = PANEL.min(columns - start);
        for (w, item) in item_ids.by_ref().take(width).enumerate() {
            for (column, value) in panel.iter_mut().zip(items.row(item)) {
                column[w] = *value;
            }
        }
        let mut done = 0;
        while done < user_ids.len() {
            let group = (user_ids.len() - done).min(GROUP);
            // A group that is not full repeats its last user: one kernel, and no remainder that sums otherwise.
            let rows: [&[f32]; GROUP] = std::array::from_fn(|u| users.row(user_ids[done + u.min(group - 1)]));
            // SAFETY: the machine has what was detected.
            let scores = unsafe { panel_by(set, &rows, &panel) };
            for (u, scores) in scores.iter().enumerate().take(group) {
                let at = (done + u) * columns + start;
                out[at..at + width].copy_from_slice(&scores[..width]);
            }
            done += group;
        }
    }
}

/// Users a call of the panel kernel: with two registers of items each, 24 of the 32 registers of AVX-512 accumulate.
const GROUP: usize = 12;

/// Scores of a group of users for the items of a panel.
///
/// # Safety
/// The machine has the instructions of `set`.
unsafe fn panel_by(set: InstructionSet, rows: &[&[f32]; GROUP], panel: &[[f32; PANEL]]) -> [[f32; PANEL]; GROUP] {
    match set {
        // SAFETY: the caller vouches for the instructions.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { panel_avx512(rows, panel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { panel_avx2(rows, panel) },
        _ => panel_of::<4, 8>(rows, panel, multiply_then_add),
    }
}

/// The group's scores in blocks of `U` users × `W` items: as many sums as the instruction set has registers for.
#[inline(always)]
fn panel_of<const U: usize, const W: usize>(
    rows: &[&[f32]; GROUP],
    panel: &[[f32; PANEL]],
    add: impl Fn(f32, f32, f32) -> f32,
) -> [[f32; PANEL]; GROUP] {
    const { assert!(GROUP.is_multiple_of(U) && PANEL.is_multiple_of(W)) }
    let mut scores = [[0.0f32; PANEL]; GROUP];
    for from in (0..GROUP).step_by(U) {
        let rows: [&[f32]; U] = std::array::from_fn(|u| &rows[from + u][..panel.len()]);
        for left in (0..PANEL).step_by(W) {
            let mut sums = [[0.0f32; W]; U];
            for (k, column) in panel.iter().enumerate() {
                // By value, and without branches up to the end of the loop: it then stays in registers for all users.
                let column: [f32; W] = std::array::from_fn(|w| column[left + w]);
                for u in 0..U {
                    // SAFETY: each row was cut to the panel's length above.
                    let factor = unsafe { *rows[u].get_unchecked(k) };
                    for w in 0..W {
                        sums[u][w] = add(factor, column[w], sums[u][w]);
                    }
                }
            }
            for (scores, sums) in scores[from..from + U].iter_mut().zip(sums) {
                scores[left..left + W].copy_from_slice(&sums);
            }
        }
    }
    scores
}

#[inline(always)]
fn multiply_then_add(a: f32, b: f32, sum: f32) -> f32 {
    a * b + sum
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn panel_avx512(rows: &[&[f32]; GROUP], panel: &[[f32; PANEL]]) -> [[f32; PANEL]; GROUP] {
    panel_of::<12, 32>(rows, panel, f32::mul_add)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn panel_avx2(rows: &[&[f32]; GROUP], panel: &[[f32; PANEL]]) -> [[f32; PANEL]; GROUP] {
    panel_of::<6, 16>(rows, panel, f32::mul_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A table of `rows` rows, and the same values where the portable kernel reads them.
    fn table(rows: usize, stride: usize, width: usize, seed: u32) -> Vec<f32> {
        let value = |i: usize| {
            let x = (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_761);
            if i % stride < width { (x >> 8) as f32 / 8_388_608.0 - 1.0 } else { 0.0 }
        };
        (0..rows * stride).map(value).collect()
    }

    proptest! {
        #[test]
        fn every_score_is_the_dot_product_whatever_its_block(
            users in 1usize..if cfg!(miri) { 4 } else { 40 }, items in 1usize..if cfg!(miri) { 35 } else { 100 },
            width in 1usize..if cfg!(miri) { 20 } else { 70 }, seed: u32, split in 1usize..100,
        ) {
            let stride = super::super::stride_of(width);
            let (u, i) = (table(users, stride, width, seed), table(items, stride, width, seed ^ 77));
            let (u, i) = (Rows::new(&u, stride), Rows::new(&i, stride));
            let ids: Vec<u32> = (0..users as u32).rev().collect();
            let mut whole = vec![f32::NAN; users * items];
            dot_products(u, &ids, i, 0..items as u32, &mut whole);
            for (r, user) in ids.iter().enumerate() {
                for item in 0..items as u32 {
                    let exact: f64 = u.row(*user).iter().zip(i.row(item)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let got = whole[r * items + item as usize];
                    prop_assert!((f64::from(got) - exact).abs() < 1e-5 * width as f64, "{got} {exact}");
                    let mut alone = [0.0];
                    dot_products(u, &[*user], i, std::iter::once(item), &mut alone);
                    prop_assert_eq!(alone[0].to_bits(), got.to_bits());
                }
            }
            let split = split.min(items) as u32;
            let mut part = vec![0.0; users * split as usize];
            dot_products(u, &ids, i, 0..split, &mut part);
            for r in 0..users {
                prop_assert_eq!(&part[r * split as usize..][..split as usize], &whole[r * items..][..split as usize]);
            }
        }

        #[test]
        fn every_instruction_set_agrees_with_the_portable_one(depth in 1usize..80, seed: u32) {
            let values = table(GROUP, 80, depth, seed);
            let rows: [&[f32]; GROUP] = std::array::from_fn(|u| &values[u * 80..(u + 1) * 80]);
            let columns = table(depth, PANEL, PANEL, seed ^ 5);
            let panel: Vec<[f32; PANEL]> = columns.chunks(PANEL).map(|c| c.try_into().unwrap()).collect();
            let expected = panel_of::<1, 32>(&rows, &panel, multiply_then_add);
            for set in InstructionSet::available() {
                // SAFETY: the machine has what is available.
                let got = unsafe { panel_by(set, &rows, &panel) };
                for (a, b) in got.iter().flatten().zip(expected.iter().flatten()) {
                    prop_assert!((a - b).abs() < 1e-5 * depth as f32, "{set:?}: {a} {b}");
                }
            }
        }
    }
}
