//! `train --memory` is a promise: under a hard limit of memory, on a dataset several times as large, training finishes.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::limited::{Run, limited};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 24 * MIB;
/// Thread stacks are 2 MiB each, which count towards RLIMIT_DATA when they are reserved, though little of them is ever
/// touched; in a control group only what is touched counts.
const STACK: u64 = 2 * MIB;
const THREADS: u64 = 2;

fn peccary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
    command.args(arguments);
    command
}

/// A dataset of 80,000 users, 5,000 items and 8 million interactions with times, which are most of its size.
fn dataset(folder: &Path) -> String {
    let data = folder.join("log.pec").to_str().unwrap().to_string();
    let size = ["--users", "80000", "--items", "5000", "--interactions", "8000000"];
    let mut synth = peccary(&["synth", "--output", "-", "--quiet"]).args(size).stdout(Stdio::piped()).spawn().unwrap();
    let log = synth.stdout.take().unwrap();
    let ingest =
        peccary(&["ingest", "-", "--format", "csv", "--valid-split", "random:0.01", "--output", &data, "--quiet"])
            .stdin(log)
            .output()
            .unwrap();
    assert!(ingest.status.success(), "{}", String::from_utf8_lossy(&ingest.stderr));
    assert!(synth.wait().unwrap().success());
    data
}

