//! `peccary evaluate` through the binary: from a log to metrics, and what it refuses.

use crate::trained::{Trained, peccary};
use predicates::prelude::*;
use serde_json::Value;

fn evaluate(trained: &Trained, args: &[&str]) -> Value {
    let mut command = peccary(&["evaluate", &trained.model, &trained.dataset, "--json", "--quiet"]);
    serde_json::from_slice(&command.args(args).assert().success().get_output().stdout).unwrap()
}

#[test]
fn metrics_are_json_whatever_the_threads_and_memory() {
    let trained = Trained::new();
    let args = ["--k", "5,20", "--slices", "activity,popularity"];
    let result = evaluate(&trained, &args);
    let keys: Vec<&String> = result["metrics"].as_object().unwrap().keys().collect();
    let at = |names: &[&str], k: u32| names.iter().map(|name| format!("{name}@{k}")).collect::<Vec<_>>();
    let accuracy = ["recall", "precision", "hit_rate", "ndcg", "mrr", "map"];
    let beyond = ["coverage", "gini", "mean_popularity", "tail_share", "novelty", "serendipity", "diversity"];
    let auc = vec!["auc".to_string()];
    let expected = [at(&accuracy, 5), at(&accuracy, 20), auc.clone(), at(&beyond, 5), at(&beyond, 20)].concat();
    assert_eq!(keys, expected.iter().collect::<Vec<_>>());
    let accuracy = [at(&accuracy, 5), at(&accuracy, 20), auc].concat();
    let all = |metrics: &Value| {
        accuracy.iter().all(|name| (0.0..=1.0).contains(&metrics[name].as_f64().unwrap_or_else(|| panic!("{name}"))))
    };
    // The log has times, so that all four are there.
    let baselines: Vec<&String> = result["baselines"].as_object().unwrap().keys().collect();
    assert_eq!(baselines, ["popularity", "recent", "item_knn", "random"]);
    for metrics in std::iter::once(&result["metrics"]).chain(result["baselines"].as_object().unwrap().values()) {
        assert!(all(metrics), "{metrics}");
        assert_eq!(metrics.as_object().unwrap().keys().collect::<Vec<_>>(), keys, "one table");
    }
    for name in &accuracy {
        let [low, high] = [0, 1].map(|end| result["intervals"][name][end].as_f64().unwrap());
        let value = result["metrics"][name].as_f64().unwrap();
        assert!(low < value && value < high && high - low < 0.2, "{name}: {value} in {low} to {high}");
    }
    let of = |baseline: &str, metric: &str| result["baselines"][baseline][metric].as_f64().unwrap();
    assert!((of("random", "auc") - 0.5).abs() < 0.05, "{result}");
    assert!(of("popularity", "auc") > 0.55 && of("item_knn", "auc") > 0.55, "{result}");
    // Popular items are no surprise and known to all; random ones are spread over the catalogue.
    assert_eq!(of("popularity", "serendipity@20"), 0.0);
    assert_eq!(of("popularity", "tail_share@20"), 0.0);
    assert!(of("popularity", "coverage@20") < 0.2 && of("random", "coverage@20") > 0.9, "{result}");
    assert!(of("popularity", "gini@20") > 0.9 && of("random", "gini@20") < 0.3, "{result}");
    assert!(of("popularity", "novelty@20") < of("random", "novelty@20"), "{result}");

    let slices = result["slices"].as_array().unwrap();
    for by in ["activity", "popularity"] {
        let of: Vec<&Value> = slices.iter().filter(|slice| slice["by"] == by).collect();
        assert!(of.len() >= 3, "{slices:?}");
        let sum = |key: &str| of.iter().map(|slice| slice[key].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("interactions"), result["interactions"], "{by}: each interaction is in one");
        assert!(of.iter().all(|slice| all(&slice["metrics"]) && slice["intervals"]["ndcg@20"][1].is_f64()));
    }
    let other = evaluate(&trained, &[&args[..], &["--threads", "3", "--memory", "10MiB"]].concat());
    for key in ["metrics", "baselines", "users", "interactions", "cold_users", "intervals", "slices"] {
        assert_eq!(result[key], other[key], "{key}");
    }
}

