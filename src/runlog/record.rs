//! The records of a run log: one line of JSON each, told apart by the key `k`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::RunMachine;
use crate::negatives::NegativesReport;

/// A line of a run log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunRecord {
    /// The first line, and no other.
    Run(Box<RunHeader>),
    /// What was measured since the last one of these: at intervals of a second, and of a 600th of the run's age from ten
    /// minutes on.
    Now(RunMoment),
    /// An epoch has ended.
    Epoch(Box<RunEpoch>),
    /// The valid part was measured.
    Valid(RunValidation),
    /// Something happened.
    Event(RunEvent),
    /// The run has ended. Nothing follows, unless it is gone on with.
    End(RunEnd),
    /// Of a kind that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What is trained, on what, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunHeader {
    /// [`RUN_LOG_VERSION`](crate::RUN_LOG_VERSION).
    pub v: u32,
    /// The build that wrote it.
    pub peccary: String,
    /// When the run began: milliseconds since 1970.
    pub at: i64,
    /// The output, as it was named.
    pub model: String,
    /// What it is trained on.
    pub dataset: RunDataset,
    /// Epochs, unless it is stopped before.
    pub epochs: u32,
    /// Triples of an epoch, at most: positives may be skipped.
    pub triples: u64,
    /// Threads.
    pub threads: usize,
    /// The configuration as used, as in the model's manifest.
    pub config: Value,
    /// The sizes in force, and what they were computed to take ([`TrainPlan`](crate::TrainPlan)).
    pub plan: Value,
    /// The machine.
    pub machine: RunMachine,
}

/// What a run is trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDataset {
    /// Its folder, as it was named.
    pub path: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Users.
    pub users: u32,
    /// Items.
    pub items: u32,
    /// Interactions of the train part.
    pub interactions: u64,
}

/// What a run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStage {
    /// It trains.
    #[default]
    Train,
    /// It measures the valid part; trainers wait.
    Valid,
}

impl RunStage {
    fn is_train(&self) -> bool {
        *self == Self::Train
    }
}

/// How a run is doing. Rates, losses, norms and shares are those of the time since the last moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunMoment {
    /// Seconds since the run began, without times in which it was interrupted.
    #[serde(rename = "t", serialize_with = "short")]
    pub seconds: f64,
    /// Epochs that are over, with the share of the one at hand.
    #[serde(rename = "e", serialize_with = "short")]
    pub epochs: f64,
    /// Triples trained so far.
    #[serde(rename = "n")]
    pub triples: u64,
    /// Triples a second.
    #[serde(rename = "r", serialize_with = "short")]
    pub rate: f64,
    /// Mean loss of a term, as of an epoch. None if no batch was trained.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub loss: Option<f64>,
    /// Learning rate of the last batch.
    #[serde(rename = "lr", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub learning_rate: Option<f64>,
    /// Mean norm of the gradient of one positive's terms by its user's row, of a sample of positives; neither L2 nor
    /// confidence are in it.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub gradient: Option<f64>,
    /// Mean norm of what training on a batch has changed in the row of a user in it, of a sample of users.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub update: Option<f64>,
    /// Mean norm of those rows.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub row: Option<f64>,
    /// The share of their time that producers were blocked because trainers were behind: training is the bottleneck
    /// where this is high. None where there are no producers, as in deterministic training.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub producers_blocked: Option<f64>,
    /// The share of their time that trainers were blocked because producers were behind; in deterministic training, that
    /// threads waited for others.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub trainers_blocked: Option<f64>,
    /// Bytes of the process in memory, pages of mapped files included.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// What the run does.
    #[serde(rename = "s", default, skip_serializing_if = "RunStage::is_train")]
    pub stage: RunStage,
    /// Numbers of the configuration that follow a schedule, by key, such as `negatives.mix.0.share`.
    #[serde(rename = "sch", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduled: BTreeMap<String, f64>,
}

