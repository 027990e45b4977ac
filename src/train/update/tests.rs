//! The selection of what is trained on.

use super::Selection;

/// What an epoch of this seed keeps of `each` interactions of `users`: new, old of users who have new ones, and old of others.
fn kept(
    selection: &Selection,
    seed: u64,
    (users, each): (u32, u32),
    is_new: impl Fn(u32, u32) -> bool,
) -> [Vec<(u32, u32)>; 3] {
    let mut kept = [const { Vec::new() }; 3];
    for (user, item) in (0..users).flat_map(|user| (0..each).map(move |item| (user, item))) {
        let has_new = !selection.of(user).is_empty();
        let of = if is_new(user, item) {
            0
        } else if has_new {
            1
        } else {
            2
        };
        if selection.keeps(seed, user, item) {
            kept[of].push((user, item));
        }
    }
    kept
}

#[test]
fn the_share_of_old_interactions_is_what_was_asked_for_and_changes_with_the_seed() {
    let (users, each) = (500u32, 200u32);
    // One in twenty of the interactions of one user in so many is new.
    for every in [1, 5, 50] {
        let is_new = |user: u32, item: u32| user.is_multiple_of(every) && item.is_multiple_of(20);
        let new: Vec<(u32, u32)> =
            (0..users).flat_map(|u| (0..each).map(move |i| (u, i))).filter(|(u, i)| is_new(*u, *i)).collect();
        let all = u64::from(users) * u64::from(each);
        let old = all - new.len() as u64;
        for replay in [0.0, 0.2, 0.5, 0.9, 0.98, 0.9999] {
            let pairs = (new.iter().copied(), new.len() as u64);
            let selection = Selection::of_pairs(pairs, users, all, replay, |_| u64::from(each));
            let [all_new, theirs, others] = kept(&selection, 1, (users, each), is_new);
            assert_eq!(all_new, new);
            // Where there are not as many, all of them.
            let wanted = (new.len() as f64 * replay / (1.0 - replay)).min(old as f64);
            let near = |kept: usize, wanted: f64| (kept as f64 - wanted).abs() <= 5.0 * wanted.sqrt();
            let both = theirs.len() + others.len();
            assert!(near(both, wanted), "{every} {replay}: {both} of {wanted}");
            let of_theirs = old as f64 - f64::from(each) * f64::from(users - users.div_ceil(every));
            let from_theirs = (wanted * (0.7 + 0.3 * of_theirs / old as f64)).min(of_theirs);
            assert!(near(theirs.len(), from_theirs), "{every} {replay}: {} of {from_theirs}", theirs.len());
            let expected = selection.expected() as f64;
            assert!((expected - new.len() as f64 - wanted).abs() <= 1.0, "{expected}");
            let again = kept(&selection, 2, (users, each), is_new);
            let draws = wanted > 0.0 && wanted < old as f64;
            assert_eq!(again != [all_new, theirs, others], draws, "another epoch, others");
        }
    }
}
