//! Peccary trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.

mod context;
mod dataset;
mod evaluate;
mod ingest;
mod loss;
mod mix;
mod model;
mod negatives;
mod rank;
mod recommend;
mod storage;
mod stored;
mod stream;
mod synth;
mod train;

pub use context::{ByteSize, Context, Interrupted, Live, Progress, Silent, Stage, Unit};
pub use dataset::{
    Chunk, Columns, Dataset, DatasetError, DatasetStatistics, Dictionary, Distribution, FORMAT_VERSION, Interactions,
    Manifest, Part, PartSummary, Positives, Source, UserItems,
};
pub use evaluate::{Baselines, EvaluateError, EvaluateOptions, Evaluation, Metrics, Protocol, evaluate};
pub use ingest::{
    Column, Compression, Delimiter, Format, IngestCounts, IngestError, IngestOptions, IngestSummary, Input, Inputs,
    OnError, ReadError, ReadOptions, Role, Split, Thresholds, TimeUnit, ingest,
};
pub use loss::LossKind;
pub use model::{Factors, InstructionSet, MODEL_FORMAT_VERSION, Model, ModelError, ModelManifest, Similarity};
pub use rank::{Popularity, RandomScores, RankError, Scorer};
pub use recommend::{
    RecommendError, RecommendFormat, RecommendOptions, RecommendSummary, RecommendUsers, Recommendations, recommend,
    save_recommendations, similar, write_recommendations,
};
pub use storage::{FileRecord, StorageError};
pub use stored::{Stored, StoredError};
pub use synth::{
    PlantedModel, SynthCompression, SynthConfig, SynthError, SynthFormat, SynthSummary, TruthSample, save_synth,
    write_synth, write_truth,
};
pub use train::{
    EpochReport, NegativesConfig, OptimizerConfig, OptimizerKind, Proposal, Schedule, StreamConfig, TrainBench,
    TrainConfig, TrainError, TrainReport, bench_train, train,
};
