//! `peccary evaluate`: metrics of a model on held-out interactions, beside popularity and random order.

use std::fmt::Write as _;
use std::path::PathBuf;

use peccary::{Dataset, EvaluateError, EvaluateOptions, Evaluation, Model, Part, Protocol, evaluate};

use crate::common::{Globals, Usage};
use crate::numbers::grouped;

const EXAMPLES: &str = "\
Every held-out item is ranked among the whole catalogue, without what the user has interacted with in train (and in \
valid, when test is evaluated). docs/metrics.md defines each metric.

Examples:
  peccary evaluate clicks.model clicks.pec
  peccary evaluate clicks.model clicks.pec --split valid --k 5,20,100
  peccary evaluate clicks.model clicks.pec --protocol sampled:99 --k 10 --json
  peccary evaluate clicks.model clicks.pec --users 10000 --no-baselines";

/// Measure how well a model ranks held-out interactions
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// The dataset that it was trained on
    dataset: PathBuf,
    /// The held-out part
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// Cut-offs of the ranking [default: 10,20, as far as there are that many items]
    #[arg(long, value_name = "K,…", value_delimiter = ',')]
    k: Vec<usize>,
    /// full: among the whole catalogue; sampled:N: each item among N negatives
    #[arg(long, value_name = "PROTOCOL", default_value_t = Protocol::Full)]
    protocol: Protocol,
    /// Seed of ties, negatives, the sample of users and the random baseline
    #[arg(long, value_name = "N", default_value_t = EvaluateOptions::default().seed)]
    seed: u64,
    /// Evaluate a random sample of that many users [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// Evaluate users without train interactions too
    #[arg(long)]
    include_cold: bool,
    /// Do not measure popularity and random order beside the model
    #[arg(long)]
    no_baselines: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Split {
    Valid,
    Test,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let model = Model::open_named(&args.model)?;
    let dataset = Dataset::open(&args.dataset)?;
    let mut k = args.k;
    if k.is_empty() {
        k = EvaluateOptions::default().k;
        let most = match args.protocol {
            Protocol::Full => dataset.items().len() as usize,
            Protocol::Sampled { negatives } => (dataset.items().len() as usize).min(negatives.saturating_add(1)),
        };
        k.retain(|k| *k <= most);
        if k.is_empty() {
            k.push(most);
        }
    }
    let options = EvaluateOptions {
        part: match args.split {
            Split::Valid => Part::Valid,
            Split::Test => Part::Test,
        },
        k,
        protocol: args.protocol,
        seed: args.seed,
        users: args.users.map(|n| n as usize),
        include_cold: args.include_cold,
        baselines: !args.no_baselines,
    };
    let evaluation = evaluate(&model, &dataset, &options, &ctx).map_err(|error| match error {
        EvaluateError::CutOff { .. } | EvaluateError::NoNegatives => Usage(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    globals.print(&evaluation, table(&evaluation))
}

/// The metrics, the model beside the baselines, under a line that says what was measured.
fn table(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{} users, {} {} interactions, {} items, {} ranking, {:.2} s",
        grouped(evaluation.users),
        grouped(evaluation.interactions),
        evaluation.part.name(),
        grouped(evaluation.items),
        evaluation.protocol,
        evaluation.seconds,
    );
    let mut add = |line: String| {
        text.push('\n');
        text.push_str(line.trim_end());
    };
    if evaluation.cold_users > 0 {
        let what = if evaluation.include_cold { "included" } else { "left out" };
        add(format!("{} users without train interactions {what}", grouped(evaluation.cold_users)));
    }
    if let Some(short) = evaluation.users_short_of_negatives.filter(|n| *n > 0) {
        add(format!("{} users with fewer candidates than negatives asked for", grouped(short)));
    }
    add(String::new());
    let mut columns = vec![("model", &evaluation.metrics)];
    if let Some(baselines) = &evaluation.baselines {
        columns.extend([("popularity", &baselines.popularity), ("random", &baselines.random)]);
    }
    let row = |first: &str, cells: &[String]| {
        let mut line = format!("{first:<16}");
        for cell in cells {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:>12}");
        }
        line
    };
    add(row("", &columns.iter().map(|(name, _)| (*name).to_string()).collect::<Vec<_>>()));
    for (name, _) in evaluation.metrics.iter() {
        let value = |metrics: &peccary::Metrics| metrics.get(name).map_or("-".to_string(), |v| format!("{v:.4}"));
        add(row(name, &columns.iter().map(|(_, metrics)| value(metrics)).collect::<Vec<_>>()));
    }
    text
}
