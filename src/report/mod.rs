//! One self-contained HTML page about a model: how it was trained, how good it is, what it recommends.
//!
//! Reads what a run left behind (the model's manifest and run log), evaluates, and draws; it knows nothing of how training
//! works. `docs/report.md` says what is on the page and why it is built like this.

mod error;
mod html;
mod map;
mod number;
mod page;
mod plot;
mod quality;
mod recommended;
mod reliability;
mod reproduce;
mod run;
mod slices;
mod summary;
mod training;

pub use error::ReportError;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::attributes::Attributes;
use crate::context::{Context, Unit};
use crate::dataset::{Dataset, Part};
use crate::evaluate::{EvaluateError, EvaluateOptions, Protocol, SliceBy, evaluate, evaluate_beside};
use crate::model::Model;
use crate::rank::{Aligned, Known};
use crate::runlog::RunLog;
use crate::storage::{AtomicFile, IoContext, version_numbers};
use run::Run;

/// Windows of held-out time to slice by.
const WINDOWS: usize = 4;
/// Columns of context to slice by, at most.
const CONTEXTS: usize = 3;

/// Settings of [`report`].
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// The held-out part. Default: test, or valid where there is no test part.
    pub part: Option<Part>,
    /// Cut-offs of the ranking. Default: those of [`EvaluateOptions`], as far as there are that many items.
    pub k: Vec<usize>,
    /// Evaluate a uniform sample of that many users. Default: all.
    pub users: Option<usize>,
    /// What is known of the dataset's items: slices by it, and colours and names on the map.
    pub attributes: Option<Arc<Attributes>>,
}

/// What [`save_report`] has written.
#[derive(Clone, Debug, Serialize)]
pub struct ReportSummary {
    /// Bytes of the page.
    pub bytes: u64,
    /// What stands at its top: how good the model is, and how fast training was.
    pub summary: String,
    /// Plots on the page, by their ids.
    pub plots: Vec<String>,
    /// What of each model was evaluated, as `evaluate --json` has it; none without held-out interactions.
    pub evaluations: Vec<Value>,
}

/// Makes the page about `model`, beside `against`. Without a dataset nothing is evaluated or recommended.
///
/// The page needs no network and holds its numbers as JSON, too. It is the same for the same models, dataset and settings,
/// but for the time that evaluation took. Memory stays within `ctx.memory()`. Time: that of evaluating each model, and some
/// seconds for the map of items.
///
/// # Errors
/// If `model` does not belong to `dataset`, the part that is asked for is absent, a cut-off does not fit the catalogue, the
/// memory budget is too small to rank a user, factors are not finite, or the operation was stopped.
pub fn report(
    model: &Model,
    against: &[Model],
    dataset: Option<&Dataset>,
    options: &ReportOptions,
    ctx: &Context,
) -> Result<(String, ReportSummary), ReportError> {
    let models: Vec<&Model> = std::iter::once(model).chain(against).collect();
    let names = names(&models);
    let mut runs = Vec::new();
    for (model, name) in models.iter().zip(&names) {
        let log = RunLog::listed(model.path(), &model.manifest().files)?;
        runs.push(Run::of(model, log.as_ref(), name.clone()));
    }
    let mut evaluations = Vec::new();
    let mut left_out = Vec::new();
    let part = dataset.and_then(|dataset| part(dataset, options));
    if let (Some(dataset), Some(part)) = (dataset, part) {
        model.check_dataset(dataset)?;
        let mut fitting = Vec::new();
        for (model, name) in models.iter().zip(&names) {
            match model.check_dataset(dataset) {
                Ok(()) => fitting.push((*model, name)),
                Err(error) => {
                    ctx.message(&format!("{name} is on the page, but not evaluated: {error}"));
                    left_out.push(name.clone());
                }
            }
        }
        let mut together: Option<Known> = None;
        for (model, _) in &fitting {
            let aligned = Aligned::new(*model, dataset).map_err(EvaluateError::from)?;
            together = Some(together.map_or_else(|| aligned.known().clone(), |known| known.and(aligned.known())));
        }
        let together = together.filter(|_| fitting.len() > 1);
        for (at, (model, name)) in fitting.iter().enumerate() {
            let options = EvaluateOptions {
                part,
                k: if options.k.is_empty() { Protocol::Full.cut_offs(dataset) } else { options.k.clone() },
                users: options.users,
                slices: if at == 0 { slices(dataset) } else { Vec::new() },
                attributes: options.attributes.clone().filter(|_| at == 0),
                ..EvaluateOptions::default()
            };
            // Baselines depend on the dataset alone.
            let options = if at == 0 { options } else { EvaluateOptions { baselines: Vec::new(), ..options } };
            let evaluation = match &together {
                Some(known) => evaluate_beside((*model, known), dataset, &options, ctx)?,
                None => evaluate(*model, dataset, &options, ctx)?,
            };
            evaluations.push((name.to_string(), json!(evaluation)));
        }
    }
    let page =
        page::Page::new(&models, &runs, (dataset, part, options.attributes.as_deref()), &evaluations, &left_out, ctx)?;
    let (text, summary, plots) = page.finish();
    let evaluations = evaluations.into_iter().map(|(_, evaluation)| evaluation).collect();
    let summary = ReportSummary { bytes: text.len() as u64, summary, plots, evaluations };
    Ok((text, summary))
}

