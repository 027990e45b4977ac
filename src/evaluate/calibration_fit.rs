//! Fits curves from scores to probabilities.

use crate::model::{CalibrationCurve, sigmoid};

/// Newton steps at most; a dozen do.
const STEPS: usize = 100;
/// A gradient below this, a mean over the pairs, is none.
const TOLERANCE: f64 = 1e-10;
/// Halvings of a step that does not pay.
const HALVINGS: u32 = 40;

/// Platt scaling: minimizes the cross-entropy of σ(slope × score + intercept) with smoothed targets (n⁺ + 1)/(n⁺ + 2) and
/// 1/(n⁻ + 2) (Platt 1999, "Probabilistic Outputs for Support Vector Machines", as Lin, Lin & Weng 2007 put it) by Newton's
/// method. Infinite scores count as the largest finite ones.
pub(super) fn platt(pairs: &[(f32, bool)]) -> CalibrationCurve {
    let finite = |score: f32| f64::from(score.clamp(f32::MIN, f32::MAX));
    let n = pairs.len().max(1) as f64;
    let mean = pairs.iter().map(|(score, _)| finite(*score)).sum::<f64>() / n;
    let variance = pairs.iter().map(|(score, _)| (finite(*score) - mean).powi(2)).sum::<f64>() / n;
    // Scores are put on a scale of their own: Newton's method then does not depend on their unit.
    let scale = if variance.sqrt() > 1e-12 * mean.abs() { variance.sqrt().max(f64::MIN_POSITIVE) } else { 0.0 };
    let standard = |score: f32| if scale > 0.0 { (finite(score) - mean) / scale } else { 0.0 };
    let positives = pairs.iter().filter(|(_, positive)| *positive).count() as f64;
    let targets = [1.0 / (n - positives + 2.0), (positives + 1.0) / (positives + 2.0)];
    let terms = || pairs.iter().map(|(score, positive)| (standard(*score), targets[usize::from(*positive)]));
    let mut at = [0.0, ((positives + 1.0) / (n - positives + 1.0)).ln()];
    let mut value = cross_entropy(terms(), at);
    for _ in 0..STEPS {
        let (gradient, [aa, ab, bb]) = derivatives(terms(), at);
        if gradient.iter().all(|g| g.abs() < TOLERANCE) {
            break;
        }
        let (aa, bb) = (aa + 1e-12, bb + 1e-12);
        let determinant = aa * bb - ab * ab;
        let step = match determinant > 0.0 {
            true => [
                -(bb * gradient[0] - ab * gradient[1]) / determinant,
                -(aa * gradient[1] - ab * gradient[0]) / determinant,
            ],
            false => gradient.map(|g| -g),
        };
        let slope = gradient[0] * step[0] + gradient[1] * step[1];
        let mut length = 1.0;
        let mut better = None;
        for _ in 0..HALVINGS {
            let next = [at[0] + length * step[0], at[1] + length * step[1]];
            let found = cross_entropy(terms(), next);
            if found < value + 1e-4 * length * slope {
                better = Some((next, found));
                break;
            }
            length /= 2.0;
        }
        let Some((next, found)) = better else { break };
        (at, value) = (next, found);
    }
    match scale > 0.0 {
        true => CalibrationCurve::Platt { slope: at[0] / scale, intercept: at[1] - at[0] * mean / scale },
        false => CalibrationCurve::Platt { slope: 0.0, intercept: at[1] },
    }
}

/// The mean cross-entropy of σ(a s + b) and t, over pairs (s, t).
fn cross_entropy(terms: impl Iterator<Item = (f64, f64)>, [a, b]: [f64; 2]) -> f64 {
    let (mut sum, mut n) = (0.0, 0.0);
    for (score, target) in terms {
        let z = a * score + b;
        // ln(1 + e^z) − t z, without overflow.
        sum += z.max(0.0) + (-z.abs()).exp().ln_1p() - target * z;
        n += 1.0;
    }
    sum / f64::max(n, 1.0)
}

/// Its gradient, and its Hessian's (a, a), (a, b) and (b, b).
fn derivatives(terms: impl Iterator<Item = (f64, f64)>, [a, b]: [f64; 2]) -> ([f64; 2], [f64; 3]) {
    let (mut gradient, mut hessian, mut n) = ([0.0; 2], [0.0; 3], 0.0);
    for (score, target) in terms {
        let p = sigmoid(a * score + b);
        let (error, weight) = (p - target, p * (1.0 - p));
        gradient = [gradient[0] + error * score, gradient[1] + error];
        hessian = [hessian[0] + weight * score * score, hessian[1] + weight * score, hessian[2] + weight];
        n += 1.0;
    }
    let n = f64::max(n, 1.0);
    (gradient.map(|g| g / n), hessian.map(|h| h / n))
}

/// Pairs of neighbouring scores that share a probability.
#[derive(Clone, Copy)]
struct Step {
    positives: u64,
    count: u64,
    low: f32,
    high: f32,
}

impl Step {
    /// Whether its mean is at least that of `next`; exact.
    fn violates(&self, next: &Self) -> bool {
        u128::from(self.positives) * u128::from(next.count) >= u128::from(next.positives) * u128::from(self.count)
    }
}

