//! `peccary bench fold-in`: how long a new user waits, by loss.

use std::fmt::Write as _;

use peccary::{Dataset, FoldInOptions, LossKind, Model, TrainConfig, fold_in, train};
use serde_json::json;

use super::shape::{SHAPES, Subject};
use crate::common::{Globals, Usage};
use crate::numbers::grouped;

/// Measure how long it takes to recommend to a new user from a history: learning the row, and ranking the catalogue
///
/// A model is trained for one epoch by each loss first; then the train interactions of users, who stand in for new ones,
/// are folded in one after the other: the row is learnt by one thread, the catalogue ranked by all.
#[derive(clap::Args)]
#[command(after_help = SHAPES)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Learnt factors of each user and item
    #[arg(long, visible_alias = "dim", value_name = "N", default_value_t = 64)]
    dimensions: usize,
    /// Users to fold in
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Of those with that many train interactions or more
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    least: u32,
}

/// Runs the measurement.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let path = args.subject.dataset_with_test(&ctx)?;
    let dataset = Dataset::open(&path)?;
    let folder = tempfile::tempdir()?;
    let of = |user: u32| {
        let items = dataset.train().user(user).items;
        items.iter().filter_map(|item| dataset.items().id(item.to_native())).collect::<Vec<_>>()
    };
    let all =
        || (0..dataset.users().len()).filter(|user| dataset.train().user(*user).items.len() >= args.least as usize);
    let step = (all().count() / args.users as usize).max(1);
    let histories: Vec<Vec<&str>> = all().step_by(step).take(args.users as usize).map(of).collect();
    if histories.is_empty() {
        let text = format!("--least {}: no user of {} has as many interactions in train", args.least, path.display());
        return Err(Usage(text).into());
    }
    let lengths = histories.iter().map(Vec::len);
    let lengths = (lengths.clone().min().unwrap_or_default(), lengths.max().unwrap_or_default());
    let mut text = format!(
        "{}: {} items, {} factors, {} users with {} to {} items, milliseconds: median (95 %)\n\n{:<10}{:>18}{:>18}{:>18}",
        path.display(),
        grouped(dataset.items().len().into()),
        args.dimensions,
        histories.len(),
        lengths.0,
        grouped(lengths.1 as u64),
        "",
        "learning the row",
        "ranking all items",
        "both",
    );
    let mut losses = Vec::new();
    for kind in LossKind::ALL {
        let output = folder.path().join(kind.name());
        let mut config = TrainConfig { dimensions: args.dimensions, epochs: 1, ..TrainConfig::default() };
        config.loss.kind = kind;
        train(&dataset, &config, &output, false, &ctx)?;
        let model = Model::open(&output)?;
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for history in &histories {
            let found = fold_in(&model, history, &FoldInOptions::default(), &ctx)?;
            let (row, rank) = (found.row_seconds * 1e3, found.rank_seconds * 1e3);
            times.iter_mut().zip([row, rank, row + rank]).for_each(|(times, time)| times.push(time));
        }
        let [row, rank, both] = times.map(quantiles);
        write!(text, "\n{:<10}", kind.name())?;
        for (median, high) in [row, rank, both] {
            write!(text, "{:>18}", format!("{median:.2} ({high:.2})"))?;
        }
        let named = |(median, high): (f64, f64)| json!({ "median": median, "95%": high });
        losses.push(json!({
            "loss": kind.name(), "row_ms": named(row), "rank_ms": named(rank), "both_ms": named(both),
        }));
    }
    globals.print(
        &json!({ "dataset": path, "users": histories.len(), "history": [lengths.0, lengths.1], "losses": losses }),
        text,
    )
}

/// The median and the 95th percentile.
fn quantiles(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let at =
        |share: f64| times.get((times.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or_default();
    (at(0.5), at(0.95))
}
