//! The top of the page: a sentence on how good the model is and what limited the speed, and the numbers behind it.

use super::html::{Html, html};
use super::number::{count, duration, metric, percent, short};
use super::quality::{Column, primary, title};
use super::run::Run;
use crate::model::Model;

/// How good the first model is beside the best baseline, in words; whether it is `flattered` by having learnt what came after
/// `part`.
pub(super) fn quality(columns: &[Column], part: &str, flattered: bool) -> Option<String> {
    let text = beside_baselines(columns, part)?;
    let but = " It has learnt from what came after that part, though, and looks better than it is.";
    Some(if flattered { text + but } else { text })
}

fn beside_baselines(columns: &[Column], part: &str) -> Option<String> {
    let name = primary(columns)?;
    let own = columns.first()?.get(&name)?;
    let best = columns.iter().filter(|c| c.baseline).filter_map(|c| Some((c.get(&name)?, c.name.as_str())));
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0));
    let begin = format!("{} is {} on the {part} part", title(&name), metric(own));
    Some(match best {
        None => begin + ".",
        Some((value, who)) if value <= 0.0 && own > 0.0 => format!("{begin}; {who}, the best baseline, has nothing."),
        Some((value, who)) => {
            let ratio = own / value;
            let said = if !ratio.is_finite() {
                "no better than"
            } else if ratio >= 1.05 {
                return Some(format!("{begin}, {} times the best baseline ({who}, {}).", short(ratio), metric(value)));
            } else if ratio > 0.95 {
                "about as good as"
            } else {
                "worse than"
            };
            format!("{begin}, {said} the best baseline ({who}, {}).", metric(value))
        }
    })
}

/// How fast the run was, and what limited it, in words.
pub(super) fn speed(run: &Run) -> Option<String> {
    let epochs = run.epochs.len();
    if epochs == 0 || run.seconds <= 0.0 {
        return None;
    }
    let plural = if epochs == 1 { "" } else { "s" };
    let mut text = format!(
        "Training took {} for {} epoch{plural}, {} triples a second",
        duration(run.seconds),
        count(epochs as u64),
        short(run.rate),
    );
    if let Some(threads) = run.threads {
        text += &format!(" on {threads} thread{}", if threads == 1 { "" } else { "s" });
    }
    Some(match run.blocked() {
        None => text + ".",
        Some((producers, trainers)) => text + "; " + &limit(producers, trainers) + ".",
    })
}

/// What limited a run whose producers and trainers were blocked for these shares of their time.
fn limit(producers: f64, trainers: f64) -> String {
    if producers.max(trainers) < 0.05 {
        return "neither side of the pipeline waited much for the other".to_string();
    }
    if producers >= trainers {
        format!("updates limited the speed: producers waited for trainers {} of their time", percent(producers))
    } else {
        format!("reading and sampling limited the speed: trainers waited {} of their time", percent(trainers))
    }
}

/// The tiles under the sentence.
pub(super) fn tiles(model: &Model, run: &Run, columns: &[Column]) -> Html {
    let mut tiles: Vec<(String, String, String)> = Vec::new();
    if let (Some(name), Some(first)) = (primary(columns), columns.first()) {
        let recall = name.replace("ndcg@", "recall@");
        for name in [name.as_str(), recall.as_str()] {
            if let Some(value) = first.get(name).filter(|_| tiles.iter().all(|t| t.0 != title(name))) {
                let popularity =
                    columns.iter().find(|c| c.baseline && c.name == "popularity").and_then(|c| c.get(name));
                let beside = popularity.map_or(String::new(), |p| format!("popularity {}", metric(p)));
                tiles.push((title(name), metric(value), beside));
            }
        }
    }
    if let Some(found) = &run.validation {
        let beside = format!("best of {} epochs, on validation", count(run.epochs.len() as u64));
        tiles.push(("Best epoch".into(), count(found.best_epoch.into()), beside));
    }
    if run.seconds > 0.0 {
        tiles.push(("Training".into(), duration(run.seconds), format!("{} triples/s", short(run.rate))));
    }
    let manifest = model.manifest();
    let numbers = (u64::from(manifest.users) + u64::from(manifest.items)) * model.items().width() as u64;
    let shape = format!("{} users × {} items", short(manifest.users.into()), short(manifest.items.into()));
    tiles.push(("Parameters".into(), short(numbers as f64), format!("{shape}, {} factors", manifest.dimensions)));
    let tile = |(name, value, beside): &(String, String, String)| {
        html!("<div class=\"tile\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>", name, value, beside)
    };
    html!("<dl class=\"tiles\">{}</dl>", tiles.iter().map(tile).collect::<Html>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_which_is_better() {
        let column = |name: &str, value: f64, baseline| Column {
            name: name.into(),
            baseline,
            metrics: vec![("ndcg@20".into(), value)],
            intervals: Vec::new(),
        };
        let of = |own: f64| {
            let columns = [column("m", own, false), column("popularity", 0.05, true), column("random", 0.001, true)];
            quality(&columns, "test", false).unwrap()
        };
        assert_eq!(of(0.1), "NDCG@20 is 0.1000 on the test part, 2 times the best baseline (popularity, 0.0500).");
        assert!(of(0.05).contains("about as good as"));
        assert!(of(0.01).contains("worse than"));
        assert!(quality(&[], "test", true).is_none());
        assert!(quality(&[column("m", 0.1, false)], "test", true).unwrap().ends_with("looks better than it is."));
        assert!(limit(0.6, 0.1).starts_with("updates limited the speed: producers waited for trainers 60 %"));
        assert!(limit(0.1, 0.6).starts_with("reading and sampling"));
        assert!(limit(0.01, 0.0).starts_with("neither"));
    }
}
