//! The factor tables in training, with the state that the optimizer keeps for each row.

use rayon::prelude::*;

use crate::model::rule::{Adagrad, Adam, Rule, Sgd};
use crate::model::shared::SharedTable;
use crate::model::{ModelError, Precision};

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
    pub(super) momentum: Option<SharedTable>,
    /// The column that is fixed at 1, and multiplies the other side's bias.
    fixed: Option<usize>,
    width: usize,
    precision: Precision,
}

impl Side {
    fn new(
        rows: usize,
        width: usize,
        (optimizer, precision): (Optimizer, Precision),
        fixed: Option<usize>,
    ) -> Result<Self, ModelError> {
        let (state, momentum) = optimizer.state();
        let momentum = if momentum { Some(SharedTable::zeros(rows, width)?) } else { None };
        let state = SharedTable::with_stride(if state == 0 { 0 } else { rows }, state)?;
        let factors = SharedTable::with_stride(rows, precision.stride(width))?;
        Ok(Self { factors, state, momentum, fixed, width, precision })
    }

    /// The column that is always 1, if there are biases.
    pub(super) fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    /// Fills every row: `fill(i, row)` sets the factors of row `i`, which are zero but for a column that is fixed at 1.
    pub(crate) fn fill(&mut self, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let Self { factors, fixed, width, precision, .. } = self;
        let stride = factors.stride();
        factors.as_mut_slice().par_chunks_exact_mut(stride).enumerate().for_each_init(
            || vec![0f32; *width],
            |row, (i, out)| {
                row.fill(0.0);
                if let Some(column) = *fixed {
                    row[column] = 1.0;
                }
                fill(i, row);
                precision.write(row, out);
            },
        );
    }

    /// All rows for reading, while nobody trains.
    pub(crate) fn rows(&mut self) -> SideRows<'_> {
        SideRows { stride: self.factors.stride(), words: self.factors.as_slice(), precision: self.precision }
    }

    /// Whether every factor is a finite number.
    pub(crate) fn is_finite(&mut self) -> bool {
        let (stride, precision) = (self.factors.stride(), self.precision);
        self.factors.as_slice().par_chunks_exact(stride).all(|row| precision.is_finite(row))
    }

    pub(super) fn state_ptr(&self, row: usize) -> *mut f32 {
        if self.state.rows() == 0 { std::ptr::null_mut() } else { self.state.row_ptr(row) }
    }
}

/// The rows of one side, which nobody trains meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct SideRows<'a> {
    words: &'a [f32],
    stride: usize,
    precision: Precision,
}

impl SideRows<'_> {
    /// The first factors of row `index`.
    pub(crate) fn read(&self, index: usize, factors: &mut [f32]) {
        self.precision.read(&self.words[index * self.stride..(index + 1) * self.stride], factors);
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
    optimizer: Optimizer,
    precision: Precision,
}

impl Tables {
    pub(crate) fn new(
        users: usize,
        items: usize,
        dimensions: usize,
        biases: bool,
        optimizer: Optimizer,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        let width = dimensions + if biases { 2 } else { 0 };
        Ok(Self {
            users: Side::new(users, width, (optimizer, precision), biases.then_some(dimensions))?,
            items: Side::new(items, width, (optimizer, precision), biases.then_some(dimensions + 1))?,
            width,
            optimizer,
            precision,
        })
    }

    /// The rule that the state belongs to, and no other.
    pub(crate) fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// How the factors are kept.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes that the tables take, optimizer state included.
    pub(crate) fn bytes(users: usize, items: usize, width: usize, optimizer: Optimizer, precision: Precision) -> u64 {
        let (state, momentum) = optimizer.state();
        let rows = (users + items) as u64;
        let momentum = if momentum { SharedTable::bytes(users + items, width) } else { 0 };
        rows * precision.stride(width) as u64 * 4 + momentum + rows * state as u64 * 4
    }
}
