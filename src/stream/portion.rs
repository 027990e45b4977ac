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
