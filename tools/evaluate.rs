//! `peccary evaluate`: metrics of a model on held-out interactions, beside baselines, and slice by slice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use peccary::{
    Attributes, AttributesError, Baseline, CalibrationOptions, CalibrationReport, Context, Dataset, EvaluateError,
    EvaluateOptions, Evaluation, Metrics, Model, Part, Protocol, SliceBy, calibration, evaluate,
};

use serde::Serialize;

use crate::calibrate::write_report;
use crate::common::{Globals, Usage};
use crate::numbers::{counted, grouped};

const EXAMPLES: &str = "\
Every held-out item is ranked among the whole catalogue, without what the user has interacted with in train (and in \
valid, when test is evaluated). ± is half of the 95 % interval, by resampling users. docs/metrics.md defines each \
metric, baseline, protocol and slice.

Examples:
  peccary evaluate clicks.model clicks.pec
  peccary evaluate clicks.model clicks.pec --split valid --k 5,20,100 --baselines none
  peccary evaluate clicks.model clicks.pec --calibration
  peccary evaluate clicks.model clicks.pec --slices activity,popularity,time:4
  peccary evaluate clicks.model clicks.pec --slices device --baselines popularity,random
  peccary evaluate clicks.model clicks.pec --attributes items.csv.gz
  peccary evaluate clicks.model clicks.pec --protocol sampled:99 --k 10 --json
  peccary evaluate ml-1m.model ml-1m.pec --protocol list:ml-1m.test.negative --k 10";

/// Measure how well a model ranks held-out interactions, beside baselines
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// The dataset that it was trained on, appended to since or not
    dataset: PathBuf,
    #[command(flatten)]
    ranking: RankingArgs,
    /// What to measure beside the model: popularity, recent, item_knn, random; all or none
    #[arg(long, value_name = "NAME,…", default_value = "all")]
    baselines: Beside,
    /// Measure slices, too: by activity, popularity, time:N (windows), event or a column of context
    #[arg(long, value_name = "BY,…", value_delimiter = ',')]
    slices: Vec<SliceBy>,
    /// Measure slices by what this file says of items, too: delimited text with a header, a line an item, plain, gzip or
    /// zstd
    #[arg(long, value_name = "FILE")]
    attributes: Option<PathBuf>,
    /// Measure how the scores hold as probabilities, too: by the curve of `peccary calibrate`, if the model has one
    #[arg(long)]
    calibration: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    version: u32,
    dataset: &'a Path,
    dataset_fingerprint: &'a str,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<CalibrationReport>,
}

/// What is ranked, for whom and among what.
#[derive(clap::Args)]
pub struct RankingArgs {
    /// The held-out part
    #[arg(long, value_enum, default_value_t = Split::Test)]
    split: Split,
    /// Cut-offs of the ranking [default: 10,20, as far as there are that many items]
    #[arg(long, value_name = "K,…", value_delimiter = ',')]
    k: Vec<usize>,
    /// full: among the whole catalogue; sampled:N: each item among N negatives, sampled:N:popularity: popular ones;
    /// list:FILE: among those that a file lists
    #[arg(long, value_name = "PROTOCOL", default_value_t = Protocol::Full)]
    protocol: Protocol,
    /// Seed of ties, negatives, the sample of users and the random baseline
    #[arg(long, value_name = "N", default_value_t = EvaluateOptions::default().seed)]
    seed: u64,
    /// Evaluate a random sample of that many users [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    users: Option<u32>,
    /// Evaluate users without train interactions too, and those whose all came after the model
    #[arg(long)]
    include_cold: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Split {
    Valid,
    Test,
}

/// Baselines, as a flag names them.
#[derive(Clone)]
struct Beside(Vec<Baseline>);

impl std::str::FromStr for Beside {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(Baseline::ALL.to_vec())),
            "none" => Ok(Self(Vec::new())),
            names => names.split(',').map(str::parse).collect::<Result<_, _>>().map(Self),
        }
    }
}

impl RankingArgs {
    /// Accuracy, as these flags have it.
    pub fn options(self, dataset: &Dataset) -> EvaluateOptions {
        EvaluateOptions {
            part: match self.split {
                Split::Valid => Part::Valid,
                Split::Test => Part::Test,
            },
            k: if self.k.is_empty() { self.protocol.cut_offs(dataset) } else { self.k },
            protocol: self.protocol,
            seed: self.seed,
            users: self.users.map(|n| n as usize),
            include_cold: self.include_cold,
            ..EvaluateOptions::accuracy()
        }
    }
}

