//! The tables between epochs, as a scorer: the scores are those of the model that they would be published as.

use std::ops::Range;

use crate::model::{Rows, SideRows, Similarity, Tables, dot_products, stride_of};
use crate::rank::Scorer;

/// Users and items whose rows are made ready at a time, where they cannot be read in place.
const USERS: usize = 48;
const ITEMS: usize = 32;

/// Factors that nobody trains meanwhile.
pub(super) struct TableScorer<'a> {
    users: SideRows<'a>,
    items: SideRows<'a>,
    width: usize,
    unit: bool,
}

impl<'a> TableScorer<'a> {
    pub(super) fn new(tables: &'a mut Tables, similarity: Similarity) -> Self {
        let width = tables.width;
        let unit = similarity == Similarity::Cosine;
        Self { users: tables.users.rows(), items: tables.items.rows(), width, unit }
    }

    /// Both tables, if their rows are those that are published.
    fn in_place(&self) -> Option<(Rows<'_>, Rows<'_>)> {
        if self.unit {
            return None;
        }
        let stride = stride_of(self.width);
        Some((Rows::new(self.users.floats()?, stride), Rows::new(self.items.floats()?, stride)))
    }

    /// Rows `ids` of a side as they are published, one behind the other.
    fn ready(&self, side: &SideRows<'_>, ids: impl Iterator<Item = u32>, out: &mut Vec<f32>) {
        let stride = stride_of(self.width);
        out.clear();
        for id in ids {
            let start = out.len();
            out.resize(start + stride, 0.0);
            published_row(side, id as usize, self.unit, &mut out[start..start + self.width]);
        }
    }

    /// Scores of `users` × `items`, from rows that are made ready piece by piece.
    fn score_pieces(&self, users: &[u32], items: impl ExactSizeIterator<Item = u32> + Clone, out: &mut [f32]) {
        let (stride, all) = (stride_of(self.width), items.len());
        let (mut user_rows, mut item_rows, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        let numbers: [u32; USERS] = std::array::from_fn(|i| i as u32);
        for (piece, users) in users.chunks(USERS).enumerate() {
            self.ready(&self.users, users.iter().copied(), &mut user_rows);
            let out = &mut out[piece * USERS * all..][..users.len() * all];
            for first in (0..all).step_by(ITEMS) {
                let count = ITEMS.min(all - first);
                self.ready(&self.items, items.clone().skip(first).take(count), &mut item_rows);
                scores.resize(users.len() * count, 0.0);
                let (u, i) = (Rows::new(&user_rows, stride), Rows::new(&item_rows, stride));
                dot_products(u, &numbers[..users.len()], i, 0..count as u32, &mut scores);
                for (row, scores) in out.chunks_exact_mut(all).zip(scores.chunks_exact(count)) {
                    row[first..first + count].copy_from_slice(scores);
                }
            }
        }
    }
}

/// Bytes of a row that is mapped from a file; 0 in memory.
fn mapped(side: &SideRows<'_>) -> usize {
    if side.table().is_in_file() { side.table().stride() * size_of::<f32>() } else { 0 }
}

fn range(rows: &Range<u32>) -> Range<usize> {
    rows.start as usize..rows.end as usize
}

impl Scorer for TableScorer<'_> {
    fn users(&self) -> usize {
        self.users.table().rows()
    }

    fn items(&self) -> usize {
        self.items.table().rows()
    }

    fn item_bytes(&self) -> usize {
        mapped(&self.items)
    }

    fn user_bytes(&self) -> usize {
        mapped(&self.users)
    }

    fn will_score(&self, items: Range<u32>) {
        self.items.table().will_need(range(&items));
    }

    fn will_rank(&self, users: Range<u32>) {
        self.users.table().will_need(range(&users));
    }

    fn release_items(&self, items: Range<u32>) {
        self.items.table().let_go(range(&items));
    }

    fn release_users(&self, users: Range<u32>) {
        self.users.table().let_go(range(&users));
    }

    fn score(&self, users: &[u32], items: Range<u32>, out: &mut [f32]) {
        match self.in_place() {
            Some((u, i)) => dot_products(u, users, i, items, out),
            None => self.score_pieces(users, range(&items).map(|item| item as u32), out),
        }
    }

    fn score_items(&self, user: u32, items: &[u32], out: &mut [f32]) {
        match self.in_place() {
            Some((u, i)) => dot_products(u, &[user], i, items.iter().copied(), out),
            None => self.score_pieces(&[user], items.iter().copied(), out),
        }
    }
}

/// Row `index` as a model has it: of unit length for cosines.
pub(in crate::train) fn published_row(rows: &SideRows<'_>, index: usize, unit: bool, out: &mut [f32]) {
    rows.read(index, out);
    if unit {
        let norm = out.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
        out.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Optimizer, Precision};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn scores_are_those_of_the_rows_that_are_published(
            dimensions in 1usize..40, biases: bool, half: bool, cosine: bool, users in 1usize..120, items in 1usize..90,
        ) {
            let precision = if half { Precision::Bf16 } else { Precision::F32 };
            let kept = (Optimizer::Sgd, precision);
            let mut tables = Tables::new(users, items, dimensions, biases, kept, [None, None]).unwrap();
            tables.users.fill(|i, row| row.iter_mut().enumerate().for_each(|(d, x)| *x = ((i * 7 + d) as f32).sin()));
            tables.items.fill(|i, row| row.iter_mut().enumerate().for_each(|(d, x)| *x = ((i * 5 + d) as f32).cos()));
            let (width, stride) = (tables.width, stride_of(tables.width));
            let published = |side: SideRows<'_>, rows: usize| {
                let mut all = vec![0f32; rows * stride];
                all.chunks_exact_mut(stride).enumerate().for_each(|(i, out)| {
                    published_row(&side, i, cosine, &mut out[..width]);
                });
                all
            };
            let (u, i) = (published(tables.users.rows(), users), published(tables.items.rows(), items));
            let similarity = if cosine { Similarity::Cosine } else { Similarity::Dot };
            let scorer = TableScorer::new(&mut tables, similarity);
            let ids: Vec<u32> = (0..users as u32).rev().collect();
            let mut want = vec![0f32; users * items];
            dot_products(Rows::new(&u, stride), &ids, Rows::new(&i, stride), 0..items as u32, &mut want);
            let mut got = vec![0f32; users * items];
            scorer.score(&ids, 0..items as u32, &mut got);
            prop_assert!(got == want);
            let wanted: Vec<u32> = (0..items as u32).step_by(3).collect();
            let mut some = vec![0f32; wanted.len()];
            scorer.score_items(ids[0], &wanted, &mut some);
            for (item, score) in wanted.iter().zip(some) {
                prop_assert_eq!(score, want[*item as usize]);
            }
        }
    }
}
