//! Divergence: a run whose loss is no number any more, or whose rows explode, is stopped, and the worst row named.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{TrainConfig, TrainError};
use crate::dataset::Dataset;
use crate::model::{InstructionSet, Tables, square_norm_of};

/// A row of this norm has exploded; and one that is so many times longer than rows are at the start, if that is more.
const LIMIT: f32 = 1e4;
const TIMES: f32 = 100.0;
/// One positive in so many of a batch is looked at, with its user and a negative.
pub(super) const LOOKED_AT: usize = 256;
/// One row in so many is looked at where an epoch ends that is not the last.
const SCANNED: u32 = 16;

/// The norm that no row may reach.
fn limit(config: &TrainConfig) -> f32 {
    LIMIT.max(TIMES * config.init_deviation() * (config.dimensions as f32).sqrt())
}

/// Raised by a trainer that sees a run diverge; everyone then stops within a batch.
pub(super) struct Alarm {
    /// Whether it is, above the bits of the learning rate at the time.
    raised: AtomicU64,
    square_limit: f32,
}

impl Alarm {
    pub(super) fn new(config: &TrainConfig) -> Self {
        Self { raised: AtomicU64::new(0), square_limit: limit(config).powi(2) }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed) != 0
    }

    /// The learning rate at which it was raised, if it was.
    pub(super) fn learning_rate(&self) -> Option<f32> {
        let raised = self.raised.load(Ordering::Relaxed);
        (raised != 0).then(|| f32::from_bits(raised as u32))
    }

    /// Raises the alarm if the sum of losses is no number, or a row of `users` or `items` has exploded.
    pub(super) fn look(
        &self,
        (set, tables): (InstructionSet, &Tables),
        (loss, learning_rate): (f64, f32),
        mut users: impl Iterator<Item = u32>,
        mut items: impl Iterator<Item = u32>,
    ) {
        let exploded = |side, row| {
            let square = square_norm_of(set, tables, side, row);
            square.is_nan() || square > self.square_limit
        };
        let bad = !loss.is_finite()
            || items.any(|row| exploded(&tables.items, row))
            || users.any(|row| exploded(&tables.users, row));
        if bad {
            self.raised.store(1 << 32 | u64::from(learning_rate.to_bits()), Ordering::Relaxed);
        }
    }
}

/// Whether rows have exploded by the end of epoch `number`, from 0: some of those in memory, or all rows if `all`.
pub(super) fn has_exploded(config: &TrainConfig, tables: &mut Tables, number: u32, all: bool) -> bool {
    let (first, step) = if all { (0, 1) } else { (number % SCANNED, SCANNED) };
    [&mut tables.users, &mut tables.items].into_iter().any(|side| {
        let scanned = all || !side.factors_mut().is_in_file();
        scanned && side.longest(first as usize, step as usize).1 > f64::from(limit(config))
    })
}

/// The row that a run diverged in, or the longest where none has a bad number.
#[derive(Clone, Debug, PartialEq)]
pub struct DivergedRow {
    /// `user` or `item`.
    pub side: &'static str,
    /// Its id, as in the log.
    pub id: String,
    /// Its norm; infinite where one of its factors is no finite number.
    pub norm: f64,
}

impl fmt::Display for DivergedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the row of {} '{}' ", self.side, self.id)?;
        match self.norm.is_finite() {
            true => write!(f, "has a norm of {:.3e}", self.norm),
            false => f.write_str("holds what is no finite number"),
        }
    }
}

/// The error for a run that diverged in `epoch`, from 1. Goes through all rows.
pub(super) fn error(
    (dataset, config): (&Dataset, &TrainConfig),
    (epoch, learning_rate): (u32, f32),
    tables: &mut Tables,
) -> TrainError {
    let (user, of_user) = tables.users.longest(0, 1);
    let (item, of_item) = tables.items.longest(0, 1);
    let (side, ids, row, norm) = match of_user > of_item {
        true => ("user", dataset.users(), user, of_user),
        false => ("item", dataset.items(), item, of_item),
    };
    let id = ids.id(row as u32).unwrap_or_default().to_string();
    TrainError::Diverged {
        epoch,
        learning_rate,
        row: DivergedRow { side, id, norm },
        lower: config.learning_rate() / 10.0,
    }
}
