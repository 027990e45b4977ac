//! `peccary report` through the binary: its numbers are those of `evaluate` and of the run, and ids stay text.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::reported::{NASTY, attributes, data_of, hostile, json};
use peccary::{Model, RunLog};
use serde_json::Value;

/// What was measured, without of what and how long it took.
fn measured(evaluation: &Value) -> Value {
    let mut evaluation = evaluation.clone();
    let fields = evaluation.as_object_mut().unwrap();
    for beside in ["seconds", "model", "version", "dataset", "dataset_fingerprint"] {
        fields.shift_remove(beside);
    }
    evaluation
}

#[test]
fn metrics_are_those_of_evaluate_and_curves_those_of_the_run() {
    let case = hostile();
    let page = case.path("report.html");
    let summary = json(&["report", &case.model, &case.dataset, "--against", &case.other, "--output", &page]);
    assert_eq!(summary["bytes"], fs::metadata(&page).unwrap().len());
    assert!(summary["bytes"].as_u64().unwrap() < 2 << 20, "{}", summary["bytes"]);
    assert!(summary["summary"].as_str().unwrap().starts_with("NDCG@20 is 0."), "{summary}");
    let data = data_of(&page);

    // What the first model is sliced by, and what is measured of the second one, are flags of evaluate's.
    let first = json(&["evaluate", &case.model, &case.dataset, "--slices", "activity,popularity,time:4"]);
    assert_eq!(measured(&data["models"][0]["evaluation"]), measured(&first));
    let second = json(&["evaluate", &case.other, &case.dataset, "--baselines", "none"]);
    assert_eq!(measured(&data["models"][1]["evaluation"]), measured(&second));
    assert_eq!(measured(&summary["evaluations"][0]), measured(&first));

    for (at, path) in [&case.model, &case.other].into_iter().enumerate() {
        let model = Model::open(path).unwrap();
        let history = &model.manifest().history;
        let of = |key: &str| -> Value {
            let epochs = history["epochs"].as_array().unwrap().iter();
            epochs.map(|e| serde_json::json!([e["epoch"].as_f64(), e[key].as_f64()])).collect()
        };
        let plotted = |plot: &str| data["plots"][plot]["series"][at]["points"].clone();
        assert_eq!(plotted("loss"), of("loss"));
        assert_eq!(plotted("learning-rate"), of("learning_rate"));
        let validated: Value = history["validation"]["history"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| serde_json::json!([v["epoch"].as_f64(), v["value"]]))
            .collect();
        assert_eq!(plotted("validation"), validated);
        if let Ok(log) = RunLog::open(path) {
            let losses: Value = log.epochs().iter().map(|e| serde_json::json!([f64::from(e.epoch), e.loss])).collect();
            assert_eq!(plotted("loss"), losses);
        }
    }
    let best = data["plots"]["validation"]["marks"][0]["x"].as_f64().unwrap();
    let validation = Model::open(&case.model).unwrap().manifest().history["validation"].clone();
    assert_eq!(Some(best), validation["best_epoch"].as_f64());
    let shares = &data["plots"]["popularity"]["series"];
    for series in shares.as_array().unwrap() {
        let sum: f64 = series["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{series}");
    }
    assert!(data["plots"]["map"]["points"].as_array().unwrap().len() >= 100, "every item is on the map");

    // Again: the same page, but for times.
    json(&[
        "report",
        &case.model,
        &case.dataset,
        "--against",
        &case.other,
        "--output",
        &page,
        "--force",
        "--threads",
        "1",
    ]);
    assert_eq!(data_of(&page)["plots"], data["plots"]);
}

