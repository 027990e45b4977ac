//! L-BFGS (Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", Mathematics of Computation 1980) for functions of
//! some hundred numbers that are convex or nearly so, by their gradients alone.

use std::collections::VecDeque;

use crate::model::dot;

/// Steps that curvature is learnt from.
const MEMORY: usize = 6;
/// How steeply a step may end uphill, as a part of how steeply it began downhill.
const UPHILL: f32 = 0.8;
/// Where the gradient is this part of the first one, the function is at its minimum for all purposes.
const FLAT: f32 = 1e-3;

/// Looks for the minimum of a function from `z` on, by so many looks at its gradient at most; `f(z, g)` sets the gradient `g`.
/// Ends where it is flat or no step lowers it. Lengths are whole tiles of 16. Nothing random, and nothing that depends on threads.
///
/// A step is taken where the slope at its end is no steeper uphill than 0.8 of what it was downhill at its start, or else when
/// no look is left: the upper half of the approximate condition of Hager and Zhang ("A New Conjugate Gradient
/// Method with Guaranteed Descent and an Efficient Line Search", SIAM Journal on Optimization 2005), which for a parabola is that of Armijo with a tenth. It asks for no value,
/// which with logarithms of sums would cost as much as the gradient.
pub(super) fn descend(z: &mut [f32], looks: usize, mut f: impl FnMut(&[f32], &mut [f32])) {
    let (mut gradient, mut next_gradient) = (vec![0f32; z.len()], vec![0f32; z.len()]);
    f(z, &mut gradient);
    let (mut direction, mut next) = (vec![0f32; z.len()], vec![0f32; z.len()]);
    // Steps, changes of the gradient, and 1 / their product.
    let mut past: VecDeque<(Vec<f32>, Vec<f32>, f32)> = VecDeque::new();
    let mut left = looks.saturating_sub(1);
    let flat = dot(&gradient, &gradient) * FLAT * FLAT;
    while left > 0 && dot(&gradient, &gradient) > flat {
        direction.iter_mut().zip(&gradient).for_each(|(d, g)| *d = -g);
        let mut scales = [0f32; MEMORY];
        for (scale, (step, change, inverse)) in scales.iter_mut().zip(&past).rev() {
            *scale = inverse * dot(step, &direction);
            direction.iter_mut().zip(change).for_each(|(d, y)| *d -= *scale * y);
        }
        if let Some((_, change, inverse)) = past.back() {
            let scale = 1.0 / (inverse * dot(change, change));
            direction.iter_mut().for_each(|d| *d *= scale);
        }
        for (scale, (step, change, inverse)) in scales.iter().zip(&past) {
            let along = scale - inverse * dot(change, &direction);
            direction.iter_mut().zip(step).for_each(|(d, s)| *d += along * s);
        }
        let mut slope = dot(&direction, &gradient);
        if slope.is_nan() || slope >= 0.0 {
            // Curvature that is none, as at a kink: downhill as it is.
            past.clear();
            direction.iter_mut().zip(&gradient).for_each(|(d, g)| *d = -g);
            slope = dot(&direction, &gradient);
        }
        // The first step knows no scale: one of length 1 at most.
        let mut length = if past.is_empty() { (1.0 / dot(&direction, &direction).sqrt()).min(1.0) } else { 1.0 };
        loop {
            next.iter_mut().zip(&*z).zip(&direction).for_each(|((n, z), d)| *n = z + length * d);
            f(&next, &mut next_gradient);
            left -= 1;
            let end = dot(&direction, &next_gradient);
            if end <= -UPHILL * slope {
                break;
            }
            // To where a parabola would have its minimum, but not nearer than a tenth of the way.
            length *= (slope / (slope - end)).clamp(0.1, 0.5);
            if length < 1e-6 {
                return;
            }
            if left == 0 {
                // Not looked at, but on the way to where it went up.
                z.iter_mut().zip(&direction).for_each(|(z, d)| *z += length * d);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: usize = 32;

    proptest! {
        #[test]
        fn the_minimum_of_a_parabola_is_found(
            target in proptest::collection::vec(-3f32..3.0, LENGTH), spread in 1f32..30.0,
        ) {
            let curvature = |i: usize| 1.0 + spread * i as f32 / LENGTH as f32;
            let mut z = [0.0; LENGTH];
            descend(&mut z, 200, |z, g| {
                g.iter_mut().enumerate().for_each(|(i, g)| *g = curvature(i) * (z[i] - target[i]));
            });
            // The gradient is a thousandth of the first one, at most.
            let norm = |of: &dyn Fn(usize) -> f32| (0..LENGTH).map(|i| of(i).powi(2)).sum::<f32>().sqrt();
            let left = norm(&|i| curvature(i) * (z[i] - target[i]));
            prop_assert!(left <= 1.001e-3 * norm(&|i| curvature(i) * target[i]), "{left}");
        }
    }

    #[test]
    fn it_stops_after_so_many_looks_and_at_a_kink() {
        let mut asked = 0;
        let mut z = [0.0; 16];
        z[0] = 40.0;
        descend(&mut z, 7, |z, g| {
            asked += 1;
            g[0] = z[0].powi(3);
        });
        assert!(asked <= 7 && z[0].abs() < 40.0, "{asked} {z:?}");
        let mut z = [0.0; 16];
        (z[0], z[1]) = (3.0, 0.5);
        descend(&mut z, 60, |z, g| (g[0], g[1]) = (z[0].signum(), z[1]));
        assert!(z[0].abs() < 0.5, "{z:?}");
    }
}
