//! What has to be said beside metrics, lest they be taken for more than they are.

use super::EvaluateOptions;
use super::cases::Cases;
use crate::dataset::{Dataset, Part};
use crate::rank::{Aligned, Scorer};

/// What `scorer` is, on a dataset that has changed since it was ingested: each is to be put behind its name.
pub(super) fn of(scorer: &Aligned<'_>, dataset: &Dataset, part: Part) -> Vec<String> {
    let mut notes = Vec::new();
    if !scorer.knows_all() {
        notes.push(format!(
            "is older than the dataset: it knows {} of {} users and {} of {} items, and the others are never recommended",
            scorer.known().count(),
            dataset.users().len(),
            scorer.known_items(),
            dataset.items().len(),
        ));
    }
    notes.extend(of_flattery(scorer, dataset, part));
    notes
}

/// That `scorer` has learnt what came after `part`, if it has.
pub(super) fn of_flattery(scorer: &Aligned<'_>, dataset: &Dataset, part: Part) -> Option<String> {
    scorer.learnt_from().and_then(|then| flattered(dataset, part, then)).map(|why| format!("is {why}"))
}

/// Why who has learnt from `dataset`, when it had the fingerprint `then`, looks better on `part` than it is.
pub(super) fn flattered(dataset: &Dataset, part: Part, then: &str) -> Option<String> {
    let rows = dataset.trained_behind(part, then)?;
    let part = part.name();
    Some(format!(
        "flattered, having learnt from {} that came to train when {part} had been split off already; peccary hold-out makes a \
         test part of what was appended since a model was trained (docs/update.md, Judging an update)",
        counted(rows, "interaction"),
    ))
}

/// What became of users whom `who` does not know.
pub(super) fn later(cases: &Cases<'_>, options: &EvaluateOptions, who: &str) -> Option<String> {
    let how = if options.include_cold { "included, though" } else { "left out, because" };
    let count = counted(cases.later, "user");
    (cases.later > 0).then(|| format!("{count} {how} all of their train interactions came after {who}"))
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
