//! `peccary similar`: the items most like an item.

use std::path::PathBuf;

use peccary::{Model, similar};
use serde_json::json;

use crate::common::Globals;
use crate::printable::one_line;

const EXAMPLES: &str = "\
Examples:
  peccary similar clicks.model --item i4
  peccary similar clicks.model --item i4 --item i99 --k 5 --json";

/// Find the items most like an item
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// Original ids of items
    #[arg(long, value_name = "ID", required = true)]
    item: Vec<String>,
    /// Similar items for each
    #[arg(long, value_name = "K", default_value_t = 10,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    k: usize,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let model = Model::open_named(&args.model)?;
    let mut found = Vec::new();
    let mut text = String::new();
    for item in &args.item {
        let near = similar(&model, item, args.k, &ctx)?;
        let near: Vec<_> = near.iter().map(|(i, c)| (model.item_ids().id(*i).unwrap_or_default(), c)).collect();
        text += &format!("{}{}\n", if text.is_empty() { "" } else { "\n" }, one_line(item));
        for (other, cosine) in &near {
            text += &format!("  {cosine:>8.4}  {}\n", one_line(other));
        }
        let near: Vec<_> = near.iter().map(|(other, cosine)| json!({ "item": other, "cosine": cosine })).collect();
        found.push(json!({ "item": item, "similar": near }));
    }
    globals.print(&json!({ "items": found }), text.trim_end())
}
