//! `peccary train --audit` and `peccary explain` through the binary.

use std::collections::HashMap;
use std::fs;

use crate::trained::{Trained, peccary};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use peccary::Dataset;
use predicates::prelude::*;
use serde_json::Value;

const MIX: &str = "\
[negatives]
count = 4
[[negatives.mix]]
share = 0.7
select = \"hardest\"
candidates = 5
min_distance = 0.05
[[negatives.mix]]
share = 0.3
propose = \"popularity\"
weigh = \"propensity\"
";

/// Flags that train with an audit of one positive in ten.
fn audited(trained: &Trained, name: &str, args: &[&str]) -> (assert_cmd::assert::Assert, String, String) {
    let (model, audit) = (trained.path(&format!("{name}.model")), trained.path(&format!("{name}.parquet")));
    let fixed = ["--dim", "16", "--epochs", "2", "--audit", &audit, "--audit-sample", "10", "--quiet"];
    let assert = peccary(&["train", &trained.dataset, "--output", &model]).args(fixed).args(args).assert();
    (assert, model, audit)
}

fn rows(path: &str) -> Vec<HashMap<String, Field>> {
    let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let row = |row: Row| row.get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect();
    reader.get_row_iter(None).unwrap().map(|r| row(r.unwrap())).collect()
}

fn text<'a>(row: &'a HashMap<String, Field>, column: &str) -> Option<&'a str> {
    match &row[column] {
        Field::Str(text) => Some(text),
        Field::Null => None,
        other => panic!("{column}: {other}"),
    }
}

fn number(row: &HashMap<String, Field>, column: &str) -> Option<f64> {
    match &row[column] {
        Field::Float(x) => Some(f64::from(*x)),
        Field::UInt(n) => Some(f64::from(*n)),
        Field::Null => None,
        other => panic!("{column}: {other}"),
    }
}

fn chosen(row: &HashMap<String, Field>) -> bool {
    matches!(row["chosen"], Field::Bool(true))
}

#[test]
fn an_audit_obeys_the_configuration_and_changes_nothing() {
    let trained = Trained::new();
    let config = trained.path("mix.toml");
    fs::write(&config, MIX).unwrap();
    let one = |name: &str, args: &[&str]| {
        let (assert, model, audit) = audited(&trained, name, &[&["--config", &config], args].concat());
        assert.success();
        (fs::read(format!("{model}/v000001/items.factors")).unwrap(), audit)
    };
    let (factors, audit) = one("one", &["--threads", "1"]);
    let (_, again) = one("again", &["--threads", "1"]);
    assert!(fs::read(&audit).unwrap() == fs::read(&again).unwrap(), "one thread, one seed, one audit");
    let plain = trained.path("plain.model");
    peccary(&["train", &trained.dataset, "--output", &plain, "--config", &config, "--threads", "1", "--quiet"])
        .args(["--dim", "16", "--epochs", "2"])
        .assert()
        .success();
    assert!(fs::read(format!("{plain}/v000001/items.factors")).unwrap() == factors, "looking changes nothing");
    let (_, two) = one("two", &["--deterministic", "--threads", "1"]);
    let (_, three) = one("three", &["--deterministic", "--threads", "3"]);
    assert!(fs::read(&two).unwrap() == fs::read(&three).unwrap(), "--deterministic, whatever the threads");
    let (_, raced) = one("raced", &["--threads", "3"]);

    let dataset = Dataset::open(&trained.dataset).unwrap();
    for path in [&audit, &two, &raced] {
        let rows = rows(path);
        let key = |r: &HashMap<String, Field>| {
            ["epoch", "user", "positive", "negative"].map(|column| r[column].to_string()).join(" ")
        };
        let mut positives = HashMap::new();
        for slot in rows.chunk_by(|a, b| key(a) == key(b)) {
            let first = &slot[0];
            *positives.entry(key(first).rsplit_once(' ').unwrap().0.to_string()).or_insert(0) += 1;
            let user = dataset.users().find(text(first, "user").unwrap()).unwrap();
            let own = dataset.train().positives(user);
            let item = |row, column| dataset.items().find(text(row, column).unwrap()).unwrap();
            assert!(own.contains(item(first, "positive")));
            let taken: Vec<_> = slot.iter().filter(|r| chosen(r)).collect();
            assert_eq!(taken.len(), 1);
            let component = number(first, "component").unwrap();
            assert_eq!(text(first, "proposer"), Some(if component == 0.0 { "uniform" } else { "popularity" }));
            let void = text(taken[0], "reason") == Some("no weight: none passed");
            for row in slot {
                let filtered = text(row, "filtered_by");
                assert_eq!(own.contains(item(row, "item")), filtered == Some("positive"));
                assert!(filtered.is_none() || !chosen(row) || void);
                assert!(
                    number(row, "score").unwrap().is_finite() && number(row, "positive_score").unwrap().is_finite()
                );
                assert_eq!(number(row, "weight").is_some(), chosen(row));
                if component == 0.0 && filtered.is_none() {
                    assert!(number(row, "score") <= number(taken[0], "score"), "the hardest is chosen");
                }
            }
            let most = dataset.popularity().iter().map(|n| n.to_native()).max().unwrap();
            let weight = number(taken[0], "weight").unwrap();
            let popularity = dataset.popularity()[item(taken[0], "item") as usize].to_native();
            let expected = match component as u32 {
                0 => f64::from(u8::from(!void)),
                _ => (f64::from(most) / f64::from(popularity)).sqrt().min(10.0),
            };
            assert!((weight - expected).abs() < 1e-3, "{weight}, not {expected}");
        }
        assert!(positives.values().all(|negatives| *negatives == 4));
        // One in ten of 2 x some 11,500 train interactions.
        let all = 2.0 * dataset.train().len() as f64 / 10.0;
        assert!((positives.len() as f64 - all).abs() < 0.2 * all, "{} of {all}", positives.len());
        assert!(rows.iter().any(|r| text(r, "filtered_by") == Some("positive")));
    }
}

