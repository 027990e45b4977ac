//! `peccary bench listwise`: training with shared negatives, beside the machine's matrix speed.

use peccary::{Dataset, LossConfig, TrainConfig, bench_listwise};
use serde_json::json;

use super::shape::{SHAPES, Subject};
use crate::common::Globals;
use crate::numbers::{grouped, short};
use crate::settings::Loss;

/// Measure listwise training: cosines, plain SGD, uniform shared negatives, positives masked exactly
///
/// Measures producers alone, trainers alone and the whole pipeline, and in the same run the limit: products of large
/// square matrices on all threads. Only the operations of the three matrix products are counted. Each figure is the
/// median of three.
#[derive(clap::Args)]
#[command(after_help = SHAPES)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Which loss
    #[arg(long, value_enum, default_value_t = Loss::Softmax)]
    loss: Loss,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N", default_value_t = 64)]
    dimensions: usize,
    /// Negatives that a block of positives shares
    #[arg(long, value_name = "N", default_value_t = 800)]
    negatives: usize,
    /// Positives of a block
    #[arg(long, value_name = "P", default_value_t = 128)]
    shared_by: usize,
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let path = args.subject.dataset(&ctx)?;
    let dataset = Dataset::open(&path)?;
    let loss = LossConfig { kind: args.loss.into(), ..LossConfig::default() };
    let mut config = TrainConfig { dimensions: args.dimensions, loss, ..TrainConfig::default() };
    config.negatives.count = Some(args.negatives);
    config.negatives.shared_by = Some(args.shared_by);
    let bench = bench_listwise(&dataset, &config, &ctx)?;
    let mut text = format!(
        "{}: {} interactions; {}, {} dimensions, {} negatives shared by {}, {}, {} threads\n\n{:<28}{:>10}{:>10}\n",
        path.display(),
        grouped(bench.interactions),
        config.loss.kind.name(),
        bench.dimensions,
        bench.negatives,
        bench.shared_by,
        bench.instruction_set,
        bench.threads,
        "",
        "GFLOP/s",
        "of limit",
    );
    for (name, rate) in [
        ("whole pipeline", bench.gflops),
        ("trainers alone", bench.trainer_gflops),
        ("limit: square products", bench.limit_gflops),
    ] {
        text += &format!("{name:<28}{rate:>10.0}{:>9.0}%\n", 100.0 * rate / bench.limit_gflops);
    }
    text += &format!(
        "\nwhole pipeline: {} positives/s, {} triples/s; producers alone: {} positives/s",
        short(bench.positives_per_second),
        short(bench.triples_per_second),
        short(bench.produced_positives_per_second),
    );
    let mut report = serde_json::to_value(&bench)?;
    report["dataset"] = json!(path);
    report["loss"] = json!(config.loss.kind.name());
    globals.print(&report, text)
}
