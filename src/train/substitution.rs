//! Substitution: items that co-occur with a user's items stand in for a share of them.

use rand::Rng;

use super::TrainConfig;
use crate::context::{Context, Interrupted};
use crate::cooccurrence::{ItemUsers, SimilarItems};
use crate::dataset::Dataset;

/// What may stand in for what, and how often it does.
pub(super) struct Substitution {
    similar: SimilarItems,
    /// Of 2³².
    share: u32,
}

impl Substitution {
    /// As `config` has it, `None` if nothing is substituted; from a random `share` of the interactions, if memory does not
    /// suffice for all of them.
    pub(super) fn new(
        dataset: &Dataset,
        config: &TrainConfig,
        share: f64,
        ctx: &Context,
    ) -> Result<Option<Self>, Interrupted> {
        let substitutes = config.regularization.substitutes();
        if substitutes == 0 {
            return Ok(None);
        }
        let users = ItemUsers::new(dataset.train(), dataset.items().len(), share, ctx)?;
        let similar = SimilarItems::new(&users, substitutes, ctx)?;
        let share = (f64::from(config.regularization.substitution) * 2f64.powi(32)) as u32;
        Ok(Some(Self { similar, share }))
    }

    /// Bytes that it takes, on so many threads while it is built, and those for each interaction.
    pub(super) fn bytes(config: &TrainConfig, items: u64, threads: u64) -> (u64, u64) {
        match config.regularization.substitutes() {
            0 => (0, 0),
            n => (SimilarItems::bytes(items, n, threads) + items * ItemUsers::ITEM_BYTES, ItemUsers::BYTES),
        }
    }

    /// Substitutes some of the items of `pairs` (`user << 32 | item`).
    pub(super) fn apply(&self, pairs: &mut [u64], rng: &mut impl Rng) {
        for pair in pairs {
            if rng.next_u32() < self.share
                && let Some(other) = self.similar.draw(*pair as u32, rng)
            {
                *pair = *pair >> 32 << 32 | u64::from(other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Part;
    use crate::rank::fixture;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn a_share_of_the_items_changes_and_no_user_does() {
        let folder = tempfile::tempdir().unwrap();
        // Items 0 and 1 go together, 2 and 3 do, 4 goes with none.
        let users = vec![vec![0, 1], vec![2, 3], vec![0, 1], vec![4]];
        let data = fixture::dataset(&folder.path().join("d"), 5, &[(Part::Train, users)]);
        let mut config = TrainConfig::default();
        let ctx = Context::default();
        assert!(Substitution::new(&data, &config, 1.0, &ctx).unwrap().is_none());
        config.regularization.substitution = 0.25;
        let substitution = Substitution::new(&data, &config, 1.0, &ctx).unwrap().unwrap();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut pairs: Vec<u64> = (0..50_000).map(|k| k << 32 | (k % 5)).collect();
        substitution.apply(&mut pairs, &mut rng);
        let mut changed = [0f64; 5];
        for (k, pair) in (0u64..).zip(&pairs) {
            let (was, is) = (k % 5, *pair & 0xFFFF_FFFF);
            assert_eq!(pair >> 32, k);
            assert!(is == was || (was < 4 && is == was ^ 1));
            changed[was as usize] += f64::from(is != was);
        }
        // 2,500 of 10,000 each, give or take 4 deviations.
        assert!(changed[..4].iter().all(|c| (c - 2500.0).abs() < 4.0 * 43.4), "{changed:?}");
        assert_eq!(changed[4], 0.0);
    }
}
