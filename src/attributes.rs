//! What is known of items beside the log: a table with a line for each item, such as its category, year or name.
//!
//! A code or a number is held of each item and column; text only of distinct values, up to a limit. Names and the like are
//! read again for those items that are shown.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::context::{ByteSize, Context, Interrupted};
use crate::dataset::Dataset;
use crate::ingest::{Column, IngestOptions, Limits, ReadError, Table};

/// Columns that are held, the first ones, titles not counted.
const COLUMNS: usize = 6;
/// Distinct values of a column that are held, and the bytes of their text.
const VALUES: usize = 4096;
const TEXT: usize = 256 << 10;
/// Where some number has a fraction, more distinct ones than that are numbers; whole ones may be codes or years, and are
/// values, as far as they are held.
const FEW: usize = 12;
/// Columns that hold what an item is called.
const TITLES: [&str; 2] = ["name", "title"];
/// What reading takes beside what is held: blocks of text, and a decompressor's window.
const READING: usize = 2 << 20;
const LIMITS: Limits = Limits { block_bytes: 128 << 10, record_bytes: 1 << 20 };

/// Attributes of a dataset's items could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttributesError {
    /// The file cannot be read, or a line of it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nothing but ids.
    #[error("{}: there is no column beside that of the items, '{column}'", path.display())]
    NoColumns {
        /// The file.
        path: PathBuf,
        /// Its column of item ids.
        column: String,
    },
    /// No line is of an item of the dataset.
    #[error(
        "{}: none of its {lines} lines is of an item of the dataset; its column '{column}' is taken for item ids as the log \
         has them",
        path.display()
    )]
    NoItems {
        /// The file.
        path: PathBuf,
        /// Its column of item ids.
        column: String,
        /// Its lines.
        lines: u64,
    },
    /// The first line is of an item.
    #[error(
        "{}: its first line is of item '{item}' of the dataset, and names no columns; put a header before it, such as \
         item,category", path.display()
    )]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// The item.
        item: String,
    },
    /// Most items have several lines.
    #[error(
        "{}: has {lines} lines of {items} items of the dataset: it looks like a log; give a table with one line an item",
        path.display()
    )]
    Log {
        /// The file.
        path: PathBuf,
        /// Lines of items of the dataset.
        lines: u64,
        /// Items of the dataset among them.
        items: u64,
    },
    /// They take more than a quarter of the budget.
    #[error("--attributes: {columns} columns of {items} items take {needed}, more than a quarter of --memory {given}")]
    Memory {
        /// Columns to hold.
        columns: usize,
        /// Items of the dataset.
        items: usize,
        /// Bytes they take.
        needed: ByteSize,
        /// The budget.
        given: ByteSize,
    },
    /// The operation was stopped.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Attributes of a dataset's items, by column.
#[derive(Clone, Debug)]
pub struct Attributes {
    path: PathBuf,
    columns: Vec<Attribute>,
    /// Columns of the file that are neither ids nor titles, those held first.
    all: usize,
    /// Items of the dataset, and those that have a line.
    items: usize,
    known: u64,
    /// Lines of items that the dataset does not have, and of items that had one before.
    strange: u64,
    repeated: u64,
}

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) values: Values,
}

/// The values of a column, by item.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// A number in `names` from 1, 0 where there is none, [`UNNAMED`] where it is not held.
    Names { names: Vec<String>, of: Vec<u16> },
    /// NaN where there is none.
    Numbers(Vec<f32>),
}

/// The code of values beyond those that are held.
pub(crate) const UNNAMED: u16 = u16::MAX;

/// What is shown of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Described {
    /// What it is called.
    pub(crate) title: Option<String>,
    /// Columns and values, in the order of the file.
    pub(crate) values: Vec<(String, String)>,
}

/// A column while it is read.
struct Reading {
    name: String,
    at: usize,
    codes: HashMap<String, u16>,
    bytes: usize,
    of: Vec<u16>,
    /// As long as all values are numbers.
    numbers: Option<Vec<f32>>,
    fraction: bool,
    /// Whether there are values that are not held.
    unnamed: bool,
}

