//! Updating models: nearly as good as training anew, deterministic, and what it refuses.

use std::path::Path;

use crate::trained::peccary;
use peccary::{
    ByteSize, Context, Dataset, EvaluateOptions, LossKind, Model, TrainConfig, TrainError, UpdateOptions, evaluate,
    train, update, versions,
};
use predicates::prelude::*;
use serde_json::Value;

/// A log in two pieces, the later one with new users and new items, and a test part of both.
struct Grown {
    folder: tempfile::TempDir,
    first: String,
    second: String,
    dataset: String,
}

impl Grown {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        let size = ["--users", "1200", "--items", "400", "--interactions", "48000", "--quiet"];
        peccary(&["synth", "--output", &path("log.csv")]).args(size).assert().success();
        let log = std::fs::read_to_string(path("log.csv")).unwrap();
        let mut lines = log.lines();
        let header = lines.next().unwrap().to_string();
        let columns: Vec<&str> = header.split(',').collect();
        let column = |name: &str| columns.iter().position(|c| c.contains(name)).unwrap();
        let (user, item) = (column("user"), column("item"));
        let hash = |text: &str| {
            let fnv = |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
            let h = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
            (h ^ h >> 32).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 33
        };
        let mut pieces = [header.clone(), header.clone(), header];
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let (u, i) = (hash(fields[user]), hash(fields[item]));
            let test = hash(&format!("{}/{}", fields[user], fields[item])) % 5 == 0;
            // A tenth of the users and of the items come later, and so does a tenth of the rest.
            let later = u % 10 == 0 || i % 10 == 0 || hash(&format!("{line}!")) % 10 == 0;
            let piece = &mut pieces[if test { 2 } else { usize::from(later) }];
            *piece += "\n";
            *piece += line;
        }
        let [first, second, test] = ["first.csv", "second.csv", "test.csv"].map(path);
        for (file, text) in [&first, &second, &test].into_iter().zip(&pieces) {
            std::fs::write(file, text).unwrap();
        }
        let dataset = path("d");
        peccary(&["ingest", &first, "--output", &dataset, "--quiet"]).assert().success();
        Self { first, second, dataset, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    fn append(&self) {
        peccary(&["ingest", "--append", &self.dataset, &self.second, "--test", &self.path("test.csv"), "--quiet"])
            .assert()
            .success();
    }
}

fn context(threads: usize) -> Context {
    Context::new(threads, ByteSize(1 << 30))
}

fn recall(model: &str, dataset: &str) -> f64 {
    let options = EvaluateOptions::accuracy();
    let (model, dataset) = (Model::open(model).unwrap(), Dataset::open(dataset).unwrap());
    evaluate(&model, &dataset, &options, &context(2)).unwrap().metrics.get("recall@20").unwrap()
}

