//! The kernels as the product has them, without the rest of the house.
#![allow(dead_code, unused_imports)] // the rest of the house uses them

#[path = "../../../src/model/kernel/mod.rs"]
mod kernel;
