//! `peccary quickstart`: the whole way once, on a log made for it, with what it finds beside what was planted.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peccary::{
    Baseline, Dataset, EvaluateOptions, IngestOptions, Input, Inputs, Metrics, Model, Part, PlantedModel,
    RecommendOptions, RecommendUsers, Scorer, Split, SynthConfig, SynthFormat, TrainConfig, evaluate, ingest,
    recommend, save_synth, train,
};
use serde_json::json;

use crate::common::Globals;
use crate::numbers::{duration, grouped, short};

const EXAMPLES: &str = "\
Writes an example log with planted preferences, ingests it, holding out the last tenth of the time, trains a model with \
the defaults, and ranks the held-out interactions by the model, by popularity, at random, and by the planted preferences \
themselves: no model can be expected to do better than those.

Examples:
  peccary quickstart
  peccary quickstart --folder demo --force
  peccary quickstart --json | jq .metrics.model";

/// See the whole way on an example, in a few seconds
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder for the log, the dataset and the model
    #[arg(long, value_name = "FOLDER", default_value = "peccary-quickstart")]
    folder: PathBuf,
    /// Write them again if they are there
    #[arg(long)]
    force: bool,
}

/// Names of users that the quickstart shows.
const SHOWN: usize = 3;
const HISTORY: usize = 5;

/// Ranks by what was planted.
struct Planted<'a> {
    model: &'a PlantedModel,
    dataset: &'a Dataset,
    /// Planted item number of each dense item.
    numbers: Vec<u32>,
    /// The moment of the drifting taste, in seconds since 1970.
    time: Option<i64>,
}

impl<'a> Planted<'a> {
    fn new(model: &'a PlantedModel, dataset: &'a Dataset) -> anyhow::Result<Self> {
        let id = |item: u32| dataset.items().id(item).unwrap_or_default();
        let numbers = (0..dataset.items().len()).map(|item| model.item_number(id(item))).collect::<Result<_, _>>()?;
        let held_out = dataset.part(Part::Test).and_then(|part| part.summary().time_range);
        Ok(Self { model, dataset, numbers, time: held_out.map(|(first, last)| (first + last) / 2000) })
    }

    fn of(&self, user: u32) -> Vec<f64> {
        let id = self.dataset.users().id(user).unwrap_or_default();
        // Every user of the dataset is one of the log's.
        self.model.scores(id, self.time).unwrap_or_default()
    }
}

impl Scorer for Planted<'_> {
    fn users(&self) -> usize {
        self.dataset.users().len() as usize
    }

    fn items(&self) -> usize {
        self.numbers.len()
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        for (user, out) in users.iter().zip(out.chunks_mut(items.len())) {
            let scores = self.of(*user);
            for (item, out) in items.clone().zip(out) {
                *out = scores[self.numbers[item as usize] as usize] as f32;
            }
        }
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        let scores = self.of(user);
        for (item, out) in items.iter().zip(out) {
            *out = scores[self.numbers[*item as usize] as usize] as f32;
        }
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let begun = Instant::now();
    let Args { folder, force } = args;
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    let (log, data, trained) = (folder.join("clicks.csv"), folder.join("clicks.pec"), folder.join("clicks.model"));
    if let Some(path) = [&log, &data, &trained].into_iter().find(|path| !force && path.exists()) {
        anyhow::bail!("{}: exists already; pass --force to write it again, or --folder", path.display());
    }

    let planted = PlantedModel::new(&SynthConfig::default(), &ctx)?;
    let rows = save_synth(&planted, SynthFormat::Csv, &log, force, &ctx)?.rows;
    let split = Split::TimeFraction(0.1);
    let inputs = Inputs::from(vec![Input::Path(log.clone())]);
    ingest(&inputs, &IngestOptions { split, ..IngestOptions::default() }, &data, force, &ctx)?;
    let dataset = Dataset::open(&data)?;
    let (_, report) = train(&dataset, &TrainConfig::default(), &trained, force, &ctx)?;
    let model = Model::open(&trained)?;
    let baselines = vec![Baseline::Popularity, Baseline::Random];
    let options = EvaluateOptions { k: vec![10, 20], baselines, ..EvaluateOptions::accuracy() };
    let evaluation = evaluate(&model, &dataset, &options, &ctx)?;
    let best = Planted::new(&planted, &dataset)?;
    let best =
        evaluate(&best, &dataset, &EvaluateOptions { k: options.k, ..EvaluateOptions::accuracy() }, &ctx)?.metrics;
    let shown = samples(&model, &dataset, &ctx)?;

    let mut columns = vec![("model", &evaluation.metrics), ("planted", &best)];
    for baseline in [Baseline::Popularity, Baseline::Random] {
        columns.splice(0..0, evaluation.baselines.get(baseline).map(|metrics| (baseline.name(), metrics)));
    }
    let metrics: serde_json::Map<_, _> = columns
        .iter()
        .map(|(name, metrics)| Ok((name.to_string(), serde_json::to_value(metrics)?)))
        .collect::<Result<_, serde_json::Error>>()?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut text = format!(
        "{}: {} rows of {} users and {} items\n{}: {} to train on, {} held out (the last tenth of the time)\n\
         {}: {} epochs in {}, {} triples/s\n",
        log.display(),
        grouped(rows),
        grouped(dataset.users().len().into()),
        grouped(dataset.items().len().into()),
        data.display(),
        grouped(dataset.train().len()),
        grouped(dataset.part(Part::Test).map_or(0, |p| p.len())),
        trained.display(),
        report.epochs.len(),
        duration(Duration::from_secs_f64(report.seconds)),
        short(report.triples_per_second),
    );
    text += &table(&columns);
    text += "\nplanted ranks by the preferences that the log was drawn from: the best that can be expected.\n";
    for user in &shown {
        write!(
            text,
            "\n{}\n  took         {}\n  recommended  {}",
            user.id,
            user.history.join(" "),
            user.recommended.join(" ")
        )?;
    }
    text += &next(&log, &data, &trained, &shown[0].id);
    let shown: Vec<_> =
        shown.iter().map(|u| json!({ "user": u.id, "history": u.history, "recommended": u.recommended })).collect();
    let report = json!({
        "log": log, "dataset": data, "model": trained, "rows": rows, "metrics": metrics, "by_user": shown,
        "triples_per_second": report.triples_per_second, "seconds": seconds,
    });
    globals.print(&report, text)
}

