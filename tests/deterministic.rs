//! Deterministic training: the same bits for any number of threads, through the public API and the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use peccary::{
    AuditOptions, ByteSize, Context, Dataset, EvaluateOptions, LossKind, MixConfig, Model, OptimizerKind, Precision,
    Proposal, Propose, RegularizationConfig, Scheduled, Select, Similarity, TrainConfig, TrainError, Weigh, evaluate,
    train, train_audited,
};
use tempfile::TempDir;

fn peccary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peccary")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A planted dataset of `users` × 1,500 items with 40 interactions a user: three blocks or more, several chunks.
fn dataset(folder: &TempDir, users: u32) -> PathBuf {
    let (log, data) = (folder.path().join("log.csv"), folder.path().join("log.pec"));
    let (rows, users) = ((users * 40).to_string(), users.to_string());
    let size = ["synth", "--users", &users, "--items", "1500", "--interactions", &rows];
    let made = peccary(&[&size[..], &["--output", text(&log)]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made = peccary(&["ingest", text(&log), "--split", "time:0.1", "--output", text(&data)]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    data
}

fn config() -> TrainConfig {
    let mut config = TrainConfig { deterministic: true, dimensions: 20, epochs: 2, seed: 3, ..TrainConfig::default() };
    config.negatives.count = Some(3);
    config
}

/// What must be the same: the factor files; loss, triples and skipped positives of each epoch.
#[derive(PartialEq)]
struct Outcome {
    files: [Vec<u8>; 2],
    epochs: Vec<(u64, u64, u64)>,
    /// The health of the negatives, as text.
    health: Vec<String>,
}

/// What `threads` come to.
fn outcome(data: &Dataset, config: &TrainConfig, model: &Path, threads: usize) -> Outcome {
    let (_, report) = train(data, config, model, true, &Context::new(threads, ByteSize(1 << 30))).unwrap();
    let files = ["v000001/users.factors", "v000001/items.factors"].map(|file| std::fs::read(model.join(file)).unwrap());
    let health = report.epochs.iter().map(|e| serde_json::to_string(&e.negatives).unwrap()).collect();
    Outcome { files, health, epochs: report.epochs.iter().map(|e| (e.loss.to_bits(), e.triples, e.skipped)).collect() }
}

#[track_caller]
fn the_same_for_any_threads(data: &Dataset, config: &TrainConfig, model: &Path) {
    let one = outcome(data, config, model, 1);
    for threads in [2, 3, 8] {
        assert!(one == outcome(data, config, model, threads), "{threads} threads differ from one: {config:?}");
    }
}

#[test]
fn every_combination_gives_the_same_bits_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let model = folder.path().join("m");
    for loss in [LossKind::Bpr, LossKind::Logistic] {
        for similarity in [Similarity::Dot, Similarity::Cosine] {
            for kind in [OptimizerKind::Sgd, OptimizerKind::Adagrad, OptimizerKind::Adam] {
                for (proposal, with_replacement) in [(Proposal::Uniform, true), (Proposal::Popularity, false)] {
                    let mut config = TrainConfig { similarity: Some(similarity), ..config() };
                    config.loss.kind = loss;
                    config.optimizer.kind = kind;
                    config.negatives.proposal = proposal;
                    config.negatives.with_replacement = with_replacement;
                    the_same_for_any_threads(&data, &config, &model);
                }
            }
        }
    }
}

#[test]
fn hard_negatives_and_mixtures_give_the_same_bits_whether_in_blocks_or_of_all_items() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let model = folder.path().join("m");
    let hardest = MixConfig { select: Select::Hardest, ..MixConfig::default() };
    let mut hard = config();
    hard.negatives.mix = vec![hardest.clone()];
    the_same_for_any_threads(&data, &hard, &model);
    assert!(outcome(&data, &hard, &model, 2) != outcome(&data, &config(), &model, 2), "it is another run");

    // Everything that reads tables, holds positives or draws from a batch, in bfloat16 as well.
    let component = |propose, select| MixConfig { propose, select, ..MixConfig::default() };
    let mut mixed = TrainConfig { precision: Precision::Bf16, ..config() };
    mixed.negatives.mix = vec![
        MixConfig { noise: Some(Scheduled::Constant(0.1)), ..component(Propose::Reservoir, Select::Top) },
        component(Propose::InBatch, Select::Adaptive),
        MixConfig { min_distance: Some(0.05), weigh: Weigh::Gap, ..hardest },
        MixConfig { weigh: Weigh::Rank, clip: Some(2.0), ..component(Propose::Uniform, Select::Violation) },
    ];
    mixed.confidence.half_life = Some(30.0);
    the_same_for_any_threads(&data, &mixed, &model);

    // These are drawn from the whole catalogue: a single cell.
    mixed.negatives.mix = [Propose::Popularity, Propose::Recent, Propose::Cooccurrence, Propose::Nearest]
        .map(|propose| component(propose, Select::Softmax))
        .to_vec();
    the_same_for_any_threads(&data, &mixed, &model);
}

#[test]
fn listwise_losses_and_bfloat16_give_the_same_bits_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let model = folder.path().join("m");
    let mut listwise = config();
    listwise.loss.kind = LossKind::Bsl;
    listwise.negatives.count = Some(50);
    listwise.confidence.activity = 0.5;
    the_same_for_any_threads(&data, &listwise, &model);
    // With negatives of each positive's own.
    listwise.negatives.mix = vec![MixConfig { select: Select::Hardest, ..MixConfig::default() }];
    listwise.negatives.count = Some(12);
    the_same_for_any_threads(&data, &listwise, &model);
    let mut hinge = config();
    hinge.loss.kind = LossKind::Hinge;
    hinge.loss.margin_exponent = Some(0.25);
    the_same_for_any_threads(&data, &hinge, &model);
    hinge.loss.kind = LossKind::Warp;
    the_same_for_any_threads(&data, &hinge, &model);
    the_same_for_any_threads(&data, &TrainConfig { precision: Precision::Bf16, ..config() }, &model);
}

