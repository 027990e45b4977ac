//! What the validation metric decides: which epoch is the best, when to lower the rate, when to stop.

use serde::{Deserialize, Serialize};

use super::validation::Validated;
use super::{Schedule, TrainConfig};

/// Counts validations without improvement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Patience {
    /// What has to be surpassed.
    mark: Option<f64>,
    /// Validations since the last improvement.
    waited: u32,
}

impl Patience {
    /// Sees a value; whether `patience` of them in a row, this one included, have not been more than `min_delta` above
    /// the mark. Whoever acts on that waits anew.
    fn runs_out(&mut self, value: f64, min_delta: f64, patience: u32) -> bool {
        if self.mark.is_none_or(|mark| value > mark + min_delta) {
            *self = Self { mark: Some(value), waited: 0 };
            return false;
        }
        self.waited += 1;
        let out = self.waited >= patience;
        if out {
            self.waited = 0;
        }
        out
    }
}

/// How far a run is with respect to its validation metric: all that has to be kept to go on with it later, with every
/// bit of its numbers, for decisions go by comparing them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ControlState {
    /// Every validation so far.
    pub(super) history: Vec<Validated>,
    /// The one with the highest value, the first of equals.
    pub(super) best: Option<Validated>,
    /// How often `plateau` has lowered the learning rate.
    lowered: u32,
    plateau: Patience,
    stopping: Patience,
}

/// What to do after a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The tables are the best so far.
    pub(super) best: bool,
    /// The rate has been lowered.
    pub(super) lowered: bool,
    /// The run is over.
    pub(super) stop: bool,
}

impl ControlState {
    /// Whether it can be what `epochs` have led to.
    pub(super) fn is_sound(&self, epochs: u32) -> bool {
        let validations = self.history.len();
        let counted = [self.lowered, self.plateau.waited, self.stopping.waited];
        validations <= epochs as usize && counted.into_iter().all(|count| count as usize <= validations)
    }

    /// What `plateau` has multiplied the learning rate by so far.
    pub(super) fn scale(&self, config: &TrainConfig) -> f64 {
        config.optimizer.factor().powi(self.lowered as i32)
    }

    /// Takes note of a validation.
    pub(super) fn see(&mut self, validated: Validated, config: &TrainConfig) -> Decision {
        let value = validated.value;
        let validation = config.validation.as_ref();
        let min_delta = validation.map_or(0.0, |v| v.min_delta);
        let best = self.best.as_ref().is_none_or(|best| value > best.value);
        if best {
            self.best = Some(validated.clone());
        }
        self.history.push(validated);
        let lowered = config.optimizer.schedule == Schedule::Plateau
            && self.plateau.runs_out(value, min_delta, config.optimizer.patience());
        self.lowered += u32::from(lowered);
        let patience = validation.and_then(|v| v.patience);
        let stop = patience.is_some_and(|patience| self.stopping.runs_out(value, min_delta, patience));
        Decision { best, lowered, stop }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ValidationConfig;
    use super::*;
    use proptest::prelude::*;

    fn config(stop: Option<u32>, plateau: Option<u32>, min_delta: f64) -> TrainConfig {
        let validation = ValidationConfig { patience: stop, min_delta, ..ValidationConfig::default() };
        let mut config = TrainConfig { validation: Some(validation), ..TrainConfig::default() };
        config.optimizer.patience = plateau;
        if plateau.is_some() {
            config.optimizer.schedule = Schedule::Plateau;
        }
        config
    }

    fn validated(epoch: usize, value: f64) -> Validated {
        Validated { epoch: epoch as u32 + 1, value, learning_rate: 0.1, seconds: 0.0 }
    }

    /// Whether value `at` is more than `min_delta` above the last improvement before it, by looking at all of them.
    fn improves(values: &[f64], at: usize, min_delta: f64) -> bool {
        let before = (0..at).rev().find(|i| improves(values, *i, min_delta));
        before.is_none_or(|before| values[at] > values[before] + min_delta)
    }

    proptest! {
        #[test]
        fn decisions_are_those_of_a_naive_reading(
            steps in proptest::collection::vec(0i32..8, 1..13), min_delta in prop_oneof![Just(0.0), Just(1.5)],
            stop in proptest::option::of(1u32..6), plateau in proptest::option::of(1u32..5),
        ) {
            let values: Vec<f64> = steps.into_iter().map(f64::from).collect();
            let config = config(stop, plateau, min_delta);
            let mut state = ControlState::default();
            let (mut lowered, mut last_lowered) = (0, None::<usize>);
            for (i, value) in values.iter().enumerate() {
                let got = state.see(validated(i, *value), &config);
                let last = (0..=i).rev().find(|j| improves(&values, *j, min_delta)).unwrap();
                prop_assert_eq!(got.best, values[..i].iter().all(|v| v < value));
                // The rate falls when that many validations have passed since it last fell, or the last improvement.
                let since = last_lowered.map_or(last, |at| at.max(last));
                let falls = plateau.is_some_and(|patience| i - since == patience as usize);
                prop_assert_eq!(got.lowered, falls, "{} {:?}", i, values);
                if falls {
                    (lowered, last_lowered) = (lowered + 1, Some(i));
                }
                prop_assert!((state.scale(&config) - 0.1f64.powi(lowered)).abs() < 1e-12);
                prop_assert_eq!(got.stop, stop.is_some_and(|patience| i - last >= patience as usize));
                if got.stop {
                    break;
                }
            }
            let first = values[..state.history.len()].iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
            prop_assert_eq!(state.best.as_ref().map(|best| best.epoch as usize), Some(first + 1), "the first of equals");
        }

        #[test]
        fn a_state_that_was_written_and_read_goes_on_as_if_it_had_not_been(
            values in proptest::collection::vec(0u8..64, 2..20), at in 0usize..18,
        ) {
            // Numbers that JSON has exactly.
            let values: Vec<f64> = values.into_iter().map(|v| f64::from(v) / 64.0).collect();
            let config = config(Some(4), Some(2), 0.01);
            let (mut whole, mut resumed) = (ControlState::default(), ControlState::default());
            for (i, value) in values.iter().enumerate() {
                if i == at {
                    resumed = serde_json::from_str(&serde_json::to_string(&resumed).unwrap()).unwrap();
                }
                prop_assert_eq!(whole.see(validated(i, *value), &config), resumed.see(validated(i, *value), &config));
            }
            prop_assert_eq!(whole, resumed);
        }
    }
}
