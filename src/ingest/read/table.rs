//! A delimited table with a header, record by record, whatever its columns: what is known of items, not a log.

use std::path::Path;

use super::blocks::Text;
use super::columns::recognise;
use super::decompress::Bytes;
use super::{Delimiter, Input, Limits, ReadError, ReadOptions, Role, delimited, head, sources};

/// A table that is open, behind its header. Plain, gzip or zstd; quotes are syntax.
pub(crate) struct Table {
    name: String,
    columns: Vec<String>,
    delimiter: Delimiter,
    text: Text,
}

impl Table {
    /// Opens the file at `path`, whose first record names the columns.
    pub(crate) fn open(path: &Path, limits: Limits) -> Result<Self, ReadError> {
        let found = sources(&[Input::Path(path.to_path_buf())], &ReadOptions::default())?;
        let [source] = &found[..] else {
            return Err(ReadError::NoTable { name: path.display().to_string() });
        };
        let mut bytes = Bytes::open(source)?;
        let head::TableHead { bytes: ahead, line, delimiter, names } = head::table(source, &mut bytes, limits)?;
        let text = Text::new(bytes, ahead, line, limits, delimited::quoting(&delimiter, true));
        Ok(Self { name: source.name().to_string(), columns: names, delimiter, text })
    }

    /// Its columns.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The column of item ids: the one called `named`, or as item ids are often called, or the first.
    pub(crate) fn item_column(&self, named: Option<&str>) -> usize {
        let by_name = named.and_then(|named| self.columns.iter().position(|name| name.trim() == named.trim()));
        by_name.or_else(|| recognise(Role::Item, &self.columns)).unwrap_or(0)
    }

    /// Hands the fields of each record to `each`, as many as there are columns. What `each` says against one is said with
    /// its line.
    pub(crate) fn read<E: From<ReadError>>(
        mut self,
        mut each: impl FnMut(&[&str]) -> Result<Result<(), String>, E>,
    ) -> Result<(), E> {
        let wanted = self.columns.len();
        // One more, to see that there are none.
        let mut places = vec![(0, 0); wanted + 1];
        let mut scratch = Vec::new();
        while let Some(block) = self.text.next() {
            let (buffer, mut line) = block?;
            let mut rest = buffer.records();
            while !rest.is_empty() {
                let (next, found) = delimited::record(&self.delimiter, rest, &mut scratch, &mut places);
                let lines = super::blocks::newlines(&rest[..next]);
                rest = &rest[next..];
                let fail = |reason: String| ReadError::Record { name: self.name.clone(), line, reason };
                let text = std::str::from_utf8(&scratch).map_err(|_| fail("it is not valid UTF-8".into()))?;
                match found {
                    None => return Err(fail("a quoted field is never closed".into()).into()),
                    Some(1) if text.is_empty() => {}
                    Some(found) if found != wanted => {
                        let many = if found > wanted { "more".to_string() } else { found.to_string() };
                        let reason = format!("it has {many} fields, and the header {wanted}; check it and its quotes");
                        return Err(fail(reason).into());
                    }
                    Some(_) => {
                        let fields: Vec<&str> = places[..wanted].iter().map(|&(from, to)| &text[from..to]).collect();
                        each(&fields)?.map_err(fail)?;
                    }
                }
                line += lines;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let limits = Limits { block_bytes: 16, ..Limits::default() };
        let table = Table::open(&path, limits).map_err(|e| e.to_string())?;
        let mut all = vec![table.columns().join("|")];
        let read = table.read::<ReadError>(|fields| {
            all.push(fields.join("|"));
            Ok(if fields[0] == "bad" { Err("bad it is".into()) } else { Ok(()) })
        });
        read.map(|()| all).map_err(|e| e.to_string().replace(path.to_str().unwrap(), "t"))
    }

    #[test]
    fn records_are_those_of_the_header_whatever_the_quotes() {
        let text = "spot,name\r\n1,\"a, \"\"b\"\"\nc\"\r\n\n2,\n\"3\",d";
        assert_eq!(read(text).unwrap(), ["spot|name", "1|a, \"b\"\nc", "2|", "3|d"]);
        assert_eq!(read("a;b\nx,;y\n").unwrap(), ["a|b", "x,|y"]);
        assert_eq!(read("a,b\n").unwrap(), ["a|b"]);
    }

    #[test]
    fn a_record_that_does_not_fit_is_named_by_its_line() {
        assert_eq!(
            read("a,b\n1,2\n3\n").unwrap_err(),
            "t, line 3: it has 1 fields, and the header 2; check it and its quotes"
        );
        let many = read("a,b\n\"1\nx\",2\n3,4,5\n").unwrap_err();
        assert!(many.starts_with("t, line 4: it has more fields"), "{many}");
        assert!(read("a,b\n1,\"2\n").unwrap_err().contains("line 2: a quoted field is never closed"));
        assert_eq!(read("a,b\n1,2\nbad,2\n").unwrap_err(), "t, line 3: bad it is");
        for text in ["", "alone\n1\n"] {
            assert!(read(text).unwrap_err().contains("this is no table"), "{text}");
        }
    }
}
