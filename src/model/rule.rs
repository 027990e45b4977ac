//! Update rules: how a row's gradient becomes a step. State is kept by row, not by element, as embeddings need it.

use super::kernel::Lanes;

/// One update rule with its settings.
pub(crate) trait Rule: Copy + Send + Sync {
    /// Whether the mean square of the gradient is needed.
    const ADAPTIVE: bool;
    /// Whether a first moment is kept: one more float an element.
    const MOMENTUM: bool;
    /// Floats of state a row.
    const STATE: usize;

    /// The step size for a row whose gradient has this mean square, updating its state.
    ///
    /// # Safety
    /// `state` is valid for [`Rule::STATE`] floats, and the machine has the instruction set of `V`.
    unsafe fn rate<V: Lanes>(&self, learning_rate: f32, state: *mut f32, mean_square: f32) -> f32;

    /// Decay of the first moment.
    fn decay(&self) -> f32 {
        0.0
    }
}

/// Plain stochastic gradient descent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sgd;

impl Rule for Sgd {
    const ADAPTIVE: bool = false;
    const MOMENTUM: bool = false;
    const STATE: usize = 0;

    #[inline(always)]
    unsafe fn rate<V: Lanes>(&self, learning_rate: f32, _: *mut f32, _: f32) -> f32 {
        learning_rate
    }
}

/// Adagrad (Duchi et al., 2011) with one accumulator a row: G ← G + mean(g²); step η / √(G + ε).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adagrad {
    pub(crate) epsilon: f32,
}

impl Rule for Adagrad {
    const ADAPTIVE: bool = true;
    const MOMENTUM: bool = false;
    const STATE: usize = 1;

    #[inline(always)]
    unsafe fn rate<V: Lanes>(&self, learning_rate: f32, state: *mut f32, mean_square: f32) -> f32 {
        // SAFETY: the caller vouches for one float of state and for the instruction set.
        unsafe {
            let sum = V::load_one(state) + mean_square;
            V::store_one(state, sum);
            learning_rate / (sum + self.epsilon).sqrt()
        }
    }
}

/// Adam (Kingma & Ba, 2015) with one second moment a row, its moments decaying only when the row is touched ("lazy"):
/// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)mean(g²); step η m̂ / (√v̂ + ε).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adam {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) epsilon: f32,
}

impl Rule for Adam {
    const ADAPTIVE: bool = true;
    const MOMENTUM: bool = true;
    /// v, 1 − β₁ᵗ and 1 − β₂ᵗ (the complements, so that zeros are the right beginning).
    const STATE: usize = 3;

    #[inline(always)]
    unsafe fn rate<V: Lanes>(&self, learning_rate: f32, state: *mut f32, mean_square: f32) -> f32 {
        // SAFETY: the caller vouches for three floats of state and for the instruction set.
        unsafe {
            let v = self.beta2 * V::load_one(state) + (1.0 - self.beta2) * mean_square;
            let c1 = 1.0 - self.beta1 * (1.0 - V::load_one(state.add(1)));
            let c2 = 1.0 - self.beta2 * (1.0 - V::load_one(state.add(2)));
            V::store_one(state, v);
            V::store_one(state.add(1), c1);
            V::store_one(state.add(2), c2);
            learning_rate / c1 / ((v / c2).sqrt() + self.epsilon)
        }
    }

    #[inline(always)]
    fn decay(&self) -> f32 {
        self.beta1
    }
}
