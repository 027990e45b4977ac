//! `peccary synth` and the command line that all subcommands share, through the binary.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use assert_cmd::Command;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use predicates::prelude::*;
use serde_json::Value;

/// The binary, with a log small enough for a test.
fn synth(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("peccary").unwrap();
    command.args(["synth", "--users", "300", "--items", "200", "--interactions", "9000"]).args(args);
    command
}

fn stdout(args: &[&str]) -> Vec<u8> {
    synth(args).args(["--output", "-"]).assert().success().get_output().stdout.clone()
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
}

/// (user, item, time) of each line of a CSV log.
fn parse(text: &[u8], separator: char) -> Vec<(String, String, i64)> {
    let text = std::str::from_utf8(text).unwrap();
    let row = |line: &str| {
        let mut fields = line.split(separator);
        let mut next = || fields.next().unwrap().to_owned();
        let row = (next(), next(), next().parse().unwrap());
        assert!(fields.next().is_none());
        row
    };
    text.lines().skip(1).map(row).collect()
}

/// Names in a folder, hidden ones included.
fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_log_has_exactly_the_rows_asked_for() {
    let out = stdout(&[]);
    assert!(out.starts_with(b"user,item,time\nu0,i"));
    let rows = parse(&out, ',');
    assert_eq!(rows.len(), 9000);
    let pairs: HashSet<_> = rows.iter().map(|(user, item, _)| (user, item)).collect();
    assert_eq!(pairs.len(), 9000, "interactions are distinct unless --repeats is given");
    assert_eq!(rows.iter().map(|row| &row.0).collect::<HashSet<_>>().len(), 300);
}

#[test]
fn bytes_depend_on_the_seed_and_not_on_the_threads() {
    let more = |seed: &str, threads: &str| {
        let mut command = Command::cargo_bin("peccary").unwrap();
        command.args(["synth", "--output", "-", "--seed", seed, "--threads", threads]);
        command.assert().success().get_output().stdout.clone()
    };
    let one = more("7", "1");
    assert!(one == more("7", "2") && one == more("7", "3"));
    assert!(one != more("8", "2"));
}

#[test]
fn all_formats_hold_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let csv = parse(&stdout(&[]), ',');
    assert_eq!(parse(&stdout(&["--format", "tsv"]), '\t'), csv);

    let ndjson = stdout(&["--format", "ndjson"]);
    let objects = serde_json::Deserializer::from_slice(&ndjson).into_iter::<Value>().map(|value| {
        let value = value.unwrap();
        let text = |key: &str| value[key].as_str().unwrap().to_owned();
        (text("user"), text("item"), value["time"].as_i64().unwrap())
    });
    assert_eq!(objects.collect::<Vec<_>>(), csv);

    let path = folder.path().join("log.parquet");
    synth(&["--output", path.to_str().unwrap(), "--quiet"]).assert().success();
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let text = |column: &str| batch.column_by_name(column).unwrap().as_string::<i32>().clone();
        let (users, items) = (text("user"), text("item"));
        let times = batch.column_by_name("time").unwrap().as_primitive::<Int64Type>().clone();
        rows.extend((0..batch.num_rows()).map(|i| (users.value(i).into(), items.value(i).into(), times.value(i))));
    }
    assert_eq!(rows, csv);

    for name in ["log.csv.gz", "log.csv.zst"] {
        let path = folder.path().join(name);
        synth(&["--output", path.to_str().unwrap()]).assert().success();
        let file = fs::File::open(&path).unwrap();
        let mut text = Vec::new();
        if name.ends_with("gz") {
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text).unwrap();
        } else {
            zstd::Decoder::new(file).unwrap().read_to_end(&mut text).unwrap();
        }
        assert_eq!(parse(&text, ','), csv, "{name}");
    }
}

#[test]
fn labels_and_integer_ids_are_written_everywhere() {
    let flags = ["--weights", "--events", "--integer-ids", "--repeats", "0.3"];
    let csv = String::from_utf8(stdout(&flags)).unwrap();
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("user,item,time,weight,event"));
    let ndjson = String::from_utf8(stdout(&[&flags[..], &["--format", "ndjson"]].concat())).unwrap();
    let mut events = HashSet::new();
    for (line, object) in lines.zip(ndjson.lines()) {
        let fields: Vec<&str> = line.split(',').collect();
        let object: Value = serde_json::from_str(object).unwrap();
        assert_eq!(fields[0].parse::<u64>().unwrap(), object["user"].as_u64().unwrap());
        assert_eq!(fields[1].parse::<u64>().unwrap(), object["item"].as_u64().unwrap());
        let weight: f64 = fields[3].parse().unwrap();
        assert!((1.0..=5.0).contains(&weight) && weight == object["weight"].as_f64().unwrap());
        assert_eq!(fields[4], object["event"].as_str().unwrap());
        events.insert(fields[4].to_owned());
    }
    assert_eq!(events, HashSet::from(["view", "cart", "purchase"].map(String::from)));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.parquet");
    synth(&flags).arg("--output").arg(&path).assert().success();
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap().build().unwrap();
    for batch in reader {
        let batch = batch.unwrap();
        assert!(batch.column_by_name("user").unwrap().as_primitive_opt::<Int64Type>().is_some());
        let weights = batch.column_by_name("weight").unwrap().as_primitive::<Float32Type>().clone();
        assert!(weights.values().iter().all(|weight| (1.0..=5.0).contains(weight)));
        assert!(batch.column_by_name("event").unwrap().as_string::<i32>().iter().flatten().all(|e| events.contains(e)));
    }
}

