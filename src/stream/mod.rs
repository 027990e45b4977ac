//! Interactions in a near-uniform random order, read sequentially: windows of whole users, bucketed by item block.

mod portion;
mod window;

pub(crate) use portion::{Portion, divide};
pub(crate) use window::{Buckets, Partition, Sizes, Window, plan};
