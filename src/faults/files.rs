//! Outputs of a single file.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use super::trial::{Trial, Tried};
use crate::storage::{AtomicFile, IoContext};

const LARGE: usize = 600 << 10;

fn write(target: &Path, force: bool, byte: u8, len: usize) -> Result<(), Box<dyn Error>> {
    let mut file = AtomicFile::new(target, force)?;
    file.write_all(&vec![byte; len]).at(target, "write")?;
    Ok(file.publish()?)
}

fn state(root: &Path) -> Result<String, Box<dyn Error>> {
    match std::fs::read(root.join("out.csv")) {
        Ok(bytes) => {
            let kinds: std::collections::BTreeSet<u8> = bytes.iter().copied().collect();
            Ok(format!("{kinds:?} {}", bytes.len()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok("none".into()),
        Err(e) => Err(e.into()),
    }
}

fn trial(older: bool, tried: Tried) {
    let trial = Trial {
        prepare: &|root| {
            if older {
                write(&root.join("out.csv"), false, b'a', 99).unwrap();
            }
        },
        act: &|root| write(&root.join("out.csv"), older, b'b', LARGE),
        state: &state,
        again: &|root| write(&root.join("out.csv"), true, b'b', LARGE),
    };
    let count = trial.run(tried);
    assert!(count > 4, "{count}");
}

#[test]
fn a_file_survives_crashes_and_faults() {
    for older in [false, true] {
        trial(older, Tried::Crash);
        trial(older, Tried::Fault);
    }
}

#[test]
fn an_older_file_that_goes_goes_whole() {
    let remove =
        |root: &Path| -> Result<(), Box<dyn Error>> { Ok(AtomicFile::new(&root.join("out.csv"), true)?.remove()?) };
    let trial = Trial {
        prepare: &|root| write(&root.join("out.csv"), false, b'a', 99).unwrap(),
        act: &remove,
        state: &state,
        again: &remove,
    };
    assert!(trial.run(Tried::Crash) > 2);
}
