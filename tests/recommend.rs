//! `peccary recommend` and `peccary similar` through the binary.

use std::collections::HashSet;
use std::fs;

use crate::trained::{Trained, peccary};
use peccary::{Dataset, Part};
use predicates::prelude::*;
use serde_json::Value;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn all_users_get_unseen_items_by_falling_score() {
    let trained = Trained::new();
    let output = trained.path("top.ndjson");
    let run = |output: &str, args: &[&str]| {
        peccary(&["recommend", &trained.model, &trained.dataset, "--all", "--quiet", "--output", output])
            .args(args)
            .assert()
    };
    run(&output, &["--k", "7"]).success();
    let text = fs::read_to_string(&output).unwrap();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let warm = (0..dataset.users().len()).filter(|u| !dataset.train().user(*u).items.is_empty());
    let ids: Vec<&str> = warm.map(|user| dataset.users().id(user).unwrap()).collect();
    let lines = lines(&text);
    assert!(lines.iter().map(|line| line["user"].as_str().unwrap()).eq(ids), "users come in the dataset's order");
    for line in &lines {
        let user = dataset.users().find(line["user"].as_str().unwrap()).unwrap();
        let items = line["items"].as_array().unwrap();
        let scores: Vec<f64> = items.iter().map(|i| i["score"].as_f64().unwrap()).collect();
        assert!(items.len() == 7 && scores.is_sorted_by(|a, b| a >= b), "{line}");
        let dense: HashSet<u32> =
            items.iter().map(|i| dataset.items().find(i["item"].as_str().unwrap()).unwrap()).collect();
        assert_eq!(dense.len(), 7);
        for part in [Part::Train, Part::Valid] {
            let seen = dataset.part(part).unwrap().positives(user);
            assert!(dense.iter().all(|item| !seen.contains(*item)), "{line}");
        }
    }
    let again = trained.path("again.ndjson");
    run(&again, &["--k", "7", "--threads", "3", "--memory", "7MiB"]).success();
    assert_eq!(fs::read_to_string(&again).unwrap(), text, "threads and memory change nothing");

    run(&output, &["--k", "2"]).failure().stderr(predicate::str::contains("--force"));
    assert_eq!(fs::read_to_string(&output).unwrap(), text, "what was there is untouched");
    run(&output, &["--k", "2", "--force"]).success();
    assert_ne!(fs::read_to_string(&output).unwrap(), text);
    let csv = trained.path("top.csv");
    run(&csv, &["--k", "2"]).success();
    assert!(fs::read_to_string(&csv).unwrap().starts_with("user,rank,item,score\n"));
    let parquet = trained.path("top.parquet");
    run(&parquet, &[]).success();
    assert!(fs::read(&parquet).unwrap().starts_with(b"PAR1"));
}

#[test]
fn named_users_and_bad_names() {
    let trained = Trained::new();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let warm: Vec<u32> =
        (0..400).filter(|u| *u < dataset.users().len() && !dataset.train().user(*u).items.is_empty()).collect();
    let id = |at: usize| dataset.users().id(warm[at]).unwrap();
    let recommend = |args: &[&str]| peccary(&["recommend", &trained.model, &trained.dataset]).args(args).assert();
    let out = recommend(&["--user", id(5), "--user", id(2), "--k", "3"]).success().get_output().stdout.clone();
    let users: Vec<Value> = lines(std::str::from_utf8(&out).unwrap()).iter().map(|l| l["user"].clone()).collect();
    assert_eq!(users, [id(5), id(2)]);
    let out = recommend(&["--user", id(5), "--json"]).success().get_output().stdout.clone();
    let json: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["by_user"][0]["user"], id(5));
    assert_eq!(json["by_user"][0]["items"].as_array().unwrap().len(), 10);
    assert_eq!((&json["users"], &json["recommendations"]), (&1.into(), &10.into()));

    let shouted = id(5).to_uppercase();
    let hint = format!("did you mean {}", id(5));
    recommend(&["--user", &shouted]).failure().stderr(predicate::str::contains(hint));
    let target = trained.path("never.csv");
    recommend(&["--user", id(5), "--user", "nobody", "--output", &target])
        .failure()
        .stderr(predicate::str::contains("--user nobody"));
    assert!(!fs::exists(&target).unwrap());
    recommend(&[]).code(2);
    recommend(&["--user", id(5), "--k", "0"]).code(2);
    recommend(&["--all", "--user", id(5)]).code(2);
    recommend(&["--all", "--json"]).code(2).stderr(predicate::str::contains("standard output"));
    peccary(&["recommend", &trained.model, &trained.other, "--all"])
        .assert()
        .failure()
        .stderr(predicate::str::contains("trained on another dataset"));
}

#[test]
fn a_sample_of_users_is_drawn_by_its_seed() {
    let trained = Trained::new();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let recommend = |args: &[&str]| {
        let mut command = peccary(&["recommend", &trained.model, &trained.dataset, "--quiet", "--k", "3"]);
        let output = command.args(args).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    };
    let text = recommend(&["--users", "40", "--seed", "3"]);
    let dense = |line: &Value| dataset.users().find(line["user"].as_str().unwrap()).unwrap();
    let users: Vec<u32> = lines(&text).iter().map(dense).collect();
    assert!(users.len() == 40 && users.is_sorted_by(|a, b| a < b), "{users:?}");
    assert!(users.iter().all(|user| !dataset.train().user(*user).items.is_empty()));
    assert_eq!(recommend(&["--users", "40", "--seed", "3", "--threads", "3", "--memory", "7MiB"]), text);
    assert_ne!(recommend(&["--users", "40", "--seed", "4"]), text);
    assert_eq!(recommend(&["--users", "1000000"]), recommend(&["--all"]));
    let json: Value = serde_json::from_str(&recommend(&["--users", "40", "--seed", "3", "--json"])).unwrap();
    let listed: Vec<u32> = json["by_user"].as_array().unwrap().iter().map(dense).collect();
    assert_eq!((listed, &json["users"]), (users, &40.into()));
    for wrong in [&["--users", "0"][..], &["--users", "4", "--all"], &["--all", "--seed", "3"]] {
        peccary(&["recommend", &trained.model, &trained.dataset]).args(wrong).assert().code(2);
    }
}

#[test]
fn similar_items() {
    let trained = Trained::new();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let item = dataset.items().id(3).unwrap();
    let out = peccary(&["similar", &trained.model, "--item", item, "--k", "4", "--json"]);
    let out = { out }.assert().success().get_output().stdout.clone();
    let json: Value = serde_json::from_slice(&out).unwrap();
    let near = json["items"][0]["similar"].as_array().unwrap();
    let cosines: Vec<f64> = near.iter().map(|n| n["cosine"].as_f64().unwrap()).collect();
    assert!(near.len() == 4 && cosines.is_sorted_by(|a, b| a >= b) && cosines.iter().all(|c| c.abs() <= 1.0001));
    assert!(near.iter().all(|n| n["item"] != item && dataset.items().find(n["item"].as_str().unwrap()).is_some()));
    peccary(&["similar", &trained.model, "--item", item, "--k", "0"]).assert().code(2);
    peccary(&["similar", &trained.model, "--item", "nothing"])
        .assert()
        .failure()
        .stderr(predicate::str::contains("--item nothing"));
}
