//! `peccary bench ingest`: the stages of ingest by format, the whole, and the limit.

use std::path::{Path, PathBuf};

use peccary::{ByteSize, IngestBench, IngestOptions, Input, Inputs, OnError, ReadOptions, SynthFormat, bench_ingest};
use serde_json::json;

use super::shape::Shape;
use crate::common::Globals;
use crate::numbers::{grouped, short};

const SHAPES: &str = "\
Logs of shapes have string ids and times. They are written once, by synth, into --folder, and used again the next time:
  small    10,000 users x  2,000 items x    500,000 rows
  gowalla  29,858 users x 40,981 items x  1,027,370 rows
  ml-20m  138,493 users x 26,744 items x 20,000,000 rows (490 MB as CSV)";

/// Measure ingest, stage by stage: CSV, NDJSON and Parquet of the same rows
///
/// Measures reading and parsing alone, then scattering to temporary files, then sorting and writing, then the whole, and in
/// the same run what would be the limit: copying the log's bytes to a new file. Each figure is the median of three.
#[derive(clap::Args)]
#[command(after_help = SHAPES)]
pub struct Args {
    /// Shape of the synthetic log to measure on
    #[arg(long, value_enum, default_value_t = Shape::Small, conflicts_with = "log")]
    shape: Shape,
    /// Log to measure on instead, with columns by their known names or positions
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Formats of the synthetic log
    #[arg(long, value_enum, value_delimiter = ',', default_value = "csv,ndjson,parquet", conflicts_with = "log")]
    formats: Vec<Format>,
    /// Where logs are kept, and datasets made and removed again
    #[arg(long, value_name = "FOLDER", default_value = "peccary-bench")]
    folder: PathBuf,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Csv,
    Tsv,
    Ndjson,
    Parquet,
}

impl From<Format> for SynthFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Tsv => Self::Tsv,
            Format::Ndjson => Self::Ndjson,
            Format::Parquet => Self::Parquet,
        }
    }
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let logs = match &args.log {
        Some(log) => vec![log.clone()],
        None => {
            let log = |format: &Format| args.shape.log((*format).into(), &args.folder, &ctx);
            args.formats.iter().map(log).collect::<anyhow::Result<Vec<_>>>()?
        }
    };
    std::fs::create_dir_all(&args.folder)?;
    let options = IngestOptions { read: ReadOptions::default(), on_error: OnError::Skip, ..IngestOptions::default() };
    let mut text = String::new();
    let mut reports = Vec::new();
    for log in &logs {
        let bench = bench_ingest(&Inputs::from(vec![Input::Path(log.clone())]), &options, &args.folder, &ctx)?;
        text += &table(log, &bench);
        let mut report = serde_json::to_value(&bench)?;
        report["log"] = json!(log);
        reports.push(report);
    }
    let report = json!({ "memory": ctx.memory(), "logs": reports });
    globals.print(&report, text.trim_end())
}

fn table(log: &Path, bench: &IngestBench) -> String {
    let mut text = format!(
        "{}: {} rows, {}, {} threads, {} of temporary files\n{:<34}{:>12}{:>12}\n",
        log.display(),
        grouped(bench.rows),
        ByteSize(bench.bytes),
        bench.threads,
        ByteSize(bench.peak_temp_bytes),
        "rows",
        "a second",
        "of limit",
    );
    for (name, rate) in [
        ("read and parse alone", bench.read_rows_per_second),
        ("+ scatter to temporary files", bench.scatter_rows_per_second),
        ("sort, merge, encode, write", bench.merge_rows_per_second),
        ("whole ingest", bench.rows_per_second),
        ("limit: copy of the same bytes", bench.copy_rows_per_second),
    ] {
        text += &format!("{name:<34}{:>12}{:>11.0}%\n", short(rate), 100.0 * rate / bench.copy_rows_per_second);
    }
    text + "\n"
}
