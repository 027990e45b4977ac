//! What the tests of samplers share.

/// Checks by χ² that `drawn` numbers follow `weights`: what has none is never drawn.
pub(super) fn assert_follows(drawn: &[u32], weights: &[f64]) {
    let total: f64 = weights.iter().sum();
    let mut counts = vec![0f64; weights.len()];
    drawn.iter().for_each(|n| counts[*n as usize] += 1.0);
    // Cells that expect fewer than five are taken together: the approximation needs that.
    let (mut sum, mut cells, mut rest) = (0.0, 0f64, (0.0, 0.0));
    for (i, (count, weight)) in counts.iter().zip(weights).enumerate() {
        let expected = weight / total * drawn.len() as f64;
        if expected == 0.0 {
            assert_eq!(*count, 0.0, "{i} has no weight, but was drawn");
        } else if expected < 5.0 {
            rest = (rest.0 + count, rest.1 + expected);
        } else {
            sum += (count - expected).powi(2) / expected;
            cells += 1.0;
        }
    }
    if rest.1 > 0.0 {
        sum += (rest.0 - rest.1).powi(2) / rest.1.max(1.0);
        cells += 1.0;
    }
    // Mean f, deviation √(2f): five deviations above the mean fail.
    let freedom = (cells - 1.0f64).max(1.0);
    assert!(sum < freedom + 5.0 * (2.0 * freedom).sqrt(), "χ² {sum} of {freedom}: {counts:?} for {weights:?}");
}
