//! `peccary compare`: which of two models is better, by how much, or that it cannot be told.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use peccary::{
    Baseline, COMPARE_MARGIN, CompareOptions, ComparedMetric, Comparison, Context, Dataset, Model, Scorer, Verdict,
    compare,
};
use serde_json::json;

use crate::common::{Globals, Usage};
use crate::evaluate::{RankingArgs, columns, explain, number};
use crate::numbers::{counted, grouped};

const EXAMPLES: &str = "\
Both rank the same held-out items for the same users. A difference counts when the randomization test of the users' \
differences, corrected for the number of metrics (Holm), says at 95 % that it is larger than the margin: the seed of a \
training alone makes about one percent. docs/metrics.md has the details.

Instead of a model, name a baseline: popularity, recent, item_knn or random.

Examples:
  peccary compare new.model old.model clicks.pec
  peccary compare clicks.model popularity clicks.pec --k 10
  peccary compare clicks.model@2 clicks.model@1 clicks.pec --metrics ndcg,recall
  peccary compare new.model old.model clicks.pec --margin 0        # whether these two models differ at all
  peccary compare new.model old.model clicks.pec --split valid --users 10000 --json";

/// Tell which of two models is better on held-out interactions, by how much, or that it cannot be told
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The one model, or a baseline
    #[arg(value_name = "MODEL_A")]
    a: PathBuf,
    /// The other model, or a baseline
    #[arg(value_name = "MODEL_B")]
    b: PathBuf,
    /// The dataset that they were trained on, appended to since or not
    dataset: PathBuf,
    /// The share of the smaller mean that a difference must exceed; 0 asks whether there is any
    #[arg(long, value_name = "SHARE", default_value_t = COMPARE_MARGIN, value_parser = margin)]
    margin: f64,
    /// What counts, such as ndcg@20, or ndcg at each cut-off [default: all that is measured]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    metrics: Vec<String>,
    #[command(flatten)]
    ranking: RankingArgs,
}

fn margin(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a share from 0 to 1, such as 0.01".to_string())
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let names = [&args.a, &args.b].map(|path| path.display().to_string());
    let same = || {
        let both = names.join(" and ");
        Usage(format!("{both} are the same; name two models, or two versions of one: MODEL@N"))
    };
    if names[0] == names[1] {
        return Err(same().into());
    }
    let ctx = globals.context();
    let dataset = Dataset::open(&args.dataset)?;
    let options = args.ranking.options(&dataset);
    let (a, version_of_a) = scorer(&args.a, &dataset, options.seed, &ctx)?;
    let (b, version_of_b) = scorer(&args.b, &dataset, options.seed, &ctx)?;
    if version_of_a.is_some() && version_of_a == version_of_b {
        return Err(same().into());
    }
    let counts = CompareOptions { margin: args.margin, metrics: args.metrics };
    let comparison = compare(&*a, &*b, &dataset, &options, &counts, &ctx).map_err(explain)?;
    let mut report = serde_json::to_value(&comparison)?;
    report["a"] = names[0].as_str().into();
    report["b"] = names[1].as_str().into();
    report["versions"] = json!([version_of_a, version_of_b].map(|of| of.map(|(_, number)| number)));
    report["dataset"] = json!(dataset.path());
    report["dataset_fingerprint"] = dataset.fingerprint().into();
    report["summary"] = summary(&comparison, &names).into();
    globals.print(&report, text(&comparison, &names))
}

/// Which version of which model.
type Version = (PathBuf, u32);

/// The model at `path`, and which it is; where there is nothing, the baseline of that name.
fn scorer<'a>(
    path: &Path,
    dataset: &'a Dataset,
    seed: u64,
    ctx: &Context,
) -> anyhow::Result<(Box<dyn Scorer + 'a>, Option<Version>)> {
    if !path.exists()
        && let Some(name) = path.to_str()
        && let Ok(baseline) = name.parse::<Baseline>()
    {
        return Ok((baseline.scorer(dataset, seed, ctx)?, None));
    }
    let model = Model::open_named(path);
    let missing = !path.exists();
    let model = if missing {
        model.context("neither a model nor a baseline (popularity, recent, item_knn, random)")
    } else {
        Ok(model?)
    };
    let model = model?;
    let version = model.path().canonicalize().ok().map(|path| (path, model.version()));
    Ok((Box::new(model), version))
}

