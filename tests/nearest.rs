//! Negatives near the user's vector, through the binary: they are drawn, they are harder, and the plan holds them.

use std::path::Path;
use std::process::Command;

use crate::limited::limited;
use serde_json::Value;

const MIX: &str = "[negatives]\ncount = 2\n[[negatives.mix]]\nshare = 4\n[[negatives.mix]]\npropose = \"nearest\"\n\
                   neighbours = 50\nrebuild = 0.25\n";

fn peccary(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_peccary")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A dataset of many items, and two configurations: uniform negatives, and the nearest.
fn prepare(folder: &Path, items: &str, interactions: &str) -> [String; 4] {
    let [log, data, near, model] =
        ["log.csv", "log.pec", "near.toml", "log.model"].map(|name| folder.join(name).to_str().unwrap().to_string());
    let size = ["--users", "2000", "--items", items, "--interactions", interactions];
    peccary(&[&["synth", "--output", &log, "--quiet"], &size[..]].concat());
    peccary(&["ingest", &log, "--output", &data, "--quiet"]);
    std::fs::write(&near, MIX).unwrap();
    [log, data, near, model]
}

#[test]
fn nearest_negatives_are_harder_than_uniform_ones_of_the_same_run_and_few_are_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let [_, data, near, model] = prepare(folder.path(), "1500", "40000");
    let train = |extra: &[&str]| -> Value {
        let common = ["train", &data, "--output", &model, "--force", "--epochs", "8", "--json", "--quiet"];
        let run = limited(1 << 40, &[&common[..], extra].concat()).run();
        assert!(run.output.status.success(), "{}", run.describe());
        let report: Value = serde_json::from_slice(&run.output.stdout).unwrap();
        report["epochs"][7]["negatives"].clone()
    };
    // A run of the nearest alone pushes just these away. A few of them beside uniform ones change the model little, and
    // are the hard ones of the run.
    let gap = |report: &Value| report["mean_gap"].as_f64().unwrap();
    let uniform = train(&["--negatives", "2", "--threads", "2"]);
    for threads in [&["--threads", "1"][..], &["--threads", "3"], &["--threads", "3", "--deterministic"]] {
        let mixed = train(&[&["--config", near.as_str()], threads].concat());
        assert!(gap(&mixed) < 0.75 * gap(&uniform), "{threads:?}: {mixed}, uniform {uniform}");
        assert!(mixed["filled"].as_f64().unwrap() < 0.1, "{threads:?}: {mixed}");
        let shares: Vec<f64> =
            mixed["components"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap()).collect();
        assert!((shares[1] - 0.2).abs() < 0.05, "{mixed}");
    }
}

#[test]
fn the_index_is_a_part_of_the_plan_which_holds() {
    let folder = tempfile::tempdir().unwrap();
    let [_, data, near, model] = prepare(folder.path(), "15000", "100000");
    for extra in [&["--threads", "1"][..], &["--threads", "2"], &["--threads", "2", "--deterministic"]] {
        let common =
            ["train", &data, "--output", &model, "--force", "--epochs", "2", "--json", "--quiet", "--dim", "16"];
        let run = limited(1 << 40, &[&common[..], &["--config", near.as_str()], extra].concat()).run();
        assert!(run.output.status.success(), "{}", run.describe());
        let report: Value = serde_json::from_slice(&run.output.stdout).unwrap();
        let bytes = |key: &str| report["plan"][key].as_u64().unwrap();
        println!("{extra:?}: planned {}, samplers {}, {}", bytes("memory"), bytes("samplers"), run.describe());
        assert!(bytes("samplers") > 15_000 * 300);
        assert!(run.peak_anonymous <= bytes("memory"), "{extra:?}: {report}, {}", run.describe());
    }
    // A budget that holds all but the index is refused, with one that will do.
    let refused = Command::new(env!("CARGO_BIN_EXE_peccary"))
        .args(["train", &data, "--output", &model, "--config", &near, "--memory", "10MiB", "--dim", "16", "--force"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("needs at least"), "{text}");
}

#[test]
fn bench_negatives_measures_every_sampler() {
    let folder = tempfile::tempdir().unwrap();
    let [_, data, ..] = prepare(folder.path(), "1500", "40000");
    let arguments = ["bench", "negatives", "--dataset", &data, "--dim", "8", "--threads", "1", "--json", "--quiet"];
    let output = Command::new(env!("CARGO_BIN_EXE_peccary")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let samplers = report["samplers"].as_array().unwrap();
    for sampler in samplers {
        let (measured, why) = (&sampler["nanoseconds"], &sampler["skipped"]);
        assert!(measured.as_f64().is_some_and(|ns| ns > 0.0) != why.is_string(), "{sampler}");
    }
    for (step, name) in [
        ("propose", "uniform"),
        ("propose", "recent"),
        ("propose", "nearest"),
        ("select", "violation"),
        ("filter", "band"),
        ("weigh", "rank"),
        ("shared", "popularity"),
    ] {
        let found = samplers.iter().find(|s| s["step"] == step && s["name"] == name);
        assert!(found.is_some_and(|s| s["nanoseconds"].is_number()), "{step} {name}: {report}");
    }
}
