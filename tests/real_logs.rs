//! Real logs, where they are at hand: in `../shared/data`, or where `PECCARY_DATA` says.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// The path of a log, or `None` and a visible line where it is absent.
fn log(name: &str) -> Option<String> {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let path = PathBuf::from(std::env::var("PECCARY_DATA").unwrap_or(shared.to_string())).join(name);
    if path.exists() {
        return Some(path.to_str().unwrap().to_string());
    }
    // Past the harness, which keeps what a passing test prints to itself.
    std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {} is absent\n", path.display()).as_bytes())
        .unwrap();
    None
}

/// Runs a command that must succeed, and returns its JSON.
fn run(folder: &TempDir, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
    let output = command.current_dir(folder.path()).args(arguments).args(["--json", "--quiet"]).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn check_ins_go_the_whole_way_with_their_own_ids() {
    let Some(log) = log("gowalla-checkins/checkins.csv.gz") else { return };
    let folder = tempfile::tempdir().unwrap();
    let summary = run(&folder, &["ingest", &log, "--split", "time:0.1", "--output", "d"]);
    assert!(summary["merged"].as_u64().unwrap() > 0, "some check-ins are repeated: {summary}");
    run(&folder, &["verify", "d"]);
    run(&folder, &["train", "d", "--output", "m", "--epochs", "10"]);
    let report = run(&folder, &["evaluate", "m", "d"]);
    for metric in ["recall@20", "ndcg@20"] {
        let of = |metrics: &Value| metrics[metric].as_f64().unwrap();
        let (model, popularity) = (of(&report["metrics"]), of(&report["baselines"]["popularity"]));
        assert!(model > 1.5 * popularity, "{metric}: {model}, popularity {popularity}");
    }
    let report = run(&folder, &["recommend", "m", "d", "--user", "u999"]);
    let items = report["by_user"][0]["items"].as_array().unwrap();
    assert_eq!((&report["by_user"][0]["user"], items.len()), (&"u999".into(), 10));
    assert!(items.iter().all(|item| item["item"].as_str().unwrap().starts_with("spot-")), "{report}");
    run(&folder, &["similar", "m", "--item", items[0]["item"].as_str().unwrap()]);
}

#[test]
fn gowalla_is_the_one_that_papers_count_and_its_recipes_keep_their_promise() {
    let (Some(train), Some(test)) = (log("gowalla-lightgcn/train.tsv.gz"), log("gowalla-lightgcn/test.tsv.gz")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let summary = run(&folder, &["ingest", &train, "--test", &test, "--output", "d"]);
    assert_eq!((&summary["users"], &summary["items"]), (&29_858.into(), &40_981.into()));
    let interactions = |part: usize| summary["parts"][part][1]["interactions"].as_u64().unwrap();
    assert_eq!((interactions(0), interactions(1)), (810_128, 217_242));
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes/gowalla-bpr.toml");
    run(&folder, &["train", "d", "--output", "m", "--config", recipe]);
    let report = run(&folder, &["evaluate", "m", "d", "--k", "20", "--no-baselines"]);
    let of = |report: &Value, metric: &str| report["metrics"][metric].as_f64().unwrap();
    assert!(of(&report, "recall@20") >= 0.155 && of(&report, "ndcg@20") >= 0.130, "{}", report["metrics"]);

    // A short run of the softmax recipe is far beyond that already.
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes/gowalla-softmax.toml");
    run(&folder, &["train", "d", "--output", "m", "--force", "--config", recipe, "--epochs", "10"]);
    let report = run(&folder, &["evaluate", "m", "d", "--k", "20", "--no-baselines"]);
    assert!(of(&report, "recall@20") >= 0.176 && of(&report, "ndcg@20") >= 0.146, "{}", report["metrics"]);
}
