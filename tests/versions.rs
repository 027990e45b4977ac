//! Versions of a model: published, listed, rolled back and pruned, with readers that are never disturbed.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::trained::{Running, Trained, peccary, sealed};
use peccary::{ByteSize, Context, Dataset, Model, ModelError, TrainConfig, prune, rollback, train, versions};
use predicates::prelude::*;
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    serde_json::from_slice(&peccary(args).arg("--json").assert().success().get_output().stdout).unwrap()
}

fn numbers(model: &str) -> Vec<u32> {
    versions(model).unwrap().iter().map(|version| version.number).collect()
}

/// Trains another version, by another seed.
fn again(trained: &Trained, seed: &str) {
    let args = ["--dim", "16", "--epochs", "2", "--quiet", "--seed", seed];
    peccary(&["train", &trained.dataset, "--output", &trained.model]).args(args).assert().success();
}

/// All rows of the item table.
fn rows(model: &Model) -> Vec<f32> {
    model.items().as_slice().to_vec()
}

#[test]
fn every_training_is_a_version_that_commands_can_name() {
    let trained = Trained::new();
    let model = trained.model.as_str();
    again(&trained, "1");
    let report = json(&["train", &trained.dataset, "--output", model, "--dim", "8", "--epochs", "1"]);
    assert_eq!(report["version"], 3);
    assert_eq!((numbers(model), Model::open(model).unwrap().version()), (vec![1, 2, 3], 3));
    let listed = json(&["versions", model]);
    let current: Vec<_> = listed["versions"].as_array().unwrap().iter().map(|v| v["current"].clone()).collect();
    assert_eq!(current, [false, false, true]);
    assert!(listed["versions"][2]["published"].as_i64() >= listed["versions"][0]["published"].as_i64());
    peccary(&["versions", model]).assert().success().stdout(predicate::str::contains("*    3  2"));

    // Each command opens the version that is named, and says which one it has.
    let first = format!("{model}@1");
    let inspected = json(&["inspect", &first]);
    assert_eq!((&inspected["model_version"], &inspected["dimensions"]), (&1.into(), &16.into()));
    assert_eq!(inspected["versions"].as_array().unwrap().len(), 3);
    assert_eq!(json(&["inspect", model])["dimensions"], 8);
    assert_eq!(json(&["verify", model])["versions"], serde_json::json!([1, 2, 3]));
    assert_eq!(json(&["verify", &first])["versions"], serde_json::json!([1]));
    let recall = |name: &str| json(&["evaluate", name, &trained.dataset, "--baselines", "none"])["metrics"].clone();
    assert_ne!(recall(&first), recall(model));
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let warm = (0..dataset.users().len()).find(|u| !dataset.train().user(*u).items.is_empty()).unwrap();
    let (user, item) = (dataset.users().id(warm).unwrap(), dataset.items().id(0).unwrap());
    json(&["recommend", &first, &trained.dataset, "--user", user]);
    json(&["similar", &first, "--item", item]);
    json(&["explain", &first, &trained.dataset, "--user", user]);
    peccary(&["evaluate", &format!("{model}@9"), &trained.dataset])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("has no version 9; it has 1, 2, 3"));
    peccary(&["inspect", &format!("{model}@x")]).assert().code(1).stderr(predicate::str::contains("no such folder"));

    // Back and forth.
    assert_eq!(json(&["rollback", model])["current"]["number"], 2);
    assert_eq!(Model::open(model).unwrap().version(), 2);
    assert_eq!(json(&["rollback", model, "--to", "1"])["current"]["number"], 1);
    assert_eq!(recall(model), recall(&first));
    peccary(&["rollback", model]).assert().code(1).stderr(predicate::str::contains("no older one is left"));
    peccary(&["rollback", model, "--to", "7"]).assert().code(1).stderr(predicate::str::contains("no version 7"));
    json(&["verify", model]);

    // The current one stays, however old.
    assert_eq!(json(&["prune", model, "--keep", "1"])["removed"], serde_json::json!([2]));
    assert_eq!(numbers(model), [1, 3]);
    assert!(!Path::new(model).join("v000002").exists());
    peccary(&["prune", model, "--keep", "0"]).assert().code(2);
    assert!(matches!(prune(model, 0), Err(ModelError::KeepNone)));
    again(&trained, "5");
    assert_eq!((numbers(model), Model::open(model).unwrap().version()), (vec![1, 3, 4], 4));
    peccary(&["rollback", &trained.dataset]).assert().code(1).stderr(predicate::str::contains("it is a dataset"));
    assert!(!Path::new(&trained.dataset).join(".lock").exists(), "other folders are left alone");
}

