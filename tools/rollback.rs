//! `peccary rollback`: makes an earlier version of a model the current one.

use std::path::PathBuf;

use peccary::rollback;
use serde_json::json;

use crate::common::{Globals, whole_model};

const EXAMPLES: &str = "\
In one step, and nothing is removed: `peccary rollback clicks.model --to 3` goes forward again. The version is checked \
first, every byte of it. Whoever has another version open keeps reading that one.

Examples:
  peccary rollback clicks.model
  peccary rollback clicks.model --to 1";

/// Make an earlier version of a model the current one
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The version to make current [default: what the current one was updated from, or the newest older one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    whole_model(&args.model)?;
    let version = rollback(&args.model, args.to)?;
    let mut text = format!("{}: version {} is the current one", args.model.display(), version.number);
    if let Some(newer) = version.predates_forgetting {
        text += &format!("\nit has rows of users who were forgotten before version {newer} was trained");
    }
    globals.print(&json!({ "model": args.model, "current": version }), text)
}
