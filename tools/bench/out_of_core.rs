//! `peccary bench out-of-core`: what training within a part of the dataset's size costs.

use std::path::Path;

use peccary::{ByteSize, Dataset, OutOfCoreBench, TrainConfig, TrainPlan, bench_out_of_core};
use serde_json::json;

use super::shape::{SHAPES, Subject};
use crate::common::Globals;
use crate::numbers::short;

/// Measure training in memory and within a part of the dataset's size, in turn
///
/// Epochs of both alternate: one with --memory and the dataset in the page cache, one within --fraction of the dataset's
/// size, before which its page cache is let go of. Tables in files are made beside the dataset, without names.
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
    /// The smaller budget, as a part of the dataset's size
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    fraction: f64,
    /// Epochs of each, of which the medians are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let path = args.subject.dataset(&ctx)?;
    let dataset = Dataset::open(&path)?;
    let mut config = TrainConfig { dimensions: args.dimensions, biases: Some(false), ..TrainConfig::default() };
    config.negatives.count = Some(args.negatives);
    let bench = bench_out_of_core(&dataset, &config, args.fraction, args.rounds, &ctx)?;
    let mut report = serde_json::to_value(&bench)?;
    report["path"] = json!(path);
    report["dimensions"] = json!(args.dimensions);
    report["negatives"] = json!(args.negatives);
    report["fraction"] = json!(args.fraction);
    globals.print(&report, table(&path, &bench))
}

fn table(path: &Path, bench: &OutOfCoreBench) -> String {
    let line = |name: &str, rate: f64, plan: &TrainPlan| {
        let place = serde_json::to_value(plan.tables).ok().and_then(|v| v.as_str().map(str::to_string));
        format!(
            "{name:<13}{:>12}{:>12}{:>12}{:>12}  {}\n",
            short(rate),
            plan.budget.to_string(),
            plan.memory.to_string(),
            plan.window,
            place.unwrap_or_default()
        )
    };
    let moved = |bytes: Option<u64>| bytes.map_or("unknown".to_string(), |bytes| ByteSize(bytes).to_string());
    let mut text = format!(
        "{}: {} on disk, {} interactions, {} threads\n\n{:<13}{:>12}{:>12}{:>12}{:>12}  tables\n",
        path.display(),
        bench.dataset,
        bench.in_memory.counts.interactions,
        bench.in_memory.threads,
        "",
        "triples/s",
        "budget",
        "planned",
        "window",
    );
    text += &line("in memory", bench.in_memory_triples_per_second, &bench.in_memory);
    text += &line("out of core", bench.out_of_core_triples_per_second, &bench.out_of_core);
    text += &format!(
        "\nratio {:.3}; an epoch out of core read {} ({} of the dataset planned) and wrote {}",
        bench.ratio,
        moved(bench.epoch_read),
        bench.out_of_core.epoch_read,
        moved(bench.epoch_written),
    );
    text
}