/// Isotonic regression of what is (0 or 1) on the score, by pooling adjacent violators (Ayer et al. 1955): the curve that
/// never falls with the least sum of squares. Equal scores are one. Puts `pairs` in order; O(n log n).
pub(super) fn isotonic(pairs: &mut [(f32, bool)]) -> CalibrationCurve {
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut steps: Vec<Step> = Vec::new();
    for ties in pairs.chunk_by(|a, b| a.0 == b.0) {
        let positives = ties.iter().filter(|(_, positive)| *positive).count() as u64;
        let (low, high) = (ties[0].0, ties[0].0);
        let mut step = Step { positives, count: ties.len() as u64, low, high };
        while let Some(last) = steps.last().filter(|last| last.violates(&step)) {
            step = Step {
                positives: last.positives + step.positives,
                count: last.count + step.count,
                low: last.low,
                high: step.high,
            };
            steps.pop();
        }
        steps.push(step);
    }
    let mut points = Vec::new();
    for Step { positives, count, low, high } in steps {
        let mean = positives as f64 / count as f64;
        // JSON has no infinity.
        let [low, high] = [low, high].map(|score| f64::from(score.clamp(f32::MIN, f32::MAX)));
        points.push([low, mean]);
        if high > low {
            points.push([high, mean]);
        }
    }
    CalibrationCurve::Isotonic { points }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The min-max formula of isotonic regression: at i, the largest over starts ≤ i of the least mean from there to an end
    /// ≥ i. O(n³) as written, with sums by differences O(n²) for all.
    fn oracle(values: &[(f64, f64)]) -> Vec<f64> {
        let mean = |from: usize, to: usize| {
            let (sum, n) = values[from..=to].iter().fold((0.0, 0.0), |(s, n), (x, w)| (s + x, n + w));
            sum / n
        };
        let least = |from: usize, i: usize| (i..values.len()).map(|to| mean(from, to)).fold(f64::INFINITY, f64::min);
        (0..values.len()).map(|i| (0..=i).map(|from| least(from, i)).fold(f64::NEG_INFINITY, f64::max)).collect()
    }

    proptest! {
        #[test]
        fn pooling_gives_what_the_min_max_formula_does(pairs in proptest::collection::vec((0u8..12, any::<bool>()), 1..40)) {
            let mut pairs: Vec<(f32, bool)> = pairs.into_iter().map(|(s, p)| (f32::from(s) / 4.0, p)).collect();
            let curve = isotonic(&mut pairs);
            let ties: Vec<_> = pairs.chunk_by(|a, b| a.0 == b.0).collect();
            let sums: Vec<_> =
                ties.iter().map(|t| (t.iter().filter(|p| p.1).count() as f64, t.len() as f64)).collect();
            for (ties, expected) in ties.iter().zip(oracle(&sums)) {
                prop_assert!((curve.probability(ties[0].0) - expected).abs() < 1e-9);
            }
            let CalibrationCurve::Isotonic { points } = curve else { unreachable!() };
            prop_assert!(points.windows(2).all(|w| w[0][0] < w[1][0] && w[0][1] <= w[1][1]));
        }

        #[test]
        fn gradients_and_hessians_are_those_by_differences(
            terms in proptest::collection::vec((-3.0f64..3.0, 0.0f64..1.0), 1..20), a in -2.0f64..2.0, b in -2.0f64..2.0,
        ) {
            let (h, all) = (1e-4, || terms.iter().copied());
            let (gradient, [aa, ab, bb]) = derivatives(all(), [a, b]);
            let value = |a, b| cross_entropy(all(), [a, b]);
            let slope = [(value(a + h, b) - value(a - h, b)) / (2.0 * h), (value(a, b + h) - value(a, b - h)) / (2.0 * h)];
            prop_assert!((gradient[0] - slope[0]).abs() < 1e-6 && (gradient[1] - slope[1]).abs() < 1e-6);
            let by = |a, b| derivatives(all(), [a, b]).0;
            let along_a = [0, 1].map(|i| (by(a + h, b)[i] - by(a - h, b)[i]) / (2.0 * h));
            let along_b = (by(a, b + h)[1] - by(a, b - h)[1]) / (2.0 * h);
            prop_assert!((aa - along_a[0]).abs() < 1e-5 && (ab - along_a[1]).abs() < 1e-5 && (bb - along_b).abs() < 1e-5);
        }

        #[test]
        fn platt_is_at_a_minimum_whatever_the_unit_of_scores(
            pairs in proptest::collection::vec((-3.0f32..3.0, any::<bool>()), 5..60), unit in prop_oneof![Just(1f32), Just(1e-3), Just(500.0)],
        ) {
            let pairs: Vec<_> = pairs.into_iter().map(|(s, p)| (s * unit, p)).collect();
            let CalibrationCurve::Platt { slope, intercept } = platt(&pairs) else { unreachable!() };
            let n = pairs.len() as f64;
            let positives = pairs.iter().filter(|p| p.1).count() as f64;
            let targets = [1.0 / (n - positives + 2.0), (positives + 1.0) / (positives + 2.0)];
            let terms = || pairs.iter().map(|(s, p)| (f64::from(*s / unit), targets[usize::from(*p)]));
            let (gradient, _) = derivatives(terms(), [slope * f64::from(unit), intercept]);
            prop_assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{:?}", gradient);
        }
    }

    #[test]
    fn a_constant_scorer_gets_the_rate() {
        let mut pairs: Vec<_> = (0..100).map(|k| (7.5, k % 5 == 0)).collect();
        assert!((platt(&pairs).probability(7.5) - 0.2).abs() < 0.01);
        assert!((isotonic(&mut pairs).probability(-3.0) - 0.2).abs() < 1e-12);
    }
}
