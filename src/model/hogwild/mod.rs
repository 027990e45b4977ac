//! Lock-free training on shared tables: for a few positives of a user at a time, scores, their gradient, the update.
//!
//! With u the user's row, xᵢ the item rows and gᵢ the loss's derivative by score sᵢ, every gradient here is a mix of
//! two rows: ∂L/∂xᵢ = bᵢu + aᵢxᵢ and ∂L/∂u = Σ bᵢxᵢ + a₀u. For dot products bᵢ = gᵢ and a holds the L2 term; for
//! cosines bᵢ = gᵢ/(|u||xᵢ|), aᵢ = −gᵢsᵢ/|xᵢ|² + L2, a₀ = −Σ gᵢsᵢ/|u|² + L2. One kernel therefore serves every loss,
//! similarity and optimizer. All positives of a group see the user's row as it was before the group.
//!
//! With dropout they see m ∘ u instead, by a mask m that is drawn for the group. Clipping multiplies the gradient of a row
//! before it becomes a step, and a largest norm shortens rows behind it. Kernels without weights, offsets and any of these
//! are compiled by themselves.

use serde::{Deserialize, Serialize};

use super::Similarity;
use super::kernel::{Element, Lanes};
use super::regularization::{Regularization, limit_norm};
use super::rule::Rule;

mod adjust;
mod apart;
mod dispatch;
mod dots;
mod dropout;
mod scratch;
mod tables;

use crate::loss::{Loss, OfLists, Terms};
pub(crate) use adjust::Adjust;
pub(crate) use apart::{Apart, KernelLoss};
pub(crate) use dispatch::train;
use dots::dot_rows;
use dropout::{Dropped, load_user};
use scratch::{Row, Scratch, noise_seed};
pub(crate) use tables::{Optimizer, Side, SideRows, Tables};

/// Items in a group, at most.
const GROUP: usize = 256;
/// Positives in a group with one negative each: enough independent work to hide the latency of a dot product.
const PAIRS: usize = 4;
/// Tiles of 16 floats that are kept in registers at once.
const TILES: usize = 4;
/// Longest row, in floats.
pub(crate) const MAX_STRIDE: usize = 2048;
/// Negatives a positive, at most.
pub(crate) const MAX_NEGATIVES: usize = GROUP - 1;
/// The loss is computed for one group in this many.
const REPORT_EVERY: u32 = 16;
/// How many positives ahead rows are prefetched.
const AHEAD: usize = 8;

/// What the kernel is given: runs of positives of one user, each positive with its negatives.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    /// The user of each run.
    pub(crate) users: &'a [u32],
    /// Where each run ends among the positives.
    pub(crate) ends: &'a [u32],
    pub(crate) positives: &'a [u32],
    /// `negatives_each` for each positive.
    pub(crate) negatives: &'a [u32],
    pub(crate) negatives_each: usize,
    /// Weights and offsets of the terms; without any, the kernel is compiled without them.
    pub(crate) adjust: Option<Adjust<'a>>,
}

/// How to update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    pub(crate) learning_rate: f32,
    pub(crate) l2: f32,
    pub(crate) similarity: Similarity,
    pub(crate) regularization: Regularization,
    /// The seed of what is dropped, of this batch's own.
    pub(crate) seed: u64,
}

/// Summed loss over the terms (pairs, scores or lists) that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LossSample {
    pub(crate) sum: f64,
    pub(crate) terms: u64,
}

/// The user and items of a group: positives first, then each positive's negatives in turn.
struct Group<'a> {
    user: *mut f32,
    user_state: *mut f32,
    user_momentum: *mut f32,
    items: &'a [u32],
    rows: &'a [*mut f32],
    positives: usize,
    adjust: Adjust<'a>,
}

