//! From scores to probabilities: a curve that was fitted on held-out interactions, kept in the model's manifest.

use serde::{Deserialize, Serialize};

use crate::dataset::Part;

/// What makes probabilities of a model's scores.
///
/// A probability is that of a held-out interaction among one such and [`Calibration::negatives`] items drawn at random from
/// those that the user has not taken: it depends on that rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The curve.
    #[serde(flatten)]
    pub curve: CalibrationCurve,
    /// The part that it was fitted on; `split` in JSON, as the flag is called.
    #[serde(rename = "split")]
    pub part: Part,
    /// Held-out interactions that it was fitted on.
    pub positives: u64,
    /// Items drawn beside them.
    pub exposures: u64,
    /// Of those for each interaction, at most.
    pub negatives: u32,
    /// Seed of the draws.
    pub seed: u64,
}

/// A curve that never falls as the score rises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum CalibrationCurve {
    /// σ(slope × score + intercept) (Platt 1999).
    Platt {
        /// Of the score; negative only where higher scores are less likely.
        slope: f64,
        /// The log odds of score 0.
        intercept: f64,
    },
    /// Straight between points of score and probability, both ascending; constant beyond them (Zadrozny & Elkan 2002).
    Isotonic {
        /// At least one.
        points: Vec<[f64; 2]>,
    },
}

impl CalibrationCurve {
    /// The probability of a score, from 0 to 1. O(log points).
    pub fn probability(&self, score: f32) -> f64 {
        let score = f64::from(score);
        match self {
            Self::Platt { slope, intercept } => sigmoid(slope * score + intercept),
            Self::Isotonic { points } => {
                let above = points.partition_point(|[at, _]| *at <= score);
                match (above.checked_sub(1).and_then(|below| points.get(below)), points.get(above)) {
                    (Some([low, from]), Some([high, to])) => from + (to - from) * (score - low) / (high - low),
                    (Some([_, last]), None) => *last,
                    (None, Some([_, first])) => *first,
                    (None, None) => 0.0,
                }
            }
        }
    }
}

/// 1 / (1 + e^−x), without overflow.
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_straight_between_points_and_constant_beyond() {
        let curve = CalibrationCurve::Isotonic { points: vec![[-1.0, 0.1], [0.0, 0.1], [2.0, 0.5]] };
        for (score, expected) in [(-9.0, 0.1), (-0.5, 0.1), (0.0, 0.1), (1.0, 0.3), (2.0, 0.5), (9.0, 0.5)] {
            assert!((curve.probability(score) - expected).abs() < 1e-12, "{score}");
        }
        assert_eq!(curve.probability(f32::NEG_INFINITY), 0.1);
        let platt = CalibrationCurve::Platt { slope: 2.0, intercept: -1.0 };
        assert!((platt.probability(0.5) - 0.5).abs() < 1e-12);
        assert_eq!((platt.probability(1e30), platt.probability(-1e30)), (1.0, 0.0));
    }
}
