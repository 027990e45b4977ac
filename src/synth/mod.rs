//! Synthetic logs with planted preferences, and the oracle that knows what was planted. See `docs/synth.md`.

mod activity;
mod blocks;
mod catalog;
mod columns;
mod config;
mod error;
mod model;
mod random;
mod rows;
mod taste;
mod text;
mod truth;
mod write;

#[cfg(test)]
mod tests;

pub use config::SynthConfig;
pub use error::SynthError;
pub use model::PlantedModel;
pub use truth::{TruthSample, write_truth};
pub use write::{SynthCompression, SynthFormat, SynthSummary, save_synth, write_synth};
