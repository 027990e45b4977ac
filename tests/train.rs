//! Training, through the binary and the public API: it learns, it says what it did, and it refuses what cannot be.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use peccary::{
    Baseline, ByteSize, Context, Dataset, EvaluateOptions, LossKind, Model, OptimizerKind, Precision, Proposal,
    Schedule, Similarity, TrainConfig, TrainError, evaluate, train,
};
use serde_json::Value;
use tempfile::TempDir;

fn peccary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peccary")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn path(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A dataset with planted preferences: 2,000 users, 500 items, 80,000 rows, the last tenth of the time held out.
fn dataset(folder: &TempDir) -> PathBuf {
    let (log, data) = (path(folder, "log.csv"), path(folder, "log.pec"));
    let made =
        peccary(&["synth", "--users", "2000", "--items", "500", "--interactions", "80000", "--output", text(&log)]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = peccary(&["ingest", text(&log), "--split", "time:0.1", "--output", text(&data)]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    data
}

/// The message of a command that must fail with `code`.
fn refused(output: &Output, code: i32) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    message
}

#[test]
fn a_model_finds_much_of_what_was_planted_and_says_how_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (dataset(&folder), path(&folder, "a.model"));
    let trained = peccary(&["train", text(&data), "--output", text(&model), "--dim", "32", "--seed", "9", "--json"]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let report: Value = serde_json::from_slice(&trained.stdout).unwrap();
    assert_eq!(report["config"]["seed"], 9);
    assert_eq!(report["config"]["dimensions"], 32);
    assert!(report["triples_per_second"].as_f64().unwrap() > 0.0);
    let epochs = report["epochs"].as_array().unwrap();
    assert_eq!(epochs.len() as u64, report["config"]["epochs"].as_u64().unwrap());
    let opened = Dataset::open(&data).unwrap();
    for epoch in epochs {
        let triples = epoch["triples"].as_u64().unwrap() + 8 * epoch["skipped"].as_u64().unwrap();
        assert_eq!(triples, 8 * opened.train().len(), "every positive comes once an epoch");
    }
    assert!(epochs.last().unwrap()["loss"].as_f64().unwrap() < epochs[0]["loss"].as_f64().unwrap() / 2.0);

    let manifest = Model::open(&model).unwrap().manifest().clone();
    assert_eq!(manifest.config, report["config"]);
    assert_eq!(manifest.dataset, opened.fingerprint());
    let used: TrainConfig = serde_json::from_value(manifest.config).unwrap();
    assert!(used.loss.temperature.is_some() && used.optimizer.learning_rate.is_some() && used.init_deviation.is_some());

    let evaluated = peccary(&["evaluate", text(&model), text(&data), "--k", "20", "--json"]);
    let report: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    let recall = |of: &Value| of["recall@20"].as_f64().unwrap();
    let (ours, popularity, random) = (
        recall(&report["metrics"]),
        recall(&report["baselines"]["popularity"]),
        recall(&report["baselines"]["random"]),
    );
    assert!(ours > 1.3 * popularity && popularity > 2.0 * random, "{ours} {popularity} {random}");
}

/// Accuracy beside that of random order, and nothing else.
fn beside_random() -> EvaluateOptions {
    EvaluateOptions { baselines: vec![Baseline::Random], ..EvaluateOptions::accuracy() }
}

#[test]
fn one_thread_and_one_seed_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let factors = |name: &str, seed: &str, loss: &str, precision: &str| {
        let model = path(&folder, name);
        let trained = peccary(&[
            "train",
            text(&data),
            "--output",
            text(&model),
            "--epochs",
            "2",
            "--threads",
            "1",
            "--seed",
            seed,
            "--precision",
            precision,
            "--loss",
            loss,
            "--quiet",
        ]);
        assert!(trained.status.success());
        ["v000001/users.factors", "v000001/items.factors"].map(|file| std::fs::read(model.join(file)).unwrap())
    };
    for loss in ["bpr", "bsl"] {
        let model = |name: &str| format!("{loss}-{name}");
        let first = factors(&model("a"), "1", loss, "f32");
        assert!(first == factors(&model("b"), "1", loss, "f32"), "same seed, same bytes");
        assert!(first != factors(&model("c"), "2", loss, "f32"), "another seed, other bytes");
        if loss == "bpr" {
            let rounded = factors("d", "1", loss, "bf16");
            assert!(rounded == factors("e", "1", loss, "bf16"), "same seed, same noise");
            assert!(rounded != first, "bfloat16 rounds");
        }
    }
}

