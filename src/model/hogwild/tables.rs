//! The factor tables in training, with the state that the optimizer keeps for each row.

use crate::model::ModelError;
use crate::model::rule::{Adagrad, Adam, Rule, Sgd};
use crate::model::shared::SharedTable;

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
    pub(in crate::model) momentum: Option<SharedTable>,
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

    pub(in crate::model) fn state_ptr(&self, row: usize) -> *mut f32 {
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
    optimizer: Optimizer,
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
            optimizer,
        })
    }

    /// The rule that the state belongs to, and no other.
    pub(crate) fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// Bytes that the tables take, optimizer state included.
    pub(crate) fn bytes(users: usize, items: usize, width: usize, optimizer: Optimizer) -> u64 {
        let (state, momentum) = optimizer.state();
        let rows = (users + items) as u64;
        SharedTable::bytes(users + items, width) * if momentum { 2 } else { 1 } + rows * state as u64 * 4
    }
}
