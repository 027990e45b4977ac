//! Updating a model when its dataset has grown: warm tables, new rows folded in, training on what is new and some of the
//! rest.

mod selection;
#[cfg(test)]
mod tests;
mod warm;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::config::TrainConfig;
use super::error::TrainError;
use super::keeping::{Keeper, Origin, Partial, folder_of};
use super::logged::{end, fail, header};
use super::plan::{TrainPlan, plan_beside};
use super::publishing::{Lineage, publish_tables, trained_with};
use super::run::{Stopped, TrainReport, filled_tables, train_tables};
use super::{Schedule, ValidationConfig};
use crate::context::Context;
use crate::dataset::{Dataset, Part};
use crate::mix::mix;
use crate::model::{InstructionSet, Model, ModelManifest, Tables};
use crate::runlog::RunLogWriter;
use crate::storage::{NewVersion, check_in_use};
pub(super) use selection::Selection;
pub(super) use warm::{Start, Warm};

/// Settings of [`update`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateOptions {
    /// Passes over what is new and as much of the rest as `replay` says, at most where there is a valid part.
    pub epochs: u32,
    /// The share of old interactions among those that are trained, from 0 to below 1: drawn anew each epoch.
    pub replay: f64,
    /// Step size at the start. Default: half of what the model was trained with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f32>,
    /// Days in which an interaction comes to count half. Default: as the model was trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_life: Option<f64>,
    /// What is measured on the valid part, if the dataset has one, and when that ends the update. Default: as the model was
    /// trained, else ndcg@20 with a patience of 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// Seed of the stream, the negatives, the replay and the rows that are folded in.
    pub seed: u64,
}

impl Default for UpdateOptions {
    fn default() -> Self {
        Self { epochs: 15, replay: 0.85, learning_rate: None, half_life: None, validation: None, seed: 0 }
    }
}

/// What an update has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpdateReport {
    /// The version that it started from.
    pub from: u32,
    /// The settings.
    pub options: UpdateOptions,
    /// Train interactions that are new since, or that rows were added to.
    pub new_interactions: u64,
    /// Those of them that were there before.
    #[serde(default)]
    pub seen_again: u64,
    /// Rows of the user table that the model did not have.
    pub new_users: u32,
    /// Rows of the item table that the model did not have.
    pub new_items: u32,
    /// Users whose rows began by folding in: those whose interactions all are new.
    pub folded_users: u64,
    /// Items whose rows began by folding in.
    pub folded_items: u64,
    /// Users who are forgotten, whose rows are zeros now.
    pub forgotten_users: u64,
    /// What training did.
    #[serde(flatten)]
    pub training: TrainReport,
}