#[test]
fn every_combination_beats_random() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder)).unwrap();
    let ctx = Context::new(2, ByteSize(1 << 30));
    let model = path(&folder, "m");
    for loss in [LossKind::Bpr, LossKind::Logistic] {
        for similarity in [Similarity::Dot, Similarity::Cosine] {
            for (kind, schedule) in [
                (OptimizerKind::Sgd, Schedule::Linear),
                (OptimizerKind::Adagrad, Schedule::Constant),
                (OptimizerKind::Adam, Schedule::Cosine),
            ] {
                for (proposal, with_replacement, precision) in
                    [(Proposal::Uniform, true, Precision::F32), (Proposal::Popularity, false, Precision::Bf16)]
                {
                    let mut config =
                        TrainConfig { similarity: Some(similarity), dimensions: 20, epochs: 20, ..Default::default() };
                    config.optimizer.kind = kind;
                    config.optimizer.schedule = schedule;
                    config.negatives.proposal = proposal;
                    config.negatives.with_replacement = with_replacement;
                    config.negatives.alpha = 0.5;
                    config.l2 = Some(0.001);
                    config.loss.kind = loss;
                    config.precision = precision;
                    train(&data, &config, &model, true, &ctx).unwrap();
                    let evaluation = evaluate(&Model::open(&model).unwrap(), &data, &beside_random(), &ctx);
                    let evaluation = evaluation.unwrap();
                    let random = evaluation.baselines.get(Baseline::Random).unwrap().get("recall@20").unwrap();
                    let recall = evaluation.metrics.get("recall@20").unwrap();
                    assert!(recall > 1.5 * random, "{config:?}: recall {recall}, random {random}");
                }
            }
        }
    }
}

#[test]
fn rows_stay_short_and_dropout_learns() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder)).unwrap();
    // Two threads may mix two short rows to one that is longer.
    let ctx = Context::new(1, ByteSize(1 << 30));
    let model = path(&folder, "m");
    for (loss, similarity) in [
        (LossKind::Bpr, Similarity::Dot),
        (LossKind::Logistic, Similarity::Dot),
        (LossKind::Softmax, Similarity::Dot),
        (LossKind::Bsl, Similarity::Cosine),
    ] {
        let mut config = TrainConfig { similarity: Some(similarity), dimensions: 20, epochs: 20, ..Default::default() };
        config.loss.kind = loss;
        config.regularization.user_dropout = 0.1;
        config.regularization.clip_gradient = Some(5.0);
        let listwise = matches!(loss, LossKind::Softmax | LossKind::Bsl);
        if listwise {
            config.regularization.item_dropout = 0.1;
            config.negatives.count = Some(100);
        }
        let most = 0.7;
        if similarity == Similarity::Dot {
            config.regularization.max_norm = Some(most);
        }
        train(&data, &config, &model, true, &ctx).unwrap();
        let trained = Model::open(&model).unwrap();
        let evaluation = evaluate(&trained, &data, &beside_random(), &ctx).unwrap();
        let random = evaluation.baselines.get(Baseline::Random).unwrap().get("recall@20").unwrap();
        let recall = evaluation.metrics.get("recall@20").unwrap();
        assert!(recall > 1.5 * random, "{config:?}: recall {recall}, random {random}");
        if similarity == Similarity::Dot {
            let norm = |row: &[f32]| row[..20].iter().map(|x| x * x).sum::<f32>().sqrt();
            let norms: Vec<f32> = (0..data.items().len()).map(|i| norm(trained.items().row(i as usize))).collect();
            assert!(norms.iter().all(|n| *n <= most * 1.0001), "{loss:?}: {norms:?}");
            assert!(norms.iter().any(|n| *n > most * 0.999), "{loss:?}: some rows reach it");
        }
    }
}

