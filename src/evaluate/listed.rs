//! Negatives from a file: for each held-out item the items to rank it among, as NCF's published splits have them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::EvaluateError;
use super::cases::Cases;
use crate::context::Context;
use crate::dataset::Dataset;

/// A file of lines `user⇥item⇥negative⇥negative…`, or `(user,item)⇥negative…`, ids as in the log.
pub(super) struct ListFile<'a> {
    path: PathBuf,
    dataset: &'a Dataset,
    cases: &'a Cases<'a>,
    lines: u64,
    rows: u64,
    /// Negatives of the longest list, and bytes of the longest line.
    longest: usize,
    widest: usize,
    unknown: u64,
}

/// A held-out item and its negatives, ascending.
pub(super) struct Row {
    pub(super) user: u32,
    pub(super) positive: u32,
    pub(super) negatives: Vec<u32>,
    /// Negatives that the dataset does not know.
    unknown: u64,
}

impl<'a> ListFile<'a> {
    /// Reads the file once, and makes sure that something of it is held out.
    pub(super) fn scan(
        path: &Path,
        dataset: &'a Dataset,
        cases: &'a Cases<'a>,
        ctx: &Context,
    ) -> Result<Self, EvaluateError> {
        let (path, zero) = (path.to_path_buf(), (0, 0));
        let mut list = Self { path, dataset, cases, lines: 0, rows: 0, longest: zero.0, widest: zero.1, unknown: 0 };
        let mut reader = list.open()?;
        while let Some(row) = reader.step()? {
            if reader.number.is_multiple_of(1 << 10) {
                ctx.check()?;
            }
            list.widest = list.widest.max(reader.line.len());
            if let Some(row) = row {
                list.rows += 1;
                list.longest = list.longest.max(row.negatives.len());
                list.unknown += row.unknown;
            }
        }
        list.lines = reader.number;
        if list.rows == 0 {
            let reason = "no line names a user and an item that is held out for them; ids are to be those of the log";
            return Err(list.error(list.lines, reason.into()));
        }
        Ok(list)
    }

    /// Lists that count.
    pub(super) fn len(&self) -> u64 {
        self.rows
    }

    /// Negatives of the longest.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// What reading it takes.
    pub(super) fn bytes(&self) -> usize {
        2 * self.widest + 8 * self.longest + (64 << 10)
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let name = self.path.display();
        let mut notes = Vec::new();
        if self.lines > self.rows {
            notes.push(format!(
                "{} lines of {name} name no held-out item of these users and are left out",
                self.lines - self.rows
            ));
        }
        if self.unknown > 0 {
            notes.push(format!("{} negatives of {name} are no items of the dataset and are left out", self.unknown));
        }
        if self.cases.interactions > self.rows {
            notes.push(format!("{} held-out interactions have no list in {name}", self.cases.interactions - self.rows));
        }
        notes
    }

    /// The lists that count, in the order of the file.
    pub(super) fn rows(&self) -> Result<impl Iterator<Item = Result<Row, EvaluateError>> + '_, EvaluateError> {
        let mut reader = self.open()?;
        Ok(std::iter::from_fn(move || {
            loop {
                match reader.step() {
                    Ok(Some(None)) => {}
                    Ok(Some(Some(row))) => return Some(Ok(row)),
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error)),
                }
            }
        }))
    }

    fn open(&self) -> Result<Reader<'a>, EvaluateError> {
        let file = File::open(&self.path).map_err(|error| self.error(0, error.to_string()))?;
        Ok(Reader {
            path: self.path.clone(),
            dataset: self.dataset,
            cases: self.cases,
            lines: BufReader::new(file),
            line: String::new(),
            number: 0,
        })
    }

    fn error(&self, line: u64, reason: String) -> EvaluateError {
        EvaluateError::List { path: self.path.clone(), line, reason }
    }
}

struct Reader<'a> {
    path: PathBuf,
    dataset: &'a Dataset,
    cases: &'a Cases<'a>,
    lines: BufReader<File>,
    line: String,
    number: u64,
}

impl Reader<'_> {
    /// The next line: `None` at the end, `Some(None)` where it names nothing that is held out.
    fn step(&mut self) -> Result<Option<Option<Row>>, EvaluateError> {
        self.line.clear();
        self.number += 1;
        let error = |number: u64, reason: String| EvaluateError::List { path: self.path.clone(), line: number, reason };
        let read = self.lines.read_line(&mut self.line).map_err(|e| error(self.number, e.to_string()))?;
        if read == 0 {
            self.number -= 1;
            return Ok(None);
        }
        let line = self.line.trim_end_matches(['\n', '\r']);
        let Some((user, item, rest)) = head(line) else {
            let reason = "write user, item and negatives, separated by tabs, or (user,item) and negatives".to_string();
            return Err(error(self.number, reason));
        };
        let (users, items) = (self.dataset.users(), self.dataset.items());
        let Some((user, positive)) = users.find(user).zip(items.find(item)) else { return Ok(Some(None)) };
        let held_out = self.cases.held_out.user(user).items;
        if held_out.binary_search_by_key(&positive, |i| i.to_native()).is_err() || !self.cases.contains(user) {
            return Ok(Some(None));
        }
        let mut row = Row { user, positive, negatives: Vec::new(), unknown: 0 };
        for id in rest.split('\t').filter(|id| !id.is_empty()) {
            match items.find(id) {
                Some(item) if item != positive => row.negatives.push(item),
                Some(_) => {}
                None => row.unknown += 1,
            }
        }
        row.negatives.sort_unstable();
        row.negatives.dedup();
        Ok(Some(Some(row)))
    }
}

/// User, item, and the rest of a line.
fn head(line: &str) -> Option<(&str, &str, &str)> {
    let (first, rest) = line.split_once('\t')?;
    if let Some(pair) = first.strip_prefix('(').and_then(|pair| pair.strip_suffix(')')) {
        let (user, item) = pair.split_once(',')?;
        return Some((user.trim(), item.trim(), rest));
    }
    let (item, rest) = rest.split_once('\t')?;
    Some((first, item, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_line_are_read() {
        assert_eq!(head("(7,25)\t1\t2"), Some(("7", "25", "1\t2")));
        assert_eq!(head("u\ti\tn"), Some(("u", "i", "n")));
        assert_eq!(head("(a b)\tx\ty"), None, "no comma");
        assert_eq!(head("alone"), None);
        assert_eq!(head("u\ti"), None, "no negatives");
    }
}