/// Trains on all runs. Kernels that are `WEIGHTED` know weights and offsets of terms, and regularization beside L2; the
/// others are compiled without.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn all_runs<V: Lanes, E: Element, L: Loss, R: Rule, const COSINE: bool, const WEIGHTED: bool>(
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
    rule: R,
) -> LossSample {
    let each = runs.negatives_each;
    let at_once = (2 * PAIRS / (1 + each)).max(1);
    let stride_bytes = tables.items.factors.stride() * 4;
    let mut items = [0u32; GROUP];
    let mut rows = [std::ptr::null_mut::<f32>(); GROUP];
    // SAFETY: the caller vouches for the instruction set.
    let mut scratch = unsafe { Scratch::<V>::new(noise_seed(&runs, &update)) };
    if WEIGHTED && update.regularization.user_dropout.is_on() {
        scratch.make_room_to_drop(update.seed);
    }
    let mut sample = LossSample::default();
    let mut countdown = 1;
    let mut k = 0;
    for (r, (&user, &end)) in runs.users.iter().zip(runs.ends).enumerate() {
        if let Some(&next) = runs.users.get(r + 2) {
            let row = tables.users.factors.row_ptr(next as usize);
            prefetch_row::<V>(row, stride_bytes);
        }
        let user = user as usize;
        let user_row = tables.users.factors.row_ptr(user);
        let end = end as usize;
        while k < end {
            let positives = at_once.min(end - k);
            let n = positives * (1 + each);
            let of_group =
                runs.positives[k..k + positives].iter().chain(&runs.negatives[k * each..(k + positives) * each]);
            for (i, &item) in of_group.enumerate() {
                items[i] = item;
                rows[i] = tables.items.factors.row_ptr(item as usize);
            }
            let ahead = (k + AHEAD)..(k + AHEAD + positives).min(runs.positives.len());
            if !ahead.is_empty() {
                let negatives = &runs.negatives[ahead.start * each..ahead.end * each];
                for &item in runs.positives[ahead].iter().chain(negatives) {
                    let row = tables.items.factors.row_ptr(item as usize);
                    prefetch_row::<V>(row, stride_bytes);
                }
            }
            countdown -= 1;
            let report = countdown == 0;
            if report {
                countdown = REPORT_EVERY;
            }
            let group = Group {
                user: user_row,
                user_state: tables.users.state_ptr(user),
                user_momentum: tables.users.momentum.as_ref().map_or(std::ptr::null_mut(), |m| m.row_ptr(user)),
                items: &items[..n],
                rows: &rows[..n],
                positives,
                adjust: if WEIGHTED {
                    runs.adjust.unwrap_or_default().group(k, positives, each)
                } else {
                    Adjust::default()
                },
            };
            // SAFETY: `row_ptr` checked every row; the caller vouches for the instruction set.
            let value = unsafe {
                step::<V, E, L, R, COSINE, WEIGHTED>(tables, &group, loss, update, rule, report, &mut scratch)
            };
            if report {
                sample.sum += f64::from(value);
                sample.terms += terms_of(loss, positives, each) as u64;
            }
            k += positives;
        }
    }
    sample
}

/// The terms of a group.
#[inline(always)]
fn terms_of(loss: impl Loss, positives: usize, each: usize) -> usize {
    match loss.terms() {
        Terms::Pairs => positives * each,
        Terms::Scores => positives * (1 + each),
        Terms::Lists => positives,
    }
}

#[inline(always)]
fn prefetch_row<V: Lanes>(row: *const f32, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        V::prefetch(row, line);
    }
}

