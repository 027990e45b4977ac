//! `peccary bench negatives`: what a negative costs, sampler by sampler.

use peccary::{Dataset, NegativesBench, TrainConfig, bench_negatives};
use serde_json::json;

use super::shape::{SHAPES, Subject};
use crate::common::Globals;
use crate::numbers::grouped;

/// Measure what a negative costs: every way to propose, select, filter and weigh, and shared blocks
///
/// Measures producers alone: they shuffle windows, draw negatives and watch their health, and nobody trains. Tables have
/// been trained for an epoch with BPR, for samplers that go by scores. What is not said is the default: ways to propose
/// go with select = "first", all others with propose = "uniform". Each figure is the median of three, in nanoseconds of a
/// thread's time.
#[derive(clap::Args)]
#[command(after_help = SHAPES)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N", default_value_t = 64)]
    dimensions: usize,
    /// Negatives for each positive
    #[arg(long, value_name = "N", default_value_t = 8)]
    negatives: usize,
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let path = args.subject.dataset(&ctx)?;
    let dataset = Dataset::open(&path)?;
    let mut config = TrainConfig { dimensions: args.dimensions, ..TrainConfig::default() };
    config.negatives.count = Some(args.negatives);
    let bench = bench_negatives(&dataset, &config, &ctx)?;
    let machine = processor();
    let title = format!(
        "{}: {} users, {} items, {} interactions; {machine}\n",
        path.display(),
        grouped(dataset.users().len().into()),
        grouped(dataset.items().len().into()),
        grouped(bench.interactions),
    );
    let text = title + &table(&bench);
    let mut report = serde_json::to_value(&bench)?;
    report["dataset"] = json!(path);
    report["machine"] = json!(machine);
    globals.print(&report, text)
}

/// The processor's name and how many of its threads there are.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores of {}", name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()))
}

fn table(bench: &NegativesBench) -> String {
    let mut text = format!(
        "{} dimensions, {} negatives, {}, {} threads; shared: {} negatives of {} positives, each pair counted\n\n\
         {:<10}{:<22}{:>12}{:>12}\n",
        bench.dimensions,
        bench.negatives,
        bench.instruction_set,
        bench.threads,
        bench.shared.0,
        bench.shared.1,
        "step",
        "",
        "ns/negative",
        "to build, s",
    );
    for sampler in &bench.samplers {
        let cost = match sampler.nanoseconds {
            Some(nanoseconds) => format!("{nanoseconds:>12.1}{:>12.2}", sampler.setup_seconds),
            None => format!("  {}", sampler.skipped.as_deref().unwrap_or_default()),
        };
        text += &format!("{:<10}{:<22}{cost}\n", sampler.step, sampler.name);
    }
    text
}
