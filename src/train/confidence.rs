//! Confidence in each interaction: how much it counts in the loss, from its weight, its age, its event type and how
//! active its user is.
//!
//! Hu, Koren & Volinsky ("Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008) weigh by 1 + αr and
//! 1 + α ln(1 + r).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::context::Context;
use crate::dataset::{Dataset, Interactions, UserItems};
use crate::negatives::{Batch, SharedBlock};

const DAY: f64 = 86_400_000.0;

/// How much each interaction counts: the product of what is configured, divided by its mean over the train part. By
/// default all count alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfidenceConfig {
    /// How the weight column counts.
    pub weight: WeightScale,
    /// α of `linear` and `log`.
    pub alpha: f64,
    /// Days after which an interaction counts half, back from the last one in train. Needs a time column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_life: Option<f64>,
    /// p of (the user's train positives / the mean user's)^−p: above 0, light users count more than their interactions
    /// are many; with 1 all users count alike, as in metrics that are means over users.
    pub activity: f64,
    /// The largest confidence, the mean being 1.
    pub clip: f64,
    /// Factors by event type; 1 for those that are not listed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub events: BTreeMap<String, f64>,
}

impl Default for ConfidenceConfig {
    fn default() -> Self {
        Self {
            weight: WeightScale::None,
            alpha: 1.0,
            half_life: None,
            activity: 0.0,
            clip: 10.0,
            events: BTreeMap::new(),
        }
    }
}

/// How the weight column counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightScale {
    /// Not at all.
    #[default]
    None,
    /// 1 + α × weight.
    Linear,
    /// 1 + α × ln(1 + weight).
    Log,
}

impl ConfidenceConfig {
    /// Whether every interaction counts alike.
    pub(super) fn is_off(&self) -> bool {
        self.activity == 0.0 && self.is_of_users()
    }

    /// Whether all interactions of a user count alike.
    fn is_of_users(&self) -> bool {
        self.weight == WeightScale::None && self.half_life.is_none() && self.events.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), TrainError> {
        let fail = |key: &str, value: String, must: &str| {
            Err(TrainError::Config { key: format!("confidence.{key}"), value, must: must.into() })
        };
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return fail("alpha", self.alpha.to_string(), "be a number above 0");
        }
        if let Some(days) = self.half_life
            && !(days.is_finite() && days > 0.0)
        {
            return fail("half_life", days.to_string(), "be a number of days above 0");
        }
        if !(-4.0..=4.0).contains(&self.activity) {
            let must = "be from -4 to 4; above 0 light users count more, with 1 all users count alike";
            return fail("activity", self.activity.to_string(), must);
        }
        if !(self.clip.is_finite() && self.clip >= 1.0) {
            return fail("clip", self.clip.to_string(), "be a number from 1, the mean confidence");
        }
        if let Some((event, factor)) = self.events.iter().find(|(_, f)| !(f.is_finite() && **f >= 0.0)) {
            return fail(&format!("events.{event}"), factor.to_string(), "be a number from 0");
        }
        Ok(())
    }
}

/// The confidence in the interactions of a dataset.
pub(super) struct Confidence<'a> {
    interactions: &'a Interactions,
    config: ConfidenceConfig,
    /// Factor by event index.
    events: Vec<f64>,
    last: i64,
    /// Train interactions of the mean user that has any.
    mean_user: f64,
    scale: f64,
}

