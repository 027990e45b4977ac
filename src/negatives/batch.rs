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
    /// The weight of each negative; empty where all are 1.
    pub(crate) weights: Vec<f32>,
    /// The confidence in each positive; empty where all are 1.
    pub(crate) confidence: Vec<f32>,
    /// What is added to the scores of positives and negatives in the loss; empty where nothing is.
    pub(crate) positive_offsets: Vec<f32>,
    pub(crate) negative_offsets: Vec<f32>,
    /// Negatives that each component of a mixture drew.
    pub(crate) drawn: Vec<u64>,
    /// Negatives that are uniform because their component had nothing to propose.
    pub(crate) filled: u64,
    /// Negatives without weight, because no candidate passed.
    pub(crate) void: u64,
    /// Positives that were left out: their users have (nearly) everything, so that no negative is left.
    pub(crate) skipped: u64,
    /// The learning rate to train it at.
    pub(crate) learning_rate: f32,
    /// The seed of its dropout.
    pub(crate) seed: u64,
}

impl Batch {
    /// Empties the batch, keeping its memory.
    pub(crate) fn clear(&mut self) {
        let Self { users, ends, positives, negatives, weights, confidence, .. } = self;
        [users, ends, positives, negatives].into_iter().for_each(Vec::clear);
        [weights, confidence, &mut self.positive_offsets, &mut self.negative_offsets].into_iter().for_each(Vec::clear);
        self.drawn.clear();
        (self.filled, self.void, self.skipped) = (0, 0, 0);
    }

    /// The run that positive `index` is in.
    pub(crate) fn run_of(&self, index: usize) -> usize {
        self.ends.partition_point(|end| *end as usize <= index)
    }
}
