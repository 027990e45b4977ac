//! The first and the last record of a run's log.

use std::path::Path;

use super::error::TrainError;
use super::keeping::Origin;
use super::publishing::with_defaults;
use super::run::{Stopped, TrainReport};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::runlog::{
    RUN_LOG_VERSION, RunBest, RunDataset, RunEnd, RunEnded, RunHeader, RunLogWriter, RunMachine, RunRecord, now,
};

/// What a run that begins says of itself.
pub(super) fn header(dataset: &Dataset, origin: &Origin, output: &Path, ctx: &Context) -> RunHeader {
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or(serde_json::Value::Null);
    RunHeader {
        v: RUN_LOG_VERSION,
        peccary: env!("CARGO_PKG_VERSION").to_string(),
        at: now(),
        model: output.display().to_string(),
        dataset: RunDataset {
            path: dataset.path().display().to_string(),
            fingerprint: dataset.fingerprint().to_string(),
            users: dataset.users().len(),
            items: dataset.items().len(),
            interactions: dataset.train().len(),
        },
        epochs: origin.config.epochs,
        triples: origin.plan.counts.interactions * origin.negatives(),
        threads: ctx.threads(),
        config: json(serde_json::to_value(with_defaults(&origin.config))),
        plan: json(serde_json::to_value(&origin.plan)),
        machine: RunMachine::this(),
    }
}

/// A run has trained what it was to train.
pub(super) fn end(log: &RunLogWriter, report: &TrainReport) {
    let best = report.validation.as_ref().map(|found| RunBest {
        epoch: found.best_epoch,
        metric: found.metric.clone(),
        value: found.best_value,
    });
    log.write(&RunRecord::End(RunEnd {
        seconds: log.seconds(),
        at: now(),
        status: match report.stopped {
            Stopped::Epochs => RunEnded::Done,
            Stopped::Patience => RunEnded::Patience,
        },
        epochs: report.epochs.len() as u32,
        triples: report.epochs.iter().map(|epoch| epoch.triples).sum(),
        best,
        text: String::new(),
    }));
}

/// A run has failed, or was told to stop.
pub(super) fn fail(log: &RunLogWriter, error: &TrainError) {
    let (epochs, triples) = log.place();
    log.write(&RunRecord::End(RunEnd {
        seconds: log.seconds(),
        at: now(),
        status: match error {
            TrainError::Interrupted(_) => RunEnded::Interrupted,
            TrainError::Diverged { .. } => RunEnded::Diverged,
            _ => RunEnded::Failed,
        },
        epochs: epochs as u32,
        triples,
        best: None,
        text: error.to_string(),
    }));
}
