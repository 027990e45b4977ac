//! AVX-512 and AVX2 with FMA. Shared rows are loaded and stored in inline assembly: opaque to the compiler, which may
//! then assume nothing about races, and as fast as plain vector moves.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Lanes, bf16};

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
/// `at` must be valid for writing an aligned half.
#[inline(always)]
unsafe fn store_bits(at: *mut u16, bits: u16) {
    // SAFETY: writes the two bytes that the caller vouches for, and nothing else.
    unsafe { asm!("mov [{at}], {bits:x}", at = in(reg) at, bits = in(reg) bits, options(nostack, preserves_flags)) }
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

/// Declares a load: one instruction that reads `$bytes` bytes from `row + offset` into a register.
macro_rules! load {
    ($name:ident, $feature:literal, $vector:ty, $class:ident, $instruction:literal, $bytes:literal) => {
        /// # Safety
        /// The machine has the instruction set; the bytes that the instruction reads at `row + offset` are valid for
        /// reading.
        #[doc = concat!("It reads ", $bytes, " bytes.")]
        #[target_feature(enable = $feature)]
        #[inline]
        unsafe fn $name<T>(row: *const T, offset: usize) -> $vector {
            let value: $vector;
            // SAFETY: reads the bytes that the caller vouches for, and nothing else.
            unsafe {
                asm!(concat!($instruction, " {value}, [{row} + {offset}]"), value = lateout($class) value,
                    row = in(reg) row, offset = in(reg) offset, options(nostack, preserves_flags, readonly));
            }
            value
        }
    };
}

/// Declares a store: one instruction that writes a register to `row + offset`.
macro_rules! store {
    ($name:ident, $feature:literal, $vector:ty, $class:ident) => {
        /// # Safety
        /// The machine has the instruction set; as many bytes as the register has are valid for writing at
        /// `row + offset`.
        #[target_feature(enable = $feature)]
        #[inline]
        unsafe fn $name<T>(value: $vector, row: *mut T, offset: usize) {
            // SAFETY: writes the bytes that the caller vouches for, and nothing else.
            unsafe {
                asm!("vmovups [{row} + {offset}], {value}", value = in($class) value, row = in(reg) row,
                    offset = in(reg) offset, options(nostack, preserves_flags));
            }
        }
    };
}

load!(load_512, "avx512f", __m512, zmm_reg, "vmovups", 64);
load!(load_halves_512, "avx512f", __m512i, zmm_reg, "vpmovzxwd", 32);
load!(load_256, "avx", __m256, ymm_reg, "vmovups", 32);
load!(load_halves_256, "avx2", __m256i, ymm_reg, "vpmovzxwd", 16);
store!(store_512, "avx512f", __m512, zmm_reg);
store!(store_256, "avx", __m256, ymm_reg);
store!(store_halves, "avx", __m256i, ymm_reg);

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

/// Sixteen generators, one step on.
///
/// # Safety
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn next_512(state: __m512i) -> __m512i {
    let product = _mm512_mullo_epi32(state, _mm512_set1_epi32(bf16::MULTIPLIER as i32));
    _mm512_add_epi32(product, _mm512_set1_epi32(bf16::INCREMENT as i32))
}

/// [`bf16::round`] by the noise in `state`.
///
/// # Safety
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn round_512(v: __m512, state: __m512i) -> __m256i {
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
    let rounded = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_srli_epi32::<16>(state));
    let halves = _mm512_srli_epi32::<16>(rounded);
    _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(halves, nan, _mm512_set1_epi32(bf16::NAN as i32)))
}

/// Eight generators, one step on.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn next_256(state: __m256i) -> __m256i {
    let product = _mm256_mullo_epi32(state, _mm256_set1_epi32(bf16::MULTIPLIER as i32));
    _mm256_add_epi32(product, _mm256_set1_epi32(bf16::INCREMENT as i32))
}

/// [`bf16::round`] by the noise in `state`, each in 32 bits.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn round_256(v: __m256, state: __m256i) -> __m256i {
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
    let rounded = _mm256_add_epi32(_mm256_castps_si256(v), _mm256_srli_epi32::<16>(state));
    _mm256_blendv_epi8(_mm256_srli_epi32::<16>(rounded), _mm256_set1_epi32(bf16::NAN as i32), nan)
}

/// Sixteen numbers of 16 bits from two registers of 32 bits each.
///
/// # Safety
/// The machine has AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn pack_halves(low: __m256i, high: __m256i) -> __m256i {
    // Packing works on each half of the registers: the middle quarters change places.
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high))
}

/// One 512-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

// SAFETY: AVX-512F intrinsics, for machines that have it; memory is reached through assembly only.
unsafe impl Lanes for Avx512 {
    type Noise = __m512i;

    #[inline(always)]
    unsafe fn noise(seeds: &[u32; 16]) -> Self::Noise {
        // SAFETY: the caller vouches for AVX-512F, here and below; `seeds` are 64 bytes.
        unsafe { _mm512_loadu_si512(seeds.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
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
    unsafe fn load_half(row: *const u16, offset: usize) -> Self {
        // SAFETY: passed on from the caller.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(load_halves_512(row, offset))) })
    }

    #[inline(always)]
    unsafe fn store_half(self, row: *mut u16, offset: usize, noise: &mut Self::Noise) {
        // SAFETY: passed on from the caller.
        unsafe {
            *noise = next_512(*noise);
            store_halves(round_512(self.0, *noise), row, offset);
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
    unsafe fn store_one_half(at: *mut u16, bits: u16) {
        // SAFETY: the caller vouches for `at`.
        unsafe { store_bits(at, bits) }
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
    type Noise = [__m256i; 2];

    #[inline(always)]
    unsafe fn noise(seeds: &[u32; 16]) -> Self::Noise {
        // SAFETY: the caller vouches for AVX2 and FMA, here and below; `seeds` are twice 32 bytes.
        unsafe { [_mm256_loadu_si256(seeds.as_ptr().cast()), _mm256_loadu_si256(seeds.as_ptr().add(8).cast())] }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as above.
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
    unsafe fn load_half(row: *const u16, offset: usize) -> Self {
        // SAFETY: passed on from the caller.
        unsafe {
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(load_halves_256(row, offset))),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(load_halves_256(row, offset + 16))),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_half(self, row: *mut u16, offset: usize, noise: &mut Self::Noise) {
        // SAFETY: passed on from the caller.
        unsafe {
            noise[0] = next_256(noise[0]);
            noise[1] = next_256(noise[1]);
            let halves = pack_halves(round_256(self.0, noise[0]), round_256(self.1, noise[1]));
            store_halves(halves, row, offset);
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
    unsafe fn store_one_half(at: *mut u16, bits: u16) {
        // SAFETY: the caller vouches for `at`.
        unsafe { store_bits(at, bits) }
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
