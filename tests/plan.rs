//! `peccary plan`: what it says is what then happens, and nothing is left behind.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

fn peccary(args: &[&str]) -> Output {
    assert_cmd::Command::cargo_bin("peccary").unwrap().args(args).output().unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = peccary(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn bytes(folder: &Path) -> u64 {
    let size = |path: &Path| match path.is_dir() {
        true => bytes(path),
        false => path.metadata().unwrap().len(),
    };
    folder.read_dir().unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}

#[test]
fn a_plan_of_a_log_and_of_its_dataset_say_what_then_happens() {
    let folder = tempfile::tempdir().unwrap();
    let [log, data, model] = ["log.csv", "log.pec", "log.model"].map(|name| folder.path().join(name));
    let [log, data_text, model_text] = [&log, &data, &model].map(|path| path.to_str().unwrap());
    let size = ["--users", "3000", "--items", "5000", "--interactions", "150000"];
    assert!(peccary(&[&["synth", "--output", log], &size[..]].concat()).status.success());

    let near = |what: &str, planned: &Value, actual: u64| {
        let off = planned.as_f64().unwrap() / actual as f64 - 1.0;
        assert!(off.abs() < 0.25, "{what}: planned {planned}, was {actual}");
    };
    let run = ["--dim", "24", "--epochs", "2", "--memory", "64MiB", "--threads", "2", "--quiet", "--json"];
    let of_log = json(&[&["plan", log], &run[..]].concat());
    assert_eq!(names(folder.path()), ["log.csv"], "a plan leaves nothing behind");
    let common = ["--memory", "64MiB", "--threads", "2", "--quiet", "--json"];
    let ingested = json(&[&["ingest", log, "--output", data_text], &common[..]].concat());
    near("users", &of_log["ingest"]["survey"]["users"], ingested["users"].as_u64().unwrap());
    near("temporary files", &of_log["ingest"]["temporary"], ingested["peak_temp_bytes"].as_u64().unwrap());
    near("dataset", &of_log["ingest"]["dataset"], bytes(&data));

    let of_data = json(&[&["plan", data_text], &run[..]].concat());
    assert_eq!(names(folder.path()), ["log.csv", "log.pec"], "a plan leaves nothing behind");
    let trained = json(&[&["train", data_text, "--output", model_text], &run[..]].concat());
    assert_eq!(of_data["train"], trained["plan"], "training does what was planned");
    near("the model", &of_data["train"]["model"], bytes(&model));
    near("memory by the log", &of_log["train"]["memory"], of_data["train"]["memory"].as_u64().unwrap());
    assert!(of_data["rehearsal"]["triples_per_second"].as_f64().unwrap() > 0.0);
    // A log has no valid part yet; that validation will be wanted changes the memory.
    let validated = json(&[&["plan", log, "--metric", "ndcg@20", "--schedule", "plateau"], &run[..]].concat());
    assert!(validated["train"]["validation"]["best"].as_u64() > Some(0), "{validated}");
    assert!(validated["rehearsal"]["triples_per_second"].as_f64().unwrap() > 1000.0, "{validated}");
    assert!(of_data["train_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_cannot_be_planned_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.csv");
    let log = log.to_str().unwrap();
    assert!(peccary(&["synth", "--output", log, "--users", "300", "--interactions", "9000"]).status.success());
    for (args, words) in [
        (&["plan", "nowhere.csv"][..], &["nowhere.csv"][..]),
        (&["plan", "-"], &["standard input", "file"]),
        (&["plan", log, "--dim", "0"], &["dimensions", "0"]),
        (&["plan", log, "--user-column", "who"], &["who"]),
        (&["plan", log, "--memory", "1MiB"], &["64MiB"]),
    ] {
        let output = peccary(args);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.iter().all(|word| told.contains(word)), "{args:?}: {told}");
    }
    assert_eq!(names(folder.path()), ["log.csv"]);
}
