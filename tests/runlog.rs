//! The run log, through the public API and the binary: what it says is what the run reports, it outlives a killed process,
//! and training does not need it; what `watch`, `calibrate` and `inspect --health` make of a run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use peccary::{Model, RunEnded, RunHappening, RunLog, RunLogError};
use serde_json::Value;
use tempfile::TempDir;

fn peccary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peccary")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = peccary(&[arguments, &["--json", "--quiet"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with a planted dataset of train, valid and test, and a path for a model.
struct Case {
    _folder: TempDir,
    data: PathBuf,
    model: PathBuf,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [log, data, model] = ["log.csv", "log.pec", "log.model"].map(|name| folder.path().join(name));
        json(&["synth", "--output", text(&log), "--users", "600", "--items", "400", "--interactions", "20000"]);
        let split = ["--split", "random:0.1", "--valid-split", "random:0.1"];
        json(&[&["ingest", text(&log), "--output", text(&data)], &split[..]].concat());
        Self { _folder: folder, data, model }
    }

    fn train(&self, more: &[&str]) -> Value {
        json(&[&["train", text(&self.data), "--output", text(&self.model), "--threads", "2"], more].concat())
    }

    fn partial(&self) -> PathBuf {
        self.model.with_extension("model.partial")
    }

    /// Begins a training that takes long, and waits until it has done some epochs.
    fn begin(&self, more: &[&str]) -> std::process::Child {
        let child = Command::new(env!("CARGO_BIN_EXE_peccary"))
            .args(["train", text(&self.data), "--output", text(&self.model), "--epochs", "1000000", "--quiet"])
            .args(more)
            .spawn()
            .unwrap();
        let began = Instant::now();
        while RunLog::open(&self.model).map_or(0, |log| log.epochs().len()) < 3 {
            assert!(began.elapsed() < Duration::from_secs(120), "it has not begun");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }
}

#[test]
fn a_log_says_what_the_run_reports_and_is_published_with_the_model() {
    let case = Case::new();
    for loss in ["bpr", "bsl"] {
        let report = case.train(&["--loss", loss, "--epochs", "4", "--metric", "ndcg@10", "--force"]);
        assert!(!case.partial().exists(), "it has moved");
        let log = RunLog::open(&case.model).unwrap();
        assert_eq!(log.header().epochs, 4);
        assert_eq!(log.header().config, report["config"]);
        let epochs = report["epochs"].as_array().unwrap();
        assert_eq!(log.epochs().len(), epochs.len());
        for (logged, reported) in log.epochs().iter().zip(epochs) {
            assert_eq!(logged.loss, reported["loss"].as_f64());
            assert_eq!(Some(logged.triples), reported["triples"].as_u64());
            assert_eq!(Some(logged.negatives.harder), reported["negatives"]["harder"].as_f64());
            for (what, value) in [("gradient", logged.gradient), ("update", logged.update), ("row", logged.row)] {
                // An epoch that is over in a moment may have none.
                assert!(value.is_none_or(|v| v > 0.0 && v.is_finite()), "{loss}: {what} {value:?}");
            }
            let blocked = [logged.producers_blocked, logged.trainers_blocked];
            assert!(blocked.iter().all(|share| share.is_some_and(|s| (0.0..=1.0).contains(&s))), "{blocked:?}");
        }
        let looked_at = log.epochs().iter().any(|epoch| epoch.gradient.is_some() && epoch.update.is_some());
        assert!(looked_at || loss == "bpr", "some gradients are looked at where epochs are not over at once");
        let history = report["validation"]["history"].as_array().unwrap();
        let values: Vec<_> = log.validations().iter().map(|v| Some(v.value)).collect();
        assert_eq!(values, history.iter().map(|v| v["value"].as_f64()).collect::<Vec<_>>());
        let end = log.end().unwrap();
        assert_eq!((end.status, end.epochs), (RunEnded::Done, 4));
        assert_eq!(end.best.as_ref().map(|best| best.value), report["validation"]["best_value"].as_f64());
        let last = *log.moments().last().unwrap();
        assert_eq!(last.triples, end.triples);
        assert!(last.memory.is_none_or(|bytes| bytes > 1 << 20));
    }
    // Damage is found, and the fingerprint is that of the tables alone.
    let model = Model::open(&case.model).unwrap();
    let record = model.manifest().files.iter().find(|file| file.path.ends_with("run.ndjson")).unwrap();
    let path = case.model.join(&record.path);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(RunLog::open(&case.model), Err(RunLogError::Storage(_))));
    assert!(!peccary(&["verify", text(&case.model)]).status.success());
}

#[test]
fn the_log_of_a_killed_run_is_read_and_gone_on_with() {
    let case = Case::new();
    let mut child = case.begin(&["--checkpoint-every", "epoch"]);
    let running = RunLog::open(&case.model).unwrap();
    assert!(running.is_being_written() && running.end().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = RunLog::open(&case.model).unwrap();
    assert!(!killed.is_being_written() && killed.end().is_none() && killed.epochs().len() >= 3);
    let watched = peccary(&["watch", text(&case.model)]);
    let said = String::from_utf8_lossy(&watched.stdout);
    assert!(watched.status.success() && said.contains("killed") && said.contains("--resume"), "{said}");
    // It goes on in the same log, until it is told to stop.
    let resumed = Command::new(env!("CARGO_BIN_EXE_peccary"))
        .args(["train", "--resume", text(&case.model), "--quiet"])
        .spawn()
        .unwrap();
    let began = Instant::now();
    let goes_on = |log: &RunLog| log.events().any(|event| event.what == RunHappening::Resumed);
    loop {
        let log = RunLog::open(&case.model).unwrap();
        if goes_on(&log) && log.epochs().len() > killed.epochs().len() + 2 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it does not go on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &resumed.id().to_string()]).status().unwrap().success());
    assert_eq!(resumed.wait_with_output().unwrap().status.code(), Some(130));
    let log = RunLog::open(&case.model).unwrap();
    assert_eq!(log.end().map(|end| end.status), Some(RunEnded::Interrupted));
    let numbers: Vec<u32> = log.epochs().iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "each once");
    assert!(log.epochs().windows(2).all(|w| w[0].seconds <= w[1].seconds), "the time goes on");
}

