//! Negatives: propose candidates, filter out what must not be one, select, weigh, and put them beside their positives.

mod alias;
mod audit;
mod batch;
mod config;
mod context;
mod describe;
mod filter;
mod health;
mod mixture;
mod nearest;
mod neighbours;
mod propose;
mod recent;
mod sampler;
mod sampling;
mod schedule;
mod select;
mod shared;
mod source;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use alias::Alias;
pub(crate) use audit::{Auditor, Candidate, Decision, Filtered, audit_block};
pub(crate) use batch::Batch;
pub use config::{MixConfig, NegativesConfig, Proposal, Propose, Select, Weigh};
use context::{SameContext, Within, stretch_length};
use filter::Excluded;
pub use health::{ComponentShare, NegativesReport};
pub(crate) use health::{Health, Watch};
use mixture::Mixture;
pub(crate) use nearest::Renewal;
pub(crate) use propose::{Distribution, Popularity, Uniform};
use sampler::Sampler;
pub(crate) use sampling::{Run, Sampling, Scores, Wanted};
pub use schedule::{Curve, Scheduled, Shape};
pub(crate) use shared::{SharedBlock, SharedSampler};
use validate::MAX_CANDIDATES;
pub(crate) use validate::Mistake;

use rand::Rng;

/// A number below `n`; 0 for none. Multiply-shift (Lemire 2019), whose bias is below n / 2⁶⁴.
#[inline(always)]
fn below(n: usize, rng: &mut impl Rng) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}
