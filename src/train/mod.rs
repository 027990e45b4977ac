//! Training: producers stream sampled batches over bounded channels to lock-free trainers.

mod bench;
mod config;
mod error;
mod lane;
mod listwise;
mod run;

pub use bench::{TrainBench, bench_train};
pub use config::{NegativesConfig, OptimizerConfig, OptimizerKind, Proposal, Schedule, StreamConfig, TrainConfig};
pub use error::TrainError;
pub use listwise::{ListwiseBench, bench_listwise};
pub use run::{EpochReport, TrainReport, train};
