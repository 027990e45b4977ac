//! What must not be a negative: one bit an item of the block.

/// A set of positions, emptied by the same list that filled it.
#[derive(Clone, Debug)]
pub(crate) struct Excluded {
    bits: Vec<u64>,
}

impl Excluded {
    /// Room for positions below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self { bits: vec![0; len.div_ceil(64)] }
    }

    #[inline(always)]
    pub(crate) fn insert(&mut self, position: u32) {
        self.bits[position as usize / 64] |= 1 << (position % 64);
    }

    #[inline(always)]
    pub(crate) fn remove(&mut self, position: u32) {
        self.bits[position as usize / 64] &= !(1 << (position % 64));
    }

    #[inline(always)]
    pub(crate) fn contains(&self, position: u32) -> bool {
        self.bits[position as usize / 64] >> (position % 64) & 1 == 1
    }
}
