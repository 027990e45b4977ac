//! A small log, ingested and trained on through the binary, for the tests of what comes after.

use assert_cmd::Command;

/// The binary with these arguments.
pub fn peccary(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("peccary").unwrap();
    command.args(args);
    command
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
