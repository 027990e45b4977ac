//! What a kernel needs of an instruction set: sixteen floats at a time, and ways to memory that tolerate races.

/// Sixteen floats in registers.
///
/// # Safety
/// Every method may only be called on a machine that has the implementation's instruction set. All that load and store
/// reach memory only so that a race with another thread's access yields some mix of old and new numbers, never
/// undefined behaviour.
pub(crate) unsafe trait Lanes: Copy {
    /// Sixteen generators of the noise that rounds to bfloat16, as [`super::bf16::next`].
    type Noise: Copy;
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn noise(seeds: &[u32; 16]) -> Self::Noise;
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// As for `splat`; `row + offset` (in bytes) must be valid for reading 16 floats, aligned to 64 bytes.
    unsafe fn load(row: *const f32, offset: usize) -> Self;
    /// # Safety
    /// As for `splat`; `row + offset` (in bytes) must be valid for writing 16 floats, aligned to 64 bytes.
    unsafe fn store(self, row: *mut f32, offset: usize);
    /// # Safety
    /// As for `splat`; `row + offset` (in bytes) must be valid for reading 16 bfloat16, aligned to 32 bytes.
    unsafe fn load_half(row: *const u16, offset: usize) -> Self;
    /// Moves `noise` one step on and stores what [`super::bf16::round`] makes of it.
    /// # Safety
    /// As for `splat`; `row + offset` (in bytes) must be valid for writing 16 bfloat16, aligned to 32 bytes.
    unsafe fn store_half(self, row: *mut u16, offset: usize, noise: &mut Self::Noise);
    /// # Safety
    /// As for `splat`; `at` must be valid for reading one float.
    unsafe fn load_one(at: *const f32) -> f32;
    /// # Safety
    /// As for `splat`; `at` must be valid for writing one float.
    unsafe fn store_one(at: *mut f32, value: f32);
    /// # Safety
    /// As for `splat`; `at` must be valid for writing one bfloat16.
    unsafe fn store_one_half(at: *mut u16, bits: u16);
    /// `self × factor + addend`.
    /// # Safety
    /// As for `splat`.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self × factor`.
    /// # Safety
    /// As for `splat`.
    unsafe fn mul(self, factor: Self) -> Self;
    /// The sum of all sixteen.
    /// # Safety
    /// As for `splat`.
    unsafe fn sum(self) -> f32;
    /// The sums of all sixteen of each of four.
    /// # Safety
    /// As for `splat`.
    unsafe fn sum4(four: [Self; 4]) -> [f32; 4];
    /// Asks for the cache line at `row + offset` bytes; any address will do.
    fn prefetch(row: *const f32, offset: usize);
}
