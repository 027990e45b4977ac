//! What producers send and trainers learn from.

/// Runs of positives of one user each, and the negatives of every positive.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The user of each run.
    pub(crate) users: Vec<u32>,
    /// Where each run ends among the positives.
    pub(crate) ends: Vec<u32>,
    pub(crate) positives: Vec<u32>,
    /// As many for each positive as are configured, in turn.
    pub(crate) negatives: Vec<u32>,
    /// Positives that were left out: their users have (nearly) everything, so that no negative is left.
    pub(crate) skipped: u64,
    /// The learning rate to train it at.
    pub(crate) learning_rate: f32,
}

impl Batch {
    /// Empties the batch, keeping its memory.
    pub(crate) fn clear(&mut self) {
        self.users.clear();
        self.ends.clear();
        self.positives.clear();
        self.negatives.clear();
        self.skipped = 0;
    }
}
