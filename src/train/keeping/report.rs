//! What a run says of its checkpoints and of its divergences.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::context::ByteSize;

/// What checkpoints were taken, and what that cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Written and durable.
    pub written: u64,
    /// That could not be written, as on a full disk.
    pub failed: u64,
    /// How often the run was gone on with from one.
    pub resumed: u32,
    /// Wall time for which training stood still for them, in all.
    pub pause_seconds: f64,
    /// The longest of these pauses.
    pub longest_pause_seconds: f64,
    /// Their share of the time of training.
    pub pause_share: f64,
    /// Wall time that the last one took to write, beside training where there is memory for a copy.
    pub write_seconds: f64,
    /// What it takes on the disk.
    pub bytes: ByteSize,
}

impl fmt::Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, failed, pause_seconds, longest_pause_seconds, pause_share, .. } = self;
        write!(
            f,
            "{written} checkpoints of {}: training paused for {pause_seconds:.3} s in all, {:.2} % of its time, and for \
             {longest_pause_seconds:.3} s at most",
            self.bytes,
            100.0 * pause_share
        )?;
        if *failed > 0 {
            write!(f, "; {failed} more could not be written")?;
        }
        Ok(())
    }
}

/// One divergence that a run has survived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// The epoch in which it diverged, from 1.
    pub epoch: u32,
    /// The learning rate at the time.
    pub learning_rate: f32,
    /// The worst row, or what else was wrong.
    pub reason: String,
    /// Epochs that were over where it went on from: 0 is the start, or a checkpoint in the first epoch.
    pub back_to: u32,
    /// The checkpoint that it went on from; the initial factors if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// What all learning rates are multiplied by from there on.
    pub factor: f64,
}
