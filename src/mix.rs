//! The mixer of 64 bits by which seeds, streams and tie-breaks are derived from one another.

/// 2⁶⁴ over the golden ratio: the increment of SplitMix64, which sets neighbouring numbers far apart.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64 (Steele, Lea & Flood 2014). Each bit of `x` flips about half of the result's; only 0
/// stays as it is.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_published_sequence_of_splitmix64() {
        let drawn = [1u64, 2, 3].map(|n| mix(n.wrapping_mul(GOLDEN)));
        assert_eq!(drawn, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }
}
