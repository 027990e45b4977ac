//! Successive halving (Jamieson & Talwalkar, AISTATS 2016): who is trained for how long, and who goes on.

/// How a sweep spends its time: all configurations are trained for a part of their epochs, from scratch and over their
/// whole schedule; the better ones go on to runs that are `eta` times as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halving {
    /// One in so many goes on, and is trained so many times as long. At least 2.
    pub eta: u32,
    /// No run is shorter than this many epochs.
    pub min_epochs: u32,
}

impl Default for Halving {
    /// Thirds, as in Hyperband (Li et al., JMLR 2018), from 3 epochs on.
    fn default() -> Self {
        Self { eta: 3, min_epochs: 3 }
    }
}

/// What each rung divides the epochs by, down to 1 for the last. Runs of `epochs`, the least that any of the
/// `configurations` has, stay at `min_epochs` or more, and two at least go on to the last rung, so that the best is
/// compared at full length.
pub(super) fn divisors(configurations: usize, epochs: u32, halving: Option<Halving>) -> Vec<u64> {
    let Some(Halving { eta, min_epochs }) = halving else { return vec![1] };
    let (eta, mut divisors) = (u64::from(eta.max(2)), vec![1u64]);
    let mut left = configurations;
    loop {
        let next = divisors[divisors.len() - 1].saturating_mul(eta);
        left = left.div_ceil(eta as usize);
        if left < 2 || u64::from(epochs) < next.saturating_mul(u64::from(min_epochs.max(1))) {
            divisors.reverse();
            return divisors;
        }
        divisors.push(next);
    }
}

/// The epochs of a run: those of its configuration over the rung's divisor, to the nearest.
pub(super) fn epochs_at(epochs: u32, divisor: u64) -> u32 {
    let nearest = (u64::from(epochs) + divisor / 2) / divisor;
    u32::try_from(nearest).unwrap_or(u32::MAX).max(1)
}

/// Which of a rung go on: the best one in `eta` by score, and at least two; of equal ones the earlier. Those without a
/// score have failed, and do not. In ascending order.
pub(super) fn survivors(scores: &[Option<f64>], eta: u32) -> Vec<usize> {
    let keep = scores.len().div_ceil(eta.max(2) as usize).max(2);
    let mut ranked: Vec<(f64, usize)> = scores.iter().enumerate().filter_map(|(i, s)| Some(((*s)?, i))).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.truncate(keep);
    let mut going: Vec<usize> = ranked.into_iter().map(|(_, i)| i).collect();
    going.sort_unstable();
    going
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rungs_are_as_long_as_configurations_and_epochs_allow() {
        let thirds = Some(Halving { eta: 3, min_epochs: 3 });
        for (configurations, epochs, halving, expected) in [
            (100, 30, None, vec![1]),
            (100, 30, thirds, vec![9, 3, 1]),
            (100, 26, thirds, vec![3, 1]),
            (100, 8, thirds, vec![1]),
            (9, 1000, thirds, vec![3, 1]),
            (4, 1000, thirds, vec![3, 1]),
            (3, 1000, thirds, vec![1]),
            (1, 1000, thirds, vec![1]),
            (8, 64, Some(Halving { eta: 2, min_epochs: 1 }), vec![4, 2, 1]),
        ] {
            assert_eq!(divisors(configurations, epochs, halving), expected, "{configurations} {epochs}");
        }
        assert_eq!([30, 31, 32].map(|epochs| epochs_at(epochs, 9)), [3, 3, 4]);
        assert_eq!(epochs_at(1, 9), 1);
    }

    proptest! {
        #[test]
        fn who_survives_is_beaten_by_few(
            scores in prop::collection::vec(prop::option::weighted(0.8, (0u8..12).prop_map(f64::from)), 1..60),
            eta in 2u32..6,
        ) {
            let going = survivors(&scores, eta);
            let keep = scores.len().div_ceil(eta as usize).max(2);
            for (i, score) in scores.iter().enumerate() {
                // By definition: one goes on if fewer than that many are better, or as good and earlier.
                let expected = score.is_some_and(|own| {
                    let beaten = |(j, other): (usize, &Option<f64>)| {
                        other.is_some_and(|other| other > own || (other == own && j < i))
                    };
                    scores.iter().enumerate().filter(|(j, other)| beaten((*j, other))).count() < keep
                });
                prop_assert_eq!(going.contains(&i), expected, "{}", i);
            }
            prop_assert!(going.is_sorted());
        }

        #[test]
        fn a_rung_is_eta_times_the_one_before(n in 1usize..500, epochs in 1u32..2000, eta in 2u32..6, least in 1u32..9) {
            let divisors = divisors(n, epochs, Some(Halving { eta, min_epochs: least }));
            prop_assert_eq!(*divisors.last().unwrap(), 1);
            prop_assert!(divisors.windows(2).all(|w| w[0] == w[1] * u64::from(eta)));
            let first = divisors[0];
            prop_assert!(first == 1 || u64::from(epochs) / first >= u64::from(least));
            // Without failures two are left at the end, if there were two.
            let left = divisors[1..].iter().fold(n, |left, _| survivors(&vec![Some(0.0); left], eta).len());
            prop_assert!(left >= n.min(2), "{}", left);
        }
    }
}
