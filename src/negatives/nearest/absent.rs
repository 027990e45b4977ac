//! What stands in for the index where the program is built without the library: configurations are refused before.

use super::super::Scores;

/// There is none.
pub(super) enum Index {}

impl Index {
    pub(super) fn new(
        _: u32,
        _: usize,
        _: &(impl Scores + Sync),
        _: (usize, usize),
        _: &(impl Fn() -> bool + Sync),
    ) -> Result<Option<Self>, String> {
        Err("this program was built without the feature \"nearest\"".into())
    }

    pub(super) fn search(&self, _: u32, _: usize, _: &impl Scores, _: &mut Vec<f32>, _: &mut Vec<u32>) {
        match *self {}
    }

    pub(super) fn bytes(_: u64, _: u64, _: u64) -> u64 {
        0
    }
}