#[test]
fn paths_may_be_relative() {
    let trained = Trained::new();
    let name = Path::new(&trained.model).file_name().unwrap().to_str().unwrap();
    let run = |args: &[&str]| peccary(args).current_dir(trained.folder.path()).assert().success();
    for _ in 0..2 {
        run(&["train", &trained.dataset, "--output", name, "--epochs", "1", "--quiet"]);
    }
    assert_eq!(numbers(&trained.model), [1, 2, 3]);
    run(&["rollback", name]);
    run(&["prune", name, "--keep", "1"]);
    assert_eq!(numbers(&trained.model), [2, 3]);
    run(&["train", &trained.dataset, "--output", name, "--epochs", "1", "--quiet", "--force"]);
    assert_eq!(numbers(&trained.model), [1]);
    let mut left: Vec<_> = trained.folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["log.csv", "log.pec", "log.pec.model", "other.pec"]);
}

#[test]
fn a_calibration_stays_with_its_version() {
    let trained = Trained::new();
    let model = trained.model.as_str();
    make_older(Path::new(model));
    json(&["calibrate", model, &trained.dataset, "--method", "platt"]);
    let kept = |number| Model::open_version(model, number).unwrap().manifest().calibration.is_some();
    assert!(kept(1));
    again(&trained, "1");
    assert!(kept(1) && !kept(2), "it is of the tables that it was fitted to");
    rollback(model, None).unwrap();
    assert!(Model::open(model).unwrap().manifest().calibration.is_some());
    json(&["calibrate", model, &trained.dataset, "--remove"]);
    assert!(!kept(1));
    // By its number, whichever is current.
    let named = |number: u32| format!("{model}@{number}");
    let fitted = json(&["calibrate", &named(2), &trained.dataset, "--method", "platt"]);
    assert!(!kept(1) && kept(2) && Model::open(model).unwrap().version() == 1);
    assert_eq!(json(&["calibrate", &named(2), &trained.dataset])["calibration"], fitted["calibration"]);
    rollback(model, Some(2)).unwrap();
    assert!(Model::open(model).unwrap().manifest().calibration.is_some());
    json(&["calibrate", &named(1), &trained.dataset, "--method", "isotonic"]);
    let open = Model::open_version(model, 1).unwrap();
    json(&["calibrate", &named(2), &trained.dataset, "--remove"]);
    assert!(kept(1) && !kept(2) && Model::open(model).unwrap().manifest().calibration.is_none());
    peccary(&["calibrate", &named(7), &trained.dataset]).assert().code(1).stderr(predicate::str::contains("7"));
    // Not in another model that has the same numbers.
    json(&["train", &trained.dataset, "--output", model, "--dim", "8", "--epochs", "1", "--force"]);
    assert!(matches!(open.keep_calibration(None), Err(ModelError::NoVersion { .. })));
    json(&["verify", model]);
    peccary(&["calibrate", &trained.dataset, &trained.dataset, "--remove"]).assert().code(1);
    assert!(!Path::new(&trained.dataset).join(".lock").exists(), "other folders are left alone");
}

#[test]
fn a_damaged_version_is_found_and_not_rolled_back_to() {
    let trained = Trained::new();
    again(&trained, "1");
    let file = Path::new(&trained.model).join("v000001/items.factors");
    let mut bytes = fs::read(&file).unwrap();
    bytes[200] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(rollback(&trained.model, None).unwrap_err().to_string().contains("damaged"));
    assert_eq!(Model::open(&trained.model).unwrap().version(), 2, "what was current stays so");
    peccary(&["verify", &trained.model]).assert().code(1).stderr(predicate::str::contains("v000001"));
    peccary(&["verify", &format!("{}@2", trained.model)]).assert().success();
}

/// Moves version 1 to where models had their files before there were versions.
fn make_older(model: &Path) {
    let read = |name: &str| fs::read_to_string(model.join(name)).unwrap();
    let mut manifest: serde_json::Map<String, Value> = serde_json::from_str(&read("manifest.json")).unwrap();
    for key in ["model_version", "published"] {
        manifest.remove(key).unwrap();
    }
    for file in manifest["files"].as_array_mut().unwrap() {
        let path = file["path"].as_str().unwrap().strip_prefix("v000001/").unwrap().to_string();
        fs::rename(model.join("v000001").join(&path), model.join(&path)).unwrap();
        file["path"] = path.into();
    }
    fs::write(model.join("manifest.json"), sealed(manifest)).unwrap();
    fs::remove_dir_all(model.join("v000001")).unwrap();
}

