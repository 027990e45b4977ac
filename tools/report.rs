//! `peccary report`: one HTML page about a model.

use std::path::PathBuf;

use anyhow::Context as _;
use peccary::{ByteSize, Dataset, EvaluateError, Model, Part, ReportError, ReportOptions, save_report};
use serde_json::json;

use crate::common::{Globals, Usage};
use crate::evaluate::read_attributes;

const EXAMPLES: &str = "\
The page needs no network: curves of the run, metrics beside baselines, popularity, a map of the items, users with their \
recommendations, the configuration, and the commands that make the model again. Its metrics are those of peccary evaluate. \
Without a dataset nothing is evaluated or recommended. docs/report.md says what is on it.

Examples:
  peccary report clicks.model clicks.pec
  peccary report clicks.model clicks.pec --output clicks.html --force
  peccary report clicks.model --against clicks.model@1 --against other.model clicks.pec
  peccary report clicks.model clicks.pec --split valid --k 5,20 --users 10000 --json
  peccary report clicks.model clicks.pec --attributes items.csv.gz";

/// Write one HTML page about a model: its training, how good it is, what it recommends
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// The dataset that it was trained on, appended to since or not
    dataset: Option<PathBuf>,
    /// Another model, or MODEL@N, to show beside it; may be given several times
    #[arg(long, value_name = "MODEL")]
    against: Vec<PathBuf>,
    /// The page to write
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Replace the page if it is there already
    #[arg(long)]
    force: bool,
    /// The held-out part [default: test, or valid where there is no test part]
    #[arg(long, value_enum)]
    split: Option<Split>,
    /// Cut-offs of the ranking [default: 10,20, as far as there are that many items]
    #[arg(long, value_name = "K,…", value_delimiter = ',')]
    k: Vec<usize>,
    /// Evaluate a random sample of that many users [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// What this file says of items: slices by it, colours and names on the map; as for peccary evaluate
    #[arg(long, value_name = "FILE")]
    attributes: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Split {
    Valid,
    Test,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let evaluates = args.split.is_some() || !args.k.is_empty() || args.users.is_some() || args.attributes.is_some();
    if args.dataset.is_none() && evaluates {
        let text = "--split, --k, --users and --attributes need a dataset to evaluate on; name it, as in peccary report \
                    MODEL DATASET";
        return Err(Usage(text.into()).into());
    }
    let model = Model::open_named(&args.model)?;
    let against = args.against.iter().map(Model::open_named).collect::<Result<Vec<_>, _>>()?;
    let dataset = args.dataset.as_ref().map(Dataset::open).transpose()?;
    let ctx = globals.context();
    let attributes = match &dataset {
        Some(dataset) => read_attributes(args.attributes.as_deref(), dataset, &ctx)?,
        None => None,
    };
    let options = ReportOptions {
        part: args.split.map(|split| match split {
            Split::Valid => Part::Valid,
            Split::Test => Part::Test,
        }),
        k: args.k,
        users: args.users.map(|n| n as usize),
        attributes,
    };
    let target = (args.output.as_path(), args.force);
    let made = save_report(&model, &against, dataset.as_ref(), &options, target, &ctx);
    let summary = made.map_err(|error| match error {
        ReportError::Evaluate(wrong @ EvaluateError::CutOff { .. }) => Usage(wrong.to_string()).into(),
        other => anyhow::Error::from(other).context("no report was written"),
    })?;
    let mut result = serde_json::to_value(&summary).context("the summary is no JSON")?;
    result["output"] = json!(args.output);
    let size = ByteSize(summary.bytes);
    globals.print(
        &result,
        format!("{}\n{}: {size}, {} plots", summary.summary, args.output.display(), summary.plots.len()),
    )
}