/// Updates the current version of the model at `path` with what its dataset has got since, and publishes the result as its
/// next version.
///
/// Old rows go on from where they are. A row of which all interactions are new begins by folding in: items from the users
/// that the model knows, then users from items. Then new interactions are trained on, and old ones that are drawn anew each
/// epoch, so many that they are the share `options.replay`, most of them of users who have new ones; negatives come from all
/// items, positives of the user never among them. The optimizer starts without memory. O(epochs × (new + replayed) ×
/// negatives × dimensions), and each epoch reads all interactions.
///
/// With one thread, or if the model was trained deterministically, the same seed gives the same bits. An update takes no
/// checkpoints: one that is interrupted or diverges begins again.
///
/// # Errors
/// If there is no model, its dataset is no ancestor of `dataset` (both are named), or `dataset` holds out what is new; if
/// nothing is new, another process is writing the model, or an interrupted training of it has left checkpoints; and those of
/// [`train`](super::train()). Nothing is published then.
pub fn update(
    path: &Path,
    dataset: &Dataset,
    options: &UpdateOptions,
    ctx: &Context,
) -> Result<(ModelManifest, UpdateReport), TrainError> {
    let before = Model::open(path)?;
    Partial::check(path, false, ctx)?;
    let version = NewVersion::begin(path, false, "peccary-model")?;
    // Behind the lock nothing changes; before it, it may have.
    let model = Model::open(path)?;
    drop(before);
    let appended = model.news(dataset)?;
    if model.check_unchanged(dataset).is_ok() {
        return Err(TrainError::NothingNew { model: path.to_path_buf(), dataset: dataset.path().to_path_buf() });
    }
    let base = config_of(&model)?;
    let mut given = configured(&base, options, dataset)?;
    given.keep_nothing();
    let config = &*given.in_force();
    if !(0.0..1.0).contains(&options.replay) {
        let must = "be at least 0 and below 1".to_string();
        return Err(TrainError::Config { key: "replay".into(), value: options.replay.to_string(), must });
    }
    // What does not fit is refused before it is made.
    plan_beside(Selection::bytes(dataset.users().len(), appended.len()), dataset, config, ctx)?;
    let selection = Selection::new(&appended, dataset, options.replay);
    let warm = Warm::new(&model, dataset, config, (selection, &appended), ctx)?;
    let seen_again = warm.selection.len().saturating_sub(appended.arrivals().count() as u64);
    drop(appended);
    let mut plan = plan_beside(warm.bytes(), dataset, config, ctx)?;
    if model.manifest().calibration.is_some() {
        ctx.message(&format!(
            "the calibration of version {} is of its own scores and does not go along; fit one anew by peccary calibrate",
            model.version()
        ));
    }
    plan.check_room(version.path(), path, false, ctx)?;
    // Those that an epoch trains on.
    plan.counts.interactions = warm.selection.expected();
    let origin = Origin::new(dataset, given.clone(), plan.clone(), false);
    let log = RunLogWriter::create(&folder_of(path), header(dataset, &origin, path, ctx), ctx);
    let listening = log.clone();
    let ctx = &ctx.overheard(move |text| listening.message(text));
    let mut keeper = Keeper::new(None, origin, None, log.clone());
    let trained = match warm.selection.len() {
        // Nothing came to train: users were forgotten, or some came that are held out.
        0 => untrained(dataset, config, &plan, (version.path(), &warm)),
        _ => train_tables(dataset, config, &plan, (version.path(), ctx), (None, &mut keeper, Some(&warm))),
    };
    // What was cut off a file is learnt from as zeros, where it raised no signal.
    let trained = trained.and_then(|trained| check_in_use(dataset.path()).map(|()| trained).map_err(TrainError::from));
    let (tables, training) = trained.inspect_err(|error| fail(&log, error)).map_err(in_update)?;
    end(&log, &training);
    let (users, items) = (dataset.users().len(), dataset.items().len());
    let report = UpdateReport {
        from: model.version(),
        options: options.clone(),
        new_interactions: warm.selection.len(),
        seen_again,
        new_users: users.saturating_sub(model.manifest().users),
        new_items: items.saturating_sub(model.manifest().items),
        folded_users: warm.users.len() as u64,
        folded_items: warm.items.len() as u64,
        forgotten_users: warm.forgotten.len() as u64,
        training,
    };
    // The model's own configuration, so that the next update starts from that, too.
    let manifest =
        publish_tables(version, dataset, &base, tables, (&report, Lineage::Update(model.version()), Some(&log)))?;
    Ok((manifest, report))
}

/// What an update can do about an error of training.
fn in_update(error: TrainError) -> TrainError {
    match error {
        TrainError::Diverged { epoch, learning_rate, row, lower } => {
            TrainError::DivergedUpdate { epoch, learning_rate, row, lower }
        }
        other => other,
    }
}

/// The tables as they are, where there is nothing to train on.
fn untrained(
    dataset: &Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
    (folder, warm): (&Path, &Warm<'_>),
) -> Result<(Tables, TrainReport), TrainError> {
    let report = TrainReport {
        epochs: Vec::new(),
        stopped: Stopped::Epochs,
        validation: None,
        seconds: 0.0,
        triples_per_second: 0.0,
        instruction_set: InstructionSet::detect().name().to_string(),
        plan: plan.clone(),
        audit: None,
        rollbacks: Vec::new(),
        checkpoints: None,
    };
    Ok((filled_tables(dataset, config, plan, (folder, Some(warm)))?, report))
}

/// The configuration in the model's manifest.
fn config_of(model: &Model) -> Result<TrainConfig, TrainError> {
    trained_with(model).map_err(|reason| TrainError::OtherConfig {
        model: model.path().to_path_buf(),
        reason,
        version: model.manifest().peccary.clone(),
    })
}

/// How the update is trained.
fn configured(base: &TrainConfig, options: &UpdateOptions, dataset: &Dataset) -> Result<TrainConfig, TrainError> {
    let mut config = base.clone();
    config.epochs = options.epochs;
    // Another stream than that of the training, and of the update before.
    config.seed = mix(base.seed ^ mix(options.seed ^ u64::from(dataset.users().len()) << 32));
    config.optimizer.learning_rate = Some(options.learning_rate.unwrap_or(base.learning_rate() / 2.0));
    config.optimizer.warm_up = 0.0;
    if let Some(days) = options.half_life {
        config.confidence.half_life = Some(days);
    }
    let has_valid = dataset.part(Part::Valid).is_some_and(|valid| !valid.is_empty());
    let own = options.validation.clone().or_else(|| base.validation.clone().filter(|_| has_valid));
    let default = || has_valid.then(|| ValidationConfig { patience: Some(2), ..ValidationConfig::default() });
    config.validation = own.or_else(default);
    if config.validation.is_none() && config.optimizer.schedule == Schedule::Plateau {
        config.optimizer.schedule = Schedule::Linear;
        config.optimizer.factor = None;
        config.optimizer.patience = None;
    }
    config.validate()?;
    Ok(config)
}