#[test]
fn models_of_the_older_layout_are_version_one() {
    let trained = Trained::new();
    let model = trained.model.as_str();
    let before = rows(&Model::open(model).unwrap());
    make_older(Path::new(model));
    assert_eq!((numbers(model), Model::open(model).unwrap().version()), (vec![1], 1));
    assert!(rows(&Model::open_named(format!("{model}@1")).unwrap()) == before);
    json(&["verify", model]);
    again(&trained, "1");
    assert_eq!((numbers(model), Model::open(model).unwrap().version()), (vec![1, 2], 2));
    assert!(rows(&Model::open_version(model, 1).unwrap()) == before, "its files stay where they are");
    rollback(model, None).unwrap();
    assert!(rows(&Model::open(model).unwrap()) == before);
    assert!(prune(model, 1).unwrap().is_empty(), "the current one stays");
    rollback(model, Some(2)).unwrap();
    assert_eq!(prune(model, 1).unwrap(), [1]);
    for file in ["users.factors", "items.factors", "items.dict", "run.ndjson", "v000001"] {
        assert!(!Path::new(model).join(file).exists(), "{file}");
    }
    json(&["verify", model]);
}

#[test]
fn readers_keep_what_they_have_open_whatever_is_published_and_pruned() {
    let trained = Trained::new();
    let model = trained.model.as_str();
    let reader = Model::open(model).unwrap();
    let before = rows(&reader);
    again(&trained, "1");
    prune(model, 1).unwrap();
    assert!(!Path::new(model).join("v000001").exists());
    // Not from the cache: pages of a large map come from the file again.
    assert!(rows(&reader) == before);
    assert_eq!(reader.version(), 1);
}

#[test]
fn who_opens_while_versions_come_and_go_gets_one_of_them() {
    let trained = Trained::new();
    let model = trained.model.as_str();
    again(&trained, "1");
    again(&trained, "2");
    let stop = AtomicBool::new(false);
    let dataset = Dataset::open(&trained.dataset).unwrap();
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let opened = Model::open(model).unwrap();
                        assert!(rows(&opened).iter().all(|x| x.is_finite()));
                        seen.push(opened.version());
                        assert!(!versions(model).unwrap().is_empty());
                    }
                    seen
                })
            })
            .collect();
        let config = TrainConfig { dimensions: 4, epochs: 1, ..TrainConfig::default() };
        let ctx = Context::new(1, ByteSize(1 << 30));
        for _ in 0..12 {
            train(&dataset, &config, Path::new(model), false, &ctx).unwrap();
            // To and fro, so that a version that an opener has just read of goes.
            rollback(model, None).unwrap();
            let newest = *numbers(model).last().unwrap();
            rollback(model, Some(newest)).unwrap();
            prune(model, 1).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for opener in openers {
            let seen = opener.join().unwrap();
            assert!(!seen.is_empty());
        }
    });
    assert_eq!(numbers(model).len(), 1);
}

#[test]
fn the_second_of_two_trainings_into_a_model_is_refused_at_its_start() {
    let trained = Trained::new();
    let new = trained.path("new.model");
    for (model, there) in [(trained.model.as_str(), true), (new.as_str(), false)] {
        let first = std::process::Command::new(env!("CARGO_BIN_EXE_peccary"))
            .args(["train", &trained.dataset, "--output", model, "--epochs", "1000000", "--quiet"])
            .spawn()
            .unwrap();
        let mut first = Running::from(first);
        // Until it has begun.
        let folder = trained.folder.path();
        let begun = |folder: &Path| {
            let mut names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.any(|name| name.contains(".tmp-"))
        };
        while !begun(if there { Path::new(model) } else { folder }) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // Its folder is there an instant before its lock.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let config = TrainConfig { epochs: 1, ..TrainConfig::default() };
        let dataset = Dataset::open(&trained.dataset).unwrap();
        let ctx = Context::new(1, ByteSize(1 << 30));
        for force in [false, true] {
            let text = train(&dataset, &config, Path::new(model), force, &ctx).unwrap_err().to_string();
            assert!(text.contains("a training or an update of this model is running; wait for its end"), "{text}");
        }
        let second = ["train", &trained.dataset, "--output", model, "--epochs", "1000000"];
        peccary(&second).assert().code(1).stderr(predicate::str::contains("a training or an update of this model"));
        if there {
            for command in [&["rollback", model][..], &["prune", model, "--keep", "1"]] {
                peccary(command).assert().code(1).stderr(predicate::str::contains("another process"));
            }
            // Reading goes on.
            json(&["evaluate", model, &trained.dataset]);
            json(&["versions", model]);
        }
        // Killed without a chance to tidy up: the next one does, and is not in its way.
        first.kill().unwrap();
        first.wait().unwrap();
        let args = ["--epochs", "1", "--quiet"];
        peccary(&["train", &trained.dataset, "--output", model]).args(args).assert().success();
        assert!(!begun(if there { Path::new(model) } else { folder }), "nothing is left");
    }
    assert_eq!((numbers(&trained.model), numbers(&new)), (vec![1, 2], vec![1]));
}

