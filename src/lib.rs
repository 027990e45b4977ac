//! Peccary trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.

mod context;
mod dataset;
mod ingest;
mod model;
mod storage;
mod stored;
mod synth;

pub use context::{ByteSize, Context, Interrupted, Live, Progress, Silent, Stage, Unit};
pub use dataset::{
    Chunk, Columns, Dataset, DatasetError, DatasetStatistics, Dictionary, Distribution, FORMAT_VERSION, Interactions,
    Manifest, Part, PartSummary, Positives, Source, UserItems,
};
pub use ingest::{
    Column, Compression, Delimiter, Format, IngestCounts, IngestError, IngestOptions, IngestSummary, Input, Inputs,
    OnError, ReadError, ReadOptions, Role, Split, Thresholds, TimeUnit, ingest,
};
pub use model::{Factors, MODEL_FORMAT_VERSION, Model, ModelError, ModelManifest, Similarity};
pub use storage::{FileRecord, StorageError};
pub use stored::{Stored, StoredError};
pub use synth::{
    PlantedModel, SynthCompression, SynthConfig, SynthError, SynthFormat, SynthSummary, TruthSample, save_synth,
    write_synth, write_truth,
};
