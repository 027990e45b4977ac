//! AVX-512 and AVX2 with FMA. Shared rows are loaded and stored in inline assembly: opaque to the compiler, which may
//! then assume nothing about races, and as fast as plain vector moves.

use std::arch::asm;
use std::arch::x86_64::*;

use super::Lanes;

#[inline(always)]
fn prefetch_line(row: *const f32, offset: usize) {
    // SAFETY: a prefetch of any address is harmless, and every x86-64 machine has the instruction.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(row.wrapping_byte_add(offset).cast()) }
}

/// # Safety
/// `at` must be valid for writing an aligned float.
#[inline(always)]
unsafe fn store_float(at: *mut f32, value: f32) {
    // SAFETY: writes the four bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("mov [{at}], {value:e}", at = in(reg) at, value = in(reg) value.to_bits(), options(nostack, preserves_flags))
    }
}

/// # Safety
/// `at` must be valid for reading an aligned float.
#[inline(always)]
unsafe fn load_float(at: *const f32) -> f32 {
    let bits: u32;
    // SAFETY: reads the four bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("mov {bits:e}, [{at}]", bits = lateout(reg) bits, at = in(reg) at, options(nostack, preserves_flags, readonly))
    }
    f32::from_bits(bits)
}

/// # Safety
/// The machine has the instruction set; the 64 bytes at `row + offset` are valid for reading.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_512(row: *const f32, offset: usize) -> __m512 {
    let value: __m512;
    // SAFETY: reads the 64 bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("vmovups {value}, [{row} + {offset}]", value = lateout(zmm_reg) value, row = in(reg) row,
            offset = in(reg) offset, options(nostack, preserves_flags, readonly));
    }
    value
}

/// # Safety
/// The machine has the instruction set; the 64 bytes at `row + offset` are valid for writing.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_512(value: __m512, row: *mut f32, offset: usize) {
    // SAFETY: writes the 64 bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("vmovups [{row} + {offset}], {value}", value = in(zmm_reg) value, row = in(reg) row,
            offset = in(reg) offset, options(nostack, preserves_flags));
    }
}

/// # Safety
/// The machine has the instruction set; the 32 bytes at `row + offset` are valid for reading.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn load_256(row: *const f32, offset: usize) -> __m256 {
    let value: __m256;
    // SAFETY: reads the 32 bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("vmovups {value}, [{row} + {offset}]", value = lateout(ymm_reg) value, row = in(reg) row,
            offset = in(reg) offset, options(nostack, preserves_flags, readonly));
    }
    value
}

/// # Safety
/// The machine has the instruction set; the 32 bytes at `row + offset` are valid for writing.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn store_256(value: __m256, row: *mut f32, offset: usize) {
    // SAFETY: writes the 32 bytes that the caller vouches for, and nothing else.
    unsafe {
        asm!("vmovups [{row} + {offset}], {value}", value = in(ymm_reg) value, row = in(reg) row,
            offset = in(reg) offset, options(nostack, preserves_flags));
    }
}

/// The sums of four registers of eight floats, by pairs of neighbours.
///
/// # Safety
/// The machine has AVX.
#[target_feature(enable = "avx")]
#[inline]
unsafe fn sums_of_eight(four: [__m256; 4]) -> [f32; 4] {
    let pairs = _mm256_hadd_ps(_mm256_hadd_ps(four[0], four[1]), _mm256_hadd_ps(four[2], four[3]));
    let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
    let mut out = [0f32; 4];
    // SAFETY: `out` holds four floats.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

/// The sum of both halves.
///
/// # Safety
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn halves_512(v: __m512) -> __m256 {
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)));
    _mm256_add_ps(_mm512_castps512_ps256(v), high)
}

/// One 512-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

// SAFETY: AVX-512F intrinsics, for machines that have it; memory is reached through assembly only.
unsafe impl Lanes for Avx512 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX-512F, here and below.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(row: *const f32, offset: usize) -> Self {
        // SAFETY: passed on from the caller.
        Self(unsafe { load_512(row, offset) })
    }

    #[inline(always)]
    unsafe fn store(self, row: *mut f32, offset: usize) {
        // SAFETY: passed on from the caller.
        unsafe { store_512(self.0, row, offset) }
    }

    #[inline(always)]
    unsafe fn load_one(at: *const f32) -> f32 {
        // SAFETY: the caller vouches for `at`.
        unsafe { load_float(at) }
    }

    #[inline(always)]
    unsafe fn store_one(at: *mut f32, value: f32) {
        // SAFETY: the caller vouches for `at`.
        unsafe { store_float(at, value) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as for `splat`.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        // SAFETY: as for `splat`.
        Self(unsafe { _mm512_mul_ps(self.0, factor.0) })
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: as for `splat`.
        unsafe { _mm512_reduce_add_ps(self.0) }
    }

    #[inline(always)]
    unsafe fn sum4(four: [Self; 4]) -> [f32; 4] {
        // SAFETY: as for `splat`.
        unsafe {
            let [a, b, c, d] = four;
            sums_of_eight([halves_512(a.0), halves_512(b.0), halves_512(c.0), halves_512(d.0)])
        }
    }

    #[inline(always)]
    fn prefetch(row: *const f32, offset: usize) {
        prefetch_line(row, offset);
    }
}

/// Two 256-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

// SAFETY: AVX2 and FMA intrinsics, for machines that have them; memory is reached through assembly only.
unsafe impl Lanes for Avx2 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and FMA, here and below.
        let half = unsafe { _mm256_set1_ps(value) };
        Self(half, half)
    }

    #[inline(always)]
    unsafe fn load(row: *const f32, offset: usize) -> Self {
        // SAFETY: passed on from the caller.
        unsafe { Self(load_256(row, offset), load_256(row, offset + 32)) }
    }

    #[inline(always)]
    unsafe fn store(self, row: *mut f32, offset: usize) {
        // SAFETY: passed on from the caller.
        unsafe {
            store_256(self.0, row, offset);
            store_256(self.1, row, offset + 32);
        }
    }

    #[inline(always)]
    unsafe fn load_one(at: *const f32) -> f32 {
        // SAFETY: the caller vouches for `at`.
        unsafe { load_float(at) }
    }

    #[inline(always)]
    unsafe fn store_one(at: *mut f32, value: f32) {
        // SAFETY: the caller vouches for `at`.
        unsafe { store_float(at, value) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as for `splat`.
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1)) }
    }

    #[inline(always)]
    unsafe fn mul(self, factor: Self) -> Self {
        // SAFETY: as for `splat`.
        unsafe { Self(_mm256_mul_ps(self.0, factor.0), _mm256_mul_ps(self.1, factor.1)) }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: as for `splat`.
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn sum4(four: [Self; 4]) -> [f32; 4] {
        // SAFETY: as for `splat`.
        unsafe {
            let [a, b, c, d] = four;
            sums_of_eight([
                _mm256_add_ps(a.0, a.1),
                _mm256_add_ps(b.0, b.1),
                _mm256_add_ps(c.0, c.1),
                _mm256_add_ps(d.0, d.1),
            ])
        }
    }

    #[inline(always)]
    fn prefetch(row: *const f32, offset: usize) {
        prefetch_line(row, offset);
    }
}
