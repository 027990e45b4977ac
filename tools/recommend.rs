//! `peccary recommend`: the best items for some users, or for all.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use peccary::{
    Context, Dataset, FoldInOptions, Model, RecommendError, RecommendFormat, RecommendOptions, RecommendSummary,
    RecommendUsers, fold_in, recommend, save_recommendations, write_recommendations,
};
use serde::Serialize;
use serde_json::json;

use crate::common::{Globals, Usage};
use crate::numbers::{counted, grouped};
use crate::printable::{ToTerminal, one_line};

const EXAMPLES: &str = "\
Items of the user's train and valid interactions are left out; those of test are not. Users without train interactions, or \
with none but what was appended since, are skipped by --all, never drawn by --users and refused by --user: the model has \
learnt nothing of them.

A user who was not trained, or has taken more since, is recommended to from a history of items: a row is learnt on the \
spot by the model's own loss, items frozen. That needs no dataset and changes nothing. Items of the history are left out.

Examples:
  peccary recommend clicks.model clicks.pec --user u17 --user u4
  peccary recommend clicks.model clicks.pec --all --k 20 --output top.parquet
  peccary recommend clicks.model clicks.pec --users 1000 --seed 7 --output sample.csv
  peccary recommend clicks.model clicks.pec --all | head
  peccary recommend clicks.model --history i4,i99,i7 --k 5
  peccary recommend clicks.model --history-file basket.txt --ignore-unknown --json
  cut -d, -f2 basket.csv | peccary recommend clicks.model@2 --history-file -";

/// Flags that give a history.
const HISTORIES: [&str; 2] = ["history", "history_file"];

/// Recommend items to users
#[derive(clap::Args)]
#[command(
    after_help = EXAMPLES,
    group = clap::ArgGroup::new("histories").args(HISTORIES),
    group = clap::ArgGroup::new("whom").args(["user", "users", "all", "history", "history_file"]).required(true)
)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// The dataset that it was trained on, appended to since or not; a history needs none
    #[arg(required_unless_present_any = HISTORIES, conflicts_with_all = HISTORIES)]
    dataset: Option<PathBuf>,
    /// Original ids of users
    #[arg(long, value_name = "ID")]
    user: Vec<String>,
    /// A random sample of that many users with train interactions
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// Seed of the sample of users
    #[arg(long, value_name = "N", default_value_t = 42, requires = "users", conflicts_with_all = ["user", "all"])]
    seed: u64,
    /// All users with train interactions, in the order of the dataset
    #[arg(long)]
    all: bool,
    /// Original ids of the items that a user who was not trained has taken
    #[arg(long, value_name = "ITEM,…", value_delimiter = ',')]
    history: Option<Vec<String>>,
    /// File with such a history, an id a line, or - for standard input
    #[arg(long, value_name = "FILE|-")]
    history_file: Option<PathBuf>,
    /// Leave out items of the history that the model does not know
    #[arg(long, requires = "histories")]
    ignore_unknown: bool,
    /// Items for each user
    #[arg(long, value_name = "K", default_value_t = RecommendOptions::default().k,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    k: usize,
    /// File to write, or - for standard output
    #[arg(long, short, value_name = "FILE|-", default_value = "-", conflicts_with_all = HISTORIES)]
    output: PathBuf,
    /// ndjson, csv or parquet [default: by the name of the output, else ndjson]
    #[arg(long, conflicts_with_all = HISTORIES)]
    format: Option<RecommendFormat>,
    /// Replace the output if it exists
    #[arg(long, conflicts_with_all = HISTORIES)]
    force: bool,
    /// Recommend what the user has interacted with already, too
    #[arg(long)]
    include_seen: bool,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let to_stdout = args.output == Path::new("-");
    if to_stdout && globals.json && args.all {
        let text = "--json and --output - both claim standard output: write the recommendations to a file";
        return Err(Usage(text.into()).into());
    }
    let as_json = to_stdout && globals.json;
    if as_json && args.format.is_some() {
        let text = "--json and --format both say what standard output holds: leave one out, or add --output FILE";
        return Err(Usage(text.into()).into());
    }
    let ctx = globals.context();
    let begun = Instant::now();
    let model = Model::open_named(&args.model)?;
    let Some(dataset) = &args.dataset else { return from_history(&args, &model, globals, &ctx) };
    let dataset = Dataset::open(dataset)?;
    let options = RecommendOptions { k: args.k, include_seen: args.include_seen };
    let as_table = to_stdout && !args.all && args.format.is_none() && io::stdout().is_terminal();
    let users = match args.users {
        Some(users) => RecommendUsers::Sample { users: users as usize, seed: args.seed },
        None if args.all => RecommendUsers::All,
        None => RecommendUsers::Ids(args.user),
    };
    if as_json {
        return print_json(&model, &dataset, &users, options, &ctx);
    }
    if as_table {
        return print_table(&model, &dataset, &users, options, &ctx);
    }
    let format = match args.format.or_else(|| RecommendFormat::of_path(&args.output)) {
        Some(format) => format,
        None if to_stdout => RecommendFormat::default(),
        None => {
            let name = args.output.display();
            let text =
                format!("{name}: its name tells no format; end it in .ndjson, .csv or .parquet, or pass --format");
            return Err(Usage(text).into());
        }
    };
    if to_stdout {
        // Not locked: a writer has to be able to move between threads.
        let mut out: Box<dyn Write + Send> = match io::stdout().is_terminal() && format != RecommendFormat::Parquet {
            true => Box::new(BufWriter::new(ToTerminal(io::stdout()))),
            false => Box::new(BufWriter::new(io::stdout())),
        };
        let summary = write_recommendations(&model, &dataset, &users, options, format, &mut out, &ctx)?;
        ctx.message(&said("standard output", summary, begun));
        return Ok(());
    }
    let summary = save_recommendations(&model, &dataset, &users, options, format, &args.output, args.force, &ctx)?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = json!({
        "output": args.output,
        "users": summary.users,
        "recommendations": summary.recommendations,
        "cold_users": summary.cold_users,
        "later_users": summary.later_users,
        "seconds": seconds,
    });
    globals.print(&report, said(&args.output.display().to_string(), summary, begun))
}

