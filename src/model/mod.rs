//! Factor tables and the models made of them: on disk, and shared between trainers.
#![allow(unsafe_code)] // shared rows and SIMD kernels; each block states its argument

mod calibration;
mod error;
mod factors;
mod hogwild;
mod kernel;
mod listwise;
mod live;
mod manifest;
mod precision;
mod published;
mod regularization;
mod row;
mod rule;
mod scan;
mod scores;
mod shared;
mod verify;
mod versions;

pub(crate) use calibration::sigmoid;
pub use calibration::{Calibration, CalibrationCurve};
pub use error::ModelError;
pub use factors::Factors;
pub(crate) use hogwild::{
    Adjust, Apart, KernelLoss, LossSample, MAX_NEGATIVES, MAX_STRIDE, Optimizer, Runs, Side, SideRows, Tables, Update,
    train,
};
pub use kernel::InstructionSet;
pub(crate) use listwise::{Block, SquareProduct, Workspace, train_block};
pub(crate) use live::{cosines_of, row_of, scores_of, square_norm_of};
pub use manifest::{ModelManifest, Similarity};
pub use precision::Precision;
pub use published::Model;
pub(crate) use published::publish;
pub(crate) use regularization::{Dropout, Regularization};
pub(crate) use row::{add_weighted, dot, dots};
pub(crate) use scan::{count_above_and_equal, first_not_below};
pub(crate) use scores::{Rows, dot_products};
pub(crate) use shared::SharedTable;
pub(crate) use versions::readable;
pub use versions::{ModelVersion, VersionFacts, prune, rollback, versions};
pub(crate) use versions::{current_of, split_version, version_of_run};

/// Version of the model format that this build writes, and the newest that it reads.
pub const MODEL_FORMAT_VERSION: u32 = 1;

/// Rows are padded to this many floats: one cache line of 64 bytes, one AVX-512 register.
pub(crate) const LANES: usize = 16;

/// Floats from one row to the next for rows of `width` floats.
pub(crate) fn stride_of(width: usize) -> usize {
    width.next_multiple_of(LANES)
}
