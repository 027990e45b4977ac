//! The scores of the moment, for samplers and for the health of the negatives.

use crate::model::{InstructionSet, Similarity, Tables, cosines_of, row_of, scores_of};
use crate::negatives::Scores;

/// The tables as they are being trained.
#[derive(Clone, Copy)]
pub(super) struct Live<'a> {
    pub(super) tables: &'a Tables,
    pub(super) set: InstructionSet,
    pub(super) similarity: Similarity,
}

impl Scores for Live<'_> {
    fn of_user(&self, user: u32, items: &[u32], out: &mut [f32]) {
        scores_of(self.set, self.tables, self.similarity, user, items, out);
    }

    fn of_item(&self, item: u32, items: &[u32], out: &mut [f32]) {
        cosines_of(self.set, self.tables, item, items, out);
    }

    fn width(&self) -> usize {
        self.tables.width
    }

    fn user_row(&self, user: u32, out: &mut [f32]) {
        row_of(&self.tables.users, user, out);
    }

    fn item_row(&self, item: u32, out: &mut [f32]) {
        row_of(&self.tables.items, item, out);
        if self.similarity == Similarity::Cosine {
            // The length of the user's row changes no order.
            let norm = out.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            out.iter_mut().for_each(|x| *x /= norm);
        }
    }
}
