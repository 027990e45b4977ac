//! The selection of what is trained on.

use proptest::prelude::*;

use super::Selection;
use crate::negatives::Batch;

proptest! {
    #[test]
    fn batches_keep_what_is_selected_with_all_that_goes_with_it(
        runs in proptest::collection::vec((0u32..30, proptest::collection::btree_set(0u32..40, 1..6)), 0..12),
        new in proptest::collection::btree_set((0u32..30, 0u32..40), 0..60),
        each in 1usize..4, replay in 0.0f64..0.9, seed: u64, weighted: bool, offset: bool,
    ) {
        let selection = Selection::of_pairs((new.iter().copied(), new.len() as u64), 30, 1200, replay);
        let mut batch = Batch::default();
        let mut wanted = Vec::new();
        for (user, items) in &runs {
            for item in items {
                let at = batch.positives.len();
                batch.positives.push(*item);
                let numbers: Vec<u32> = (0..each).map(|n| (at * each + n) as u32).collect();
                batch.negatives.extend(&numbers);
                if weighted {
                    batch.weights.extend(numbers.iter().map(|n| *n as f32));
                }
                if offset {
                    batch.negative_offsets.extend(numbers.iter().map(|n| *n as f32));
                    batch.positive_offsets.push(at as f32);
                }
                prop_assert!(!new.contains(&(*user, *item)) || selection.keeps(seed, *user, *item), "all that is new");
                if selection.keeps(seed, *user, *item) {
                    wanted.push((*user, *item, numbers, at));
                }
            }
            batch.users.push(*user);
            batch.ends.push(batch.positives.len() as u32);
        }
        selection.retain(seed, &mut batch, each);
        prop_assert_eq!(batch.positives.len(), wanted.len());
        prop_assert_eq!(batch.ends.last().copied().unwrap_or(0) as usize, wanted.len());
        prop_assert!(batch.ends.is_sorted() && batch.ends.windows(2).all(|w| w[0] < w[1]), "no run is empty");
        for (at, (user, item, numbers, was)) in wanted.iter().enumerate() {
            prop_assert_eq!((batch.users[batch.run_of(at)], batch.positives[at]), (*user, *item));
            prop_assert_eq!(&batch.negatives[at * each..(at + 1) * each], &numbers[..]);
            let floats: Vec<f32> = numbers.iter().map(|n| *n as f32).collect();
            if weighted {
                prop_assert_eq!(&batch.weights[at * each..(at + 1) * each], &floats[..]);
            }
            if offset {
                prop_assert_eq!(&batch.negative_offsets[at * each..(at + 1) * each], &floats[..]);
                prop_assert_eq!(batch.positive_offsets[at], *was as f32);
            }
        }
    }
}

#[test]
fn the_share_of_old_interactions_is_what_was_asked_for_and_changes_with_the_seed() {
    let (users, each) = (500u32, 200u32);
    // One in twenty is new.
    let new: Vec<(u32, u32)> = (0..users).flat_map(|u| (0..each / 20).map(move |i| (u, i * 20))).collect();
    for replay in [0.0, 0.2, 0.5, 0.99] {
        let all = u64::from(users) * u64::from(each);
        let selection = Selection::of_pairs((new.iter().copied(), new.len() as u64), users, all, replay);
        let kept = |seed| {
            let of = |u| (0..each).filter(move |i| i % 20 != 0).map(move |i| (u, i));
            (0..users).flat_map(of).filter(|(u, i)| selection.keeps(seed, *u, *i)).collect::<Vec<_>>()
        };
        let old = kept(1);
        let share = old.len() as f64 / (old.len() + new.len()) as f64;
        // Where there are not as many, all of them.
        let wanted = if replay == 0.99 { 0.95 } else { replay };
        assert!((share - wanted).abs() < 0.02, "{replay}: {share}");
        let expected = selection.expected(all) as f64;
        assert!((expected / (old.len() + new.len()) as f64 - 1.0).abs() < 0.05, "{expected}");
        assert!(replay == 0.0 || replay == 0.99 || old != kept(2), "another epoch, others");
    }
}