impl Attributes {
    /// Reads the table at `path`: delimited text, plain or compressed by gzip or zstd, whose first line names the columns.
    /// Item ids, as the log has them, are in the column called like the log's column of items, or as these are often
    /// called, or in the first. The other columns are attributes; the first six are held, but for `name` and `title`.
    ///
    /// # Errors
    /// If the file cannot be read, a line does not fit the header, nothing of it is of the dataset, it takes more than a
    /// quarter of `ctx.memory()`, or the operation was stopped.
    pub fn read(path: impl AsRef<Path>, dataset: &Dataset, ctx: &Context) -> Result<Self, AttributesError> {
        let path = path.as_ref();
        let table = Table::open(path, LIMITS)?;
        let (ids, others) = layout(&table, dataset);
        let column = table.columns()[ids].clone();
        if others.is_empty() {
            return Err(AttributesError::NoColumns { path: path.to_path_buf(), column });
        }
        if dataset.items().find(&column).is_some() {
            return Err(AttributesError::NoHeader { path: path.to_path_buf(), item: column });
        }
        let items = dataset.items().len() as usize;
        let plain: Vec<usize> = others.iter().copied().filter(|at| !is_title(&table.columns()[*at])).collect();
        let held = &plain[..plain.len().min(COLUMNS)];
        let needed = READING + items.div_ceil(8) + held.len() * (6 * items + 2 * TEXT);
        if needed as u64 > ctx.memory().0 / 4 {
            let (needed, given) = (ByteSize(needed as u64), ctx.memory());
            return Err(AttributesError::Memory { columns: held.len(), items, needed, given });
        }
        let mut columns: Vec<Reading> = held
            .iter()
            .map(|&at| Reading {
                name: table.columns()[at].trim().to_string(),
                at,
                codes: HashMap::new(),
                bytes: 0,
                of: vec![0; items],
                numbers: Some(vec![f32::NAN; items]),
                fraction: false,
                unnamed: false,
            })
            .collect();
        let mut seen = vec![0u8; items.div_ceil(8)];
        let (mut lines, mut known, mut strange, mut repeated) = (0u64, 0, 0, 0);
        table.read::<AttributesError>(|fields| {
            lines += 1;
            if lines.is_multiple_of(1 << 12) {
                ctx.check()?;
            }
            if fields[ids].is_empty() {
                return Ok(Err("the item id is empty".into()));
            }
            let Some(item) = dataset.items().find(fields[ids]) else {
                strange += 1;
                return Ok(Ok(()));
            };
            let (item, bit) = (item as usize, 1 << (item % 8));
            if seen[item / 8] & bit != 0 {
                repeated += 1;
                return Ok(Ok(()));
            }
            seen[item / 8] |= bit;
            known += 1;
            columns.iter_mut().for_each(|column| column.put(item, fields[column.at].trim()));
            Ok(Ok(()))
        })?;
        if known == 0 {
            return Err(AttributesError::NoItems { path: path.to_path_buf(), column, lines });
        }
        // A few lines too many are a mistake; one in four is another kind of file.
        if repeated > (known + repeated) / 4 {
            return Err(AttributesError::Log { path: path.to_path_buf(), lines: known + repeated, items: known });
        }
        let columns = columns.into_iter().map(Reading::finish).collect();
        Ok(Self { path: path.to_path_buf(), columns, all: plain.len(), items, known, strange, repeated })
    }

    /// The columns that are held.
    pub(crate) fn columns(&self) -> &[Attribute] {
        &self.columns
    }

