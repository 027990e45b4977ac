//! The quickstart and the benchmark, through the binary: what they promise is there, and is what the parts give.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn peccary(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peccary"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn quickstart_goes_the_whole_way_and_its_files_serve_on() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&peccary(folder.path(), &["quickstart", "--json"]));
    let recall = |of: &str| report["metrics"][of]["recall@20"].as_f64().unwrap();
    let (random, popularity, model, planted) =
        (recall("random"), recall("popularity"), recall("model"), recall("planted"));
    assert!(
        random < popularity && 1.5 * popularity < model && model < planted,
        "{random} {popularity} {model} {planted}"
    );
    let users = report["by_user"].as_array().unwrap();
    assert_eq!(users.len(), 3);

    // What it shows is what the commands that it names give.
    let (data, trained) = (report["dataset"].as_str().unwrap(), report["model"].as_str().unwrap());
    let user = users[0]["user"].as_str().unwrap();
    let again = json(&peccary(folder.path(), &["recommend", trained, data, "--user", user, "--k", "5", "--json"]));
    let items: Vec<&Value> = again["by_user"][0]["items"].as_array().unwrap().iter().map(|i| &i["item"]).collect();
    assert_eq!(items, users[0]["recommended"].as_array().unwrap().iter().collect::<Vec<_>>());
    let again = json(&peccary(folder.path(), &["evaluate", trained, data, "--json"]));
    let shown = report["metrics"]["model"].as_object().unwrap();
    assert!(shown.len() > 5 && shown.iter().all(|(name, value)| again["metrics"][name] == *value), "{again}");
    json(&peccary(folder.path(), &["verify", data, "--json"]));
    json(&peccary(folder.path(), &["verify", trained, "--json"]));

    let second = peccary(folder.path(), &["quickstart"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("--force"));
    let third = peccary(folder.path(), &["quickstart", "--force"]);
    assert!(String::from_utf8_lossy(&third.stdout).contains("planted"));
}

#[test]
fn a_flipped_byte_anywhere_in_a_model_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let size = ["--users", "60", "--items", "30", "--interactions", "600"];
    assert!(peccary(folder.path(), &[&["synth", "--output", "log.csv"][..], &size].concat()).status.success());
    assert!(peccary(folder.path(), &["ingest", "log.csv", "--output", "d", "--split", "random:0.2"]).status.success());
    assert!(peccary(folder.path(), &["train", "d", "--output", "m", "--dim", "4", "--epochs", "1"]).status.success());
    for file in ["manifest.json", "v000001/users.factors", "v000001/items.factors", "v000001/items.dict"] {
        let path = folder.path().join("m").join(file);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, 17, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, flipped).unwrap();
            for command in [&["verify", "m"][..], &["evaluate", "m", "d"], &["inspect", "m"]] {
                let output = peccary(folder.path(), command);
                let message = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{file} at {at}: {command:?}: {message}");
                assert!(message.contains("error: ") && message.contains('m'), "{message}");
                assert!(!message.contains("panicked"), "{message}");
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!(peccary(folder.path(), &["verify", "m"]).status.success());
}

#[test]
fn bench_train_measures_every_stage_and_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&peccary(folder.path(), &["bench", "train", "--dim", "16", "--threads", "2", "--json"]));
    for key in [
        "triples_per_second",
        "limit_triples_per_second",
        "read_interactions_per_second",
        "shuffle_interactions_per_second",
        "sample_triples_per_second",
        "channel_triples_per_second",
        "copy_bytes_per_second",
    ] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!((report["triples"].as_u64(), report["dimensions"].as_u64()), (Some(500_000), Some(16)));
    assert_eq!(report["scaling"].as_array().unwrap().len(), 2);
    assert!(folder.path().join("peccary-bench/small.pec").exists());
}
