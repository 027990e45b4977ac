//! Folding in new users: by every loss, as good as trained rows, deterministic, and what it refuses.

use std::collections::HashSet;
use std::path::Path;

use crate::trained::{Trained, peccary};
use peccary::{
    ByteSize, Context, Dataset, FoldInOptions, IngestOptions, Input, Inputs, LossKind, Model, Part, RecommendOptions,
    RecommendUsers, Similarity, TrainConfig, fold_in, ingest, recommend, train, versions,
};
use predicates::prelude::*;
use serde_json::Value;

fn context() -> Context {
    Context::new(2, ByteSize(1 << 30))
}

/// One user in ten, who is held out of the second model.
fn one_in_ten(user: u32) -> bool {
    user % 10 == 3
}

const K: usize = 20;
/// Held-out users that are folded in, at most: enough to tell recalls apart by a few hundredths.
const MEASURED: usize = 600;

/// Recall@20 on test of the held-out users: by their rows of a model of all users, and folded into one that never saw
/// them. And the milliseconds that each took.
fn recalls(
    folder: &Path,
    all: &Dataset,
    config: &TrainConfig,
    is_held_out: impl Fn(u32) -> bool,
) -> ([f64; 2], Vec<f64>) {
    let ctx = context();
    // The same log without the held-out users, but with all of its items: they are what is frozen.
    let (with, without) = (folder.join("with.model"), folder.join("without.model"));
    let rest = folder.join("rest.pec");
    if !rest.exists() {
        let log = folder.join("rest.tsv");
        let mut text = String::from("user\titem\n");
        for user in (0..all.users().len()).filter(|user| !is_held_out(*user)) {
            for item in all.train().user(user).items {
                let ids = [all.users().id(user), all.items().id(item.to_native())];
                text += &format!("{}\t{}\n", ids[0].unwrap(), ids[1].unwrap());
            }
        }
        std::fs::write(&log, text).unwrap();
        ingest(&Inputs::from(vec![Input::Path(log)]), &IngestOptions::default(), &rest, false, &ctx).unwrap();
    }
    train(all, config, &with, true, &ctx).unwrap();
    train(&Dataset::open(&rest).unwrap(), config, &without, true, &ctx).unwrap();
    let (with, without) = (Model::open(with).unwrap(), Model::open(without).unwrap());
    let test = all.part(Part::Test).unwrap();
    let held_out: Vec<u32> = (0..all.users().len())
        .filter(|user| is_held_out(*user) && all.train().user(*user).items.len() >= 5)
        .filter(|user| !test.user(*user).items.is_empty())
        .take(MEASURED)
        .collect();
    assert!(held_out.len() >= 50, "{}", held_out.len());
    let recall = |user: u32, found: &mut dyn Iterator<Item = &str>| {
        let wanted: HashSet<&str> =
            test.user(user).items.iter().map(|item| all.items().id(item.to_native()).unwrap()).collect();
        found.filter(|item| wanted.contains(item)).count() as f64 / wanted.len() as f64
    };
    let ids = held_out.iter().map(|user| all.users().id(*user).unwrap().to_string()).collect();
    let mut by_row = 0.0;
    let options = RecommendOptions { k: K, ..RecommendOptions::default() };
    recommend(&with, all, &RecommendUsers::Ids(ids), options, &ctx, |r| {
        by_row += recall(r.user, &mut r.items.iter().map(|(item, _)| all.items().id(*item).unwrap()));
        Ok(())
    })
    .unwrap();
    let options = FoldInOptions { k: K, ignore_unknown: true, ..FoldInOptions::default() };
    let (mut folded, mut times) = (0.0, Vec::new());
    for user in &held_out {
        let history: Vec<&str> =
            all.train().user(*user).items.iter().map(|item| all.items().id(item.to_native()).unwrap()).collect();
        let found = fold_in(&without, &history, &options, &ctx).unwrap();
        times.push((found.row_seconds + found.rank_seconds) * 1e3);
        folded += recall(*user, &mut found.items.iter().map(|(item, _)| without.item_ids().id(*item).unwrap()));
    }
    ([by_row, folded].map(|sum| sum / held_out.len() as f64), times)
}

