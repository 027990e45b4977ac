//! What has to be said beside metrics, lest they be taken for more than they are.

use super::EvaluateOptions;
use super::cases::Cases;
use crate::dataset::Dataset;
use crate::rank::{Aligned, Scorer};

/// What `scorer` is, on a dataset that has changed since it was ingested: each is to be put behind its name.
pub(super) fn of(scorer: &Aligned<'_>, cases: &Cases<'_>, dataset: &Dataset, options: &EvaluateOptions) -> Vec<String> {
    let mut notes = Vec::new();
    if !scorer.knows_all() {
        let users = match (cases.later, options.include_cold) {
            (0, _) => String::new(),
            (later, false) => format!("; {} left out who came later", people(later)),
            (later, true) => format!("; to {} who came later all items are alike", people(later)),
        };
        notes.push(format!(
            "is older than the dataset: it knows {} of {} users and {} of {} items, and the others count as never \
             recommended{users}",
            scorer.known_users(),
            dataset.users().len(),
            scorer.known_items(),
            dataset.items().len(),
        ));
    }
    let behind = scorer.learnt_from().and_then(|fingerprint| dataset.trained_behind(options.part, fingerprint));
    if let Some(interactions) = behind {
        notes.push(format!(
            "is flattered: {} interactions that it has learnt from were appended to train when {} had been split off already; \
             docs/update.md (Judging an update) says how to hold out what is newer",
            interactions,
            options.part.name(),
        ));
    }
    notes
}

fn people(count: u64) -> String {
    if count == 1 { "1 user".into() } else { format!("{count} users") }
}