impl<'a> Confidence<'a> {
    /// `None` where all count alike. Reads the train part once, for the mean. O(interactions).
    pub(super) fn new(
        dataset: &'a Dataset,
        config: &ConfidenceConfig,
        ctx: &Context,
    ) -> Result<Option<Self>, TrainError> {
        if config.is_off() {
            return Ok(None);
        }
        let fail = |key: &str, value: String, must: String| {
            Err(TrainError::Config { key: format!("confidence.{key}"), value, must })
        };
        let manifest = dataset.manifest();
        let must =
            |column: &str| format!("be left out: the dataset has no {column} column; ingest the log with --{column}");
        if config.weight != WeightScale::None && !manifest.columns.weight {
            return fail("weight", "given".into(), must("weight"));
        }
        if config.half_life.is_some() && !manifest.columns.time {
            return fail("half_life", "given".into(), must("time"));
        }
        if !config.events.is_empty() && !manifest.columns.event {
            return fail("events", "given".into(), must("event"));
        }
        if let Some(unknown) = config.events.keys().find(|e| !manifest.events.contains(e)) {
            let known = manifest.events.join(", ");
            return fail("events", unknown.clone(), format!("be an event type of the dataset: {known}"));
        }
        let interactions = dataset.train();
        let mut confidence = Self {
            interactions,
            config: config.clone(),
            events: manifest.events.iter().map(|e| config.events.get(e).copied().unwrap_or(1.0)).collect(),
            last: interactions.summary().time_range.map_or(0, |r| r.1),
            mean_user: 1.0,
            scale: 1.0,
        };
        let active = interactions.summary().users.max(1);
        confidence.mean_user = interactions.len() as f64 / active as f64;
        let mut sum = 0.0;
        for c in 0..interactions.chunks() {
            ctx.check()?;
            let chunk = interactions.chunk(c);
            for u in 0..chunk.users() {
                let user = chunk.user(u);
                let own = match config.is_of_users() {
                    true => user.items.len() as f64,
                    false => (0..user.items.len()).map(|at| confidence.of_interaction(&user, at)).sum(),
                };
                if own > 0.0 {
                    sum += confidence.of_user(&user) * own;
                }
            }
            interactions.release(c);
        }
        if !(sum.is_finite() && sum > 0.0) {
            return fail("weight", "given".into(), "give the interactions a mean above 0".into());
        }
        confidence.scale = interactions.len() as f64 / sum;
        Ok(Some(confidence))
    }

    /// The factor of all interactions of a user who has any.
    fn of_user(&self, user: &UserItems<'_>) -> f64 {
        if self.config.activity == 0.0 {
            return 1.0;
        }
        (user.items.len() as f64 / self.mean_user).powf(-self.config.activity)
    }

    fn of_interaction(&self, user: &UserItems<'_>, at: usize) -> f64 {
        let weight = user.weights.get(at).map_or(0.0, |w| f64::from(w.to_native()).max(0.0));
        let by_weight = match self.config.weight {
            WeightScale::None => 1.0,
            WeightScale::Linear => 1.0 + self.config.alpha * weight,
            WeightScale::Log => 1.0 + self.config.alpha * weight.ln_1p(),
        };
        let by_age = match (self.config.half_life, user.times.get(at)) {
            (Some(days), Some(time)) => (-((self.last - time.to_native()) as f64) / DAY / days).exp2(),
            _ => 1.0,
        };
        let by_event = user.events.get(at).and_then(|e| self.events.get(usize::from(*e))).copied().unwrap_or(1.0);
        by_weight * by_age * by_event
    }

    /// Fills in the confidence in every positive of `batch`. O(positives × log).
    pub(super) fn fill(&self, batch: &mut Batch) {
        let mut k = 0;
        for (user, end) in batch.users.iter().zip(&batch.ends) {
            let user = self.interactions.user(*user);
            while k < *end as usize {
                batch.confidence.push(self.of(&user, batch.positives[k]));
                k += 1;
            }
        }
    }

    /// Fills in the confidence in every positive of `block`. O(positives × log).
    pub(super) fn fill_shared(&self, block: &mut SharedBlock) {
        let SharedBlock { users, items, user_of, item_of, confidence, .. } = block;
        let positives = user_of.iter().zip(&*item_of);
        let of =
            |(user, item): (&u32, &u32)| self.of(&self.interactions.user(users[*user as usize]), items[*item as usize]);
        confidence.clear();
        confidence.extend(positives.map(of));
    }

