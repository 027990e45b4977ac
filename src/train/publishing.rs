//! A trained model's way to the disk, the configuration as used and the tables' rows; and the configuration's way back.

use serde::Serialize;

use super::TrainConfig;
use super::error::TrainError;
use super::validation::published_row;
use crate::dataset::Dataset;
use crate::model::{Model, ModelManifest, Side, Similarity, Tables, publish};
use crate::runlog::{NAME, RunLogWriter};
use crate::storage::NewVersion;

/// Rows after which those of a file are let go of behind the writer of a model.
const BEHIND: usize = 1 << 14;

/// The configuration with what its defaults amount to: equal for equal runs.
pub(crate) fn with_defaults(config: &TrainConfig) -> TrainConfig {
    let config = &*config.in_force();
    let mut used = config.clone();
    used.biases = Some(config.biases());
    used.similarity = Some(config.similarity());
    used.l2 = Some(config.l2());
    used.loss = config.numbers();
    used.negatives.count = Some(config.negatives());
    used.negatives.shared_by = config.shares_negatives().then(|| config.shared_by());
    used.init_deviation = Some(config.init_deviation());
    used.optimizer.learning_rate = Some(config.learning_rate());
    used
}

/// The configuration that `model` was trained with, as its manifest has it; or why that is none.
pub(crate) fn trained_with(model: &Model) -> Result<TrainConfig, String> {
    let manifest = model.manifest();
    let config: TrainConfig = serde_json::from_value(manifest.config.clone()).map_err(|error| error.to_string())?;
    config.validate().map_err(|error| error.to_string())?;
    // The rows are as wide as the manifest says.
    if (config.dimensions, config.biases()) != (manifest.dimensions, manifest.biases) {
        return Err("its dimensions and biases are not those of the tables".to_string());
    }
    Ok(config)
}

/// Where a version comes from.
pub(super) enum Lineage {
    /// It was trained from the start, by this run.
    Run(String),
    /// It was updated from this version.
    Update(u32),
}

/// Publishes `tables` as `version`, with the report and the log of the run.
pub(super) fn publish_tables(
    version: NewVersion,
    dataset: &Dataset,
    config: &TrainConfig,
    mut tables: Tables,
    (report, lineage, log): (&impl Serialize, Lineage, Option<&RunLogWriter>),
) -> Result<ModelManifest, TrainError> {
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or(serde_json::Value::Null);
    let used = with_defaults(config);
    let (run, updated_from) = match lineage {
        Lineage::Run(run) => (Some(run), None),
        Lineage::Update(from) => (None, Some(from)),
    };
    let manifest = ModelManifest {
        peccary: env!("CARGO_PKG_VERSION").to_string(),
        model_version: version.number(),
        updated_from,
        published: None,
        run,
        predate_forgetting: Vec::new(),
        dataset: dataset.fingerprint().to_string(),
        users: dataset.users().len(),
        items: dataset.items().len(),
        dimensions: config.dimensions,
        biases: config.biases(),
        similarity: config.similarity(),
        config: json(serde_json::to_value(&used)),
        history: json(serde_json::to_value(report)),
        calibration: None,
        files: log.and_then(|log| log.publish(version.path(), &version.relative(NAME))).into_iter().collect(),
    };
    let width = tables.width;
    let unit = config.similarity() == Similarity::Cosine;
    let Tables { users, items, .. } = &mut tables;
    let row = |side: &mut Side, i: usize, out: &mut [f32]| {
        published_row(&side.rows(), i, unit, out);
        if i % BEHIND == BEHIND - 1 {
            side.let_go(i + 1 - BEHIND..i + 1);
        }
    };
    Ok(publish(version, manifest, dataset, width, |i, out| row(users, i, out), |i, out| row(items, i, out))?)
}
