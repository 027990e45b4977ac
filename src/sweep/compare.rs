//! Confidence intervals of configurations, and whether one can be told apart from the best.

use crate::mix::{GOLDEN, mix};

/// Replicates of a configuration's mean over its seeds: users are drawn again as its runs' replicates have it, and
/// seeds on their own, with replacement.
///
/// Of few seeds drawn again the mean varies too little, by (seeds − 1) / seeds; its distance from the mean over all is
/// stretched to make up for it (Rao & Wu, 1988). With one seed only users are drawn. `number` sets the configuration's
/// draws of seeds apart from others'. O(seeds × replicates).
pub(super) fn over_seeds(runs: &[&[f32]], number: usize) -> Vec<f64> {
    let seeds = runs.len();
    let replicates = runs.iter().map(|run| run.len()).min().unwrap_or(0);
    let stretch = if seeds > 1 { (seeds as f64 / (seeds as f64 - 1.0)).sqrt() } else { 0.0 };
    let own = mix((number as u64 + 1).wrapping_mul(GOLDEN));
    let mean = |sum: f64| sum / seeds as f64;
    let one = |b: usize| {
        let all = mean(runs.iter().map(|run| f64::from(run[b])).sum());
        let draw = |s: usize| {
            let hash = mix(own.wrapping_add(((b * seeds + s) as u64 + 1).wrapping_mul(GOLDEN)));
            // Of 32 bits: too few seeds for the bias to be seen.
            f64::from(runs[(((hash >> 32) * seeds as u64) >> 32) as usize][b])
        };
        all + stretch * (mean((0..seeds).map(draw).sum()) - all)
    };
    (0..replicates).map(one).collect()
}

/// Mean and, of two numbers and more, standard deviation.
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_deviations_are_those_of_the_definition() {
        assert_eq!(mean_and_deviation(&[1.0]), (1.0, None));
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, Some(2f64.sqrt())));
    }

    #[test]
    fn seeds_that_differ_widen_the_interval_as_much_as_they_should() {
        // No spread over users: what is left is that of the seeds, a variance of 1 over 3 of them.
        let replicates = 20_000;
        let runs: Vec<Vec<f32>> = [-1.0, 0.0, 1.0].iter().map(|x| vec![*x; replicates]).collect();
        let drawn = over_seeds(&runs.iter().map(Vec::as_slice).collect::<Vec<_>>(), 7);
        let mean = drawn.iter().sum::<f64>() / replicates as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / replicates as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0 / 3.0).abs() < 0.02, "{mean} {variance}");
        // One seed: as it is.
        assert_eq!(over_seeds(&[&[0.5, 0.25]], 7), [0.5, 0.25]);
        assert_ne!(over_seeds(&[&[0.0; 40], &[1.0; 40]], 1), over_seeds(&[&[0.0; 40], &[1.0; 40]], 2));
    }
}