#[test]
fn every_listwise_loss_beats_random() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder)).unwrap();
    let ctx = Context::new(2, ByteSize(1 << 30));
    let model = path(&folder, "m");
    use LossKind::{Bsl, Ccl, Psl, Softmax};
    use OptimizerKind::{Adagrad, Adam, Sgd};
    use Proposal::{Popularity, Uniform};
    use Similarity::{Cosine, Dot};
    for (kind, similarity, optimizer, proposal, rate) in [
        (Softmax, Cosine, Sgd, Uniform, None),
        (Softmax, Dot, Adagrad, Popularity, None),
        (Bsl, Cosine, Adam, Popularity, None),
        (Bsl, Dot, Sgd, Uniform, Some(0.01)),
        (Ccl, Cosine, Sgd, Uniform, None),
        (Psl, Cosine, Adagrad, Uniform, None),
    ] {
        let mut config = TrainConfig { similarity: Some(similarity), dimensions: 20, epochs: 15, ..Default::default() };
        config.loss.kind = kind;
        config.optimizer.kind = optimizer;
        config.optimizer.learning_rate = rate;
        config.negatives.proposal = proposal;
        config.negatives.count = Some(100);
        config.negatives.allow_positives = optimizer == Adam;
        config.confidence.activity = if proposal == Popularity { 0.5 } else { 0.0 };
        let (_, report) = train(&data, &config, &model, true, &ctx).unwrap();
        let positives = report.epochs[0].triples / 100;
        assert_eq!(positives, data.train().len(), "every positive comes once an epoch");
        assert!(report.epochs[14].loss < report.epochs[0].loss, "{config:?}: {report:?}");
        let evaluation = evaluate(&Model::open(&model).unwrap(), &data, &beside_random(), &ctx).unwrap();
        let random = evaluation.baselines.get(Baseline::Random).unwrap().get("recall@20").unwrap();
        let recall = evaluation.metrics.get("recall@20").unwrap();
        assert!(recall > 1.5 * random, "{config:?}: recall {recall}, random {random}");
    }
}

/// Recall@20 of a model of `data` with `text` as its configuration, and that of random scores.
fn recalls(data: &Dataset, text: &str, model: &Path) -> (f64, f64) {
    let ctx = Context::new(2, ByteSize(1 << 30));
    let config = TrainConfig { dimensions: 20, ..TrainConfig::from_toml(text).unwrap() };
    let (_, report) = train(data, &config, model, true, &ctx).unwrap_or_else(|error| panic!("{text}: {error}"));
    let last = report.epochs.last().unwrap();
    assert!(last.loss.is_finite() && last.loss < report.epochs[0].loss, "{text}: {report:?}");
    let evaluation = evaluate(&Model::open(model).unwrap(), data, &beside_random(), &ctx).unwrap();
    let random = evaluation.baselines.get(Baseline::Random).unwrap().get("recall@20").unwrap();
    (evaluation.metrics.get("recall@20").unwrap(), random)
}

