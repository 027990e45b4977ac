//! Slices of held-out interactions by an attribute of their item.

use std::cmp::Reverse;
use std::sync::Arc;

use super::EvaluateError;
use super::cases::Cases;
use crate::attributes::{Attributes, UNNAMED, Values};
use crate::context::Context;

/// How the values of an attribute are shared out among slices.
pub(super) struct ByAttribute {
    attributes: Arc<Attributes>,
    column: usize,
    places: Places,
    /// The slice of items without a value: the last.
    none: usize,
}

enum Places {
    /// The slice of each value that is held, and that of all others.
    Values { of: Vec<u16>, other: usize },
    /// The greatest number of each slice but the last of them.
    Bounds(Vec<f32>),
}

impl ByAttribute {
    /// Slices of the column: its `most` values that most held-out interactions have, and the others together; of numbers,
    /// quarters of the interactions; and at last what has no value. Their names, too.
    pub(super) fn new(
        attributes: &Arc<Attributes>,
        column: usize,
        cases: &Cases<'_>,
        most: usize,
        ctx: &Context,
    ) -> Result<(Self, Vec<String>), EvaluateError> {
        let (places, mut names) = match &attributes.columns()[column].values {
            Values::Names { names, of } => {
                let mut counts = vec![0u64; names.len()];
                cases.each_item(ctx, |item| {
                    let code = of[item as usize];
                    if code != 0 && code != UNNAMED {
                        counts[usize::from(code) - 1] += 1;
                    }
                })?;
                let mut order: Vec<usize> = (0..names.len()).filter(|value| counts[*value] > 0).collect();
                order.sort_by_key(|value| (Reverse(counts[*value]), *value));
                order.truncate(most);
                let other = order.len();
                let mut places = vec![other as u16; names.len()];
                order.iter().enumerate().for_each(|(at, value)| places[*value] = at as u16);
                let mut shown: Vec<String> = order.iter().map(|value| names[*value].clone()).collect();
                shown.push("(other)".into());
                (Places::Values { of: places, other }, shown)
            }
            Values::Numbers(of) => {
                let mut counts = vec![0u32; of.len()];
                cases.each_item(ctx, |item| counts[item as usize] += 1)?;
                let mut order: Vec<u32> = (0..of.len() as u32).collect();
                order.retain(|item| counts[*item as usize] > 0 && !of[*item as usize].is_nan());
                order.sort_by(|a, b| of[*a as usize].total_cmp(&of[*b as usize]));
                let values = order.iter().map(|item| (of[*item as usize], u64::from(counts[*item as usize])));
                let (bounds, shown) = quarters(&values.collect::<Vec<_>>());
                (Places::Bounds(bounds), shown)
            }
        };
        let none = names.len();
        names.push("(none)".into());
        Ok((Self { attributes: attributes.clone(), column, places, none }, names))
    }

    /// The slice of an item.
    pub(super) fn place(&self, item: u32) -> usize {
        match (&self.attributes.columns()[self.column].values, &self.places) {
            (Values::Names { of, .. }, Places::Values { of: places, other }) => match of[item as usize] {
                0 => self.none,
                UNNAMED => *other,
                code => usize::from(places[usize::from(code) - 1]),
            },
            (Values::Numbers(of), Places::Bounds(bounds)) => match of[item as usize] {
                number if number.is_nan() => self.none,
                number => bounds.partition_point(|bound| *bound < number),
            },
            _ => self.none,
        }
    }

    /// Bytes held beside the attributes.
    pub(super) fn bytes(&self) -> usize {
        match &self.places {
            Places::Values { of, .. } => of.len() * 2,
            Places::Bounds(bounds) => bounds.len() * 4,
        }
    }
}

/// Quarters, as nearly as equal values allow, of (value, weight), which ascend: the greatest value of each but the last,
/// and the names of all.
fn quarters(values: &[(f32, u64)]) -> (Vec<f32>, Vec<String>) {
    let total: u64 = values.iter().map(|(_, weight)| weight).sum();
    let Some((last, _)) = values.last().copied() else { return (Vec::new(), Vec::new()) };
    let quarter = |n: u64| (n * 4).checked_div(total).unwrap_or(0);
    let (mut bounds, mut below) = (Vec::new(), 0);
    for same in values.chunk_by(|a, b| a.0 == b.0) {
        let here: u64 = same.iter().map(|(_, weight)| weight).sum();
        if quarter(below + here) > quarter(below) && same[0].0 < last {
            bounds.push(same[0].0);
        }
        below += here;
    }
    let mut from = values[0].0;
    let name = |to: &f32| {
        let name = if from == *to { format!("{to}") } else { format!("{from}..{to}") };
        from = values[values.partition_point(|(value, _)| value <= to).min(values.len() - 1)].0;
        name
    };
    let names = bounds.iter().chain([&last]).map(name).collect();
    (bounds, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared_out_in_quarters_of_their_weight() {
        let of = |values: &[(f32, u64)]| quarters(values).1.join(" ");
        assert_eq!(of(&[(-1.5, 1), (0.0, 1), (2.0, 1), (9.0, 1)]), "-1.5 0 2 9");
        assert_eq!(of(&[(1.0, 1), (2.0, 1), (2.0, 8), (3.0, 1), (4.0, 1)]), "1..2 3..4");
        assert_eq!(quarters(&[(1.0, 5), (7.0, 1)]), (vec![1.0], vec!["1".into(), "7".into()]));
        assert_eq!(quarters(&[]), (Vec::new(), Vec::new()));
    }
}