/// Bytes of all files below `folder`.
fn size(folder: &Path) -> u64 {
    folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| match entry.metadata().unwrap() {
            meta if meta.is_dir() => size(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

fn train(data: &str, model: &str, extra: &[&str], budget: u64, limit: u64) -> Run {
    let mut arguments =
        vec!["train", data, "--output", model, "--force", "--epochs", "2", "--negatives", "1", "--json", "--quiet"];
    arguments.extend(extra);
    let (budget, threads) = (budget.to_string(), THREADS.to_string());
    arguments.extend(["--memory", &budget, "--threads", &threads]);
    limited(limit, &arguments).run()
}

#[test]
fn training_stays_within_the_budget_on_a_dataset_four_times_as_large() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (dataset(folder.path()), folder.path().join("log.model"));
    assert!(size(Path::new(&data)) > 4 * BUDGET, "{} bytes", size(Path::new(&data)));
    let model = model.to_str().unwrap();
    // The pool that checks files has a thread a core, each lane two, and there are those for signals and progress.
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    let stacks = (cores + 2 * THREADS + 2) * STACK;
    let validated = ["--metric", "ndcg@10", "--validate-users", "500"];
    let (small, large) = ([&["--dim", "64"][..], &validated].concat(), [&["--dim", "256"][..], &validated].concat());
    let cases: [(&str, u64, &[&str]); 6] = [
        ("memory", BUDGET, &["--dim", "8", "--biases=false", "--window", "100000"]),
        ("users-in-file", BUDGET, &["--dim", "64"]),
        ("users-in-file", BUDGET, &["--dim", "64", "--optimizer", "adam"]),
        ("both-in-files", 8 * MIB, &["--dim", "256"]),
        // Ranking has its part of the budget, and what is copied of the best tables goes to a file.
        ("users-in-file", BUDGET, &small),
        ("both-in-files", 17 * MIB, &large),
    ];
    for (tables, budget, extra) in cases {
        let run = train(&data, model, extra, budget, budget + stacks);
        assert!(run.output.status.success(), "{}", run.describe());
        let report: Value = serde_json::from_slice(&run.output.stdout).unwrap();
        assert_eq!(report["plan"]["tables"], tables, "{report}");
        assert_eq!(report["plan"]["releases_cache"], true);
        let planned = report["plan"]["memory"].as_u64().unwrap();
        println!("{tables} {extra:?}: planned {} KiB, {}", planned >> 10, run.describe());
        assert!(run.peak_anonymous > 0 && run.peak_anonymous <= planned, "planned {planned}, {}", run.describe());
        assert!(planned <= budget);
        // From chance the loss is ln 2: both epochs learn, wherever the rows are.
        let loss = |epoch: usize| report["epochs"][epoch]["loss"].as_f64().unwrap();
        assert!(loss(1) < loss(0) && loss(0) < std::f64::consts::LN_2, "{report}");
        // A file without a name leaves nothing behind; neither does the folder that the model was made in.
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        let verified = peccary(&["verify", model]).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[test]
fn an_update_stays_within_the_budget_whatever_was_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (log, data, model) = (path("log.csv"), path("log.pec"), path("log.model"));
    let size = ["--users", "60000", "--items", "20000", "--interactions", "4000000"];
    assert!(peccary(&["synth", "--output", &log, "--quiet"]).args(size).status().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    // In the order of time: the later fifth has users and items that are new, thousands of them, to be folded in.
    let (header, rows) = text.split_once('\n').unwrap();
    let cut = rows[..rows.len() * 4 / 5].rfind('\n').unwrap() + 1;
    let item = header.split(',').position(|column| column.contains("item")).unwrap();
    let renamed = rows[cut..].lines().map(|row| {
        let fields: Vec<&str> = row.split(',').collect();
        // One item in ten goes by another name from then on.
        if fields[item].ends_with('7') {
            row.replacen(fields[item], &format!("{}-new", fields[item]), 1)
        } else {
            row.into()
        }
    });
    let pieces = [("a.csv", rows[..cut].to_string()), ("b.csv", renamed.collect::<Vec<String>>().join("\n"))];
    let [first, second] = pieces.map(|(name, rows)| {
        std::fs::write(path(name), format!("{header}\n{rows}")).unwrap();
        path(name)
    });
    drop(text);
    let run = |arguments: &[&str]| {
        let made = peccary(arguments).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    run(&["ingest", &first, "--output", &data, "--quiet"]);
    run(&["train", &data, "--output", &model, "--epochs", "1", "--negatives", "1", "--quiet"]);
    run(&["ingest", "--append", &data, &second, "--quiet"]);
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    let stacks = (cores + 2 * THREADS + 2) * STACK;
    let arguments = ["update", &model, &data, "--epochs", "2", "--json", "--quiet", "--threads", "2", "--memory"];
    for budget in [BUDGET, 64 * MIB] {
        let budget_text = budget.to_string();
        let run = limited(budget + stacks, &[&arguments[..], &[budget_text.as_str()]].concat()).run();
        assert!(run.output.status.success(), "{}", run.describe());
        let report: Value = serde_json::from_slice(&run.output.stdout).unwrap();
        let of = |key: &str| report[key].as_u64().unwrap();
        println!("{} folded users, {} folded items, {}", of("folded_users"), of("folded_items"), run.describe());
        // Few of the old users take any of the new items: synthetic users come and go.
        assert!(of("new_interactions") > 500_000 && of("folded_users") > 1000 && of("folded_items") > 0, "{report}");
        assert!(run.peak_anonymous > 0 && run.peak_anonymous <= budget, "{}", run.describe());
        assert!(report["plan"]["beside"].as_u64().unwrap() >= 4 * of("new_interactions"), "{}", report["plan"]);
        run_back(&model);
    }
    // Lists that do not fit are refused, with what would do, and nothing is published.
    let refused = peccary(&arguments).arg("6MiB").output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && message.contains(" bytes)"), "{message}");
}

/// Makes the first version of the model current again.
fn run_back(model: &str) {
    assert!(peccary(&["rollback", model, "--to", "1", "--quiet"]).status().unwrap().success());
}

#[test]
fn a_plan_says_within_a_quarter_what_training_then_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (dataset(folder.path()), folder.path().join("log.model"));
    let model = model.to_str().unwrap();
    let quarter = |plan: u64, measured: u64| plan <= measured + measured / 4 && measured <= plan + plan / 4;
    // 85,000 rows: 83 MiB of 256 factors; 21 MiB of 64, and as much again with Adam; one MiB and a half of items.
    // One negative each, which changes little but the time; the second case has more of them.
    let cases: [(&str, &str, &[&str]); 6] = [
        ("memory", "1GiB", &["--dim", "256", "--biases=false"]),
        ("memory", "1GiB", &["--dim", "64", "--optimizer", "adam", "--negatives", "8", "--epochs", "1"]),
        ("memory", "1GiB", &["--dim", "256", "--biases=false", "--deterministic"]),
        ("memory", "1GiB", &["--dim", "256", "--biases=false", "--precision", "bf16", "--block-items", "0"]),
        ("users-in-file", "64MiB", &["--dim", "256", "--biases=false", "--window", "2000000"]),
        // Twice the factors: those in training, and the best so far.
        ("memory", "1GiB", &["--dim", "256", "--biases=false", "--metric", "mrr@10", "--validate-users", "500"]),
    ];
    for (tables, budget, extra) in cases {
        let mut arguments = vec!["train", &data, "--output", model, "--force", "--json", "--quiet"];
        arguments.extend(["--memory", budget, "--threads", "2"]);
        for (flag, value) in [("--epochs", "2"), ("--negatives", "1")] {
            if !extra.contains(&flag) {
                arguments.extend([flag, value]);
            }
        }
        arguments.extend(extra);
        // No limit: what is taken is to be seen, and not what there was.
        let run = limited(1 << 40, &arguments).run();
        assert!(run.output.status.success(), "{}", run.describe());
        let report: Value = serde_json::from_slice(&run.output.stdout).unwrap();
        assert_eq!(report["plan"]["tables"], tables, "{report}");
        let planned = report["plan"]["memory"].as_u64().unwrap();
        println!("{extra:?}: planned {} KiB, {}", planned >> 10, run.describe());
        assert!(quarter(planned, run.peak_anonymous), "{extra:?}: planned {planned}, {}", run.describe());
    }
}

#[test]
fn a_limit_is_a_limit_and_a_budget_that_cannot_hold_is_refused_with_one_that_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (log, data, model) = (path("log.csv"), path("log.pec"), path("log.model"));
    let size = ["--users", "500", "--items", "300", "--interactions", "20000"];
    assert!(peccary(&["synth", "--output", &log, "--quiet"]).args(size).status().unwrap().success());
    assert!(peccary(&["ingest", &log, "--output", &data, "--quiet"]).status().unwrap().success());
    // Under a limit that cannot hold the program's threads nothing runs: the limit is in force.
    let run = train(&data, &model, &[], BUDGET, 2 * MIB);
    assert!(!run.output.status.success(), "{}", run.describe());
    let refused =
        peccary(&["train", &data, "--output", &model, "--memory", "5MiB", "--threads", "2"]).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    let smallest = message.split_once('(').and_then(|(_, rest)| rest.split_once(" bytes)")).map(|(n, _)| n.to_string());
    let smallest = smallest.unwrap_or_else(|| panic!("no number in: {message}"));
    let mut accepted = peccary(&["train", &data, "--output", &model, "--memory", &smallest, "--threads", "2"]);
    let accepted = accepted.args(["--epochs", "1"]).output().unwrap();
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
}
