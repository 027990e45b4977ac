//! Ranking the whole catalogue for many users: waves and blocks of users × regions and tiles of items, top K kept,
//! seen items masked.
//! Evaluation and recommendation both rank through here, whatever makes the scores.

mod aligned;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod paging;
mod scorer;
mod seen;
mod tiling;
mod top;
mod waves;

pub(crate) use aligned::{Aligned, Known};
pub use error::RankError;
pub(crate) use paging::Paging;
pub use scorer::{Popularity, RandomScores, Scorer};
pub(crate) use seen::Seen;
pub(crate) use tiling::{Needs, STACK, Tiling, program_bytes};
pub(crate) use top::{Candidate, Tops};
pub(crate) use waves::{Outcomes, Ranking, not_a_number, workers};

use crate::context::{Context, Interrupted};
use crate::mix::{GOLDEN, mix};

/// A seed of `user`'s own, for whatever is drawn or broken for this user alone.
pub(crate) fn user_seed(seed: u64, user: u32) -> u64 {
    mix(mix(seed.wrapping_add(GOLDEN)) ^ (u64::from(user) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// A uniform sample of `wanted` of `users`, in their order, which is to be ascending: those with the smallest hashes of
/// (seed, user), so that it does not depend on threads. `room` users, more than `wanted` unless there are no more, are
/// held at a time.
pub(crate) fn sample(
    users: impl Iterator<Item = u32>,
    wanted: usize,
    room: usize,
    seed: u64,
    ctx: &Context,
) -> Result<Vec<u32>, Interrupted> {
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let mut chosen: Vec<u32> = Vec::with_capacity(room);
    let keep = |chosen: &mut Vec<u32>| {
        if chosen.len() > wanted {
            chosen.select_nth_unstable_by_key(wanted - 1, |user| user_seed(!seed, *user));
            chosen.truncate(wanted);
        }
    };
    for user in users {
        if chosen.len() == room {
            ctx.check()?;
            keep(&mut chosen);
        }
        chosen.push(user);
    }
    keep(&mut chosen);
    chosen.sort_unstable();
    Ok(chosen)
}
