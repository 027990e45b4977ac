//! Negatives: propose candidates, filter out what must not be one, select, and put them beside their positives.

mod alias;
mod batch;
mod filter;
mod propose;
mod sampler;
mod shared;

pub(crate) use alias::Alias;
pub(crate) use batch::Batch;
pub(crate) use propose::{Popularity, Propose, Uniform};
pub(crate) use sampler::Sampler;
pub(crate) use shared::{SharedBlock, SharedSampler};
