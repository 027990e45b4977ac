//! `peccary hold-out`: what was appended since a model was trained becomes a test part that is fair to it.

use std::process::Stdio;

use crate::trained::{Running, peccary, sealed};
use peccary::{Dataset, DatasetError, Part};
use predicates::prelude::*;
use serde_json::Value;

struct Log(tempfile::TempDir);

impl Log {
    /// A dataset with a test part, and a model of it.
    fn new() -> Self {
        let log = Self(tempfile::tempdir().unwrap());
        let rows =
            (0..60).flat_map(|u| (0..8).map(move |i| format!("u{u},i{},{}\n", (u * 7 + i * i) % 30, i * 60 + u)));
        log.write("log.csv", &rows.collect::<String>());
        log.run(&["ingest", &log.path("log.csv"), "--output", &log.path("d"), "--split", "time:0.1"]);
        log.run(&["train", &log.path("d"), "--output", &log.path("m"), "--dim", "8", "--epochs", "2"]);
        log
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    fn write(&self, name: &str, rows: &str) {
        std::fs::write(self.path(name), format!("user,item,time\n{rows}")).unwrap();
    }

    fn run(&self, args: &[&str]) -> Value {
        let made = peccary(args).args(["--quiet", "--json"]).assert().success();
        serde_json::from_slice(&made.get_output().stdout).unwrap()
    }

    fn append(&self, name: &str, rows: &str) {
        self.write(name, rows);
        self.run(&["ingest", "--append", &self.path("d"), &self.path(name)]);
    }

    fn hold_out(&self, since: &str) -> Value {
        let args =
            ["hold-out", &self.path("d"), "--since", &self.path(since), "--output", &self.path("held"), "--force"];
        self.run(&args)
    }
}

#[test]
fn models_of_before_are_judged_fairly_on_what_came_since() {
    let log = Log::new();
    let (model, dataset, held) = (log.path("m"), log.path("d"), log.path("held"));
    let before = Dataset::open(&dataset).unwrap();
    // Of a user and an item that were there, one that is new, and one that was in train already.
    let taken = before.train().user(3).items[0].to_native();
    let taken = before.items().id(taken).unwrap().to_string();
    let user = before.users().id(3).unwrap().to_string();
    log.append("monday.csv", &format!("{user},{taken},900\n{user},new,901\nu5,new,902\nanna,i1,903\nanna,i2,904\n"));
    let made = log.hold_out("m");
    assert_eq!((&made["version"], &made["cold_users"]), (&1.into(), &1.into()));
    let data = Dataset::open(&held).unwrap();
    let of = |part: Part| data.part(part).map_or(0, |rows| rows.len());
    let test_before = before.part(Part::Test).unwrap().len();
    assert_eq!([of(Part::Train), of(Part::Valid), of(Part::Test)], [before.train().len(), test_before, 4]);
    log.run(&["verify", &held]);

    // What has been learnt from what came behind the old test part is flattered there, and not here.
    log.run(&["update", &model, &dataset, "--epochs", "1"]);
    assert_eq!(log.run(&["evaluate", &model, &dataset, "--baselines", "none"])["flattered"], true);
    log.append("tuesday.csv", "u1,i29,1000\nu2,i28,1001\nu2,i1,1002\nanna,i3,1003\n");
    let made = log.hold_out("m");
    assert_eq!((&made["version"], &made["cold_users"]), (&2.into(), &0.into()));
    let rank = ["--k", "5", "--baselines", "none"];
    let evaluated = log.run(&[&["evaluate", &model, &held][..], &rank].concat());
    assert_eq!(
        (&evaluated["flattered"], &evaluated["split"], &evaluated["version"]),
        (&false.into(), &"test".into(), &2.into())
    );
    assert_eq!(evaluated["dataset_fingerprint"], Dataset::open(&held).unwrap().fingerprint());
    let compared = log.run(&["compare", &model, &format!("{model}@1"), &held, "--k", "5"]);
    assert_eq!(compared["flattered"], serde_json::json!([false, false]));
    assert_eq!((&compared["later_users"], &compared["versions"]), (&1.into(), &serde_json::json!([2, 1])));
    // A model that is trained on it anew has learnt no more than they, and can stand beside them.
    log.run(&["train", &held, "--output", &log.path("anew"), "--dim", "8", "--epochs", "1"]);
    log.run(&["compare", &log.path("anew"), &model, &held, "--k", "5"]);
    let report = ["report", &model, &held, "--output", &log.path("r.html")];
    log.run(&report);

    // There is nothing to update with.
    peccary(&["update", &model, &held])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("pass the dataset that this one was made from"));
    // What has learnt from it has no place there.
    log.run(&["update", &model, &dataset, "--epochs", "1"]);
    peccary(&["evaluate", &model, &held])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("(version 3) has learnt from interactions that"));
}

