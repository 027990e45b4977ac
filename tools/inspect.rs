//! `peccary inspect`: what a dataset or model holds.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peccary::{
    ByteSize, ChangeKind, ContextColumn, Dataset, DatasetStatistics, Distribution, FileRecord, Manifest, Model,
    ModelManifest, ModelVersion, Stored, versions,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::common::Globals;
use crate::numbers::{counted, date, duration, grouped};

const EXAMPLES: &str = "\
Examples:
  peccary inspect clicks.pec
  peccary inspect clicks.pec --json
  peccary inspect clicks.model
  peccary inspect clicks.model@2
  peccary inspect clicks.model --health --dataset clicks.pec --against other.model";

/// Show what a dataset or model holds
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Dataset or model; MODEL@N for version N
    #[arg(value_name = "DATASET|MODEL")]
    path: PathBuf,
    /// Of a model: norms, effective rank and uniformity of its embeddings instead (docs/embeddings.md)
    #[arg(long)]
    health: bool,
    /// Measure the alignment of users and what they took, too, on this dataset
    #[arg(long, value_name = "DATASET", requires = "health")]
    dataset: Option<PathBuf>,
    /// Measure how like another model it is, too
    #[arg(long, value_name = "MODEL", requires = "health")]
    against: Option<PathBuf>,
}

#[derive(Serialize)]
struct DatasetReport<'a> {
    kind: &'static str,
    path: &'a Path,
    bytes: u64,
    #[serde(flatten)]
    statistics: &'a DatasetStatistics,
    /// First and last time of each part as dates.
    dates: Vec<(&'static str, [String; 2])>,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

#[derive(Serialize)]
struct ModelReport<'a> {
    kind: &'static str,
    path: &'a Path,
    bytes: u64,
    fingerprint: String,
    width: usize,
    /// Every version of the model, this one among them.
    versions: Vec<ModelVersion>,
    #[serde(flatten)]
    manifest: &'a ModelManifest,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    if args.health {
        return crate::health::run(&args.path, args.dataset.as_deref(), args.against.as_deref(), globals);
    }
    match Stored::open(&args.path)? {
        Stored::Dataset(dataset) => {
            let statistics = dataset.statistics(&globals.context())?;
            let manifest = dataset.manifest();
            let ranges = manifest.parts.iter().filter_map(|(part, s)| Some((part.name(), s.time_range?)));
            let report = DatasetReport {
                kind: "dataset",
                path: &args.path,
                bytes: size(&manifest.files),
                statistics: &statistics,
                dates: ranges.map(|(name, (first, last))| (name, [date(first), date(last)])).collect(),
                manifest,
            };
            globals.print(&report, dataset_text(&dataset, &statistics)?)
        }
        Stored::Model(model) => {
            let manifest = model.manifest();
            let all = versions(model.path())?;
            let text = model_text(&model, &all)?;
            let report = ModelReport {
                kind: "model",
                path: &args.path,
                bytes: size(&manifest.files),
                fingerprint: model.manifest().fingerprint(),
                width: model.users().width(),
                versions: all,
                manifest,
            };
            globals.print(&report, text)
        }
    }
}

fn size(files: &[FileRecord]) -> u64 {
    files.iter().map(|f| f.bytes).sum()
}

