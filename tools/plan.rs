//! `peccary plan`: what an ingest or a training run will take, before it starts.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peccary::{
    ByteSize, Context, Dataset, IngestPlan, Input, Inputs, Rehearsal, Schedule, TablePlace, TrainConfig, TrainCounts,
    TrainError, TrainPlan, free_disk, plan_ingest, plan_train, rehearse_train,
};
use serde::Serialize;

use crate::common::{Globals, Usage};
use crate::ingest::Reading;
use crate::numbers::{duration, grouped, short};
use crate::settings::{Settings, Validating};

const EXAMPLES: &str = "\
Of a dataset: the memory that training will take and how it keeps to --memory, what it reads and writes, and how long it \
takes. The run itself is begun and broken off after two seconds; nothing is left behind. Of logs: what ingest will take, \
and then training. The whole log is counted once, and its first 2,000,000 rows are ingested to see how fast that is; \
users, items and interactions are estimates within 2 %, and rare users and items are not dropped. What cannot hold is \
refused, with the least --memory that would do.

Examples:
  peccary plan clicks.pec
  peccary plan clicks.pec --config run.toml --memory 512MiB
  peccary plan clicks.csv.gz --dim 128 --epochs 10 --output /big/disk/clicks.pec
  peccary plan clicks.pec --json";

/// Say what a run will take before it starts
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true)]
pub struct Args {
    /// A dataset, or the logs that it would be made of
    #[arg(required = true, value_name = "DATASET|LOG")]
    inputs: Vec<PathBuf>,
    /// Where the dataset or model will be written [default: beside the input]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    validating: Validating,
    #[command(flatten, next_help_heading = "Reading a log")]
    reading: Reading,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    ingest: Option<IngestPlan>,
    train: TrainPlan,
    /// Seen on the dataset, or on a sample of the log.
    rehearsal: Option<Rehearsal>,
    /// Checking every byte of the dataset when it is opened; unknown before there is one.
    open_seconds: Option<f64>,
    /// The whole command that trains.
    train_seconds: Option<f64>,
    /// What is free where the output will be, if the system says so.
    disk_free: Option<ByteSize>,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let mut config = args.settings.config()?;
    args.validating.add_to(&mut config);
    let ctx = globals.context();
    let dataset = args.inputs.iter().find(|path| path.join("manifest.json").exists());
    let folder = match (&args.output, &args.inputs[0]) {
        (Some(output), _) => beside(output),
        (None, input) => beside(input),
    };
    let report = match dataset {
        Some(path) if args.inputs.len() == 1 => of_dataset(path, &config, folder, &ctx)?,
        Some(path) => {
            let text = format!("{} is a dataset: plan it alone, or give logs alone", path.display());
            return Err(Usage(text).into());
        }
        None => {
            let inputs = Inputs::from(args.inputs.iter().cloned().map(input).collect::<Vec<_>>());
            of_log(&inputs, args.reading, &config, folder, &ctx)?
        }
    };
    let text = text(&report, &config);
    globals.print(&report, text)
}

fn input(path: PathBuf) -> Input {
    if path.as_os_str() == "-" { Input::Stdin } else { Input::Path(path) }
}

