//! Training and publishing a model.

use std::error::Error;
use std::path::Path;

use super::trial::{Trial, Tried};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Part};
use crate::model::{Model, rollback, versions};
use crate::rank::fixture;
use crate::train::{CheckpointEvery, TrainCheckpoint, TrainConfig, TrainError, TrainRun, train};

pub(super) fn ctx() -> Context {
    Context::new(1, ByteSize(256 << 20))
}

/// Some users with a few items each.
pub(super) fn dataset(folder: &Path) -> Dataset {
    let users = (0..12).map(|u| (0..4).map(|k| (u * 3 + k * k) % 9).collect()).collect();
    fixture::dataset(&folder.join("data.pec"), 9, &[(Part::Train, users)])
}

/// What of a model is there, by its rows.
pub(super) fn state(path: &Path) -> Result<String, Box<dyn Error>> {
    if !path.exists() {
        return Ok("none".into());
    }
    let model = Model::open(path)?;
    model.verify(&ctx())?;
    let rows = [model.users(), model.items()].map(|table| {
        let bits = table.as_slice().iter().map(|x| x.to_bits().to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&bits.flatten().collect::<Vec<u8>>())
    });
    Ok(format!("{rows:x?}"))
}

fn run(dataset: &Dataset, root: &Path, seed: u64, force: bool) -> Result<(), Box<dyn Error>> {
    let config = TrainConfig { epochs: 2, dimensions: 4, seed, deterministic: true, ..TrainConfig::default() };
    train(dataset, &config, &root.join("out.model"), force, &ctx())?;
    Ok(())
}

fn train_trial(older: bool, tried: Tried) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let trial = Trial {
        prepare: &|root| {
            if older {
                run(&dataset, root, 1, false).unwrap();
            }
        },
        act: &|root| run(&dataset, root, 2, older),
        state: &|root| state(&root.join("out.model")),
        again: &|root| run(&dataset, root, 2, true),
    };
    let count = trial.run(tried);
    assert!(count > 10, "{count}");
}

#[test]
fn training_survives_crashes() {
    train_trial(false, Tried::Crash);
    train_trial(true, Tried::Crash);
}

#[test]
fn training_survives_faults() {
    train_trial(false, Tried::Fault);
    train_trial(true, Tried::Fault);
}

/// The next version of a model that is there.
fn version_trial(tried: Tried) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let trial = Trial {
        prepare: &|root| run(&dataset, root, 1, false).unwrap(),
        act: &|root| run(&dataset, root, 2, false),
        state: &|root| state(&root.join("out.model")),
        again: &|root| {
            let output = root.join("out.model");
            // It may be whole, and not yet the current one.
            if versions(&output)?.iter().any(|version| version.number == 2) {
                rollback(&output, Some(2))?;
                // What the run kept beside the model goes with the next training, or by --restart where it is a checkpoint.
                let _ = std::fs::remove_dir_all(root.join("out.model.partial"));
                return Ok(());
            }
            run(&dataset, root, 2, false)
        },
    };
    let count = trial.run(tried);
    assert!(count > 10, "{count}");
}

#[test]
fn further_versions_survive_crashes() {
    version_trial(Tried::Crash);
}

#[test]
fn further_versions_survive_faults() {
    version_trial(Tried::Fault);
}

/// Trains with a checkpoint after each epoch.
fn run_kept(dataset: &Dataset, root: &Path, run: TrainRun) -> Result<(), Box<dyn Error>> {
    let mut config = TrainConfig { epochs: 4, dimensions: 4, deterministic: true, ..TrainConfig::default() };
    config.checkpoint.every = CheckpointEvery::Epoch;
    train(dataset, &config, &root.join("out.model"), run, &ctx())?;
    Ok(())
}

/// Goes on from the last checkpoint, and begins anew where there is none, or the model is there already.
fn go_on(dataset: &Dataset, root: &Path) -> Result<(), Box<dyn Error>> {
    let output = root.join("out.model");
    if output.exists() {
        return run_kept(dataset, root, TrainRun { force: true, restart: true });
    }
    match TrainCheckpoint::open(&output) {
        Ok(checkpoint) => checkpoint.resume(dataset, &ctx()).map(|_| ()).map_err(Into::into),
        Err(TrainError::NothingToResume { .. }) => run_kept(dataset, root, TrainRun::default()),
        Err(error) => Err(error.into()),
    }
}

fn checkpoint_trial(tried: Tried) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let trial = Trial {
        prepare: &|_| {},
        act: &|root| run_kept(&dataset, root, TrainRun::default()),
        state: &|root| state(&root.join("out.model")),
        again: &|root| go_on(&dataset, root),
    };
    let count = trial.run(tried);
    assert!(count > 40, "{count}");
}

#[test]
fn checkpoints_survive_crashes() {
    checkpoint_trial(Tried::Crash);
}

#[test]
fn checkpoints_survive_faults() {
    checkpoint_trial(Tried::Fault);
}
