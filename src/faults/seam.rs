//! That everything goes through the one place, and what happens on file systems that cannot exchange names.

use std::path::{Path, PathBuf};

use super::image::{Disk, WAYS};
use crate::storage::double::Watched;
use crate::storage::{AtomicFile, Scratch, Staging, write_manifest};

/// Calls by which a file or folder comes to be, changes its name or goes.
const CALLS: [&str; 11] = [
    "fs::write(",
    "fs::rename(",
    "fs::remove_",
    "fs::create_dir",
    "fs::copy(",
    "fs::hard_link(",
    "File::create",
    "File::options",
    "OpenOptions",
    "tempfile_in(",
    "tempdir_in(",
];

/// Who may call the system, and why.
const ALLOWED: [&str; 6] = [
    // The one place.
    "src/storage/disk.rs",
    // Opens what may be abandoned, for its lock.
    "src/storage/temporary.rs",
    // Tables while training, in files without a name.
    "src/model/shared.rs",
    // What a measurement makes for itself.
    "tools/bench/ingest.rs",
    "tools/bench/shape.rs",
    // The folder that the example goes to; what is in it goes through the library.
    "tools/quickstart.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn nobody_else_asks_the_system_to_change_the_disk() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    ["src", "tools"].iter().for_each(|folder| sources(&root.join(folder), &mut found));
    let mut allowed = std::collections::BTreeSet::new();
    for path in &found {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        let is_test = name.contains("/tests") || name.starts_with("src/faults/") || name.starts_with("src/fuzzing/");
        let text = std::fs::read_to_string(path).unwrap();
        // Unit tests come last.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for (number, line) in (1..).zip(code.lines()).filter(|_| !is_test) {
            let line = line.replace("DiskFile::", "");
            if let Some(call) = CALLS.iter().find(|call| line.contains(**call)) {
                assert!(ALLOWED.contains(&name), "{name}:{number}: {call}: use crate::storage::disk");
                allowed.insert(name.to_string());
            }
        }
    }
    assert_eq!(allowed.len(), ALLOWED.len(), "some need it no more: {allowed:?}");
}

#[derive(serde::Serialize)]
struct Content {
    name: &'static str,
}

fn publish(root: &Path, force: bool, name: &'static str) {
    let staging = Staging::new(&root.join("out"), force, "peccary-model").unwrap();
    write_manifest(staging.path(), "peccary-model", 1, &Content { name }).unwrap();
    staging.publish().unwrap();
}

#[test]
fn without_exchange_the_old_folder_is_brought_back() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    publish(root, false, "old");
    let mut disk = Disk::scan(root);
    let watched = Watched::new(root).without_exchange();
    publish(root, true, "new");
    let trace = watched.trace();
    drop(watched);
    let mut gaps = 0;
    for number in 0..=trace.len() {
        for way in 0..WAYS {
            super::trial::put(root, &disk.crash(way));
            let there = root.join("out").exists();
            gaps += usize::from(!there);
            // Whoever writes there next sees the old one, or the new.
            assert!(Staging::new(&root.join("out"), false, "peccary-model").is_err(), "call {number}, way {way}");
            let text = std::fs::read_to_string(root.join("out/manifest.json")).unwrap();
            assert!(text.contains("old") && number < trace.len() || text.contains("new"), "call {number}: {text}");
            drop(Staging::new(&root.join("out"), true, "peccary-model").unwrap());
            assert_eq!(root.read_dir().unwrap().count(), 1, "call {number}, way {way}: left behind");
        }
        trace.get(number).into_iter().for_each(|op| disk.apply(op));
    }
    assert!(gaps > 0, "the gap that docs/reliability.md tells of is not there");
}

#[test]
fn what_others_work_on_is_left_alone_and_what_is_not_ours_too() {
    let root = tempfile::tempdir().unwrap();
    let (file, folder) = (root.path().join("a.csv"), root.path().join("a.pec"));
    let names = [".a.csv.tmp-backup", ".a.csv.tmp-0123456789abcdeg", ".a.csv.tmp-0123456789abcdef0"];
    names.iter().for_each(|name| std::fs::write(root.path().join(name), "precious").unwrap());
    let working = (
        AtomicFile::new(&file, false).unwrap(),
        Staging::new(&folder, false, "peccary-model").unwrap(),
        Scratch::new(root.path(), "sample").unwrap(),
    );
    let count = || root.path().read_dir().unwrap().count();
    assert_eq!(count(), 6);
    drop(AtomicFile::new(&file, false).unwrap());
    drop(Staging::new(&folder, false, "peccary-model").unwrap());
    drop(Scratch::new(root.path(), "sample").unwrap());
    assert_eq!(count(), 6, "those at work have lost something");
    drop(working);
    assert_eq!(count(), 3);
    for name in [".a.csv.tmp-0123456789abcdef", ".a.pec.tmp-0123456789abcdef", ".peccary-sample.tmp-0123456789abcdef"] {
        match name.contains("csv") {
            true => std::fs::write(root.path().join(name), "left").unwrap(),
            false => std::fs::create_dir_all(root.path().join(name).join("train")).unwrap(),
        }
    }
    drop(AtomicFile::new(&file, false).unwrap());
    drop(Staging::new(&folder, false, "peccary-model").unwrap());
    drop(Scratch::new(root.path(), "sample").unwrap());
    assert_eq!(count(), 3, "what was left is gone, the rest is there");
}