#[test]
fn training_does_not_need_a_log() {
    let case = Case::new();
    // The name is taken by a folder.
    let taken = case.partial().join("run.ndjson");
    std::fs::create_dir_all(&taken).unwrap();
    let output = peccary(&[
        "train",
        text(&case.data),
        "--output",
        text(&case.model),
        "--epochs",
        "2",
        "--checkpoint-every",
        "off",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => {
            let told = ["without a run log", "removing what an earlier training left"];
            assert!(told.iter().any(|words| said.contains(words)) && Model::open(&case.model).is_ok(), "{said}");
        }
        // What lies there is not of a training: refused before anything is trained.
        false => assert!(said.contains("log.model.partial"), "{said}"),
    }
}

#[test]
fn a_run_is_watched_in_plain_lines() {
    let case = Case::new();
    let refused = peccary(&["watch", text(&case.model)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no training that makes it"));
    case.train(&["--epochs", "3", "--metric", "ndcg@10"]);
    let watched = peccary(&["watch", text(&case.model)]);
    let said = String::from_utf8_lossy(&watched.stdout);
    for words in ["epoch 1/3", "epoch 3/3", "ndcg@10", "the best so far", "3 of 3 epochs", "all epochs are trained"] {
        assert!(said.contains(words), "no '{words}' in {said}");
    }
    let ended = json(&["watch", text(&case.model)]);
    assert_eq!((&ended["status"], &ended["epochs"]), (&Value::from("done"), &Value::from(3)));
}

#[test]
fn a_model_is_calibrated_and_its_recommendations_have_probabilities() {
    let case = Case::new();
    case.train(&["--epochs", "20"]);
    let fingerprint = Model::open(&case.model).unwrap().manifest().fingerprint();
    let (model, data) = (text(&case.model), text(&case.data));
    for method in ["platt", "isotonic"] {
        let report = json(&["calibrate", model, data, "--method", method]);
        assert_eq!(report["calibration"]["method"], method);
        let ece = |which: &str| report["reliability"][which]["ece"].as_f64().unwrap();
        assert!(ece("calibrated") < ece("uncalibrated") && ece("calibrated") < 0.1, "{report}");
        let again = json(&["calibrate", model, data]);
        let of = |report: &Value| report["reliability"]["calibrated"]["ece"].as_f64().unwrap();
        assert!((of(&again) - of(&report)).abs() < 1e-9, "what is kept is what was fitted");
    }
    assert_eq!(Model::open(&case.model).unwrap().manifest().fingerprint(), fingerprint);
    let lines = peccary(&["recommend", model, data, "--users", "3", "--k", "5", "--quiet"]);
    for line in String::from_utf8(lines.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let of = |item: &Value| item["probability"].as_f64().unwrap();
        let items = line["items"].as_array().unwrap();
        assert!(items.iter().all(|item| (0.0..=1.0).contains(&of(item))));
        assert!(items.windows(2).all(|w| of(&w[0]) >= of(&w[1])), "the order stays");
    }
    let csv = peccary(&["recommend", model, data, "--users", "1", "--format", "csv", "--quiet"]);
    assert!(csv.stdout.starts_with(b"user,rank,item,score,probability\n"));
    let evaluated = json(&["evaluate", model, data, "--calibration", "--baselines", "none", "--k", "10"]);
    let again = json(&["calibrate", model, data]);
    assert_eq!(evaluated["calibration"], again["reliability"]);
    let other = peccary(&["calibrate", model, data, "--negatives", "9"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("--negatives 4"));
    json(&["calibrate", model, data, "--remove"]);
    let csv = peccary(&["recommend", model, data, "--users", "1", "--format", "csv", "--quiet"]);
    assert!(csv.stdout.starts_with(b"user,rank,item,score\n"));
}

#[test]
fn the_health_of_embeddings_is_told() {
    let case = Case::new();
    case.train(&["--epochs", "10", "--dim", "16"]);
    let (model, data) = (text(&case.model), text(&case.data));
    let health = json(&["inspect", model, "--health", "--dataset", data, "--against", model]);
    assert_eq!(health["kind"], "health");
    for side in ["users", "items"] {
        let rank = health[side]["effective_rank"].as_f64().unwrap();
        assert!((1.0..=16.0).contains(&rank), "{rank}");
        assert!(health[side]["norms"]["median"].as_f64().unwrap() > 0.0);
        assert!(health[side]["uniformity"].as_f64().unwrap() < 0.0);
    }
    assert!((0.0..2.0).contains(&health["alignment"].as_f64().unwrap()));
    assert_eq!((&health["against"]["neighbours"], &health["against"]["top"]), (&Value::from(1.0), &Value::from(1.0)));
    assert!(peccary(&["inspect", model, "--health"]).status.success());
    assert_eq!(peccary(&["inspect", model, "--against", model]).status.code(), Some(2));
}
