//! Training: producers stream sampled batches over bounded channels to lock-free trainers.

mod bench;
mod confidence;
mod config;
mod error;
mod lane;
mod live;
mod run;
mod suggest;

pub use bench::{TrainBench, bench_train};
pub use confidence::{ConfidenceConfig, WeightScale};
pub use config::{OptimizerConfig, OptimizerKind, Schedule, StreamConfig, TrainConfig};
pub use error::TrainError;
pub use run::{EpochReport, TrainReport, train};
