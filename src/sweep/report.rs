//! What a sweep has found, as a table.

use std::path::PathBuf;

use serde::Serialize;

use crate::evaluate::Metrics;

/// What [`sweep`](super::sweep) has found.
#[derive(Clone, Debug, Serialize)]
pub struct SweepReport {
    /// The dataset.
    pub dataset: PathBuf,
    /// Its fingerprint.
    pub fingerprint: String,
    /// The metric by which configurations are compared, on the validation part.
    pub metric: String,
    /// Users that were evaluated.
    pub users: u64,
    /// What the epochs of each rung are divided by.
    pub rungs: Vec<u64>,
    /// Names of the axes.
    pub axes: Vec<String>,
    /// A row for each configuration: those of the last rung by their metric, then those of the rung before it, …
    pub rows: Vec<SweepRow>,
    /// Configurations that could not be trained to the end.
    pub failed: Vec<SweepFailure>,
    /// Configurations that were not tried.
    pub skipped: Vec<SweepSkipped>,
    /// Items by popularity, on the same users.
    pub popularity: Metrics,
    /// The best configuration, in a file for `peccary train --config`; none where all failed.
    pub best: Option<PathBuf>,
}

/// How a configuration stands to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The highest mean of the last rung.
    Best,
    /// The paired interval of the difference from the best holds zero.
    Tied,
    /// Behind the best.
    Behind,
    /// Not trained at full length: others were better in its rung.
    Dropped,
}

/// What was measured of a configuration, in its last rung.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRow {
    /// Its number, from 1.
    pub number: usize,
    /// What was chosen on each axis.
    pub choices: Vec<String>,
    /// The rung, from 1.
    pub rung: usize,
    /// Epochs of a run.
    pub epochs: u32,
    /// Runs, each with a seed of its own.
    pub seeds: usize,
    /// How it stands.
    pub standing: Standing,
    /// Mean of the metric over the seeds.
    pub mean: f64,
    /// Its standard deviation over the seeds; none for one seed.
    pub deviation: Option<f64>,
    /// 95 % interval of the mean, by a bootstrap over users and seeds.
    pub interval: [f64; 2],
    /// 95 % interval of what it is behind the best, paired by user; none in earlier rungs.
    pub behind: Option<[f64; 2]>,
    /// Means over the seeds of all metrics at the cut-off.
    #[serde(serialize_with = "as_map")]
    pub metrics: Vec<(String, f64)>,
    /// Seconds of training alone, the mean of the runs.
    pub seconds: f64,
    /// Triples a second, the mean of the runs.
    pub triples_per_second: f64,
}

/// A configuration that could not be trained to the end.
#[derive(Clone, Debug, Serialize)]
pub struct SweepFailure {
    /// Its number, from 1.
    pub number: usize,
    /// What was chosen on each axis.
    pub choices: Vec<String>,
    /// Epochs of the run that failed.
    pub epochs: u32,
    /// Its seed.
    pub seed: u64,
    /// Why.
    pub reason: String,
}

/// A configuration that was not tried.
#[derive(Clone, Debug, Serialize)]
pub struct SweepSkipped {
    /// Its number, from 1.
    pub number: usize,
    /// What was chosen on each axis.
    pub choices: Vec<String>,
    /// Why not.
    pub reason: String,
}

fn as_map<S: serde::Serializer>(metrics: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metrics.iter().map(|(name, value)| (name, value)))
}

impl SweepReport {
    /// The table in Markdown, its columns aligned, and what is to be said about it.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} on the validation part of {}, {} users; popularity has {:.4}\n\n",
            self.metric,
            self.dataset.display(),
            self.users,
            self.popularity.get(&self.metric).unwrap_or(f64::NAN)
        );
        text += &aligned(&self.cells());
        let has = |standing| self.rows.iter().any(|row| row.standing == standing);
        text += if self.rows.iter().any(|row| row.seeds > 1) {
            "\nIntervals hold the middle 95 % of a bootstrap over users and seeds; ± is the standard deviation over seeds.\n"
        } else {
            "\nIntervals hold the middle 95 % of a bootstrap over users.\n"
        };
        if has(Standing::Tied) {
            text += "tie: the interval of what it is behind the best, paired by user, holds 0.\n";
        }
        if has(Standing::Dropped) {
            text += "rung: left out after that many rungs, at fewer epochs; its numbers do not compare with others'.\n";
        }
        let named = |number: usize, choices: &[String]| format!("{number} ({})", choices.join(", "));
        for failure in &self.failed {
            let SweepFailure { number, choices, epochs, seed, reason } = failure;
            text += &format!("failed: {}, {epochs} epochs, seed {seed}: {reason}\n", named(*number, choices));
        }
        for skipped in &self.skipped {
            text += &format!("skipped: {}: {}\n", named(skipped.number, &skipped.choices), skipped.reason);
        }
        if let Some(best) = &self.best {
            text += &format!("best configuration: {}\n", best.display());
        }
        text
    }

    /// The table, the first row being the heads of its columns.
    fn cells(&self) -> Vec<Vec<String>> {
        let k = self.metric.split_once('@').map_or("", |(_, k)| k);
        let others: Vec<String> = ["ndcg", "recall", "mrr"].map(|name| format!("{name}@{k}")).into();
        let others: Vec<String> = others.into_iter().filter(|name| *name != self.metric).collect();
        let mut head = vec![String::new(), "nr".into()];
        head.extend(self.axes.iter().cloned());
        head.extend(["epochs".to_string(), self.metric.clone(), "95 %".into(), "behind best, 95 %".into()]);
        head.extend(others.iter().cloned());
        head.extend(["seconds", "M triples/s"].map(String::from));
        let range = |[low, high]: [f64; 2]| format!("{low:.4} to {high:.4}");
        let row = |row: &SweepRow| {
            let standing = match row.standing {
                Standing::Best => "best".to_string(),
                Standing::Tied => "tie".to_string(),
                Standing::Behind => String::new(),
                Standing::Dropped => format!("rung {}", row.rung),
            };
            let deviation = row.deviation.map_or(String::new(), |d| format!(" ± {d:.4}"));
            let mut cells = vec![standing, row.number.to_string()];
            cells.extend(row.choices.iter().map(|choice| choice.replace('|', "\\|")));
            cells.extend([row.epochs.to_string(), format!("{:.4}{deviation}", row.mean), range(row.interval)]);
            cells.push(row.behind.filter(|_| row.standing != Standing::Best).map_or(String::new(), range));
            let value = |name: &String| row.metrics.iter().find(|(n, _)| n == name).map_or(f64::NAN, |(_, v)| *v);
            cells.extend(others.iter().map(|name| format!("{:.4}", value(name))));
            cells.extend([format!("{:.1}", row.seconds), format!("{:.2}", row.triples_per_second / 1e6)]);
            cells
        };
        std::iter::once(head).chain(self.rows.iter().map(row)).collect()
    }
}

/// Rows of Markdown whose columns are as wide as their widest cell. The first row is the head.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        text += &line(row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect());
        if number == 0 {
            text += &line(widths.iter().map(|width| "-".repeat(*width)).collect());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["", "loss"], ["best", "bsl"], ["tie", "softmax ±"]].map(|row| row.map(String::from).to_vec());
        let expected = "\
            |      | loss      |\n\
            | ---- | --------- |\n\
            | best | bsl       |\n\
            | tie  | softmax ± |\n";
        assert_eq!(aligned(&rows), expected);
    }
}