/// A recommended item; scores have the digits of a single float.
#[derive(Serialize)]
struct Scored<'a> {
    item: &'a str,
    score: f32,
}

/// What is printed of who has a history.
#[derive(Serialize)]
struct FoldedIn<'a> {
    items: Vec<Scored<'a>>,
    history: Vec<&'a str>,
    unknown: &'a [String],
    milliseconds: f64,
}

/// The items for who has a history.
fn from_history(args: &Args, model: &Model, globals: &Globals, ctx: &Context) -> anyhow::Result<()> {
    let history = match (&args.history, &args.history_file) {
        (Some(history), _) => history.clone(),
        (None, Some(file)) => lines_of(file)?,
        (None, None) => Vec::new(),
    };
    // An empty name, as of `--history i4,`, is none.
    let given = &history;
    let history: Vec<&str> = given.iter().map(String::as_str).filter(|id| !id.is_empty()).collect();
    let Args { k, include_seen, ignore_unknown, .. } = *args;
    let options = FoldInOptions { k, include_seen, ignore_unknown, ..FoldInOptions::default() };
    let found =
        fold_in(model, &history, &options, ctx).map_err(|error| located(error, args.history_file.as_deref(), given))?;
    if !found.unknown.is_empty() {
        ctx.message(&format!("{} items of the history are not known to the model", found.unknown.len()));
    }
    let named = |item: u32| model.item_ids().id(item).unwrap_or_default();
    let report = FoldedIn {
        items: found.items.iter().map(|(item, score)| Scored { item: named(*item), score: *score }).collect(),
        history: found.history.iter().map(|item| named(*item)).collect(),
        unknown: &found.unknown,
        milliseconds: (found.row_seconds + found.rank_seconds) * 1e3,
    };
    // As users of the dataset are printed: a table for people, an object a line for programs.
    if globals.json || !io::stdout().is_terminal() {
        return Ok(writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?);
    }
    let lines = (1..).zip(&found.items);
    let lines = lines.map(|(rank, (item, score))| format!("{rank:>4}  {score:>9.4}  {}", one_line(named(*item))));
    globals.print(&report, lines.collect::<Vec<_>>().join("\n"))
}

