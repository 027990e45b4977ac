//! `peccary sweep`: trains many configurations and compares them on the validation part.

use std::path::PathBuf;

use anyhow::Context as _;
use peccary::{Dataset, Halving, MetricAt, Search, Space, SweepError, SweepOptions, sweep};

use crate::common::{Globals, Usage};
use crate::train::Settings;

const EXAMPLES: &str = "\
The space of choices is a TOML file. --config and the flags of train make the configuration that choices change.

  # space.toml: an axis is a key with values,
  \"optimizer.learning_rate\" = [0.02, 0.05]
  # or with a range to draw from, with --trials; of integers, integers are drawn,
  l2 = { low = 1e-4, high = 1e-2, log = true }
  # or alternatives that set some keys each
  [[choice.sampler]]
  name = \"uniform\"
  [[choice.sampler]]
  name = \"dns\"
  set.\"negatives.mix\" = [{ select = \"hardest\", candidates = 4 }]

Configurations are compared on the validation part (peccary ingest --valid-split), never on test. Impossible ones are \
left out, and listed with the reason. The folder OUTPUT has a journal, to which each run is added when it is done; at the \
end table.md and best.toml, ready for train. docs/recipes/tuning.md has the whole procedure.

Examples:
  peccary ingest clicks.csv --split time:0.1 --valid-split time:0.1 --output clicks.pec
  peccary sweep clicks.pec --space space.toml --output tuning
  peccary sweep clicks.pec --space space.toml --output tuning --loss bsl --epochs 30 --trials 40 --halving
  peccary sweep clicks.pec --space space.toml --output tuning --config run.toml --metric recall@10 --seeds 5 --json
  peccary sweep clicks.pec --space space.toml --output tuning --resume
  peccary train clicks.pec --output clicks.model --config tuning/best.toml";

/// Compare many configurations on the validation part, and keep the best
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// Dataset with a validation part
    dataset: PathBuf,
    /// TOML file with the choices
    #[arg(long, value_name = "FILE")]
    space: PathBuf,
    /// Folder for the journal, the table and the best configuration
    #[arg(long, short, value_name = "FOLDER")]
    output: PathBuf,
    /// Draw that many different configurations at random, by --seed [default: the whole grid]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    trials: Option<u32>,
    /// Runs of each configuration at full length, with seeds from --seed on; earlier rungs make do with one
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: u32,
    /// Successive halving: train for a part of the epochs, and let the best one in ETA go on to ETA times as many
    /// [default without a value: 3]
    #[arg(long, value_name = "ETA", num_args = 0..=1, default_missing_value = "3", value_parser = clap::value_parser!(u32).range(2..=1000))]
    halving: Option<u32>,
    /// No run is shorter, with --halving [default: 3]
    #[arg(long, value_name = "E", requires = "halving", value_parser = clap::value_parser!(u32).range(1..))]
    min_epochs: Option<u32>,
    /// What to compare by: recall, precision, hit_rate, ndcg, mrr or map at a cut-off
    #[arg(long, value_name = "METRIC", default_value = "ndcg@20")]
    metric: MetricAt,
    /// Evaluate a random sample of that many users [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// Go on with the sweep in OUTPUT; seeds, trials and halving may be others
    #[arg(long)]
    resume: bool,
    #[command(flatten, next_help_heading = "The configuration that choices change")]
    settings: Settings,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let base = args.settings.config()?;
    let path = &args.space;
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read it", path.display()))?;
    let space = Space::from_toml(&text).with_context(|| format!("{}: not a valid space", path.display()))?;
    let least = args.min_epochs.unwrap_or(Halving::default().min_epochs);
    let options = SweepOptions {
        search: args.trials.map_or(Search::Grid, |n| Search::Random { trials: n as usize }),
        seeds: args.seeds,
        halving: args.halving.map(|eta| Halving { eta, min_epochs: least }),
        metric: args.metric,
        users: args.users.map(|n| n as usize),
        resume: args.resume,
    };
    let dataset = Dataset::open(&args.dataset)?;
    let report = sweep(&dataset, &base, &space, &options, &args.output, &globals.context()).map_err(|e| match e {
        SweepError::Options(text) => Usage(text).into(),
        other => anyhow::Error::from(other),
    })?;
    globals.print(&report, report.table().trim_end())
}