#[test]
fn what_cannot_be_held_out_is_said() {
    let log = Log::new();
    let (model, dataset, held) = (log.path("m"), log.path("d"), log.path("held"));
    let hold_out = |since: &str| peccary(&["hold-out", &dataset, "--since", since, "--output", &held]);
    let says = |text: &'static str| predicate::str::contains(text);
    hold_out(&model).assert().code(1).stderr(says("nothing to hold out; append to it first"));
    // Rows of pairs that are in train already.
    let copy = std::fs::read_to_string(log.path("log.csv")).unwrap();
    log.append("again.csv", copy.lines().nth(1).unwrap());
    hold_out(&model).assert().code(1).stderr(says("nothing to hold out"));
    log.append("more.csv", "u1,i29,1000\nu2,i28,1001\n");
    hold_out(&log.path("none")).assert().code(1).stderr(says("there is no such folder"));
    log.run(&["ingest", &log.path("more.csv"), "--output", &log.path("other")]);
    peccary(&["hold-out", &log.path("other"), "--since", &model, "--output", &held])
        .assert()
        .code(1)
        .stderr(says("trained on another dataset"));
    assert!(!std::path::Path::new(&held).exists());
    hold_out(&model).assert().success().stdout(says("as version 1 of"));
    hold_out(&model).assert().code(1).stderr(says("exists already; choose another name, or pass --force"));
    peccary(&["hold-out", &dataset, "--since", &model, "--output", &dataset, "--force"])
        .assert()
        .code(1)
        .stderr(says("is the dataset that it is to be made from"));
    assert_eq!(log.run(&["verify", &dataset])["valid"], true);
}

/// Numbers of the versions that have rows of forgotten users.
fn marked(model: &str) -> Vec<u32> {
    let all = peccary::versions(model).unwrap();
    all.iter().filter(|version| version.predates_forgetting.is_some()).map(|version| version.number).collect()
}

