//! `peccary evaluate` through the binary: from a log to metrics, and what it refuses.

mod trained;

use predicates::prelude::*;
use serde_json::Value;
use trained::{Trained, peccary};

fn evaluate(trained: &Trained, args: &[&str]) -> Value {
    let mut command = peccary(&["evaluate", &trained.model, &trained.dataset, "--json", "--quiet"]);
    serde_json::from_slice(&command.args(args).assert().success().get_output().stdout).unwrap()
}

#[test]
fn metrics_are_json_whatever_the_threads_and_memory() {
    let trained = Trained::new();
    let result = evaluate(&trained, &["--k", "5,20"]);
    let keys: Vec<&String> = result["metrics"].as_object().unwrap().keys().collect();
    let at = |k| ["recall", "precision", "hit_rate", "ndcg", "mrr", "map"].map(|name| format!("{name}@{k}"));
    assert!(keys.into_iter().eq(at(5).iter().chain(&at(20)).chain([&"auc".to_string()])), "{result}");
    let all =
        |metrics: &Value| metrics.as_object().unwrap().values().all(|v| (0.0..=1.0).contains(&v.as_f64().unwrap()));
    for metrics in [&result["metrics"], &result["baselines"]["popularity"], &result["baselines"]["random"]] {
        assert!(all(metrics), "{metrics}");
    }
    let random = result["baselines"]["random"]["auc"].as_f64().unwrap();
    assert!((random - 0.5).abs() < 0.05, "{random}");
    assert!(result["baselines"]["popularity"]["auc"].as_f64().unwrap() > 0.55, "{result}");
    let other = evaluate(&trained, &["--k", "5,20", "--threads", "3", "--memory", "7MiB"]);
    for key in ["metrics", "baselines", "users", "interactions", "cold_users"] {
        assert_eq!(result[key], other[key], "{key}");
    }
}

#[test]
fn the_options_do_what_they_say() {
    let trained = Trained::new();
    let sampled = evaluate(&trained, &["--protocol", "sampled:50", "--k", "10"]);
    assert_eq!(sampled["protocol"], "sampled:50");
    assert_eq!(sampled["metrics"]["recall@10"], sampled["metrics"]["hit_rate@10"]);
    assert_eq!(sampled["users_short_of_negatives"], 0);
    let random = sampled["baselines"]["random"]["hit_rate@10"].as_f64().unwrap();
    assert!((random - 10.0 / 51.0).abs() < 0.06, "{random}");
    let few = evaluate(&trained, &["--users", "50", "--no-baselines", "--split", "valid"]);
    assert_eq!((&few["users"], &few["split"]), (&50.into(), &"valid".into()));
    assert!(few.get("baselines").is_none());
    peccary(&["evaluate", &trained.model, &trained.dataset, "--quiet"])
        .assert()
        .success()
        .stdout(predicate::str::contains("model  popularity      random").and(predicate::str::contains("ndcg@20")));
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_a_remedy() {
    let trained = Trained::new();
    let refused = |args: &[&str], texts: &[&str]| {
        let output = peccary(&["evaluate"]).args(args).assert().failure().get_output().stderr.clone();
        let output = String::from_utf8(output).unwrap();
        assert!(texts.iter().all(|text| output.contains(text)), "{texts:?} in {output}");
    };
    let (model, dataset) = (trained.model.as_str(), trained.dataset.as_str());
    refused(&[model, dataset, "--k", "5000"], &["--k 5000", "number of items"]);
    peccary(&["evaluate", model, dataset, "--k", "5000"]).assert().code(2);
    refused(&[model, dataset, "--k", "0"], &["--k 0"]);
    refused(&[model, dataset, "--protocol", "sampled:0"], &["--protocol sampled:0", "sampled:99"]);
    for wrong in [["--k", "0"], ["--protocol", "sampled:0"], ["--protocol", "half"], ["--users", "0"], ["--split", "x"]]
    {
        peccary(&["evaluate", model, dataset]).args(wrong).assert().code(2);
    }
    refused(&[model, dataset, "--protocol", "half"], &["sampled:99"]);
    refused(&[model, dataset, "--memory", "1KiB"], &["--memory"]);
    refused(&[model, &trained.other, "--split", "test"], &["trained on another dataset"]);
    refused(&[dataset, dataset], &["not a Peccary model", "it is a dataset"]);
    refused(&["absent.model", dataset], &["absent.model", "there is no such folder"]);
}

#[test]
fn an_absent_part_is_named() {
    let trained = Trained::new();
    let model = trained.train(&trained.other);
    peccary(&["evaluate", &model, &trained.other])
        .assert()
        .failure()
        .stderr(predicate::str::contains("no test part, only train").and(predicate::str::contains("--split")));
}
