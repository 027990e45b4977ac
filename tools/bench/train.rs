//! `peccary bench train`: the stages of training, the whole pipeline, and the limit.

use std::path::Path;

use peccary::{ByteSize, Dataset, TrainBench, TrainConfig, bench_train};
use serde_json::json;

use super::shape::{SHAPES, Subject};
use crate::common::{Globals, Kept};
use crate::numbers::{grouped, short};

/// Measure BPR training: without biases, plain SGD, uniform negatives, positives rejected exactly
///
/// Measures each stage alone, then the whole pipeline, and in the same run what the machine could do at most: the bare
/// kernel on rows that stay in cache. Each figure is the median of three.
#[derive(clap::Args)]
#[command(after_help = SHAPES)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N", default_value_t = 64)]
    dimensions: usize,
    /// Negatives for each positive
    #[arg(long, value_name = "N", default_value_t = 1)]
    negatives: usize,
    /// How factors are kept: bf16 takes half the memory
    #[arg(long, value_enum, default_value_t = Kept::F32)]
    precision: Kept,
    /// Measure the whole pipeline with the same bits whatever the number of threads
    #[arg(long)]
    deterministic: bool,
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let path = args.subject.dataset(&ctx)?;
    let dataset = Dataset::open(&path)?;
    let mut config = TrainConfig { dimensions: args.dimensions, biases: Some(false), ..TrainConfig::default() };
    config.negatives.count = Some(args.negatives);
    config.precision = args.precision.into();
    config.deterministic = args.deterministic;
    let bench = bench_train(&dataset, &config, &ctx)?;
    let mut scaling = Vec::new();
    let mut threads = 1;
    while threads < ctx.threads() {
        let one = bench_train(&dataset, &config, &globals.context_with(threads))?;
        scaling.push((threads, one.triples_per_second));
        threads *= 2;
    }
    scaling.push((ctx.threads(), bench.triples_per_second));
    let text = table(&path, &dataset, &config, &bench, &scaling);
    let mut report = serde_json::to_value(&bench)?;
    report["dataset"] = json!(path);
    report["dimensions"] = json!(config.dimensions);
    report["precision"] = json!(config.precision);
    report["negatives"] = json!(config.negatives());
    report["deterministic"] = json!(config.deterministic);
    let scaling: Vec<_> =
        scaling.iter().map(|(threads, rate)| json!({ "threads": threads, "triples_per_second": rate })).collect();
    report["scaling"] = json!(scaling);
    globals.print(&report, text)
}

fn table(path: &Path, dataset: &Dataset, config: &TrainConfig, bench: &TrainBench, scaling: &[(usize, f64)]) -> String {
    let mut text = format!(
        "{}: {} users, {} items, {} interactions; {} dimensions, {}, {} negatives, {}, {} threads{}\n\n{:<34}{:>12}{:>12}\n",
        path.display(),
        grouped(dataset.users().len().into()),
        grouped(dataset.items().len().into()),
        grouped(bench.interactions),
        config.dimensions,
        config.precision.name(),
        config.negatives(),
        bench.instruction_set,
        bench.threads,
        if config.deterministic { ", deterministic" } else { "" },
        "each stage alone",
        "a second",
        "of limit",
    );
    for (name, rate) in [
        ("read, interactions", bench.read_interactions_per_second),
        ("+ shuffle, interactions", bench.shuffle_interactions_per_second),
        ("+ sample and reject, triples", bench.sample_triples_per_second),
        ("+ channel, triples", bench.channel_triples_per_second),
        ("whole pipeline, triples", bench.triples_per_second),
        ("limit: bare kernel, triples", bench.limit_triples_per_second),
    ] {
        text += &format!("{name:<34}{:>12}{:>11.0}%\n", short(rate), 100.0 * rate / bench.limit_triples_per_second);
    }
    text += &format!("{:<34}{:>12}\n", "memory copy, one thread", ByteSize(bench.copy_bytes_per_second as u64));
    for (threads, rate) in scaling {
        text +=
            &format!("\nwhole pipeline, {threads} threads: {} triples/s, {:.2}x", short(*rate), rate / scaling[0].1);
    }
    text
}
