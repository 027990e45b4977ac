//! `peccary versions`: the versions of a model.

use std::path::PathBuf;

use peccary::{ByteSize, ModelVersion, versions};
use serde_json::json;

use crate::common::Globals;
use crate::numbers::{date, grouped};

const EXAMPLES: &str = "\
Every training into a model, and every update, publishes a version of it. The current one, marked by a star, is what all \
commands open; MODEL@2 names version 2 instead, for any of them. A version that was trained before users were forgotten \
(peccary forget) has rows of them, and says so as soon as there is a version without.

Examples:
  peccary versions clicks.model
  peccary versions clicks.model --json
  peccary evaluate clicks.model@2 clicks.pec
  peccary rollback clicks.model
  peccary prune clicks.model --keep 3";

/// List the versions of a model
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model
    model: PathBuf,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let all = versions(&args.model)?;
    let lines: Vec<String> = all.iter().map(line).collect();
    let text = format!("{}\n{}", args.model.display(), lines.join("\n"));
    globals.print(&json!({ "model": args.model, "versions": all }), text)
}

/// What is said of a version.
fn line(version: &ModelVersion) -> String {
    let star = if version.current { '*' } else { ' ' };
    let old = version.predates_forgetting.map_or(String::new(), |_| "; has rows of forgotten users".into());
    let Some(facts) = &version.facts else {
        let why = version.unreadable.as_deref().unwrap_or_default();
        return format!("{star} {:>4}  {why}{old}", version.number);
    };
    let when = facts.published.map_or("at a time that it does not say".to_string(), date);
    let from = facts.updated_from.map_or(String::new(), |from| format!(", updated from {from}"));
    format!(
        "{star} {:>4}  {when}  {} users, {} items, {}, on dataset {}{from}{old}",
        version.number,
        grouped(facts.users.into()),
        grouped(facts.items.into()),
        ByteSize(facts.bytes),
        facts.dataset_fingerprint,
    )
}
