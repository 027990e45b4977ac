//! Scans over scores: the next that may enter a ranking, and how many lie above a value.

use super::kernel::InstructionSet;

/// Scores looked at together; a multiple of every register's lanes.
const GROUP: usize = 32;

/// Index of the first score that is not below `threshold`; NaN is below nothing, and so is found.
pub(crate) fn first_not_below(scores: &[f32], threshold: f32) -> Option<usize> {
    match InstructionSet::detect() {
        // SAFETY: the machine has the instructions.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { first_avx512(scores, threshold) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { first_avx2(scores, threshold) },
        _ => first_of(scores, threshold),
    }
}

/// How many scores are greater than `value`, and how many are equal to it.
pub(crate) fn count_above_and_equal(scores: &[f32], value: f32) -> (u32, u32) {
    match InstructionSet::detect() {
        // SAFETY: the machine has the instructions.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => unsafe { count_avx512(scores, value) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { count_avx2(scores, value) },
        _ => count_of(scores, value),
    }
}

#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // NaN must be found
fn first_of(scores: &[f32], threshold: f32) -> Option<usize> {
    let (groups, rest) = scores.as_chunks::<GROUP>();
    let found = groups.iter().position(|g| g.iter().fold(false, |found, s| found | !(*s < threshold)));
    let (start, tail) = match found {
        Some(g) => (g * GROUP, &groups[g][..]),
        None => (groups.len() * GROUP, rest),
    };
    tail.iter().position(|s| !(*s < threshold)).map(|i| start + i)
}

#[inline(always)]
fn count_of(scores: &[f32], value: f32) -> (u32, u32) {
    let (mut above, mut equal) = (0, 0);
    for score in scores {
        above += u32::from(*score > value);
        equal += u32::from(*score == value);
    }
    (above, equal)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn first_avx512(scores: &[f32], threshold: f32) -> Option<usize> {
    first_of(scores, threshold)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn first_avx2(scores: &[f32], threshold: f32) -> Option<usize> {
    first_of(scores, threshold)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn count_avx512(scores: &[f32], value: f32) -> (u32, u32) {
    count_of(scores, value)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn count_avx2(scores: &[f32], value: f32) -> (u32, u32) {
    count_of(scores, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![8 => (-4i8..4).prop_map(f32::from), 1 => Just(f32::NAN), 1 => Just(f32::NEG_INFINITY), 1 => Just(-0.0)]
    }

    proptest! {
        #[test]
        fn scans_equal_the_plain_ones(
            scores in proptest::collection::vec(score(), 0..150),
            value in prop_oneof![(-5i8..5).prop_map(f32::from), Just(f32::NEG_INFINITY), Just(f32::INFINITY)],
        ) {
            let first = scores.iter().position(|s| s.is_nan() || *s >= value);
            let above = scores.iter().filter(|s| **s > value).count() as u32;
            let equal = scores.iter().filter(|s| **s == value).count() as u32;
            prop_assert_eq!(first_not_below(&scores, value), first);
            prop_assert_eq!(first_of(&scores, value), first);
            prop_assert_eq!(count_above_and_equal(&scores, value), (above, equal));
            prop_assert_eq!(count_of(&scores, value), (above, equal));
        }
    }
}