#[test]
fn listwise_blocks_and_plain_negatives_are_audited_too() {
    let trained = Trained::new();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    for (name, args) in [("bsl", &["--loss", "bsl", "--negatives", "50"][..]), ("plain", &["--negatives", "2"])] {
        let one = |name: &str, threads: &str| {
            let how = ["--deterministic", "--threads", threads];
            let (assert, _, audit) = audited(&trained, name, &[args, &how].concat());
            assert.success();
            audit
        };
        let audit = one(name, "1");
        assert!(fs::read(&audit).unwrap() == fs::read(one(&format!("{name}3"), "3")).unwrap());
        let rows = rows(&audit);
        assert!(!rows.is_empty());
        for row in &rows {
            let user = dataset.users().find(text(row, "user").unwrap()).unwrap();
            let item = dataset.items().find(text(row, "item").unwrap()).unwrap();
            let own = dataset.train().positives(user).contains(item);
            assert_eq!(chosen(row), text(row, "filtered_by").is_none(), "what is not masked is a negative");
            assert_eq!(text(row, "filtered_by"), own.then_some("positive"));
            let why = if name == "bsl" { "shared by the block" } else { "first" };
            assert_eq!(text(row, "reason"), chosen(row).then_some(why));
        }
    }
}

#[test]
fn an_audit_appears_whole_or_not_at_all() {
    let trained = Trained::new();
    let listed = || {
        let mut names: Vec<_> = fs::read_dir(trained.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    let (assert, ..) = audited(&trained, "diverged", &["--learning-rate", "1e30", "--l2", "0"]);
    assert.failure().stderr(predicate::str::contains("diverged"));
    assert_eq!(listed(), before, "a run that fails leaves nothing");

    let (model, audit) = (trained.path("m.model"), trained.path("there.parquet"));
    fs::write(&audit, "precious").unwrap();
    let train = |audit: &str, args: &[&str]| {
        let fixed = ["--dim", "8", "--epochs", "1", "--quiet", "--output", &model, "--audit", audit];
        peccary(&["train", &trained.dataset]).args(fixed).args(args).assert()
    };
    train(&audit, &[])
        .code(1)
        .stderr(predicate::str::contains("there.parquet").and(predicate::str::contains("--force")));
    assert_eq!(fs::read_to_string(&audit).unwrap(), "precious");
    for (wrong, word) in [
        (trained.path("no/such/folder.parquet"), "no/such"),
        (trained.folder.path().to_str().unwrap().to_string(), trained.folder.path().to_str().unwrap()),
        (format!("{model}/audit.parquet"), "--audit"),
        (model.clone(), "--audit"),
        (format!("{}/audit.parquet", trained.dataset), "--audit"),
        ("/dev/full".to_string(), "/dev/full"),
    ] {
        train(&wrong, &["--force"]).code(1).stderr(predicate::str::contains(word));
        assert!(!fs::exists(&model).unwrap(), "{wrong}");
    }
    train(&audit, &["--force"]).success();
    assert!(!rows(&audit).is_empty() || fs::read(&audit).unwrap().starts_with(b"PAR1"));
    // A name is a name, whatever is in it.
    let odd = trained.path("--weird ö %s;$(x).parquet");
    train(&odd, &["--force"]).success();
    assert!(fs::read(&odd).unwrap().starts_with(b"PAR1"));
    train(&trained.path("z"), &["--audit-sample", "0"]).code(2);
    peccary(&["train", &trained.dataset, "--output", &model, "--audit-sample", "5"]).assert().code(2);
}

#[test]
fn explain_says_why_in_words_and_in_json() {
    let trained = Trained::new();
    let config = trained.path("mix.toml");
    fs::write(&config, MIX).unwrap();
    let (assert, model, _) = audited(&trained, "mixed", &["--config", &config]);
    assert.success();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let user = (0..dataset.users().len()).find(|u| dataset.train().user(*u).items.len() > 5).unwrap();
    let id = dataset.users().id(user).unwrap();
    let own = |item: u32| dataset.items().id(dataset.train().user(user).items[item as usize].to_native()).unwrap();
    let explain = |model: &str, dataset: &str, args: &[&str]| {
        peccary(&["explain", model, dataset]).args(args).arg("--quiet").assert()
    };
    let good = |args: &[&str]| {
        let all = [&["--user", id], args].concat();
        String::from_utf8(explain(&model, &trained.dataset, &all).success().get_output().stdout.clone()).unwrap()
    };
    let said = good(&["--positives", "2"]);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.starts_with(&format!("User {id} has ")), "{said}");
    assert!(words(&said).contains("hardest of 5: 70 % of the negatives"), "{said}");
    assert!(words(&said).contains("weight propensity: 30 % of the negatives"), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert_eq!(said.matches("\nPositive ").count(), 2);
    assert_eq!(good(&["--positives", "2"]), said, "one seed, one explanation");
    assert_ne!(good(&["--positives", "2", "--seed", "7"]), said);
    let all = good(&["--item", own(3), "--candidates"]);
    assert!(all.contains(&format!("Positive {} ", own(3))) && all.lines().filter(|l| l.starts_with('*')).count() == 4);

    let json: Value = serde_json::from_str(&good(&["--item", own(3), "--json"])).unwrap();
    assert_eq!((json["user"].as_str(), json["explained"][0]["item"].as_str()), (Some(id), Some(own(3))));
    let negatives = json["explained"][0]["negatives"].as_array().unwrap();
    assert_eq!(negatives.len(), 4);
    for negative in negatives {
        let candidates = negative["candidates"].as_array().unwrap();
        assert_eq!(candidates.iter().filter(|c| c["reason"].is_string()).count(), 1);
        let best = candidates.iter().find(|c| c["reason"].is_string()).unwrap();
        for c in candidates {
            let item = dataset.items().find(c["item"].as_str().unwrap()).unwrap();
            let positive = dataset.train().positives(user).contains(item);
            assert_eq!(positive, c["filtered_by"] == "positive");
            if c["filtered_by"].is_null() && negative["component"] == 0 {
                assert!(c["score"].as_f64() <= best["score"].as_f64());
            }
        }
    }

    // Listwise and plain models, too; the first has the defaults.
    let said = explain(&trained.model, &trained.dataset, &["--user", id]).success().get_output().stdout.clone();
    assert!(words(&String::from_utf8(said).unwrap()).contains("uniform, first: 100 % of the negatives"));
    let (assert, listwise, _) = audited(&trained, "bsl", &["--loss", "bsl", "--proposal", "popularity"]);
    assert.success();
    let said = explain(&listwise, &trained.dataset, &["--user", id]).success().get_output().stdout.clone();
    let said = words(&String::from_utf8(said).unwrap());
    assert!(said.contains("shared by a block") && said.contains(" that score lower; --candidates lists all"), "{said}");

    let refused = |args: &[&str], code: i32, words: &str| {
        explain(&model, &trained.dataset, args).code(code).stderr(predicate::str::contains(words));
    };
    refused(&["--user", &id.to_uppercase()], 1, "did you mean");
    refused(&["--user", "nobody"], 1, "peccary inspect");
    refused(&["--user", id, "--item", "nothing"], 1, "--item nothing");
    let other = (0..dataset.items().len()).find(|i| !dataset.train().positives(user).contains(*i)).unwrap();
    refused(&["--user", id, "--item", dataset.items().id(other).unwrap()], 1, "is no train interaction");
    refused(&["--user", id, "--progress", "1.5"], 2, "--progress 1.5");
    refused(&["--user", id, "--positives", "0"], 2, "--positives");
    refused(&["--user", id, "--memory", "100KiB"], 1, "--memory");
    refused(&[], 2, "--user");
    explain(&model, &trained.other, &["--user", id]).code(1).stderr(predicate::str::contains("trained on another"));
}
