//! What is inside of a Parquet file, as far as its own statements tell: refused before memory is asked for it.
//!
//! The `parquet` crate believes the lengths of lists in the footer and the sizes of pages in their headers. Both are in
//! Thrift's compact protocol, which is walked here without keeping anything
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>,
//! <https://github.com/apache/parquet-format>).

use std::fs::File;
use std::os::unix::fs::FileExt;

use ::parquet::file::metadata::ColumnChunkMetaData;

/// Nested structs that a footer may have; schemas are lists, however deep their columns are.
const DEPTH: usize = 16;
/// Bytes that are read to find a page's header; it is twice as long a piece where they do not hold it.
const HEADER: usize = 1 << 10;
/// The longest header of a page, with the statistics in it.
const LONGEST_HEADER: usize = 1 << 20;
/// Kinds of values in the compact protocol.
const BYTE_LISTS: std::ops::RangeInclusive<u8> = 9..=10;
const STRUCT: u8 = 12;
/// The encoding of values by what they share with the one before, as in a page's header.
const DELTA_BYTE_ARRAY: i64 = 7;

/// Refuses a footer of more than `most` bytes, or with a list of more elements than it has bytes left.
pub(super) fn check_footer(file: &File, most: usize) -> Result<(), String> {
    let too_short = || "it ends before its footer".to_string();
    let bytes = file.metadata().map_err(|e| e.to_string())?.len();
    let tail = bytes.checked_sub(8).ok_or_else(too_short)?;
    let mut end = [0; 8];
    file.read_exact_at(&mut end, tail).map_err(|e| e.to_string())?;
    let [a, b, c, d, magic @ ..] = end;
    if magic != *b"PAR1" {
        return Err("it does not end as a Parquet file does".into());
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length > most as u64 {
        return Err(format!("its footer has {length} bytes, and at most {most} fit the memory; raise --memory"));
    }
    let start = tail.checked_sub(length).ok_or_else(too_short)?;
    let mut footer = vec![0; length as usize];
    file.read_exact_at(&mut footer, start).map_err(|e| e.to_string())?;
    let whole = Walk { bytes: &footer, at: 0 }.skip(STRUCT, 0);
    whole.ok_or_else(|| "its footer states lengths that it does not have".to_string())
}

/// Refuses a page of `column` that takes more than `most` bytes. Returns the most bytes that a value takes on average
/// over a page: so many rows of them are taken at once that it fits.
pub(super) fn check_pages(file: &File, column: &ColumnChunkMetaData, most: usize) -> Result<u64, String> {
    let (mut at, length) = column.byte_range();
    let wrong = || format!("column '{}': its pages are not where it says", column.column_path());
    let end = at.checked_add(length).ok_or_else(wrong)?;
    if end > file.metadata().map_err(|e| e.to_string())?.len() {
        return Err(wrong());
    }
    let mut each = 1;
    let mut piece = vec![0; HEADER];
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
        file.read_exact_at(&mut piece[..count], at).map_err(|e| e.to_string())?;
        let Some((page, header)) = Page::read(&piece[..count]) else {
            if count < piece.len() || piece.len() >= LONGEST_HEADER {
                return Err(wrong());
            }
            piece.resize(piece.len() * 2, 0);
            continue;
        };
        let (Ok(stored), Ok(size)) = (u64::try_from(page.stored), u64::try_from(page.size)) else {
            return Err(wrong());
        };
        if size > most as u64 {
            return Err(format!(
                "column '{}' has a page of {size} bytes, and at most {most} fit the memory; raise --memory, or write the \
                 file with smaller pages",
                column.column_path()
            ));
        }
        let values = u64::try_from(page.values).unwrap_or(0).max(1);
        each = each.max(if page.encoding == DELTA_BYTE_ARRAY { size } else { size / values });
        at = at.checked_add(header as u64 + stored).filter(|next| *next <= end).ok_or_else(wrong)?;
    }
    Ok(each)
}

/// What the header of a page says.
#[derive(Default)]
struct Page {
    size: i64,
    stored: i64,
    values: i64,
    encoding: i64,
}

