//! What is kept of a run while it trains: checkpoints beside the model to be, to go on from after an interruption, or to
//! go back to after a divergence.

mod config;
mod exact;
mod keeper;
mod partial;
mod report;
mod room;
mod saved;
mod sound;
#[cfg(test)]
mod tests;

pub use config::{CheckpointConfig, CheckpointEvery, DivergenceConfig};
pub(super) use keeper::{BestTables, Keeper};
pub(super) use partial::{Partial, folder_of};
pub use report::{CheckpointReport, Rollback};
pub(super) use saved::{Origin, RunState, Saved};
pub(super) use sound::check_origin;
