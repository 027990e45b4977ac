//! From logs to a dataset, within a memory budget: scatter by hash to disk, sort partition by partition, write in order.
//!
//! `docs/ingest.md` describes the way of a row and the bounds on memory and temporary space.

mod append;
mod bench;
mod budget;
mod contexts;
mod distinct;
mod error;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod histogram;
mod ids;
mod items;
mod journal;
mod kcore;
mod merge;
mod options;
mod partial;
mod pipeline;
mod plan;
mod read;
mod read_state;
mod reading;
mod record;
mod rejects;
mod scatter;
mod sorting;
mod spill;
mod split;
mod summary;
mod survey;
mod users;

pub use append::{AppendSummary, append_ingest, append_options};
pub use bench::{IngestBench, bench_ingest};
pub use error::IngestError;
pub use options::{IngestOptions, IngestRun, Inputs, Leftover, OnError};
pub use pipeline::ingest;
pub use plan::{IngestPlan, plan_ingest};
pub use read::{Column, Compression, Delimiter, Format, Input, ReadError, ReadOptions, Role, TimeUnit};
pub(crate) use read::{Limits, Table};
pub use split::Split;
pub use summary::{IngestCounts, IngestSummary, Thresholds};
pub use survey::{Survey, survey};

#[cfg(test)]
mod tests;