#[test]
fn every_loss_with_what_goes_with_it_beats_random() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder)).unwrap();
    let model = path(&folder, "m");
    for text in [
        "[loss]\nkind = \"hinge\"",
        "similarity = \"cosine\"\nprecision = \"bf16\"\n[loss]\nkind = \"hinge\"\nmargin_exponent = 0.25\n[optimizer]\nkind = \"adam\"",
        "[loss]\nkind = \"focal\"\nscale = 2.0",
        "[loss]\nkind = \"logistic\"\nsmoothing = 0.1\nentropy = 0.05",
        "[loss]\nkind = \"bpr\"\nentropy = 0.05\n[confidence]\nactivity = 0.5",
        "[loss]\nkind = \"softmax\"\nentropy = 0.05\nscale = 0.9\n[negatives]\ncount = 100",
    ] {
        let (recall, random) = recalls(&data, text, &model);
        assert!(recall > 1.5 * random, "{text}: recall {recall}, random {random}");
    }
    // What is learnt from here becomes harder as training goes on: its loss need not fall.
    let mut warp = TrainConfig { dimensions: 20, ..TrainConfig::default() };
    warp.loss.kind = LossKind::Warp;
    let ctx = Context::new(2, ByteSize(1 << 30));
    let (manifest, _) = train(&data, &warp, &model, true, &ctx).unwrap();
    assert_eq!(manifest.config["negatives"]["mix"][0]["select"], "violation");
    let used: TrainConfig = serde_json::from_value(manifest.config).unwrap();
    used.validate().unwrap();
    let evaluation = evaluate(&Model::open(&model).unwrap(), &data, &beside_random(), &ctx).unwrap();
    let random = evaluation.baselines.get(Baseline::Random).unwrap().get("recall@20").unwrap();
    let recall = evaluation.metrics.get("recall@20").unwrap();
    assert!(recall > 1.5 * random, "warp: recall {recall}, random {random}");
}

#[test]
fn listwise_losses_learn_from_any_mixture() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder)).unwrap();
    let model = path(&folder, "m");
    let mixed = "[negatives]\ncount = 24\n[[negatives.mix]]\nselect = \"hardest\"\ncandidates = 2\nweigh = \"gap\"\n\
                 [[negatives.mix]]\nshare = 3\npropose = \"popularity\"\nalpha = 0.5\n\
                 [[negatives.mix]]\nshare = 3\npropose = \"in-batch\"\nmin_distance = 0.001\n";
    let corrected = "[negatives]\ncount = 24\n[[negatives.mix]]\nweigh = \"log-q\"\n\
                     [[negatives.mix]]\npropose = \"in-batch\"\nweigh = \"log-q\"\n";
    for (before, mix, loss) in [
        ("", corrected, "kind = \"softmax\""),
        ("similarity = \"dot\"\nprecision = \"bf16\"\n", mixed, "kind = \"softmax\"\nentropy = 0.05"),
        ("", mixed, "kind = \"bsl\"\nscale = 0.8"),
        ("deterministic = true\n", mixed, "kind = \"ccl\"\nweight = 20.0"),
        ("l2 = 0.001\n", mixed, "kind = \"psl\"\nsurrogate = \"atan\""),
    ] {
        let text = format!("epochs = 10\n{before}{mix}[loss]\n{loss}\n[confidence]\nactivity = 0.3\n");
        let (recall, random) = recalls(&data, &text, &model);
        assert!(recall > 1.5 * random, "{text}: recall {recall}, random {random}");
    }
}

#[test]
fn losses_are_listed_without_a_dataset() {
    let listed = peccary(&["train", "--list-losses"]);
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["bpr", "hinge", "warp", "logistic", "focal", "softmax", "bsl", "ccl", "psl"]);
    refused(&peccary(&["train"]), 2);
}