/// Scores, gradient and update of one group; returns its loss if `report`.
///
/// # Safety
/// The rows of `group` are valid rows of `tables`, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn step<V: Lanes, E: Element, L: Loss, R: Rule, const COSINE: bool, const WEIGHTED: bool>(
    tables: &Tables,
    group: &Group<'_>,
    loss: L,
    update: Update,
    rule: R,
    report: bool,
    scratch: &mut Scratch<V>,
) -> f32 {
    let n = group.rows.len();
    let p = group.positives;
    let each = (n - p) / p;
    let regularization = if WEIGHTED { update.regularization } else { Regularization::default() };
    let clips = regularization.clip_gradient.is_some();
    let norms = COSINE || R::ADAPTIVE || clips;
    let Scratch { dots, squares, scores, shifted, gradient, toward_user, own, kept, rates, .. } = scratch;
    let Scratch { user_gradient, dropped, seed, noise, .. } = scratch;
    let (dots, squares, scores) = (&mut dots[..n], &mut squares[..n], &mut scores[..n]);
    let (gradient, toward_user, own, rates) =
        (&mut gradient[..n], &mut toward_user[..n], &mut own[..n], &mut rates[..n]);
    let kept = &mut kept[..n];
    let tiles = tables.width.div_ceil(16);
    let dropped = match &mut **dropped {
        [mask, row] if WEIGHTED => {
            let factors = tables.users.columns().1;
            // SAFETY: the user's row has as many tiles, and the caller vouches for the instruction set.
            Some(unsafe {
                Dropped::new::<V, E>(group.user, regularization.user_dropout, seed, (tiles, factors), (mask, row))
            })
        }
        _ => None,
    };
    // SAFETY: `tile + N` stays within the padded width, so that every access lies in a row.
    let user_square = unsafe { dot_rows::<V, E>(group, dropped, tiles, norms, dots, squares) };

    let mut value = 0.0;
    let user_norm = user_square.max(1e-24).sqrt();
    if COSINE {
        for i in 0..n {
            scores[i] = dots[i] / (user_norm * squares[i].max(1e-24).sqrt());
        }
    }
    let scores = if COSINE { &*scores } else { &*dots };
    {
        let lists = loss.terms() == Terms::Lists;
        let given = if WEIGHTED && !lists { group.adjust.shift(scores, &mut shifted[..n], p) } else { scores };
        let of_lists = if WEIGHTED && lists { group.adjust.of_lists() } else { OfLists::default() };
        let (ps, ns) = given.split_at(p);
        let (pg, ng) = gradient.split_at_mut(p);
        loss.gradient(ps, ns, of_lists, pg, ng);
        if WEIGHTED {
            group.adjust.weigh(loss.terms(), pg, ng);
        }
        if report {
            value = loss.value(ps, ns, of_lists);
        }
    }

    // The mix of rows that each gradient is: `toward_user` × u + `own` × x. Plain dot products need no arrays for it.
    let positive_l2 = if loss.terms() == Terms::Pairs { update.l2 * each as f32 } else { update.l2 };
    let user_l2 = update.l2 * terms_of(loss, p, each) as f32;
    // What is dropped has no part in the scores, but in L2.
    let mut user_own = if dropped.is_some() { 0.0 } else { user_l2 };
    if COSINE {
        for i in 0..n {
            let l2 = if i < p { positive_l2 } else { update.l2 };
            let square = squares[i].max(1e-24);
            toward_user[i] = gradient[i] / (user_norm * square.sqrt());
            own[i] = l2 - gradient[i] * scores[i] / square;
            user_own -= gradient[i] * scores[i] / (user_norm * user_norm);
        }
    }
    let toward_user = if COSINE { &*toward_user } else { &*gradient };
    let width = tables.width as f32;
    if R::ADAPTIVE || clips {
        for i in 0..n {
            let l2 = if i < p { positive_l2 } else { update.l2 };
            let mut square = if COSINE {
                // The gradient of a cosine is orthogonal to the row, so that nothing cancels here.
                let g = gradient[i];
                g * g * (1.0 - scores[i] * scores[i]).max(0.0) / squares[i].max(1e-24) + l2 * l2 * squares[i]
            } else {
                let g = toward_user[i];
                g * g * user_square + 2.0 * l2 * g * dots[i] + l2 * l2 * squares[i]
            };
            if clips {
                kept[i] = regularization.kept(square);
                square *= kept[i] * kept[i];
            }
            if R::ADAPTIVE {
                let state = tables.items.state_ptr(group.items[i] as usize);
                // SAFETY: `state` points at this row's state; the caller vouches for the instruction set.
                rates[i] = unsafe { rule.rate::<V>(update.learning_rate, state, square.max(0.0) / width) };
            }
        }
    }
    // Where the user's gradient is needed as a whole it is put together first.
    let whole = R::ADAPTIVE || dropped.is_some() || clips;
    let mix = Mixes {
        toward_user,
        own: if COSINE { Some(&*own) } else { None },
        l2: (p, positive_l2, update.l2),
        rates: if R::ADAPTIVE { Some(rates) } else { None },
        kept: if clips { Some(&*kept) } else { None },
        user_own,
        user_l2,
        dropped,
        whole,
        learning_rate: update.learning_rate,
    };
    let mut square = 0.0;
    let mut tile = 0;
    // SAFETY: as above.
    unsafe {
        while tile + TILES <= tiles {
            square += update_tiles::<V, E, R, TILES>(tables, group, mix, rule, tile, user_gradient, noise);
            tile += TILES;
        }
        while tile < tiles {
            square += update_tiles::<V, E, R, 1>(tables, group, mix, rule, tile, user_gradient, noise);
            tile += 1;
        }
        if whole {
            let kept = regularization.kept(square);
            if kept < 1.0 {
                square *= kept * kept;
                user_gradient.scale::<V>(kept, tiles);
            }
            let rate = rule.rate::<V>(update.learning_rate, group.user_state, square / width);
            update_user::<V, E, R>(group, rule, user_gradient, rate, tiles, noise);
        }
        if let Some(column) = tables.users.fixed() {
            E::store_unit::<V>(group.user, column);
        }
        if let Some(column) = tables.items.fixed() {
            for row in group.rows {
                E::store_unit::<V>(*row, column);
            }
        }
        if let Some(most) = regularization.max_norm {
            let (buffer, noise) = (user_gradient.0.as_mut_ptr(), &mut noise[0]);
            let (width, factors) = tables.users.columns();
            limit_norm::<V, E>(group.user, (tiles, width, factors), most, buffer, noise);
            for row in group.rows {
                limit_norm::<V, E>(*row, (tiles, width, factors), most, buffer, noise);
            }
        }
    }
    value
}

