//! `peccary calibrate`: probabilities of a model's scores, and how they hold.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use peccary::{
    Calibration, CalibrationMethod, CalibrationOptions, CalibrationReport, Dataset, EvaluateError, Model, Part,
    Reliability, calibrate, calibration,
};
use serde::Serialize;

use crate::common::{Globals, Usage};
use crate::numbers::grouped;

const EXAMPLES: &str = "\
A curve from scores to probabilities is fitted on the valid part, kept in the model, and measured on the test part, where \
there is one. A probability is that of a held-out interaction among it and --negatives items drawn beside it that the user \
has not taken. `peccary recommend` then has a column `probability`. docs/calibration.md has the formulas.

Examples:
  peccary calibrate clicks.model clicks.pec --method isotonic
  peccary calibrate clicks.model clicks.pec --method platt --negatives 20
  peccary calibrate clicks.model@2 clicks.pec
  peccary calibrate clicks.model clicks.pec --remove";

/// Fit probabilities to a model's scores and keep them in it, or measure how they hold
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// The dataset that it was trained on
    dataset: PathBuf,
    /// platt or isotonic [default: measure what the model has]
    #[arg(long)]
    method: Option<CalibrationMethod>,
    /// Items drawn beside each held-out interaction
    #[arg(long, value_name = "N", default_value_t = CalibrationOptions::default().negatives,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    negatives: u32,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = CalibrationOptions::default().seed)]
    seed: u64,
    /// Remove what is kept in the model
    #[arg(long, conflicts_with = "method")]
    remove: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    version: u32,
    dataset: &'a Path,
    dataset_fingerprint: &'a str,
    /// What was fitted, if that was asked for, or is kept in the model.
    calibration: Option<&'a Calibration>,
    /// How it holds on the test part; none where there is no such part.
    reliability: Option<&'a CalibrationReport>,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let model = Model::open_named(&args.model)?;
    let dataset = Dataset::open(&args.dataset)?;
    let report = |calibration, reliability| Report {
        model: model.path(),
        version: model.version(),
        dataset: dataset.path(),
        dataset_fingerprint: dataset.fingerprint(),
        calibration,
        reliability,
    };
    if args.remove {
        model.check_dataset(&dataset)?;
        model.keep_calibration(None)?;
        return globals.print(&report(None, None), format!("{}: has no calibration any more", args.model.display()));
    }
    model.check_unchanged(&dataset)?;
    let options = CalibrationOptions { part: Part::Test, negatives: args.negatives, seed: args.seed };
    let kept = model.manifest().calibration.as_ref();
    if let Some(other) = kept.filter(|kept| args.method.is_none() && kept.negatives != args.negatives) {
        let text = format!(
            "--negatives {}: the model's calibration is for {} negatives, and its probabilities hold for those alone; \
             pass --negatives {}, or --method to fit it anew",
            args.negatives, other.negatives, other.negatives
        );
        return Err(Usage(text).into());
    }
    let fitted = match args.method {
        Some(method) => {
            let valid = CalibrationOptions { part: Part::Valid, ..options };
            Some(calibrate(&model, &dataset, method, valid, &ctx)?)
        }
        None => None,
    };
    let used = fitted.as_ref().or(kept);
    let measured = match calibration(&model, &dataset, used.map(|used| &used.curve), options, &ctx) {
        Ok(report) => Some(report),
        Err(EvaluateError::NoPart { .. }) if fitted.is_some() => None,
        Err(error) => return Err(error.into()),
    };
    if fitted.is_some() {
        model.keep_calibration(fitted.clone())?;
    }
    let mut text = String::new();
    if let Some(fitted) = &fitted {
        writeln!(
            text,
            "{}: fitted on {} interactions of {} and {} items beside them, and kept",
            args.model.display(),
            grouped(fitted.positives),
            fitted.part.name(),
            grouped(fitted.exposures)
        )?;
    }
    match &measured {
        Some(measured) => write_report(&mut text, measured)?,
        None => text += "there is no test part to measure it on",
    }
    globals.print(&report(used, measured.as_ref()), text.trim_end())
}

/// Writes a reliability table, under what it was measured on.
pub fn write_report(text: &mut String, report: &CalibrationReport) -> std::fmt::Result {
    writeln!(
        text,
        "{} interactions of {}, {} items beside them",
        grouped(report.positives),
        report.part.name(),
        grouped(report.exposures)
    )?;
    for note in &report.notes {
        writeln!(text, "{note}")?;
    }
    let mut line = |name: &str, r: &Reliability| {
        writeln!(
            text,
            "{name:<14}expected calibration error {:.4}, largest {:.4}, Brier score {:.4}, log loss {:.4}",
            r.ece, r.mce, r.brier, r.log_loss
        )
    };
    line("σ(score)", &report.uncalibrated)?;
    if let Some(calibrated) = &report.calibrated {
        line("calibrated", calibrated)?;
    }
    writeln!(text, "\npredicted       mean    observed  pairs")?;
    for bin in &report.calibrated.as_ref().unwrap_or(&report.uncalibrated).bins {
        let count = grouped(bin.count);
        writeln!(text, "{:.3} – {:.3}   {:.4}  {:.4}    {count}", bin.low, bin.high, bin.predicted, bin.observed)?;
    }
    Ok(())
}
