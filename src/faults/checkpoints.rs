//! Training that keeps checkpoints, and goes on from them.

use std::error::Error;
use std::path::Path;

use super::models::{ctx, dataset, state};
use super::trial::{Trial, Tried};
use crate::dataset::Dataset;
use crate::train::{CheckpointConfig, CheckpointEvery, TrainCheckpoint, TrainConfig, TrainRun, train};

fn begin(dataset: &Dataset, root: &Path, run: TrainRun) -> Result<(), Box<dyn Error>> {
    let checkpoint = CheckpointConfig { every: CheckpointEvery::Epoch, ..CheckpointConfig::default() };
    let config =
        TrainConfig { epochs: 4, dimensions: 4, seed: 2, deterministic: true, checkpoint, ..TrainConfig::default() };
    train(dataset, &config, &root.join("out.model"), run, &ctx())?;
    Ok(())
}

/// Goes on where there is a checkpoint, which must work and give the same bits; else begins anew.
fn again(dataset: &Dataset, root: &Path) -> Result<(), Box<dyn Error>> {
    let output = root.join("out.model");
    match TrainCheckpoint::open(&output) {
        Ok(checkpoint) if !output.exists() => {
            checkpoint.resume(dataset, &ctx())?;
            Ok(())
        }
        _ => begin(dataset, root, TrainRun { force: true, restart: true }),
    }
}

fn trial(tried: Tried) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let trial = Trial {
        prepare: &|_| {},
        act: &|root| begin(&dataset, root, TrainRun::default()),
        state: &|root| state(&root.join("out.model")),
        again: &|root| again(&dataset, root),
    };
    let count = trial.run(tried);
    assert!(count > 30, "{count}");
}

#[test]
fn checkpoints_survive_crashes() {
    trial(Tried::Crash);
}

#[test]
fn checkpoints_survive_faults() {
    trial(Tried::Fault);
}