/// The coefficients of the items' gradients, and their step sizes.
#[derive(Clone, Copy)]
struct Mixes<'a> {
    toward_user: &'a [f32],
    /// For cosines; otherwise it is the L2 term.
    own: Option<&'a [f32]>,
    /// Number of positives, and the L2 terms of positives and negatives.
    l2: (usize, f32, f32),
    /// For adaptive rules; otherwise it is the learning rate.
    rates: Option<&'a [f32]>,
    /// What of each gradient is kept when it is clipped; otherwise all.
    kept: Option<&'a [f32]>,
    /// What the user's row, or with dropout what is seen of it, moves along itself.
    user_own: f32,
    /// The L2 term of the user's row, which is in `user_own` without dropout.
    user_l2: f32,
    dropped: Option<Dropped>,
    /// Whether the user's gradient is put together as a whole first.
    whole: bool,
    learning_rate: f32,
}

impl Mixes<'_> {
    /// What item `i` adds to the user's gradient; what it moves by toward the user and along itself, and how far.
    #[inline(always)]
    fn of(&self, i: usize) -> (f32, f32, f32, f32) {
        let l2 = if i < self.l2.0 { self.l2.1 } else { self.l2.2 };
        let (b, a) = (self.toward_user[i], self.own.map_or(l2, |own| own[i]));
        let rate = self.rates.map_or(self.learning_rate, |r| r[i]);
        match self.kept {
            Some(kept) => (b, b * kept[i], a * kept[i], rate),
            None => (b, b, a, rate),
        }
    }
}

// The kernels below are plain loops and always inlined: a closure would be a function of its own, compiled without the
// instruction set of its caller.

/// # Safety
/// The tiles lie within the row, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn load_tiles<V: Lanes, E: Element, const N: usize>(row: *const f32, first: usize) -> [V; N] {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut tiles = [V::splat(0.0); N];
        for (t, tile) in tiles.iter_mut().enumerate() {
            *tile = E::load::<V>(row, first + t);
        }
        tiles
    }
}