#[test]
fn versions_of_a_model_are_reported_by_their_numbers() {
    let case = hostile();
    let page = case.path("report.html");
    json(&["train", &case.dataset, "--output", &case.model, "--dim", "8", "--epochs", "2"]);
    let named = |number: u32| format!("{}@{number}", case.model);
    json(&["report", &named(1), &case.dataset, "--against", &named(2), "--output", &page]);
    let data = data_of(&page);
    for (at, name) in ["one.model@1", "one.model@2"].into_iter().enumerate() {
        let (of, number) = (&data["models"][at], at as u32 + 1);
        assert_eq!(of["name"], name);
        let version = Model::open_version(&case.model, number).unwrap();
        assert_eq!(of["fingerprint"], version.manifest().fingerprint());
        let evaluated = json(&["evaluate", &named(number), &case.dataset, "--baselines", "none"]);
        assert_eq!(of["evaluation"]["metrics"], evaluated["metrics"], "{name}");
        let epochs = data["plots"]["loss"]["series"][at]["points"].as_array().unwrap().len();
        assert_eq!(epochs, [6, 2][at], "its own run");
    }
    // The current one says which it is, too.
    json(&["report", &case.model, &case.dataset, "--output", &page, "--force"]);
    assert_eq!(data_of(&page)["models"][0]["name"], "one.model@2");
    let refused = assert_cmd::Command::cargo_bin("peccary").unwrap().args(["report", &named(9)]).assert().code(1);
    refused.stderr(predicates::str::contains("9"));
}

#[test]
fn attributes_slice_and_colour_and_stay_text() {
    let case = hostile();
    let (page, table) = (case.path("report.html"), attributes(&case));
    json(&["report", &case.model, &case.dataset, "--attributes", &table, "--output", &page]);
    let data = data_of(&page);
    let slices = ["--slices", "activity,popularity,time:4", "--attributes", &table];
    let evaluated = json(&[&["evaluate", &case.model, &case.dataset][..], &slices].concat());
    assert_eq!(measured(&data["models"][0]["evaluation"]), measured(&evaluated));
    let rows = data["plots"]["slices"]["rows"].as_array().unwrap();
    assert!(["item.kind", "item.price"].iter().all(|by| rows.iter().filter(|row| row["by"] == *by).count() > 3));
    let map = &data["plots"]["map"];
    let choices = map["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| choice["name"].as_str().unwrap()).collect::<Vec<_>>(), ["kind", "price"]);
    for choice in choices {
        let (classes, of) = (choice["classes"].as_array().unwrap(), choice["of"].as_array().unwrap());
        assert_eq!(of.len(), map["points"].as_array().unwrap().len());
        assert!(of.iter().all(|class| (class.as_u64().unwrap() as usize) < classes.len()));
        assert_eq!(classes.last().unwrap()[1], "(none)");
    }
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.len() < 2 << 20);
    // Of the data, where quotes are text as they are, only what could end the element is escaped.
    let (before, rest) = text.split_once(" id=\"data\">").unwrap();
    let (data, after) = rest.split_once("</script>").unwrap();
    let outside = before.to_string() + after;
    assert!(
        NASTY[..5].iter().all(|nasty| !outside.contains(nasty)) && !data.contains(['<', '>', '&']),
        "values are text"
    );
    assert!(text.contains("\nprice: ") && text.contains("&lt;script&gt;alert(1)&lt;/script&gt; 5 ("), "said of a dot");
    let mut alone = assert_cmd::Command::cargo_bin("peccary").unwrap();
    let alone = alone.args(["report", &case.model, "--attributes", &table]).assert().code(2);
    alone.stderr(predicates::str::contains("need a dataset"));
}

#[test]
fn ids_are_text_whatever_they_say() {
    let case = hostile();
    let page = case.path("report.html");
    json(&["report", &case.model, &case.dataset, "--output", &page]);
    let text = fs::read_to_string(&page).unwrap();
    for nasty in &NASTY[..5] {
        assert!(!text.contains(nasty), "{nasty}");
    }
    assert_eq!(text.matches("<script").count(), 2, "the data and the page's own");
    assert_eq!(text.matches("</script").count(), 2);
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is shown");
    assert!(!text.contains(['\u{1}', '\u{7f}', '\u{202e}', '\u{2028}']));
    assert!(!text.contains(&"&lt;x&gt;".repeat(50)), "long ids are cut");
    let outside = text.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http:") && !outside.contains("https:"), "nothing to load");
}

/// The commands on a page, as they are copied.
fn commands_of(page: &str) -> String {
    let (_, rest) = page.split_once("<code id=\"commands\">").unwrap();
    let commands = rest.split_once("</code>").unwrap().0;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    plain.into_iter().fold(commands.to_string(), |text, (a, b)| text.replace(a, b))
}

