//! The private memory of one trainer of listwise losses: packed rows, a strip of scores, gradients.

/// Sixteen floats on one cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; 16]);

/// Floats that begin on a cache line.
pub(super) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// Zeros.
    pub(super) fn new(floats: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); floats.div_ceil(16)] }
    }

    /// Makes room for at least `floats`; what is in them then is of no meaning.
    fn reserve(&mut self, floats: usize) {
        if self.lines.len() * 16 < floats {
            *self = Self::new(floats);
        }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        // SAFETY: a line is sixteen floats without padding, and lines lie one behind the other.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 16) }
    }
}

impl std::ops::DerefMut for Buffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 16) }
    }
}

/// Positives whose scores are computed at once: four tiles, so that they fill the registers of a product.
pub(super) const STRIP: usize = 64;

/// What a trainer needs beside the tables; grows to the largest block, and is used again for each.
pub(crate) struct Workspace {
    /// Rows of the positives' users, one a positive.
    pub(super) users: Buffer,
    /// Their gradients.
    pub(super) user_gradients: Buffer,
    /// Gradients summed by user.
    pub(super) user_sums: Buffer,
    /// Rows of a strip's users, transposed; then the same rows times their scales.
    pub(super) strip_users: Buffer,
    /// Rows of the items: shared negatives first.
    pub(super) items: Buffer,
    pub(super) item_gradients: Buffer,
    /// Scores of a strip, then slopes: a row a negative, a column a positive.
    pub(super) scores: Buffer,
    /// How often a row's L2 term counts.
    pub(super) user_counts: Vec<f32>,
    pub(super) item_counts: Vec<f32>,
    /// What factors are multiplied by, with dropout: a row a positive, and a row an item.
    pub(super) user_masks: Buffer,
    pub(super) item_masks: Buffer,
    /// One row.
    pub(super) row: Buffer,
}

impl Workspace {
    /// Empty; see [`Workspace::bytes`] for what it grows to.
    pub(crate) fn new() -> Self {
        let none = || Buffer::new(0);
        Self {
            users: none(),
            user_gradients: none(),
            user_sums: none(),
            strip_users: none(),
            items: none(),
            item_gradients: none(),
            scores: none(),
            user_counts: Vec::new(),
            item_counts: Vec::new(),
            user_masks: none(),
            item_masks: none(),
            row: none(),
        }
    }

    /// Bytes for blocks of `positives` and `negatives` in rows of `stride` floats, with dropout of users and of items or
    /// without.
    pub(crate) fn bytes(positives: usize, negatives: usize, stride: usize, [users, items]: [bool; 2]) -> u64 {
        let masks = usize::from(users) * positives + usize::from(items) * (negatives + positives);
        let positives = positives.next_multiple_of(STRIP);
        let rows = 3 * positives + STRIP + 2 * (negatives + positives) + 1 + masks;
        (rows * stride + negatives * STRIP + 2 * positives + negatives) as u64 * 4
    }

    pub(super) fn prepare(&mut self, positives: usize, negatives: usize, items: usize, stride: usize) {
        let positives = positives.next_multiple_of(STRIP);
        self.users.reserve(positives * stride);
        self.user_gradients.reserve(positives * stride);
        self.user_sums.reserve(positives * stride);
        self.strip_users.reserve(STRIP * stride);
        self.items.reserve(items * stride);
        self.item_gradients.reserve(items * stride);
        self.scores.reserve(negatives * STRIP);
        self.row.reserve(stride);
    }

    /// Makes room for so many masks of users and of items.
    pub(super) fn prepare_masks(&mut self, users: usize, items: usize, stride: usize) {
        self.user_masks.reserve(users * stride);
        self.item_masks.reserve(items * stride);
    }
}