#[test]
fn what_became_of_the_dataset_since_is_known_of_what_is_held_out() {
    let log = Log::new();
    let (model, dataset, held) = (log.path("m"), log.path("d"), log.path("held"));
    log.append("monday.csv", "u1,i29,1000\nu2,i28,1001\nanna,i1,1002\nanna,i2,1003\n");
    log.run(&["update", &model, &dataset, "--epochs", "1"]);
    log.append("tuesday.csv", "u3,i28,1100\nu4,i27,1101\n");
    log.run(&["forget", &dataset, "--user", "anna"]);
    log.hold_out("m@1");
    // Version 2 has learnt Monday, which is held out.
    let refused = |args: &[&str], text: &'static str| {
        peccary(args).assert().code(1).stderr(predicate::str::contains(text));
    };
    refused(&["evaluate", &model, &held], "(version 2) has learnt from interactions that");
    refused(&["compare", &format!("{model}@1"), &model, &held], "use a version of before, MODEL@N");
    log.run(&["evaluate", &format!("{model}@1"), &held, "--baselines", "none"]);
    // An update that begins before what is held out would learn it, or make the model one of the copy.
    log.run(&["rollback", &model]);
    refused(&["update", &model, &held], "pass the dataset that this one was made from");
    refused(&["explain", &model, &held, "--user", "u1"], "for all else pass the dataset that this one was made from");
    // Who has forgotten a user knows of those of before in the copy, too: anna came behind version 1, and u5 did not.
    log.run(&["train", &held, "--output", &model, "--dim", "8", "--epochs", "1"]);
    assert_eq!(marked(&model), [2]);
    log.run(&["forget", &dataset, "--user", "u5"]);
    log.hold_out("m@1");
    log.run(&["train", &held, "--output", &model, "--dim", "8", "--epochs", "1"]);
    // Version 3 is of another copy, of which nothing is known here.
    assert_eq!(marked(&model), [1, 2]);
    let text = peccary(&["inspect", &held]).assert().success();
    let text = String::from_utf8_lossy(&text.get_output().stdout).into_owned();
    assert!(text.contains("interactions, appended since, are test") && text.contains("forget"), "{text}");
    // The copy is a dataset like any other: appended to, updated on, held out.
    log.write("wednesday.csv", "u7,i1,1200\nu8,i29,1201\ncarl,i2,1202\ncarl,i5,1203\n");
    log.run(&["ingest", "--append", &held, &log.path("wednesday.csv")]);
    let twice = log.path("twice");
    log.run(&["hold-out", &held, "--since", &model, "--output", &twice]);
    log.run(&["evaluate", &model, &twice, "--baselines", "none"]);
    log.run(&["update", &model, &held, "--epochs", "1"]);
    assert_eq!(log.run(&["evaluate", &model, &held, "--baselines", "none"])["flattered"], true);
    log.run(&["verify", &held]);
    log.run(&["verify", &twice]);
}

#[test]
fn what_later_appends_held_out_is_in_no_part() {
    let log = Log::new();
    let (dataset, held) = (log.path("d"), log.path("held"));
    log.append("monday.csv", "u1,i29,1000\nu2,i28,1001\n");
    assert_eq!(log.hold_out("m")["left_out"], 0);
    log.write("tuesday.csv", "u1,i28,1100\nu2,i29,1101\nu3,i29,1102\nu4,i28,1103\n");
    log.run(&["ingest", "--append", &dataset, &log.path("tuesday.csv"), "--split", "time:0.5"]);
    let before = Dataset::open(&dataset).unwrap().part(Part::Test).unwrap().len();
    let made = log.hold_out("m");
    assert_eq!(made["left_out"], before);
    let data = Dataset::open(&held).unwrap();
    assert!(data.part(Part::Valid).is_none());
    assert_eq!(data.part(Part::Test).unwrap().len(), 4);
    let again = ["hold-out", &dataset, "--since", &log.path("m"), "--output", &held, "--force"];
    peccary(&again).assert().success().stdout(predicate::str::contains("an append since has held out more"));
}

#[test]
fn appends_that_are_held_out_whole_ask_for_no_update() {
    let log = Log::new();
    let (model, dataset) = (log.path("m"), log.path("d"));
    let append = |rows: &str| {
        log.write("test.csv", rows);
        log.write("none.csv", "");
        log.run(&["ingest", "--append", &dataset, &log.path("none.csv"), "--test", &log.path("test.csv")]);
    };
    append("u1,i29,1000\nu2,i28,1001\n");
    peccary(&["update", &model, &dataset])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("nothing has been appended to the train part"));
    log.run(&["calibrate", &model, &dataset]);
    log.run(&["explain", &model, &dataset, "--user", "u1"]);
    // Of whom nothing is known the model has to make rows first.
    append("dora,i29,1000\ndora,new,1001\n");
    peccary(&["explain", &model, &dataset, "--user", "u1"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("peccary update"));
    assert_eq!(log.run(&["update", &model, &dataset])["version"], 2);
    log.run(&["explain", &model, &dataset, "--user", "u1"]);
    let calibrated = log.run(&["calibrate", &model, &dataset]);
    assert_eq!((&calibrated["version"], &calibrated["reliability"]["flattered"]), (&2.into(), &false.into()));
}

