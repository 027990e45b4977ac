//! From logs to a dataset, within a memory budget.

mod read;

pub use read::{
    BadRow, Block, Blocks, Column, Compression, Delimiter, Format, Input, Limits, Place, ReadError, ReadOptions,
    Reason, Role, Roles, Row, RowCount, RowSink, Scratch, Source, SourceInfo, TimeUnit, open, sources,
};
