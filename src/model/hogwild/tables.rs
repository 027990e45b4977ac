//! The factor tables in training, with the state that the optimizer keeps for each row.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use crate::model::rule::{Adagrad, Adam, Rule, Sgd};
use crate::model::shared::SharedTable;
use crate::model::{ModelError, Precision, stride_of};

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
    width: usize,
    precision: Precision,
}

impl Side {
    fn new(
        rows: usize,
        width: usize,
        (optimizer, precision): (Optimizer, Precision),
        fixed: Option<usize>,
        folder: Option<&Path>,
    ) -> Result<Self, ModelError> {
        let (state, momentum) = optimizer.state();
        let momentum = if momentum { Some(SharedTable::zeros(rows, width, folder)?) } else { None };
        let state = SharedTable::with_stride(if state == 0 { 0 } else { rows }, state, folder)?;
        let factors = SharedTable::with_stride(rows, precision.stride(width), folder)?;
        Ok(Self { factors, state, momentum, fixed, width, precision })
    }

    /// Asks for `rows` to be read, with their optimizer state, where they are in a file.
    pub(crate) fn will_need(&self, rows: Range<usize>) {
        self.tables().for_each(|table| table.will_need(rows.start.min(table.rows())..rows.end.min(table.rows())));
    }

    /// Lets go of `rows`, with their optimizer state, where they are in a file.
    pub(crate) fn let_go(&self, rows: Range<usize>) {
        self.tables().for_each(|table| table.let_go(rows.start.min(table.rows())..rows.end.min(table.rows())));
    }

    /// Makes all rows in a file, with their optimizer state, no longer memory of this process; they stay in the page cache.
    pub(crate) fn release_all(&self) {
        self.tables().for_each(|table| table.release(0..table.rows()));
    }

    fn tables(&self) -> impl Iterator<Item = &SharedTable> {
        [&self.factors, &self.state].into_iter().chain(&self.momentum)
    }

    fn tables_mut(&mut self) -> impl Iterator<Item = &mut SharedTable> {
        [&mut self.factors, &mut self.state].into_iter().chain(&mut self.momentum)
    }

    /// The column that is always 1, if there are biases.
    pub(crate) fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    /// Factors that mean something, the fixed one and the bias included.
    pub(in crate::model) fn width(&self) -> usize {
        self.width
    }

    /// How the factors are kept.
    pub(in crate::model) fn precision(&self) -> Precision {
        self.precision
    }

    /// Fills every row: `fill(i, row)` sets the factors of row `i`, which are zero but for a column that is fixed at 1.
    pub(crate) fn fill(&mut self, fill: impl Fn(usize, &mut [f32]) + Sync) {
        let Self { factors, fixed, width, precision, .. } = self;
        let stride = factors.stride();
        factors.strips(|first, strip| {
            strip.par_chunks_exact_mut(stride).enumerate().for_each_init(
                || vec![0f32; *width],
                |row, (i, out)| {
                    row.fill(0.0);
                    if let Some(column) = *fixed {
                        row[column] = 1.0;
                    }
                    fill(first + i, row);
                    precision.write(row, out);
                },
            );
        });
    }

