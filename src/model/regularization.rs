//! What keeps rows small, or from relying on a few of their factors, beside L2: dropout, clipped gradients, and a largest
//! norm. All of it is off by default.

use super::kernel::{Element, Lanes};
use crate::mix::{GOLDEN, mix};

/// Chances of dropout are multiples of one in this many: sixteen bits of a random word.
const CHANCES: u32 = 1 << 16;

/// Columns of a row that are no factors, at most: a bias, and the 1 that multiplies the other side's.
const NO_FACTORS: usize = 2;

/// Regularization of one update, beside L2.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Regularization {
    pub(crate) user_dropout: Dropout,
    pub(crate) item_dropout: Dropout,
    /// The largest norm of a row's factors behind an update.
    pub(crate) max_norm: Option<f32>,
    /// The largest norm of the gradient of a row in one update, before it becomes a step.
    pub(crate) clip_gradient: Option<f32>,
}

impl Regularization {
    /// Whether there is none.
    pub(crate) fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether batches need a seed of their own.
    pub(crate) fn draws(&self) -> bool {
        self.user_dropout.is_on() || self.item_dropout.is_on()
    }

    /// What a gradient of this squared norm is multiplied by.
    #[inline(always)]
    pub(crate) fn kept(&self, square: f32) -> f32 {
        match self.clip_gradient {
            Some(most) if square > most * most => most / square.sqrt(),
            _ => 1.0,
        }
    }
}

/// Inverted dropout (Srivastava et al., JMLR 2014): with some probability p a factor is zero while scores and gradients are
/// computed, otherwise 1 / (1 − p) times itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropout {
    /// In [`CHANCES`].
    chances: u32,
}

impl Dropout {
    /// By a probability from 0 to below 1, to the nearest 65536th.
    pub(crate) fn new(probability: f32) -> Self {
        Self { chances: ((probability * CHANCES as f32).round() as u32).min(CHANCES - 1) }
    }

    pub(crate) fn is_on(self) -> bool {
        self.chances > 0
    }

    /// What factors are multiplied by that are kept, so that the mean is as without dropout.
    fn scale(self) -> f32 {
        CHANCES as f32 / (CHANCES - self.chances) as f32
    }

    /// Draws what each column of a padded row is multiplied by; those from `factors` on by 1. Moves `seed` on.
    // Plain loops, always inlined: fills and closures would be compiled without the instruction set of the kernels.
    #[inline(always)]
    pub(crate) fn draw(self, seed: &mut u64, factors: usize, mask: &mut [f32]) {
        let scale = self.scale();
        for four in mask.chunks_exact_mut(4) {
            *seed = seed.wrapping_add(GOLDEN);
            let mut word = mix(*seed);
            for column in four {
                *column = if (word as u32) % CHANCES < self.chances { 0.0 } else { scale };
                word >>= 16;
            }
        }
        for column in &mut mask[factors..] {
            *column = 1.0;
        }
    }
}

/// Scales the first `factors` of a row down to norm `most`, if theirs is larger. `buffer` is room for a row.
///
/// # Safety
/// `row` is `tiles` tiles long, `buffer` as many times 16 floats from a cache line on, and the machine has the instruction
/// set of `V`.
#[inline(always)]
pub(crate) unsafe fn limit_norm<V: Lanes, E: Element>(
    row: *mut f32,
    (tiles, width, factors): (usize, usize, usize),
    most: f32,
    buffer: *mut f32,
    noise: &mut V::Noise,
) {
    // SAFETY: passed on from the caller; columns up to `width` lie in the tiles.
    unsafe {
        for tile in 0..tiles {
            E::load::<V>(row, tile).store(buffer, tile * 64);
        }
        let mut others = [0f32; NO_FACTORS];
        for column in factors..width {
            others[column - factors] = V::load_one(buffer.add(column));
            V::store_one(buffer.add(column), 0.0);
        }
        let mut squares = V::splat(0.0);
        for tile in 0..tiles {
            let x = V::load(buffer, tile * 64);
            squares = x.mul_add(x, squares);
        }
        let square = squares.sum();
        if square <= most * most {
            return;
        }
        let scale = V::splat(most / square.sqrt());
        for tile in 0..tiles {
            V::load(buffer, tile * 64).mul(scale).store(buffer, tile * 64);
        }
        for column in factors..width {
            V::store_one(buffer.add(column), others[column - factors]);
        }
        for tile in 0..tiles {
            E::store(V::load(buffer, tile * 64), row, tile, noise);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_the_share_that_they_should_and_the_mean() {
        let (rows, factors, width) = (4000, 33, 48);
        for probability in [0.1f32, 0.5, 0.9] {
            let dropout = Dropout::new(probability);
            let mut seed = 7;
            let (mut kept, mut sum, mut both) = (0f64, 0f64, 0f64);
            let mut by_column = vec![0f64; factors];
            let mut mask = vec![f32::NAN; width];
            for _ in 0..rows {
                dropout.draw(&mut seed, factors, &mut mask);
                assert!(mask[factors..].iter().all(|m| *m == 1.0), "biases are never dropped");
                for (d, m) in mask[..factors].iter().enumerate() {
                    let is_kept = f64::from(u8::from(*m != 0.0));
                    kept += is_kept;
                    by_column[d] += is_kept;
                    sum += f64::from(*m);
                    both += is_kept * f64::from(u8::from(mask[(d + 1) % factors] != 0.0));
                }
            }
            let (n, q) = ((rows * factors) as f64, 1.0 - f64::from(probability));
            // Five standard deviations, and what rounding to a 65536th may add.
            let within = |n: f64, q: f64| 5.0 * (q * (1.0 - q) / n).sqrt() + 1e-5;
            assert!((kept / n - q).abs() < within(n, q), "{probability}: {} are kept", kept / n);
            assert!((sum / n - 1.0).abs() < within(n, q) / q, "{probability}: a mean of {}", sum / n);
            // Neighbours are dropped independently, so that both of two are kept as often as q².
            assert!((both / n - q * q).abs() < 2.0 * within(n, q * q), "{probability}: both {}", both / n);
            for column in by_column {
                assert!((column / rows as f64 - q).abs() < within(rows as f64, q), "{probability}: {column}");
            }
        }
    }

    #[test]
    fn probabilities_are_rounded_and_none_is_off() {
        assert!(!Dropout::new(0.0).is_on() && !Dropout::default().is_on());
        assert!(Dropout::new(1e-4).is_on());
        assert!(Dropout::new(0.999_999_9).scale().is_finite());
        assert!(Regularization::default().is_off() && !Regularization::default().draws());
        assert_eq!(Regularization::default().kept(1e30), 1.0);
        let clipped = Regularization { clip_gradient: Some(2.0), ..Regularization::default() };
        assert_eq!((clipped.kept(16.0), clipped.kept(4.0), clipped.kept(0.0)), (0.5, 1.0, 1.0));
    }
}
