//! Any machine: each float of a shared row is a relaxed atomic, so that races are defined behaviour even for Miri.

use super::{Lanes, bf16, cell};

/// Sixteen floats, one by one.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 16]);

// SAFETY: needs no instruction set; memory is reached through relaxed atomics only.
unsafe impl Lanes for Portable {
    type Noise = [u32; 16];

    #[inline(always)]
    unsafe fn noise(seeds: &[u32; 16]) -> Self::Noise {
        *seeds
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    unsafe fn load(row: *const f32, offset: usize) -> Self {
        // SAFETY: the caller vouches for 16 floats from `row + offset`.
        Self(std::array::from_fn(|i| unsafe { cell::load(row.byte_add(offset).add(i)) }))
    }

    #[inline(always)]
    unsafe fn store(self, row: *mut f32, offset: usize) {
        for (i, value) in self.0.into_iter().enumerate() {
            // SAFETY: the caller vouches for 16 floats from `row + offset`.
            unsafe { cell::store(row.byte_add(offset).add(i), value) }
        }
    }

    #[inline(always)]
    unsafe fn load_half(row: *const u16, offset: usize) -> Self {
        // SAFETY: the caller vouches for 16 halves from `row + offset`.
        Self(std::array::from_fn(|i| bf16::widen(unsafe { cell::load_half(row.byte_add(offset).add(i)) })))
    }

    #[inline(always)]
    unsafe fn store_half(self, row: *mut u16, offset: usize, noise: &mut Self::Noise) {
        for (i, (value, state)) in self.0.into_iter().zip(noise).enumerate() {
            *state = bf16::next(*state);
            let half = bf16::round(value, (*state >> 16) as u16);
            // SAFETY: the caller vouches for 16 halves from `row + offset`.
            unsafe { cell::store_half(row.byte_add(offset).add(i), half) }
        }
    }

    #[inline(always)]
    unsafe fn load_one(at: *const f32) -> f32 {
        // SAFETY: the caller vouches for `at`.
        unsafe { cell::load(at) }
    }

    #[inline(always)]
    unsafe fn store_one(at: *mut f32, value: f32) {
        // SAFETY: the caller vouches for `at`.
        unsafe { cell::store(at, value) }
    }

    #[inline(always)]
    unsafe fn store_one_half(at: *mut u16, bits: u16) {
        // SAFETY: the caller vouches for `at`.
        unsafe { cell::store_half(at, bits) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(factor.0[i], addend.0[i])))
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i]))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }

    #[inline(always)]
    unsafe fn sum4(four: [Self; 4]) -> [f32; 4] {
        // SAFETY: passed on from the caller.
        four.map(|lanes| unsafe { lanes.sum() })
    }

    #[inline(always)]
    fn prefetch(_: *const f32, _: usize) {}
}