    /// The confidence in the interaction of `user` with `item`; 1 if there is none.
    fn of(&self, user: &UserItems<'_>, item: u32) -> f32 {
        let by_interaction = match self.config.is_of_users() {
            true => Some(1.0),
            false => {
                let at = user.items.binary_search_by_key(&item, |i| i.to_native());
                at.ok().map(|at| self.of_interaction(user, at))
            }
        };
        by_interaction.map_or(1.0, |own| (own * self.of_user(user) * self.scale).min(self.config.clip) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Columns, Event, Part};
    use crate::rank::fixture::dataset_with;

    #[test]
    fn confidence_is_the_product_of_its_factors_over_its_mean() {
        let folder = tempfile::tempdir().unwrap();
        let columns = Columns { time: true, weight: true, ..Columns::default() };
        let (weight, days) =
            (|u: usize, i: u32| (u as f32 + 1.0) * i as f32, |u: usize, i: u32| u as i64 + i64::from(i));
        let event = |u, item| Event {
            item,
            time: days(u, item) * DAY as i64,
            weight: weight(u, item),
            count: 1,
            event: 0,
            context: 0,
        };
        let users: Vec<Vec<u32>> = vec![vec![0, 1, 4], vec![2], vec![1, 3, 4, 5]];
        let data = dataset_with(&folder.path().join("d"), 6, &[(Part::Train, users.clone())], columns, event);
        let config = ConfidenceConfig {
            weight: WeightScale::Log,
            alpha: 3.0,
            half_life: Some(2.0),
            activity: 0.5,
            clip: 1.5,
            ..ConfidenceConfig::default()
        };
        let raw = |u: usize, i: u32| {
            let age = (7 - days(u, i)) as f64;
            let activity = (users[u].len() as f64 / (8.0 / 3.0)).powf(-0.5);
            activity * (1.0 + 3.0 * f64::from(weight(u, i)).ln_1p()) * (-age / 2.0).exp2()
        };
        let all: Vec<f64> =
            users.iter().enumerate().flat_map(|(u, items)| items.iter().map(move |i| raw(u, *i))).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let ctx = Context::default();
        let confidence = Confidence::new(&data, &config, &ctx).unwrap().unwrap();
        let mut batch = Batch { users: vec![2, 0], ends: vec![2, 3], positives: vec![5, 1, 4], ..Batch::default() };
        confidence.fill(&mut batch);
        for (got, (u, i)) in batch.confidence.iter().zip([(2, 5), (2, 1), (0, 4)]) {
            let want = (raw(u, i) / mean).min(1.5);
            assert!((f64::from(*got) - want).abs() < 1e-5, "{u} {i}: {got}, not {want}");
        }
        let mut block = SharedBlock {
            users: vec![2, 0],
            items: vec![3, 0, 5, 1, 4],
            negatives: 2,
            user_of: vec![0, 0, 1],
            item_of: vec![2, 3, 4],
            ..SharedBlock::default()
        };
        confidence.fill_shared(&mut block);
        assert_eq!(block.confidence, batch.confidence);
        assert!(Confidence::new(&data, &ConfidenceConfig::default(), &ctx).unwrap().is_none());
        let events = BTreeMap::from([("buy".to_string(), 2.0)]);
        let refused = Confidence::new(&data, &ConfidenceConfig { events, ..config }, &ctx).err().unwrap();
        assert!(refused.to_string().contains("no event column"), "{refused}");
    }

    #[test]
    fn with_activity_one_all_users_count_alike() {
        let folder = tempfile::tempdir().unwrap();
        let users: Vec<Vec<u32>> = vec![vec![0, 1, 4], vec![2], vec![], vec![1, 3, 4, 5]];
        let data = crate::rank::fixture::dataset(&folder.path().join("d"), 6, &[(Part::Train, users.clone())]);
        let config = ConfidenceConfig { activity: 1.0, ..ConfidenceConfig::default() };
        let confidence = Confidence::new(&data, &config, &Context::default()).unwrap().unwrap();
        let mut total = 0.0;
        for (u, items) in users.iter().enumerate().filter(|(_, items)| !items.is_empty()) {
            let user = data.train().user(u as u32);
            let own: f32 = items.iter().map(|i| confidence.of(&user, *i)).sum();
            assert!((own - 8.0 / 3.0).abs() < 1e-5, "user {u}: {own}");
            total += own;
        }
        assert!((total - 8.0).abs() < 1e-4, "the mean over interactions is 1");
        assert!(ConfidenceConfig { activity: 5.0, ..config }.validate().unwrap_err().to_string().contains("-4 to 4"));
    }
}