#[test]
fn flags_win_over_the_file_and_mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model, config) = (dataset(&folder), path(&folder, "m"), path(&folder, "run.toml"));
    let run = |content: &str, more: &[&str]| {
        std::fs::write(&config, content).unwrap();
        let mut arguments = vec!["train", text(&data), "--output", text(&model), "--config", text(&config), "--json"];
        arguments.extend(more);
        peccary(&arguments)
    };
    let good = run("epochs = 3\ndimensions = 8\n[negatives]\ncount = 2\n", &["--epochs", "1", "--biases=false"]);
    let report: Value = serde_json::from_slice(&good.stdout).unwrap();
    let config_used = &report["config"];
    assert_eq!((config_used["epochs"].as_u64(), config_used["dimensions"].as_u64()), (Some(1), Some(8)));
    assert_eq!((config_used["negatives"]["count"].as_u64(), config_used["biases"].as_bool()), (Some(2), Some(false)));

    for (content, more, expected) in [
        ("epoch = 3\n", &[][..], &["run.toml", "epoch", "epochs"][..]),
        ("epochs = \"three\"\n", &[], &["run.toml", "line 1"]),
        ("learning_rate = 1\n", &[], &["run.toml", "did you mean `learning_rate` in [optimizer]?"]),
        ("[[negatives.mix]]\nselect = \"hardst\"\n", &[], &["did you mean \"hardest\"?"]),
        ("[[negatives.mix]]\ntop = 3\n", &[], &["negatives.mix[0].top", "select = \"top\""]),
        ("[confidence]\nweight = \"log\"\n", &[], &["confidence.weight", "no weight column"]),
        ("", &["--learning-rate", "-1"], &["learning_rate", "-1"]),
        ("", &["--l2", "1000"], &["l2", "1000"]),
        ("", &["--similarity", "cosine", "--biases"], &["biases", "cosine"]),
        ("", &["--proposal", "popularity", "--block-items", "64"], &["block_items", "popularity"]),
        ("", &["--negatives", "999"], &["negatives.count", "255", "softmax"]),
        ("loss = \"bpr\"\n", &[], &["run.toml", "loss"]),
        ("[loss]\nkind = \"blp\"\n", &[], &["blp", "bsl"]),
        ("", &["--loss", "psl", "--similarity", "dot"], &["similarity", "cosine", "softmax"]),
        ("", &["--loss", "bsl", "--l2", "0.1"], &["l2", "dot"]),
        ("", &["--loss", "bsl", "--log-q"], &["loss.log_q", "popularity"]),
        ("", &["--loss", "ccl", "--log-q", "--proposal", "popularity"], &["loss.log_q", "softmax"]),
        ("", &["--loss", "softmax", "--block-items", "64"], &["block_items", "listwise"]),
        ("", &["--loss", "softmax", "--negatives", "70000"], &["negatives.count", "65536"]),
        ("", &["--loss", "bsl", "--shared-by", "0"], &["negatives.shared_by", "4096"]),
        ("[regularization]\nuser_drop_out = 0.1\n", &[], &["did you mean `user_dropout`?"]),
        ("", &["--user-dropout", "1"], &["regularization.user_dropout", "below 1"]),
        ("", &["--item-dropout", "0.1"], &["regularization.item_dropout", "user_dropout", "listwise"]),
        ("", &["--loss", "bsl", "--max-norm", "2"], &["regularization.max_norm", "dot"]),
        ("", &["--clip-gradient", "0"], &["regularization.clip_gradient", "above 0"]),
        (
            "[[negatives.mix]]\nselect = \"hardest\"\n",
            &["--loss", "bsl", "--shared-by", "64"],
            &["negatives.shared_by", "uniform"],
        ),
        ("[[negatives.mix]]\nselect = \"hardest\"\n", &["--loss", "warp"], &["negatives.mix[0].select", "hinge"]),
        ("", &["--loss", "ccl", "--entropy", "0.1"], &["loss.entropy", "softmax"]),
        ("[loss]\nsmoothin = 0.1\n", &[], &["did you mean `smoothing`?"]),
        ("", &["--loss", "hinge", "--margin", "0"], &["loss.margin", "above 0"]),
        ("", &["--loss", "softmax", "--confidence-activity", "9"], &["confidence.activity", "-4 to 4"]),
        ("", &["--confidence-event", "buy=4"], &["confidence.events", "no event column"]),
    ] {
        std::fs::remove_dir_all(&model).ok();
        let message = refused(&run(content, more), 1);
        for word in expected {
            assert!(message.contains(word), "{more:?}: '{word}' is not in: {message}");
        }
        assert!(!model.exists());
    }
    for (flags, remedy) in [
        (["--alpha", "0.5"], "--proposal popularity"),
        (["--beta1", "0.5"], "--optimizer adam"),
        (["--epsilon", "0.1"], "--optimizer adagrad or adam"),
        (["--exponent", "1.1"], "--loss bsl"),
        (["--margin", "0.5"], "--loss hinge, warp or ccl"),
        (["--weight", "50"], "--loss ccl"),
        (["--margin-exponent", "0.5"], "--loss hinge"),
        (["--smoothing", "0.1"], "--loss logistic"),
        (["--gamma", "1"], "--loss focal"),
        (["--surrogate", "atan"], "--loss psl"),
        (["--shared-by", "64"], "--loss softmax"),
        (["--confidence-alpha", "2"], "--confidence-weight log"),
    ] {
        let message = refused(&run("", &flags), 2);
        assert!(message.contains(flags[0]) && message.contains(remedy), "{message}");
        assert!(!model.exists());
    }
    let missing = peccary(&["train", text(&data), "--output", text(&model), "--config", "no-such.toml"]);
    assert!(refused(&missing, 1).contains("no-such.toml"));
}

