//! `peccary hold-out`: what was appended since a model was trained becomes a test part that is fair to it.

use crate::trained::peccary;
use peccary::{Dataset, Part};
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
    assert_eq!(evaluated["fingerprint"], Dataset::open(&held).unwrap().fingerprint());
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
        .stderr(predicate::str::contains("nothing has been appended to the train part"));
    // What has learnt from it has no place there.
    log.run(&["update", &model, &dataset, "--epochs", "1"]);
    peccary(&["evaluate", &model, &held])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("trained on another dataset"));
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
