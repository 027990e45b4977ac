//! Changes of a dataset that is there: append, compact and forget; and one made of it, by holding out.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use super::datasets::{self, ctx, logs, run};
use super::trial::{Trial, Tried};
use crate::dataset::{Dataset, DatasetLock, compact, forget, hold_out};
use crate::ingest::{IngestRun, Input, Inputs, Leftover, OnError, append_ingest, append_options};

/// What is there, by content and by files.
fn state(root: &Path) -> Result<String, Box<dyn Error>> {
    let dataset = Dataset::open(root.join("out.pec"))?;
    dataset.verify(&ctx())?;
    let names: Vec<&str> = dataset.manifest().files.iter().map(|file| file.path.as_str()).collect();
    Ok(format!("{} in {}", dataset.fingerprint(), names.join(" ")))
}

pub(super) fn append(log: &Path, root: &Path) -> Result<(), Box<dyn Error>> {
    let path = root.join("out.pec");
    let mut options = append_options(&path)?;
    options.on_error = OnError::Skip;
    let journaled = path.join(".append.partial/journal").exists();
    let leftover = if journaled { Leftover::Resume } else { Leftover::Refuse };
    let run = IngestRun { force: true, leftover, checkpoint: Duration::ZERO };
    append_ingest(&Inputs::from(vec![Input::Path(log.to_path_buf())]), &options, &path, run, &ctx())?;
    Ok(())
}

/// What every change begins with: what an earlier one left goes.
fn tidy(root: &Path) -> Result<(), Box<dyn Error>> {
    let (lock, manifest) = DatasetLock::claim(&root.join("out.pec"))?;
    Ok(lock.remove_unlisted(&manifest)?)
}

/// How often it was changed.
fn changes(root: &Path) -> Result<usize, Box<dyn Error>> {
    Ok(Dataset::open(root.join("out.pec"))?.manifest().changes.len())
}

fn append_trial(tried: Tried) {
    let (_folder, [one, two]) = logs();
    let trial = Trial {
        prepare: &|root| run(&one, root, false, Leftover::Refuse).unwrap(),
        act: &|root| append(&two, root),
        state: &state,
        again: &|root| if changes(root)? == 0 { append(&two, root) } else { tidy(root) },
    };
    let count = trial.run(tried);
    assert!(count > 60, "{count}");
}

#[test]
fn append_survives_crashes() {
    append_trial(Tried::Crash);
}

#[test]
fn append_survives_faults() {
    append_trial(Tried::Fault);
}

#[test]
fn compact_survives_crashes_and_faults() {
    let (folder, [one, two]) = logs();
    // With a user of its own, so that there are several dictionaries.
    let three = folder.path().join("three.csv");
    std::fs::write(&three, "user,item,time\nnew,i1,500\nnew,i2,501\nbad\n").unwrap();
    let act = |root: &Path| -> Result<(), Box<dyn Error>> {
        compact(root.join("out.pec"), &ctx())?;
        Ok(())
    };
    let trial = Trial {
        prepare: &|root| {
            run(&one, root, false, Leftover::Refuse).unwrap();
            append(&two, root).unwrap();
            append(&three, root).unwrap();
        },
        act: &act,
        state: &state,
        again: &act,
    };
    for tried in [Tried::Crash, Tried::Fault] {
        let count = trial.run(tried);
        assert!(count > 20, "{count}");
    }
}

/// Forgets a user of the dataset that `prepare` makes.
fn forget_trial(prepare: &dyn Fn(&Path)) {
    let act = |root: &Path| -> Result<(), Box<dyn Error>> {
        forget(root.join("out.pec"), &["u3".to_string()], &ctx())?;
        Ok(())
    };
    let is_done = |root: &Path| -> Result<bool, Box<dyn Error>> {
        Ok(Dataset::open(root.join("out.pec"))?.users().find("u3").is_none())
    };
    let again = |root: &Path| if is_done(root)? { tidy(root) } else { act(root) };
    let trial = Trial { prepare, act: &act, state: &state, again: &again };
    for tried in [Tried::Crash, Tried::Fault] {
        let count = trial.run(tried);
        assert!(count > 20, "{count}");
    }
}

#[test]
fn forget_survives_crashes_and_faults() {
    let (_folder, [one, two]) = logs();
    forget_trial(&|root| {
        run(&one, root, false, Leftover::Refuse).unwrap();
        append(&two, root).unwrap();
    });
}

#[test]
fn forget_in_what_was_held_out_survives_crashes_and_faults() {
    let (folder, [one, two]) = logs();
    let three = folder.path().join("three.csv");
    std::fs::write(&three, "user,item,time\nu3,i9,500\nnew,i2,501\nbad\n").unwrap();
    forget_trial(&|root| {
        run(&one, root, false, Leftover::Refuse).unwrap();
        append(&two, root).unwrap();
        append(&three, root).unwrap();
        // With the lists of the first append, which the copy keeps.
        let (out, held) = (root.join("out.pec"), root.join("held.pec"));
        let dataset = Dataset::open(&out).unwrap();
        hold_out(&dataset, &dataset.manifest().changes[1].before, (&held, false), &ctx()).unwrap();
        drop(dataset);
        std::fs::remove_dir_all(&out).unwrap();
        std::fs::rename(held, out).unwrap();
    });
}

#[test]
fn hold_out_survives_crashes_and_faults() {
    let (_folder, [one, two]) = logs();
    for older in [false, true] {
        let act = |root: &Path| -> Result<(), Box<dyn Error>> {
            let dataset = Dataset::open(root.join("out.pec"))?;
            let since = &dataset.manifest().changes[0].before;
            hold_out(&dataset, since, (&root.join("held.pec"), true), &ctx())?;
            Ok(())
        };
        let trial = Trial {
            prepare: &|root| {
                run(&one, root, false, Leftover::Refuse).unwrap();
                if older {
                    std::fs::rename(root.join("out.pec"), root.join("held.pec")).unwrap();
                    // The rejects are still there.
                    run(&two, root, true, Leftover::Refuse).unwrap();
                    append(&one, root).unwrap();
                } else {
                    append(&two, root).unwrap();
                }
            },
            act: &act,
            state: &|root| Ok(format!("{}, {}", state(root)?, datasets::state(&root.join("held.pec"))?)),
            again: &act,
        };
        for tried in [Tried::Crash, Tried::Fault] {
            let count = trial.run(tried);
            assert!(count > 20, "{count}");
        }
    }
}
