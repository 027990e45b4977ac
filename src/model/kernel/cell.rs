//! One number of a shared row as the portable kernel reaches it: a relaxed atomic, whose races the language defines.
//!
//! `tests/loom` puts a model of memory in the place of this file.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// # Safety
/// `at` must be valid for reading an aligned float, and come from something that may be written, as a reference to an
/// atomic has it; whoever else reaches it does so by atomics too.
#[inline(always)]
pub(super) unsafe fn load(at: *const f32) -> f32 {
    // SAFETY: the caller vouches for the address; AtomicU32 has the size and alignment of f32.
    f32::from_bits(unsafe { AtomicU32::from_ptr(at.cast_mut().cast()) }.load(Ordering::Relaxed))
}

/// # Safety
/// As for [`load`], and the float may be written.
#[inline(always)]
pub(super) unsafe fn store(at: *mut f32, value: f32) {
    // SAFETY: as above.
    unsafe { AtomicU32::from_ptr(at.cast()) }.store(value.to_bits(), Ordering::Relaxed);
}

/// # Safety
/// As for [`load`], for sixteen bits.
#[inline(always)]
pub(super) unsafe fn load_half(at: *const u16) -> u16 {
    // SAFETY: the caller vouches for the address; AtomicU16 has the size and alignment of u16.
    unsafe { AtomicU16::from_ptr(at.cast_mut()) }.load(Ordering::Relaxed)
}

/// # Safety
/// As for [`store`], for sixteen bits.
#[inline(always)]
pub(super) unsafe fn store_half(at: *mut u16, half: u16) {
    // SAFETY: as above.
    unsafe { AtomicU16::from_ptr(at) }.store(half, Ordering::Relaxed);
}