#[test]
fn versions_with_rows_of_forgotten_users_are_told_until_they_are_gone() {
    let trained = Trained::new();
    let (model, dataset) = (trained.model.as_str(), trained.dataset.as_str());
    let marks = || {
        let all = versions(model).unwrap();
        all.iter().map(|version| (version.number, version.predates_forgetting)).collect::<Vec<_>>()
    };
    let user = Dataset::open(dataset).unwrap().users().id(2).unwrap().to_string();
    peccary(&["forget", dataset, "--user", &user]).assert().success();
    assert_eq!(marks(), [(1, None)], "no model is told by the dataset");
    let says = |text: &'static str| predicate::str::contains(text);
    peccary(&["update", model, dataset])
        .assert()
        .success()
        .stdout(says("1 forgotten user; older versions keep theirs until they are removed: peccary prune"));
    again(&trained, "1");
    assert_eq!(marks(), [(1, Some(3)), (2, None), (3, None)]);
    let list = "; has rows of forgotten users";
    let listed = peccary(&["versions", model]).assert().success();
    assert_eq!(String::from_utf8_lossy(&listed.get_output().stdout).matches(list).count(), 1);
    peccary(&["rollback", model, "--to", "1"])
        .assert()
        .success()
        .stdout(says("it has rows of users who were forgotten before version 3 was trained"));
    peccary(&["prune", model, "--keep", "1"])
        .assert()
        .success()
        .stdout(says(
            "version 1 stays, and has rows of users who were forgotten before version 3; it is the current one",
        ))
        .stdout(says("--to 3) and prune again"));
    peccary(&["rollback", model, "--to", "3"]).assert().success().stdout(says("forgotten").not());
    peccary(&["prune", model, "--keep", "2"]).assert().success().stdout(says("keep fewer"));
    let report = json(&["prune", model, "--keep", "1"]);
    assert_eq!((&report["versions"], &report["predate_forgetting"]), (&serde_json::json!([3]), &serde_json::json!([])));
    assert_eq!(marks(), [(3, None)]);
}

#[test]
fn a_damaged_version_is_listed_and_in_nobodys_way() {
    let trained = Trained::new();
    let (model, dataset) = (trained.model.as_str(), trained.dataset.as_str());
    again(&trained, "1");
    again(&trained, "1");
    let manifest = std::path::Path::new(model).join("v000002/manifest.json");
    std::fs::write(&manifest, "{").unwrap();
    let says = |text: &'static str| predicate::str::contains(text);
    let listed = json(&["versions", model]);
    let of = |at: usize| (&listed["versions"][at]["number"], listed["versions"][at]["unreadable"].as_str());
    assert_eq!((of(0), of(2)), ((&1.into(), None), (&3.into(), None)));
    assert!(of(1).1.is_some_and(|why| why.contains("v000002/manifest.json")), "{listed}");
    peccary(&["versions", model]).assert().success().stdout(says("v000002/manifest.json"));
    // Users are forgotten: trainings look at the other versions. Nothing is lost, and nothing fails when it is done.
    let user = Dataset::open(dataset).unwrap().users().id(2).unwrap().to_string();
    peccary(&["forget", dataset, "--user", &user]).assert().success();
    peccary(&["update", model, dataset]).assert().success();
    again(&trained, "1");
    let marks =
        |number: u32| versions(model).unwrap().iter().any(|v| v.number == number && v.predates_forgetting.is_some());
    assert_eq!([1, 3, 4, 5].map(marks), [true, true, false, false]);
    peccary(&["rollback", model, "--to", "3"]).assert().success().stdout(says("rows of users who were forgotten"));
    peccary(&["rollback", model, "--to", "2"]).assert().code(1).stderr(says("v000002/manifest.json"));
    // What one version knew of others, the next one knows when it is gone.
    peccary(&["rollback", model, "--to", "5"]).assert().success();
    assert_eq!(json(&["prune", model, "--keep", "3"])["removed"], serde_json::json!([1, 2]));
    assert_eq!(json(&["prune", model, "--keep", "1"])["removed"], serde_json::json!([3, 4]));
    assert_eq!(versions(model).unwrap().len(), 1);
}