#[test]
fn the_commands_on_the_page_make_the_model_again() {
    let case = hostile();
    let page = case.path("report.html");
    json(&["report", &case.model, &case.dataset, "--output", &page]);
    let text = fs::read_to_string(&page).unwrap();
    let mut commands = commands_of(&text);
    // Elsewhere.
    for (old, new) in [(&case.dataset, "again.pec"), (&case.model, "again.model")] {
        commands = commands.replace(old.as_str(), new);
    }
    let commands = commands.replace("peccary ", &format!("'{}' ", env!("CARGO_BIN_EXE_peccary")));
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh").args(["-e", "-c", &commands]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    let (old, new) = (Model::open(&case.model).unwrap(), Model::open(folder.path().join("again.model")).unwrap());
    assert_eq!(old.manifest().dataset, new.manifest().dataset, "the dataset is the same");
    assert_eq!(old.manifest().config, new.manifest().config);
    assert!(folder.path().join("report.html").exists());
}

#[test]
fn the_commands_on_the_page_go_the_way_of_the_dataset_and_its_updates() {
    let case = hostile();
    let folder = tempfile::tempdir().unwrap();
    let run = |folder: &Path, arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_peccary")).args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let at = folder.path();
    let rows = |name: &str, from: usize, to: usize| {
        let rows = (from..to).map(|i| format!("u{},i{},{i}\n", i % 40, i * i % 60 + i % 7));
        fs::write(case.path(name), format!("user,item,time\n{}", rows.collect::<String>())).unwrap();
        case.path(name)
    };
    let [base, monday, tuesday, later] = [
        rows("base.csv", 0, 900),
        rows("monday.csv", 900, 960),
        rows("tuesday.csv", 960, 1000),
        rows("later.csv", 0, 9),
    ];
    run(at, &["ingest", &base, "--output", "d", "--split", "time:0.1", "--valid-split", "random:0.1"]);
    run(at, &["train", "d", "--output", "m", "--dim", "8", "--epochs", "2", "--deterministic"]);
    run(at, &["ingest", "--append", "d", &monday]);
    run(
        at,
        &["update", "m", "d", "--seed", "9", "--replay", "0.5", "--metric", "recall@10", "--learning-rate", "0.03"],
    );
    run(at, &["ingest", "--append", "d", &tuesday, "--split", "time:0.5", "--seed", "7"]);
    run(at, &["update", "m", "d"]);
    run(at, &["ingest", "--append", "d", &monday, "--test", &later]);
    run(at, &["report", "m", "d", "--output", "report.html"]);
    let text = fs::read_to_string(at.join("report.html")).unwrap();
    let commands = commands_of(&text);
    assert!(commands.contains("peccary update m d &&") && !commands.contains("later.csv"), "{commands}");
    assert!(text.contains("these commands make what it was then"));
    let elsewhere = tempfile::tempdir().unwrap();
    let script = commands.replace("peccary ", &format!("'{}' ", env!("CARGO_BIN_EXE_peccary")));
    let sh = |folder: &Path| Command::new("sh").args(["-c", &script]).current_dir(folder).output().unwrap();
    let output = sh(elsewhere.path());
    assert!(output.status.success(), "{commands}: {}", String::from_utf8_lossy(&output.stderr));
    let [old, new] = [at, elsewhere.path()].map(|at| Model::open(at.join("m")).unwrap());
    assert_eq!((old.version(), old.manifest().fingerprint()), (3, new.manifest().fingerprint()), "the same bits");
    assert_eq!((new.version(), &old.manifest().dataset), (3, &new.manifest().dataset));
    // Where all of it is there already nothing is done.
    assert!(!sh(at).status.success());
    assert_eq!(Model::open(at.join("m")).unwrap().version(), 3);
    // Of a copy it is said that it is one.
    run(at, &["hold-out", "d", "--since", "m@1", "--output", "held"]);
    run(at, &["report", "m@1", "held", "--output", "held.html"]);
    let text = fs::read_to_string(at.join("held.html")).unwrap();
    let commands = commands_of(&text);
    assert!(
        commands.contains("# held was made of another dataset") && !commands.contains("peccary train"),
        "{commands}"
    );
    // It may grow, and have a model of its own: where that is, nothing is done again.
    run(at, &["train", "held", "--output", "n", "--dim", "8", "--epochs", "1"]);
    run(at, &["ingest", "--append", "held", &base]);
    run(at, &["update", "n", "held"]);
    run(at, &["ingest", "--append", "held", &monday, "--test", &later]);
    run(at, &["update", "n", "held"]);
    run(at, &["report", "n", "held", "--output", "n.html"]);
    let commands = commands_of(&fs::read_to_string(at.join("n.html")).unwrap());
    assert!(commands.contains(" --test ") && commands.matches("peccary update n held &&").count() == 2, "{commands}");
    let output = Command::new("sh")
        .args(["-c", &commands.replace("peccary ", &format!("'{}' ", env!("CARGO_BIN_EXE_peccary")))])
        .current_dir(at)
        .output()
        .unwrap();
    assert!(!output.status.success() && Model::open(at.join("n")).unwrap().version() == 3);
    // What it was updated from is no more.
    run(at, &["prune", "n", "--keep", "1"]);
    run(at, &["report", "n", "held", "--output", "n.html", "--force"]);
    let commands = commands_of(&fs::read_to_string(at.join("n.html")).unwrap());
    assert!(commands.contains("# version 3 was updated from version 2, which is no more"), "{commands}");
}

