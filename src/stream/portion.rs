//! Portions: a window's users shared out evenly, so that several threads can work on one window.

use std::ops::Range;

use crate::dataset::Interactions;

/// Some users of a chunk, counted from the chunk's first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    pub(crate) chunk: u32,
    pub(crate) users: Range<u32>,
}

/// Divides the users of `chunks` into `parts` lists with about as many interactions each; whole users, in order, some
/// lists perhaps empty. O(chunks + parts × log users).
pub(crate) fn divide(interactions: &Interactions, chunks: &[u32], parts: usize) -> Vec<Vec<Portion>> {
    let len = |chunk: u32| interactions.chunk(chunk as usize).items().len() as u64;
    let total: u64 = chunks.iter().map(|c| len(*c)).sum();
    let mut lists = vec![Vec::new(); parts];
    let (mut part, mut before) = (0, 0);
    for &number in chunks {
        let chunk = interactions.chunk(number as usize);
        let (offsets, users) = (chunk.offsets(), chunk.users() as u32);
        let mut from = 0;
        while from < users {
            // The part ends at the first user with at least its share of the interactions before it.
            let end = total * (part as u64 + 1) / parts as u64;
            let to = if part + 1 == parts {
                users
            } else {
                let at = offsets.partition_point(|o| before + u64::from(o.to_native()) < end) as u32;
                at.clamp(from, users)
            };
            if from < to {
                lists[part].push(Portion { chunk: number, users: from..to });
            }
            from = to;
            if from < users {
                part += 1;
            }
        }
        before += len(number);
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Part;
    use crate::rank::fixture;

    #[test]
    fn every_user_comes_once_in_order_and_parts_are_even() {
        let folder = tempfile::tempdir().unwrap();
        let users: Vec<Vec<u32>> = (0..50).map(|u| (0..u * 7 % 11).collect()).collect();
        let most = 10;
        let dataset = fixture::dataset(&folder.path().join("d"), 20, &[(Part::Train, users.clone())]);
        let total: usize = users.iter().map(Vec::len).sum();
        // The one chunk there is, once and three times over.
        for chunks in [&[0][..], &[0, 0, 0]] {
            for parts in [1, 2, 7, 64, 200] {
                let lists = divide(dataset.train(), chunks, parts);
                assert_eq!(lists.len(), parts);
                let all: Vec<u32> = lists.iter().flatten().flat_map(|p| p.users.clone()).collect();
                let expected: Vec<u32> = chunks.iter().flat_map(|_| 0..50).collect();
                assert_eq!(all, expected);
                for list in &lists {
                    let size: usize = list.iter().flat_map(|p| p.users.clone()).map(|u| users[u as usize].len()).sum();
                    assert!(size <= total * chunks.len() / parts + 1 + most, "{size} of {total} in {parts} parts");
                }
            }
        }
    }
}