fn dataset_text(dataset: &Dataset, statistics: &DatasetStatistics) -> Result<String, fmt::Error> {
    let manifest = dataset.manifest();
    let mut text = format!("dataset {}\n", dataset.path().display());
    let mut line = |name: &str, value: &str| writeln!(text, "  {name:<12} {value}");
    let forgotten = match dataset.users().holes() {
        0 => String::new(),
        holes => format!(", {} of them forgotten", grouped(holes.into())),
    };
    line("users", &format!("{}{forgotten}", grouped(manifest.users.into())))?;
    line("items", &grouped(manifest.items.into()))?;
    for (part, summary) in &manifest.parts {
        let mut value = format!(
            "{} interactions, {} users, {} items",
            grouped(summary.interactions),
            grouped(summary.users.into()),
            grouped(summary.items.into())
        );
        if let Some((first, last)) = summary.time_range {
            write!(value, ", {} to {}", date(first), date(last))?;
        }
        line(part.name(), &value)?;
    }
    if let Some(shown) = manifest.exposures {
        let [pairs, users, items] = [shown.exposures, shown.users.into(), shown.items.into()].map(grouped);
        line("exposures", &format!("{pairs} shown and not taken, to {users} users, of {items} items"))?;
    }
    if let Some(contexts) = &manifest.contexts {
        let column = |c: &ContextColumn| format!("{} ({} values)", c.name, grouped(c.values.into()));
        let columns: Vec<String> = contexts.columns.iter().map(column).collect();
        let combinations = grouped(contexts.combinations.into());
        line("context", &format!("{}; {combinations} combinations", columns.join(", ")))?;
    }
    line("density", &format!("{:.4}%", statistics.density * 100.0))?;
    line("activity", &distribution(&statistics.activity, "users"))?;
    line("popularity", &distribution(&statistics.popularity, "items"))?;
    let columns = [
        ("time", manifest.columns.time),
        ("weight", manifest.columns.weight),
        ("count", manifest.columns.count),
        ("event", manifest.columns.event),
    ];
    let columns: Vec<&str> = ["user", "item"].into_iter().chain(columns.iter().filter(|c| c.1).map(|c| c.0)).collect();
    line("columns", &columns.join(", "))?;
    if !manifest.events.is_empty() {
        line("events", &manifest.events.join(", "))?;
    }
    for (name, key) in [("split", "split"), ("valid split", "valid_split")] {
        let how = manifest.options.get(key).and_then(Value::as_str).unwrap_or("none");
        let part = if key == "split" { "test" } else { "valid" };
        let moment = manifest.ingest.get("thresholds").and_then(|t| t.get(part)).and_then(Value::as_i64);
        match moment {
            Some(moment) => line(name, &format!("{how}: from {} on", date(moment)))?,
            None => line(name, how)?,
        }
    }
    line("options", &manifest.options.to_string())?;
    line("ingest", &manifest.ingest.to_string())?;
    for source in &manifest.sources {
        let (bytes, rows) = (ByteSize(source.bytes), grouped(source.rows));
        line("source", &format!("{}: {bytes}, {rows} rows", source.name))?;
    }
    for change in &manifest.changes {
        let [new, merged] = [change.interactions, change.merged].map(grouped);
        let [users, items] = [change.users, change.items].map(|n| grouped(n.into()));
        let number = change.number;
        let what = match change.kind {
            ChangeKind::Append => {
                let sources: Vec<&str> = change.sources.iter().map(|s| &s.name[..]).collect();
                let from = sources.join(", ");
                format!(
                    "append {number}: {new} interactions, {merged} merged, {users} users, {items} items new: {from}"
                )
            }
            ChangeKind::Forget => format!("forget {number}: {users} users, {new} interactions"),
            ChangeKind::HoldOut => format!("hold-out {number}: {new} interactions, appended since, are test"),
        };
        line("change", &format!("{what}; {} -> {}", change.before, change.after))?;
    }
    if let Some(layout) = &manifest.layout {
        let [chunks, users, items] =
            [layout.number_of_chunks as usize, layout.users.len(), layout.items.len()].map(|n| grouped(n as u64));
        line("layout", &format!("{chunks} chunks; ids of users in {users} files, of items in {items}"))?;
    }
    line("fingerprint", &manifest.fingerprint)?;
    line("written by", &format!("peccary {}", manifest.peccary))?;
    files(&mut text, &manifest.files)?;
    Ok(text)
}

fn distribution(d: &Distribution, what: &str) -> String {
    format!(
        "mean {:.2}, min {}, quartiles {} {} {}, 90% {}, 99% {}, max {}; top 1% of {what} have {:.1}%, top 10% {:.1}%; \
         Gini {:.3}",
        d.mean,
        d.min,
        d.p25,
        d.median,
        d.p75,
        d.p90,
        d.p99,
        grouped(d.max.into()),
        d.top_1_percent * 100.0,
        d.top_10_percent * 100.0,
        d.gini
    )
}

