//! The precision that factors are kept in while training.

use serde::{Deserialize, Serialize};

use super::kernel::bf16;
use super::stride_of;

/// How factors are kept while training. Arithmetic, optimizer state and published models are f32 whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Four bytes a factor.
    #[default]
    F32,
    /// bfloat16: two bytes a factor, the range of f32 and 8 bits of significand. Updates are rounded stochastically, so
    /// that small ones count in the mean.
    Bf16,
}

impl Precision {
    /// Its name, as in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Words of four bytes from one row of `width` factors to the next: whole cache lines.
    pub(crate) fn stride(self, width: usize) -> usize {
        match self {
            Self::F32 => stride_of(width),
            Self::Bf16 => stride_of(width.div_ceil(2)),
        }
    }

    /// Stores `factors` at the beginning of `row`, each rounded to the nearest.
    pub(crate) fn write(self, factors: &[f32], row: &mut [f32]) {
        match self {
            Self::F32 => row[..factors.len()].copy_from_slice(factors),
            Self::Bf16 => {
                for (half, factor) in bytemuck::cast_slice_mut::<f32, u16>(row).iter_mut().zip(factors) {
                    *half = bf16::nearest(*factor);
                }
            }
        }
    }

    /// The sum of the squares of `row`: not finite if a factor is not.
    pub(crate) fn square_norm(self, row: &[f32]) -> f64 {
        let mut sums = [0f64; 8];
        match self {
            Self::F32 => {
                for eight in row.as_chunks::<8>().0 {
                    sums.iter_mut().zip(eight).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
                }
            }
            Self::Bf16 => {
                for eight in bytemuck::cast_slice::<f32, u16>(row).as_chunks::<8>().0 {
                    let widened = eight.map(|half| f64::from(bf16::widen(half)));
                    sums.iter_mut().zip(widened).for_each(|(sum, x)| *sum += x * x);
                }
            }
        }
        sums.iter().sum()
    }

    /// Reads the first factors of `row`.
    pub(crate) fn read(self, row: &[f32], factors: &mut [f32]) {
        match self {
            Self::F32 => factors.copy_from_slice(&row[..factors.len()]),
            Self::Bf16 => {
                for (factor, half) in factors.iter_mut().zip(bytemuck::cast_slice::<f32, u16>(row)) {
                    *factor = bf16::widen(*half);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_read_as_written(factors in proptest::collection::vec(-9f32..9.0, 1..100)) {
            for (precision, error) in [(Precision::F32, 0.0), (Precision::Bf16, 1.0 / 256.0)] {
                let mut row = vec![0f32; precision.stride(factors.len())];
                prop_assert!(row.len() % 16 == 0);
                let mut read = factors.clone();
                precision.write(&factors, &mut row);
                precision.read(&row, &mut read);
                let square: f64 = read.iter().map(|x| f64::from(*x).powi(2)).sum();
                prop_assert!((precision.square_norm(&row) - square).abs() <= 1e-9 * square);
                for (got, want) in read.iter().zip(&factors) {
                    prop_assert!((got - want).abs() <= want.abs() * error, "{got} {want}");
                }
                for wrong in [f32::NAN, f32::NEG_INFINITY] {
                    precision.write(&[&factors[1..], &[wrong]].concat(), &mut row);
                    prop_assert!(!precision.square_norm(&row).is_finite());
                }
            }
        }
    }
}
