//! `peccary hold-out`: a dataset as a model learnt it, with what was appended since as its test part.

use std::path::{Path, PathBuf};

use peccary::{Dataset, Model, Part, hold_out};
use serde::Serialize;

use crate::common::Globals;
use crate::numbers::{counted, grouped};

const EXAMPLES: &str = "\
What a model has learnt from is train, and the interactions that were appended after that are test; what had been held out \
before is valid. Neither this model nor versions of before have seen anything of the test part or of what came after it \
began, so that evaluate, compare and report are fair to them. A model that is trained anew on this dataset can stand beside \
them, but for one thing: pairs that were there before and came again have the times, weights and counts of now, and exposures \
are those of now, which matters where training or the baseline 'recent' goes by them. It is a copy of its own, which takes as \
much room on the disk, and keeps whom the dataset that it is made from forgets later; that one is only read.

Examples:
  peccary ingest --append clicks.pec monday.csv
  peccary hold-out clicks.pec --since clicks.model --output monday.pec
  peccary evaluate clicks.model monday.pec
  peccary compare clicks.model clicks.model@2 monday.pec        # whether the last update was worth it
  peccary update clicks.model clicks.pec";

/// Make a dataset of what a model learnt, with what was appended since as its test part
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Dataset that was appended to
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,
    /// The model, trained on it before that; MODEL@N for version N of it
    #[arg(long, value_name = "MODEL")]
    since: PathBuf,
    /// Dataset to write: a folder
    #[arg(long, short, value_name = "DATASET")]
    output: PathBuf,
    /// Replace the output if it is there already
    #[arg(long)]
    force: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    model: &'a Path,
    version: u32,
    dataset: &'a Path,
    dataset_fingerprint: &'a str,
    #[serde(flatten)]
    summary: &'a peccary::HoldOutSummary,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let Args { dataset, since, output, force } = &args;
    let model = Model::open_named(since)?;
    let dataset = Dataset::open(dataset)?;
    model.check_dataset(&dataset)?;
    let summary = hold_out(&dataset, &model.manifest().dataset, (output, *force), &globals.context())?;
    let mut text =
        format!("{}: as version {} of {} learnt it", output.display(), model.version(), model.path().display());
    for (part, of) in &summary.parts {
        text += &match part {
            Part::Train => format!(": {} train", grouped(of.interactions)),
            part => format!(", {} {}", grouped(of.interactions), part.name()),
        };
    }
    let test = summary.parts.iter().find(|(part, _)| *part == Part::Test).map_or(0, |(_, test)| test.users);
    text += &format!(
        "\ntest is what came since, of {}, {} of whom have nothing in train; {:.1} s",
        counted(test.into(), "user"),
        grouped(summary.cold_users),
        summary.seconds
    );
    if summary.left_out > 0 {
        text += &format!(
            "\nleft out: {} held out before; an append since has held out more, and nothing tells which are newer than test",
            counted(summary.left_out, "interaction")
        );
    }
    if dataset.exposures().is_some() {
        text += "\nexposures are those of now: a model that is trained anew with them learns what was shown since";
    }
    let report = Report {
        output,
        model: model.path(),
        version: model.version(),
        dataset: dataset.path(),
        dataset_fingerprint: dataset.fingerprint(),
        summary: &summary,
    };
    globals.print(&report, text)
}
