//! Whether what a checkpoint says can be: a run that goes on indexes and counts by it without a second look.

use serde_json::Value;

use super::{Origin, RunState};
use crate::dataset::Dataset;
use crate::train::grid::Grid;
use crate::train::place::Place;
use crate::train::run::windows_in;
use crate::train::strata::{MANY, strata_in};
use crate::train::{TrainConfig, TrainPlan};

/// More than there can be of anything that is counted; so many of a few dozen parts can be added.
const MOST: u64 = 1 << 53;
/// Threads of a run, at most.
const LANES: usize = 1 << 16;

/// Whether no number in `state` is out of all bounds.
pub(super) fn counts(state: &Value) -> bool {
    match state {
        Value::Number(number) => number.as_u64().is_none_or(|count| count <= MOST),
        Value::Array(values) => values.iter().all(counts),
        Value::Object(fields) => fields.values().all(counts),
        _ => true,
    }
}

/// What is wrong with a state by itself: before it is known of which dataset it is.
pub(super) fn alone(number: u64, state: &RunState) -> Result<(), &'static str> {
    match () {
        () if number > MOST => Err("its number is out of range"),
        () if state.place.parts.len() > MANY => Err("its epoch has more parts than there can be"),
        () if !state.control.is_sound(state.epoch) => Err("it counts more validations than there were epochs"),
        () => Ok(()),
    }
}

/// What is wrong with what a run is, on the dataset that it is of.
pub(in crate::train) fn check_origin(origin: &Origin, dataset: &Dataset) -> Result<(), &'static str> {
    let TrainPlan { counts, window, sampled_share, .. } = &origin.plan;
    let (users, items) = (u64::from(dataset.users().len()), u64::from(dataset.items().len()));
    let interactions = dataset.train().len();
    match () {
        () if origin.config.validate().is_err() => Err("its configuration makes no sense"),
        () if (counts.users, counts.items, counts.interactions) != (users, items, interactions) => {
            Err("its sizes are not those of the dataset")
        }
        () if items < 2 || !(1..=interactions).contains(window) => Err("its windows are out of range"),
        () if !(*sampled_share > 0.0 && *sampled_share <= 1.0) => Err("its share of interactions is out of range"),
        () => Ok(()),
    }
}

/// What is wrong with the state of a run that goes on with `config` and `plan`.
pub(in crate::train) fn check_state(
    state: &RunState,
    dataset: &Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
) -> Result<(), &'static str> {
    let (interactions, done) = (plan.counts.interactions, state.place.done().positives);
    let numbered = state.epochs.iter().zip(1..).all(|(report, number)| report.epoch == number);
    let triples = u128::from(interactions) * config.negatives() as u128;
    match () {
        () if state.epoch > config.epochs || state.epochs.len() != state.epoch as usize || !numbered => {
            Err("its epochs are not those of the run")
        }
        // Twice as many is out of the question, and does no harm.
        () if state.epochs.iter().any(|report| u128::from(report.triples) / 2 > triples) || done / 2 > interactions => {
            Err("it counts more than an epoch has")
        }
        // Without a validation nothing would take note that it is over.
        () if state.to_validate && (config.validation.is_none() || state.epoch == 0) => {
            Err("it is to validate what is not validated")
        }
        () => check_place(&state.place, dataset, config, (state.epoch, plan)),
    }
}

fn check_place(
    place: &Place,
    dataset: &Dataset,
    config: &TrainConfig,
    (epoch, plan): (u32, &TrainPlan),
) -> Result<(), &'static str> {
    let position = &place.position;
    let Some(cut) = place.cut else {
        return if position.is_start() { Ok(()) } else { Err("it is in an epoch that has not begun") };
    };
    if cut.window != plan.window || !(1..=LANES).contains(&cut.lanes) {
        return Err("its windows are cut as no run cuts them");
    }
    let windows = windows_in(dataset, config, epoch, cut).len();
    let begun = position.next.min(if config.deterministic && !config.shares_negatives() { 0 } else { windows });
    let open = position.open.iter().map(|open| open.number);
    if position.next > windows || !open.clone().is_sorted_by(|a, b| a < b) || open.clone().any(|number| number >= begun)
    {
        return Err("it is in windows that there are not");
    }
    let (strata, blocks) = strata_in(dataset.items().len(), plan);
    match position.steps.len() {
        0 => Ok(()),
        steps if steps == strata && Grid::is_place(&position.steps, blocks, windows) => Ok(()),
        _ => Err("it is at steps that there are not"),
    }
}