#[test]
fn an_updated_model_is_nearly_as_good_as_one_trained_anew() {
    let grown = Grown::new();
    let configs = [LossKind::Bpr, LossKind::Logistic, LossKind::Bsl].map(|kind| {
        let mut config = TrainConfig { dimensions: 16, epochs: 20, ..TrainConfig::default() };
        config.loss.kind = kind;
        config
    });
    let model = |config: &TrainConfig| grown.path(&format!("{}.model", config.loss.kind.name()));
    let before = Dataset::open(&grown.dataset).unwrap();
    for config in &configs {
        train(&before, config, Path::new(&model(config)), false, &context(2)).unwrap();
    }
    grown.append();
    let after = Dataset::open(&grown.dataset).unwrap();
    assert!(after.users().len() > before.users().len() && after.items().len() > before.items().len());
    let mut failed = Vec::new();
    for config in &configs {
        let (path, anew) = (model(config), grown.path("anew.model"));
        let options = UpdateOptions { replay: 0.5, ..UpdateOptions::default() };
        let (manifest, report) = update(Path::new(&path), &after, &options, &context(2)).unwrap();
        assert_eq!((manifest.model_version, manifest.updated_from, report.from), (2, Some(1), 1));
        assert_eq!(report.new_users, after.users().len() - before.users().len());
        assert_eq!(report.new_items, after.items().len() - before.items().len());
        assert!(report.folded_users > 50 && report.folded_items > 10, "{report:?}");
        // All that is new, and half of what is trained is old.
        let each = config.negatives().min(after.items().len() as usize) as f64;
        for epoch in &report.training.epochs {
            let positives = (epoch.triples as f64 / each) + epoch.skipped as f64;
            let share = 1.0 - report.new_interactions as f64 / positives;
            assert!((share - 0.5).abs() < 0.02, "{share}");
        }
        let opened = Model::open(&path).unwrap();
        opened.verify(&context(1)).unwrap();
        // The configuration stays the model's own.
        assert_eq!(opened.manifest().config, Model::open_version(&path, 1).unwrap().manifest().config);
        train(&after, config, Path::new(&anew), true, &context(2)).unwrap();
        let (updated, anew) = (recall(&path, &grown.dataset), recall(&anew, &grown.dataset));
        println!("{}: recall@20 {updated:.4} updated, {anew:.4} trained anew", config.loss.kind.name());
        if updated < 0.9 * anew {
            failed.push((config.loss.kind.name(), updated, anew));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_command_says_what_it_did_and_one_seed_gives_one_model() {
    let grown = Grown::new();
    let model = grown.path("m");
    let args = ["--dim", "8", "--epochs", "2", "--deterministic", "--quiet"];
    peccary(&["train", &grown.dataset, "--output", &model]).args(args).assert().success();
    let refused = |args: &[&str], what: &str| {
        peccary(args).assert().code(1).stderr(predicate::str::contains(what.to_string()));
    };
    refused(&["update", &model, &grown.dataset], "nothing has been appended");
    // A dataset of another log, and one of both pieces at once, are no descendants.
    let other = grown.path("other");
    peccary(&["ingest", &grown.second, "--output", &other, "--quiet"]).assert().success();
    refused(&["update", &model, &other], "was trained on another dataset");
    let both = grown.path("both");
    peccary(&["ingest", &grown.first, &grown.second, "--output", &both, "--quiet"]).assert().success();
    refused(&["update", &model, &both], &model);
    grown.append();
    refused(&["evaluate", &model, &grown.dataset], "was trained on another dataset");
    for (flag, value) in [("--replay", "1"), ("--replay", "-0.1"), ("--learning-rate", "0"), ("--half-life", "-3")] {
        peccary(&["update", &model, &grown.dataset, &format!("{flag}={value}")]).assert().failure();
    }
    refused(&["update", &model, &grown.dataset, "--patience", "3"], "no valid part");
    refused(&["update", &grown.path("absent"), &grown.dataset], "no such folder");
    assert_eq!(versions(&model).unwrap().len(), 1, "nothing was published");
    assert!(!Path::new(&grown.path("absent")).exists());

    let run = |more: &[&str]| -> Value {
        let args = ["update", &model, &grown.dataset, "--epochs", "2", "--json"];
        let made = peccary(&args).args(more).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&made).unwrap()
    };
    let report = run(&["--threads", "1"]);
    assert_eq!((&report["version"], &report["from"]), (&2.into(), &1.into()));
    assert_eq!(report["epochs"].as_array().unwrap().len(), 2);
    let rows = || Model::open(&model).unwrap().items().as_slice().to_vec();
    let first = rows();
    peccary(&["rollback", &model]).assert().success();
    run(&["--threads", "2"]);
    assert!(rows() == first, "the same bits whatever the threads");
    peccary(&["rollback", &model, "--to", "1"]).assert().success();
    run(&["--seed", "7"]);
    assert!(rows() != first);
    peccary(&["evaluate", &model, &grown.dataset]).assert().success();
    peccary(&["verify", &model]).assert().success();
    peccary(&["versions", &model]).assert().success().stdout(predicate::str::contains("updated from 1"));
    refused(&["update", &model, &grown.dataset], "nothing has been appended");
    let error = update(
        Path::new(&grown.path("absent")),
        &Dataset::open(&other).unwrap(),
        &UpdateOptions::default(),
        &context(1),
    );
    assert!(matches!(error, Err(TrainError::Model(_))));
}

#[test]
fn a_user_who_is_forgotten_has_no_row_after_the_next_update() {
    let grown = Grown::new();
    let model = grown.path("m");
    peccary(&["train", &grown.dataset, "--output", &model, "--dim", "8", "--epochs", "1", "--quiet"])
        .assert()
        .success();
    let before = Dataset::open(&grown.dataset).unwrap();
    let user = before.users().id(17).unwrap().to_string();
    peccary(&["forget", &grown.dataset, "--user", &user]).assert().success();
    grown.append();
    let made = peccary(&["update", &model, &grown.dataset, "--epochs", "1", "--json"]).assert().success();
    let report: Value = serde_json::from_slice(&made.get_output().stdout).unwrap();
    assert_eq!(report["forgotten_users"], 1);
    let model = Model::open(&model).unwrap();
    assert!(model.users().row(17).iter().all(|x| *x == 0.0), "{:?}", model.users().row(17));
    assert!(model.users().row(18).iter().any(|x| *x != 0.0));
}

#[test]
fn a_model_whose_configuration_is_not_that_of_its_tables_is_refused_and_stays() {
    let grown = Grown::new();
    let model = grown.path("m");
    peccary(&["train", &grown.dataset, "--output", &model, "--dim", "8", "--epochs", "1", "--quiet"])
        .assert()
        .success();
    grown.append();
    let file = Path::new(&model).join("manifest.json");
    let manifest: serde_json::Map<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    for (key, value) in [("dimensions", Value::from(16)), ("biases", false.into()), ("epochs", "many".into())] {
        let mut other = manifest.clone();
        other.remove("checksum").unwrap();
        other["config"][key] = value;
        // As manifests are written: a checksum of all before its line.
        let mut text = serde_json::to_string_pretty(&other).unwrap();
        text.truncate(text.len() - 2);
        text += ",\n";
        let checksum = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        std::fs::write(&file, format!("{text}  \"checksum\": \"{checksum:016x}\"\n}}\n")).unwrap();
        peccary(&["update", &model, &grown.dataset])
            .assert()
            .code(1)
            .stderr(predicate::str::contains("no configuration that this version understands"));
    }
    assert_eq!(versions(&model).unwrap().len(), 1);
}