fn model_text(model: &Model, all: &[ModelVersion]) -> Result<String, fmt::Error> {
    let manifest = model.manifest();
    let mut text = format!("model {}\n", model.path().display());
    let mut line = |name: &str, value: &str| writeln!(text, "  {name:<12} {value}");
    let biases = if manifest.biases { ", and biases" } else { "" };
    let star = |v: &ModelVersion| format!("{}{}", v.number, if v.current { " (current)" } else { "" });
    let all: Vec<String> = all.iter().map(star).collect();
    line("version", &format!("{}, of {}", model.version(), all.join(", ")))?;
    if let Some(published) = manifest.published {
        line("published", &date(published))?;
    }
    line("users", &grouped(manifest.users.into()))?;
    line("items", &grouped(manifest.items.into()))?;
    line("factors", &format!("{}{biases}", manifest.dimensions))?;
    line("similarity", &format!("{:?}", manifest.similarity).to_lowercase())?;
    let mut name = "config";
    for settings in settings(&manifest.config) {
        line(name, &settings)?;
        name = "";
    }
    if let Some(history) = history(manifest) {
        line("history", &history)?;
    }
    line("dataset", &manifest.dataset)?;
    line("fingerprint", &model.manifest().fingerprint())?;
    line("written by", &format!("peccary {}", manifest.peccary))?;
    files(&mut text, &manifest.files)?;
    Ok(text)
}

/// The settings of a configuration that are not at "none": single ones first, then a line a table. `--json` has all.
fn settings(config: &Value) -> Vec<String> {
    let shown = |value: &Value| {
        let single = value.as_f64().map(|number| number as f32);
        match value.as_f64().zip(single).filter(|_| value.is_f64()) {
            // As it was given: the manifest has all digits of a number of four bytes.
            Some((number, single)) if (f64::from(single) - number).abs() <= number.abs() * 1e-15 => single.to_string(),
            _ => value.to_string(),
        }
    };
    let list = |table: &Map<String, Value>, tables: bool| {
        let own = table.iter().filter(|(_, value)| !value.is_null() && (tables || !value.is_object()));
        own.map(|(key, value)| format!("{key} = {}", shown(value))).collect::<Vec<_>>().join(", ")
    };
    let Value::Object(config) = config else { return Vec::new() };
    let tables = config.iter().filter_map(|(key, value)| Some((key, list(value.as_object()?, true))));
    let tables = tables.filter(|(_, settings)| !settings.is_empty());
    let tables = tables.map(|(key, settings)| format!("[{key}] {settings}"));
    std::iter::once(list(config, false)).chain(tables).collect()
}

/// How the training or the update went, in a line.
fn history(manifest: &ModelManifest) -> Option<String> {
    let epochs = match &manifest.history {
        Value::Array(epochs) => epochs,
        report => report["epochs"].as_array()?,
    };
    let loss = |epoch: Option<&Value>| epoch.and_then(|epoch| epoch["loss"].as_f64()).unwrap_or(f64::NAN);
    let mut text = counted(epochs.len() as u64, "epoch");
    if let Some(seconds) = manifest.history["seconds"].as_f64() {
        write!(text, " in {}", duration(Duration::from_secs_f64(seconds))).ok()?;
    }
    if !epochs.is_empty() {
        write!(text, ", loss {:.4} -> {:.4}", loss(epochs.first()), loss(epochs.last())).ok()?;
    }
    let validation = &manifest.history["validation"];
    if let (Some(metric), Some(best)) = (validation["metric"].as_str(), validation["best_value"].as_f64()) {
        write!(text, "; {metric} {best:.5} on valid after epoch {}", validation["best_epoch"]).ok()?;
    }
    if let Some(from) = manifest.updated_from {
        write!(text, "; updated from version {from}").ok()?;
    }
    Some(text)
}

fn files(text: &mut String, files: &[FileRecord]) -> fmt::Result {
    write!(text, "  {:<12} {}, {}", "files", files.len(), ByteSize(size(files)))?;
    for file in files.iter().take(20) {
        write!(text, "\n    {:<24} {}", file.path, ByteSize(file.bytes))?;
    }
    match files.len().checked_sub(20) {
        Some(more) if more > 0 => write!(text, "\n    and {more} more"),
        _ => Ok(()),
    }
}
