//! How the learning rate changes over a run: warm-up, and then a schedule.

use serde::{Deserialize, Serialize};

use super::{OptimizerConfig, TrainConfig, TrainError};

/// The share of the learning rate that warm-up begins with.
const COLD: f64 = 0.01;
/// What `step` and `plateau` multiply the rate by, unless told otherwise.
const FACTOR: f64 = 0.1;
/// When `step` steps, unless told otherwise: shares of the run.
const STEPS: [f64; 2] = [0.5, 0.75];
/// Validations without improvement after which `plateau` lowers the rate, unless told otherwise.
const PATIENCE: u32 = 3;

/// How the learning rate changes from the end of warm-up to the last interaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// Straight down to zero.
    #[default]
    Linear,
    /// Down to zero along half a cosine.
    Cosine,
    /// By a factor, every so many epochs or at given shares of the run.
    Step,
    /// By a factor whenever the validation metric has not improved for a while.
    Plateau,
}

impl OptimizerConfig {
    /// What the learning rate is multiplied by when `done` of `epochs` are over, fractions counting. What `plateau` does
    /// is not in it: that depends on how the run goes.
    ///
    /// Warm-up goes from a hundredth to 1 in a straight line; the schedule then has the epochs that are left to itself.
    pub fn rate_factor(&self, done: f64, epochs: u32) -> f64 {
        let warm_up = f64::from(self.warm_up);
        let (past, left) = ((done - warm_up).max(0.0), f64::from(epochs) - warm_up);
        let progress = (past / left).clamp(0.0, 1.0);
        let scheduled = match self.schedule {
            Schedule::Constant | Schedule::Plateau => 1.0,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Step => {
                let steps = match self.every {
                    Some(every) => (past / f64::from(every.max(1))).floor() as i32,
                    None => self.at.as_deref().unwrap_or(&STEPS).iter().filter(|at| **at <= progress).count() as i32,
                };
                self.factor().powi(steps)
            }
        };
        if done < warm_up { scheduled * (COLD + (1.0 - COLD) * done / warm_up) } else { scheduled }
    }

    /// The factor of `step` and `plateau` in force.
    pub fn factor(&self) -> f64 {
        self.factor.unwrap_or(FACTOR)
    }

    /// The patience of `plateau` in force, in validations.
    pub fn patience(&self) -> u32 {
        self.patience.unwrap_or(PATIENCE)
    }

    /// Checks the schedule of `config`, and that what it needs is there.
    pub(super) fn validate_schedule(config: &TrainConfig) -> Result<(), TrainError> {
        let fail = |key: &str, value: String, must: &str| {
            Err(TrainError::Config { key: format!("optimizer.{key}"), value, must: must.to_string() })
        };
        let own = &config.optimizer;
        if !(own.warm_up >= 0.0 && f64::from(own.warm_up) < f64::from(config.epochs)) {
            return fail("warm_up", own.warm_up.to_string(), "be 0 or more, and below epochs");
        }
        if let Some(factor) = own.factor.filter(|f| !(*f > 0.0 && *f < 1.0)) {
            return fail("factor", factor.to_string(), "be above 0 and below 1");
        }
        if own.every == Some(0) {
            return fail("every", "0".into(), "be at least 1");
        }
        if own.every.is_some() && own.at.is_some() {
            return fail(
                "at",
                "given".into(),
                "be left out beside optimizer.every, or that: steps come one way or the other",
            );
        }
        if let Some(at) = &own.at
            && (at.is_empty() || !at.is_sorted() || !at.iter().all(|a| *a > 0.0 && *a < 1.0))
        {
            return fail(
                "at",
                format!("{at:?}"),
                "be shares of the run above 0 and below 1, ascending, such as [0.5, 0.75]",
            );
        }
        if own.patience == Some(0) {
            return fail("patience", "0".into(), "be at least 1");
        }
        if own.schedule == Schedule::Plateau {
            let Some(validation) = &config.validation else {
                let must = "go with a [validation] section (or --metric), whose metric it watches; or be \"step\", \
                            \"linear\", \"cosine\" or \"constant\"";
                return fail("schedule", "\"plateau\"".into(), must);
            };
            if validation.patience.is_some_and(|patience| patience <= own.patience()) {
                let must =
                    "be below validation.patience (--patience): the run would stop before the rate is ever lowered";
                return fail("patience", own.patience().to_string(), must);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn optimizer(schedule: Schedule) -> OptimizerConfig {
        OptimizerConfig { schedule, ..OptimizerConfig::default() }
    }

    #[test]
    fn every_schedule_goes_where_it_should() {
        use Schedule::{Constant, Cosine, Linear, Plateau, Step};
        let every = OptimizerConfig { every: Some(3), factor: Some(0.5), ..optimizer(Step) };
        let at = OptimizerConfig { at: Some(vec![0.1, 0.3]), ..optimizer(Step) };
        for (optimizer, expected) in [
            (optimizer(Constant), [1.0, 1.0, 1.0, 1.0, 1.0]),
            (optimizer(Plateau), [1.0, 1.0, 1.0, 1.0, 1.0]),
            (optimizer(Linear), [1.0, 0.75, 0.5, 0.25, 0.0]),
            (optimizer(Cosine), [1.0, 0.853_553_390_6, 0.5, 0.146_446_609_4, 0.0]),
            (optimizer(Step), [1.0, 1.0, 0.1, 0.01, 0.01]),
            (every, [1.0, 1.0, 0.5, 0.25, 0.125]),
            (at, [1.0, 0.1, 0.01, 0.01, 0.01]),
        ] {
            for (quarter, want) in expected.into_iter().enumerate() {
                // 0, 2.5, 5, 7.5 and 10 of ten epochs.
                let got = optimizer.rate_factor(2.5 * quarter as f64, 10);
                assert!((got - want).abs() < 1e-9, "{optimizer:?} at {quarter}/4: {got}, not {want}");
            }
        }
    }

    #[test]
    fn steps_fall_on_the_epochs_that_they_are_due() {
        let every = OptimizerConfig { every: Some(4), ..optimizer(Schedule::Step) };
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-12, "{got} {want}");
        near(every.rate_factor(3.999, 20), 1.0);
        near(every.rate_factor(4.0, 20), 0.1);
        near(every.rate_factor(12.0, 20), 1e-3);
    }

    proptest! {
        #[test]
        fn warm_up_climbs_in_a_straight_line_and_leaves_the_rest_to_the_schedule(
            warm_up in 0.1f32..9.0, done in 0f64..10.0,
            schedule in prop_oneof![
                Just(Schedule::Constant), Just(Schedule::Linear), Just(Schedule::Cosine), Just(Schedule::Step),
            ],
        ) {
            let (plain, warmed) = (optimizer(schedule), OptimizerConfig { warm_up, ..optimizer(schedule) });
            let warm = f64::from(warm_up);
            let got = warmed.rate_factor(done, 10);
            let want = if done < warm {
                0.01 + 0.99 * done / warm
            } else {
                // The schedule sees a run of what is left, stretched to ten epochs.
                plain.rate_factor((done - warm) / (10.0 - warm) * 10.0, 10)
            };
            prop_assert!((got - want).abs() < 1e-9, "{got} {want}");
            prop_assert!((0.0..=1.0).contains(&got));
        }
    }
}