    /// All rows for reading, while nobody trains.
    pub(crate) fn rows(&mut self) -> SideRows<'_> {
        let (stride, precision) = (self.factors.stride(), self.precision);
        let (table, words) = self.factors.at_rest();
        SideRows { table, words, stride, precision }
    }

    /// The longest of every `step`-th row from `first` on, and its norm, which is infinite if a factor is not a finite
    /// number; the first of equals. O(rows × width / step).
    pub(crate) fn longest(&mut self, first: usize, step: usize) -> (usize, f64) {
        let (stride, precision) = (self.factors.stride(), self.precision);
        let mut longest = (0, 0.0);
        self.factors.strips(|start, strip| {
            let norm = |(i, row): (usize, &[f32])| {
                let square = precision.square_norm(row);
                (start + i, if square.is_finite() { square } else { f64::INFINITY })
            };
            let longer = |a: (usize, f64), b: (usize, f64)| {
                let second = b.1 > a.1 || (b.1 == a.1 && b.0 < a.0);
                if second { b } else { a }
            };
            let looked_at =
                strip.par_chunks_exact(stride).enumerate().filter(|(i, _)| (start + i) % step == first % step);
            longest = longer(longest, looked_at.map(norm).reduce(|| (usize::MAX, 0.0), longer));
        });
        (longest.0, longest.1.sqrt())
    }

    /// The factors, to exchange them for those of another table of the same shape.
    pub(crate) fn factors_mut(&mut self) -> &mut SharedTable {
        &mut self.factors
    }

    /// Columns that mean something, and how many of them are factors, which come first: with biases all but two.
    pub(in crate::model) fn columns(&self) -> (usize, usize) {
        (self.width, if self.fixed.is_some() { self.width - 2 } else { self.width })
    }

    pub(in crate::model) fn state_ptr(&self, row: usize) -> *mut f32 {
        if self.state.rows() == 0 { std::ptr::null_mut() } else { self.state.row_ptr(row) }
    }
}

/// The rows of one side, which nobody trains meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct SideRows<'a> {
    table: &'a SharedTable,
    words: &'a [f32],
    stride: usize,
    precision: Precision,
}

impl SideRows<'_> {
    /// The table that the rows are of, to say what is needed of it soon and what no more.
    pub(crate) fn table(&self) -> &SharedTable {
        self.table
    }

    /// All rows one behind the other, if they are kept as f32.
    pub(crate) fn floats(&self) -> Option<&[f32]> {
        (self.precision == Precision::F32).then_some(self.words)
    }

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
    /// Rows of zeros. The users' and the items' are in memory, or in files without a name in the folder given for each.
    pub(crate) fn new(
        users: usize,
        items: usize,
        dimensions: usize,
        biases: bool,
        (optimizer, precision): (Optimizer, Precision),
        [user_folder, item_folder]: [Option<&Path>; 2],
    ) -> Result<Self, ModelError> {
        let width = dimensions + if biases { 2 } else { 0 };
        let kept = (optimizer, precision);
        Ok(Self {
            users: Side::new(users, width, kept, biases.then_some(dimensions), user_folder)?,
            items: Side::new(items, width, kept, biases.then_some(dimensions + 1), item_folder)?,
            width,
            optimizer,
            precision,
        })
    }

    /// All tables, optimizer state included, in a fixed order.
    pub(crate) fn tables_mut(&mut self) -> impl Iterator<Item = &mut SharedTable> {
        [&mut self.users, &mut self.items].into_iter().flat_map(Side::tables_mut)
    }

    /// Makes tables of zeros of the same shapes, in memory, in whichever thread it is called.
    pub(crate) fn maker_of_empty(&self) -> impl FnOnce() -> Result<Self, ModelError> + Send + use<> {
        let shape = |side: &Side| (side.factors.rows(), side.fixed);
        let (users, items, width) = (shape(&self.users), shape(&self.items), self.width);
        let (optimizer, precision) = (self.optimizer, self.precision);
        move || {
            let side = |(rows, fixed)| Side::new(rows, width, (optimizer, precision), fixed, None);
            Ok(Self { users: side(users)?, items: side(items)?, width, optimizer, precision })
        }
    }

    /// The rule that the state belongs to, and no other.
    pub(crate) fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// How the factors are kept.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes that `rows` rows of one side take, optimizer state included.
    pub(crate) fn bytes(rows: u64, width: usize, optimizer: Optimizer, precision: Precision) -> u64 {
        let (state, momentum) = optimizer.state();
        let momentum = if momentum { stride_of(width) } else { 0 };
        rows * 4 * (precision.stride(width) + momentum + state) as u64
    }
}
