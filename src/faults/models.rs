//! Training, publishing and updating a model.

use std::error::Error;
use std::path::Path;

use super::changes::append;
use super::datasets::{logs, run as ingest};
use super::trial::{Trial, Tried};
use crate::context::{ByteSize, Context};
use crate::dataset::{Dataset, Part};
use crate::ingest::Leftover;
use crate::model::{Model, rollback, versions};
use crate::rank::fixture;
use crate::train::{CheckpointEvery, TrainCheckpoint, TrainConfig, TrainError, TrainRun, UpdateOptions, train, update};

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

/// What every update begins with: what a run that is over has left beside the model goes. This one ends behind that.
fn tidy(dataset: &Dataset, root: &Path) -> Result<(), Box<dyn Error>> {
    match update(&root.join("out.model"), dataset, &UpdateOptions::default(), &ctx()) {
        Err(TrainError::NothingNew { .. }) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// Whether version `number` is there. It may be whole, and not yet the current one: then it is made that.
fn made(root: &Path, number: u32) -> Result<bool, Box<dyn Error>> {
    let output = root.join("out.model");
    let is_there = output.exists() && versions(&output)?.iter().any(|version| version.number == number);
    if is_there {
        rollback(&output, Some(number))?;
    }
    Ok(is_there)
}

/// The next version of a model that is there.
fn version_trial(tried: Tried) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let trial = Trial {
        prepare: &|root| run(&dataset, root, 1, false).unwrap(),
        act: &|root| run(&dataset, root, 2, false),
        state: &|root| state(&root.join("out.model")),
        again: &|root| if made(root, 2)? { tidy(&dataset, root) } else { run(&dataset, root, 2, false) },
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
fn run_kept(dataset: &Dataset, root: &Path) -> Result<(), Box<dyn Error>> {
    let mut config = TrainConfig { epochs: 4, dimensions: 4, deterministic: true, ..TrainConfig::default() };
    config.checkpoint.every = CheckpointEvery::Epoch;
    train(dataset, &config, &root.join("out.model"), TrainRun::default(), &ctx())?;
    Ok(())
}

/// Goes on from the last checkpoint until there is version `number`, and begins anew where there is none. Where it was published
/// before its checkpoints were removed, that is said, or an update follows, as `resumes` has it: nothing is in the way.
fn go_on(dataset: &Dataset, root: &Path, number: u32, resumes: bool) -> Result<(), Box<dyn Error>> {
    let is_made = made(root, number)?;
    if is_made && !resumes {
        return tidy(dataset, root);
    }
    match TrainCheckpoint::open(root.join("out.model")) {
        Ok(_) if is_made => Err("it can be gone on with, and is published".into()),
        Ok(checkpoint) => {
            checkpoint.resume(dataset, &ctx())?;
            Ok(())
        }
        Err(TrainError::Published { number: its, current: true, .. }) if is_made && its == number => Ok(()),
        // Where there was no checkpoint, or no more.
        Err(TrainError::NothingToResume { .. }) if is_made => tidy(dataset, root),
        Err(TrainError::NothingToResume { .. }) => run_kept(dataset, root),
        Err(error) => Err(error.into()),
    }
}

fn checkpoint_trial(tried: Tried, older: bool, resumes: bool) {
    let folder = tempfile::tempdir().unwrap();
    let dataset = dataset(folder.path());
    let trial = Trial {
        prepare: &|root| {
            if older {
                run(&dataset, root, 1, false).unwrap();
            }
        },
        act: &|root| run_kept(&dataset, root),
        state: &|root| state(&root.join("out.model")),
        again: &|root| go_on(&dataset, root, 1 + u32::from(older), resumes),
    };
    let count = trial.run(tried);
    assert!(count > 40, "{count}");
}

#[test]
fn checkpoints_survive_crashes() {
    checkpoint_trial(Tried::Crash, false, true);
    checkpoint_trial(Tried::Crash, true, false);
}

#[test]
fn checkpoints_survive_faults() {
    checkpoint_trial(Tried::Fault, true, true);
    checkpoint_trial(Tried::Fault, false, false);
}

/// An update by what was appended.
fn update_trial(tried: Tried) {
    let (folder, [one, two]) = logs();
    ingest(&one, folder.path(), false, Leftover::Refuse).unwrap();
    let old = Dataset::open(folder.path().join("out.pec")).unwrap();
    append(&two, folder.path()).unwrap();
    let grown = Dataset::open(folder.path().join("out.pec")).unwrap();
    let options = UpdateOptions { epochs: 2, ..UpdateOptions::default() };
    let act = |root: &Path| -> Result<(), Box<dyn Error>> {
        update(&root.join("out.model"), &grown, &options, &ctx())?;
        Ok(())
    };
    let trial = Trial {
        prepare: &|root| run(&old, root, 1, false).unwrap(),
        act: &act,
        state: &|root| state(&root.join("out.model")),
        again: &|root| if made(root, 2)? { tidy(&grown, root) } else { act(root) },
    };
    let count = trial.run(tried);
    assert!(count > 10, "{count}");
}

#[test]
fn updates_survive_crashes() {
    update_trial(Tried::Crash);
}

#[test]
fn updates_survive_faults() {
    update_trial(Tried::Fault);
}