#[test]
fn nothing_is_replaced_while_it_is_changed_or_when_it_is_stopped() {
    let log = Log::new();
    log.append("monday.csv", "u1,i29,1000\nu2,i28,1001\n");
    log.hold_out("m");
    let (dataset, held) = (log.path("d"), log.path("held"));
    let before = Dataset::open(&held).unwrap().fingerprint().to_string();
    log.append("tuesday.csv", "u3,i28,1100\nu4,i27,1101\n");
    let force = ["hold-out", &dataset, "--since", &log.path("m"), "--output", &held, "--force"];
    // An append that waits for its rows.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peccary"));
    command.args(["ingest", "--append", &held, "-", "--format", "csv"]);
    let waiting = Running::from(command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let begun = std::time::Instant::now();
    while !std::path::Path::new(&held).join(".append.partial").exists() {
        assert!(begun.elapsed().as_secs() < 120, "nothing happens");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    peccary(&force).assert().code(1).stderr(predicate::str::contains("is changing this dataset; wait for its end"));
    drop(waiting);
    assert_eq!(Dataset::open(&held).unwrap().fingerprint(), before);
    // Stopped on the way.
    let data = Dataset::open(&dataset).unwrap();
    let since = &data.manifest().changes[0].before;
    let ctx = peccary::Context::new(1, peccary::ByteSize(1 << 30)).with_cancel(std::sync::Arc::new(true.into()));
    let stopped = peccary::hold_out(&data, since, (std::path::Path::new(&held), true), &ctx);
    assert!(matches!(stopped, Err(DatasetError::Interrupted(_))));
    let names: Vec<_> = std::fs::read_dir(log.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains(".tmp-")), "{names:?}");
    assert_eq!(Dataset::open(&held).unwrap().fingerprint(), before);
    peccary(&force).assert().success();
}

#[test]
fn who_is_forgotten_meanwhile_is_in_no_copy() {
    let log = Log::new();
    log.append("monday.csv", "u1,i29,1000\nu2,i28,1001\n");
    log.run(&["update", &log.path("m"), &log.path("d"), "--epochs", "1"]);
    log.append("tuesday.csv", "u3,i28,1100\nu4,i27,1101\n");
    let data = Dataset::open(log.path("d")).unwrap();
    log.run(&["forget", &log.path("d"), "--user", "u5"]);
    let ctx = peccary::Context::default();
    let held = log.path("held");
    let changes = &data.manifest().changes;
    // With lists to be copied, which are gone, and without.
    for since in [&changes[1].before, &changes[0].before] {
        let made = peccary::hold_out(&data, since, (std::path::Path::new(&held), false), &ctx);
        assert!(matches!(made, Err(DatasetError::ForgottenMeanwhile { .. })), "{made:?}");
        assert!(!std::path::Path::new(&held).exists());
    }
}

#[test]
fn appends_that_do_not_say_what_was_there_before_are_not_held_out() {
    let log = Log::new();
    log.append("monday.csv", "u1,i29,1000\nu2,i28,1001\n");
    // As an older build wrote it.
    let path = log.path("d/manifest.json");
    let mut manifest: serde_json::Map<String, Value> =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let change = manifest["changes"][0].as_object_mut().unwrap();
    let name = change.remove("repeated").unwrap();
    change.remove("held").unwrap();
    manifest["files"].as_array_mut().unwrap().retain(|file| file["path"] != name);
    std::fs::write(&path, sealed(manifest)).unwrap();
    peccary(&["hold-out", &log.path("d"), "--since", &log.path("m"), "--output", &log.path("held")])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("append 1 was made by an older build"));
}
