//! How the negatives are: measured on a sample while training, before the update.

use rkyv::rend::u32_le;
use serde::{Deserialize, Serialize};

use super::{Batch, NegativesConfig, Scores, SharedBlock};
use crate::dataset::{Dataset, Interactions, Part};

/// One positive in this many is looked at.
const EVERY: usize = 256;
/// Of one block of shared negatives in this many, a positive is.
const BLOCKS: u64 = 8;
/// Difficulty is counted in so many classes.
const CLASSES: usize = 10;

/// How the negatives of an epoch were: a sample of one positive in 256, with the scores of the moment; where a block shares
/// its negatives, of one positive in every eighth block.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NegativesReport {
    /// Negatives in the sample.
    pub sampled: u64,
    /// The share that scored above their positive.
    pub harder: f64,
    /// Shares by σ((s⁻ − s⁺) / T), from 0 to 1 in ten classes; T is the loss's temperature.
    pub difficulty: Vec<f64>,
    /// Mean of s⁺ − s⁻.
    pub mean_gap: f64,
    /// Mean of ln(1 + train interactions) of the negatives.
    pub log_popularity: f64,
    /// The same of their positives.
    pub positive_log_popularity: f64,
    /// Effective sample size of the weights, (Σw)² / Σw², as a share of the negatives.
    pub effective_sample_size: f64,
    /// The share that are held-out positives of the user, of the valid part; none without one.
    pub false_negatives: Option<f64>,
    /// The shares that the components of a mixture drew, of all negatives.
    pub components: Vec<ComponentShare>,
    /// The share that are uniform because their component had nothing to propose.
    pub filled: f64,
    /// The share that have no weight because no candidate passed, or none violated.
    pub void: f64,
}

/// What one component of a mixture drew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComponentShare {
    /// What it proposes, as in TOML.
    pub propose: String,
    /// How it selects, as in TOML.
    pub select: String,
    /// Its share of the negatives.
    pub share: f64,
}

/// Sums over what one lane has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    positives: u64,
    negatives: u64,
    /// Blocks of shared negatives that went by.
    blocks: u64,
    classes: [u64; CLASSES],
    harder: u64,
    gap: f64,
    log_popularity: f64,
    positive_log_popularity: f64,
    weights: (f64, f64),
    held_out: u64,
    all: u64,
    drawn: Vec<u64>,
    filled: u64,
    void: u64,
}

