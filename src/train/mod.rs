//! Training: producers stream sampled batches over bounded channels to lock-free trainers.

mod bench;
mod bench_negatives;
mod confidence;
mod config;
mod error;
mod grid;
mod lane;
mod listwise;
mod live;
mod out_of_core;
mod paging;
mod plan;
mod rehearse;
mod run;
mod strata;
mod suggest;
#[cfg(test)]
mod tests;

pub use bench::{TrainBench, bench_train};
pub use bench_negatives::{NegativesBench, SamplerCost, bench_negatives};
pub use confidence::{ConfidenceConfig, WeightScale};
pub use config::{OptimizerConfig, OptimizerKind, Schedule, StreamConfig, TrainConfig};
pub use error::TrainError;
pub use listwise::{ListwiseBench, bench_listwise};
pub use out_of_core::{OutOfCoreBench, bench_out_of_core};
pub use plan::{TablePlace, TrainCounts, TrainPlan, plan_train};
pub use rehearse::{Rehearsal, rehearse_train};
pub use run::{EpochReport, TrainReport, train};
