//! `peccary ingest`: turns logs into a dataset.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peccary::{
    AppendSummary, ByteSize, Column, Delimiter, Format, IngestOptions, IngestRun, IngestSummary, Input, Inputs,
    Leftover, OnError, ReadOptions, Split, TimeUnit,
};
use serde::Serialize;

use crate::common::Globals;
use crate::numbers::{counted, grouped, short};

const EXAMPLES: &str = "\
Inputs are CSV, TSV, NDJSON or Parquet; text may be compressed by gzip or zstd. Columns are found by their names in the \
header (user_id, movieId, timestamp, ...), else users are column 1 and items column 2; weights and events are read only \
when named. Rows of the same user and item become one interaction with a count and the last time. \
At least 64MiB of --memory are needed. Until it is done, an ingest works in the folder OUTPUT.partial, which takes about \
as much as the log uncompressed. What was read is made durable there every --checkpoint seconds: after Ctrl-C, a crash or \
a full disk, the same command with --resume goes on from there.

--append reads more logs into a dataset that is there, as its first ones were read unless flags say otherwise. Rows of a pair \
that is there are merged into it, new users and items get ids at the end, and all others keep theirs; new pairs are train \
unless --split, --valid-split, --valid or --test hold some out. Who reads the dataset meanwhile is not disturbed.

Examples:
  peccary ingest --output clicks.pec clicks.csv
  peccary ingest --output ml.pec ml-1m/ratings.dat --weight-column 3 --time-column 4 --min-weight 4
  peccary ingest --output shop.pec logs/ --event-column event --keep-events cart,purchase
  peccary ingest --output feed.pec feed.parquet --event-column event --exposure-events impression,shown
  peccary ingest --output feed.pec feed.parquet --context device,category
  peccary ingest --output big.pec big.csv.zst --memory 1GiB --split time:0.1 --valid-split time:0.1
  peccary ingest --output big.pec big.csv.zst --memory 2GiB --resume
  peccary ingest --output g.pec train.tsv.gz --test test.tsv.gz
  peccary ingest --append clicks.pec monday.csv tuesday.csv
  peccary ingest --append big.pec week.csv.zst --split time:2024-02-01
  zcat log.gz | peccary ingest --output log.pec - --on-error skip";

/// Turn logs into a dataset
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files, folders, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<Input>,
    /// Dataset to write: a folder
    #[arg(long, short, value_name = "DATASET", required_unless_present = "append")]
    output: Option<PathBuf>,
    /// Dataset to append the rows to
    #[arg(long, value_name = "DATASET", conflicts_with_all = ["output", "force"])]
    append: Option<PathBuf>,
    /// Replace the output if it is there already
    #[arg(long)]
    force: bool,
    /// Go on with an ingest to this output that was interrupted; all else as it was
    #[arg(long, conflicts_with = "restart")]
    resume: bool,
    /// Remove what an interrupted ingest to this output left, and begin anew
    #[arg(long)]
    restart: bool,
    /// Seconds of reading after which it is made durable, to be resumed from there; 0 is after every block
    #[arg(long, value_name = "SECONDS", default_value_t = IngestRun::CHECKPOINT.as_secs_f64(), value_parser = seconds)]
    checkpoint: f64,
    #[command(flatten)]
    reading: Reading,
    /// Drop users with fewer items, until nothing changes
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "append")]
    min_user_count: u32,
    /// Drop items with fewer users, until nothing changes
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "append")]
    min_item_count: u32,
    /// Hold out for test: none, leave-one-out, random:0.1, time:0.1 or time:2024-01-01
    #[arg(long, value_name = "SPLIT", default_value_t = Split::None)]
    split: Split,
    /// Hold out of the rest for validation, likewise
    #[arg(long, value_name = "SPLIT", default_value_t = Split::None)]
    valid_split: Split,
    /// Ready-made validation part
    #[arg(long, value_name = "FILE")]
    valid: Vec<Input>,
    /// Ready-made test part
    #[arg(long, value_name = "FILE")]
    test: Vec<Input>,
    /// At rows that cannot be used: fail, or skip them
    #[arg(long, value_enum, default_value_t = AtError::Fail)]
    on_error: AtError,
    /// Where skipped rows go, as NDJSON [default: OUTPUT.rejects.ndjson, or DATASET.append-N.rejects.ndjson]
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Seed of random splits and ties [default: 0, or as it was]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seed of the hash that orders users and items [default: 0]
    #[arg(long, value_name = "N", conflicts_with = "append")]
    hash_seed: Option<u64>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| Duration::try_from_secs_f64(*s).is_ok());
    seconds.ok_or_else(|| format!("'{text}' is not a number of seconds; write one such as 30"))
}

