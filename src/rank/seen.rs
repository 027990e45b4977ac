//! What a user has interacted with already.

use rkyv::rend::u32_le;

use crate::dataset::Interactions;

/// What a user has interacted with already: the lists to mask, each ascending.
pub(crate) struct Seen<'a> {
    parts: Vec<&'a Interactions>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(parts: Vec<&'a Interactions>) -> Self {
        Self { parts }
    }

    /// The lists of `user`.
    pub(crate) fn lists(&self, user: u32) -> impl Iterator<Item = &'a [u32_le]> {
        self.parts.iter().map(move |part| part.user(user).items)
    }

    /// How many lists a user has.
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// How many items are masked for `user`. No pair is in two parts.
    pub(crate) fn len(&self, user: u32) -> usize {
        self.lists(user).map(<[u32_le]>::len).sum()
    }
}
