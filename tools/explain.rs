//! `peccary explain`: why a user's negatives are what they are, in words and a table.

use std::fmt::Write as _;
use std::path::PathBuf;

use peccary::{
    Dataset, ExplainError, ExplainOptions, ExplainedComponent, ExplainedNegative, ExplainedPositive, Explanation,
    Model, explain,
};

use crate::common::{Globals, Usage};
use crate::numbers::grouped;
use crate::printable::one_line;

const EXAMPLES: &str = "\
Negatives of some of the user's positives are drawn once more, as the model's configuration says, by the scores of the \
finished model. docs/audit.md says how far that is what training did; `peccary train --audit` writes what it did.

Examples:
  peccary explain clicks.model clicks.pec --user u17
  peccary explain clicks.model clicks.pec --user u17 --item i4 --candidates
  peccary explain clicks.model clicks.pec --user u17 --progress 0 --positives 10 --json";

/// Columns that lines are kept within.
const WIDTH: usize = 80;
/// Negatives of a positive that are listed unless all are asked for.
const LISTED: usize = 12;
/// Columns of an id in a table.
const ID: usize = 16;

/// Explain why a user's negatives are what they are
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model; MODEL@N for version N of it
    model: PathBuf,
    /// The dataset that it was trained on
    dataset: PathBuf,
    /// Original id of the user
    #[arg(long, value_name = "ID")]
    user: String,
    /// Original id of one positive of the user, instead of some at random
    #[arg(long, value_name = "ID", conflicts_with = "positives")]
    item: Option<String>,
    /// Positives of the user to explain, drawn at random
    #[arg(long, value_name = "N", default_value_t = ExplainOptions::default().positives,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    positives: usize,
    /// The moment of the run that schedules stand at, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = ExplainOptions::default().progress)]
    progress: f64,
    /// Seed of the positives and of the draws
    #[arg(long, value_name = "N", default_value_t = ExplainOptions::default().seed)]
    seed: u64,
    /// List every negative and every candidate for it
    #[arg(long)]
    candidates: bool,
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let ctx = globals.context();
    let model = Model::open_named(&args.model)?;
    let dataset = Dataset::open(&args.dataset)?;
    let Args { item, positives, progress, seed, .. } = args;
    let options = ExplainOptions { positives, item, progress, seed };
    let explanation = explain(&model, &dataset, &args.user, &options, &ctx).map_err(|error| match error {
        ExplainError::Progress { .. } => Usage(error.to_string()).into(),
        other => anyhow::Error::from(other),
    })?;
    globals.print(&explanation, text(&explanation, args.candidates).trim_end())
}

/// Everything, in lines of at most [`WIDTH`] columns but for long reasons.
fn text(e: &Explanation, all: bool) -> String {
    let shared = if e.shared { "shared by a block" } else { "for each positive" };
    let mut text = wrapped(&format!(
        "User {} has {} train interactions; the mean user has {:.1}. The model was trained with {} on {} negatives \
         {shared}. Schedules stand at {:.0} % of the run, scores are those of the finished model, draws are by seed {}.",
        one_line(&e.user),
        grouped(e.positives),
        e.mean_positives,
        e.loss,
        e.negatives,
        e.progress * 100.0,
        e.seed,
    ));
    if e.sampled_share < 1.0 {
        text += &wrapped(&format!(
            "Within --memory, samplers look up {:.0} % of the interactions, drawn at random.",
            e.sampled_share * 100.0
        ));
    }
    text += "\nHow negatives are made\n";
    for (number, component) in e.components.iter().enumerate() {
        text += &described(number, component);
    }
    for positive in &e.explained {
        text += &explained(positive, e.components.len() > 1, all);
    }
    text
}

/// A component and what it has done.
fn described(number: usize, c: &ExplainedComponent) -> String {
    let mut line = format!(
        "{number}. {}: {:.0} % of the negatives. Here it made {} of {} candidates",
        c.makes,
        c.share * 100.0,
        grouped(c.negatives),
        grouped(c.candidates),
    );
    let dropped: Vec<_> = c.dropped.iter().map(|(by, n)| format!("{} by {by}", grouped(*n))).collect();
    match &dropped[..] {
        [] => line += ", none dropped",
        some => line += &format!(", dropped {}", some.join(", ")),
    }
    for (count, what) in [(c.filled, "filled in by uniform ones"), (c.void, "left without weight")] {
        if count > 0 {
            line += &format!(", {} {what}", grouped(count));
        }
    }
    wrapped(&(line + "."))
}