/// The flags that say how a log is read.
#[derive(clap::Args)]
pub struct Reading {
    /// csv, tsv, ndjson or parquet [default: by extension and content]
    #[arg(long)]
    format: Option<Format>,
    /// Delimiter, such as ',', tab or :: [default: by format and content]
    #[arg(long, value_name = "TEXT")]
    delimiter: Option<Delimiter>,
    /// The first line names the columns [default: found out by its words]
    #[arg(long, conflicts_with = "no_header")]
    header: bool,
    /// The first line is a row
    #[arg(long)]
    no_header: bool,
    /// Quotes are part of the fields
    #[arg(long)]
    no_quotes: bool,
    /// Column of user ids: a name, or a position from 1 on
    #[arg(long, value_name = "COLUMN")]
    user_column: Option<Column>,
    /// Column of item ids
    #[arg(long, value_name = "COLUMN")]
    item_column: Option<Column>,
    /// Column of times [default: by known names, else none]
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<Column>,
    /// auto, seconds, milliseconds or rfc3339 [default: auto]
    #[arg(long, value_name = "UNIT")]
    time_unit: Option<TimeUnit>,
    /// Column of weights, such as ratings [default: none]
    #[arg(long, value_name = "COLUMN")]
    weight_column: Option<Column>,
    /// Column of event types [default: none]
    #[arg(long, value_name = "COLUMN")]
    event_column: Option<Column>,
    /// Drop rows with a smaller weight
    #[arg(long, value_name = "WEIGHT", requires = "weight_column")]
    min_weight: Option<f32>,
    /// Keep rows with these event types only
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', requires = "event_column")]
    keep_events: Vec<String>,
    /// Rows with these event types are exposures, shown and not taken: no positives, but kept as a list for each user
    #[arg(long, value_name = "TYPE,...", value_delimiter = ',', requires = "event_column")]
    exposure_events: Vec<String>,
    /// Columns of context to keep, such as the device, for filters of negatives; at most 8
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    context: Vec<Column>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum AtError {
    Fail,
    Skip,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    #[serde(flatten)]
    summary: &'a IngestSummary,
}

/// What `--json` prints of an append.
#[derive(Serialize)]
struct Appended<'a> {
    dataset: &'a Path,
    #[serde(flatten)]
    summary: &'a AppendSummary,
}

impl Reading {
    /// The options that these flags make; all others are their defaults.
    pub fn options(self) -> IngestOptions {
        self.over(IngestOptions::default())
    }

    /// The options that these flags make; all others are those of `base`.
    fn over(self, base: IngestOptions) -> IngestOptions {
        let IngestOptions { read, min_weight, keep_events, exposure_events, .. } = base;
        let read = ReadOptions {
            format: self.format.or(read.format),
            delimiter: self.delimiter.or(read.delimiter),
            header: match (self.header, self.no_header) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => read.header,
            },
            quotes: read.quotes && !self.no_quotes,
            user: self.user_column.or(read.user),
            item: self.item_column.or(read.item),
            time: self.time_column.or(read.time),
            weight: self.weight_column.or(read.weight),
            event: self.event_column.or(read.event),
            context: given(self.context, read.context),
            time_unit: self.time_unit.unwrap_or(read.time_unit),
        };
        IngestOptions {
            read,
            min_weight: self.min_weight.or(min_weight),
            keep_events: given(self.keep_events, keep_events),
            exposure_events: given(self.exposure_events, exposure_events),
            ..base
        }
    }
}

/// What a flag lists, or else what was there.
fn given<T>(flag: Vec<T>, otherwise: Vec<T>) -> Vec<T> {
    if flag.is_empty() { otherwise } else { flag }
}