#[test]
fn the_options_do_what_they_say() {
    let trained = Trained::new();
    for protocol in ["sampled:50", "sampled:50:popularity"] {
        let sampled = evaluate(&trained, &["--protocol", protocol, "--k", "10", "--slices", "time:3"]);
        assert_eq!(sampled["protocol"], protocol);
        assert_eq!(sampled["metrics"]["recall@10"], sampled["metrics"]["hit_rate@10"]);
        assert_eq!(sampled["users_short_of_negatives"], 0);
        let random = sampled["baselines"]["random"]["hit_rate@10"].as_f64().unwrap();
        assert!((random - 10.0 / 51.0).abs() < 0.06, "{random}");
        let slices = sampled["slices"].as_array().unwrap();
        let held_out = slices.iter().map(|slice| slice["interactions"].as_u64().unwrap()).sum::<u64>();
        assert_eq!((slices.len(), held_out), (3, sampled["interactions"].as_u64().unwrap()));
    }
    let hits = |protocol: &str| {
        let args = ["--protocol", protocol, "--k", "10", "--baselines", "popularity"];
        evaluate(&trained, &args)["baselines"]["popularity"]["hit_rate@10"].as_f64().unwrap()
    };
    assert!(hits("sampled:50:popularity") < hits("sampled:50"), "popularity is no help among popular items");
    let few = evaluate(&trained, &["--users", "50", "--baselines", "none", "--split", "valid"]);
    assert_eq!((&few["users"], &few["split"]), (&50.into(), &"valid".into()));
    assert!(few.get("baselines").is_none());
    let text = peccary(&["evaluate", &trained.model, &trained.dataset, "--quiet", "--slices", "activity"]);
    let output = { text }.assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains("ndcg@20") && text.contains("item_knn") && text.contains("by activity"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn negatives_are_those_of_a_list_where_there_is_one() {
    let trained = Trained::new();
    let dataset = peccary::Dataset::open(&trained.dataset).unwrap();
    let test = dataset.part(peccary::Part::Test).unwrap();
    let (user_id, item_id) = (|u| dataset.users().id(u).unwrap(), |i| dataset.items().id(i).unwrap());
    let (mut text, mut lists, count) = (String::new(), 0, dataset.items().len());
    for user in 0..dataset.users().len() {
        let warm = !dataset.train().user(user).items.is_empty();
        let Some(item) = test.user(user).items.first().filter(|_| warm) else { continue };
        let negatives: Vec<&str> = (0..40).map(|n| item_id((item.to_native() + 7 * n + 1) % count)).collect();
        text += &format!("({},{})\t{}\n", user_id(user), item_id(item.to_native()), negatives.join("\t"));
        lists += 1;
    }
    let path = trained.path("negatives.tsv");
    std::fs::write(&path, format!("{text}nobody\tnothing\t1\n")).unwrap();
    let protocol = format!("list:{path}");
    let result = evaluate(&trained, &["--protocol", &protocol, "--k", "10", "--slices", "activity"]);
    let random = result["baselines"]["random"]["hit_rate@10"].as_f64().unwrap();
    assert!((random - 10.0 / 41.0).abs() < 0.08, "{random}");
    let slices = result["slices"].as_array().unwrap();
    assert_eq!(slices.iter().map(|slice| slice["interactions"].as_u64().unwrap()).sum::<u64>(), lists);
    let notes = result["notes"].to_string();
    assert!(notes.contains("1 lines of") && notes.contains("have no list"), "{notes}");
    for threads in ["1", "3"] {
        let args = ["--protocol", &protocol, "--k", "10", "--threads", threads];
        assert_eq!(evaluate(&trained, &args)["metrics"], result["metrics"]);
    }
}

#[test]
fn models_are_compared_with_each_other_and_with_baselines() {
    let trained = Trained::new();
    let untrained = trained.path("one.model");
    let args = ["--dim", "16", "--epochs", "1", "--lr", "0.00001", "--quiet"];
    peccary(&["train", &trained.dataset, "--output", &untrained]).args(args).assert().success();
    let compared = |a: &str, b: &str, args: &[&str]| -> Value {
        let mut command = peccary(&["compare", a, b, &trained.dataset, "--json", "--quiet", "--k", "20"]);
        serde_json::from_slice(&command.args(args).assert().success().get_output().stdout).unwrap()
    };
    let result = compared("popularity", "random", &[]);
    assert_eq!(result["verdict"], "a", "{result}");
    let summary = result["summary"].as_str().unwrap();
    assert!(summary.starts_with("popularity is better than random: ndcg@20 "), "{summary}");
    let other = compared("random", "popularity", &["--threads", "3", "--memory", "8MiB"]);
    assert_eq!(other["verdict"], "b");
    for (one, other) in result["metrics"].as_array().unwrap().iter().zip(other["metrics"].as_array().unwrap()) {
        assert_eq!((&one["a"], &one["p_value"]), (&other["b"], &other["p_value"]));
        let [low, high] = [0, 1].map(|end| one["interval"][end].as_f64().unwrap());
        let difference = one["difference"].as_f64().unwrap();
        assert!(low <= difference && difference <= high, "{one}");
    }
    // The same version, by whatever name.
    for name in [&trained.model, &format!("{}@1", trained.model), &format!("{}/", trained.model)] {
        peccary(&["compare", &trained.model, name, &trained.dataset])
            .assert()
            .code(2)
            .stderr(predicate::str::contains("are the same; name two models"));
    }
    let copy = trained.path("copy.model");
    assert!(std::process::Command::new("cp").args(["-r", &trained.model, &copy]).status().unwrap().success());
    let same = compared(&trained.model, &copy, &[]);
    assert_eq!(same["versions"], serde_json::json!([1, 1]));
    assert_eq!(same["verdict"], "cannot_be_told");
    assert!(
        same["metrics"].as_array().unwrap().iter().all(|m| m["p_value"] == 1.0 && m["difference"] == 0.0),
        "{same}"
    );
    assert!(same["summary"].as_str().unwrap().contains("cannot be told"));
    let sampled = compared(&untrained, "item-knn", &["--protocol", "sampled:50"]);
    assert_eq!(sampled["metrics"].as_array().unwrap().len(), 3, "what is the same with one relevant item is left out");
    // The figures are those of `evaluate`.
    let evaluation = evaluate(&trained, &["--k", "20"]);
    assert_eq!((&evaluation["model"], &evaluation["version"]), (&trained.model.as_str().into(), &1.into()));
    assert_eq!((&evaluation["dataset"], &evaluation["flattered"]), (&trained.dataset.as_str().into(), &false.into()));
    let against = compared(&trained.model, "item_knn", &[]);
    for metric in against["metrics"].as_array().unwrap() {
        let name = metric["metric"].as_str().unwrap();
        assert_eq!(metric["a"], evaluation["metrics"][name]);
        assert_eq!(metric["b"], evaluation["baselines"]["item_knn"][name]);
    }
    peccary(&["compare", "absent", "popularity", &trained.dataset])
        .assert()
        .failure()
        .stderr(predicate::str::contains("neither a model nor a baseline").and(predicate::str::contains("item_knn")));
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
    for wrong in [
        ["--k", "0"],
        ["--protocol", "sampled:0"],
        ["--protocol", "half"],
        ["--users", "0"],
        ["--split", "x"],
        ["--baselines", "populrity"],
        ["--slices", "time:0"],
    ] {
        peccary(&["evaluate", model, dataset]).args(wrong).assert().code(2);
    }
    refused(&[model, dataset, "--protocol", "half"], &["sampled:99"]);
    refused(&[model, dataset, "--memory", "1KiB"], &["--memory"]);
    refused(&[model, dataset, "--baselines", "populrity"], &["did you mean \"popularity\"?"]);
    refused(&[model, dataset, "--slices", "activty"], &["--slices activty", "did you mean \"activity\"?"]);
    refused(&[model, dataset, "--slices", "event"], &["--slices event", "no event types", "--event-column"]);
    refused(&[model, dataset, "--protocol", "list:absent.tsv"], &["absent.tsv", "No such file"]);
    let list = trained.path("bad.tsv");
    std::fs::write(&list, "u1 i1 i2\n").unwrap();
    refused(&[model, dataset, "--protocol", &format!("list:{list}")], &["bad.tsv, line 1", "separated by tabs"]);
    std::fs::write(&list, "nobody\tnothing\tx\n").unwrap();
    refused(&[model, dataset, "--protocol", &format!("list:{list}")], &["bad.tsv", "those of the log"]);
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

/// A table of the dataset's items: each third one has no line, and one line is of no item.
fn table_of_items(trained: &Trained, name: &str) -> String {
    let dataset = peccary::Dataset::open(&trained.dataset).unwrap();
    let mut text = "name,item,kind,price,code\n".to_string();
    for item in (0..dataset.items().len()).filter(|item| !item.is_multiple_of(3)) {
        let kind = ["", "\"a, b\"", "c", "c"][(item % 4) as usize];
        text += &format!("Item {item},{},{kind},{}.5,{}\n", dataset.items().id(item).unwrap(), item % 50, item % 40);
    }
    text += "Nothing,nothing,c,1,1\n";
    let path = trained.path(name);
    if name.ends_with(".gz") {
        use std::io::Write;
        let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), Default::default());
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap();
    } else {
        std::fs::write(&path, text).unwrap();
    }
    path
}

#[test]
fn slices_by_attributes_of_items_are_those_of_their_items() {
    let trained = Trained::new();
    let path = table_of_items(&trained, "items.csv");
    let args = ["--k", "5,20", "--baselines", "none", "--slices", "popularity"];
    let with = |path: &str, more: &[&str]| evaluate(&trained, &[&args[..], &["--attributes", path], more].concat());
    let result = with(&path, &[]);
    let dataset = peccary::Dataset::open(&trained.dataset).unwrap();
    let (train, test) = (dataset.train(), dataset.part(peccary::Part::Test).unwrap());
    let warm = (0..dataset.users().len()).filter(|user| !train.user(*user).items.is_empty());
    let held_out: Vec<u32> = warm.flat_map(|user| test.user(user).items.iter().map(|item| item.to_native())).collect();
    let slices = result["slices"].as_array().unwrap();
    let of = |by: &str| -> Vec<(String, u64)> {
        let own = slices.iter().filter(|slice| slice["by"] == by);
        own.map(|slice| (slice["slice"].as_str().unwrap().to_string(), slice["interactions"].as_u64().unwrap()))
            .collect()
    };
    let count = |is: &dyn Fn(u32) -> bool| held_out.iter().filter(|item| is(**item)).count() as u64;
    let known = |item: u32| !item.is_multiple_of(3);
    let kinds = [
        ("c", count(&|i| known(i) && i % 4 > 1)),
        ("a, b", count(&|i| known(i) && i % 4 == 1)),
        ("(none)", count(&|i| !known(i) || i % 4 == 0)),
    ];
    assert_eq!(of("item.kind"), kinds.map(|(name, many)| (name.to_string(), many)));
    let prices = of("item.price");
    assert_eq!(prices.len(), 5, "{prices:?}");
    assert_eq!(prices.iter().map(|(_, many)| many).sum::<u64>(), held_out.len() as u64, "each is in one");
    assert!(prices[0].0.starts_with("0.5..") && prices[3].0.ends_with("..49.5"), "{prices:?}");
    for (name, many) in &prices[..4] {
        let (from, to) = name.split_once("..").unwrap();
        let (from, to): (f64, f64) = (from.parse().unwrap(), to.parse().unwrap());
        assert_eq!(*many, count(&|i| known(i) && (from..=to).contains(&(f64::from(i % 50) + 0.5))), "{name}");
    }
    let codes = of("item.code");
    assert_eq!(codes.len(), 12 + 2, "whole numbers are values: {codes:?}");
    for (name, many) in &codes[..12] {
        assert_eq!(*many, count(&|i| known(i) && (i % 40).to_string() == *name), "{name}");
    }
    assert!(codes[..12].windows(2).all(|two| two[0].1 >= two[1].1), "the most frequent first: {codes:?}");
    assert!(of("item.name").is_empty(), "what an item is called is no slice");
    assert!(slices.iter().all(|slice| slice["intervals"]["ndcg@20"][1].is_f64()));
    let notes = result["notes"].to_string();
    assert!(notes.contains("1 lines of") && notes.contains("have no attributes"), "{notes}");
    // Compressed, with other threads, and under the sampled protocol.
    let zipped = with(&table_of_items(&trained, "items.csv.gz"), &["--threads", "3", "--memory", "20MiB"]);
    assert_eq!((&zipped["slices"], &zipped["metrics"]), (&result["slices"], &result["metrics"]));
    let sampled = with(&path, &["--protocol", "sampled:20"]);
    let many = sampled["slices"].as_array().unwrap().iter().filter(|slice| slice["by"] == "item.kind");
    assert_eq!(many.map(|slice| slice["interactions"].as_u64().unwrap()).sum::<u64>(), held_out.len() as u64);
}

#[test]
fn attributes_that_cannot_be_used_are_refused_by_file_and_line() {
    let trained = Trained::new();
    let dataset = peccary::Dataset::open(&trained.dataset).unwrap();
    let id = dataset.items().id(0).unwrap();
    let path = trained.path("bad.tsv");
    let refused = |text: &str, words: &[&str], more: &[&str]| {
        std::fs::write(&path, text).unwrap();
        let args = ["evaluate", &trained.model, &trained.dataset, "--attributes", &path, "--quiet"];
        let output = peccary(&args).args(more).assert().code(1).get_output().stderr.clone();
        let said = String::from_utf8(output).unwrap();
        assert!(said.contains("bad.tsv") && words.iter().all(|word| said.contains(word)), "{words:?} in {said}");
    };
    refused(&format!("item\tkind\n{id}\ta\nx\n"), &["line 3", "1 fields", "the header 2"], &[]);
    refused(&format!("item\tkind\n{id}\ta\n\tb\n"), &["line 3", "the item id is empty"], &[]);
    refused("item\tkind\nnobody\ta\n", &["none of its 1 lines", "column 'item'"], &[]);
    refused(&format!("{id}\ta\nx\tb\n"), &["its first line is of item", "put a header before it"], &[]);
    let log: String = (0..3).map(|user| format!("{id}\tu{user}\n")).collect();
    refused(&format!("item\tuser\n{log}"), &["looks like a log", "one line an item"], &[]);
    refused("item\n", &["no column beside that of the items, 'item'"], &[]);
    let absent = peccary(&["evaluate", &trained.model, &trained.dataset, "--attributes", "absent.csv"]);
    { absent }.assert().code(1).stderr(predicate::str::contains("absent.csv: there is no such file"));
    std::fs::write(&path, format!("item\tkind\n{id}\ta\n")).unwrap();
    let tight = ["--attributes", &path, "--memory", "6MiB", "--quiet"];
    let tight = peccary(&["evaluate", &trained.model, &trained.dataset]).args(tight).assert().code(1);
    tight.stderr(predicate::str::contains("more than a quarter of --memory 6MiB"));
}
