//! The flags that say what is kept of a training on its way.

use peccary::{CheckpointEvery, TrainConfig};

/// The flags that say what is kept of a training on its way.
#[derive(clap::Args)]
pub struct Keeping {
    /// When to take a checkpoint, to go on from after an interruption: 10m (also ms, s, h, d), 50M-triples, epoch or off
    /// [default: 10m]
    #[arg(long, value_name = "INTERVAL", conflicts_with = "audit")]
    checkpoint_every: Option<CheckpointEvery>,
    /// How often a run that diverges may go back to its last checkpoint, or its start [default: 3]
    #[arg(long, value_name = "N", conflicts_with = "audit")]
    rollbacks: Option<u32>,
    /// What the learning rate is multiplied by then [default: 0.5]
    #[arg(long, value_name = "F")]
    rollback_factor: Option<f64>,
    /// Stop at the first divergence
    #[arg(long, conflicts_with_all = ["rollbacks", "rollback_factor"])]
    no_rollback: bool,
}

impl Keeping {
    /// Adds to `config` what flags say.
    pub fn add_to(&self, config: &mut TrainConfig) {
        if let Some(every) = self.checkpoint_every {
            config.checkpoint.every = every;
        }
        let rollbacks = if self.no_rollback { Some(0) } else { self.rollbacks };
        if let Some(rollbacks) = rollbacks {
            config.divergence.rollbacks = rollbacks;
        }
        if let Some(factor) = self.rollback_factor {
            config.divergence.factor = factor;
        }
    }
}
