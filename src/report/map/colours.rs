//! By what the map can be coloured beside popularity: attributes of the items.

use std::cmp::Reverse;

use super::NAME;
use crate::attributes::{Attribute, Attributes, UNNAMED, Values};
use crate::report::html::shown;
use crate::report::plot::{CLASSES, Choice, HUES, OTHER, UNKNOWN};

/// A choice for each attribute, of `items` as the map has them.
pub(super) fn choices(attributes: &Attributes, items: &[u32]) -> Vec<Choice> {
    attributes.columns().iter().map(|attribute| choice(attribute, items)).collect()
}

fn choice(attribute: &Attribute, items: &[u32]) -> Choice {
    let mut of = Vec::with_capacity(items.len());
    let mut classes: Vec<(String, String)>;
    match &attribute.values {
        Values::Names { names, of: codes } => {
            let mut counts = vec![0u32; names.len()];
            let value = |item: &u32| match codes[*item as usize] {
                0 => Err(UNKNOWN),
                UNNAMED => Err(OTHER),
                code => Ok(usize::from(code) - 1),
            };
            items.iter().filter_map(|item| value(item).ok()).for_each(|value| counts[value] += 1);
            let mut order: Vec<usize> = (0..names.len()).filter(|value| counts[*value] > 0).collect();
            order.sort_by_key(|value| (Reverse(counts[*value]), *value));
            order.truncate(HUES);
            classes =
                order.iter().enumerate().map(|(hue, value)| (format!("k{hue}"), shown(&names[*value], NAME))).collect();
            let place = |value: usize| order.iter().position(|shown| *shown == value).ok_or(OTHER);
            of.extend(items.iter().map(|item| value(item).and_then(place)));
        }
        Values::Numbers(numbers) => {
            let number = |item: &u32| numbers[*item as usize];
            let mut sorted: Vec<f32> = items.iter().map(number).filter(|number| !number.is_nan()).collect();
            sorted.sort_by(f32::total_cmp);
            // As many items in each class as equal numbers allow.
            let mut most: Vec<f32> = (1..=CLASSES)
                .filter_map(|class| sorted.get((sorted.len() * class / CLASSES).max(1) - 1).copied())
                .collect();
            most.dedup();
            let from = |at: usize| match at.checked_sub(1) {
                Some(before) => sorted[sorted.partition_point(|number| *number <= most[before])],
                None => sorted[0],
            };
            classes = (0..most.len())
                .map(|at| {
                    let (from, to) = (from(at), most[at]);
                    let name = if from == to { format!("{to}") } else { format!("{from} to {to}") };
                    // From the first shade to the last, however many there are.
                    (format!("s{}", at * (CLASSES - 1) / (most.len() - 1).max(1)), name)
                })
                .collect();
            of.extend(items.iter().map(number).map(|number| match number.is_nan() {
                true => Err(UNKNOWN),
                false => Ok(most.partition_point(|most| *most < number)),
            }));
        }
    }
    // What is left over comes last, if there is any.
    let left = [OTHER, UNKNOWN].into_iter().filter(|class| of.contains(&Err(*class))).collect::<Vec<_>>();
    let shared = classes.len();
    classes.extend(left.iter().map(|(class, name)| (class.to_string(), name.to_string())));
    let place = |class: (&str, &str)| shared + left.iter().position(|of| *of == class).unwrap_or_default();
    let of = of.into_iter().map(|class| class.unwrap_or_else(place)).collect();
    Choice { name: shown(&attribute.name, NAME), classes, of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_a_class_and_what_is_rare_or_missing_comes_last() {
        let names = (0..9).map(|n| format!("v{n}")).collect();
        let codes = vec![1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 0, UNNAMED];
        let items: Vec<u32> = (0..codes.len() as u32).collect();
        let attribute = Attribute { name: "kind".into(), values: Values::Names { names, of: codes } };
        let found = choice(&attribute, &items);
        assert_eq!(found.classes.len(), HUES + 2);
        assert_eq!(found.classes[0], ("k0".to_string(), "v0".to_string()));
        assert_eq!(found.of, [0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 6]);
        let of = vec![0.5, f32::NAN, 1.0, 1.0, 2.0, 3.0, 4.0, 9.0];
        let attribute = Attribute { name: "year".into(), values: Values::Numbers(of) };
        let found = choice(&attribute, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let names: Vec<&str> = found.classes.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["0.5", "1", "2", "3", "4 to 9", "(none)"]);
        assert_eq!(found.of, [0, 5, 1, 1, 2, 3, 4, 4]);
    }
}
