//! Lock-free training on shared tables: for a few positives of a user at a time, scores, their gradient, the update.
//!
//! With u the user's row, xᵢ the item rows and gᵢ the loss's derivative by score sᵢ, every gradient here is a mix of
//! two rows: ∂L/∂xᵢ = bᵢu + aᵢxᵢ and ∂L/∂u = Σ bᵢxᵢ + a₀u. For dot products bᵢ = gᵢ and a holds the L2 term; for
//! cosines bᵢ = gᵢ/(|u||xᵢ|), aᵢ = −gᵢsᵢ/|xᵢ|² + L2, a₀ = −Σ gᵢsᵢ/|u|² + L2. One kernel therefore serves every loss,
//! similarity and optimizer. All positives of a group see the user's row as it was before the group.

#[cfg(target_arch = "x86_64")]
use super::kernel::{Avx2, Avx512};
use super::kernel::{InstructionSet, Lanes, Portable};
use super::rule::{Adagrad, Adam, Rule, Sgd};
use super::shared::SharedTable;
use super::{ModelError, Similarity};
use crate::loss::Loss;

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

/// Which update rule, with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Optimizer {
    Sgd,
    Adagrad { epsilon: f32 },
    Adam { beta1: f32, beta2: f32, epsilon: f32 },
}

impl Optimizer {
    fn state(self) -> (usize, bool) {
        match self {
            Self::Sgd => (Sgd::STATE, Sgd::MOMENTUM),
            Self::Adagrad { .. } => (Adagrad::STATE, Adagrad::MOMENTUM),
            Self::Adam { .. } => (Adam::STATE, Adam::MOMENTUM),
        }
    }
}

/// One side's factors and optimizer state.
pub(crate) struct Side {
    pub(crate) factors: SharedTable,
    state: SharedTable,
    momentum: Option<SharedTable>,
    /// The column that is fixed at 1, and multiplies the other side's bias.
    fixed: Option<usize>,
}

impl Side {
    fn new(rows: usize, width: usize, optimizer: Optimizer, fixed: Option<usize>) -> Result<Self, ModelError> {
        let (state, momentum) = optimizer.state();
        let momentum = if momentum { Some(SharedTable::zeros(rows, width)?) } else { None };
        let state = SharedTable::with_stride(if state == 0 { 0 } else { rows }, state)?;
        Ok(Self { factors: SharedTable::zeros(rows, width)?, state, momentum, fixed })
    }

    /// The column that is always 1, if there are biases.
    pub(crate) fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    fn state_ptr(&self, row: usize) -> *mut f32 {
        if self.state.rows() == 0 { std::ptr::null_mut() } else { self.state.row_ptr(row) }
    }
}

/// The tables in training.
///
/// With biases, rows are `[factors, 1, bias]` for users and `[factors, bias, 1]` for items, so that a score is one dot
/// product whatever the model.
pub(crate) struct Tables {
    pub(crate) users: Side,
    pub(crate) items: Side,
    pub(crate) width: usize,
}

impl Tables {
    pub(crate) fn new(
        users: usize,
        items: usize,
        dimensions: usize,
        biases: bool,
        optimizer: Optimizer,
    ) -> Result<Self, ModelError> {
        let width = dimensions + if biases { 2 } else { 0 };
        Ok(Self {
            users: Side::new(users, width, optimizer, biases.then_some(dimensions))?,
            items: Side::new(items, width, optimizer, biases.then_some(dimensions + 1))?,
            width,
        })
    }

    /// Bytes that the tables take, optimizer state included.
    pub(crate) fn bytes(users: usize, items: usize, width: usize, optimizer: Optimizer) -> u64 {
        let (state, momentum) = optimizer.state();
        let rows = (users + items) as u64;
        SharedTable::bytes(users + items, width) * if momentum { 2 } else { 1 } + rows * state as u64 * 4
    }
}

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
}

/// How to update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    pub(crate) learning_rate: f32,
    pub(crate) l2: f32,
    pub(crate) similarity: Similarity,
    pub(crate) optimizer: Optimizer,
}