/// Updates `N` tiles of the items from tile `first`, and of the user unless its whole gradient is needed first: then that
/// goes to `buffer`, and the sum of its squares is returned.
///
/// # Safety
/// The tiles lie within the rows, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn update_tiles<V: Lanes, E: Element, R: Rule, const N: usize>(
    tables: &Tables,
    group: &Group<'_>,
    mix: Mixes<'_>,
    rule: R,
    first: usize,
    buffer: &mut Row,
    noise: &mut [V::Noise; TILES],
) -> f32 {
    // Where optimizer state and the buffer have the tiles, in bytes.
    let offset = first * 64;
    // SAFETY: passed on from the caller; `buffer` is as long as the longest row.
    unsafe {
        let user = load_user::<V, E, N>(group.user, mix.dropped, first);
        let mut gradient = [V::splat(0.0); N];
        for (i, &row) in group.rows.iter().enumerate() {
            let (toward, b, a, rate) = mix.of(i);
            let toward = V::splat(toward);
            if R::MOMENTUM {
                let Some(table) = &tables.items.momentum else { continue };
                let moment_row = table.row_ptr(group.items[i] as usize);
                let decay = rule.decay();
                let (own, keep) = (V::splat((1.0 - decay) * a), V::splat(decay));
                let (fresh, step) = (V::splat((1.0 - decay) * b), V::splat(-rate));
                for t in 0..N {
                    let x = E::load::<V>(row, first + t);
                    gradient[t] = x.mul_add(toward, gradient[t]);
                    let moment = V::load(moment_row, offset + t * 64);
                    let moment = x.mul_add(own, user[t].mul_add(fresh, moment.mul(keep)));
                    moment.store(moment_row, offset + t * 64);
                    E::store(moment.mul_add(step, x), row, first + t, &mut noise[t]);
                }
            } else {
                let (keep, step) = (V::splat(1.0 - rate * a), V::splat(-rate * b));
                for t in 0..N {
                    let x = E::load::<V>(row, first + t);
                    gradient[t] = x.mul_add(toward, gradient[t]);
                    E::store(x.mul_add(keep, user[t].mul(step)), row, first + t, &mut noise[t]);
                }
            }
        }
        if mix.whole {
            let mut square = 0.0;
            for (t, g) in gradient.into_iter().enumerate() {
                let mut g = user[t].mul_add(V::splat(mix.user_own), g);
                if let Some(dropped) = mix.dropped {
                    let row = E::load::<V>(group.user, first + t);
                    g = row.mul_add(V::splat(mix.user_l2), g.mul(V::load(dropped.mask, offset + t * 64)));
                }
                square += g.mul(g).sum();
                g.store(buffer.0.as_mut_ptr(), offset + t * 64);
            }
            square
        } else {
            let rate = mix.learning_rate;
            for t in 0..N {
                let kept = user[t].mul(V::splat(1.0 - rate * mix.user_own));
                E::store(gradient[t].mul_add(V::splat(-rate), kept), group.user, first + t, &mut noise[t]);
            }
            0.0
        }
    }
}

/// Updates the user's row by the gradient in `buffer`.
///
/// # Safety
/// As for [`update_tiles`].
#[inline(always)]
unsafe fn update_user<V: Lanes, E: Element, R: Rule>(
    group: &Group<'_>,
    rule: R,
    buffer: &mut Row,
    rate: f32,
    tiles: usize,
    noise: &mut [V::Noise; TILES],
) {
    for tile in 0..tiles {
        let offset = tile * 64;
        // SAFETY: passed on from the caller; with momentum the rule's tables are there.
        unsafe {
            let user = E::load::<V>(group.user, tile);
            let gradient = V::load(buffer.0.as_mut_ptr(), offset);
            let direction = if R::MOMENTUM {
                let decay = rule.decay();
                let moment = V::load(group.user_momentum, offset).mul(V::splat(decay));
                let moment = gradient.mul_add(V::splat(1.0 - decay), moment);
                moment.store(group.user_momentum, offset);
                moment
            } else {
                gradient
            };
            E::store(direction.mul_add(V::splat(-rate), user), group.user, tile, &mut noise[tile % TILES]);
        }
    }
}

#[cfg(test)]
mod tests;
