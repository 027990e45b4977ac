//! A place in the stream: what of an epoch has been trained on, and what came of it so far.

use serde::{Deserialize, Serialize};

use super::lane::Done;
use super::plan::{TablePlace, TrainPlan};

/// A window that was left in its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenWindow {
    /// Its number in the epoch.
    pub(super) number: usize,
    /// Interactions of it that were trained on, in the order in which it gives them.
    pub(super) trained: u64,
}

/// What of an epoch's windows has been trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Windows before this one were begun: those that are not open are over.
    pub(super) next: usize,
    /// Windows that lanes have left in their middle.
    pub(super) open: Vec<OpenWindow>,
    /// Of deterministic training: the steps that each stratum has finished. Empty at the start.
    pub(super) steps: Vec<usize>,
}

impl Position {
    /// Whether nothing has been trained yet.
    pub(super) fn is_start(&self) -> bool {
        *self == Self::default()
    }
}

/// How the windows of an epoch were cut and are filled, which whoever goes on with it has to do alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Interactions of a window, about.
    pub(super) window: u64,
    /// Lanes that they were cut for.
    pub(super) lanes: usize,
    /// Whether the chunks of a window are in ascending order.
    pub(super) sorted: bool,
}

impl Cut {
    /// As `plan` has it. The users of a chunk are consecutive rows: in ascending order their pages are, too. Where tables
    /// are must not matter to `deterministic` training.
    pub(super) fn new(plan: &TrainPlan, deterministic: bool) -> Self {
        let sorted = deterministic || plan.tables != TablePlace::Memory;
        Self { window: plan.window, lanes: plan.threads, sorted }
    }
}

/// A place in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// How its windows are cut; from the first window on.
    pub(super) cut: Option<Cut>,
    pub(super) position: Position,
    /// What has been done, by stratum where training is deterministic.
    pub(super) parts: Vec<Done>,
    /// Whether all windows have been trained on.
    pub(super) over: bool,
    /// Wall time so far.
    pub(super) seconds: f64,
}

impl Place {
    /// All that was done, summed in the order of the parts: sums of floats depend on it.
    pub(super) fn done(&self) -> Done {
        let mut all = Done::default();
        self.parts.iter().for_each(|part| all.add(part));
        all
    }
}
