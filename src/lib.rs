//! Peccary trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.

mod context;
mod storage;

pub use context::{ByteSize, Context, Interrupted, Live, Progress, Silent, Stage, Unit};
pub use storage::StorageError;