#[test]
fn dropout_and_the_other_regularization_give_the_same_bits_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let model = folder.path().join("m");
    let mut regular = TrainConfig { epochs: 2, ..config() };
    regular.regularization =
        RegularizationConfig { user_dropout: 0.2, max_norm: Some(1.0), clip_gradient: Some(0.5), ..Default::default() };
    the_same_for_any_threads(&data, &regular, &model);
    let dropped = outcome(&data, &regular, &model, 2);
    regular.regularization.user_dropout = 0.0;
    assert!(dropped != outcome(&data, &regular, &model, 2), "something is dropped");
    regular.loss.kind = LossKind::Bsl;
    regular.negatives.count = Some(50);
    regular.regularization = RegularizationConfig { user_dropout: 0.1, item_dropout: 0.1, ..Default::default() };
    the_same_for_any_threads(&data, &regular, &model);
}

#[test]
fn windows_and_blocks_of_any_size_give_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 9_000)).unwrap();
    assert!(data.train().chunks() > 4);
    let model = folder.path().join("m");
    // One window an epoch, one a chunk, and two or three chunks each; a single block, few, and more than strata.
    for window in [None, Some(1), Some(100_000), Some(u64::MAX)] {
        for block_items in [None, Some(0), Some(700), Some(60)] {
            let mut config = TrainConfig { epochs: 1, ..config() };
            config.stream.window = window;
            config.stream.block_items = block_items;
            let one = outcome(&data, &config, &model, 1);
            let (_, triples, skipped) = one.epochs[0];
            assert_eq!(triples + 3 * skipped, 3 * data.train().len(), "every positive comes once");
            assert!(one == outcome(&data, &config, &model, 16), "{:?}", config.stream);
        }
    }
}

#[test]
fn the_binary_gives_the_same_bytes_and_another_seed_gives_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(&folder, 2_000);
    let factors = |seed: &str, threads: &str| {
        let model = folder.path().join("m");
        let flags = ["--deterministic", "--epochs", "2", "--force", "--quiet", "--seed", seed, "--threads", threads];
        let trained = peccary(&[&["train", text(&data), "--output", text(&model)], &flags[..]].concat());
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
        ["v000001/users.factors", "v000001/items.factors"].map(|file| std::fs::read(model.join(file)).unwrap())
    };
    let first = factors("1", "1");
    assert!(first == factors("1", "2") && first == factors("1", "5"), "same seed, same bytes");
    assert!(first != factors("2", "2"), "another seed, other bytes");
}

#[test]
fn it_learns_as_well_as_free_running_threads_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let (model, ctx) = (folder.path().join("m"), Context::new(2, ByteSize(1 << 30)));
    let recall = |deterministic| {
        train(&data, &TrainConfig { deterministic, ..TrainConfig::default() }, &model, true, &ctx).unwrap();
        let options = EvaluateOptions::default();
        evaluate(&Model::open(&model).unwrap(), &data, &options, &ctx).unwrap().metrics.get("recall@20").unwrap()
    };
    let (free, ordered) = (recall(false), recall(true));
    assert!((ordered / free - 1.0).abs() < 0.1, "{ordered} against {free}");
}

#[test]
fn an_audit_is_planned_for_alike_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let options = AuditOptions { path: folder.path().join("audit.parquet"), sample: 100 };
    let of = |threads| {
        let (model, ctx) = (folder.path().join("m"), Context::new(threads, ByteSize(1 << 30)));
        let (_, report) = train_audited(&data, &config(), &model, true, Some(&options), &ctx).unwrap();
        (report.plan.memory, report.plan.window, std::fs::read(&options.path).unwrap())
    };
    assert!(of(1) == of(2));
}

#[test]
fn divergence_is_found_at_the_same_place_and_a_small_budget_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(dataset(&folder, 2_000)).unwrap();
    let model = folder.path().join("m");
    let mut wild = TrainConfig { epochs: 9, l2: Some(0.0), ..config() };
    wild.optimizer.learning_rate = Some(1e9);
    let message = |threads| {
        let error = train(&data, &wild, &model, true, &Context::new(threads, ByteSize(1 << 30))).unwrap_err();
        let TrainError::Diverged { epoch, .. } = error else { panic!("{error}") };
        epoch
    };
    let first = message(1);
    assert!([2, 3, 8].into_iter().all(|threads| message(threads) == first));
    assert!(!model.exists());
    let refused = train(&data, &config(), &model, true, &Context::new(2, ByteSize(1 << 16)));
    assert!(matches!(refused, Err(TrainError::Memory { .. })));
}