#[test]
fn folded_rows_recommend_nearly_as_well_as_trained_ones_by_every_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let size = ["--users", "1500", "--items", "600", "--interactions", "60000", "--quiet"];
    peccary(&["synth", "--output", &path("log.csv")]).args(size).assert().success();
    let split = ["--split", "random:0.2", "--quiet"];
    peccary(&["ingest", &path("log.csv"), "--output", &path("d")]).args(split).assert().success();
    let all = Dataset::open(path("d")).unwrap();
    let mut failed = Vec::new();
    for kind in LossKind::ALL {
        for similarity in [Similarity::Dot, Similarity::Cosine] {
            // Listwise losses are for cosines; the others for either.
            if kind.is_listwise() && similarity == Similarity::Dot {
                continue;
            }
            let mut config =
                TrainConfig { dimensions: 24, epochs: 15, similarity: Some(similarity), ..TrainConfig::default() };
            config.loss.kind = kind;
            let ([trained, folded], _) = recalls(folder.path(), &all, &config, one_in_ten);
            println!("{} {similarity:?}: recall@20 {trained:.4} trained, {folded:.4} folded in", kind.name());
            // Measured: 0.88 to 1.05 of it, but for ccl 0.59 to 0.7, by the rounding of an instruction set: its models are poor
            // on this log, and hinges jump.
            let least = if kind == LossKind::Ccl { 0.4 } else { 0.8 };
            if folded < least * trained {
                failed.push((kind.name(), similarity, trained, folded));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Gowalla as in the published split, in a folder; nothing where it is absent.
fn gowalla(folder: &Path) -> Option<Dataset> {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let shared = std::path::PathBuf::from(std::env::var("PECCARY_DATA").unwrap_or(shared.to_string()));
    let [log, test] = ["train", "test"].map(|part| shared.join(format!("gowalla-lightgcn/{part}.tsv.gz")));
    if !log.exists() {
        // Past the harness, which keeps what a passing test prints to itself.
        let line = format!("skipped: {} is absent\n", log.display());
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        return None;
    }
    let inputs = Inputs { test: vec![Input::Path(test)], ..Inputs::from(vec![Input::Path(log)]) };
    let path = folder.join("d");
    ingest(&inputs, &IngestOptions::default(), &path, false, &context()).unwrap();
    Some(Dataset::open(path).unwrap())
}

#[test]
#[ignore = "trains 18 models: cargo test --release --test behaviour long_histories -- --ignored --nocapture"]
fn long_histories() {
    let folder = tempfile::tempdir().unwrap();
    let Some(all) = gowalla(folder.path()) else { return };
    let is_long = |user: u32| all.train().user(user).items.len() > 256;
    println!("gowalla, users with more than 256 items: recall@20 trained, folded in; milliseconds: median, the most");
    for kind in LossKind::ALL {
        let mut config = TrainConfig { epochs: if kind.is_listwise() { 6 } else { 12 }, ..TrainConfig::default() };
        config.loss.kind = kind;
        let ([trained, folded], mut times) = recalls(folder.path(), &all, &config, is_long);
        times.sort_by(f64::total_cmp);
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        println!("{:10} {trained:.4} {folded:.4}  {median:6.2} {most:6.2}", kind.name());
    }
}

#[test]
fn folded_rows_recommend_nearly_as_well_as_trained_ones_on_gowalla() {
    let folder = tempfile::tempdir().unwrap();
    let Some(all) = gowalla(folder.path()) else { return };
    let bpr = TrainConfig { epochs: 12, ..TrainConfig::default() };
    let mut bsl = TrainConfig { epochs: 6, ..TrainConfig::default() };
    bsl.loss.kind = LossKind::Bsl;
    for config in [bpr, bsl] {
        let ([trained, folded], _) = recalls(folder.path(), &all, &config, one_in_ten);
        println!("gowalla, {}: recall@20 {trained:.4} trained, {folded:.4} folded in", config.loss.kind.name());
        assert!(trained > 0.1 && folded > 0.9 * trained, "{}: {trained} {folded}", config.loss.kind.name());
    }
}

#[test]
fn threads_that_share_a_catalogue_rank_it_as_a_full_sort_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let size = ["--users", "3000", "--items", "60000", "--interactions", "90000", "--quiet"];
    peccary(&["synth", "--output", &path("log.csv")]).args(size).assert().success();
    peccary(&["ingest", &path("log.csv"), "--output", &path("d"), "--quiet"]).assert().success();
    let config = TrainConfig { dimensions: 8, epochs: 2, ..TrainConfig::default() };
    train(&Dataset::open(path("d")).unwrap(), &config, path("m").as_ref(), true, &context()).unwrap();
    let model = Model::open(path("m")).unwrap();
    let items = model.items();
    assert!(items.rows() > 20_000, "some threads have some tiles each: {}", items.rows());
    let history: Vec<&str> = (0..40).map(|i| model.item_ids().id(i * items.rows() as u32 / 40).unwrap()).collect();
    for k in [1, 30, items.rows()] {
        let options = FoldInOptions { k, ..FoldInOptions::default() };
        let found = |threads| fold_in(&model, &history, &options, &Context::new(threads, ByteSize(1 << 30))).unwrap();
        let one = found(1);
        let score = |item: u32| -> f64 {
            items.row(item as usize).iter().zip(&one.row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let mut sorted: Vec<u32> = (0..items.rows() as u32).filter(|item| !one.history.contains(item)).collect();
        sorted.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        assert_eq!(one.items.len(), k.min(sorted.len()));
        for ((item, found), expected) in one.items.iter().zip(&sorted) {
            assert!((score(*item) - score(*expected)).abs() < 1e-4 && (f64::from(*found) - score(*item)).abs() < 1e-4);
        }
        for threads in [2, 3, 7] {
            assert_eq!(found(threads).items, one.items, "{threads} threads, {k} items");
        }
    }
}

#[test]
fn a_history_is_all_it_takes() {
    let trained = Trained::new();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let id = |item: u32| dataset.items().id(item).unwrap().to_string();
    let history = [id(3), id(11), id(200), id(3)].join(",");
    let run = |args: &[&str]| {
        let made = peccary(&["recommend", &trained.model, "--json"]).args(args).assert().success().get_output().clone();
        serde_json::from_slice::<Value>(&made.stdout).unwrap()
    };
    let found = run(&["--history", &history, "--k", "7"]);
    let items: Vec<&str> = found["items"].as_array().unwrap().iter().map(|i| i["item"].as_str().unwrap()).collect();
    assert_eq!((items.len(), found["history"].as_array().unwrap().len()), (7, 3), "a repeat counts once");
    let digits = |score: &Value| score.to_string().trim_start_matches(['-', '0', '.']).replace('.', "").len();
    assert!(found["items"].as_array().unwrap().iter().all(|i| digits(&i["score"]) <= 9), "single floats: {found}");
    assert!([3, 11, 200].iter().all(|i| !items.contains(&id(*i).as_str())), "{items:?}");
    // The same whatever the threads, the order, and where it comes from.
    let again = run(&["--history", &[id(200), id(11), id(3)].join(","), "--k", "7", "--threads", "1"]);
    assert_eq!(found["items"], again["items"]);
    let file = trained.path("basket.txt");
    std::fs::write(&file, format!("{}\r\n{}\n{}", id(200), id(11), id(3))).unwrap();
    assert_eq!(found["items"], run(&["--history-file", &file, "--k", "7"])["items"]);
    let piped = peccary(&["recommend", &trained.model, "--json", "--history-file", "-", "--k", "7"])
        .write_stdin(std::fs::read(&file).unwrap())
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    assert_eq!(found["items"], serde_json::from_slice::<Value>(&piped).unwrap()["items"]);
    peccary(&["recommend", &trained.model, "--history", &history, "--k", "3"])
        .assert()
        .success()
        .stdout(predicate::function(|text: &str| text.lines().count() == 1 && text.contains(items[0])));
    // What was taken is left out only because it is masked.
    let with = run(&["--history", &history, "--include-seen", "--k", "100000"]);
    let with: Vec<&str> = with["items"].as_array().unwrap().iter().map(|i| i["item"].as_str().unwrap()).collect();
    assert!([3, 11, 200].iter().all(|i| with.contains(&id(*i).as_str())), "{with:?}");
    // Nothing has been written.
    peccary(&["verify", &trained.model]).assert().success();
    assert_eq!(versions(&trained.model).unwrap().len(), 1);
}

#[test]
fn what_a_history_must_not_be_is_said() {
    let trained = Trained::new();
    let dataset = Dataset::open(&trained.dataset).unwrap();
    let known = dataset.items().id(3).unwrap();
    let refused = |args: &[&str], code: i32| {
        let ended = peccary(&["recommend", &trained.model]).args(args).assert().code(code).get_output().clone();
        String::from_utf8(ended.stderr).unwrap()
    };
    let shouted = known.to_uppercase();
    let text = refused(&["--history", &format!("{shouted},nothing like it,{known}")], 1);
    assert!(text.contains(&format!("'{shouted}' (did you mean {known}")), "{text}");
    assert!(text.contains("'nothing like it'") && text.contains("--ignore-unknown"), "{text}");
    let left = ["recommend", &trained.model, "--history", &format!("{shouted},{known}"), "--ignore-unknown", "--json"];
    let left = peccary(&left).assert().success().get_output().stdout.clone();
    let left: Value = serde_json::from_slice(&left).unwrap();
    assert_eq!((&left["unknown"][0], &left["history"][0]), (&Value::from(shouted), &Value::from(known)));
    assert!(refused(&["--history", "x,y", "--ignore-unknown"], 1).contains("none of its 2 items is known"));
    assert!(refused(&["--history", ""], 1).contains("it is empty"));
    let everything: Vec<&str> = (0..dataset.items().len()).map(|item| dataset.items().id(item).unwrap()).collect();
    let file = trained.path("everything.txt");
    std::fs::write(&file, everything.join("\n")).unwrap();
    assert!(refused(&["--history-file", &file], 1).contains("all "), "no negative is left");
    assert!(refused(&["--history-file", &trained.path("absent")], 1).contains("cannot read the history"));
    refused(&[], 2);
    refused(&["--ignore-unknown"], 2);
    refused(&["--history", known, "--all"], 2);
    refused(&["--history", known, "--k", "0"], 2);
    refused(&["--history", known, "--output", "x.csv"], 2);
    refused(&["--history", known, "--history-file", &file], 2);
    let other = trained.dataset.as_str();
    peccary(&["recommend", &trained.model, other, "--history", known]).assert().code(2);
    peccary(&["recommend", other, "--history", known])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("it is a dataset"));
}
