//! `peccary synth`: writes a synthetic log with planted preferences.

use std::path::{Path, PathBuf};
use std::time::Instant;

use peccary::{
    ByteSize, Context, PlantedModel, StorageError, SynthCompression, SynthConfig, SynthFormat, SynthSummary,
    TruthSample, save_synth, write_synth, write_truth,
};
use serde::Serialize;

use crate::common::{Globals, Usage};
use crate::numbers::{grouped, short};

const EXAMPLES: &str = "\
Columns: user, item, time (seconds since 1970), and weight and event where asked for. \
Rows come user by user, each user's by time. Equal flags give equal bytes, whatever the threads.

Examples:
  peccary synth --output clicks.csv
  peccary synth --users 5000000 --items 500000 --interactions 100000000 --output big.csv.zst
  peccary synth --events --repeats 0.2 --output shop.parquet
  peccary synth --output clicks.csv --truth truth.ndjson
  peccary synth --output - | head";

/// Write a synthetic log with planted preferences
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File to write, or - for standard output; .gz and .zst compress
    #[arg(long, short, value_name = "FILE|-")]
    output: PathBuf,
    /// File format [default: by the name of the output, else csv]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// Number of users
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().users)]
    users: u64,
    /// Number of items
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().items)]
    items: u64,
    /// Number of rows
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().interactions)]
    interactions: u64,
    /// Seed of all randomness
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().seed)]
    seed: u64,
    /// Exponent of the Zipf popularity of items; 0 makes all equally popular
    #[arg(long, value_name = "S", default_value_t = SynthConfig::default().zipf)]
    zipf: f64,
    /// Standard deviation of the logarithm of users' activity
    #[arg(long, value_name = "SIGMA", default_value_t = SynthConfig::default().activity)]
    activity: f64,
    /// Strength of the planted preferences; at 0 popularity alone decides
    #[arg(long, value_name = "BETA", default_value_t = SynthConfig::default().preference)]
    preference: f64,
    /// Share of each user's taste that is replaced over the period
    #[arg(long, value_name = "SHARE", default_value_t = SynthConfig::default().drift)]
    drift: f64,
    /// First moment of the period, in seconds since 1970
    #[arg(long, value_name = "SECONDS", default_value_t = SynthConfig::default().start)]
    start: i64,
    /// Length of the period in days
    #[arg(long, value_name = "N", default_value_t = SynthConfig::default().days)]
    days: u32,
    /// Share of rows that repeat an earlier interaction of the user
    #[arg(long, value_name = "SHARE", default_value_t = SynthConfig::default().repeats)]
    repeats: f64,
    /// Add a weight column: ratings of 1 to 5
    #[arg(long)]
    weights: bool,
    /// Add an event column: view, cart, purchase
    #[arg(long)]
    events: bool,
    /// Write ids as integers rather than as u17 and i4
    #[arg(long)]
    integer_ids: bool,
    /// Also write the planted ranking of a sample of users, as NDJSON
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Users in the truth file
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "truth")]
    truth_users: u64,
    /// Items for each user in the truth file
    #[arg(long, value_name = "N", default_value_t = 200, requires = "truth")]
    truth_items: usize,
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

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    #[serde(flatten)]
    summary: SynthSummary,
    seconds: f64,
    rows_per_second: f64,
    truth_users: Option<u64>,
    config: &'a SynthConfig,
}

impl Args {
    fn config(&self) -> SynthConfig {
        SynthConfig {
            users: self.users,
            items: self.items,
            interactions: self.interactions,
            seed: self.seed,
            zipf: self.zipf,
            activity: self.activity,
            preference: self.preference,
            drift: self.drift,
            start: self.start,
            days: self.days,
            repeats: self.repeats,
            weights: self.weights,
            events: self.events,
            integer_ids: self.integer_ids,
        }
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && globals.json {
        let text = "--json and --output - both claim standard output: write the log to a file";
        return Err(Usage(text.into()).into());
    }
    if args.truth.as_ref() == Some(&args.output) {
        return Err(Usage("--truth and --output name the same file: choose another name for one".into()).into());
    }
    // Both files are looked for before either is written, so that a long run does not end in a refusal.
    let in_the_way = args.truth.as_ref().filter(|path| !args.force && path.symlink_metadata().is_ok());
    if let Some(path) = in_the_way {
        return Err(StorageError::Exists { path: path.clone() }.into());
    }
    let ctx = globals.context();
    let begun = Instant::now();
    let config = args.config();
    let model = PlantedModel::new(&config, &ctx)?;
    let summary = write(&args, &model, to_stdout, &ctx)?;
    let truth_users = match &args.truth {
        Some(path) => {
            let sample = TruthSample { users: args.truth_users, items: args.truth_items };
            Some(write_truth(&model, sample, path, args.force, &ctx)?)
        }
        None => None,
    };
    let seconds = begun.elapsed().as_secs_f64();
    let rows_per_second = summary.rows as f64 / seconds;
    let text = format!(
        "{}: {} rows, {} users, {} items, {} in {seconds:.1} s, {} rows/s",
        if to_stdout { "standard output".into() } else { args.output.display().to_string() },
        grouped(summary.rows),
        grouped(summary.users),
        grouped(summary.items),
        ByteSize(summary.bytes),
        short(rows_per_second),
    );
    if to_stdout {
        ctx.message(&text);
        return Ok(());
    }
    let report = Report { output: &args.output, summary, seconds, rows_per_second, truth_users, config: &config };
    globals.print(&report, text)
}

fn write(args: &Args, model: &PlantedModel, to_stdout: bool, ctx: &Context) -> anyhow::Result<SynthSummary> {
    let named = args.format.map(SynthFormat::from).or_else(|| SynthFormat::of_path(&args.output));
    let format = named.unwrap_or(SynthFormat::Csv);
    Ok(if to_stdout {
        write_synth(model, format, SynthCompression::None, &mut std::io::stdout(), ctx)?
    } else {
        save_synth(model, format, &args.output, args.force, ctx)?
    })
}
