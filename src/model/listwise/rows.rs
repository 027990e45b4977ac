//! Rows between the shared tables and private memory: gathered before the products, updated behind them.

use crate::model::hogwild::Side;
use crate::model::kernel::{F32, Lanes};
use crate::model::regularization::{Regularization, limit_norm};
use crate::model::rule::Rule;

/// How many rows ahead the tables are prefetched.
const AHEAD: usize = 8;

/// How rows are updated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) learning_rate: f32,
    pub(super) l2: f32,
    pub(super) regularization: Regularization,
}

#[inline(always)]
fn prefetch<V: Lanes>(side: &Side, rows: &[u32], i: usize) {
    if let Some(&next) = rows.get(i + AHEAD) {
        let row = side.factors.row_ptr(next as usize);
        for line in (0..side.factors.stride() * 4).step_by(64) {
            V::prefetch(row, line);
        }
    }
}

/// Copies `rows` of a table, one behind the other.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn gather<V: Lanes>(side: &Side, rows: &[u32], out: &mut [f32]) {
    let stride = side.factors.stride();
    assert!(out.len() >= rows.len() * stride);
    for (i, row) in rows.iter().enumerate() {
        prefetch::<V>(side, rows, i);
        let from = side.factors.row_ptr(*row as usize);
        // SAFETY: `row_ptr` checked the row, the assertion `out`; buffers begin on cache lines, and strides are whole
        // ones.
        unsafe {
            let to = out.as_mut_ptr().add(i * stride);
            for offset in (0..stride * 4).step_by(64) {
                V::load(from, offset).store(to, offset);
            }
        }
    }
}

/// Updates `rows`, all of them different, by one row of `gradients` each. With `UNIT`, rows lie on the unit sphere and
/// stay there: the step follows the gradient's tangent, and the row is scaled back to unit length. `counts` says how
/// often a row's L2 term counts. Gradients are clipped, and without `UNIT` rows kept short, as `step` says.
///
/// # Safety
/// The machine has the instruction set of `V`; `gradients` and `buffer` begin on cache lines.
#[inline(always)]
pub(super) unsafe fn update<V: Lanes, R: Rule, const UNIT: bool>(
    side: &Side,
    rows: &[u32],
    (gradients, counts): (&[f32], &[f32]),
    (step, rule): (Step, R),
    buffer: &mut [f32],
) {
    let stride = side.factors.stride();
    assert!(gradients.len() >= rows.len() * stride && counts.len() >= rows.len() && buffer.len() >= stride);
    let buffer = buffer.as_mut_ptr();
    let (width, factors) = side.columns();
    let clips = step.regularization.clip_gradient.is_some();
    // SAFETY: the caller vouches for the instruction set. Floats are stored as they are: nothing is drawn from it.
    let mut noise = unsafe { V::noise(&[0; 16]) };
    for (i, &row) in rows.iter().enumerate() {
        prefetch::<V>(side, rows, i);
        let at = side.factors.row_ptr(row as usize);
        let momentum = side.momentum.as_ref().map_or(std::ptr::null_mut(), |m| m.row_ptr(row as usize));
        // SAFETY: `row_ptr` checked the rows, the assertion the rest; with momentum the rule's tables are there.
        unsafe {
            let mut gradient = gradients.as_ptr().add(i * stride);
            // What the row itself is multiplied by in the gradient.
            let mut own = if UNIT { 0.0 } else { step.l2 * counts[i] };
            if UNIT || R::ADAPTIVE || clips {
                let mut products = [V::splat(0.0); 3];
                for offset in (0..stride * 4).step_by(64) {
                    let (x, g) = (V::load(at, offset), V::load(gradient, offset));
                    products[0] = x.mul_add(g, products[0]);
                    products[1] = g.mul_add(g, products[1]);
                    products[2] = x.mul_add(x, products[2]);
                }
                let [along, gradient_square, _, row_square] =
                    V::sum4([products[0], products[1], products[0], products[2]]);
                if UNIT {
                    own = -along / row_square.max(1e-24);
                }
                let mut square = (gradient_square + own * (2.0 * along + own * row_square)).max(0.0);
                let kept = step.regularization.kept(square);
                if kept < 1.0 {
                    for offset in (0..stride * 4).step_by(64) {
                        V::load(gradient, offset).mul(V::splat(kept)).store(buffer, offset);
                    }
                    // Whoever moves the row reads the gradient before writing there.
                    gradient = buffer;
                    own *= kept;
                    square *= kept * kept;
                }
                if R::ADAPTIVE {
                    let mean = square / width as f32;
                    let rate = rule.rate::<V>(step.learning_rate, side.state_ptr(row as usize), mean);
                    move_row::<V, R, UNIT>((at, momentum, gradient, buffer), own, rate, rule, stride);
                } else {
                    move_row::<V, R, UNIT>((at, momentum, gradient, buffer), own, step.learning_rate, rule, stride);
                }
            } else {
                move_row::<V, R, UNIT>((at, momentum, gradient, buffer), own, step.learning_rate, rule, stride);
            }
            if let Some(column) = side.fixed() {
                V::store_one(at.add(column), 1.0);
            }
            if !UNIT && let Some(most) = step.regularization.max_norm {
                limit_norm::<V, F32>(at, (stride / 16, width, factors), most, buffer, &mut noise);
            }
        }
    }
}

/// Moves one row against `gradient + own × row`.
///
/// # Safety
/// Every pointer is valid for `stride` floats from a cache line on (`momentum` only if the rule has it), and the machine
/// has the instruction set of `V`.
#[inline(always)]
unsafe fn move_row<V: Lanes, R: Rule, const UNIT: bool>(
    (at, momentum, gradient, buffer): (*mut f32, *mut f32, *const f32, *mut f32),
    own: f32,
    rate: f32,
    rule: R,
    stride: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let (own, rate) = (V::splat(own), V::splat(-rate));
        let mut squares = V::splat(0.0);
        for offset in (0..stride * 4).step_by(64) {
            let x = V::load(at, offset);
            let mut direction = x.mul_add(own, V::load(gradient, offset));
            if R::MOMENTUM {
                let decay = rule.decay();
                let moment = V::load(momentum, offset).mul(V::splat(decay));
                direction = direction.mul_add(V::splat(1.0 - decay), moment);
                direction.store(momentum, offset);
            }
            let moved = direction.mul_add(rate, x);
            if UNIT {
                squares = moved.mul_add(moved, squares);
                moved.store(buffer, offset);
            } else {
                moved.store(at, offset);
            }
        }
        if UNIT {
            let scale = V::splat(1.0 / squares.sum().max(1e-24).sqrt());
            for offset in (0..stride * 4).step_by(64) {
                V::load(buffer, offset).mul(scale).store(at, offset);
            }
        }
    }
}
