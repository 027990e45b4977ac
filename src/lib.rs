//! Peccary trains recommender embeddings from implicit-feedback logs that are larger than memory, on one machine.
//!
//! A log of who took what is ingested once into a [`Dataset`], an immutable folder that is read in place. [`train()`]
//! streams it through sampled negatives into factor tables and publishes a [`Model`], a folder too. What comes after
//! reads both:
//!
//! | step | function | what it takes | what it makes |
//! |---|---|---|---|
//! | make a log up | [`save_synth`], [`write_synth`] | a [`SynthConfig`], planted as a [`PlantedModel`] | a log, and the truth behind it |
//! | ingest | [`ingest()`] | [`Inputs`] and [`IngestOptions`] | a [`Dataset`] |
//! | change | [`append_ingest`], [`compact()`], [`forget()`] | a [`Dataset`]'s path, and logs or users | the dataset, changed in one step |
//! | hold out | [`hold_out()`] | a [`Dataset`] that was appended to, and what a [`Model`] learnt of it | a [`Dataset`] with the rest as its test part |
//! | train | [`train()`] | a [`Dataset`] and a [`TrainConfig`] | a [`Model`] |
//! | evaluate | [`evaluate()`] | any [`Scorer`] and a [`Dataset`] | an [`Evaluation`] beside [`Baselines`] |
//! | compare | [`compare()`] | two of them | a [`Comparison`]: which is better, or that it cannot be told |
//! | recommend | [`recommend()`], [`save_recommendations`], [`similar`] | the same | items for users, items like items |
//! | fold in | [`fold_in`] | a [`Model`] and a history | items for a user who was not trained |
//! | update | [`update()`] | a [`Model`]'s path and a [`Dataset`] that has grown | the model's next version |
//! | keep | [`versions`], [`rollback`], [`prune`] | a model's path | its versions, one of them current |
//! | report | [`report()`], [`save_report`] | a [`Model`], others beside it, a [`Dataset`] | one HTML page |
//! | tune | [`sweep()`] | a [`Dataset`], a [`TrainConfig`] and a [`Space`] of others | a [`SweepReport`], the best configuration |
//! | explain | [`train_audited`], [`explain()`] | the same, and a user | how negatives came about |
//! | plan | [`plan_train`], [`rehearse_train`], [`plan_ingest`] | a [`Dataset`] or a log | what a run will take |
//! | check | [`Dataset::verify`], [`Model::verify`], [`Stored`] | a folder | what is wrong with it |
//! | measure | [`bench_train`], [`bench_negatives`], [`bench_out_of_core`], [`bench_evaluate`] | a [`Dataset`], and a [`Scorer`] to evaluate | rates, stage by stage |
//!
//! Every long operation takes a [`Context`]: how many threads, how much memory, where progress goes, and a flag that
//! stops it. Outputs appear whole or not at all. Errors name the file, line or setting, and the remedy.
//!
//! # From a log to recommendations
//!
//! ```
//! use peccary::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let [log, data, output] = ["clicks.csv", "clicks.pec", "clicks.model"].map(|name| folder.path().join(name));
//! let ctx = Context::new(2, ByteSize(256 << 20));
//!
//! // A log with planted preferences; any file with a column of users and one of items would do.
//! let size = SynthConfig { users: 500, items: 1_000, interactions: 20_000, ..SynthConfig::default() };
//! save_synth(&PlantedModel::new(&size, &ctx)?, SynthFormat::Csv, &log, false, &ctx)?;
//!
//! // The last tenth of the time is held out.
//! let options = IngestOptions { split: "time:0.1".parse()?, ..IngestOptions::default() };
//! ingest(&Inputs::from(vec![Input::Path(log)]), &options, &data, false, &ctx)?;
//!
//! let dataset = Dataset::open(&data)?;
//! let config = TrainConfig { dimensions: 16, epochs: 20, ..TrainConfig::default() };
//! train(&dataset, &config, &output, false, &ctx)?;
//!
//! let model = Model::open(&output)?;
//! let evaluation = evaluate(&model, &dataset, &EvaluateOptions::default(), &ctx)?;
//! let random = evaluation.baselines.get(Baseline::Random).and_then(|random| random.get("recall@20"));
//! assert!(evaluation.metrics.get("recall@20") > random);
//!
//! // Three items for everyone, by their ids in the log.
//! let options = RecommendOptions { k: 3, ..RecommendOptions::default() };
//! recommend(&model, &dataset, &RecommendUsers::All, options, &ctx, |r| {
//!     let items: Vec<_> = r.items.iter().filter_map(|(item, _)| dataset.items().id(*item)).collect();
//!     assert_eq!(items.len(), 3);
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! What lies on disk, how metrics are defined and why lock-free training is sound is told in the repository's `docs/`.

