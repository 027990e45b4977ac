//! A user's positives, read in place from serialized roaring bitmaps (portable format), without decoding them.
//!
//! Format: <https://github.com/RoaringBitmap/RoaringFormatSpec>. Reading never panics: bytes that make no sense hold
//! no items.

/// A read-only view over one serialized roaring bitmap; no bytes at all are the empty set.
#[derive(Clone, Copy, Debug)]
pub struct Positives<'a> {
    bytes: &'a [u8],
}

const COOKIE_WITHOUT_RUNS: u32 = 12346;
const COOKIE_WITH_RUNS: u32 = 12347;
const NO_OFFSETS_BELOW: usize = 4;
const MAX_ARRAY: usize = 4096;
const BITMAP_BYTES: usize = 8192;

/// One container: 65,536 values that share their upper half.
enum Container<'a> {
    Array(&'a [u8]),
    Bitmap(&'a [u8]),
    Runs(&'a [u8]),
}

/// The header: where keys, offsets and run flags lie.
struct Header<'a> {
    containers: usize,
    runs: Option<&'a [u8]>,
    keys: &'a [u8],
    offsets: Option<&'a [u8]>,
    first: usize,
}

fn u16_at(bytes: &[u8], index: usize) -> Option<u16> {
    bytes.get(index * 2..index * 2 + 2).map(|b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

impl<'a> Positives<'a> {
    /// A view over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn header(&self) -> Option<Header<'a>> {
        let cookie = u32_at(self.bytes, 0)?;
        let (containers, runs, at) = if cookie & 0xFFFF == COOKIE_WITH_RUNS {
            let containers = (cookie >> 16) as usize + 1;
            let flags = containers.div_ceil(8);
            (containers, Some(self.bytes.get(4..4 + flags)?), 4 + flags)
        } else if cookie == COOKIE_WITHOUT_RUNS {
            let containers = u32_at(self.bytes, 4)? as usize;
            (containers.min(1 << 16), None, 8)
        } else {
            return None;
        };
        let keys = self.bytes.get(at..at + containers * 4)?;
        let at = at + containers * 4;
        let has_offsets = runs.is_none() || containers >= NO_OFFSETS_BELOW;
        let offsets = if has_offsets { Some(self.bytes.get(at..at + containers * 4)?) } else { None };
        Some(Header { containers, runs, keys, offsets, first: at + if has_offsets { containers * 4 } else { 0 } })
    }

    /// Container `index`, and the offset just behind it. `at` is where it begins.
    fn container(&self, header: &Header<'a>, index: usize, at: usize) -> Option<(Container<'a>, usize)> {
        if header.runs.is_some_and(|flags| flags[index / 8] >> (index % 8) & 1 == 1) {
            let runs = usize::from(u16_at(self.bytes.get(at..)?, 0)?);
            let end = at + 2 + runs * 4;
            return Some((Container::Runs(self.bytes.get(at + 2..end)?), end));
        }
        let cardinality = usize::from(u16_at(header.keys, index * 2 + 1)?) + 1;
        if cardinality <= MAX_ARRAY {
            let end = at + cardinality * 2;
            Some((Container::Array(self.bytes.get(at..end)?), end))
        } else {
            let end = at + BITMAP_BYTES;
            Some((Container::Bitmap(self.bytes.get(at..end)?), end))
        }
    }

    /// Whether `item` is among the positives. O(log containers + log values of one container).
    pub fn contains(&self, item: u32) -> bool {
        self.lookup(item).unwrap_or(false)
    }

    fn lookup(&self, item: u32) -> Option<bool> {
        if self.bytes.is_empty() {
            return Some(false);
        }
        let header = self.header()?;
        let (key, low) = ((item >> 16) as u16, item as u16);
        let Some(index) = search(header.containers, |i| u16_at(header.keys, i * 2), key) else { return Some(false) };
        let at = match header.offsets {
            Some(offsets) => u32_at(offsets, index * 4)? as usize,
            None => {
                let mut at = header.first;
                for i in 0..index {
                    at = self.container(&header, i, at)?.1;
                }
                at
            }
        };
        Some(match self.container(&header, index, at)?.0 {
            Container::Array(values) => search(values.len() / 2, |i| u16_at(values, i), low).is_some(),
            Container::Bitmap(bits) => bits[usize::from(low) / 8] >> (low % 8) & 1 == 1,
            Container::Runs(runs) => (0..runs.len() / 4).any(|i| {
                let (start, more) = (u16_at(runs, i * 2).unwrap_or(0), u16_at(runs, i * 2 + 1).unwrap_or(0));
                low >= start && low - start <= more
            }),
        })
    }

    /// How many positives there are, from the header alone. O(containers).
    pub fn len(&self) -> u64 {
        let Some(header) = self.header() else { return 0 };
        (0..header.containers).filter_map(|i| u16_at(header.keys, i * 2 + 1)).map(|c| u64::from(c) + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Index of `wanted` among `len` ascending values.
fn search(len: usize, at: impl Fn(usize) -> Option<u16>, wanted: u16) -> Option<usize> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = (low + high) / 2;
        match at(middle)?.cmp(&wanted) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(middle),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use roaring::RoaringBitmap;

    fn check(bitmap: &RoaringBitmap, probes: &[u32]) {
        let mut bytes = Vec::new();
        bitmap.serialize_into(&mut bytes).unwrap();
        let view = Positives::new(&bytes);
        assert_eq!(view.len(), bitmap.len());
        for item in bitmap.iter().chain(probes.iter().copied()) {
            for near in [item.wrapping_sub(1), item, item.wrapping_add(1)] {
                assert_eq!(view.contains(near), bitmap.contains(near), "{near}");
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_roaring_crate(
            sparse in proptest::collection::vec(any::<u32>(), 0..200),
            dense in proptest::collection::vec((0u32..8 << 16, 1u32..9000), 0..6),
            few in proptest::collection::vec(0u32..3 << 16, 0..50),
            probes in proptest::collection::vec(any::<u32>(), 50),
        ) {
            let mut bitmap: RoaringBitmap = sparse.into_iter().collect();
            check(&few.iter().copied().collect(), &probes);
            for (start, len) in dense {
                bitmap.insert_range(start..start + len);
            }
            check(&bitmap, &probes);
            bitmap.optimize();
            check(&bitmap, &probes);
            let mut few: RoaringBitmap = few.into_iter().collect();
            few.insert_range(70_000..70_500);
            few.optimize();
            check(&few, &probes);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), runs: bool, item: u32) {
            let mut bytes = bytes;
            if bytes.len() > 4 {
                bytes[..2].copy_from_slice(&(if runs { 12347u16 } else { 12346 }).to_le_bytes());
                bytes[3] = 0;
            }
            let view = Positives::new(&bytes);
            let _ = (view.contains(item), view.contains(item & 0xFFFF), view.len());
        }
    }
}
