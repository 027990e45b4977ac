//! Singular values of a table, by way of its Gram matrix.

/// Sweeps over all pairs of columns, at most: a dozen do for any size.
const SWEEPS: usize = 60;

/// Σ x xᵀ over rows x.
pub(super) struct Gram {
    size: usize,
    /// The upper triangle is filled; row-major.
    sums: Vec<f64>,
}

impl Gram {
    pub(super) fn new(size: usize) -> Self {
        Self { size, sums: vec![0.0; size * size] }
    }

    /// Adds a row. O(size²).
    pub(super) fn add(&mut self, row: &[f32]) {
        for (i, x) in row.iter().enumerate() {
            let x = f64::from(*x);
            let sums = &mut self.sums[i * self.size + i..(i + 1) * self.size];
            for (sum, y) in sums.iter_mut().zip(&row[i..]) {
                *sum += x * f64::from(*y);
            }
        }
    }

    /// The eigenvalues, in no order: squares of the rows' singular values. By Jacobi's rotations (1846), O(size³) a sweep.
    pub(super) fn eigenvalues(mut self) -> Vec<f64> {
        let n = self.size;
        for i in 0..n {
            for j in 0..i {
                self.sums[i * n + j] = self.sums[j * n + i];
            }
        }
        let a = &mut self.sums;
        let total: f64 = a.iter().map(|x| x * x).sum();
        for _ in 0..SWEEPS {
            let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
            if off <= 1e-24 * total {
                break;
            }
            for p in 0..n {
                for q in p + 1..n {
                    rotate(a, n, p, q);
                }
            }
        }
        (0..n).map(|i| a[i * n + i].max(0.0)).collect()
    }
}

/// Turns columns and rows `p` and `q` so that their element becomes 0.
fn rotate(a: &mut [f64], n: usize, p: usize, q: usize) {
    let off = a[p * n + q];
    if off == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let tangent = if theta == 0.0 { 1.0 } else { tangent };
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = cosine * x - sine * y;
        a[k * n + q] = sine * x + cosine * y;
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = cosine * x - sine * y;
        a[q * n + k] = sine * x + cosine * y;
    }
}

/// e to the entropy of the singular values as shares of their sum (Roy & Vetterli 2007, "The effective rank"); 0 of nothing.
pub(super) fn effective_rank(eigenvalues: &[f64]) -> f64 {
    let singular: Vec<f64> = eigenvalues.iter().map(|value| value.sqrt()).collect();
    let sum: f64 = singular.iter().sum();
    if sum <= 0.0 {
        return 0.0;
    }
    let entropy: f64 = singular.iter().map(|s| s / sum).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    entropy.exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn eigenvalues_have_the_trace_and_the_norm_of_the_matrix(
            rows in proptest::collection::vec(proptest::collection::vec(-2f32..2.0, 6), 1..12),
        ) {
            let mut gram = Gram::new(6);
            rows.iter().for_each(|row| gram.add(row));
            let whole = |i: usize, j: usize| -> f64 { rows.iter().map(|r| f64::from(r[i]) * f64::from(r[j])).sum() };
            let found = gram.eigenvalues();
            let trace: f64 = (0..6).map(|i| whole(i, i)).sum();
            let square: f64 = (0..36).map(|k| whole(k / 6, k % 6).powi(2)).sum();
            prop_assert!((found.iter().sum::<f64>() - trace).abs() < 1e-9 * (1.0 + trace));
            prop_assert!((found.iter().map(|x| x * x).sum::<f64>() - square).abs() < 1e-9 * (1.0 + square));
            // No more directions than rows.
            let rank = effective_rank(&found);
            prop_assert!(rank <= rows.len().min(6) as f64 + 1e-3, "{}", rank);
        }
    }

    #[test]
    fn shares_of_a_known_spectrum() {
        assert!((effective_rank(&[4.0, 4.0, 4.0, 0.0]) - 3.0).abs() < 1e-12);
        // Singular values 3 and 1: shares 3/4 and 1/4.
        let expected = (-(0.75f64 * 0.75f64.ln() + 0.25 * 0.25f64.ln())).exp();
        assert!((effective_rank(&[9.0, 1.0]) - expected).abs() < 1e-12);
        assert_eq!(effective_rank(&[0.0, 0.0]), 0.0);
    }
}