#[test]
fn hard_negatives_are_harder_say_so_and_are_reproducible_with_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (dataset(&folder), path(&folder, "run.toml"));
    let run = |content: &str, name: &str, threads: &str| {
        std::fs::write(&config, format!("epochs = 4\ndimensions = 16\n[negatives]\ncount = 4\n{content}")).unwrap();
        let model = path(&folder, name);
        let arguments = ["train", text(&data), "--output", text(&model), "--config", text(&config), "--json"];
        let ended = peccary(&[&arguments[..], &["--threads", threads]].concat());
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let message = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(message.contains("score above their positive"), "{message}");
        let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
        (report["epochs"][3]["negatives"].clone(), std::fs::read(model.join("v000001/items.factors")).unwrap())
    };
    let hard = "[[negatives.mix]]\nselect = \"hardest\"\ncandidates = 8\n";
    let (easy, _) = run("", "a", "2");
    let (harder, first) = run(hard, "b", "1");
    let gap = |health: &Value| health["mean_gap"].as_f64().unwrap();
    assert!(gap(&harder) < gap(&easy), "{harder} {easy}");
    assert!(run(hard, "c", "1").1 == first, "what is read of the tables depends on the seed alone");

    let mixed = "[[negatives.mix]]\nshare = 3\npropose = \"recent\"\nselect = \"violation\"\nweigh = \"rank\"\nclip = 1\n\
                 [[negatives.mix]]\npropose = \"popularity\"\nselect = \"softmax\"\nnoise = 0.1\n\
                 [confidence]\nhalf_life = 30\n";
    let (health, _) = run(mixed, "d", "2");
    let shares: Vec<f64> = (0..2).map(|c| health["components"][c]["share"].as_f64().unwrap()).collect();
    let all = shares[0] + shares[1] + health["void"].as_f64().unwrap();
    assert!((all - 1.0).abs() < 1e-9 && (shares[1] - 0.25).abs() < 0.02, "{health}");
    assert!(health["effective_sample_size"].as_f64().unwrap() < 0.99, "{health}");
}

#[test]
fn samplers_are_listed_in_a_line_each() {
    let listed = peccary(&["train", "--list-samplers"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in ["uniform", "recent", "in-batch", "hardest", "violation", "adaptive", "log-q", "rank"] {
        assert!(listed.lines().any(|line| line.trim_start().starts_with(&format!("{name} "))), "{name}: {listed}");
    }
    let json: Value = serde_json::from_slice(&peccary(&["train", "--list-samplers", "--json"]).stdout).unwrap();
    assert_eq!(json["select"].as_array().unwrap().len(), 6);
}

#[test]
fn what_is_there_is_replaced_only_by_force_and_only_when_it_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (dataset(&folder), path(&folder, "m"));
    let run = |output: &Path, more: &[&str]| {
        let mut arguments = vec!["train", text(&data), "--output", text(output), "--epochs", "1"];
        arguments.extend(more);
        peccary(&arguments)
    };
    assert!(run(&model, &[]).status.success());
    let before = std::fs::read(model.join("manifest.json")).unwrap();
    assert!(run(&model, &[]).status.success(), "another version");
    assert_eq!(std::fs::read(model.join("v000001/manifest.json")).unwrap(), before);
    assert!(run(&model, &["--force", "--seed", "5"]).status.success());
    assert_ne!(std::fs::read(model.join("manifest.json")).unwrap(), before);

    assert!(!model.join("v000002").exists(), "all versions are replaced");

    let precious = path(&folder, "precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.tex"), "x").unwrap();
    for force in [&[][..], &["--force"]] {
        assert!(refused(&run(&precious, force), 1).contains("precious"));
    }
    assert!(precious.join("thesis.tex").exists());
    assert!(refused(&run(&path(&folder, "none/m"), &[]), 1).contains("create it first"));

    let wrong = peccary(&["train", text(&model), "--output", text(&path(&folder, "x"))]);
    assert!(refused(&wrong, 1).contains("it is a model"));
}

