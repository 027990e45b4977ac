//! `peccary update`: goes on training a model with what its dataset has got since.

use std::path::PathBuf;
use std::time::Duration;

use peccary::{Dataset, TrainConfig, UpdateOptions, update};
use serde_json::{Value, json};

use crate::common::{Globals, whole_model};
use crate::numbers::{counted, duration, grouped};
use crate::settings::Validating;
use crate::train::validated;

const EXAMPLES: &str = "\
Rows of users and items that are new begin by folding in; then what is new is trained on, with some of the old \
interactions, by the model's own configuration. The result is the model's next version. A dataset that was not made from \
the model's own by appending is refused. Older versions can still be evaluated, compared and rolled back to. What is \
appended is a test that no version has seen yet: hold it out before it is trained on, to see how good the last update was.

Examples:
  peccary ingest --append clicks.pec today.csv
  peccary hold-out clicks.pec --since clicks.model --output today.pec
  peccary compare clicks.model clicks.model@1 today.pec
  peccary update clicks.model clicks.pec
  peccary update clicks.model clicks.pec --replay 0.5 --half-life 30 --epochs 3
  peccary rollback clicks.model";

/// Go on training a model with what was appended to its dataset
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The dataset that it was trained on, appended to since
    dataset: PathBuf,
    /// Passes over what is new, at most where there is a valid part
    #[arg(long, value_name = "N", default_value_t = UpdateOptions::default().epochs,
        value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// The share of old interactions among those that are trained, from 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = UpdateOptions::default().replay)]
    replay: f64,
    /// Step size at the start [default: half of what the model was trained with]
    #[arg(long, value_name = "X")]
    learning_rate: Option<f32>,
    /// Days in which an interaction comes to count half [default: as the model was trained]
    #[arg(long, value_name = "DAYS")]
    half_life: Option<f64>,
    /// Seed of the stream, the negatives, the replay and the rows that are folded in
    #[arg(long, value_name = "N", default_value_t = UpdateOptions::default().seed)]
    seed: u64,
    #[command(flatten)]
    validating: Validating,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    whole_model(&args.model)?;
    let dataset = Dataset::open(&args.dataset)?;
    let Args { epochs, replay, learning_rate, half_life, seed, .. } = args;
    let mut config = TrainConfig::default();
    args.validating.add_to(&mut config);
    let validation = config.validation;
    let options = UpdateOptions { epochs, replay, learning_rate, half_life, validation, seed };
    let (manifest, report) = update(&args.model, &dataset, &options, &ctx)?;
    let mut text = format!(
        "{}: version {}, updated from {}: {}{}, {}, {}; {} in {}",
        args.model.display(),
        manifest.model_version,
        report.from,
        counted(report.new_interactions - report.seen_again, "new interaction"),
        match report.seen_again {
            0 => String::new(),
            again => format!(", {} seen again", grouped(again)),
        },
        counted(report.new_users.into(), "new user"),
        counted(report.new_items.into(), "new item"),
        counted(report.training.epochs.len() as u64, "epoch"),
        duration(Duration::from_secs_f64(report.training.seconds)),
    );
    text += &validated(&report.training);
    if report.folded_users + report.folded_items > 0 {
        text += &format!(
            "\nfolded in, because all that is known of them is new: {}, {}",
            counted(report.folded_users, "user"),
            counted(report.folded_items, "item")
        );
    }
    if report.forgotten_users > 0 {
        text += &format!("\nrows of zeros: {}", counted(report.forgotten_users, "forgotten user"));
        if !manifest.predate_forgetting.is_empty() {
            text += "; older versions keep theirs until they are removed: peccary prune ";
            text += &format!("{} --keep 1", args.model.display());
        }
    }
    let mut json =
        json!({ "model": args.model, "version": manifest.model_version, "fingerprint": manifest.fingerprint() });
    if let (Value::Object(all), Value::Object(report)) = (&mut json, serde_json::to_value(&report)?) {
        all.extend(report);
    }
    globals.print(&json, text)
}
