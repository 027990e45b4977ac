//! Recent popularity: train interactions, each counting less the older it is.

use std::ops::Range;

use super::{Baseline, EvaluateError, too_little};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::rank::{Scorer, program_bytes};

/// The half-life is this part of the time that train spans.
const HALF_LIFE: f64 = 0.1;

/// Scores an item by Σ 2^(−age / half-life) over its train interactions, ages taken from train's last one (DecayPop: Ji,
/// Sun, Zhang & Li 2020, "A Re-visit of the Popularity Baseline in Recommender Systems").
pub(super) struct RecentPopularity {
    scores: Vec<f32>,
    users: usize,
    learnt_from: String,
}

impl RecentPopularity {
    /// One pass over train; 12 bytes an item, and later 4.
    pub(super) fn new(dataset: &Dataset, ctx: &Context) -> Result<Self, EvaluateError> {
        let train = dataset.train();
        let Some((first, last)) = train.summary().time_range else {
            let reason = "the interactions have no times; ingest the log again with --time-column".to_string();
            return Err(EvaluateError::Baseline { name: Baseline::Recent.name(), reason });
        };
        let items = dataset.items().len() as usize;
        let needed = program_bytes(ctx.threads()) + 12 * items;
        if needed as u64 > ctx.memory().0 {
            return Err(too_little(Baseline::Recent, needed, ctx));
        }
        let half_life = ((last - first) as f64 * HALF_LIFE).max(1.0);
        let stage = ctx.stage("recent popularity", Some(train.len()), Unit::Rows);
        let mut sums = vec![0f64; items];
        for c in 0..train.chunks() {
            ctx.check()?;
            let chunk = train.chunk(c);
            for u in 0..chunk.users() {
                let user = chunk.user(u);
                for (item, time) in user.items.iter().zip(user.times) {
                    let age = (last - time.to_native()) as f64;
                    sums[item.to_native() as usize] += (-age / half_life).exp2();
                }
            }
            train.release(c);
            stage.add(chunk.items().len() as u64);
        }
        let scores = sums.into_iter().map(|sum| sum as f32).collect();
        Ok(Self { scores, users: dataset.users().len() as usize, learnt_from: dataset.fingerprint().to_string() })
    }
}

impl Scorer for RecentPopularity {
    fn users(&self) -> usize {
        self.users
    }

    fn items(&self) -> usize {
        self.scores.len()
    }

    fn learnt_from(&self) -> Option<&str> {
        Some(&self.learnt_from)
    }

    fn held_bytes(&self) -> usize {
        size_of_val(&*self.scores)
    }

    fn score(&self, _: &[u32], items: Range<u32>, out: &mut [f32]) {
        let scores = &self.scores[items.start as usize..items.end as usize];
        out.chunks_exact_mut(scores.len().max(1)).for_each(|row| row.copy_from_slice(scores));
    }

    fn score_items(&self, _: u32, items: &[u32], out: &mut [f32]) {
        out.iter_mut().zip(items).for_each(|(score, item)| *score = self.scores[*item as usize]);
    }
}