/// Summed loss over the terms (pairs, or scores) that were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LossSample {
    pub(crate) sum: f64,
    pub(crate) terms: u64,
}

/// Trains on `runs` with the kernels of `set`, which the machine must have (see [`InstructionSet::available`]).
pub(crate) fn train<L: Loss>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
) -> LossSample {
    assert!(tables.users.factors.stride() <= MAX_STRIDE && (1..=MAX_NEGATIVES).contains(&runs.negatives_each));
    assert_eq!(runs.positives.len() * runs.negatives_each, runs.negatives.len());
    assert_eq!(runs.users.len(), runs.ends.len());
    assert!(InstructionSet::available().contains(&set) || set == InstructionSet::Portable);
    match update.optimizer {
        Optimizer::Sgd => with_rule(set, tables, runs, loss, update, Sgd),
        Optimizer::Adagrad { epsilon } => with_rule(set, tables, runs, loss, update, Adagrad { epsilon }),
        Optimizer::Adam { beta1, beta2, epsilon } => {
            with_rule(set, tables, runs, loss, update, Adam { beta1, beta2, epsilon })
        }
    }
}

fn with_rule<L: Loss, R: Rule>(
    set: InstructionSet,
    tables: &Tables,
    runs: Runs<'_>,
    loss: L,
    update: Update,
    rule: R,
) -> LossSample {
    let cosine = update.similarity == Similarity::Cosine;
    // SAFETY: `train` made sure that the machine has the instruction set.
    unsafe {
        match (set, cosine) {
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, false) => avx512::<L, R, false>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx512, true) => avx512::<L, R, true>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, false) => avx2::<L, R, false>(tables, runs, loss, update, rule),
            #[cfg(target_arch = "x86_64")]
            (InstructionSet::Avx2, true) => avx2::<L, R, true>(tables, runs, loss, update, rule),
            (_, false) => all_runs::<Portable, L, R, false>(tables, runs, loss, update, rule),
            (_, true) => all_runs::<Portable, L, R, true>(tables, runs, loss, update, rule),
        }
    }
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512<L: Loss, R: Rule, const COSINE: bool>(t: &Tables, r: Runs<'_>, l: L, u: Update, o: R) -> LossSample {
    // SAFETY: passed on from the caller.
    unsafe { all_runs::<Avx512, L, R, COSINE>(t, r, l, u, o) }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<L: Loss, R: Rule, const COSINE: bool>(t: &Tables, r: Runs<'_>, l: L, u: Update, o: R) -> LossSample {
    // SAFETY: passed on from the caller.
    unsafe { all_runs::<Avx2, L, R, COSINE>(t, r, l, u, o) }
}

/// The user and items of a group: positives first, then each positive's negatives in turn.
struct Group<'a> {
    user: *mut f32,
    user_state: *mut f32,
    user_momentum: *mut f32,
    items: &'a [u32],
    rows: &'a [*mut f32],
    positives: usize,
}