/// What the negatives are held against.
pub(crate) struct Watch<'a> {
    popularity: &'a [u32_le],
    valid: Option<&'a Interactions>,
    each: usize,
    inverse_temperature: f32,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(dataset: &'a Dataset, each: usize, temperature: f32) -> Self {
        Self {
            popularity: dataset.popularity(),
            valid: dataset.part(Part::Valid),
            each,
            inverse_temperature: 1.0 / temperature,
        }
    }

    /// Looks at a sample of `batch`.
    pub(crate) fn look(&self, batch: &Batch, scores: &impl Scores, health: &mut Health) {
        health.all += batch.negatives.len() as u64;
        health.drawn.resize(health.drawn.len().max(batch.drawn.len()), 0);
        health.drawn.iter_mut().zip(&batch.drawn).for_each(|(sum, n)| *sum += n);
        health.filled += batch.filled;
        health.void += batch.void;
        let mut out = Vec::new();
        // Another first one each time, so that long runs of few users are not favoured.
        let first = (health.all / self.each as u64 / 7) as usize % EVERY;
        for k in (first..batch.positives.len()).step_by(EVERY) {
            let user = batch.users[batch.run_of(k)];
            let of = k * self.each..(k + 1) * self.each;
            let negatives = &batch.negatives[of.clone()];
            let weights = batch.weights.get(of).unwrap_or_default();
            self.look_at((user, batch.positives[k]), negatives, weights, scores, (&mut out, health));
        }
    }

    /// Looks at a positive of every eighth `block`; what its user has taken is no negative of it.
    pub(crate) fn look_at_shared(&self, block: &SharedBlock, scores: &impl Scores, health: &mut Health) {
        let blocks = health.blocks;
        health.blocks += 1;
        if !blocks.is_multiple_of(BLOCKS) || block.user_of.is_empty() {
            return;
        }
        // Another place each time: users come in no order, but last blocks are short.
        let p = (blocks / BLOCKS) as usize % block.user_of.len();
        let (user, item) = (block.users[block.user_of[p] as usize], block.items[block.item_of[p] as usize]);
        let taken = |slot: usize| block.masked.binary_search(&(p as u32, slot as u32)).is_ok();
        let shared = block.items[..block.negatives].iter().enumerate();
        let negatives: Vec<u32> = shared.filter(|(slot, _)| !taken(*slot)).map(|(_, item)| *item).collect();
        health.all += negatives.len() as u64;
        self.look_at((user, item), &negatives, &[], scores, (&mut Vec::new(), health));
    }

    /// Looks at one positive, a user and an item, and its `negatives`; without `weights` all count alike.
    fn look_at(
        &self,
        (user, item): (u32, u32),
        negatives: &[u32],
        weights: &[f32],
        scores: &impl Scores,
        (out, health): (&mut Vec<f32>, &mut Health),
    ) {
        out.resize(negatives.len(), 0.0);
        let mut positive = [0f32];
        scores.of_user(user, &[item], &mut positive);
        scores.of_user(user, negatives, out);
        let held_out = self.valid.map(|valid| valid.positives(user));
        let log = |item: u32| f64::from(self.popularity[item as usize].to_native()).ln_1p();
        health.positives += 1;
        health.negatives += negatives.len() as u64;
        health.positive_log_popularity += log(item);
        for (j, (item, score)) in negatives.iter().zip(&*out).enumerate() {
            let gap = positive[0] - score;
            let p = 1.0 / (1.0 + (self.inverse_temperature * gap).exp());
            health.classes[((p * CLASSES as f32) as usize).min(CLASSES - 1)] += 1;
            health.harder += u64::from(gap < 0.0);
            health.gap += f64::from(gap);
            health.log_popularity += log(*item);
            let weight = f64::from(weights.get(j).copied().unwrap_or(1.0));
            health.weights = (health.weights.0 + weight, health.weights.1 + weight * weight);
            health.held_out += held_out.as_ref().map_or(0, |held| u64::from(held.contains(*item)));
        }
    }

    /// What an epoch's sums say.
    pub(crate) fn report(&self, health: &Health, config: &NegativesConfig) -> NegativesReport {
        let n = health.negatives.max(1) as f64;
        let all = health.all.max(1) as f64;
        let shares = health.drawn.iter().zip(&config.mix).map(|(drawn, component)| ComponentShare {
            propose: component.propose.name().to_string(),
            select: component.select.name().to_string(),
            share: *drawn as f64 / all,
        });
        let (sum, squares) = health.weights;
        NegativesReport {
            sampled: health.negatives,
            harder: health.harder as f64 / n,
            difficulty: health.classes.iter().map(|c| *c as f64 / n).collect(),
            mean_gap: health.gap / n,
            log_popularity: health.log_popularity / n,
            positive_log_popularity: health.positive_log_popularity / health.positives.max(1) as f64,
            effective_sample_size: if squares > 0.0 { sum * sum / squares / n } else { 0.0 },
            false_negatives: self.valid.map(|_| health.held_out as f64 / n),
            components: shares.collect(),
            filled: health.filled as f64 / all,
            void: health.void as f64 / all,
        }
    }
}

impl Health {
    /// Adds what another lane has seen.
    pub(crate) fn add(&mut self, other: &Self) {
        self.positives += other.positives;
        self.negatives += other.negatives;
        self.blocks += other.blocks;
        self.classes.iter_mut().zip(other.classes).for_each(|(sum, n)| *sum += n);
        self.harder += other.harder;
        self.gap += other.gap;
        self.log_popularity += other.log_popularity;
        self.positive_log_popularity += other.positive_log_popularity;
        self.weights = (self.weights.0 + other.weights.0, self.weights.1 + other.weights.1);
        self.held_out += other.held_out;
        self.all += other.all;
        self.drawn.resize(self.drawn.len().max(other.drawn.len()), 0);
        self.drawn.iter_mut().zip(&other.drawn).for_each(|(sum, n)| *sum += n);
        self.filled += other.filled;
        self.void += other.void;
    }
}

