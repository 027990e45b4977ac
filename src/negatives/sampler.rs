//! Draws the negatives of a user's run of positives: propose, drop the user's positives and repeats, keep the first.

use rand::{Rng, RngExt};

use super::audit::Onlooker;
use super::filter::Excluded;
use super::{Batch, Distribution, NegativesConfig, Wanted};

/// Candidates to try before drawing exactly from what is allowed.
pub(super) const TRIES: usize = 32;

/// Draws negatives by the proposal `P`, never one of the user's positives unless they are allowed.
#[derive(Clone)]
pub(crate) struct Sampler<P> {
    proposal: P,
    each: usize,
    with_replacement: bool,
    allow_positives: bool,
    excluded: Excluded,
}

impl<P: Distribution> Sampler<P> {
    /// `each` negatives a positive, as `config` says but for the proposal, in blocks of at most `largest_block` items.
    pub(crate) fn new(proposal: P, (config, each): (&NegativesConfig, usize), largest_block: usize) -> Self {
        let NegativesConfig { with_replacement, allow_positives, .. } = *config;
        Self { proposal, each, with_replacement, allow_positives, excluded: Excluded::new(largest_block) }
    }

    /// Appends a run to `batch`: the positives of `user` at these positions of `block`, which are all that the user has
    /// in the block, as far as they are `wanted`, and their negatives. Where too few items are left to be negatives, the run is skipped and counted.
    /// Those who look on see every draw.
    #[inline(always)]
    pub(super) fn run(
        &mut self,
        (user, run): (u32, &[u64]),
        block: &[u32],
        wanted: Wanted<'_>,
        rng: &mut impl Rng,
        batch: &mut Batch,
        onlooker: &mut impl Onlooker,
    ) {
        let needed = if self.with_replacement { 1 } else { self.each };
        let excluded = if self.allow_positives { 1 } else { run.len() };
        if block.len() < excluded + needed {
            let wants = |pair: &&u64| wanted.is_none_or(|wanted| wanted(user, block[**pair as u32 as usize]));
            batch.skipped += run.iter().filter(wants).count() as u64;
            return;
        }
        if !self.allow_positives {
            for pair in run {
                self.excluded.insert(*pair as u32);
            }
        }
        let before = batch.positives.len();
        for pair in run {
            if wanted.is_some_and(|wanted| !wanted(user, block[*pair as u32 as usize])) {
                continue;
            }
            let first = batch.negatives.len();
            onlooker.begin(user, block, *pair as u32);
            if self.allow_positives {
                self.excluded.insert(*pair as u32);
            }
            for _ in 0..self.each {
                let Some(position) = self.one(block, rng, onlooker) else { break };
                onlooker.drawn(block, position);
                if !self.with_replacement {
                    self.excluded.insert(position);
                }
                batch.negatives.push(position);
            }
            if !self.with_replacement {
                for position in &batch.negatives[first..] {
                    self.excluded.remove(*position);
                }
            }
            if self.allow_positives {
                self.excluded.remove(*pair as u32);
            }
            let complete = batch.negatives.len() - first == self.each;
            onlooker.end(complete);
            if !complete {
                batch.negatives.truncate(first);
                batch.skipped += 1;
                continue;
            }
            for position in &mut batch.negatives[first..] {
                *position = block[*position as usize];
            }
            batch.positives.push(block[*pair as u32 as usize]);
        }
        if !self.allow_positives {
            for pair in run {
                self.excluded.remove(*pair as u32);
            }
        }
        if batch.positives.len() > before {
            batch.users.push(user);
            batch.ends.push(batch.positives.len() as u32);
        }
    }

    /// A candidate that is not excluded, or `None` where no such item has any weight.
    #[inline(always)]
    fn one(&self, block: &[u32], rng: &mut impl Rng, onlooker: &mut impl Onlooker) -> Option<u32> {
        for _ in 0..TRIES {
            let position = self.proposal.draw(block, rng);
            if !self.excluded.contains(position) {
                return Some(position);
            }
            onlooker.refused(block, position);
        }
        draw_exactly(&self.proposal, &self.excluded, block, rng)
    }
}

