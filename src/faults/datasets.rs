//! Ingest.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::trial::{Trial, Tried};
use crate::context::{ByteSize, Context};
use crate::dataset::Dataset;
use crate::ingest::{IngestOptions, IngestRun, Input, Inputs, Leftover, OnError, Split, ingest};

/// Enough for an ingest.
pub(super) fn ctx() -> Context {
    Context::new(1, ByteSize(64 << 20))
}

/// A log with a bad row, and another.
pub(super) fn logs() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("one.csv"), folder.path().join("two.csv")];
    for (path, step) in paths.iter().zip([3, 5]) {
        let row = |i: u32| format!("u{},i{},{}\n", i * step % 11, i * step % 7, 100 + i);
        let text: String = (0..60).map(row).collect();
        std::fs::write(path, format!("user,item,time\n{text}bad\n")).unwrap();
    }
    (folder, paths)
}

fn options() -> IngestOptions {
    let mut options = IngestOptions { split: Split::LeaveOneOut, on_error: OnError::Skip, ..IngestOptions::default() };
    options.read.time = Some("time".parse().unwrap());
    options
}

pub(super) fn run(log: &Path, root: &Path, force: bool, leftover: Leftover) -> Result<(), Box<dyn Error>> {
    let run = IngestRun { force, leftover, checkpoint: Duration::ZERO };
    let inputs = Inputs::from(vec![Input::Path(log.to_path_buf())]);
    ingest(&inputs, &options(), &root.join("out.pec"), run, &ctx())?;
    Ok(())
}

/// What of a dataset is there.
pub(super) fn state(path: &Path) -> Result<String, Box<dyn Error>> {
    if !path.exists() {
        return Ok("none".into());
    }
    let dataset = Dataset::open(path)?;
    dataset.verify(&ctx())?;
    Ok(dataset.fingerprint().to_string())
}

fn ingest_trial(older: bool, tried: Tried) {
    let (_folder, [one, two]) = logs();
    let trial = Trial {
        prepare: &|root| {
            if older {
                run(&one, root, false, Leftover::Refuse).unwrap();
            }
        },
        act: &|root| run(&two, root, older, Leftover::Refuse),
        state: &|root| state(&root.join("out.pec")),
        again: &|root| {
            let journaled = root.join("out.pec.partial/journal").exists();
            run(&two, root, true, if journaled { Leftover::Resume } else { Leftover::Refuse })
        },
    };
    let count = trial.run(tried);
    assert!(count > 40, "{count}");
}

#[test]
fn ingest_survives_crashes() {
    ingest_trial(false, Tried::Crash);
    ingest_trial(true, Tried::Crash);
}

#[test]
fn ingest_survives_faults() {
    ingest_trial(false, Tried::Fault);
    ingest_trial(true, Tried::Fault);
}