/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn all_runs<V: Lanes, L: Loss, R: Rule, const COSINE: bool>(
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
    let mut scratch = Scratch::new();
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
            };
            // SAFETY: `row_ptr` checked every row; the caller vouches for the instruction set.
            let value = unsafe { step::<V, L, R, COSINE>(tables, &group, loss, update, rule, report, &mut scratch) };
            if report {
                sample.sum += f64::from(value);
                sample.terms += if L::PAIRWISE { positives * each } else { n } as u64;
            }
            k += positives;
        }
    }
    sample
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
unsafe fn step<V: Lanes, L: Loss, R: Rule, const COSINE: bool>(
    tables: &Tables,
    group: &Group<'_>,
    loss: L,
    update: Update,
    rule: R,
    report: bool,
    scratch: &mut Scratch,
) -> f32 {
    let n = group.rows.len();
    let p = group.positives;
    let each = (n - p) / p;
    let norms = COSINE || R::ADAPTIVE;
    let Scratch { dots, squares, scores, gradient, toward_user, own, rates, user_gradient } = scratch;
    let (dots, squares, scores) = (&mut dots[..n], &mut squares[..n], &mut scores[..n]);
    let (gradient, toward_user, own, rates) =
        (&mut gradient[..n], &mut toward_user[..n], &mut own[..n], &mut rates[..n]);
    let tiles = tables.users.factors.stride() / 16;
    // SAFETY: `tile + N` stays within the stride, so that every access lies in a row.
    let user_square = unsafe { dot_rows::<V>(group, tiles, norms, dots, squares) };

    let mut value = 0.0;
    let user_norm = user_square.max(1e-24).sqrt();
    if COSINE {
        for i in 0..n {
            scores[i] = dots[i] / (user_norm * squares[i].max(1e-24).sqrt());
        }
    }
    let scores = if COSINE { &*scores } else { &*dots };
    {
        let (ps, ns) = scores.split_at(p);
        let (pg, ng) = gradient.split_at_mut(p);
        loss.gradient(ps, ns, pg, ng);
        if report {
            value = loss.value(ps, ns);
        }
    }

    // The mix of rows that each gradient is: `toward_user` × u + `own` × x. Plain dot products need no arrays for it.
    let positive_l2 = if L::PAIRWISE { update.l2 * each as f32 } else { update.l2 };
    let mut user_own = update.l2 * if L::PAIRWISE { p * each } else { n } as f32;
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
    let own_mix = &*own;
    let width = tables.width as f32;
    if R::ADAPTIVE {
        for i in 0..n {
            let b = toward_user[i];
            let a = if COSINE {
                own_mix[i]
            } else if i < p {
                positive_l2
            } else {
                update.l2
            };
            let square = b * b * user_square + 2.0 * a * b * dots[i] + a * a * squares[i];
            let state = tables.items.state_ptr(group.items[i] as usize);
            // SAFETY: `state` points at this row's state; the caller vouches for the instruction set.
            rates[i] = unsafe { rule.rate::<V>(update.learning_rate, state, square.max(0.0) / width) };
        }
    }
    let mix = Mixes {
        toward_user,
        own: if COSINE { Some(own_mix) } else { None },
        l2: (p, positive_l2, update.l2),
        rates: if R::ADAPTIVE { Some(rates) } else { None },
        learning_rate: update.learning_rate,
    };
    let mut square = 0.0;
    let user_factor = 1.0 - update.learning_rate * user_own;
    let mut tile = 0;
    // SAFETY: as above.
    unsafe {
        while tile + TILES <= tiles {
            square += update_tiles::<V, R, TILES>(
                tables,
                group,
                mix,
                rule,
                tile * 64,
                user_gradient,
                (update.learning_rate, user_factor),
            );
            tile += TILES;
        }
        while tile < tiles {
            square += update_tiles::<V, R, 1>(
                tables,
                group,
                mix,
                rule,
                tile * 64,
                user_gradient,
                (update.learning_rate, user_factor),
            );
            tile += 1;
        }
        if R::ADAPTIVE {
            let along: f32 = toward_user.iter().zip(dots.iter()).map(|(b, d)| b * d).sum();
            let square = square + 2.0 * user_own * along + user_own * user_own * user_square;
            let rate = rule.rate::<V>(update.learning_rate, group.user_state, square.max(0.0) / width);
            update_user::<V, R>(group, rule, user_gradient, user_own, rate, tiles);
        }
        if let Some(column) = tables.users.fixed {
            V::store_one(group.user.add(column), 1.0);
        }
        if let Some(column) = tables.items.fixed {
            for row in group.rows {
                V::store_one(row.add(column), 1.0);
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
    learning_rate: f32,
}

impl Mixes<'_> {
    /// What item `i` moves by toward the user and along itself, and how far.
    #[inline(always)]
    fn of(&self, i: usize) -> (f32, f32, f32) {
        let l2 = if i < self.l2.0 { self.l2.1 } else { self.l2.2 };
        (self.toward_user[i], self.own.map_or(l2, |own| own[i]), self.rates.map_or(self.learning_rate, |r| r[i]))
    }
}

/// Room for a user's gradient.
#[repr(align(64))]
struct UserGradient([f32; MAX_STRIDE]);

/// What a group needs while it is at work, by item; made once a batch.
struct Scratch {
    dots: [f32; GROUP],
    squares: [f32; GROUP],
    scores: [f32; GROUP],
    gradient: [f32; GROUP],
    toward_user: [f32; GROUP],
    own: [f32; GROUP],
    rates: [f32; GROUP],
    user_gradient: UserGradient,
}

impl Scratch {
    fn new() -> Self {
        let zeros = [0f32; GROUP];
        Self {
            dots: zeros,
            squares: zeros,
            scores: zeros,
            gradient: zeros,
            toward_user: zeros,
            own: zeros,
            rates: zeros,
            user_gradient: UserGradient([0f32; MAX_STRIDE]),
        }
    }
}

/// Dot products of the user's row with every item's, and the squared norms if `norms`; returns |u|², or 0 without.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn dot_rows<V: Lanes>(
    group: &Group<'_>,
    tiles: usize,
    norms: bool,
    dots: &mut [f32],
    squares: &mut [f32],
) -> f32 {
    let whole = tiles - tiles % TILES;
    let mut square = 0.0;
    // SAFETY: every tile lies within the rows; the instruction set is passed on from the caller.
    unsafe {
        for tile in (0..whole).step_by(TILES) {
            square += dot_tiles::<V, TILES>(group, tile, norms, dots, squares);
        }
        for tile in whole..tiles {
            square += dot_tiles::<V, 1>(group, tile, norms, dots, squares);
        }
    }
    square
}

/// The part of `N` tiles from tile `first`: written by the first, added by the others.
///
/// # Safety
/// The tiles lie within the rows, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn dot_tiles<V: Lanes, const N: usize>(
    group: &Group<'_>,
    first: usize,
    norms: bool,
    dots: &mut [f32],
    squares: &mut [f32],
) -> f32 {
    let offset = first * 64;
    let n = group.rows.len();
    let fours = if norms { 0 } else { n - n % 4 };
    // SAFETY: passed on from the caller.
    unsafe {
        let user: [V; N] = load_tiles(group.user, offset);
        let mut i = 0;
        while i < fours {
            let mut products = [user[0]; 4];
            for (j, out) in products.iter_mut().enumerate() {
                *out = product(&load_tiles::<V, N>(group.rows[i + j], offset), &user);
            }
            for (dot, sum) in dots[i..i + 4].iter_mut().zip(V::sum4(products)) {
                *dot = if first == 0 { sum } else { *dot + sum };
            }
            i += 4;
        }
        while i < n {
            let x: [V; N] = load_tiles(group.rows[i], offset);
            let dot = product(&x, &user).sum();
            dots[i] = if first == 0 { dot } else { dots[i] + dot };
            if norms {
                let square = product(&x, &x).sum();
                squares[i] = if first == 0 { square } else { squares[i] + square };
            }
            i += 1;
        }
        if norms { product(&user, &user).sum() } else { 0.0 }
    }
}

