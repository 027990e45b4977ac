//! Training: producers stream sampled batches over bounded channels to lock-free trainers.

mod bench;
mod config;
mod error;
mod grid;
mod lane;
mod paging;
mod plan;
mod run;
mod strata;

pub use bench::{TrainBench, bench_train};
pub use config::{NegativesConfig, OptimizerConfig, OptimizerKind, Proposal, Schedule, StreamConfig, TrainConfig};
pub use error::TrainError;
pub use plan::{TablePlace, TrainCounts, TrainPlan, plan_train};
pub use run::{EpochReport, TrainReport, train};