impl Page {
    /// The header at the start of `bytes`, and its length.
    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut walk = Walk { bytes, at: 0 };
        let (mut page, mut field) = (Self::default(), 0);
        while let Some(kind) = walk.field(&mut field)? {
            match field {
                2 => page.size = walk.number(kind)?,
                3 => page.stored = walk.number(kind)?,
                // Data of version 1 and 2; dictionaries are not counted by value.
                5 | 8 if kind == STRUCT => {
                    let (encoding, mut inner) = (if field == 5 { 2 } else { 4 }, 0);
                    while let Some(kind) = walk.field(&mut inner)? {
                        match inner {
                            1 => page.values = walk.number(kind)?,
                            _ if inner == encoding => page.encoding = walk.number(kind)?,
                            _ => walk.skip(kind, 0)?,
                        }
                    }
                }
                7 => {
                    page.values = i64::MAX;
                    walk.skip(kind, 0)?;
                }
                _ => walk.skip(kind, 0)?,
            }
        }
        Some((page, walk.at))
    }
}

/// A walk over values of the compact protocol. `None` is an end too early, or what makes no sense.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn advance(&mut self, count: u64) -> Option<()> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.bytes.len() - self.at)?;
        self.at += count;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A whole number of 16 to 64 bits.
    fn number(&mut self, kind: u8) -> Option<i64> {
        if !(4..=6).contains(&kind) {
            return None;
        }
        let zigzag = self.varint()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// The kind of the next field of a struct, whose number `field` becomes; `None` inside at the struct's end.
    fn field(&mut self, field: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *field = match head >> 4 {
            0 => self.number(4)?,
            more => field.checked_add(i64::from(more))?,
        };
        Some(Some(head & 15))
    }

    /// Passes over a value of a struct.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => self.varint().and_then(|length| self.advance(length)),
            13 => self.advance(16),
            _ if depth == DEPTH => None,
            kind if BYTE_LISTS.contains(&kind) => {
                let head = self.byte()?;
                let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                self.elements(size, &[head & 15], depth)
            }
            11 => {
                let size = self.varint()?;
                let kinds = if size == 0 { 0 } else { self.byte()? };
                self.elements(size, &[kinds >> 4, kinds & 15], depth)
            }
            STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Passes over the elements of a list or map, none of which is shorter than a byte.
    fn elements(&mut self, size: u64, kinds: &[u8], depth: usize) -> Option<()> {
        if size > (self.bytes.len() - self.at) as u64 {
            return None;
        }
        for _ in 0..size {
            for kind in kinds {
                // What a struct says in the head of a field takes a byte here.
                if matches!(kind, 1 | 2) { self.advance(1)? } else { self.skip(*kind, depth + 1)? }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_believed_no_further_than_there_are_bytes() {
        let skip = |bytes: &[u8]| Walk { bytes, at: 0 }.skip(STRUCT, 0).is_some();
        // Field 2, a list of three numbers; then the end of the struct.
        assert!(skip(&[0x29, 0x35, 2, 4, 6, 0]));
        assert!(!skip(&[0x29, 0x45, 2, 4, 6, 0]), "four numbers of which there are three");
        assert!(!skip(&[0x29, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x07, 0]), "two billion numbers");
        assert!(!skip(&[0x28, 0xff, 0xff, 0xff, 0xff, 0x07, 0]), "text of two billion bytes");
        assert!(!skip(&[0x1b, 0xff, 0xff, 0x7f, 0x55, 0]), "a map of two million");
        assert!(!skip(&[0x1c; 64]), "structs in structs without end");
        assert!(skip(&[
            0x11, 0x12, 0x13, 9, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x18, 1, b'x', 0x0d, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0
        ]));
    }

    #[test]
    fn pages_tell_their_size_and_values() {
        // Type 0, 1,000,000 bytes in 40, data of version 1 with 3 values by encoding 7.
        let bytes = [0x15, 0, 0x15, 0x80, 0x89, 0x7a, 0x15, 80, 0x2c, 0x15, 6, 0x15, 14, 0, 0, 99];
        let (page, length) = Page::read(&bytes).unwrap();
        assert_eq!((page.size, page.stored, page.values, page.encoding, length), (1_000_000, 40, 3, 7, 15));
        assert!((0..15).all(|end| Page::read(&bytes[..end]).is_none()));
    }
}
