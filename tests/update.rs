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
    refused(&["explain", &model, &grown.dataset, "--user", "u1"], "peccary update");
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
    // What it was updated from, and not the version between, which was rolled back from.
    let current: Vec<_> = versions(&model).unwrap().into_iter().filter(|version| version.current).collect();
    assert_eq!((current[0].number, current[0].facts.as_ref().unwrap().updated_from), (4, Some(1)));
    peccary(&["rollback", &model]).assert().success().stdout(predicate::str::contains("version 1 is the current"));
    peccary(&["rollback", &model, "--to", "4"]).assert().success();
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
fn versions_of_before_are_ranked_on_the_dataset_of_now() {
    let grown = Grown::new();
    let model = grown.path("m");
    peccary(&["train", &grown.dataset, "--output", &model, "--dim", "8", "--epochs", "2", "--quiet"])
        .assert()
        .success();
    let json = |args: &[&str]| -> Value {
        let made = peccary(args).arg("--json").assert().success();
        serde_json::from_slice(&made.get_output().stdout).unwrap()
    };
    let before = Dataset::open(&grown.dataset).unwrap();
    grown.append();
    let after = Dataset::open(&grown.dataset).unwrap();
    // Before the update: who came later is left out, and what came later is never recommended.
    let old = json(&["evaluate", &model, &grown.dataset]);
    assert!(old["later_users"].as_u64().unwrap() > 50, "{old}");
    let notes = old["notes"].to_string();
    let known = format!("knows {} of {} users", before.users().len(), after.users().len());
    assert!(notes.contains(&known) && !notes.contains("flattered"), "{notes}");
    // What is evaluated is the mean over users whom both the dataset of before and the test part have.
    let everybody = json(&["evaluate", &model, &grown.dataset, "--include-cold", "--baselines", "none"]);
    let users = |value: &Value| value["users"].as_u64().unwrap();
    assert_eq!(
        users(&everybody),
        users(&old) + old["later_users"].as_u64().unwrap() + old["cold_users"].as_u64().unwrap()
    );
    let later = (before.users().len()..after.users().len())
        .find(|user| !after.train().user(*user).items.is_empty())
        .map(|user| after.users().id(user).unwrap().to_string())
        .unwrap();
    peccary(&["recommend", &model, &grown.dataset, "--user", &later])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("peccary update").and(predicate::str::contains("--history")));
    let all = peccary(&["recommend", &model, &grown.dataset, "--all", "--k", "400"]).assert().success();
    let rows: Vec<Value> =
        String::from_utf8_lossy(&all.get_output().stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(rows.len() > 800);
    for row in &rows {
        assert!(before.users().find(row["user"].as_str().unwrap()).is_some(), "{row}");
        for item in row["items"].as_array().unwrap() {
            assert!(before.items().find(item["item"].as_str().unwrap()).is_some(), "{item}");
        }
    }
    peccary(&["calibrate", &model, &grown.dataset]).assert().code(1).stderr(predicate::str::contains("peccary update"));
    peccary(&["report", &model, &grown.dataset, "--output", &grown.path("old.html"), "--quiet"]).assert().success();

    peccary(&["update", &model, &grown.dataset, "--epochs", "2", "--quiet"]).assert().success();
    let (new, old) = (format!("{model}@2"), format!("{model}@1"));
    let compared = json(&["compare", &new, &old, &grown.dataset]);
    assert_eq!(users(&compared), users(&json(&["evaluate", &old, &grown.dataset])), "whom both know");
    assert!(compared["notes"].to_string().contains("B is older than the dataset"), "{}", compared["notes"]);
    let against = ["report", &new, &grown.dataset, "--against", &old, "--output", &grown.path("new.html")];
    let report = json(&against);
    let of_both: Vec<u64> = report["evaluations"].as_array().unwrap().iter().map(users).collect();
    assert_eq!(of_both, [users(&compared); 2], "means of the same users stand beside each other");
    assert!(std::fs::read_to_string(grown.path("new.html")).unwrap().contains("m@1: the model is older than"));
    for flags in [&["--metrics", "ndgc"][..], &["--metrics", "auc", "--protocol", "sampled:9"]] {
        peccary(&["compare", &new, &old, &grown.dataset]).args(flags).assert().code(2);
    }
    peccary(&["evaluate", &old, &grown.dataset, "--calibration"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("peccary versions"));
    peccary(&["calibrate", &old, &grown.dataset, "--remove"]).assert().success();
    peccary(&["rollback", &model]).assert().success();
    peccary(&["evaluate", &model, &grown.dataset, "--quiet"]).assert().success();
}

#[test]
fn who_had_an_id_and_nothing_to_learn_from_came_later_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let log: String = (0..40).flat_map(|u| (0..6).map(move |i| format!("u{u},i{}\n", (u * 7 + i * i) % 20))).collect();
    std::fs::write(path("log.csv"), format!("user,item\n{log}")).unwrap();
    // Nobody's in train.
    std::fs::write(path("test.csv"), "user,item\nu1,i19\nanna,i3\n").unwrap();
    let dataset = path("d");
    peccary(&["ingest", &path("log.csv"), "--test", &path("test.csv"), "--output", &dataset, "--quiet"])
        .assert()
        .success();
    let model = path("m");
    peccary(&["train", &dataset, "--output", &model, "--dim", "4", "--epochs", "1", "--quiet"]).assert().success();
    let evaluated = |model: &str| -> Value {
        let made = peccary(&["evaluate", model, &dataset, "--json", "--k", "5"]).assert().success();
        serde_json::from_slice(&made.get_output().stdout).unwrap()
    };
    assert_eq!(evaluated(&model)["cold_users"], 1);
    std::fs::write(path("more.csv"), "user,item\nanna,i1\nanna,i2\nu1,i1\n").unwrap();
    peccary(&["ingest", "--append", &dataset, &path("more.csv"), "--quiet"]).assert().success();
    let old = evaluated(&model);
    assert_eq!((&old["users"], &old["cold_users"], &old["later_users"]), (&1.into(), &0.into(), &1.into()));
    peccary(&["recommend", &model, &dataset, "--user", "anna"]).assert().code(1);
    peccary(&["recommend", &model, &dataset, "--user", "u1", "--k", "1"]).assert().success();
    let saved = path("all.csv");
    let all = peccary(&["recommend", &model, &dataset, "--all", "--output", &saved, "--json"]).assert().success();
    let summary: Value = serde_json::from_slice(&all.get_output().stdout).unwrap();
    assert_eq!((&summary["users"], &summary["later_users"]), (&40.into(), &1.into()));
    peccary(&["update", &model, &dataset, "--epochs", "1", "--quiet"]).assert().success();
    assert_eq!(evaluated(&model)["users"], 2);
    // The same file once more is taken, and named; quietly, too.
    let copy = path("twice");
    assert!(std::process::Command::new("cp").args(["-r", &dataset, &copy]).status().unwrap().success());
    let quiet = peccary(&["ingest", "--append", &copy, &path("more.csv"), "--quiet"]).assert().success();
    assert!(String::from_utf8_lossy(&quiet.get_output().stdout).contains("warning: "));
    let told = peccary(&["ingest", "--append", &copy, &path("more.csv"), "--json"]).assert().success();
    let told: Value = serde_json::from_slice(&told.get_output().stdout).unwrap();
    assert!(
        told["read"]["warnings"][0]
            .as_str()
            .unwrap()
            .contains("more.csv: a file of this name and size was taken before")
    );
    peccary(&["ingest", "--append", &dataset, &path("more.csv")])
        .assert()
        .success()
        .stderr(predicate::str::contains("more.csv: a file of this name and size was taken before"));
    // By another name, the rows tell: those of an append, and of the first ingest.
    let warned = |log: &str, text: &'static str| {
        let command = ["ingest", "--append", &copy, log, "--quiet"];
        peccary(&command).assert().success().stdout(predicate::str::contains(text));
    };
    std::fs::write(path("renamed.csv"), "item,user\ni2,anna\ni1,u1\ni1,anna\n").unwrap();
    warned(&path("renamed.csv"), "these rows are those of append 1, whatever their files are called");
    let first = path("first.csv");
    std::fs::write(&first, "user,item\na,x\nb,y\n").unwrap();
    peccary(&["ingest", &first, "--output", &copy, "--force", "--quiet"]).assert().success();
    std::fs::rename(&first, path("1.csv")).unwrap();
    warned(&path("1.csv"), "these rows are those of the first ingest");
    std::fs::write(&first, "user,item\na,x\nb,z\n").unwrap();
    let command = ["ingest", "--append", &copy, &first, "--quiet"];
    peccary(&command).assert().success().stdout(predicate::str::contains("these rows are").not());
    // Pairs that were there before make nobody new, and fold in nobody anew.
    let all = peccary(&["recommend", &model, &dataset, "--all", "--output", &saved, "--force", "--json"]).assert();
    let summary: Value = serde_json::from_slice(&all.success().get_output().stdout).unwrap();
    assert_eq!((&summary["users"], &summary["later_users"]), (&41.into(), &0.into()));
    let made = peccary(&["update", &model, &dataset, "--epochs", "1", "--json"]).assert().success();
    let report: Value = serde_json::from_slice(&made.get_output().stdout).unwrap();
    assert_eq!((&report["folded_users"], &report["folded_items"]), (&0.into(), &0.into()));
    assert_eq!(report["new_interactions"], 3);
}

