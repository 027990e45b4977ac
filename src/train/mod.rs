//! Training: producers stream sampled batches over bounded channels to lock-free trainers.

mod audit;
mod bench;
mod bench_negatives;
mod confidence;
mod config;
mod control;
mod divergence;
mod error;
mod grid;
mod lane;
mod listwise;
mod live;
mod loss_rules;
mod objective;
mod out_of_core;
mod paging;
mod plan;
mod regularization;
mod rehearse;
mod run;
mod schedule;
mod strata;
mod suggest;
#[cfg(test)]
mod tests;
mod update;
mod validation;

pub use audit::{AuditOptions, AuditSummary};
pub use bench::{TrainBench, bench_train};
pub use bench_negatives::{NegativesBench, SamplerCost, bench_negatives};
pub use confidence::{ConfidenceConfig, WeightScale};
pub use config::{OptimizerConfig, OptimizerKind, StreamConfig, TrainConfig};
pub use divergence::DivergedRow;
pub use error::TrainError;
pub use listwise::{ListwiseBench, bench_listwise};
pub(crate) use objective::any_loss;
pub use out_of_core::{OutOfCoreBench, bench_out_of_core};
pub(crate) use plan::LOOKED_UP_AT_LEAST;
pub use plan::{TablePlace, TrainCounts, TrainPlan, ValidationPlan, plan_train};
pub use regularization::RegularizationConfig;
pub use rehearse::{Rehearsal, rehearse_train};
pub(crate) use run::with_defaults;
pub use run::{EpochReport, Stopped, TrainReport, train, train_audited};
pub use schedule::Schedule;
pub use update::{UpdateOptions, UpdateReport, update};
pub use validation::{Validated, ValidationConfig, ValidationReport};
