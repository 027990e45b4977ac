//! Memory from the allocator in place of an anonymous mapping, which Miri does not have.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ops::{Deref, DerefMut};

/// Zeroed bytes, aligned as pages are. It keeps a raw pointer as a mapping does, so that Miri judges the same aliasing.
pub(super) struct MmapMut {
    base: *mut u8,
    layout: Layout,
}

impl MmapMut {
    pub(super) fn map_anon(bytes: usize) -> io::Result<Self> {
        let layout = Layout::from_size_align(bytes.max(1), 4096).map_err(io::Error::other)?;
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() { handle_alloc_error(layout) } else { Ok(Self { base, layout }) }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base
    }
}

impl Deref for MmapMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `base` is valid for as many bytes, all of them set, until this value is dropped.
        unsafe { std::slice::from_raw_parts(self.base, self.layout.size()) }
    }
}

impl DerefMut for MmapMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` rules out other references.
        unsafe { std::slice::from_raw_parts_mut(self.base, self.layout.size()) }
    }
}

impl Drop for MmapMut {
    fn drop(&mut self) {
        // SAFETY: made by `alloc_zeroed` with this layout.
        unsafe { dealloc(self.base, self.layout) }
    }
}
