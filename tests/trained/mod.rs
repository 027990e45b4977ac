//! A small log, ingested and trained on through the binary, for the tests of what comes after.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Output};

use assert_cmd::Command;

/// The binary with these arguments.
pub fn peccary(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("peccary").unwrap();
    command.args(args);
    command
}

/// A manifest as it is written, with a checksum of all before its line.
pub fn sealed(mut manifest: serde_json::Map<String, serde_json::Value>) -> String {
    manifest.remove("checksum");
    let mut text = serde_json::to_string_pretty(&manifest).unwrap();
    text.truncate(text.len() - 2);
    text += ",\n";
    let checksum = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    format!("{text}  \"checksum\": \"{checksum:016x}\"\n}}\n")
}

/// A process that ends with its test, however that ends.
pub struct Running(Option<Child>);

impl Running {
    /// Waits for its end, and reads what it has to say.
    pub fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// Sends it a signal, such as `-STOP`, unless it has ended.
    pub fn signal(&mut self, signal: &str) {
        if self.try_wait().unwrap().is_none() {
            // It may end by itself between.
            let _ = std::process::Command::new("kill").args([signal, &self.id().to_string()]).status().unwrap();
        }
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(Some(child))
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Paths of a dataset with all three parts, a model of it, and another dataset with train alone.
pub struct Trained {
    pub folder: tempfile::TempDir,
    pub dataset: String,
    pub model: String,
    pub other: String,
}

impl Trained {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (log, dataset, other) = (path("log.csv"), path("log.pec"), path("other.pec"));
        let size = ["--users", "400", "--items", "1000", "--interactions", "16000"];
        peccary(&["synth", "--output", &log, "--quiet"]).args(size).assert().success();
        let parts = ["--split", "random:0.2", "--valid-split", "random:0.1"];
        peccary(&["ingest", &log, "--output", &dataset, "--quiet"]).args(parts).assert().success();
        peccary(&["ingest", &log, "--output", &other, "--quiet"]).assert().success();
        let mut trained = Self { folder, dataset, model: String::new(), other };
        trained.model = trained.train(&trained.dataset);
        trained
    }

    /// Trains on `dataset`; returns where the model is.
    pub fn train(&self, dataset: &str) -> String {
        let model = format!("{dataset}.model");
        let args = ["--dim", "16", "--epochs", "3", "--quiet"];
        peccary(&["train", dataset, "--output", &model]).args(args).assert().success();
        model
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }
}