impl Args {
    fn into_parts(self, base: IngestOptions) -> (Inputs, IngestOptions, IngestRun) {
        let options = IngestOptions {
            min_user_count: self.min_user_count,
            min_item_count: self.min_item_count,
            split: self.split,
            valid_split: self.valid_split,
            on_error: match self.on_error {
                AtError::Fail => OnError::Fail,
                AtError::Skip => OnError::Skip,
            },
            rejects: self.rejects,
            seed: self.seed.unwrap_or(base.seed),
            hash_seed: self.hash_seed.unwrap_or(base.hash_seed),
            ..self.reading.over(base)
        };
        let leftover = match (self.resume, self.restart) {
            (true, _) => Leftover::Resume,
            (_, true) => Leftover::Restart,
            _ => Leftover::Refuse,
        };
        let checkpoint = Duration::from_secs_f64(self.checkpoint);
        let run = IngestRun { force: self.force, leftover, checkpoint };
        (Inputs { main: self.inputs, valid: self.valid, test: self.test }, options, run)
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    if let Some(dataset) = args.append.clone() {
        let (inputs, options, run) = args.into_parts(peccary::append_options(&dataset)?);
        let summary = peccary::append_ingest(&inputs, &options, &dataset, run, &globals.context())?;
        return globals.print(&Appended { dataset: &dataset, summary: &summary }, append_text(&dataset, &summary)?);
    }
    let output = args.output.clone().unwrap_or_default();
    let (inputs, options, run) = args.into_parts(IngestOptions::default());
    let summary = peccary::ingest(&inputs, &options, &output, run, &globals.context())?;
    globals.print(&Report { output: &output, summary: &summary }, text(&output, &summary)?)
}

fn append_text(dataset: &Path, summary: &AppendSummary) -> Result<String, std::fmt::Error> {
    let AppendSummary { change, users, items, parts, read, .. } = summary;
    let mut text = format!(
        "{}: {} added, {} merged into those that were there; {}, {}",
        dataset.display(),
        counted(change.interactions, "interaction"),
        grouped(change.merged),
        counted(change.users.into(), "new user"),
        counted(change.items.into(), "new item")
    );
    write!(text, "\nnow {}, {}", counted((*users).into(), "user"), counted((*items).into(), "item"))?;
    for (part, summary) in parts {
        write!(text, ", {} {}", grouped(summary.interactions), part.name())?;
    }
    write!(
        text,
        "\n{} read in {:.1} s, merged in {:.1} s",
        counted(read.counts.rows_read, "row"),
        read.seconds,
        summary.seconds - read.seconds
    )?;
    details(&mut text, read)?;
    Ok(text)
}

fn text(output: &Path, summary: &IngestSummary) -> Result<String, std::fmt::Error> {
    let IngestSummary { counts, users, items, parts, .. } = summary;
    let (users, items) = (counted((*users).into(), "user"), counted((*items).into(), "item"));
    let mut text = format!("{}: {users}, {items}", output.display());
    for (part, summary) in parts {
        write!(text, ", {} {}", grouped(summary.interactions), part.name())?;
    }
    if let Some(exposures) = &summary.exposures {
        write!(text, ", {} exposures", grouped(exposures.exposures))?;
    }
    if let Some(contexts) = &summary.contexts {
        write!(text, ", {} combinations of context", grouped(contexts.combinations.into()))?;
    }
    write!(
        text,
        "\n{} in {:.1} s, {} rows/s, {} of temporary files",
        counted(counts.rows_read, "row"),
        summary.seconds,
        short(summary.rows_per_second),
        ByteSize(summary.peak_temp_bytes)
    )?;
    details(&mut text, summary)?;
    Ok(text)
}

/// What became of rows that are not simply there.
fn details(text: &mut String, summary: &IngestSummary) -> std::fmt::Result {
    let counts = &summary.counts;
    let dropped = [
        (counts.filtered_by_event, "rows dropped by --keep-events"),
        (counts.filtered_by_weight, "rows dropped by --min-weight"),
        (counts.exposure_rows, "rows of exposures, shown and not taken"),
        (counts.merged, "repeated rows merged"),
        (counts.filtered_by_count, "interactions dropped as rare"),
        (counts.users_dropped, "users dropped as rare"),
        (counts.items_dropped, "items dropped as rare"),
        (counts.users_not_split, "users with too few interactions to leave one out"),
    ];
    for (count, what) in dropped.into_iter().filter(|(count, _)| *count > 0) {
        write!(text, "\n{} {what}", grouped(count))?;
    }
    if let Some(rejects) = &summary.rejects {
        write!(text, "\n{} rows rejected: {}", grouped(counts.rejected), rejects.display())?;
        for (reason, count) in &counts.rejected_by_reason {
            write!(text, "\n  {} {reason}", grouped(*count))?;
        }
    }
    for warning in &summary.warnings {
        write!(text, "\nwarning: {warning}")?;
    }
    Ok(())
}
