//! What the process asks of its allocator, so that a memory budget means resident memory.

use std::sync::Once;

/// Buffers from this size on go back to the system when they are freed, and grow in place by remapping.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: std::ffi::c_int = 128 << 10;

/// Makes glibc give large buffers a map of their own, always; other allocators are left as they are.
///
/// By default glibc raises that bound, up to 32 MiB, whenever a larger buffer is freed. Later ones then come from the
/// heap of a thread: growing there copies, and what is freed below anything else stays resident. Whether that happens
/// depends on timing, and it was up to a third of a budget of 64 MiB.
pub(crate) fn return_large_buffers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        {
            const M_MMAP_THRESHOLD: std::ffi::c_int = -3;
            unsafe extern "C" {
                fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
            }
            // SAFETY: glibc declares `int mallopt(int, int)` and locks its own state; it may be called at any time.
            // Should it refuse, malloc works as before.
            unsafe { mallopt(M_MMAP_THRESHOLD, LARGE) };
        }
    });
}
