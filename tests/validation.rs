//! Control of a run: validation, early stopping, learning rates and divergence, through the binary and the public API.

use std::path::Path;
use std::process::Output;

use peccary::{
    ByteSize, Context, Dataset, LossKind, Model, Schedule, Similarity, Stopped, TrainConfig, ValidationConfig, train,
};
use serde_json::Value;
use tempfile::TempDir;

fn peccary(arguments: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("peccary").unwrap().args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = peccary(&[arguments, &["--json", "--quiet"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with a small planted dataset of train, valid and test, and a path for a model.
struct Case {
    folder: TempDir,
    data: String,
    model: String,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let (log, data, model) = (path("log.csv"), path("log.pec"), path("log.model"));
        let size = ["--users", "600", "--items", "400", "--interactions", "15000"];
        json(&[&["synth", "--output", &log], &size[..]].concat());
        json(&["ingest", &log, "--output", &data, "--split", "random:0.1", "--valid-split", "random:0.1"]);
        Self { folder, data, model }
    }

    fn train(&self, more: &[&str]) -> Value {
        json(&[&["train", &self.data, "--output", &self.model, "--force", "--threads", "2"], more].concat())
    }

    /// What must not train: its exit code and message.
    fn refused(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = peccary(&[&["train", &self.data, "--output", &self.model], more].concat());
        assert!(!Path::new(&self.model).exists());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The metric of the published model on valid.
    fn metric(&self, name: &str) -> f64 {
        let k = name.split_once('@').map_or("1", |(_, k)| k);
        let evaluation =
            json(&["evaluate", &self.model, &self.data, "--split", "valid", "--k", k, "--baselines", "none"]);
        evaluation["metrics"][name].as_f64().unwrap()
    }
}

/// The best of the values of a report's history, and its epoch.
fn best(validation: &Value) -> (f64, u64) {
    let history = validation["history"].as_array().unwrap();
    let values = history.iter().map(|seen| (seen["value"].as_f64().unwrap(), seen["epoch"].as_u64().unwrap()));
    values.reduce(|best, next| if next.0 > best.0 { next } else { best }).unwrap()
}

/// `value` with numbers in single precision, which some are printed in.
fn in_f32(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64().unwrap() as f32),
        Value::Array(values) => values.iter().map(in_f32).collect(),
        Value::Object(values) => values.iter().map(|(key, value)| (key.clone(), in_f32(value))).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_model_is_that_of_the_best_epoch_and_the_run_stops_when_patience_runs_out() {
    let case = Case::new();
    // Rates that do not fall and no regularization: these runs get worse sooner or later.
    let overfit = ["--schedule", "constant", "--epochs", "80", "--patience", "3"];
    let runs: [(&str, &[&str]); 5] = [
        ("ndcg@10", &["--l2", "0", "--dim", "32"]),
        ("recall@20", &["--l2", "0", "--dim", "24", "--precision", "bf16", "--validate-every", "2"]),
        (
            "hit_rate@10",
            &["--similarity", "cosine", "--dim", "20", "--temperature", "0.05", "--l2", "0", "--negatives", "20"],
        ),
        ("map@5", &["--loss", "bsl", "--negatives", "60", "--temperature", "0.05", "--learning-rate", "0.05"]),
        ("mrr@10", &["--loss", "logistic", "--l2", "0", "--optimizer", "adam", "--deterministic", "--lr", "0.01"]),
    ];
    for (metric, more) in runs {
        let report = case.train(&[&overfit[..], &["--metric", metric], more].concat());
        let found = &report["validation"];
        assert_eq!(report["stopped"], "patience", "{more:?}: {found}");
        let trained = report["epochs"].as_array().unwrap().len() as u64;
        assert!(trained < 80, "{found}");
        let (value, epoch) = best(found);
        assert_eq!((found["best_value"].as_f64(), found["best_epoch"].as_u64()), (Some(value), Some(epoch)));
        assert_eq!(found["history"].as_array().unwrap().last().unwrap()["epoch"], trained);
        let every = if more.contains(&"--validate-every") { 2 } else { 1 };
        assert_eq!(trained - epoch, 3 * every, "three validations after the best");
        assert_eq!(case.metric(metric), value, "{more:?}: what is published is what was measured");
        let manifest = Model::open(&case.model).unwrap().manifest().clone();
        assert_eq!(in_f32(&manifest.history["validation"]), in_f32(found));
        assert_eq!(manifest.history["stopped"], report["stopped"]);
        assert_eq!(manifest.config["validation"]["metric"], metric);
    }
}

#[test]
fn tables_in_files_are_validated_and_the_best_kept_as_in_memory() {
    let case = Case::new();
    let run = ["--deterministic", "--schedule", "constant", "--l2", "0", "--epochs", "12", "--dim", "256"];
    let run = [&run[..], &["--lr", "0.05", "--metric", "ndcg@10"]].concat();
    let files = || {
        ["v000001/users.factors", "v000001/items.factors"]
            .map(|file| std::fs::read(Path::new(&case.model).join(file)).unwrap())
    };
    let (_, message) = case.refused(&[&run[..], &["--memory", "1MiB", "--threads", "2"]].concat());
    let smallest = message.split_once('(').and_then(|(_, rest)| rest.split_once(" bytes)")).unwrap().0.to_string();
    let roomy = case.train(&run);
    let in_memory = files();
    let tight = case.train(&[&run[..], &["--memory", &smallest]].concat());
    assert_eq!(tight["plan"]["tables"], "both-in-files", "{}", tight["plan"]);
    assert_eq!(tight["plan"]["validation"]["best_in_file"], true);
    assert_eq!(roomy["plan"]["validation"]["best_in_file"], false);
    let found = &tight["validation"];
    assert!(found["best_epoch"].as_u64() < Some(12), "it is the copy that is published: {found}");
    assert_eq!(case.metric("ndcg@10"), best(found).0);
    // Where windows are as large, where the tables are changes nothing.
    if tight["plan"]["window"] == roomy["plan"]["window"] {
        assert!(in_memory == files());
    }
}

#[test]
fn validation_changes_no_bit_of_a_run_and_threads_none_of_what_it_decides() {
    let case = Case::new();
    let data = Dataset::open(&case.data).unwrap();
    let files = |config: &TrainConfig, threads: usize| {
        let (_, report) =
            train(&data, config, case.model.as_ref(), true, &Context::new(threads, ByteSize(1 << 30))).unwrap();
        let files = ["v000001/users.factors", "v000001/items.factors"]
            .map(|f| std::fs::read(Path::new(&case.model).join(f)).unwrap());
        (files, report)
    };
    for (loss, similarity) in [(LossKind::Bpr, Similarity::Cosine), (LossKind::Bsl, Similarity::Cosine)] {
        let mut config = TrainConfig { deterministic: true, dimensions: 16, epochs: 5, ..TrainConfig::default() };
        (config.loss.kind, config.similarity) = (loss, Some(similarity));
        config.negatives.count = Some(40);
        let (plain, report) = files(&config, 2);
        assert!(report.validation.is_none() && report.stopped == Stopped::Epochs);
        let validation = ValidationConfig { users: Some(100), ..ValidationConfig::default() };
        config.validation = Some(validation.clone());
        let (one, first) = files(&config, 1);
        let found = first.validation.unwrap();
        assert_eq!((found.users, found.history.len()), (100, 5));
        if found.best_epoch == 5 {
            assert!(one == plain, "looking changes nothing");
        }
        // Lowered after each validation that is no new best: decisions, too, are the same.
        config.optimizer.schedule = Schedule::Plateau;
        config.optimizer.patience = Some(1);
        config.validation = Some(ValidationConfig { min_delta: 0.05, patience: Some(3), ..validation });
        let (one, first) = files(&config, 1);
        for threads in [2, 5] {
            let (more, other) = files(&config, threads);
            assert!(one == more, "{threads} threads");
            let values = |report: &peccary::TrainReport| {
                let history = &report.validation.as_ref().unwrap().history;
                history.iter().map(|seen| (seen.epoch, seen.value, seen.learning_rate)).collect::<Vec<_>>()
            };
            assert_eq!(values(&first), values(&other));
        }
    }
}

#[test]
fn learning_rates_warm_up_step_and_fall_on_plateaus() {
    let case = Case::new();
    let rates = |more: &[&str]| -> Vec<f64> {
        let report = case.train(&[&["--dim", "8", "--lr", "0.04"], more].concat());
        report["epochs"].as_array().unwrap().iter().map(|e| e["learning_rate"].as_f64().unwrap() / 0.04).collect()
    };
    let near = |got: &[f64], want: &[f64]| {
        assert!(got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g / w - 1.0).abs() < 1e-5), "{got:?}");
    };
    near(&rates(&["--epochs", "5", "--warm-up", "2"]), &[0.01, 0.505, 1.0, 2.0 / 3.0, 1.0 / 3.0]);
    near(&rates(&["--epochs", "4", "--schedule", "step"]), &[1.0, 1.0, 0.1, 0.01]);
    let every = ["--epochs", "5", "--schedule", "step", "--lr-every", "2", "--lr-factor", "0.5", "--warm-up", "1"];
    near(&rates(&every), &[0.01, 1.0, 1.0, 0.5, 0.5]);
    near(&rates(&["--epochs", "4", "--schedule", "step", "--lr-at", "0.25"]), &[1.0, 0.1, 0.1, 0.1]);
    // No metric rises by 2: the first is the mark, and every second one after it lowers the rate.
    let plateau = ["--epochs", "6", "--schedule", "plateau", "--lr-patience", "2", "--min-delta", "2"];
    near(&rates(&plateau), &[1.0, 1.0, 1.0, 0.1, 0.1, 0.01]);
}

#[test]
fn what_cannot_be_validated_is_refused_with_what_would() {
    let case = Case::new();
    for (flags, words) in [
        (&["--metric", "ndgc@10"][..], &["validation.metric", "ndcg@20"][..]),
        (&["--metric", "ndcg@401"], &["validation.metric", "up to 400"]),
        (&["--schedule", "plateau"], &["optimizer.schedule", "[validation]", "--metric"]),
        (&["--schedule", "plateau", "--patience", "2"], &["optimizer.patience", "validation.patience"]),
        (&["--warm-up", "30"], &["optimizer.warm_up", "epochs"]),
        (&["--schedule", "step", "--lr-at", "0.5,0.2"], &["optimizer.at", "ascending"]),
        (&["--patience", "0"], &["validation.patience", "leave it out"]),
    ] {
        let (code, message) = case.refused(flags);
        assert_eq!(code, Some(1), "{message}");
        words.iter().for_each(|word| assert!(message.contains(word), "{flags:?}: {message}"));
    }
    for (flag, remedy) in
        [("--lr-every", "--schedule step"), ("--lr-patience", "--schedule plateau"), ("--lr-factor", "step or plateau")]
    {
        let (code, message) = case.refused(&[flag, if flag == "--lr-factor" { "0.5" } else { "2" }]);
        assert!(code == Some(2) && message.contains(flag) && message.contains(remedy), "{message}");
    }
    // Test is there, but nobody validates on it.
    let (log, other) = (case.folder.path().join("log.csv"), case.folder.path().join("other.pec"));
    let [log, other] = [&log, &other].map(|path| path.to_str().unwrap());
    json(&["ingest", log, "--output", other, "--split", "random:0.1"]);
    for command in ["train", "plan"] {
        let output = if command == "train" { &["--output", &case.model][..] } else { &[] };
        let refused = peccary(&[&[command, other, "--metric", "mrr@5"], output].concat());
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(["other.pec", "no valid part", "--valid-split"].iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn a_run_that_diverges_is_stopped_at_once_and_names_the_row() {
    let case = Case::new();
    let data = Dataset::open(&case.data).unwrap();
    // With a warm-up of twenty epochs the rate begins low: what is named is the rate at which it went wrong.
    for more in [&["--lr", "1e6"][..], &["--lr", "1e4", "--loss", "logistic"], &["--lr", "1e5", "--loss", "softmax"]] {
        let fixed = ["--l2", "0", "--epochs", "30", "--schedule", "constant", "--similarity", "dot", "--no-rollback"];
        let more = [more, &fixed].concat();
        let (code, message) = case.refused(&more);
        assert_eq!(code, Some(1), "{message}");
        let after = |word: &str| message.split_once(word).unwrap_or_else(|| panic!("{word}: {message}")).1;
        let rate: f64 = after("at learning rate ").split(':').next().unwrap().parse().unwrap();
        assert_eq!(rate, more[1].parse::<f64>().unwrap(), "{message}");
        let (side, id) =
            after("the row of ").split_once(" '").map(|(s, rest)| (s, rest.split('\'').next().unwrap())).unwrap();
        let ids = if side == "user" { data.users() } else { data.items() };
        assert!(ids.find(id).is_some(), "{side} {id}: {message}");
        assert!(message.contains("--learning-rate"), "{message}");
    }
    let warm = ["--lr", "1e6", "--l2", "0", "--warm-up", "20", "--no-rollback"];
    let (_, message) = case.refused(&warm);
    let rate = message.split_once("at learning rate ").unwrap().1.split(':').next().unwrap().parse::<f64>().unwrap();
    assert!(rate < 1e6, "{message}");
}