#[test]
fn who_has_learnt_what_came_after_the_test_is_said_to_be_flattered() {
    let grown = Grown::new();
    let (dataset, model) = (grown.path("split"), grown.path("m"));
    peccary(&["ingest", &grown.first, "--output", &dataset, "--split", "random:0.2", "--quiet"]).assert().success();
    peccary(&["train", &dataset, "--output", &model, "--dim", "8", "--epochs", "1", "--quiet"]).assert().success();
    peccary(&["ingest", "--append", &dataset, &grown.second, "--quiet"]).assert().success();
    let said = |model: &str| {
        let made = peccary(&["evaluate", model, &dataset, "--baselines", "none"]).assert().success();
        String::from_utf8_lossy(&made.get_output().stdout).contains("flattered")
    };
    assert!(!said(&model), "it has not learnt from what was appended");
    // Train rows once more flatter nobody.
    let again = grown.path("again");
    peccary(&["ingest", &grown.first, "--output", &again, "--split", "random:0.2", "--quiet"]).assert().success();
    peccary(&["ingest", "--append", &again, &grown.first, "--quiet"]).assert().success();
    let opened = Dataset::open(&again).unwrap();
    let change = &opened.manifest().changes[0];
    assert!(change.repeats > 0 && change.repeats == change.trained && change.held_out.is_empty(), "{change:?}");
    let appended = opened.appended_since(&change.before).unwrap().unwrap();
    assert_eq!((appended.arrivals().count(), appended.pairs().count() as u64), (0, change.repeats));
    peccary(&["update", &model, &dataset, "--epochs", "1", "--quiet"]).assert().success();
    assert!(said(&model));
    let beside = peccary(&["compare", &model, "popularity", &dataset]).assert().success();
    let text = String::from_utf8_lossy(&beside.get_output().stdout).into_owned();
    assert!(text.contains("A is flattered") && text.contains("B is flattered"), "{text}");
    // Compacting and forgetting keep it in mind.
    peccary(&["compact", &dataset, "--quiet"]).assert().success();
    let user = Dataset::open(&dataset).unwrap().users().id(3).unwrap().to_string();
    peccary(&["forget", &dataset, "--user", &user, "--quiet"]).assert().success();
    assert!(said(&model));
    peccary(&["rollback", &model]).assert().success();
    assert!(!said(&model));
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

#[test]
fn an_update_that_diverges_says_what_an_update_can_do() {
    let grown = Grown::new();
    let model = grown.path("m");
    peccary(&["train", &grown.dataset, "--output", &model, "--dim", "8", "--epochs", "1", "--quiet"])
        .assert()
        .success();
    grown.append();
    peccary(&["update", &model, &grown.dataset, "--learning-rate", "300"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("the update diverged").and(predicate::str::contains("(--learning-rate 30)")));
    assert_eq!(versions(&model).unwrap().len(), 1);
    peccary(&["update", &model, &grown.dataset, "--metric", "ndgc@20"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("did you mean \"ndcg@20\"?"));
}

#[test]
fn what_is_on_its_way_is_told_from_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for name in ["m.partial", "d.partial"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let says = |text: &'static str| predicate::str::contains(text);
    peccary(&["inspect", &path("x")])
        .assert()
        .code(1)
        .stderr(says("there is no such folder").and(says("--resume").not()));
    peccary(&["versions", &path("m")]).assert().code(1).stderr(says("peccary train --resume goes on with it"));
    peccary(&["compact", &path("d")]).assert().code(1).stderr(says("run the same peccary ingest with --resume"));
}
