//! Interactions in a near-uniform random order, read sequentially: windows of whole users, bucketed by item block.

mod window;

pub(crate) use window::{Window, plan};
