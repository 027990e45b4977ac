//! `peccary bench`: what this machine does, stage by stage, beside what it could do.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use peccary::{
    ByteSize, Context, Dataset, IngestOptions, Input, Inputs, PlantedModel, SynthConfig, SynthFormat, TrainBench,
    TrainConfig, bench_train, ingest, save_synth,
};
use serde_json::json;

use crate::common::Globals;
use crate::numbers::{grouped, short};

const EXAMPLES: &str = "\
Measures each stage of training alone, then the whole pipeline, and in the same run what the machine could do at most: \
the bare kernel on rows that stay in cache. Each figure is the median of three. Run it while nothing else runs.

Shapes are written once, by synth and ingest, into --folder, and used again the next time:
  small    10,000 users x  2,000 items x    500,000 interactions
  gowalla  29,858 users x 40,981 items x  1,027,370 interactions
  ml-20m  138,493 users x 26,744 items x 20,000,000 interactions (700 MB while made)

Examples:
  peccary bench train --shape ml-20m
  peccary bench train --dataset clicks.pec --dim 128 --negatives 8
  peccary bench train --shape ml-20m --threads 1 --json";

/// Measure throughput, stage by stage, beside the machine's limit
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Shape of a synthetic log to measure on
    #[arg(long, value_enum, default_value_t = Shape::Small, conflicts_with = "dataset")]
    shape: Shape,
    /// Dataset to measure on instead
    #[arg(long, value_name = "DATASET")]
    dataset: Option<PathBuf>,
    /// Where the datasets of shapes are kept
    #[arg(long, value_name = "FOLDER", default_value = "peccary-bench")]
    folder: PathBuf,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N", default_value_t = 64)]
    dimensions: usize,
    /// Negatives for each positive
    #[arg(long, value_name = "N", default_value_t = 1)]
    negatives: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// BPR without biases, plain SGD, uniform negatives, positives rejected exactly
    Train,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Shape {
    Small,
    Gowalla,
    #[value(name = "ml-20m")]
    Ml20m,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Gowalla => "gowalla",
            Self::Ml20m => "ml-20m",
        }
    }

    fn config(self) -> SynthConfig {
        let (users, items, interactions) = match self {
            Self::Small => (10_000, 2_000, 500_000),
            Self::Gowalla => (29_858, 40_981, 1_027_370),
            Self::Ml20m => (138_493, 26_744, 20_000_000),
        };
        SynthConfig { users, items, interactions, ..SynthConfig::default() }
    }

    /// The dataset of this shape in `folder`, made if it is not there.
    fn dataset(self, folder: &Path, ctx: &Context) -> anyhow::Result<PathBuf> {
        let data = folder.join(format!("{}.pec", self.name()));
        if data.exists() {
            return Ok(data);
        }
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
        let log = folder.join(format!("{}.csv", self.name()));
        let model = PlantedModel::new(&self.config(), ctx)?;
        save_synth(&model, SynthFormat::Csv, &log, true, ctx)?;
        let made = ingest(&Inputs::from(vec![Input::Path(log.clone())]), &IngestOptions::default(), &data, false, ctx);
        std::fs::remove_file(&log).with_context(|| format!("{}: cannot remove it", log.display()))?;
        made?;
        Ok(data)
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let What::Train = args.what;
    let path = match &args.dataset {
        Some(path) => path.clone(),
        None => args.shape.dataset(&args.folder, &ctx)?,
    };
    let dataset = Dataset::open(&path)?;
    let mut config = TrainConfig { dimensions: args.dimensions, biases: Some(false), ..TrainConfig::default() };
    config.negatives.count = args.negatives;
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
    report["negatives"] = json!(config.negatives.count);
    let scaling: Vec<_> =
        scaling.iter().map(|(threads, rate)| json!({ "threads": threads, "triples_per_second": rate })).collect();
    report["scaling"] = json!(scaling);
    globals.print(&report, text)
}

fn table(path: &Path, dataset: &Dataset, config: &TrainConfig, bench: &TrainBench, scaling: &[(usize, f64)]) -> String {
    let mut text = format!(
        "{}: {} users, {} items, {} interactions; {} dimensions, {} negatives, {}, {} threads\n\n{:<34}{:>12}{:>12}\n",
        path.display(),
        grouped(dataset.users().len().into()),
        grouped(dataset.items().len().into()),
        grouped(bench.interactions),
        config.dimensions,
        config.negatives.count,
        bench.instruction_set,
        bench.threads,
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
