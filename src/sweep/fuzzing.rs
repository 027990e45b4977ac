//! Journals and spaces of sweeps, for the fuzzers.

use std::fs;

use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_64;

use super::Space;
use super::journal::{Head, Journal};
use crate::fuzzing::scratch;

thread_local! {
    static FOLDER: tempfile::TempDir = scratch();
}

fn head() -> Head {
    let (base, space) = (json!({"epochs": 3}), json!({"l2": [0.1]}));
    Head { dataset: "d".into(), base, space, metric: "ndcg@20".into(), users: None }
}

/// A journal, each line with the checksum that belongs to it; resumed twice, as the first may cut it off.
pub(crate) fn journal(input: &[u8]) {
    let mut text = Vec::new();
    for line in input.split_inclusive(|b| *b == b'\n') {
        let json = line.strip_suffix(b"\n").unwrap_or(line);
        text.extend_from_slice(format!("{:016x} ", xxh3_64(json)).as_bytes());
        text.extend_from_slice(line);
    }
    FOLDER.with(|folder| {
        fs::write(folder.path().join("journal"), text).expect("a journal is written");
        for _ in 0..2 {
            if let Ok(journal) = Journal::open(folder.path(), &head(), true) {
                let _ = (journal.epochs(), journal.get("k1"));
            }
        }
    });
}

pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let mut first = json!({"format": "peccary-sweep", "version": 1});
    let head = serde_json::to_value(head()).expect("a head is JSON");
    first.as_object_mut().expect("it is an object").extend(head.as_object().expect("it is an object").clone());
    let measured =
        json!({"metrics": [["ndcg@20", 0.1]], "seconds": 1.5, "triples_per_second": 1e6, "replicates": [0.1]});
    let run = json!({"key": "k1", "choices": ["x"], "epochs": 3, "seed": 1, "outcome": {"measured": measured}});
    let failed = json!({"key": "k2", "choices": [], "epochs": 3, "seed": 1, "outcome": {"failed": "why"}});
    vec![format!("{first}\n{run}\n{failed}\n").into_bytes()]
}

/// Makes the grid, and draws, and applies what was chosen to a configuration.
pub(crate) fn choose(space: &Space, rng: &mut Xoshiro256PlusPlus) {
    let _ = (space.names(), space.as_read());
    let grid = space.grid().unwrap_or_default();
    assert!(grid.len() <= 10_000);
    let drawn: Vec<_> = (0..3).map(|_| space.draw(rng)).collect();
    for choices in grid.iter().take(3).chain(&drawn) {
        let mut config = json!({});
        super::space::apply(&mut config, choices);
    }
}
