//! Products of one row with many that lie behind one another, compiled for each instruction set: reading the rows is the
//! bound.

use super::LANES;
use super::kernel::InstructionSet;

/// The dot product of two rows of whole tiles of 16.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_of(a, b, multiply_then_add)
}

/// The dot products of `row` with each of `rows`, which are as long as it, into `out`: O(rows × length).
pub(crate) fn dots(rows: &[f32], row: &[f32], out: &mut [f32]) {
    assert!(row.len().is_multiple_of(LANES) && rows.len() == row.len() * out.len());
    match InstructionSet::detect() {
        // SAFETY: the machine has the instructions.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { dots_avx512(rows, row, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { dots_avx2(rows, row, out) },
        _ => dots_of(rows, row, out, multiply_then_add),
    }
}

/// Adds each of `rows`, as long as `sum`, times its weight: O(rows × length).
pub(crate) fn add_weighted(rows: &[f32], weights: &[f32], sum: &mut [f32]) {
    assert!(sum.len().is_multiple_of(LANES) && rows.len() == sum.len() * weights.len());
    match InstructionSet::detect() {
        // SAFETY: the machine has the instructions.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { add_avx512(rows, weights, sum) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { add_avx2(rows, weights, sum) },
        _ => add_of(rows, weights, sum, multiply_then_add),
    }
}

#[inline(always)]
fn multiply_then_add(a: f32, b: f32, sum: f32) -> f32 {
    a * b + sum
}

/// Sixteen sums side by side, then those of halves.
#[inline(always)]
fn dot_of(a: &[f32], b: &[f32], add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            sums[lane] = add(a[lane], b[lane], sums[lane]);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

#[inline(always)]
fn dots_of(rows: &[f32], row: &[f32], out: &mut [f32], add: impl Fn(f32, f32, f32) -> f32 + Copy) {
    for (out, other) in out.iter_mut().zip(rows.chunks_exact(row.len().max(1))) {
        *out = dot_of(other, row, add);
    }
}

/// Four rows for each time that the sum is read and written.
#[inline(always)]
fn add_of(rows: &[f32], weights: &[f32], sum: &mut [f32], add: impl Fn(f32, f32, f32) -> f32) {
    let length = sum.len().max(1);
    let (fours, rest) = weights.as_chunks::<4>();
    let (of_fours, of_rest) = rows.split_at(fours.len() * 4 * length);
    for (weights, rows) in fours.iter().zip(of_fours.chunks_exact(4 * length)) {
        let [a, b, c, d] = std::array::from_fn(|k| rows[k * length..(k + 1) * length].as_chunks::<LANES>().0);
        for ((((sum, a), b), c), d) in sum.as_chunks_mut::<LANES>().0.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            for lane in 0..LANES {
                let two = add(weights[0], a[lane], add(weights[1], b[lane], sum[lane]));
                sum[lane] = add(weights[2], c[lane], add(weights[3], d[lane], two));
            }
        }
    }
    for (weight, row) in rest.iter().zip(of_rest.chunks_exact(length)) {
        for (sum, x) in sum.iter_mut().zip(row) {
            *sum = add(*weight, *x, *sum);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn dots_avx512(rows: &[f32], row: &[f32], out: &mut [f32]) {
    dots_of(rows, row, out, f32::mul_add);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dots_avx2(rows: &[f32], row: &[f32], out: &mut [f32]) {
    dots_of(rows, row, out, f32::mul_add);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn add_avx512(rows: &[f32], weights: &[f32], sum: &mut [f32]) {
    add_of(rows, weights, sum, f32::mul_add);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_avx2(rows: &[f32], weights: &[f32], sum: &mut [f32]) {
    add_of(rows, weights, sum, f32::mul_add);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_and_sums_are_those_of_their_numbers(count in 0usize..23, tiles in 1usize..6, seed in 0f32..9.0) {
            let length = tiles * LANES;
            let number = |i: usize| (i as f32 * 0.37 + seed).sin();
            let rows: Vec<f32> = (0..count * length).map(number).collect();
            let row: Vec<f32> = (0..length).map(|i| number(3 * i + 1)).collect();
            let exact = |r: usize| -> f64 {
                rows[r * length..][..length].iter().zip(&row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let mut got = vec![f32::NAN; count];
            dots(&rows, &row, &mut got);
            for (r, got) in got.iter().enumerate() {
                prop_assert!((f64::from(*got) - exact(r)).abs() < 1e-4, "{got} {}", exact(r));
                prop_assert!((f64::from(dot(&row, &rows[r * length..][..length])) - exact(r)).abs() < 1e-4);
            }
            let weights: Vec<f32> = (0..count).map(|i| number(7 * i + 2)).collect();
            let mut sum = row.clone();
            add_weighted(&rows, &weights, &mut sum);
            for (d, got) in sum.iter().enumerate() {
                let of = |r: usize| f64::from(weights[r]) * f64::from(rows[r * length + d]);
                let exact = f64::from(row[d]) + (0..count).map(of).sum::<f64>();
                prop_assert!((f64::from(*got) - exact).abs() < 1e-4, "{got} {exact}");
            }
        }

        #[test]
        fn every_instruction_set_agrees_with_the_portable_one(count in 1usize..9, tiles in 1usize..4, seed in 0f32..9.0) {
            let length = tiles * LANES;
            let rows: Vec<f32> = (0..count * length).map(|i| (i as f32 * 0.7 + seed).cos()).collect();
            let (row, weights) = (rows[..length].to_vec(), rows[..count].to_vec());
            let (mut expected, mut expected_sum) = (vec![0.0; count], row.clone());
            dots_of(&rows, &row, &mut expected, multiply_then_add);
            add_of(&rows, &weights, &mut expected_sum, multiply_then_add);
            for set in InstructionSet::available() {
                let (mut got, mut sum) = (vec![0.0; count], row.clone());
                match set {
                    // SAFETY: the machine has what is available.
                    #[cfg(target_arch = "x86_64")]
                    InstructionSet::Avx512 => unsafe {
                        dots_avx512(&rows, &row, &mut got);
                        add_avx512(&rows, &weights, &mut sum);
                    },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    InstructionSet::Avx2 => unsafe {
                        dots_avx2(&rows, &row, &mut got);
                        add_avx2(&rows, &weights, &mut sum);
                    },
                    _ => {
                        dots_of(&rows, &row, &mut got, multiply_then_add);
                        add_of(&rows, &weights, &mut sum, multiply_then_add);
                    }
                }
                for (a, b) in got.iter().chain(&sum).zip(expected.iter().chain(&expected_sum)) {
                    prop_assert!((a - b).abs() < 1e-4, "{set:?}: {a} {b}");
                }
            }
        }
    }
}