#[test]
fn json_is_one_object_and_the_only_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.csv");
    // Global flags work before and after the subcommand.
    let mut before = Command::cargo_bin("peccary").unwrap();
    before.args(["--json", "--threads", "2", "synth", "--interactions", "20000", "--output"]).arg(&path);
    let report = json(&mut before);
    assert_eq!(report["rows"], 20000);
    assert_eq!(report["unique_interactions"], 20000);
    assert_eq!(report["users"], 10000);
    assert_eq!(report["bytes"], fs::metadata(&path).unwrap().len());
    assert!(report["seconds"].as_f64().unwrap() > 0.0 && report["rows_per_second"].as_f64().unwrap() > 0.0);
    let config: peccary::SynthConfig = serde_json::from_value(report["config"].clone()).unwrap();
    assert_eq!(config, peccary::SynthConfig { interactions: 20000, ..Default::default() });

    let text = fs::read(&path).unwrap();
    let items: HashSet<_> = parse(&text, ',').into_iter().map(|row| row.1).collect();
    assert_eq!(report["items"], items.len());
    json(synth(&["--force", "--json", "--memory", "1GiB", "--output"]).arg(&path));
}

#[test]
fn truth_lists_the_planted_ranking() {
    let folder = tempfile::tempdir().unwrap();
    let (log, truth) = (folder.path().join("log.csv"), folder.path().join("truth.ndjson"));
    let flags = ["--json", "--truth-users", "50", "--truth-items", "30"];
    let report = json(synth(&flags).arg("--output").arg(&log).arg("--truth").arg(&truth));
    assert_eq!(report["truth_users"], 50);
    let config: peccary::SynthConfig = serde_json::from_value(report["config"].clone()).unwrap();
    let model = peccary::PlantedModel::new(&config, &peccary::Context::default()).unwrap();
    let truth = fs::read_to_string(&truth).unwrap();
    let mut users = HashSet::new();
    for line in truth.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let user = line["user"].as_str().unwrap();
        let scores = model.scores(user, None).unwrap();
        let of_item = |item: &Value| scores[model.item_number(item.as_str().unwrap()).unwrap() as usize];
        let listed: Vec<f64> = line["items"].as_array().unwrap().iter().map(of_item).collect();
        assert_eq!(listed.len(), 30);
        assert!(listed.is_sorted_by(|a, b| a >= b));
        assert_eq!(listed[0], scores.iter().copied().fold(0.0, f64::max));
        let stated: Vec<f64> = line["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        assert!(stated.iter().zip(&listed).all(|(a, b)| (a - b).abs() < 1e-12));
        users.insert(user.to_owned());
    }
    assert_eq!(users.len(), 50);
}

#[test]
fn a_truth_file_that_exists_is_noticed_before_the_log_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (log, truth) = (folder.path().join("log.csv"), folder.path().join("truth.ndjson"));
    fs::write(&truth, "precious").unwrap();
    let mut command = synth(&[]);
    command.arg("--output").arg(&log).arg("--truth").arg(&truth);
    command.assert().code(1).stderr(predicate::str::contains("truth.ndjson: exists already"));
    assert_eq!(names(folder.path()), ["truth.ndjson"]);
    assert_eq!(fs::read_to_string(&truth).unwrap(), "precious");
}

#[test]
fn bad_flags_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.csv");
    let refused = |args: &[&str], code: i32, says: &str| {
        let mut command = Command::cargo_bin("peccary").unwrap();
        let assert = command.arg("synth").args(args).arg("--output").arg(&path).assert();
        assert.code(code).stdout("").stderr(predicate::str::contains(says));
        assert!(names(folder.path()).is_empty(), "{args:?} left {:?}", names(folder.path()));
    };
    refused(&["--users", "0"], 1, "error: --users is 0: give 1 to");
    refused(&["--items", "0"], 1, "error: --items is 0");
    refused(&["--interactions", "0"], 1, "error: --interactions is 0");
    refused(&["--users", "10", "--items", "10", "--interactions", "101"], 1, "100 at most");
    refused(&["--zipf", "NaN"], 1, "error: --zipf is NaN");
    refused(&["--items", "4000000", "--memory", "1MiB"], 1, "raise --memory or lower --items");
    refused(&["--users", "many"], 2, "invalid value 'many'");
    refused(&["--memory", "2 parsecs"], 2, "unknown unit");
    refused(&["--threads", "0"], 2, "--threads");
    refused(&["--truth-users", "5"], 2, "--truth");
    refused(&["--truth", path.to_str().unwrap()], 2, "choose another name");
    synth(&["--output", "-", "--json"]).assert().code(2).stderr(predicate::str::contains("write the log to a file"));
}

