//! The run log: what a training run writes about itself while it goes, a line of JSON at a time, and its reader.
//!
//! `docs/runlog.md` has every key. A line is written whole or, if the process is killed, not to its end; readers take what
//! is there up to the last whole line, also while the run goes on.

mod error;
mod machine;
mod reader;
mod record;
mod writer;

#[cfg(test)]
mod tests;

pub use error::RunLogError;
pub use machine::RunMachine;
pub(crate) use machine::resident_bytes;
pub use reader::RunLog;
pub(crate) use reader::is_being_written;
pub use record::{
    RunBest, RunDataset, RunEnd, RunEnded, RunEpoch, RunEvent, RunHappening, RunHeader, RunMoment, RunRecord, RunStage,
    RunValidation,
};
pub(crate) use writer::{RunLogWriter, now};

/// Version of the run log that this build writes, and the newest that it reads.
pub const RUN_LOG_VERSION: u32 = 1;

/// The name of the file.
pub(crate) const NAME: &str = "run.ndjson";
