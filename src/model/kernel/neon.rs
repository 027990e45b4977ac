//! NEON, which every AArch64 machine has. Shared rows are loaded and stored in inline assembly: opaque to the compiler,
//! which may then assume nothing about races, and as fast as plain vector moves.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Lanes, bf16};

/// # Safety
/// The 32 bytes at `at` are valid for reading.
#[inline(always)]
unsafe fn load_pair<T>(at: *const T) -> (float32x4_t, float32x4_t) {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: reads the 32 bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("ldp {low:q}, {high:q}, [{at}]", low = lateout(vreg) low, high = lateout(vreg) high, at = in(reg) at,
            options(nostack, preserves_flags, readonly));
    }
    (low, high)
}

/// # Safety
/// The 32 bytes at `at` are valid for writing.
#[inline(always)]
unsafe fn store_pair<T>(at: *mut T, low: float32x4_t, high: float32x4_t) {
    // SAFETY: writes the 32 bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("stp {low:q}, {high:q}, [{at}]", low = in(vreg) low, high = in(vreg) high, at = in(reg) at,
            options(nostack, preserves_flags));
    }
}

/// Four numbers in the upper halves of their bits: eight halves to two registers.
///
/// # Safety
/// None beyond NEON.
#[inline(always)]
unsafe fn widen(halves: float32x4_t) -> (float32x4_t, float32x4_t) {
    // SAFETY: every AArch64 machine has NEON.
    unsafe {
        let halves = vreinterpretq_u16_f32(halves);
        let low = vshll_n_u16::<16>(vget_low_u16(halves));
        let high = vshll_high_n_u16::<16>(halves);
        (vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high))
    }
}

/// [`bf16::round`] of four numbers, and the generators one step on.
///
/// # Safety
/// None beyond NEON.
#[inline(always)]
unsafe fn round(v: float32x4_t, state: &mut uint32x4_t) -> uint16x4_t {
    // SAFETY: every AArch64 machine has NEON.
    unsafe {
        *state = vmlaq_u32(vdupq_n_u32(bf16::INCREMENT), *state, vdupq_n_u32(bf16::MULTIPLIER));
        let rounded = vaddq_u32(vreinterpretq_u32_f32(v), vshrq_n_u32::<16>(*state));
        let numbers = vceqq_f32(v, v);
        vshrn_n_u32::<16>(vbslq_u32(numbers, rounded, vdupq_n_u32((bf16::NAN as u32) << 16)))
    }
}

/// Four 128-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

// SAFETY: NEON intrinsics, which every AArch64 machine has; memory is reached through assembly only.
unsafe impl Lanes for Neon {
    type Noise = [uint32x4_t; 4];

    #[inline(always)]
    unsafe fn noise(seeds: &[u32; 16]) -> Self::Noise {
        let at = seeds.as_ptr();
        // SAFETY: every AArch64 machine has NEON, here and below; `seeds` are four times 16 bytes.
        unsafe { [vld1q_u32(at), vld1q_u32(at.add(4)), vld1q_u32(at.add(8)), vld1q_u32(at.add(12))] }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
        Self([unsafe { vdupq_n_f32(value) }; 4])
    }

    #[inline(always)]
    unsafe fn load(row: *const f32, offset: usize) -> Self {
        // SAFETY: the caller vouches for 64 bytes.
        unsafe {
            let (a, b) = load_pair(row.byte_add(offset));
            let (c, d) = load_pair(row.byte_add(offset + 32));
            Self([a, b, c, d])
        }
    }

    #[inline(always)]
    unsafe fn store(self, row: *mut f32, offset: usize) {
        let [a, b, c, d] = self.0;
        // SAFETY: the caller vouches for 64 bytes.
        unsafe {
            store_pair(row.byte_add(offset), a, b);
            store_pair(row.byte_add(offset + 32), c, d);
        }
    }

    #[inline(always)]
    unsafe fn load_half(row: *const u16, offset: usize) -> Self {
        // SAFETY: the caller vouches for 32 bytes.
        unsafe {
            let (low, high) = load_pair(row.byte_add(offset));
            let ((a, b), (c, d)) = (widen(low), widen(high));
            Self([a, b, c, d])
        }
    }

    #[inline(always)]
    unsafe fn store_half(self, row: *mut u16, offset: usize, noise: &mut Self::Noise) {
        let [a, b, c, d] = self.0;
        // SAFETY: the caller vouches for 32 bytes.
        unsafe {
            let low = vcombine_u16(round(a, &mut noise[0]), round(b, &mut noise[1]));
            let high = vcombine_u16(round(c, &mut noise[2]), round(d, &mut noise[3]));
            store_pair(row.byte_add(offset), vreinterpretq_f32_u16(low), vreinterpretq_f32_u16(high));
        }
    }

    #[inline(always)]
    unsafe fn load_one(at: *const f32) -> f32 {
        let bits: u32;
        // SAFETY: reads the four bytes that the caller vouches for, and nothing else.
        unsafe {
            asm!("ldr {bits:w}, [{at}]", bits = lateout(reg) bits, at = in(reg) at,
                options(nostack, preserves_flags, readonly));
        }
        f32::from_bits(bits)
    }

    #[inline(always)]
    unsafe fn store_one(at: *mut f32, value: f32) {
        // SAFETY: writes the four bytes that the caller vouches for, and nothing else.
        unsafe {
            asm!("str {bits:w}, [{at}]", bits = in(reg) value.to_bits(), at = in(reg) at,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn store_one_half(at: *mut u16, bits: u16) {
        // SAFETY: writes the two bytes that the caller vouches for, and nothing else.
        unsafe {
            asm!("strh {bits:w}, [{at}]", bits = in(reg) bits, at = in(reg) at, options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (self.0, factor.0, addend.0);
        // SAFETY: as for `splat`.
        Self(unsafe { [vfmaq_f32(i, a, e), vfmaq_f32(j, b, f), vfmaq_f32(k, c, g), vfmaq_f32(l, d, h)] })
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, factor.0);
        // SAFETY: as for `splat`.
        Self(unsafe { [vmulq_f32(a, e), vmulq_f32(b, f), vmulq_f32(c, g), vmulq_f32(d, h)] })
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: as for `splat`.
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))) }
    }

    #[inline(always)]
    unsafe fn sum4(four: [Self; 4]) -> [f32; 4] {
        let [a, b, c, d] = four;
        // SAFETY: as for `splat`.
        unsafe { [a.sum(), b.sum(), c.sum(), d.sum()] }
    }

    #[inline(always)]
    fn prefetch(row: *const f32, offset: usize) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe {
            asm!("prfm pldl1keep, [{at}]", at = in(reg) row.wrapping_byte_add(offset),
                options(nostack, preserves_flags, readonly));
        }
    }
}
