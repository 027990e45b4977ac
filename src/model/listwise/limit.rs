//! The machine's single-precision matrix speed: a large square product by the same kernels, its second factor packed.

use super::kernels::{Kernels, KernelsPortable};
#[cfg(target_arch = "x86_64")]
use super::kernels::{Kernels256, Kernels512};
use super::product::Strided;
use super::workspace::{Buffer, STRIP};
use crate::model::kernel::InstructionSet;

/// Rows and columns of the product: three matrices of 2.25 MiB.
const SIZE: usize = 768;

/// Two square matrices and room for their product.
pub(crate) struct SquareProduct {
    a: Buffer,
    b: Buffer,
    c: Buffer,
}

impl SquareProduct {
    /// Filled with numbers that are neither zero nor denormal.
    pub(crate) fn new() -> Self {
        let mut product =
            Self { a: Buffer::new(SIZE * SIZE), b: Buffer::new(SIZE * SIZE), c: Buffer::new(SIZE * SIZE) };
        for matrix in [&mut product.a, &mut product.b] {
            matrix.iter_mut().enumerate().for_each(|(i, x)| *x = 0.5 + (i % 7) as f32 * 0.125);
        }
        product
    }

    /// Multiplies once with the kernels of `set`, which the machine must have; returns the floating-point operations.
    pub(crate) fn run(&mut self, set: InstructionSet) -> f64 {
        assert!(set.is_available());
        // SAFETY: the machine has the instruction set.
        unsafe {
            match set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => self.multiply::<Kernels512>(),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => self.multiply::<Kernels256>(),
                _ => self.multiply::<KernelsPortable>(),
            }
        }
        2.0 * (SIZE as f64).powi(3)
    }

    /// B lies in panels of 64 columns, so that a panel's rows are neighbours.
    ///
    /// # Safety
    /// The machine has the instruction set of `K`.
    unsafe fn multiply<K: Kernels>(&mut self) {
        for panel in 0..SIZE / STRIP {
            // SAFETY: every panel lies within its matrix.
            unsafe {
                let a = Strided { at: self.a.as_ptr(), row: SIZE, column: 1 };
                let b = (self.b.as_ptr().add(panel * SIZE * STRIP), STRIP);
                let c = (self.c.as_mut_ptr().add(panel * SIZE * STRIP), STRIP);
                K::product(false, (SIZE, SIZE, STRIP / 16), a, b, c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_product_is_one() {
        let mut product = SquareProduct::new();
        for set in InstructionSet::available() {
            assert_eq!(product.run(set), 2.0 * 768f64.powi(3));
            for (row, column) in [(0, 0), (5, 63), (767, 700), (123, 456)] {
                let (panel, within) = (column / STRIP * SIZE * STRIP, column % STRIP);
                let of = |k: usize| product.a[row * SIZE + k] * product.b[panel + k * STRIP + within];
                let expected: f32 = (0..SIZE).map(of).sum();
                let found = product.c[panel + row * STRIP + within];
                assert!((found - expected).abs() < 1e-3 * expected, "{}: {found} {expected}", set.name());
            }
        }
    }
}