/// Draws from what is allowed by walking the block: slow, but it ends, however little is left. The distribution is
/// that of rejection: proportional to the weights, given that the candidate is allowed.
#[cold]
pub(super) fn draw_exactly(
    proposal: &impl Distribution,
    excluded: &Excluded,
    block: &[u32],
    rng: &mut impl Rng,
) -> Option<u32> {
    let allowed =
        || (0..block.len() as u32).filter(|p| !excluded.contains(*p)).map(|p| (p, proposal.weight(block[p as usize])));
    let total: f64 = allowed().map(|(_, w)| w).sum();
    let mut left = rng.random::<f64>() * total;
    let mut last = None;
    for (position, weight) in allowed().filter(|(_, w)| *w > 0.0) {
        last = Some(position);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::super::audit::NoOne;
    use super::super::tests::assert_follows;
    use super::super::{Popularity, Uniform};
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    fn draw<P: Distribution>(
        proposal: P,
        each: usize,
        replacement: bool,
        items: u32,
        run: &[u32],
        rounds: usize,
    ) -> Batch {
        let block: Vec<u32> = (0..items).collect();
        let config = NegativesConfig { with_replacement: replacement, ..NegativesConfig::default() };
        let mut sampler = Sampler::new(proposal, (&config, each), block.len());
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut batch = Batch::default();
        let run: Vec<u64> = run.iter().map(|p| 7 << 32 | u64::from(*p)).collect();
        for _ in 0..rounds {
            sampler.run((7, &run), &block, None, &mut rng, &mut batch, &mut NoOne);
        }
        batch
    }

    #[test]
    fn uniform_negatives_are_uniform_over_what_is_allowed() {
        // Few positives: by rejection. Nearly all: drawn exactly.
        for positives in [vec![3u32, 8, 20], (0..62).filter(|i| i % 31 != 5).collect()] {
            let batch = draw(Uniform, 2, true, 62, &positives, 120_000 / positives.len());
            let weights: Vec<f64> = (0..62).map(|i| if positives.contains(&i) { 0.0 } else { 1.0 }).collect();
            assert_follows(&batch.negatives, &weights);
        }
    }

    #[test]
    fn popularity_negatives_follow_the_power_of_popularity() {
        let counts: Vec<u32> = (0..80).map(|i| i * i % 97).collect();
        for alpha in [0.75, 0.5, 1.0] {
            let batch = draw(Popularity::new(counts.iter().copied(), alpha), 1, true, 80, &[4, 9, 50], 60_000);
            let weights: Vec<f64> = counts
                .iter()
                .enumerate()
                .map(|(i, c)| if [4, 9, 50].contains(&i) || *c == 0 { 0.0 } else { f64::from(*c).powf(alpha) })
                .collect();
            assert_follows(&batch.negatives, &weights);
        }
    }

    #[test]
    fn a_user_who_has_everything_is_skipped_and_counted() {
        let all: Vec<u32> = (0..20).collect();
        let batch = draw(Uniform, 1, true, 20, &all, 3);
        assert_eq!((batch.positives.len(), batch.skipped), (0, 60));
        let batch = draw(Uniform, 3, false, 20, &all[..18], 1);
        assert_eq!((batch.positives.len(), batch.skipped), (0, 18));
        // The two items left have no popularity, so that nothing can be proposed.
        let counts = (0..20).map(|i| u32::from(i < 18));
        let batch = draw(Popularity::new(counts, 1.0), 1, true, 20, &all[..18], 1);
        assert_eq!((batch.positives.len(), batch.users.len(), batch.skipped), (0, 0, 18));
    }

    proptest! {
        #[test]
        fn never_a_positive_and_without_replacement_never_a_repeat(
            items in 1u32..200, share in 0f64..1.0, each in 1usize..6, replacement: bool,
        ) {
            let run: Vec<u32> = (0..items).filter(|i| f64::from(i.wrapping_mul(2_654_435_761)) / 4_294_967_296.0 < share).collect();
            let batch = draw(Uniform, each, replacement, items, &run, 2);
            prop_assert_eq!(batch.negatives.len(), batch.positives.len() * each);
            prop_assert_eq!(batch.positives.len() as u64 + batch.skipped, 2 * run.len() as u64);
            for group in batch.negatives.chunks(each) {
                for (i, n) in group.iter().enumerate() {
                    prop_assert!(!run.contains(n));
                    prop_assert!(replacement || !group[..i].contains(n));
                }
            }
        }
    }
}
