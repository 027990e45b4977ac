//! The kernels of each instruction set, compiled for it as a whole and once: a matrix product is the same function for
//! every loss, an update the same for every loss, a strip the same for every update rule.

use super::product::{Strided, product};
use super::rows::{Step, gather, update};
use super::strip::{Strip, strip};
use super::tile::TilePortable;
#[cfg(target_arch = "x86_64")]
use super::tile::{Tile256, Tile512};
use crate::loss::Listwise;
use crate::model::hogwild::Side;
use crate::model::kernel::Portable;
#[cfg(target_arch = "x86_64")]
use crate::model::kernel::{Avx2, Avx512};
use crate::model::rule::Rule;

/// The kernels of one instruction set.
///
/// # Safety
/// Every method may only be called on a machine that has it, and passes on what the function of its name asks for.
pub(super) unsafe trait Kernels {
    /// # Safety
    /// As for [`product`].
    unsafe fn product(
        add: bool,
        shape: (usize, usize, usize),
        a: Strided,
        b: (*const f32, usize),
        c: (*mut f32, usize),
    );

    /// # Safety
    /// As for [`gather`].
    unsafe fn gather(side: &Side, rows: &[u32], out: &mut [f32]);

    /// # Safety
    /// As for [`strip`].
    unsafe fn strip<L: Listwise>(of: Strip<'_>, loss: L) -> f64;

    /// # Safety
    /// As for [`update`].
    unsafe fn update<R: Rule>(
        unit: bool,
        side: &Side,
        rows: &[u32],
        sums: (&[f32], &[f32]),
        how: (Step, R),
        buffer: &mut [f32],
    );
}

/// Compiles every kernel with the given attributes.
macro_rules! kernels {
    ($(#[$attribute:meta])* $name:ident, $lanes:ty, $tile:ty) => {
        pub(super) struct $name;

        // SAFETY: every method needs no more than the instruction set.
        unsafe impl Kernels for $name {
            unsafe fn product(
                add: bool,
                shape: (usize, usize, usize),
                a: Strided,
                b: (*const f32, usize),
                c: (*mut f32, usize),
            ) {
                $(#[$attribute])*
                #[inline(never)]
                unsafe fn compiled<const ADD: bool>(
                    shape: (usize, usize, usize),
                    a: Strided,
                    b: (*const f32, usize),
                    c: (*mut f32, usize),
                ) {
                    // SAFETY: passed on from the caller, here and below.
                    unsafe { product::<$tile, ADD>(shape, a, b, c) }
                }
                // SAFETY: as above.
                unsafe { if add { compiled::<true>(shape, a, b, c) } else { compiled::<false>(shape, a, b, c) } }
            }

            unsafe fn gather(side: &Side, rows: &[u32], out: &mut [f32]) {
                $(#[$attribute])*
                unsafe fn compiled(side: &Side, rows: &[u32], out: &mut [f32]) {
                    // SAFETY: passed on from the caller.
                    unsafe { gather::<$lanes>(side, rows, out) }
                }
                // SAFETY: as above.
                unsafe { compiled(side, rows, out) }
            }

            unsafe fn strip<L: Listwise>(of: Strip<'_>, loss: L) -> f64 {
                $(#[$attribute])*
                unsafe fn compiled<L: Listwise>(of: Strip<'_>, loss: L) -> f64 {
                    // SAFETY: passed on from the caller.
                    unsafe { strip::<$name, L>(of, loss) }
                }
                // SAFETY: as above.
                unsafe { compiled(of, loss) }
            }

            unsafe fn update<R: Rule>(
                unit: bool,
                side: &Side,
                rows: &[u32],
                sums: (&[f32], &[f32]),
                how: (Step, R),
                buffer: &mut [f32],
            ) {
                $(#[$attribute])*
                unsafe fn compiled<R: Rule, const UNIT: bool>(
                    side: &Side,
                    rows: &[u32],
                    sums: (&[f32], &[f32]),
                    how: (Step, R),
                    buffer: &mut [f32],
                ) {
                    // SAFETY: passed on from the caller, here and below.
                    unsafe { update::<$lanes, R, UNIT>(side, rows, sums, how, buffer) }
                }
                // SAFETY: as above.
                unsafe {
                    if unit {
                        compiled::<R, true>(side, rows, sums, how, buffer)
                    } else {
                        compiled::<R, false>(side, rows, sums, how, buffer)
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(
    #[target_feature(enable = "avx512f,avx2,fma")]
    Kernels512,
    Avx512,
    Tile512
);
#[cfg(target_arch = "x86_64")]
kernels!(
    #[target_feature(enable = "avx2,fma")]
    Kernels256,
    Avx2,
    Tile256
);
kernels!(KernelsPortable, Portable, TilePortable);
