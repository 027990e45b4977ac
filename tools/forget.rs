//! `peccary forget`: removes users and all that a dataset has of them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use peccary::ForgetSummary;
use serde::Serialize;

use crate::common::Globals;
use crate::numbers::{counted, grouped};

const EXAMPLES: &str = "\
Their interactions in all parts, their exposures and their ids are gone from every file of the dataset; all other users and \
items keep their ids. What lies outside of the dataset is not touched: logs, rejected rows, recommendations, and models, \
which keep the rows of these users until they are trained again. If one id is unknown, nothing is forgotten.

Examples:
  peccary forget clicks.pec --user anna
  peccary forget clicks.pec --user anna --user bert
  peccary forget clicks.pec --users requests.txt";

/// Remove users and all that a dataset has of them
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, group = clap::ArgGroup::new("whom").args(["user", "users"]).required(true).multiple(true))]
pub struct Args {
    /// Dataset to remove them from
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,
    /// A user, by the id in the log; repeat it for more
    #[arg(long, value_name = "ID")]
    user: Vec<String>,
    /// A file with a user's id on each line
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    dataset: &'a Path,
    #[serde(flatten)]
    summary: &'a ForgetSummary,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let mut users = args.user;
    if let Some(file) = &args.users {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("{}: cannot read the ids to forget; give a text file of UTF-8", file.display()))?;
        users.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_string));
    }
    let summary = peccary::forget(&args.dataset, &users, &globals.context())?;
    let text = format!(
        "{}: forgot {} with {} and {}; {} of {} chunks were written anew in {:.1} s\nmodels keep what they have learnt of \
         them until peccary update MODEL {}, and their older versions until peccary prune MODEL --keep 1; copies that \
         peccary hold-out made keep these users until they are forgotten there",
        args.dataset.display(),
        counted(summary.users.into(), "user"),
        counted(summary.interactions, "interaction"),
        counted(summary.exposures, "exposure"),
        grouped(summary.rewritten as u64),
        grouped(summary.chunks as u64),
        summary.seconds,
        args.dataset.display()
    );
    globals.print(&Report { dataset: &args.dataset, summary: &summary }, text)
}