impl std::fmt::Display for NegativesReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        write!(
            f,
            "negatives: {} score above their positive, mean gap {:.3}, {:.2} times the positives' popularity",
            percent(self.harder),
            self.mean_gap,
            (self.log_popularity - self.positive_log_popularity).exp(),
        )?;
        for component in &self.components {
            write!(f, ", {} {}/{}", percent(component.share), component.propose, component.select)?;
        }
        for (share, what) in [(self.filled, "filled in by uniform ones"), (self.void, "without weight")] {
            if share > 0.0 {
                write!(f, ", {} {what}", percent(share))?;
            }
        }
        if self.effective_sample_size < 0.9995 {
            write!(f, ", effective sample size {}", percent(self.effective_sample_size))?;
        }
        if let Some(share) = self.false_negatives {
            write!(f, ", {:.3} % are held-out positives", 100.0 * share)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::fixture::dataset;

    /// Item i scores i for everybody.
    struct ById;

    impl Scores for ById {
        fn of_user(&self, _: u32, items: &[u32], out: &mut [f32]) {
            out.iter_mut().zip(items).for_each(|(out, item)| *out = *item as f32);
        }

        fn of_item(&self, _: u32, _: &[u32], _: &mut [f32]) {}

        fn width(&self) -> usize {
            0
        }

        fn user_row(&self, _: u32, _: &mut [f32]) {}

        fn item_row(&self, _: u32, _: &mut [f32]) {}
    }

    #[test]
    fn a_report_says_what_was_in_the_batches() {
        let folder = tempfile::tempdir().unwrap();
        // Item 0 has two train interactions, item 1 one, the others none; user 0's held-out positive is item 3.
        let parts = [(Part::Train, vec![vec![0, 1], vec![0]]), (Part::Valid, vec![vec![3], vec![]])];
        let data = dataset(&folder.path().join("d"), 4, &parts);
        let watch = Watch::new(&data, 2, 1.0);
        // Of every positive 1 the negatives are 3, with weight 1, and 0, with weight 0.
        let n = EVERY as u32 * 50;
        let batch = Batch {
            users: vec![0],
            ends: vec![n],
            positives: vec![1; n as usize],
            negatives: [3, 0].repeat(n as usize),
            weights: [1.0, 0.0].repeat(n as usize),
            void: u64::from(n),
            ..Batch::default()
        };
        let mut health = Health::default();
        for _ in 0..3 {
            let mut lane = Health::default();
            watch.look(&batch, &ById, &mut lane);
            health.add(&lane);
        }
        let report = watch.report(&health, &NegativesConfig::default());
        assert_eq!(report.sampled, 3 * 50 * 2);
        assert_eq!((report.harder, report.void, report.false_negatives), (0.5, 0.5, Some(0.5)));
        assert!((report.mean_gap - (-2.0 + 1.0) / 2.0).abs() < 1e-9);
        // σ(2) = 0.88 and σ(−1) = 0.27.
        assert_eq!((report.difficulty[8], report.difficulty[2]), (0.5, 0.5));
        assert!((report.log_popularity - 3f64.ln() / 2.0).abs() < 1e-9);
        assert!((report.positive_log_popularity - 2f64.ln()).abs() < 1e-9);
        assert!((report.effective_sample_size - 0.5).abs() < 1e-9);
    }

    #[test]
    fn shared_negatives_are_looked_at_but_for_what_the_user_has_taken() {
        let folder = tempfile::tempdir().unwrap();
        let parts = [(Part::Train, vec![vec![0, 1], vec![0]]), (Part::Valid, vec![vec![3], vec![]])];
        let data = dataset(&folder.path().join("d"), 4, &parts);
        let watch = Watch::new(&data, 3, 1.0);
        // User 0's positive is 1; of the shared negatives 3, 0 and 2 item 0 is masked. The same again for user 1's 0.
        let block = SharedBlock {
            users: vec![0, 1],
            items: vec![3, 0, 2, 1],
            negatives: 3,
            user_of: vec![0, 1],
            item_of: vec![3, 1],
            masked: vec![(0, 1), (1, 1)],
            ..SharedBlock::default()
        };
        let mut health = Health::default();
        (0..2 * BLOCKS).for_each(|_| watch.look_at_shared(&block, &ById, &mut health));
        let report = watch.report(&health, &NegativesConfig::default());
        assert_eq!((report.sampled, report.harder, report.false_negatives), (4, 1.0, Some(0.25)));
        // Gaps of 1 to 3 and 2, and of 0 to 3 and 2.
        assert!((report.mean_gap - (-2.0 - 1.0 - 3.0 - 2.0) / 4.0).abs() < 1e-9);
        assert!((report.positive_log_popularity - (2f64.ln() + 3f64.ln()) / 2.0).abs() < 1e-9);
    }
}
