//! `peccary sweep`: the better configuration wins, impossible ones are skipped, and what was killed is resumed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::trained::{Trained, peccary};
use serde_json::Value;

const SIZE: [&str; 6] = ["--dim", "8", "--threads", "1", "--quiet", "--metric=ndcg@10"];

/// What a sweep prints.
fn sweep(bench: &Trained, space: &str, output: &str, more: &[&str]) -> Value {
    let (space, output) = (bench.path(space), bench.path(output));
    let mut command = peccary(&["sweep", &bench.dataset, "--space", &space, "--output", &output, "--json"]);
    let done = command.args(SIZE).args(more).assert().success();
    serde_json::from_slice(&done.get_output().stdout).unwrap()
}

/// Its complaint; the exit code must be `code`.
fn fails(dataset: &str, space: &str, output: &str, more: &[&str], code: i32) -> String {
    let mut command = peccary(&["sweep", dataset, "--space", space, "--output", output]);
    let failed = command.args(SIZE).args(more).assert().code(code);
    String::from_utf8_lossy(&failed.get_output().stderr).into_owned()
}

fn spawn(bench: &Trained, space: &str, output: &str, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
    let (space, output) = (bench.path(space), bench.path(output));
    command.args(["sweep", &bench.dataset, "--space", &space, "--output", &output]).args(SIZE).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ends a process by `signal` when its journal in `output` has `lines`.
fn stop(bench: &Trained, child: &mut Child, signal: &str, output: &str, lines: usize) {
    let (begun, journal) = (Instant::now(), bench.path(&format!("{output}/journal")));
    let count = || std::fs::read(&journal).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
    while count() < lines {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it had {lines} lines");
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing happens");
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
}

/// Without what no two runs have in common.
fn without_times(mut report: Value) -> Value {
    for row in report["rows"].as_array_mut().unwrap() {
        let row = row.as_object_mut().unwrap();
        assert!(row.remove("seconds").is_some() && row.remove("triples_per_second").is_some());
    }
    report.as_object_mut().unwrap().remove("best");
    report
}

fn put(bench: &Trained, name: &str, text: &str) {
    std::fs::write(bench.path(name), text).unwrap();
}

#[test]
fn the_better_configuration_wins_and_the_impossible_is_listed() {
    let bench = Trained::new();
    let text = "\"optimizer.learning_rate\" = [1e-6, 0.05, 1e6]\n[[choice.loss]]\nname = \"bpr\"\n[[choice.loss]]\n\
                name = \"softmax\"\nset.loss.kind = \"softmax\"\nset.precision = \"bf16\"";
    put(&bench, "space.toml", text);
    let report = sweep(&bench, "space.toml", "out", &["--epochs", "20", "--seeds", "2"]);
    let rows = report["rows"].as_array().unwrap();
    let labels = |value: &Value| value["choices"].as_array().unwrap().clone();
    assert_eq!(rows.len(), 2, "{report}");
    assert_eq!((labels(&rows[0]), rows[0]["standing"].as_str()), (vec!["bpr".into(), "0.05".into()], Some("best")));
    assert_eq!((labels(&rows[1]), rows[1]["standing"].as_str()), (vec!["bpr".into(), "1e-6".into()], Some("behind")));
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap();
    for row in rows {
        assert_eq!((number(row, "seeds"), number(row, "epochs")), (2.0, 20.0));
        let (low, high) = (row["interval"][0].as_f64().unwrap(), row["interval"][1].as_f64().unwrap());
        assert!(low < number(row, "mean") && number(row, "mean") < high && number(row, "deviation") >= 0.0, "{row}");
        assert_eq!(number(row, "mean"), row["metrics"]["ndcg@10"].as_f64().unwrap());
        assert!(number(row, "seconds") > 0.0 && number(row, "triples_per_second") > 0.0);
    }
    assert!(rows[1]["behind"][0].as_f64().unwrap() > 0.0, "{report}");
    let skipped: Vec<_> = report["skipped"].as_array().unwrap().iter().map(|s| s["reason"].as_str().unwrap()).collect();
    assert_eq!(skipped.len(), 4);
    assert!(skipped[0].starts_with("optimizer.learning_rate = 1000000: it must"), "{skipped:?}");
    assert!(skipped[1].contains("precision = bf16"), "{skipped:?}");
    // The files: the table, and a configuration that gives the measured model.
    let table = std::fs::read_to_string(bench.path("out/table.md")).unwrap();
    assert!(table.contains("| best | 2  | bpr  | 0.05 "), "{table}");
    let mut names: Vec<_> = Path::new(&bench.path("out"))
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["best.toml", "journal", "table.md"], "no model is left");
    let model = bench.path("best.model");
    let best = bench.path("out/best.toml");
    let one = ["--threads", "1", "--quiet"];
    peccary(&["train", &bench.dataset, "--output", &model, "--config", &best]).args(one).assert().success();
    let args = ["evaluate", &model, &bench.dataset, "--split", "valid", "--k", "10", "--baselines", "none", "--json"];
    let output = peccary(&args).assert().success().get_output().stdout.clone();
    let again = serde_json::from_slice::<Value>(&output).unwrap()["metrics"]["ndcg@10"].as_f64().unwrap();
    // The first of the two seeds.
    assert!((again - number(&rows[0], "mean")).abs() <= number(&rows[0], "deviation") + 1e-12, "{again} {report}");
}

#[test]
fn killed_and_resumed_it_finds_the_same() {
    let bench = Trained::new();
    let text = "\"optimizer.learning_rate\" = { low = 1e-3, high = 1e-1, log = true }\n\"negatives.count\" = [1, 2]";
    put(&bench, "space.toml", text);
    let flags = ["--trials", "6", "--halving", "2", "--min-epochs", "20", "--epochs", "80", "--seeds", "2"];
    let whole = sweep(&bench, "space.toml", "whole", &flags);
    // 6 at 20 epochs, 3 at 40, 2 at 80 with two seeds each.
    assert_eq!(whole["rungs"], serde_json::json!([4, 2, 1]), "{whole}");
    let rungs: Vec<_> = whole["rows"].as_array().unwrap().iter().map(|r| (&r["rung"], &r["epochs"])).collect();
    let expected =
        [(3, 80), (3, 80), (2, 40), (1, 20), (1, 20), (1, 20)].map(|(r, e)| (Value::from(r), Value::from(e)));
    assert_eq!(rungs, expected.iter().map(|(r, e)| (r, e)).collect::<Vec<_>>());

    let mut child = spawn(&bench, "space.toml", "out", &flags);
    stop(&bench, &mut child, "-KILL", "out", 3);
    child.wait().unwrap();
    let with = |more: &'static str| [&flags[..], &[more]].concat();
    let mut child = spawn(&bench, "space.toml", "out", &with("--resume"));
    stop(&bench, &mut child, "-INT", "out", 6);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("of 13 runs are kept in") && text.contains("--resume to go on"), "{text}");
    let running = bench.path("out/running.model");
    assert!(!Path::new(&running).exists(), "the model of the run at hand is gone");
    // The torn line of one that was killed while it wrote.
    let journal = bench.path("out/journal");
    let bytes = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, [&bytes[..], b"0123456789abcdef {\"key\":"].concat()).unwrap();
    let resumed = sweep(&bench, "space.toml", "out", &with("--resume"));
    assert_eq!(without_times(resumed.clone()), without_times(whole));
    let best = |folder: &str| std::fs::read_to_string(bench.path(&format!("{folder}/best.toml"))).unwrap();
    assert_eq!(best("out"), best("whole"));
    // A finished sweep shows its table again, times and all; more seeds are trained beside those there are.
    let done = std::fs::read(&journal).unwrap();
    assert_eq!(sweep(&bench, "space.toml", "out", &with("--resume")), resumed);
    assert_eq!(std::fs::read(&journal).unwrap(), done);
    let more = sweep(&bench, "space.toml", "out", &[&flags[..8], &["--seeds", "3", "--resume"]].concat());
    assert_eq!(more["rows"][0]["seeds"], 3);
    assert!(std::fs::read(&journal).unwrap().starts_with(&done));

    // Another space, dataset or configuration is refused, and a second sweep in the folder.
    let (space, out) = (bench.path("space.toml"), bench.path("out"));
    put(&bench, "other.toml", "l2 = [0.1]");
    let refused = fails(&bench.dataset, &bench.path("other.toml"), &out, &["--resume", "--epochs", "80"], 1);
    assert!(refused.contains("cannot resume, because the space"), "{refused}");
    let other = [&flags[..], &["--resume", "--l2", "0.1"]].concat();
    let refused = fails(&bench.dataset, &space, &out, &other, 1);
    assert!(refused.contains("the configuration (--config and flags)"), "{refused}");
    let refused = fails(&bench.dataset, &space, &out, &flags, 1);
    assert!(refused.contains("holds a sweep already; pass --resume"), "{refused}");
    let refused = fails(&bench.dataset, &space, &bench.path("nowhere"), &with("--resume"), 1);
    assert!(refused.contains("nothing to resume"), "{refused}");
}

