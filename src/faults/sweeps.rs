//! A sweep, whose journal is appended to.

use std::error::Error;
use std::path::Path;

use super::trial::{Trial, Tried};
use crate::context::{ByteSize, Context};
use crate::dataset::Part;
use crate::rank::fixture;
use crate::sweep::{Search, Space, SweepOptions, sweep};
use crate::train::TrainConfig;

/// The sweep is done when its table is there, with two rows.
fn state(root: &Path) -> Result<String, Box<dyn Error>> {
    match std::fs::read_to_string(root.join("sweep/table.md")) {
        Ok(table) => Ok(format!("{} rows", table.lines().filter(|line| line.contains("l2")).count())),
        Err(_) => Ok("none".into()),
    }
}

fn trial(tried: Tried) {
    let folder = tempfile::tempdir().unwrap();
    let part = |shift: usize| (0..8).map(|u| (0..3).map(|k| ((u * 3 + k + shift) % 9) as u32).collect()).collect();
    let parts = [(Part::Train, part(0)), (Part::Valid, part(3))];
    let dataset = fixture::dataset(&folder.path().join("data.pec"), 9, &parts);
    let space = Space::from_toml("l2 = [0.01, 0.02]").unwrap();
    let base = TrainConfig { epochs: 1, dimensions: 4, deterministic: true, ..TrainConfig::default() };
    let run = |root: &Path, resume: bool| -> Result<(), Box<dyn Error>> {
        let options = SweepOptions {
            search: Search::Grid,
            seeds: 1,
            halving: None,
            metric: "ndcg@5".parse()?,
            users: None,
            resume,
        };
        sweep(&dataset, &base, &space, &options, &root.join("sweep"), &Context::new(1, ByteSize(256 << 20)))?;
        Ok(())
    };
    let trial = Trial {
        prepare: &|_| {},
        act: &|root| run(root, false),
        state: &state,
        again: &|root| run(root, root.join("sweep/journal").exists()),
    };
    let count = trial.run(tried);
    assert!(count > 20, "{count}");
}

#[test]
fn a_sweep_survives_crashes() {
    trial(Tried::Crash);
}

#[test]
fn a_sweep_survives_faults() {
    trial(Tried::Fault);
}
