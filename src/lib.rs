//! Peccary trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.

mod context;
mod synth;

pub use context::{ByteSize, Context, Interrupted, Live, Progress, Silent, Stage, Unit};
pub use synth::{
    PlantedModel, SynthCompression, SynthConfig, SynthError, SynthFormat, SynthSummary, TruthSample, save_synth,
    write_synth, write_truth,
};
