//! `peccary prune`: removes old versions of a model.

use std::path::PathBuf;

use peccary::{prune, versions};
use serde_json::json;

use crate::common::{Globals, whole_model};

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
    whole_model(&args.model)?;
    let removed = prune(&args.model, args.keep)?;
    let left = versions(&args.model)?;
    let kept: Vec<u32> = left.iter().map(|version| version.number).collect();
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut text = match &removed[..] {
        [] => format!("{}: nothing to remove; versions: {}", args.model.display(), list(&kept)),
        gone => format!("{}: removed {}; versions left: {}", args.model.display(), list(gone), list(&kept)),
    };
    for version in &left {
        let Some(newer) = version.predates_forgetting else { continue };
        let (model, number) = (args.model.display(), version.number);
        text += &format!("\nversion {number} stays, and has rows of users who were forgotten before version {newer}; ");
        text += &match version.current {
            true => format!(
                "it is the current one: make a newer one current (peccary rollback {model} --to {newer}) and prune again"
            ),
            false => format!("to remove it, keep fewer: peccary prune {model} --keep 1"),
        };
    }
    let forgotten: Vec<u32> = left.iter().filter(|v| v.predates_forgetting.is_some()).map(|v| v.number).collect();
    let json = json!({ "model": args.model, "removed": removed, "versions": kept, "predate_forgetting": forgotten });
    globals.print(&json, text)
}
