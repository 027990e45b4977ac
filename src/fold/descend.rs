//! L-BFGS (Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", Mathematics of Computation 1980) with
//! backtracking: for smooth functions of some hundred numbers.

use std::collections::VecDeque;

/// Steps that curvature is learnt from.
const MEMORY: usize = 6;
/// What a step must win of what the slope promises.
const SUFFICIENT: f64 = 1e-4;
/// Where no number of the gradient is above this, the function is at its minimum.
const FLAT: f32 = 1e-5;

/// Lowers `f` from `z` on, by so many evaluations at most; `f(z, g)` is its value, and sets the gradient `g`. Ends where
/// it is flat or no step lowers it. Nothing random, and nothing that depends on threads.
pub(super) fn descend(z: &mut [f32], evaluations: usize, mut f: impl FnMut(&[f32], &mut [f32]) -> f64) {
    let (mut gradient, mut next_gradient) = (vec![0f32; z.len()], vec![0f32; z.len()]);
    let mut value = f(z, &mut gradient);
    let (mut direction, mut next) = (vec![0f32; z.len()], vec![0f32; z.len()]);
    // Steps, changes of the gradient, and 1 / their product.
    let mut past: VecDeque<(Vec<f32>, Vec<f32>, f64)> = VecDeque::new();
    let mut left = evaluations.saturating_sub(1);
    while left > 0 && gradient.iter().any(|g| g.abs() > FLAT) {
        direction.iter_mut().zip(&gradient).for_each(|(d, g)| *d = -g);
        let mut scales = [0f64; MEMORY];
        for (scale, (step, change, inverse)) in scales.iter_mut().zip(&past).rev() {
            *scale = inverse * dot(step, &direction);
            direction.iter_mut().zip(change).for_each(|(d, y)| *d -= (*scale * f64::from(*y)) as f32);
        }
        if let Some((_, change, inverse)) = past.back() {
            let scale = 1.0 / (inverse * dot(change, change));
            direction.iter_mut().for_each(|d| *d = (f64::from(*d) * scale) as f32);
        }
        for (scale, (step, change, inverse)) in scales.iter().zip(&past) {
            let along = scale - inverse * dot(change, &direction);
            direction.iter_mut().zip(step).for_each(|(d, s)| *d += (along * f64::from(*s)) as f32);
        }
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Curvature that is none, as at a kink: downhill as it is.
            past.clear();
            direction.iter_mut().zip(&gradient).for_each(|(d, g)| *d = -g);
            slope = dot(&direction, &gradient);
        }
        // The first step knows no scale: one of length 1 at most.
        let mut length = if past.is_empty() { (1.0 / dot(&direction, &direction).sqrt()).min(1.0) } else { 1.0 };
        loop {
            next.iter_mut().zip(&*z).zip(&direction).for_each(|((n, z), d)| *n = z + (length * f64::from(*d)) as f32);
            let found = f(&next, &mut next_gradient);
            left -= 1;
            if found <= value + SUFFICIENT * length * slope {
                value = found;
                break;
            }
            length /= 2.0;
            if left == 0 || length < 1e-6 {
                return;
            }
        }
        let step: Vec<f32> = next.iter().zip(&*z).map(|(n, z)| n - z).collect();
        let change: Vec<f32> = next_gradient.iter().zip(&gradient).map(|(n, g)| n - g).collect();
        let product = dot(&step, &change);
        if product > 1e-10 * dot(&change, &change) && product > 0.0 {
            if past.len() == MEMORY {
                past.pop_front();
            }
            past.push_back((step, change, 1.0 / product));
        }
        z.copy_from_slice(&next);
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_minimum_of_a_parabola_is_found(
            target in proptest::collection::vec(-3f32..3.0, 1..40), spread in 1f32..30.0,
        ) {
            let curvature = |i: usize| 1.0 + spread * i as f32 / target.len() as f32;
            let mut z = vec![0.0; target.len()];
            descend(&mut z, 200, |z, g| {
                let mut value = 0.0;
                for (i, (z, t)) in z.iter().zip(&target).enumerate() {
                    g[i] = curvature(i) * (z - t);
                    value += f64::from(curvature(i) / 2.0 * (z - t) * (z - t));
                }
                value
            });
            for (z, t) in z.iter().zip(&target) {
                prop_assert!((z - t).abs() < 1e-2, "{z} {t}");
            }
        }
    }

    #[test]
    fn it_stops_after_so_many_evaluations_and_at_a_kink() {
        let mut asked = 0;
        let mut z = [40.0];
        descend(&mut z, 7, |z, g| {
            asked += 1;
            g[0] = z[0].powi(3);
            f64::from(z[0].powi(4) / 4.0)
        });
        assert!(asked <= 7 && z[0] < 40.0, "{asked} {z:?}");
        let mut z = [3.0, 0.5];
        descend(&mut z, 60, |z, g| {
            (g[0], g[1]) = (z[0].signum(), z[1]);
            f64::from(z[0].abs() + z[1] * z[1] / 2.0)
        });
        assert!(z[0].abs() < 0.5, "{z:?}");
    }
}