/// Makes the page of [`report`] and writes it to `target`, which appears whole or not at all; with `force` a file there is
/// replaced.
///
/// # Errors
/// Those of [`report`], and if the file exists or cannot be written.
pub fn save_report(
    model: &Model,
    against: &[Model],
    dataset: Option<&Dataset>,
    options: &ReportOptions,
    (target, force): (&Path, bool),
    ctx: &Context,
) -> Result<ReportSummary, ReportError> {
    let mut file = AtomicFile::new(target, force)?;
    let (page, summary) = report(model, against, dataset, options, ctx)?;
    let stage = ctx.stage("writing the report", Some(summary.bytes), Unit::Bytes);
    file.write_all(page.as_bytes()).at(target, "write")?;
    stage.add(summary.bytes);
    file.publish()?;
    Ok(summary)
}

/// The part to evaluate on; none where nothing is held out and none was asked for.
fn part(dataset: &Dataset, options: &ReportOptions) -> Option<Part> {
    let held_out = [Part::Test, Part::Valid].into_iter().find(|part| dataset.part(*part).is_some());
    options.part.or(held_out)
}

/// What the first model is sliced by: whatever the dataset has columns for.
fn slices(dataset: &Dataset) -> Vec<SliceBy> {
    let columns = dataset.manifest().columns;
    let mut all = vec![SliceBy::Activity, SliceBy::Popularity];
    if columns.time {
        all.push(SliceBy::Time(WINDOWS));
    }
    if columns.event {
        all.push(SliceBy::Event);
    }
    let contexts = dataset.manifest().contexts.iter().flat_map(|contexts| &contexts.columns);
    all.extend(contexts.take(CONTEXTS).map(|column| SliceBy::Context(column.name.clone())));
    all
}

/// What the page calls the models: the names of their folders, or their paths where two have the same, and which version
/// it is where there are several.
fn names(models: &[&Model]) -> Vec<String> {
    let version = |model: &Model| match version_numbers(model.path()) {
        Ok(numbers) if numbers == [model.version()] => String::new(),
        _ => format!("@{}", model.version()),
    };
    let of = |model: &&Model| {
        let name = model.path().file_name().unwrap_or(model.path().as_os_str()).to_string_lossy();
        name.into_owned() + &version(model)
    };
    let short: Vec<String> = models.iter().map(of).collect();
    let is_alone = |name: &String| short.iter().filter(|other| *other == name).count() == 1;
    let named = short.iter().zip(models).map(|(name, model)| match is_alone(name) {
        true => html::shown(name, 40),
        false => html::shown(&format!("{}{}", model.path().display(), version(model)), 40),
    });
    named.collect()
}