#[test]
fn what_cannot_be_reported_is_refused_with_a_remedy() {
    let case = hostile();
    let page = case.path("report.html");
    let refused = |arguments: &[&str], code: i32, texts: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("peccary").unwrap();
        let output = command.arg("report").args(arguments).args(["--output", &page, "--quiet"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(texts.iter().all(|text| said.contains(text)), "{texts:?} in {said}");
        assert!(!fs::exists(&page).unwrap());
    };
    let (model, dataset) = (case.model.as_str(), case.dataset.as_str());
    refused(&[model, dataset, "--k", "5000"], 2, &["--k 5000"]);
    refused(&[model, "--k", "5"], 2, &["need a dataset", "peccary report MODEL DATASET"]);
    refused(&[dataset], 1, &["not a Peccary model", "it is a dataset"]);
    refused(&["absent.model", dataset], 1, &["absent.model", "there is no such folder"]);
    refused(&[model, "--against", "absent.model"], 1, &["absent.model"]);
    refused(&[model, dataset, "--memory", "1KiB"], 1, &["--memory"]);
    let apart = case.path("apart.pec");
    json(&["ingest", &case.log, "--output", &apart, "--split", "random:0.3"]);
    refused(&[model, &apart], 1, &["trained on another dataset"]);
    refused(&[model, &apart, "--split", "valid"], 1, &["trained on another dataset"]);

    // Beside a model of other data the curves are there, and the metrics are not.
    let strange = case.path("strange.model");
    json(&["train", &apart, "--output", &strange, "--dim", "8", "--epochs", "2"]);
    let summary = json(&["report", model, dataset, "--against", &strange, "--output", &page]);
    assert_eq!(summary["evaluations"].as_array().unwrap().len(), 1);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("strange.model was trained on another dataset and is not evaluated."));
    let series = data_of(&page)["plots"]["loss"]["series"].clone();
    assert_eq!(series[1]["points"].as_array().unwrap().len(), 2);
    let mut again = assert_cmd::Command::cargo_bin("peccary").unwrap();
    again.args(["report", model, "--output", &page]).assert().code(1).stderr(predicates::str::contains("--force"));

    // Without a dataset there is what the model says itself.
    json(&["report", model, "--output", &page, "--force"]);
    let data = data_of(&page);
    assert!(data["models"][0]["evaluation"].is_null() && data["plots"]["map"].is_object());
    assert!(data["plots"].get("popularity").is_none());
}

#[test]
fn memory_stays_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (log, dataset, model, page) = (path("log.csv"), path("log.pec"), path("log.model"), path("report.html"));
    json(&["synth", "--output", &log, "--users", "20000", "--items", "50000", "--interactions", "200000"]);
    json(&["ingest", &log, "--output", &dataset, "--split", "random:0.05"]);
    json(&["train", &dataset, "--output", &model, "--dim", "62", "--epochs", "1", "--negatives", "1"]);
    let budget = 24 << 20;
    let arguments =
        ["report", &model, &dataset, "--output", &page, "--memory", "24MiB", "--threads", "2", "--users", "200"];
    // Tables and dataset together are larger than the budget; maps do not count as data.
    let run = crate::limited::limited(budget + (24 << 20), &arguments).run();
    assert!(run.output.status.success(), "{}", run.describe());
    assert!(run.peak_anonymous <= budget, "{}", run.describe());
    assert!(data_of(&page)["plots"]["map"].is_object());
}
