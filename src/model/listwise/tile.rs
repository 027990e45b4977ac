//! Sixteen floats of private memory at a time, for matrix products: one small trait, one implementation an instruction
//! set. Nothing is shared here, so that plain vector moves will do.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Sixteen floats in registers.
///
/// # Safety
/// Every method may only be called on a machine that has the implementation's instruction set.
pub(super) unsafe trait Tile: Copy {
    /// Tiles of a row that a product keeps in registers: as many as the instruction set has registers for.
    const WIDE: bool;

    /// # Safety
    /// The machine has the instruction set.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// As for `splat`; `at` must be valid for reading 16 floats.
    unsafe fn read(at: *const f32) -> Self;
    /// # Safety
    /// As for `splat`; `at` must be valid for writing 16 floats.
    unsafe fn write(self, at: *mut f32);
    /// `self × factor + addend`.
    /// # Safety
    /// As for `splat`.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
}

/// One 512-bit register.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Tile512(__m512);

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX-512F intrinsics, for machines that have it.
unsafe impl Tile for Tile512 {
    const WIDE: bool = true;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX-512F, here and below.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for 16 floats from `at`.
        Self(unsafe { _mm512_loadu_ps(at) })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for 16 floats from `at`.
        unsafe { _mm512_storeu_ps(at, self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as for `splat`.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }
}

/// Two 256-bit registers.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Tile256(__m256, __m256);

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX2 and FMA intrinsics, for machines that have them.
unsafe impl Tile for Tile256 {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller vouches for AVX2 and FMA, here and below.
        let half = unsafe { _mm256_set1_ps(value) };
        Self(half, half)
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for 16 floats from `at`.
        unsafe { Self(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))) }
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for 16 floats from `at`.
        unsafe {
            _mm256_storeu_ps(at, self.0);
            _mm256_storeu_ps(at.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as for `splat`.
        unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, addend.0), _mm256_fmadd_ps(self.1, factor.1, addend.1)) }
    }
}

/// Sixteen floats that the compiler vectorizes as it can, NEON included.
#[derive(Clone, Copy)]
pub(super) struct TilePortable([f32; 16]);

// SAFETY: needs no instruction set.
unsafe impl Tile for TilePortable {
    const WIDE: bool = false;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 16])
    }

    #[inline(always)]
    unsafe fn read(at: *const f32) -> Self {
        // SAFETY: the caller vouches for 16 floats from `at`.
        Self(unsafe { at.cast::<[f32; 16]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn write(self, at: *mut f32) {
        // SAFETY: the caller vouches for 16 floats from `at`.
        unsafe { at.cast::<[f32; 16]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut out = addend.0;
        for ((out, x), y) in out.iter_mut().zip(self.0).zip(factor.0) {
            *out += x * y;
        }
        Self(out)
    }
}