/// A positive, how its negatives compare with it, and the table of them.
fn explained(p: &ExplainedPositive, mixed: bool, all: bool) -> String {
    if p.left_out {
        return wrapped(&format!(
            "\nPositive {} is left out of training: the user has nearly every item that can be proposed, so that there \
             are too few negatives for it.",
            one_line(&p.item)
        ));
    }
    let users = |n: u32| format!("{} {}", grouped(n.into()), if n == 1 { "user" } else { "users" });
    let mut text = wrapped(&format!(
        "\nPositive {} scores {:.4} and {} have it. Its {} negatives score {:.4} {} on average, {:.0} % of them above it, \
         and are {:.2} times as popular.",
        one_line(&p.item),
        p.score,
        users(p.popularity),
        p.negatives.iter().filter(|n| n.chosen().is_some()).count(),
        p.mean_gap.abs(),
        if p.mean_gap < 0.0 { "more" } else { "less" },
        p.harder * 100.0,
        p.popularity_ratio,
    ));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "  {:<ID$} {:>8} {:>7} {:>6}  {}why",
        "negative",
        "score",
        "users",
        "weight",
        from(mixed, "from")
    );
    let mut negatives: Vec<&ExplainedNegative> = p.negatives.iter().filter(|n| n.chosen().is_some()).collect();
    let more = if all { 0 } else { negatives.len().saturating_sub(LISTED) };
    if more > 0 {
        let score = |n: &ExplainedNegative| n.chosen().map_or(f32::MIN, |c| c.score);
        negatives.sort_by(|a, b| score(b).total_cmp(&score(a)));
        negatives.truncate(LISTED);
    }
    for negative in if all { p.negatives.iter().collect() } else { negatives } {
        for c in &negative.candidates {
            let Some(reason) = c.reason.as_deref().or(all.then(|| c.filtered_by.map_or("", |_| "dropped by"))) else {
                continue;
            };
            let weight = c.weight.map_or(String::new(), |w| format!("{w:.3}"));
            let mut why = match (c.reason.is_some(), c.filtered_by) {
                (false, Some(by)) => format!("{reason} {by}"),
                _ => reason.to_string(),
            };
            if let Some(correction) = c.correction {
                let _ = write!(why, ", log-q {correction:+.2}");
            }
            let mark = if c.reason.is_some() && all { '*' } else { ' ' };
            let (id, from) = (cut(&c.item), from(mixed, &negative.component.to_string()));
            let line = format!(
                "{mark} {id:<ID$} {:>8.4} {:>7} {weight:>6}  {from}{why}",
                c.score,
                grouped(c.popularity.into())
            );
            text += line.trim_end();
            text.push('\n');
        }
    }
    if more > 0 {
        text += &wrapped(&format!(" and {more} that score lower; --candidates lists all"));
    }
    text
}

/// The column of components, where there are several.
fn from(mixed: bool, value: &str) -> String {
    if mixed { format!("{value:<5}") } else { String::new() }
}

/// An id in a column: the beginning of one that is too long.
fn cut(id: &str) -> String {
    let id = one_line(id);
    match id.chars().count() {
        n if n > ID => id.chars().take(ID - 1).chain(['…']).collect(),
        _ => id.to_string(),
    }
}

/// The words in lines of at most [`WIDTH`] columns, as far as words allow; line breaks in front stay.
fn wrapped(words: &str) -> String {
    let front = words.len() - words.trim_start_matches('\n').len();
    let mut text = "\n".repeat(front);
    let mut column = 0;
    for word in words[front..].split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            column = 0;
        } else if column > 0 || word.is_empty() {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += length;
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_ids_cut() {
        let text = wrapped(&format!("\n{}", "four ".repeat(40).trim_end()));
        assert!(text.starts_with("\nfour four") && text.ends_with("four\n"));
        assert!(text.lines().all(|line| line.len() <= WIDTH && !line.starts_with(' ')), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
        assert_eq!(cut("abc"), "abc");
        assert_eq!(cut(&"ä".repeat(20)), format!("{}…", "ä".repeat(15)));
    }
}