#[test]
fn an_output_that_exists_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.csv");
    fs::write(&path, "precious").unwrap();
    let assert = synth(&["--json", "--output"]).arg(&path).assert().code(1);
    let error: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert!(error["error"].as_str().unwrap().contains("pass --force"), "{error}");
    assert_eq!(error.as_object().unwrap().len(), 1);
    assert!(String::from_utf8_lossy(&assert.get_output().stderr).starts_with("error: "));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    synth(&["--force", "--output"]).arg(&path).assert().success();
    assert_eq!(parse(&fs::read(&path).unwrap(), ',').len(), 9000);
    assert_eq!(names(folder.path()), ["log.csv"]);
}

#[cfg(unix)]
#[test]
fn only_a_regular_file_is_ever_replaced() {
    use std::os::unix::fs::FileTypeExt;

    let folder = tempfile::tempdir().unwrap();
    let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
    assert!(Process::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    for path in [&pipe, &link, &folder.path().to_owned()] {
        let assert = synth(&["--force", "--output"]).arg(path).assert().code(1);
        assert.stderr(predicate::str::contains("is not a regular file"));
    }
    assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    assert!(link.is_symlink());
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn errors_name_the_path_once_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("log.csv");
    let assert = synth(&["--output"]).arg(&path).assert().code(1);
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    let error = text.lines().last().unwrap();
    let parent = path.parent().unwrap().display().to_string();
    assert!(error.starts_with(&format!("error: {parent}: the folder does not exist")), "{text}");
    assert_eq!(error.matches(&parent).count(), 1, "{text}");
    let twice = folder.path().join("log.parquet.gz");
    synth(&["--output"]).arg(&twice).assert().code(1).stderr(predicate::str::contains("compressed twice"));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn json_mode_reports_usage_errors_too() {
    let assert = synth(&["--json", "--no-such-flag"]).assert().code(2);
    let error: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert!(error["error"].as_str().unwrap().contains("--no-such-flag"));
}

#[test]
fn help_tells_the_exit_codes_and_what_there_is() {
    let help = Command::cargo_bin("peccary").unwrap().arg("--help").assert().success();
    help.stdout(predicate::str::contains("synth").and(predicate::str::contains("130")));
    synth(&["--help"]).assert().success().stdout(predicate::str::contains("--truth-users"));
    Command::cargo_bin("peccary").unwrap().arg("--version").assert().success();
}

#[test]
fn quiet_is_quiet_and_progress_is_plain_lines_off_a_terminal() {
    synth(&["--quiet", "--output", "-"]).assert().success().stderr("");
    let shown = synth(&["--output", "-"]).assert().success();
    let text = String::from_utf8(shown.get_output().stderr.clone()).unwrap();
    assert!(text.contains("writing  9,000 rows in 0:00"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "no terminal codes in a log: {text:?}");
}

/// Starts a run that would take hours.
fn endless(output: &str) -> Process {
    let mut command = Process::new(assert_cmd::cargo::cargo_bin("peccary"));
    let size = ["--users", "1000000", "--items", "100000", "--interactions", "20000000000"];
    command.arg("synth").args(size).args(["--output", output]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    for format in ["csv", "parquet"] {
        let mut child = endless("-").args(["--quiet", "--format", format]).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut first = [0; 4];
        out.read_exact(&mut first).unwrap();
        drop(out);
        let end = child.wait_with_output().unwrap();
        assert_eq!(end.status.code(), Some(0), "{format}");
        assert_eq!(String::from_utf8_lossy(&end.stderr), "", "{format}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_removes_what_was_begun_and_exits_with_130() {
    for signal in ["-INT", "-TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.csv");
        let child = endless(path.to_str().unwrap()).args(["--quiet", "--json"]).spawn().unwrap();
        // The handler is installed before the temporary file exists.
        while names(folder.path()).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(Process::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let end = child.wait_with_output().unwrap();
        assert_eq!(end.status.code(), Some(130), "{signal}");
        let text = String::from_utf8(end.stderr).unwrap();
        assert!(text.starts_with("interrupted") && text.lines().count() == 1, "{text}");
        let error: Value = serde_json::from_slice(&end.stdout).unwrap();
        assert!(error["error"].as_str().unwrap().starts_with("interrupted"));
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_removes_the_partial_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["log.csv", "log.csv.zst", "log.parquet"] {
        // A limit on the size of files stands in for a full disk: the signal of writes beyond it is ignored.
        let script = r#"ulimit -f 16; exec "$0" synth --quiet --interactions 400000 --output "$1""#;
        let mut command = Process::new("bash");
        command.arg("-c").arg(script).arg(assert_cmd::cargo::cargo_bin("peccary")).arg(folder.path().join(name));
        let end = command.output().unwrap();
        let text = String::from_utf8_lossy(&end.stderr).into_owned();
        assert_eq!(end.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&format!("{name}: cannot write: larger than a file may be here; raise the limit")),
            "{text}"
        );
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
    }
    // Standard output cannot be taken back, but its failure is told.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let end = endless("-").arg("--quiet").stdout(full).output().unwrap();
    assert_eq!(end.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&end.stderr).contains("No space left"));
}