#[test]
fn what_cannot_be_swept_is_said_before_anything_is_written() {
    let bench = Trained::new();
    put(&bench, "space.toml", "l2 = [0.001, 0.01]");
    let (space, out) = (bench.path("space.toml"), bench.path("out"));
    // Never on test: without a validation part there is no sweep.
    let refused = fails(&bench.other, &space, &out, &[], 1);
    assert!(refused.contains("there is no valid part") && refused.contains("--valid-split"), "{refused}");
    let refused = peccary(&["sweep", &bench.dataset, "--space", &space, "--output", &out, "--metric", "ndgc@20"])
        .assert()
        .code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("such as ndcg@20"));
    let refused = fails(&bench.dataset, &space, &out, &["--halving", "1"], 2);
    assert!(refused.contains("--halving"), "{refused}");
    let refused = fails(&bench.dataset, &space, &out, &["--min-epochs", "4"], 2);
    assert!(refused.contains("--halving"), "{refused}");
    put(&bench, "space.toml", "learning_rat = [0.001, 0.01]");
    let refused = fails(&bench.dataset, &space, &out, &[], 1);
    assert!(
        refused.contains("space.toml") && refused.contains("did you mean `learning_rate` in [optimizer]?"),
        "{refused}"
    );
    put(&bench, "space.toml", "l2 = { low = 0.1, high = 0.2 }");
    let refused = fails(&bench.dataset, &space, &out, &[], 1);
    assert!(refused.contains("l2: a grid has no ranges") && refused.contains("--trials"), "{refused}");
    put(&bench, "space.toml", "dimensions = [5000, 6000]");
    let refused = fails(&bench.dataset, &space, &out, &[], 1);
    assert!(refused.contains("none of the 2 configurations") && refused.contains("dimensions = 5000"), "{refused}");
    assert!(!Path::new(&out).exists());
}