/// The error with the place of the first item that is not known, where the history is the `lines` of a file.
fn located(error: RecommendError, file: Option<&Path>, lines: &[String]) -> anyhow::Error {
    let (RecommendError::UnknownHistory { items, .. }, Some(file)) = (&error, file) else { return error.into() };
    let first = items.first().and_then(|(id, _)| lines.iter().position(|line| line == id));
    let Some(at) = first else { return error.into() };
    let name = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    anyhow::Error::from(error).context(format!("{name}: line {}", at + 1))
}

/// The lines of a file, or of standard input, without their ends.
fn lines_of(file: &Path) -> anyhow::Result<Vec<String>> {
    let (read, name) = match file == Path::new("-") {
        true => (io::read_to_string(io::stdin()), "standard input".to_string()),
        false => (std::fs::read_to_string(file), file.display().to_string()),
    };
    let text = read.with_context(|| format!("{name}: cannot read the history; give a text file, an item a line"))?;
    Ok(text.lines().map(str::to_string).collect())
}

/// One JSON object, written as it comes: the output may be larger than the memory budget.
fn print_json(
    model: &Model,
    dataset: &Dataset,
    users: &RecommendUsers,
    options: RecommendOptions,
    ctx: &Context,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut before = "{\"by_user\":[";
    let summary = recommend(model, dataset, users, options, ctx, |r| {
        let user = serde_json::Value::from(dataset.users().id(r.user).unwrap_or_default());
        write!(out, "{before}{{\"user\":{user},\"items\":[")?;
        before = ",";
        for (at, (item, score)) in r.items.iter().enumerate() {
            let item = Scored { item: dataset.items().id(*item).unwrap_or_default(), score: *score };
            write!(
                out,
                "{}{}",
                if at == 0 { "" } else { "," },
                serde_json::to_string(&item).map_err(io::Error::from)?
            )?;
        }
        Ok(out.write_all(b"]}")?)
    })?;
    if summary.users == 0 {
        write!(out, "{before}")?;
    }
    writeln!(out, "],\"users\":{},\"recommendations\":{}}}", summary.users, summary.recommendations)?;
    Ok(out.flush()?)
}

/// Each user's items in lines below the user's id.
fn print_table(
    model: &Model,
    dataset: &Dataset,
    users: &RecommendUsers,
    options: RecommendOptions,
    ctx: &Context,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut before = "";
    recommend(model, dataset, users, options, ctx, |r| {
        writeln!(out, "{before}{}", one_line(dataset.users().id(r.user).unwrap_or_default()))?;
        before = "\n";
        for (rank, (item, score)) in (1..).zip(&r.items) {
            writeln!(out, "{rank:>4}  {score:>9.4}  {}", one_line(dataset.items().id(*item).unwrap_or_default()))?;
        }
        Ok(())
    })?;
    Ok(out.flush()?)
}

fn said(output: &str, summary: RecommendSummary, begun: Instant) -> String {
    let mut text = format!(
        "{output}: {} recommendations for {} users in {:.1} s",
        grouped(summary.recommendations),
        grouped(summary.users),
        begun.elapsed().as_secs_f64(),
    );
    if summary.cold_users > 0 {
        text += &format!("; {} without train interactions left out", counted(summary.cold_users, "user"));
    }
    if summary.later_users > 0 {
        text += &format!("; {} left out who came after the model", counted(summary.later_users, "user"));
    }
    text
}