    /// Items of the dataset that they are of.
    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let of = |column: &Attribute| match &column.values {
            Values::Names { names, of } => 2 * of.len() + names.iter().map(|name| name.len() + 48).sum::<usize>(),
            Values::Numbers(of) => 4 * of.len(),
        };
        self.columns.iter().map(of).sum()
    }

    /// What is to be said of the file: lines and items that do not find each other.
    pub fn notes(&self) -> Vec<String> {
        let name = self.path.display();
        let mut notes = Vec::new();
        let missing = self.items as u64 - self.known;
        if missing > 0 {
            notes.push(format!("{missing} of {} items are not in {name} and have no attributes", self.items));
        }
        if self.strange > 0 {
            notes.push(format!("{} lines of {name} are of items that the dataset does not have", self.strange));
        }
        if self.repeated > 0 {
            notes.push(format!("{} lines of {name} are of items that had one before, which counts", self.repeated));
        }
        if self.all > self.columns.len() {
            let held = self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
            notes.push(format!("of the {} columns of {name} the first are used: {held}", self.all));
        }
        notes
    }

    /// Reads again what the file says of `items`, which ascend: of each its title, and up to `most` columns with a value.
    pub(crate) fn describe(
        &self,
        dataset: &Dataset,
        items: &[u32],
        most: usize,
        ctx: &Context,
    ) -> Result<Vec<Described>, AttributesError> {
        let table = Table::open(&self.path, LIMITS)?;
        let (ids, others) = layout(&table, dataset);
        let names = table.columns().to_vec();
        let mut all = vec![None; items.len()];
        let mut lines = 0u64;
        table.read::<AttributesError>(|fields| {
            lines += 1;
            if lines.is_multiple_of(1 << 12) {
                ctx.check()?;
            }
            let found = dataset.items().find(fields[ids]).and_then(|item| items.binary_search(&item).ok());
            let Some(place) = found.filter(|place| all[*place].is_none()) else { return Ok(Ok(())) };
            let mut described = Described::default();
            for &at in others.iter().filter(|at| !fields[**at].trim().is_empty()) {
                let value = fields[at].trim().to_string();
                match is_title(&names[at]) && described.title.is_none() {
                    true => described.title = Some(value),
                    false if described.values.len() < most => {
                        described.values.push((names[at].trim().to_string(), value));
                    }
                    false => {}
                }
            }
            all[place] = Some(described);
            Ok(Ok(()))
        })?;
        Ok(all.into_iter().map(Option::unwrap_or_default).collect())
    }
}

impl Reading {
    fn put(&mut self, item: usize, value: &str) {
        if value.is_empty() {
            return;
        }
        match (value.parse::<f32>(), &mut self.numbers) {
            (Ok(number), Some(numbers)) if number.is_finite() => {
                numbers[item] = number;
                self.fraction |= number.fract() != 0.0;
            }
            _ => self.numbers = None,
        }
        self.of[item] = match self.codes.get(value) {
            Some(code) => *code,
            None if self.codes.len() < VALUES && self.bytes + value.len() <= TEXT => {
                let code = self.codes.len() as u16 + 1;
                self.bytes += value.len();
                self.codes.insert(value.to_string(), code);
                code
            }
            None => {
                self.unnamed = true;
                UNNAMED
            }
        };
    }

    fn finish(self) -> Attribute {
        let Self { name, codes, of, numbers, fraction, unnamed, .. } = self;
        let values = match numbers {
            Some(numbers) if unnamed || fraction && codes.len() > FEW => Values::Numbers(numbers),
            _ => {
                let mut names: Vec<(u16, String)> = codes.into_iter().map(|(name, code)| (code, name)).collect();
                names.sort_unstable();
                Values::Names { names: names.into_iter().map(|(_, name)| name).collect(), of }
            }
        };
        Attribute { name, values }
    }
}

/// The column of item ids, and the others.
fn layout(table: &Table, dataset: &Dataset) -> (usize, Vec<usize>) {
    let options: Option<IngestOptions> = serde_json::from_value(dataset.manifest().options.clone()).ok();
    let named = options.and_then(|options| match options.read.item {
        Some(Column::Name(name)) => Some(name),
        _ => None,
    });
    let ids = table.item_column(named.as_deref());
    (ids, (0..table.columns().len()).filter(|at| *at != ids).collect())
}

fn is_title(column: &str) -> bool {
    TITLES.contains(&column.trim().to_lowercase().as_str())
}
