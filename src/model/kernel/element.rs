//! How factors lie in a row: as f32, or as bfloat16, rounded stochastically when stored.

use super::{Lanes, bf16};

/// How factors are stored. Rows are addressed in words of four bytes whatever they hold; arithmetic is f32.
pub(crate) trait Element: Copy {
    /// Sixteen factors from `tile` × 16 of the row.
    ///
    /// # Safety
    /// The tile lies in the row, which is aligned to 64 bytes; the machine has the instruction set of `V`.
    unsafe fn load<V: Lanes>(row: *const f32, tile: usize) -> V;
    /// Stores sixteen factors, rounded by `noise` where they must be.
    ///
    /// # Safety
    /// As for `load`, and the row may be written.
    unsafe fn store<V: Lanes>(factors: V, row: *mut f32, tile: usize, noise: &mut V::Noise);
    /// Stores 1 in `column`.
    ///
    /// # Safety
    /// As for `store`; the column lies in the row.
    unsafe fn store_unit<V: Lanes>(row: *mut f32, column: usize);
}

/// Four bytes a factor, as computed.
#[derive(Clone, Copy)]
pub(crate) struct F32;

impl Element for F32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(row: *const f32, tile: usize) -> V {
        // SAFETY: passed on from the caller, here and below.
        unsafe { V::load(row, tile * 64) }
    }

    #[inline(always)]
    unsafe fn store<V: Lanes>(factors: V, row: *mut f32, tile: usize, _: &mut V::Noise) {
        // SAFETY: as above.
        unsafe { factors.store(row, tile * 64) }
    }

    #[inline(always)]
    unsafe fn store_unit<V: Lanes>(row: *mut f32, column: usize) {
        // SAFETY: as above.
        unsafe { V::store_one(row.add(column), 1.0) }
    }
}

/// Two bytes a factor.
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl Element for Bf16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(row: *const f32, tile: usize) -> V {
        // SAFETY: passed on from the caller, here and below.
        unsafe { V::load_half(row.cast(), tile * 32) }
    }

    #[inline(always)]
    unsafe fn store<V: Lanes>(factors: V, row: *mut f32, tile: usize, noise: &mut V::Noise) {
        // SAFETY: as above.
        unsafe { factors.store_half(row.cast(), tile * 32, noise) }
    }

    #[inline(always)]
    unsafe fn store_unit<V: Lanes>(row: *mut f32, column: usize) {
        // SAFETY: as above.
        unsafe { V::store_one_half(row.cast::<u16>().add(column), bf16::nearest(1.0)) }
    }
}
