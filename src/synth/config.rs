//! The description of a synthetic log: every number that its rows depend on.

use serde::{Deserialize, Serialize};

use super::error::SynthError;

/// What a synthetic log is like. Equal configurations give equal rows, whatever the number of threads.
///
/// The model behind it, with formulas, is in `docs/synth.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Number of users. Each has at least one row if there are as many interactions as users.
    pub users: u64,
    /// Number of items in the catalogue. Rare ones may stay without an interaction.
    pub items: u64,
    /// Number of rows, met exactly.
    pub interactions: u64,
    /// Seed of all randomness.
    pub seed: u64,
    /// Exponent s of item popularity, which falls with the rank r as (r + q)⁻ˢ. 0 makes all items equally popular.
    pub zipf: f64,
    /// Standard deviation σ of the logarithm of users' activity. 0 makes all users equally active.
    pub activity: f64,
    /// Strength β of the planted preferences. At 0 everyone draws by popularity alone.
    pub preference: f64,
    /// Share of a user's taste that is replaced between the first and the last moment of the period, 0 to 1.
    pub drift: f64,
    /// First moment of the period, in seconds since 1970.
    pub start: i64,
    /// Length of the period in days.
    pub days: u32,
    /// Share of rows that repeat an earlier interaction of the same user, 0 ≤ share < 1. At 0 all rows are distinct
    /// (user, item) pairs.
    pub repeats: f64,
    /// Adds a weight to each row: a rating of 1 to 5 in half steps, higher where the user's affinity is.
    pub weights: bool,
    /// Adds an event to each row: view, cart or purchase, deeper where the user's affinity is higher.
    pub events: bool,
    /// Writes ids as integers, rather than as `u17` and `i4`.
    pub integer_ids: bool,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            users: 10_000,
            items: 2_000,
            interactions: 500_000,
            seed: 1,
            zipf: 1.0,
            activity: 1.0,
            preference: 2.5,
            drift: 0.3,
            start: 1_704_067_200,
            days: 365,
            repeats: 0.0,
            weights: false,
            events: false,
            integer_ids: false,
        }
    }
}

impl SynthConfig {
    /// Checks every number against its range, and the interactions against what users and items can hold.
    pub(super) fn validate(&self) -> Result<(), SynthError> {
        let whole = |option, value: u64, remedy| {
            if value == 0 || value > u64::from(u32::MAX) {
                return Err(SynthError::OutOfRange { option, value: value.to_string(), remedy });
            }
            Ok(())
        };
        whole("--users", self.users, "give 1 to 4294967295 users")?;
        whole("--items", self.items, "give 1 to 4294967295 items")?;
        if self.interactions == 0 || self.interactions > 1 << 48 {
            let value = self.interactions.to_string();
            let remedy = "give 1 to 281474976710656 interactions";
            return Err(SynthError::OutOfRange { option: "--interactions", value, remedy });
        }
        let real = |option, value: f64, within: bool, remedy| {
            if within { Ok(()) } else { Err(SynthError::OutOfRange { option, value: value.to_string(), remedy }) }
        };
        let within = |value: f64, most: f64| (0.0..=most).contains(&value);
        real("--zipf", self.zipf, within(self.zipf, 3.0), "give an exponent from 0 to 3")?;
        real("--activity", self.activity, within(self.activity, 3.0), "give a standard deviation from 0 to 3")?;
        real("--preference", self.preference, within(self.preference, 8.0), "give a strength from 0 to 8")?;
        real("--drift", self.drift, within(self.drift, 1.0), "give a share from 0 to 1")?;
        real("--repeats", self.repeats, within(self.repeats, 0.95), "give a share from 0 to 0.95")?;
        if self.days == 0 || self.days > 36_525 {
            let value = self.days.to_string();
            return Err(SynthError::OutOfRange { option: "--days", value, remedy: "give 1 to 36525 days" });
        }
        if !(0..=4_102_444_800).contains(&self.start) {
            let remedy = "give a moment from 1970 to 2100, in seconds since 1970";
            return Err(SynthError::OutOfRange { option: "--start", value: self.start.to_string(), remedy });
        }
        let most = self.users.saturating_mul(self.rows_a_user());
        if self.interactions > most {
            let Self { interactions, users, items, .. } = *self;
            return Err(SynthError::TooMany { interactions, users, items, most });
        }
        Ok(())
    }

    /// The most rows one user can have: each item once, and the repeats on top.
    pub(super) fn rows_a_user(&self) -> u64 {
        (self.items as f64 / (1.0 - self.repeats)) as u64
    }

    /// The length of the period in seconds.
    pub(super) fn seconds(&self) -> i64 {
        i64::from(self.days) * 86_400
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_by_option() {
        type Spoil = fn(&mut SynthConfig);
        let broken: [(&str, Spoil); 9] = [
            ("--users", |c| c.users = 0),
            ("--items", |c| c.items = 1 << 40),
            ("--interactions", |c| c.interactions = 0),
            ("--zipf", |c| c.zipf = f64::NAN),
            ("--activity", |c| c.activity = -1.0),
            ("--preference", |c| c.preference = 100.0),
            ("--drift", |c| c.drift = 1.5),
            ("--repeats", |c| c.repeats = 1.0),
            ("--days", |c| c.days = 0),
        ];
        SynthConfig::default().validate().unwrap();
        for (option, spoil) in broken {
            let mut config = SynthConfig::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(option), "{error}");
        }
    }

    #[test]
    fn more_than_users_times_items_is_refused_unless_repeated() {
        let mut config = SynthConfig { users: 10, items: 10, interactions: 100, ..SynthConfig::default() };
        config.validate().unwrap();
        config.interactions = 101;
        assert!(matches!(config.validate(), Err(SynthError::TooMany { most: 100, .. })));
        config.repeats = 0.5;
        config.validate().unwrap();
    }
}