/// An epoch that has ended: what [`EpochReport`](crate::EpochReport) has, and means of what moments measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunEpoch {
    /// When it ended, as in [`RunMoment`].
    #[serde(rename = "t", serialize_with = "short")]
    pub seconds: f64,
    /// Its number, from 1.
    #[serde(rename = "e")]
    pub epoch: u32,
    /// Mean loss of a term; none if it is no finite number.
    #[serde(rename = "l", default)]
    pub loss: Option<f64>,
    /// Learning rate at its start.
    #[serde(rename = "lr")]
    pub learning_rate: f32,
    /// Triples trained in it.
    #[serde(rename = "n")]
    pub triples: u64,
    /// Positives without a negative, which were left out.
    #[serde(default)]
    pub skipped: u64,
    /// Its wall time, without validation.
    #[serde(rename = "d")]
    pub duration: f64,
    /// Triples a second.
    #[serde(rename = "r")]
    pub rate: f64,
    /// As in [`RunMoment`], over the epoch.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub gradient: Option<f64>,
    /// As in [`RunMoment`], over the epoch.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub update: Option<f64>,
    /// As in [`RunMoment`], over the epoch.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub row: Option<f64>,
    /// As in [`RunMoment`], over the epoch.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub producers_blocked: Option<f64>,
    /// As in [`RunMoment`], over the epoch.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none", serialize_with = "short_if_any")]
    pub trainers_blocked: Option<f64>,
    /// Bytes of the process in memory when it ended.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Numbers of the configuration that follow a schedule, when it ended.
    #[serde(rename = "sch", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scheduled: BTreeMap<String, f64>,
    /// How the negatives were, by sampler.
    #[serde(rename = "neg")]
    pub negatives: NegativesReport,
}

/// A validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunValidation {
    /// When it ended, as in [`RunMoment`].
    #[serde(rename = "t", serialize_with = "short")]
    pub seconds: f64,
    /// The epoch after which it was, from 1.
    #[serde(rename = "e")]
    pub epoch: u32,
    /// What was measured, such as `ndcg@20`.
    pub metric: String,
    /// Its value, with all of its digits.
    pub value: f64,
    /// Whether that is the best so far: whether the tables are kept.
    #[serde(default)]
    pub best: bool,
    /// Whether the learning rate was lowered because the metric is on a plateau.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lowered: bool,
    /// Whether the run ends because patience has run out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stop: bool,
    /// Its wall time.
    #[serde(rename = "d")]
    pub duration: f64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// When, as in [`RunMoment`].
    #[serde(rename = "t", serialize_with = "short")]
    pub seconds: f64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What.
    pub what: RunHappening,
    /// Epochs that were over, with the share of the one at hand.
    #[serde(rename = "e", serialize_with = "short")]
    pub epochs: f64,
    /// Triples trained so far.
    #[serde(rename = "n")]
    pub triples: u64,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What may happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunHappening {
    /// A checkpoint is durable, of the place that the event names.
    Checkpoint,
    /// The run goes on from a checkpoint, at the place that the event names: what the log says of later ones was lost.
    Resumed,
    /// The run has diverged, and goes on from the place that the event names: what the log says of later ones was given
    /// up. The text is the error.
    Rollback,
    /// Something that the user was told.
    Message,
    /// Of a kind that this build does not know.
    #[serde(other)]
    Other,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// When, as in [`RunMoment`].
    #[serde(rename = "t", serialize_with = "short")]
    pub seconds: f64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Why.
    pub status: RunEnded,
    /// Epochs trained to their end.
    pub epochs: u32,
    /// Triples trained.
    #[serde(rename = "n")]
    pub triples: u64,
    /// The epoch whose tables are the model's, if the run was validated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<RunBest>,
    /// The error, if it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunEnded {
    /// All epochs were trained.
    Done,
    /// The metric had not improved for as long as its patience lasts.
    Patience,
    /// It was told to stop.
    Interrupted,
    /// Rows or the loss exploded.
    Diverged,
    /// Something else went wrong.
    Failed,
    /// Of a kind that this build does not know.
    #[serde(other)]
    Other,
}

/// The best validation of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunBest {
    /// After which epoch, from 1.
    pub epoch: u32,
    /// What was measured.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Six significant digits: more than a curve can show, and half the bytes.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn short<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rounded(*value))
}

fn short_if_any<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(rounded).serialize(serializer)
}