/// A user as the quickstart shows them, by original ids.
struct Sample {
    id: String,
    history: Vec<String>,
    recommended: Vec<String>,
}

/// The first users with a few interactions: the latest of those, and what the model recommends.
fn samples(model: &Model, dataset: &Dataset, ctx: &peccary::Context) -> anyhow::Result<Vec<Sample>> {
    let name = |item: u32| dataset.items().id(item).unwrap_or_default().to_string();
    let users: Vec<u32> =
        (0..dataset.users().len()).filter(|u| dataset.train().user(*u).items.len() >= HISTORY).take(SHOWN).collect();
    let ids = users.iter().map(|u| dataset.users().id(*u).unwrap_or_default().to_string()).collect();
    let mut recommended = Vec::new();
    let options = RecommendOptions { k: HISTORY, ..RecommendOptions::default() };
    recommend(model, dataset, &RecommendUsers::Ids(ids), options, ctx, |r| {
        recommended.push((r.user, r.items.iter().map(|(item, _)| name(*item)).collect()));
        Ok(())
    })?;
    let sample = |(user, recommended): (u32, Vec<String>)| {
        let row = dataset.train().user(user);
        let mut latest: Vec<_> = row.times.iter().zip(row.items).map(|(t, i)| (t.to_native(), i.to_native())).collect();
        latest.sort_unstable_by(|a, b| b.cmp(a));
        Sample {
            id: dataset.users().id(user).unwrap_or_default().to_string(),
            history: latest.iter().take(HISTORY).map(|(_, item)| name(*item)).collect(),
            recommended,
        }
    };
    Ok(recommended.into_iter().map(sample).collect())
}

fn table(columns: &[(&str, &Metrics)]) -> String {
    let mut text = format!("\n{:<14}", "");
    for (name, _) in columns {
        text += &format!("{name:>12}");
    }
    for metric in ["recall@20", "ndcg@20", "hit_rate@20", "auc"] {
        text += &format!("\n{metric:<14}");
        for (_, metrics) in columns {
            text += &format!("{:>12.4}", metrics.get(metric).unwrap_or(f64::NAN));
        }
    }
    text + "\n"
}

/// What to try next, as commands to paste.
fn next(log: &Path, data: &Path, model: &Path, user: &str) -> String {
    let (log, data, model) = (log.display(), data.display(), model.display());
    format!(
        "\n\nNext, with this log or your own:\n  \
         peccary ingest {log} --split time:0.1 --output my.pec\n  \
         peccary train my.pec --output my.model --negatives 24 --epochs 60\n  \
         peccary evaluate my.model my.pec\n  \
         peccary recommend {model} {data} --user {user}\n  \
         peccary inspect {data}"
    )
}
