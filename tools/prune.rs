//! `peccary prune`: removes old versions of a model.

use std::path::PathBuf;

use peccary::{prune, versions};
use serde_json::json;

use crate::common::Globals;

const EXAMPLES: &str = "\
The newest versions stay, and the current one, whichever it is. Whoever has a version open keeps it until it is closed.

Examples:
  peccary prune clicks.model --keep 3
  peccary prune clicks.model --keep 1 --json";

/// Remove old versions of a model
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// Versions to keep, at least 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let removed = prune(&args.model, args.keep)?;
    let kept: Vec<u32> = versions(&args.model)?.iter().map(|version| version.number).collect();
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let text = match &removed[..] {
        [] => format!("{}: nothing to remove; versions: {}", args.model.display(), list(&kept)),
        gone => format!("{}: removed {}; versions left: {}", args.model.display(), list(gone), list(&kept)),
    };
    globals.print(&json!({ "model": args.model, "removed": removed, "versions": kept }), text)
}