// The kernels below are plain loops and always inlined: a closure would be a function of its own, compiled without the
// instruction set of its caller.

/// # Safety
/// As for [`dot_tiles`].
#[inline(always)]
unsafe fn load_tiles<V: Lanes, const N: usize>(row: *const f32, offset: usize) -> [V; N] {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut tiles = [V::splat(0.0); N];
        for (t, tile) in tiles.iter_mut().enumerate() {
            *tile = V::load(row, offset + t * 64);
        }
        tiles
    }
}

/// The sum of a × b over tiles, lane by lane.
///
/// # Safety
/// The machine has the instruction set of `V`.
#[inline(always)]
unsafe fn product<V: Lanes, const N: usize>(a: &[V; N], b: &[V; N]) -> V {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut sum = a[0].mul(b[0]);
        for t in 1..N {
            sum = a[t].mul_add(b[t], sum);
        }
        sum
    }
}

/// Updates `N` tiles of the items from byte `offset`, and of the user unless the rule needs its whole gradient first:
/// then that goes to `buffer`, and the sum of its squares is returned.
///
/// # Safety
/// The tiles lie within the rows, and the machine has the instruction set of `V`.
#[inline(always)]
unsafe fn update_tiles<V: Lanes, R: Rule, const N: usize>(
    tables: &Tables,
    group: &Group<'_>,
    mix: Mixes<'_>,
    rule: R,
    offset: usize,
    buffer: &mut UserGradient,
    (learning_rate, user_factor): (f32, f32),
) -> f32 {
    // SAFETY: passed on from the caller; `buffer` is as long as the longest row.
    unsafe {
        let user: [V; N] = load_tiles(group.user, offset);
        let mut gradient = [V::splat(0.0); N];
        for (i, &row) in group.rows.iter().enumerate() {
            let (b, a, rate) = mix.of(i);
            let toward = V::splat(b);
            if R::MOMENTUM {
                let Some(table) = &tables.items.momentum else { continue };
                let moment_row = table.row_ptr(group.items[i] as usize);
                let decay = rule.decay();
                let (own, keep) = (V::splat((1.0 - decay) * a), V::splat(decay));
                let (fresh, step) = (V::splat((1.0 - decay) * b), V::splat(-rate));
                for t in 0..N {
                    let x = V::load(row, offset + t * 64);
                    gradient[t] = x.mul_add(toward, gradient[t]);
                    let moment = V::load(moment_row, offset + t * 64);
                    let moment = x.mul_add(own, user[t].mul_add(fresh, moment.mul(keep)));
                    moment.store(moment_row, offset + t * 64);
                    moment.mul_add(step, x).store(row, offset + t * 64);
                }
            } else {
                let (keep, step) = (V::splat(1.0 - rate * a), V::splat(-rate * b));
                for t in 0..N {
                    let x = V::load(row, offset + t * 64);
                    gradient[t] = x.mul_add(toward, gradient[t]);
                    x.mul_add(keep, user[t].mul(step)).store(row, offset + t * 64);
                }
            }
        }
        if R::ADAPTIVE {
            let mut square = 0.0;
            for (t, g) in gradient.into_iter().enumerate() {
                square += g.mul(g).sum();
                g.store(buffer.0.as_mut_ptr(), offset + t * 64);
            }
            square
        } else {
            for t in 0..N {
                let kept = user[t].mul(V::splat(user_factor));
                gradient[t].mul_add(V::splat(-learning_rate), kept).store(group.user, offset + t * 64);
            }
            0.0
        }
    }
}

