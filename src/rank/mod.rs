//! Ranking the whole catalogue for many users: waves and blocks of users × regions and tiles of items, top K kept,
//! seen items masked.
//! Evaluation and recommendation both rank through here, whatever makes the scores.

mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod scorer;
mod seen;
mod tiling;
mod top;
mod waves;

pub use error::RankError;
pub use scorer::{Popularity, RandomScores, Scorer};
pub(crate) use seen::Seen;
pub(crate) use tiling::{Needs, Tiling, program_bytes};
pub(crate) use top::{Candidate, Tops};
pub(crate) use waves::{Outcomes, Ranking, not_a_number, workers};

use crate::mix::{GOLDEN, mix};

/// A seed of `user`'s own, for whatever is drawn or broken for this user alone.
pub(crate) fn user_seed(seed: u64, user: u32) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN)) ^ (u64::from(user) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93))
}
