//! `peccary bench evaluate`: the stages of full ranking, the whole evaluation, and the limit.

use std::path::{Path, PathBuf};
use std::time::Instant;

use peccary::{
    Context, Dataset, EvaluateBench, EvaluateOptions, Model, RecommendFormat, RecommendOptions, RecommendUsers,
    TrainConfig, bench_evaluate, train, write_recommendations,
};
use serde_json::json;

use super::shape::{SHAPES, Subject};
use crate::common::Globals;
use crate::numbers::{grouped, short};

/// Measure full ranking: scores, top-K, all metrics and the AUC; and recommending
///
/// Measures each stage alone, then the whole evaluation, and in the same run what the machine could do at most: the
/// bare kernel of scores on rows that stay in cache. Each figure is the median of three. Without --model, a model is
/// trained for one epoch first.
#[derive(clap::Args)]
#[command(after_help = SHAPES)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Model of the dataset to measure
    #[arg(long, value_name = "MODEL", requires = "dataset", conflicts_with = "dimensions")]
    model: Option<PathBuf>,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N", default_value_t = 64)]
    dimensions: usize,
    /// Users to evaluate, a random sample
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Items of each ranking
    #[arg(long, value_name = "K", default_value_t = 20,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    k: usize,
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let path = args.subject.dataset_with_test(&ctx)?;
    let dataset = Dataset::open(&path)?;
    let folder = tempfile::tempdir()?;
    let model = match &args.model {
        Some(model) => Model::open_named(model)?,
        None => {
            let model = folder.path().join("bench.model");
            let config = TrainConfig { dimensions: args.dimensions, epochs: 1, ..TrainConfig::default() };
            train(&dataset, &config, &model, false, &ctx)?;
            Model::open(&model)?
        }
    };
    let options = EvaluateOptions { k: vec![args.k], users: Some(args.users as usize), ..EvaluateOptions::accuracy() };
    let mut scaling = Vec::new();
    let mut threads = 1;
    while threads < ctx.threads() {
        let one = bench_evaluate(&model, &dataset, &options, &globals.context_with(threads))?;
        scaling.push((threads, one.users_per_second));
        threads *= 2;
    }
    let bench = bench_evaluate(&model, &dataset, &options, &ctx)?;
    scaling.push((ctx.threads(), bench.users_per_second));
    let recommended = recommended(&model, &dataset, &args, &ctx)?;
    // A multiplication and an addition for each column that means something.
    let flop = 2.0 * model.items().width() as f64;
    let text = table(&path, &bench, recommended, model.items().width(), &scaling);
    let mut report = serde_json::to_value(&bench)?;
    report["recommend_users_per_second"] = json!(recommended);
    report["score_flop_per_second"] = json!(bench.scores_per_second * flop);
    report["limit_flop_per_second"] = json!(bench.limit_scores_per_second * flop);
    report["dataset"] = json!(path);
    report["width"] = json!(model.items().width());
    let scaling: Vec<_> =
        scaling.iter().map(|(threads, rate)| json!({ "threads": threads, "users_per_second": rate })).collect();
    report["scaling"] = json!(scaling);
    globals.print(&report, text)
}

/// Users a second who are recommended to, written as NDJSON to nowhere.
fn recommended(model: &Model, dataset: &Dataset, args: &Args, ctx: &Context) -> anyhow::Result<f64> {
    let users = RecommendUsers::Sample { users: args.users as usize, seed: EvaluateOptions::default().seed };
    let options = RecommendOptions { k: args.k, ..RecommendOptions::default() };
    let began = Instant::now();
    let format = RecommendFormat::Ndjson;
    let summary = write_recommendations(model, dataset, &users, options, format, &mut std::io::sink(), ctx)?;
    Ok(summary.users as f64 / began.elapsed().as_secs_f64())
}

fn table(path: &Path, bench: &EvaluateBench, recommended: f64, width: usize, scaling: &[(usize, f64)]) -> String {
    let mut text = format!(
        "{}: {} users with {} held-out interactions, {} items; {width} columns, K {}, {}, {} threads\n\n{:<38}{:>10}{:>10}{:>10}\n",
        path.display(),
        grouped(bench.users),
        grouped(bench.interactions),
        grouped(bench.items),
        bench.k,
        bench.instruction_set,
        bench.threads,
        "",
        "users/s",
        "scores/s",
        "of limit",
    );
    for (name, rate) in [
        ("scores alone", bench.score_users_per_second),
        ("top-K alone", bench.top_users_per_second),
        ("scores, masks and top-K", bench.rank_users_per_second),
        ("whole evaluation, with metrics and AUC", bench.users_per_second),
        ("recommendations, as NDJSON", recommended),
        ("limit: bare kernel of scores", bench.limit_users_per_second),
    ] {
        let (scores, share) = (rate * bench.items as f64, 100.0 * rate / bench.limit_users_per_second);
        text += &format!("{name:<38}{:>10}{:>10}{share:>9.0}%\n", short(rate), short(scores));
    }
    let gigaflop = |scores: f64| scores * 2.0 * width as f64 / 1e9;
    text += &format!(
        "scores alone {:.0} GFLOP/s, bare kernel {:.0} GFLOP/s\n",
        gigaflop(bench.scores_per_second),
        gigaflop(bench.limit_scores_per_second)
    );
    for (threads, rate) in scaling {
        text +=
            &format!("\nwhole evaluation, {threads} threads: {} users/s, {:.2}x", short(*rate), rate / scaling[0].1);
    }
    text
}