/// The error of an evaluation, as a mistake of the command line if it is one.
pub fn explain(error: EvaluateError) -> anyhow::Error {
    match error {
        EvaluateError::CutOff { .. } | EvaluateError::NoNegatives | EvaluateError::NoMetric { .. } => {
            Usage(error.to_string()).into()
        }
        other => other.into(),
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let model = Model::open_named(&args.model)?;
    let dataset = Dataset::open(&args.dataset)?;
    if args.calibration {
        model.check_unchanged(&dataset)?;
    }
    let options = EvaluateOptions {
        baselines: args.baselines.0,
        slices: args.slices,
        attributes: read_attributes(args.attributes.as_deref(), &dataset, &ctx)?,
        beyond_accuracy: true,
        intervals: true,
        ..args.ranking.options(&dataset)
    };
    let evaluation = evaluate(&model, &dataset, &options, &ctx).map_err(explain)?;
    let calibration = match args.calibration {
        true => {
            let kept = model.manifest().calibration.as_ref();
            let negatives = kept.map_or(CalibrationOptions::default().negatives, |kept| kept.negatives);
            let pairs = CalibrationOptions { part: options.part, negatives, seed: options.seed };
            Some(calibration(&model, &dataset, kept.map(|kept| &kept.curve), pairs, &ctx)?)
        }
        false => None,
    };
    let mut text = format!("{}, version {}\n", model.path().display(), model.version()) + &text(&evaluation);
    if let Some(report) = &calibration {
        text += "\n\n";
        write_report(&mut text, report)?;
    }
    let report = Report {
        model: model.path(),
        version: model.version(),
        dataset: dataset.path(),
        dataset_fingerprint: dataset.fingerprint(),
        evaluation: &evaluation,
        calibration,
    };
    globals.print(&report, text.trim_end())
}

/// The attributes of items in a file, if one is named.
pub fn read_attributes(
    path: Option<&Path>,
    dataset: &Dataset,
    ctx: &Context,
) -> Result<Option<Arc<Attributes>>, AttributesError> {
    path.map(|path| Attributes::read(path, dataset, ctx).map(Arc::new)).transpose()
}

/// The metrics, the model beside the baselines, under a line that says what was measured.
fn text(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{}, {}, {}, {} ranking, {:.2} s",
        counted(evaluation.users, "user"),
        counted(evaluation.interactions, &format!("{} interaction", evaluation.part.name())),
        counted(evaluation.items, "item"),
        evaluation.protocol,
        evaluation.seconds,
    );
    let mut add = |line: &str| {
        text.push('\n');
        text.push_str(line.trim_end());
    };
    if evaluation.cold_users > 0 {
        let what = if evaluation.include_cold { "included" } else { "left out" };
        add(&format!("{} users without train interactions {what}", grouped(evaluation.cold_users)));
    }
    if let Some(short) = evaluation.users_short_of_negatives.filter(|n| *n > 0) {
        add(&format!("{} users with fewer candidates than negatives asked for", grouped(short)));
    }
    evaluation.notes.iter().for_each(|note| add(note));
    add("");
    let half = |interval: Option<[f64; 2]>| {
        interval.map_or(String::new(), |[low, high]| format!("±{:.4}", (high - low) / 2.0))
    };
    let mut header = vec![String::new(), "model".into()];
    if evaluation.intervals.is_some() {
        header.push(String::new());
    }
    header.extend(evaluation.baselines.iter().map(|(baseline, _)| baseline.to_string()));
    let mut rows = vec![header];
    for (name, value) in evaluation.metrics.iter() {
        let mut row = vec![name.to_string(), number(value)];
        if let Some(intervals) = &evaluation.intervals {
            row.push(half(intervals.get(name)));
        }
        let of = |metrics: &Metrics| metrics.get(name).map_or("-".to_string(), number);
        row.extend(evaluation.baselines.iter().map(|(_, metrics)| of(metrics)));
        rows.push(row);
    }
    columns(&rows).iter().for_each(|line| add(line));
    let k = evaluation.k.iter().max().copied().unwrap_or_default();
    let shown = [format!("recall@{k}"), format!("ndcg@{k}")];
    for axis in evaluation.slices.chunk_by(|a, b| a.by == b.by) {
        add("");
        let mut rows = vec![vec![format!("by {}", axis[0].by), "users".into(), "held out".into()]];
        rows[0].extend(shown.iter().flat_map(|name| [name.clone(), String::new()]));
        for slice in axis {
            let mut row = vec![slice.slice.clone(), grouped(slice.users), grouped(slice.interactions)];
            for name in &shown {
                row.push(slice.metrics.get(name).map_or("-".into(), number));
                row.push(half(slice.intervals.as_ref().and_then(|intervals| intervals.get(name))));
            }
            rows.push(row);
        }
        columns(&rows).iter().for_each(|line| add(line));
    }
    text
}

/// Four digits behind the point, fewer for large numbers.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 { format!("{value:.4}") } else { format!("{value:.1}") }
}

/// Rows of cells as lines: the first column flush left, the others flush right, each as wide as need be.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(c, cell): (usize, &String)| match c {
            0 => format!("{cell:<0$}", widths[0]),
            _ => format!("  {cell:>0$}", widths[c]),
        };
        row.iter().enumerate().map(cell).collect::<String>()
    };
    rows.iter().map(line).collect()
}