#[test]
fn what_changes_a_model_takes_no_version_of_it() {
    let trained = Trained::new();
    let (model, dataset) = (trained.model.as_str(), trained.dataset.as_str());
    let one = format!("{model}@1");
    let commands: [&[&str]; 4] = [
        &["train", dataset, "--output", &one],
        &["update", &one, dataset],
        &["rollback", &one],
        &["prune", &one, "--keep", "1"],
    ];
    for command in commands {
        peccary(command).assert().code(2).stderr(predicate::str::contains("leave @1 out"));
        assert!(!Path::new(&one).exists());
    }
}

#[test]
fn a_manifest_that_is_lost_takes_nothing_with_it() {
    let trained = Trained::new();
    let (model, dataset) = (trained.model.as_str(), trained.dataset.as_str());
    let says = |text: &'static str| predicate::str::contains(text);
    again(&trained, "1");
    again(&trained, "1");
    let (two, root) = (Path::new(model).join("v000002/manifest.json"), Path::new(model).join("manifest.json"));
    let (saved, at_root) = (fs::read(&two).unwrap(), fs::read(&root).unwrap());
    fs::remove_file(&two).unwrap();
    peccary(&["verify", model]).assert().code(1).stderr(says("v000002"));
    assert_eq!(numbers(model), [1, 2, 3]);
    peccary(&["rollback", model, "--to", "77"]).assert().code(1).stderr(says("it has 1, 2, 3"));
    peccary(&["rollback", model, "--to", "2"]).assert().code(1).stderr(says("v000002"));
    again(&trained, "1");
    assert_eq!(numbers(model), [1, 2, 3, 4]);
    fs::write(&two, saved).unwrap();
    peccary(&["verify", model]).assert().success();

    // That of the model itself: cut off, of no format that there is, and gone.
    let newest = fs::read(Path::new(model).join("v000004/manifest.json")).unwrap();
    let strange = String::from_utf8(at_root.clone()).unwrap().replace("peccary-model", "peccary-modem");
    for damaged in [Some(&at_root[..50]), Some(strange.as_bytes()), None] {
        match damaged {
            Some(bytes) => fs::write(&root, bytes).unwrap(),
            None => fs::remove_file(&root).unwrap(),
        }
        let remedy = || says("--to 4");
        peccary(&["verify", model]).assert().code(1).stderr(remedy());
        peccary(&["versions", model]).assert().code(1).stderr(remedy());
        peccary(&["rollback", model]).assert().code(1).stderr(remedy());
        peccary(&["evaluate", model, dataset]).assert().code(1).stderr(remedy());
        peccary(&["train", dataset, "--output", model]).assert().code(1).stderr(remedy());
        peccary(&["train", dataset, "--output", model, "--force"]).assert().code(1).stderr(remedy());
        json(&["evaluate", &format!("{model}@3"), dataset]);
        peccary(&["rollback", model, "--to", "4"]).assert().success();
        assert_eq!(fs::read(&root).unwrap(), newest);
        peccary(&["verify", model]).assert().success();
    }
    // With the newest one, too: those that are sound are named. What cannot be read is none of those that prune keeps.
    fs::write(&root, b"").unwrap();
    fs::write(Path::new(model).join("v000004/manifest.json"), b"").unwrap();
    peccary(&["evaluate", model, dataset]).assert().code(1).stderr(says("(1, 2, 3)")).stderr(says("--to 3"));
    peccary(&["rollback", model, "--to", "77"]).assert().code(1).stderr(says("it has 1, 2, 3, 4"));
    peccary(&["rollback", model, "--to", "3"]).assert().success();
    assert_eq!(json(&["prune", model, "--keep", "2"])["removed"], serde_json::json!([1]));
    assert_eq!(numbers(model), [2, 3, 4]);
}