/// Updates the user's row by the gradient in `buffer` plus `own` × u.
///
/// # Safety
/// As for [`update_tiles`].
#[inline(always)]
unsafe fn update_user<V: Lanes, R: Rule>(
    group: &Group<'_>,
    rule: R,
    buffer: &UserGradient,
    own: f32,
    rate: f32,
    tiles: usize,
) {
    for offset in (0..tiles * 64).step_by(64) {
        // SAFETY: passed on from the caller; with momentum the rule's tables are there.
        unsafe {
            let user = V::load(group.user, offset);
            let gradient = user.mul_add(V::splat(own), V::load(buffer.0.as_ptr(), offset));
            let direction = if R::MOMENTUM {
                let decay = rule.decay();
                let moment = V::load(group.user_momentum, offset).mul(V::splat(decay));
                let moment = gradient.mul_add(V::splat(1.0 - decay), moment);
                moment.store(group.user_momentum, offset);
                moment
            } else {
                gradient
            };
            direction.mul_add(V::splat(-rate), user).store(group.user, offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{Bpr, Logistic};
    use proptest::prelude::*;

    /// A plain f64 model of the tables and of one group's update, written from the formulas.
    struct Oracle {
        users: Vec<Vec<f64>>,
        items: Vec<Vec<f64>>,
        user_state: Vec<(f64, Vec<f64>, i32)>,
        item_state: Vec<(f64, Vec<f64>, i32)>,
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    fn descend(row: &mut [f64], state: &mut (f64, Vec<f64>, i32), gradient: &[f64], update: Update) {
        let rate = f64::from(update.learning_rate);
        let mean = dot(gradient, gradient) / gradient.len() as f64;
        match update.optimizer {
            Optimizer::Sgd => row.iter_mut().zip(gradient).for_each(|(x, g)| *x -= rate * g),
            Optimizer::Adagrad { epsilon } => {
                state.0 += mean;
                let rate = rate / (state.0 + f64::from(epsilon)).sqrt();
                row.iter_mut().zip(gradient).for_each(|(x, g)| *x -= rate * g);
            }
            Optimizer::Adam { beta1, beta2, epsilon } => {
                let (b1, b2) = (f64::from(beta1), f64::from(beta2));
                state.2 += 1;
                state.0 = b2 * state.0 + (1.0 - b2) * mean;
                let v = state.0 / (1.0 - b2.powi(state.2));
                let rate = rate / (1.0 - b1.powi(state.2)) / (v.sqrt() + f64::from(epsilon));
                for ((x, m), g) in row.iter_mut().zip(&mut state.1).zip(gradient) {
                    *m = b1 * *m + (1.0 - b1) * g;
                    *x -= rate * *m;
                }
            }
        }
    }

    impl Oracle {
        fn group<L: Loss>(&mut self, user: usize, items: &[usize], p: usize, loss: L, update: Update) {
            let each = (items.len() - p) / p;
            let u = self.users[user].clone();
            let norm = |row: &[f64]| dot(row, row).max(1e-24).sqrt();
            let score = |x: &[f64]| match update.similarity {
                Similarity::Dot => dot(&u, x),
                Similarity::Cosine => dot(&u, x) / (norm(&u) * norm(x)),
            };
            let scores: Vec<f32> = items.iter().map(|i| score(&self.items[*i]) as f32).collect();
            let mut g = vec![0f32; items.len()];
            let (pg, ng) = g.split_at_mut(p);
            loss.gradient(&scores[..p], &scores[p..], pg, ng);
            let l2 = f64::from(update.l2);
            let mut user_gradient: Vec<f64> =
                u.iter().map(|x| x * l2 * if L::PAIRWISE { p * each } else { items.len() } as f64).collect();
            for (k, &i) in items.iter().enumerate() {
                let x = self.items[i].clone();
                let (g, s) = (f64::from(g[k]), score(&x));
                let times = if L::PAIRWISE && k < p { each as f64 } else { 1.0 };
                let mut item_gradient: Vec<f64> = x.iter().map(|x| x * l2 * times).collect();
                for d in 0..u.len() {
                    let (du, dx) = match update.similarity {
                        Similarity::Dot => (x[d], u[d]),
                        Similarity::Cosine => {
                            let (nu, nx) = (norm(&u), norm(&x));
                            ((x[d] / nx - s * u[d] / nu) / nu, (u[d] / nu - s * x[d] / nx) / nx)
                        }
                    };
                    user_gradient[d] += g * du;
                    item_gradient[d] += g * dx;
                }
                descend(&mut self.items[i], &mut self.item_state[i], &item_gradient, update);
            }
            descend(&mut self.users[user], &mut self.user_state[user], &user_gradient, update);
        }
    }

    fn compare<L: Loss>(loss: L, update: Update, dimensions: usize, each: usize, seed: u64) {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(seed);
        let (users, items) = (3usize, 40usize);
        let mut row = || (0..dimensions).map(|_| rng.random_range(-0.5f32..0.5)).collect::<Vec<_>>();
        let start_users: Vec<Vec<f32>> = (0..users).map(|_| row()).collect();
        let start_items: Vec<Vec<f32>> = (0..items).map(|_| row()).collect();
        // Runs of 1, 5 and 2 positives. Within a run no item comes twice, so that the group's order does not matter.
        let (run_users, ends) = ([2u32, 0, 1], [1u32, 6, 8]);
        let (mut positives, mut negatives) = (Vec::new(), Vec::new());
        for (r, end) in ends.iter().enumerate() {
            for k in positives.len() as u32..*end {
                positives.push((k + r as u32) % 8);
                negatives.extend((0..each as u32).map(|j| 8 + (k * each as u32 + j) % 32));
            }
        }
        let runs =
            Runs { users: &run_users, ends: &ends, positives: &positives, negatives: &negatives, negatives_each: each };
        let wide = |rows: &[Vec<f32>]| {
            rows.iter().map(|r| r.iter().map(|x| f64::from(*x)).collect()).collect::<Vec<Vec<f64>>>()
        };
        let state = |n: usize| vec![(0.0, vec![0.0; dimensions], 0); n];
        let mut oracle = Oracle {
            users: wide(&start_users),
            items: wide(&start_items),
            user_state: state(users),
            item_state: state(items),
        };
        let at_once = (2 * PAIRS / (1 + each)).max(1);
        for _ in 0..2 {
            let mut k = 0;
            for (user, end) in run_users.iter().zip(ends) {
                while k < end as usize {
                    let p = at_once.min(end as usize - k);
                    let group: Vec<usize> = positives[k..k + p]
                        .iter()
                        .chain(&negatives[k * each..(k + p) * each])
                        .map(|i| *i as usize)
                        .collect();
                    oracle.group(*user as usize, &group, p, loss, update);
                    k += p;
                }
            }
        }
        for set in InstructionSet::available() {
            let mut tables = Tables::new(users, items, dimensions, false, update.optimizer).unwrap();
            let stride = tables.items.factors.stride();
            for (side, start) in [(&mut tables.users, &start_users), (&mut tables.items, &start_items)] {
                for (out, row) in side.factors.as_mut_slice().chunks_exact_mut(stride).zip(start) {
                    out[..dimensions].copy_from_slice(row);
                }
            }
            for _ in 0..2 {
                let sample = train(set, &tables, runs, loss, update);
                assert!(sample.sum.is_finite() && sample.terms > 0);
            }
            for (side, expected) in [(&mut tables.users, &oracle.users), (&mut tables.items, &oracle.items)] {
                for (got, want) in side.factors.as_slice().chunks_exact(stride).zip(expected) {
                    for (g, w) in got.iter().zip(want) {
                        assert!((f64::from(*g) - w).abs() < 2e-4, "{}: {g} instead of {w}", set.name());
                    }
                    assert!(got[dimensions..].iter().all(|x| *x == 0.0), "padding stays zero");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_kernel_equals_the_oracle(
            dimensions in 1usize..150, each in 1usize..4, optimizer in 0usize..3, cosine: bool, pairwise: bool, seed: u64,
        ) {
            let optimizer = [
                Optimizer::Sgd,
                Optimizer::Adagrad { epsilon: 1e-3 },
                Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-3 },
            ][optimizer];
            let similarity = if cosine { Similarity::Cosine } else { Similarity::Dot };
            let update = Update { learning_rate: 0.02, l2: 0.03, similarity, optimizer };
            if pairwise {
                compare(Bpr { inverse_temperature: 1.5 }, update, dimensions, each, seed);
            } else {
                compare(Logistic { inverse_temperature: 0.7 }, update, dimensions, each, seed);
            }
        }
    }

    #[test]
    fn biases_learn_and_fixed_columns_stay_one() {
        let mut tables = Tables::new(1, 2, 3, true, Optimizer::Sgd).unwrap();
        tables.users.factors.as_mut_slice()[3] = 1.0;
        for item in 0..2 {
            tables.items.factors.as_mut_slice()[item * 16 + 4] = 1.0;
        }
        let runs = Runs { users: &[0], ends: &[1], positives: &[0], negatives: &[1], negatives_each: 1 };
        let update = Update { learning_rate: 0.1, l2: 0.01, similarity: Similarity::Dot, optimizer: Optimizer::Sgd };
        for _ in 0..50 {
            train(InstructionSet::detect(), &tables, runs, Bpr { inverse_temperature: 1.0 }, update);
        }
        let items = tables.items.factors.as_slice();
        assert!(items[3] > 0.5 && items[16 + 3] < -0.5, "item biases move apart: {} {}", items[3], items[16 + 3]);
        assert_eq!((items[4], items[16 + 4], tables.users.factors.as_slice()[3]), (1.0, 1.0, 1.0));
    }
}