/// What was found, in a sentence.
fn summary(comparison: &Comparison, [a, b]: &[String; 2]) -> String {
    let told = |verdict: Verdict| comparison.metrics.iter().filter(move |m| m.verdict == verdict).collect::<Vec<_>>();
    let list = |metrics: &[&ComparedMetric]| metrics.iter().map(|m| m.metric.as_str()).collect::<Vec<_>>().join(", ");
    let by = |metrics: &[&ComparedMetric], better: &str, worse: &str| {
        // What most people look at, if it is among them.
        let one = metrics.iter().rev().find(|m| m.metric.starts_with("ndcg")).or(metrics.first());
        one.map_or(String::new(), |m| {
            let (difference, of) = (m.difference.abs(), m.a.min(m.b));
            let share = if of > 0.0 { format!(", {:+.1} %", 100.0 * difference / of) } else { String::new() };
            let mut ends = m.interval.map(f64::abs);
            ends.sort_by(f64::total_cmp);
            format!(
                "{better} is better than {worse}: {} {} against {}{share} (difference {}, 95 % interval {} to {})",
                m.metric,
                number(m.a.max(m.b)),
                number(of),
                number(difference),
                number(ends[0]),
                number(ends[1]),
            )
        })
    };
    let sure = |verdict: Verdict| {
        let (telling, all) = (told(verdict).len(), comparison.metrics.len());
        format!("; told by {telling} of {all} metrics") + unfair(comparison)
    };
    match comparison.verdict {
        Verdict::A => by(&told(Verdict::A), a, b) + &sure(Verdict::A),
        Verdict::B => by(&told(Verdict::B), b, a) + &sure(Verdict::B),
        Verdict::Mixed => {
            format!(
                "each is better by some metrics: {a} by {}; {b} by {}",
                list(&told(Verdict::A)),
                list(&told(Verdict::B))
            ) + unfair(comparison)
        }
        Verdict::CannotBeTold => {
            format!(
                "it cannot be told which is better: no difference {} is significant at 95 % on these {} users",
                beyond(comparison.margin),
                grouped(comparison.users)
            ) + unfair(comparison)
        }
    }
}

/// That only one of the two has learnt what came after the held-out part.
fn unfair(comparison: &Comparison) -> &'static str {
    let [a, b] = comparison.flattered;
    if a != b { "; not a fair comparison, see the notes" } else { "" }
}

/// Which differences count.
fn beyond(margin: f64) -> String {
    if margin > 0.0 { format!("of more than {} %", 100.0 * margin) } else { "at all".into() }
}

fn text(comparison: &Comparison, names: &[String; 2]) -> String {
    let mut text = format!(
        "A = {}, B = {}: {}, {}, {} ranking\n\n",
        names[0],
        names[1],
        counted(comparison.users, "user"),
        counted(comparison.interactions, &format!("{} interaction", comparison.part.name())),
        comparison.protocol,
    );
    let header = ["", "A", "B", "A - B", "95 % interval", "p, corrected", "better"];
    let mut rows = vec![header.map(String::from).to_vec()];
    for m in &comparison.metrics {
        let better = match m.verdict {
            Verdict::A => "A",
            Verdict::B => "B",
            _ => "-",
        };
        let [low, high] = m.interval;
        rows.push(vec![
            m.metric.clone(),
            number(m.a),
            number(m.b),
            format!("{:+.4}", m.difference),
            format!("{low:+.4} to {high:+.4}"),
            format!("{:.4}", m.p_corrected),
            better.into(),
        ]);
    }
    for line in columns(&rows) {
        text += line.trim_end();
        text.push('\n');
    }
    for note in &comparison.notes {
        text += &format!("\n{note}");
    }
    text += &format!("\nwhat counts: a difference {}\n", beyond(comparison.margin));
    text + &summary(comparison, names)
}
