//! The portable kernel as the product has it, on loom's memory.

#[path = "../../../../src/model/kernel/bf16.rs"]
pub(crate) mod bf16;
pub(crate) mod cell;
#[path = "../../../../src/model/kernel/lanes.rs"]
mod lanes;
#[path = "../../../../src/model/kernel/portable.rs"]
mod portable;

pub(crate) use lanes::Lanes;
pub(crate) use portable::Portable;