#[test]
fn a_budget_that_cannot_hold_the_tables_is_refused_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (dataset(&folder), path(&folder, "m"));
    let small = peccary(&["train", text(&data), "--output", text(&model), "--memory", "1MiB", "--dim", "128"]);
    let message = refused(&small, 1);
    assert!(message.contains("--memory") && message.contains("1MiB"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn divergence_is_noticed_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder)).unwrap();
    let mut config = TrainConfig { l2: Some(0.0), ..TrainConfig::default() };
    config.optimizer.learning_rate = Some(1e6);
    let model = path(&folder, "m");
    let error = train(&data, &config, &model, false, &Context::new(2, ByteSize(1 << 30))).unwrap_err();
    assert!(matches!(error, TrainError::Diverged { epoch: 1.., .. }), "{error}");
    assert!(error.to_string().contains("learning rate"), "{error}");
    assert!(!model.exists());
}

#[test]
fn ctrl_c_stops_training_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = (dataset(&folder), path(&folder, "m"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_peccary"))
        .args(["train", text(&data), "--output", text(&model), "--epochs", "1000000", "--checkpoint-every", "off"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(child.try_wait().unwrap().is_none(), "it is still training");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["log.csv", "log.pec"]);
}

#[test]
fn force_never_takes_the_dataset_or_a_folder_of_another_program() {
    let folder = tempfile::tempdir().unwrap();
    let (data, other) = (dataset(&folder), path(&folder, "extension"));
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("manifest.json"), "{\"name\": \"an extension\"}").unwrap();
    for output in [&data, &other] {
        let ended = peccary(&["train", text(&data), "--output", text(output), "--force", "--epochs", "1"]);
        assert!(refused(&ended, 1).contains("--force replaces only a model"));
    }
    assert!(peccary(&["verify", text(&data)]).status.success());
    assert!(other.join("manifest.json").exists());
}

#[test]
fn a_dataset_that_is_replaced_meanwhile_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder);
    let opened = Dataset::open(&data).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    let config = TrainConfig { dimensions: 4, epochs: 1, ..TrainConfig::default() };
    let ctx = Context::new(1, ByteSize(1 << 30));
    train(&opened, &config, &path(&folder, "m"), false, &ctx).unwrap();
    let model = Model::open(path(&folder, "m")).unwrap();
    model.verify(&ctx).unwrap();
    assert_eq!(model.item_ids().id(3), opened.items().id(3));
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_takes_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_peccary"))
        .args(["inspect", text(&dataset(&folder)), "--quiet"])
        .stdout(full)
        .output()
        .unwrap();
    assert!(refused(&ended, 1).contains("cannot write to standard output"));
}

#[test]
fn a_log_in_which_everybody_has_everything_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (log, data, model) = (path(&folder, "all.csv"), path(&folder, "all.pec"), path(&folder, "m"));
    let rows: String = (0..12).map(|i| format!("u{},i{}\n", i / 3, i % 3)).collect();
    std::fs::write(&log, format!("user,item\n{rows}")).unwrap();
    assert!(peccary(&["ingest", text(&log), "--output", text(&data)]).status.success());
    let message = refused(&peccary(&["train", text(&data), "--output", text(&model)]), 1);
    assert!(message.contains("nearly every item"), "{message}");
    assert!(!model.exists());
}
