//! Peccary trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.

mod context;
mod ingest;

pub use context::{ByteSize, Context, Interrupted, Live, Progress, Silent, Stage, Unit};
pub use ingest::{
    BadRow, Block, Blocks, Column, Compression, Delimiter, Format, Input, Limits, Place, ReadError, ReadOptions,
    Reason, Role, Roles, Row, RowCount, RowSink, Scratch, Source, SourceInfo, TimeUnit, open, sources,
};
