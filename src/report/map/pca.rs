//! Principal components of a sample of rows, by subspace iteration.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::context::{Context, Interrupted};

/// Multiplications by the covariance: enough for components whose variances are 10 % apart.
const ROUNDS: usize = 40;
const SEED: u64 = 17;

/// Rows by their principal components.
pub(super) struct Components {
    /// Row-major: `rows × components`, components by falling variance.
    pub(super) values: Vec<f32>,
    pub(super) components: usize,
    /// The share of the variance that they hold.
    pub(super) explained: f64,
}

/// The first `components` principal components of `rows × width` values, which are centred for it. Signs are such that the
/// largest entry of each direction is positive. O(rows × width × components) time a round.
pub(super) fn principal(
    values: &mut [f32],
    width: usize,
    components: usize,
    ctx: &Context,
) -> Result<Components, Interrupted> {
    let rows = values.len() / width;
    let components = components.min(width).min(rows);
    centre(values, width);
    let total: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(SEED);
    // A direction a row: components × width.
    let mut directions: Vec<f64> = (0..components * width).map(|_| generator.random::<f64>() - 0.5).collect();
    orthonormalize(&mut directions, width);
    let mut variances = vec![0.0; components];
    for _ in 0..ROUNDS {
        ctx.check()?;
        let mut next = vec![0.0; components * width];
        for row in values.chunks_exact(width) {
            for (direction, next) in directions.chunks_exact(width).zip(next.chunks_exact_mut(width)) {
                let along: f64 = row.iter().zip(direction).map(|(x, d)| f64::from(*x) * d).sum();
                next.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * f64::from(*x));
            }
        }
        // Largest first, so that each direction is freed of those that matter more.
        let mut order: Vec<(f64, usize)> =
            next.chunks_exact(width).enumerate().map(|(at, d)| (d.iter().map(|x| x * x).sum::<f64>(), at)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        directions = order.iter().flat_map(|(_, at)| next[at * width..(at + 1) * width].iter().copied()).collect();
        orthonormalize(&mut directions, width);
    }
    directions.chunks_exact_mut(width).for_each(point);
    let mut out = vec![0.0; rows * components];
    for (row, out) in values.chunks_exact(width).zip(out.chunks_exact_mut(components)) {
        for ((direction, out), variance) in directions.chunks_exact(width).zip(out).zip(&mut variances) {
            let along: f64 = row.iter().zip(direction).map(|(x, d)| f64::from(*x) * d).sum();
            *variance += along * along;
            *out = along as f32;
        }
    }
    let explained = if total > 0.0 { (variances.iter().sum::<f64>() / total).min(1.0) } else { 1.0 };
    Ok(Components { values: out, components, explained })
}

fn centre(values: &mut [f32], width: usize) {
    let rows = (values.len() / width).max(1) as f64;
    let mut means = vec![0.0f64; width];
    for row in values.chunks_exact(width) {
        means.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / rows);
    }
    for row in values.chunks_exact_mut(width) {
        row.iter_mut().zip(&means).for_each(|(x, mean)| *x -= *mean as f32);
    }
}

/// Modified Gram–Schmidt, twice; what depends on those before becomes zero.
fn orthonormalize(directions: &mut [f64], width: usize) {
    for _ in 0..2 {
        for at in 0..directions.len() / width {
            let (before, rest) = directions.split_at_mut(at * width);
            let own = &mut rest[..width];
            let length = own.iter().map(|x| x * x).sum::<f64>().sqrt();
            for other in before.chunks_exact(width) {
                let along: f64 = own.iter().zip(other).map(|(a, b)| a * b).sum();
                own.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let left = own.iter().map(|x| x * x).sum::<f64>().sqrt();
            let scale = if left > length * 1e-12 { 1.0 / left } else { 0.0 };
            own.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// Turns a direction so that its largest entry is positive.
fn point(direction: &mut [f64]) {
    let largest = direction.iter().copied().fold(0.0, |m: f64, x| if x.abs() > m.abs() { x } else { m });
    if largest < 0.0 {
        direction.iter_mut().for_each(|x| *x = -*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_those_of_a_planted_ellipsoid() {
        // Independent directions of falling deviations, turned by a rotation of the first two coordinates.
        let (rows, width) = (4_000, 6);
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut values = Vec::new();
        for _ in 0..rows {
            let z: Vec<f64> = (0..width).map(|k| (generator.random::<f64>() - 0.5) * 8.0 / 2f64.powi(k)).collect();
            let (a, b) = ((z[0] - z[1]) / 2f64.sqrt(), (z[0] + z[1]) / 2f64.sqrt());
            values.extend([a + 3.0, b].into_iter().chain(z[2..].iter().copied()).map(|x| x as f32));
        }
        let found = principal(&mut values, width as usize, 2, &Context::default()).unwrap();
        let variance = |k: usize| found.values.iter().skip(k).step_by(2).map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let expected = |k: i32| f64::from(rows) / 12.0 * 64.0 / 4f64.powi(k);
        for k in 0..2 {
            let (got, expected) = (variance(k), expected(k as i32));
            assert!((got / expected - 1.0).abs() < 0.05, "{k}: {got} {expected}");
        }
        let all: f64 = (0..width).map(expected).sum();
        assert!((found.explained - (expected(0) + expected(1)) / all).abs() < 0.02, "{}", found.explained);
        let correlation: f64 = found.values.chunks(2).map(|c| f64::from(c[0]) * f64::from(c[1])).sum();
        assert!(correlation.abs() < 1e-3 * variance(0), "components are uncorrelated: {correlation}");
    }

    #[test]
    fn rows_that_are_all_alike_have_no_direction() {
        let mut values = vec![0.5f32; 12];
        let found = principal(&mut values, 3, 2, &Context::default()).unwrap();
        assert!(found.values.iter().all(|x| *x == 0.0), "{:?}", found.values);
    }
}