/// The folder that `path` is in.
fn beside(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn of_dataset(path: &Path, config: &TrainConfig, folder: &Path, ctx: &Context) -> anyhow::Result<Report> {
    let began = Instant::now();
    let dataset = Dataset::open(path)?;
    let open = began.elapsed().as_secs_f64();
    let train = plan_train(&dataset, config, ctx)?;
    let rehearsal = rehearsed(rehearse_train(&dataset, config, folder, ctx), ctx)?;
    Ok(Report {
        ingest: None,
        train,
        rehearsal,
        open_seconds: Some(open),
        train_seconds: rehearsal.map(|seen| open + seen.seconds()),
        disk_free: free_disk(folder),
    })
}

/// What was seen; on a full disk nothing, which is said.
fn rehearsed(seen: Result<Rehearsal, TrainError>, ctx: &Context) -> Result<Option<Rehearsal>, TrainError> {
    match seen {
        Err(error) if error.is_full() => {
            ctx.message(&format!("not timed: {error}"));
            Ok(None)
        }
        seen => seen.map(Some),
    }
}

fn of_log(
    inputs: &Inputs,
    reading: Reading,
    config: &TrainConfig,
    folder: &Path,
    ctx: &Context,
) -> anyhow::Result<Report> {
    // The sample has no valid part; how long validation takes is not looked at.
    let mut rehearsed_as = TrainConfig { validation: None, ..config.clone() };
    if rehearsed_as.optimizer.schedule == Schedule::Plateau {
        rehearsed_as.optimizer.schedule = Schedule::Constant;
    }
    let (ingest, seen) = plan_ingest(inputs, &reading.options(), folder, ctx, |sample| -> anyhow::Result<_> {
        let quiet = Context::new(ctx.threads(), ctx.memory());
        Ok(rehearsed(rehearse_train(&Dataset::open(sample)?, &rehearsed_as, folder, &quiet), ctx)?)
    })?;
    let survey = ingest.survey;
    let counts = TrainCounts { users: survey.users, items: survey.items, interactions: survey.interactions };
    let train = TrainPlan::new(counts, config, ctx).context("the log can be ingested, but not trained on like this")?;
    // The sample's rate, for all interactions. Its tables were smaller, so that this is a lower bound of the time.
    let rehearsal = seen.transpose()?.flatten().map(|seen| {
        let triples = survey.interactions as f64 * config.negatives() as f64;
        let epoch_seconds = triples / seen.triples_per_second.max(1.0);
        Rehearsal { epoch_seconds, training_seconds: epoch_seconds * f64::from(config.epochs), ..seen }
    });
    Ok(Report {
        ingest: Some(ingest),
        train,
        rehearsal,
        open_seconds: None,
        train_seconds: None,
        disk_free: free_disk(folder),
    })
}

fn text(report: &Report, config: &TrainConfig) -> String {
    let time = |seconds: f64| match seconds {
        short if short < 60.0 => format!("{short:.1} s"),
        long => duration(Duration::from_secs_f64(long)),
    };
    let mut lines = Vec::new();
    let mut line = |name: &str, text: String| lines.push(format!("{name:<10}{text}"));
    let train = &report.train;
    if let Some(ingest) = &report.ingest {
        let survey = ingest.survey;
        line(
            "log",
            format!(
                "{} rows, {} that cannot be used; about {} users, {} items, {} interactions (counted in {})",
                grouped(survey.rows),
                grouped(survey.rejected),
                grouped(survey.users),
                grouped(survey.items),
                grouped(survey.interactions),
                time(survey.seconds),
            ),
        );
        line("ingest", format!("memory at most {}, temporary files {}", ingest.memory, ingest.temporary));
        line("", format!("dataset about {}", ingest.dataset));
        if let Some(seconds) = ingest.seconds {
            line("", format!("about {}, by its first rows", time(seconds)));
        }
    } else {
        let TrainCounts { users, items, interactions } = train.counts;
        let counts = [users, items, interactions].map(grouped);
        line("dataset", format!("{} users, {} items, {} train interactions", counts[0], counts[1], counts[2]));
    }
    line("train", format!("memory {} of {}: {}", train.memory, train.budget, place(train)));
    if let Some(validation) = train.validation {
        let place = if validation.best_in_file { "in a file" } else { "in memory" };
        line(
            "",
            format!("validation: {} for ranking, the best factors {place}, {}", validation.ranking, validation.best),
        );
    }
    line(
        "",
        format!(
            "windows of {} interactions, blocks of {} items",
            grouped(train.window),
            grouped(train.block_items.into())
        ),
    );
    line("disk", format!("model {}{}", train.model, files(train)));
    if let Some(checkpoint) = train.checkpoint {
        let how = match checkpoint.copy {
            ByteSize(0) => "training waits while they are written".to_string(),
            copy => format!("written beside training from a copy of {copy} in memory"),
        };
        line("", format!("checkpoints {}, {how}", checkpoint.files));
    }
    if let Some(free) = report.disk_free {
        let needed = ByteSize(train.least_disk().0 + train.checkpoint.map_or(0, |checkpoint| checkpoint.files.0));
        let short = if free < needed { ": too little" } else { "" };
        line("", format!("{needed} in all, {free} free{short}"));
    }
    line("reading", format!("{} an epoch, {}", train.epoch_read, cache(train)));
    if train.epoch_tables.0 > 0 {
        line("", format!("and {} of tables, read and written", train.epoch_tables));
    }
    if let Some(seen) = report.rehearsal {
        let from = if report.ingest.is_some() { "by a sample: at least" } else { "about" };
        let rate = short(seen.triples_per_second);
        line("time", format!("{from} {} an epoch, at {rate} triples/s", time(seen.epoch_seconds)));
        line("", format!("{} for {} epochs", time(seen.training_seconds), config.epochs));
        if let Some(all) = report.train_seconds {
            line("", format!("{} with opening, filling the tables and writing the model", time(all)));
        }
    }
    lines.join("\n")
}

fn place(train: &TrainPlan) -> String {
    let [users, items] = [train.user_table, train.item_table];
    match train.tables {
        TablePlace::Memory => format!("tables in memory, {} of users, {} of items", users, items),
        TablePlace::UsersInFile => {
            format!("items in memory, {items}; users in a file, {users}, {} of it resident", train.user_rows)
        }
        TablePlace::BothInFiles => format!("both tables in files, {users} of users, {items} of items"),
    }
}

fn files(train: &TrainPlan) -> String {
    match train.table_files {
        ByteSize(0) => String::new(),
        files => format!(", and {files} of tables until the run ends"),
    }
}

fn cache(train: &TrainPlan) -> &'static str {
    if train.releases_cache { "from the disk each time" } else { "from the page cache after the first" }
}
