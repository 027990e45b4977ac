//! Factor tables and the models made of them: on disk, and shared between trainers.
#![allow(unsafe_code)] // shared rows and SIMD kernels; each block states its argument

mod error;
mod factors;
mod manifest;
mod published;
mod verify;

pub use error::ModelError;
pub use factors::Factors;
pub use manifest::{ModelManifest, Similarity};
pub use published::Model;
pub(crate) use published::publish;

/// Version of the model format that this build writes, and the newest that it reads.
pub const MODEL_FORMAT_VERSION: u32 = 1;

/// Rows are padded to this many floats: one cache line of 64 bytes, one AVX-512 register.
pub(crate) const LANES: usize = 16;

/// Floats from one row to the next for rows of `width` floats.
pub(crate) fn stride_of(width: usize) -> usize {
    width.next_multiple_of(LANES)
}