mod attributes;
mod columnar;
mod context;
mod cooccurrence;
mod dataset;
mod embeddings;
mod evaluate;
mod explain;
#[cfg(test)]
mod faults;
mod fold;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod ingest;
mod loss;
mod mix;
mod model;
mod nearest;
mod negatives;
mod rank;
mod recommend;
mod report;
mod runlog;
mod storage;
mod stored;
mod stream;
mod sweep;
mod synth;
mod train;

pub use attributes::{Attributes, AttributesError};
pub use context::{ByteSize, Context, Interrupted, Live, Progress, Silent, Stage, Unit};
pub use dataset::{
    Appended, Change, ChangeKind, Chunk, Columns, CompactSummary, ContextColumn, ContextSummary, Contexts, Dataset,
    DatasetError, DatasetStatistics, Dictionary, Distribution, ExposureSummary, Exposures, FORMAT_VERSION,
    ForgetSummary, HoldOutSummary, Interactions, Layout, Manifest, Part, PartSummary, Positives, Source, UserItems,
    compact, forget, hold_out,
};
pub use embeddings::{EmbeddingHealth, Likeness, LikenessOptions, RowNorms, SideHealth, embedding_health, likeness};
pub use evaluate::{
    Baseline, Baselines, COMPARE_MARGIN, CalibrationMethod, CalibrationOptions, CalibrationReport, CompareOptions,
    ComparedMetric, Comparison, EvaluateBench, EvaluateError, EvaluateOptions, Evaluation, Intervals, MetricAt,
    Metrics, Protocol, Reliability, ReliabilityBin, SliceBy, SliceRow, Verdict, bench_evaluate, calibrate, calibration,
    compare, evaluate,
};
pub use explain::{
    ExplainError, ExplainOptions, ExplainedCandidate, ExplainedComponent, ExplainedNegative, ExplainedPositive,
    Explanation, explain,
};
pub use ingest::{
    AppendSummary, Column, Compression, Delimiter, Format, IngestBench, IngestCounts, IngestError, IngestOptions,
    IngestPlan, IngestRun, IngestSummary, Input, Inputs, Leftover, OnError, ReadError, ReadOptions, Role, Split,
    Survey, Thresholds, TimeUnit, append_ingest, append_options, bench_ingest, ingest, plan_ingest, survey,
};
pub use loss::{LossConfig, LossKind, Surrogate};
pub use model::{
    Calibration, CalibrationCurve, Factors, InstructionSet, MODEL_FORMAT_VERSION, Model, ModelError, ModelManifest,
    ModelVersion, Precision, Similarity, VersionFacts, prune, rollback, versions,
};
pub use negatives::{
    ComponentShare, Curve, MixConfig, NegativesConfig, NegativesReport, Proposal, Propose, Scheduled, Select, Shape,
    Weigh,
};
pub use rank::{Popularity, RandomScores, RankError, Scorer};
pub use recommend::{
    FoldInOptions, FoldedIn, RecommendError, RecommendFormat, RecommendOptions, RecommendSummary, RecommendUsers,
    Recommendations, fold_in, recommend, save_recommendations, similar, write_recommendations,
};
pub use report::{ReportError, ReportOptions, ReportSummary, report, save_report};
pub use runlog::{
    RUN_LOG_VERSION, RunBest, RunDataset, RunEnd, RunEnded, RunEpoch, RunEvent, RunHappening, RunHeader, RunLog,
    RunLogError, RunMachine, RunMoment, RunRecord, RunStage, RunValidation,
};
pub use storage::{FileRecord, StorageError, explain_bus_errors, explain_file_limits, free_disk};
pub use stored::{Stored, StoredError};
pub use sweep::{
    Halving, Search, Space, Standing, SweepError, SweepFailure, SweepOptions, SweepReport, SweepRow, SweepSkipped,
    sweep,
};
pub use synth::{
    PlantedModel, SynthCompression, SynthConfig, SynthError, SynthFormat, SynthSummary, TruthSample, save_synth,
    write_synth, write_truth,
};
pub use train::{
    AuditOptions, AuditSummary, CheckpointConfig, CheckpointEvery, CheckpointPlan, CheckpointReport, ConfidenceConfig,
    DivergedRow, DivergenceConfig, EpochReport, ListwiseBench, NegativesBench, OptimizerConfig, OptimizerKind,
    OutOfCoreBench, RegularizationConfig, Rehearsal, Rollback, SamplerCost, Schedule, Stopped, StreamConfig,
    TablePlace, TrainBench, TrainCheckpoint, TrainConfig, TrainCounts, TrainError, TrainPlan, TrainReport, TrainRun,
    UpdateOptions, UpdateReport, Validated, ValidationConfig, ValidationPlan, ValidationReport, WeightScale,
    bench_listwise, bench_negatives, bench_out_of_core, bench_train, plan_train, rehearse_train, train, train_audited,
    update,
};
