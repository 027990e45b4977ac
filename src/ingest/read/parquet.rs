//! Reads Parquet: only the needed columns are decoded, and brought to a few types when a batch is read.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::errors::ParquetError;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, Float64Array, Int64Array, RecordBatch, StringViewArray, UInt64Array,
};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Schema, TimeUnit as ArrowUnit};

use super::blocks::RowCount;
use super::columns::resolve;
use super::pages::{check_footer, check_pages};
use super::row::{check_id, check_utf8, check_weight, excerpt, float_time, integer_time, parse_time, parse_weight};
use super::{
    BadRow, Column, ContextKey, Limits, Place, ReadError, ReadOptions, Reason, Role, Roles, Row, RowSink, Source,
    TimeUnit,
};

/// Rows in a block: so few that their columns come from the heap and stay in the processor's cache. Buffers of more than
/// 128 KiB would be mapped and cleared by the system for each block.
const BATCH_ROWS: usize = 8_192;
/// A page may take as much as so many of the longest records of text: a quarter of the memory, and 64 MiB at most.
const PAGE_RECORDS: usize = 4;

/// A Parquet file being read.
pub(super) struct Reader {
    batches: ParquetRecordBatchReader,
    name: Arc<str>,
    /// Names in the file.
    columns: Roles<Column>,
    names: Roles<Arc<str>>,
    time_unit: TimeUnit,
    rows: u64,
    total_rows: u64,
    stored: u64,
}

impl Reader {
    /// Opens the file, finds the columns and passes over the first `skipped` rows. Refuses a file whose pages, or whose
    /// footer, are larger than some records may be.
    pub(super) fn open(
        source: &Source,
        options: &ReadOptions,
        limits: Limits,
        skipped: u64,
    ) -> Result<Self, ReadError> {
        let name = source.name();
        let damaged = |message: String| ReadError::Parquet { name: name.into(), message };
        // `-` and pipes have been refused by now.
        let path = source.path().unwrap_or(std::path::Path::new("-"));
        let file = File::open(path).map_err(|e| ReadError::Unreadable { path: name.into(), source: e })?;
        let most = limits.record_bytes.saturating_mul(PAGE_RECORDS);
        check_footer(&file, most).map_err(damaged)?;
        let metadata = guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).and_then(by_views))
            .map_err(damaged)?;
        let fields = metadata.schema().fields().clone();
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let roles = resolve(name, options, &names, true)?;
        for (role, &at) in roles.each() {
            if target(role, fields[at].data_type()).is_none() {
                return Err(ReadError::ColumnType {
                    name: name.into(),
                    column: names[at].clone(),
                    role,
                    found: fields[at].data_type().to_string(),
                    needed: needed(role),
                });
            }
        }
        let total_rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), roles.each().map(|(_, &at)| at));
        let each = guarded(|| -> Result<u64, String> {
            let mut columns =
                metadata.metadata().row_groups().iter().flat_map(|group| group.columns().iter().enumerate());
            columns.try_fold(1, |each: u64, (leaf, column)| {
                if mask.leaf_included(leaf) { Ok(check_pages(&file, column, most)?.max(each)) } else { Ok(each) }
            })
        });
        let each = each.map_err(damaged)?;
        let rows = (most as u64 / each).clamp(1, BATCH_ROWS as u64) as usize;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let builder = builder.with_projection(mask).with_batch_size(rows);
        let builder = match usize::try_from(skipped) {
            Ok(0) => builder,
            rows => builder.with_offset(rows.unwrap_or(usize::MAX)),
        };
        let batches = guarded(|| builder.build()).map_err(damaged)?;
        Ok(Self {
            batches,
            name: source.name.clone(),
            columns: roles.map(|&at| Column::Name(names[at].clone())),
            names: roles.map(|&at| names[at].as_str().into()),
            time_unit: options.time_unit,
            rows: skipped,
            total_rows,
            stored: source.bytes().unwrap_or(0),
        })
    }

    /// The columns that are read.
    pub(super) fn columns(&self) -> &Roles<Column> {
        &self.columns
    }

    /// The next batch, the 1-based number of its first row, and the share of the file's bytes read by its end.
    pub(super) fn next(&mut self) -> Option<Result<(Table, u64, u64), ReadError>> {
        let first = self.rows + 1;
        let damaged = |message: String| ReadError::Parquet { name: self.name.to_string(), message };
        let batch = match guarded(|| self.batches.next().transpose()) {
            Ok(None) if self.rows == self.total_rows => return None,
            Ok(None) => {
                let message = format!("its footer promises {} rows, but there are {}", self.total_rows, self.rows);
                return Some(Err(damaged(message)));
            }
            Ok(Some(batch)) => batch,
            Err(e) => return Some(Err(damaged(format!("{e} (after {} good rows)", self.rows)))),
        };
        let table = match Table::new(&batch, &self.names, self.time_unit) {
            Ok(table) => table,
            Err(message) => return Some(Err(damaged(message))),
        };
        self.rows += batch.num_rows() as u64;
        Some(Ok((table, first, self.stored())))
    }

    /// Rows before the next batch.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The share of the file's bytes that these rows have.
    pub(super) fn stored(&self) -> u64 {
        let share = self.rows as f64 / self.total_rows.max(1) as f64;
        (self.stored as f64 * share.min(1.0)) as u64
    }
}

/// The same file, with all text as views: they share a page's dictionary, where an array of its own would hold a long
/// value again for every row that has it.
fn by_views(file: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let view = |field: &Arc<Field>| match view_of(field.data_type()) {
        Some(view) => Arc::new(field.as_ref().clone().with_data_type(view)),
        None => field.clone(),
    };
    let fields: Vec<Arc<Field>> = file.schema().fields().iter().map(view).collect();
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(file.metadata().clone(), options)
}

/// The type of views on a column of text or bytes.
fn view_of(data: &DataType) -> Option<DataType> {
    match data {
        DataType::Utf8 | DataType::LargeUtf8 => Some(DataType::Utf8View),
        DataType::Binary | DataType::LargeBinary => Some(DataType::BinaryView),
        DataType::Dictionary(_, value) => view_of(value),
        _ => None,
    }
}

thread_local! {
    /// Whether a panic of this thread is going to be caught.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of the `parquet` crate, which meets some kinds of damage with a panic. What it panicked in is not used
/// again. The panic is an error like any other, so the process's hook is not to print it; other panics reach the hook
/// that was there before.
fn guarded<T, E: std::fmt::Display>(step: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                before(panic);
            }
        }));
    });
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("its metadata or pages contradict each other".into()),
    }
}

/// The type to which a column of type `data` is brought to serve as `role`; `None` if it cannot.
fn target(role: Role, data: &DataType) -> Option<DataType> {
    use DataType::*;
    match (role, data) {
        (_, Dictionary(_, value)) => target(role, value),
        (_, Utf8 | LargeUtf8 | Utf8View) => Some(Utf8View),
        (Role::User | Role::Item | Role::Event | Role::Context, Binary | LargeBinary | BinaryView) => Some(BinaryView),
        (
            Role::User | Role::Item | Role::Event | Role::Context,
            Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32,
        ) => Some(Int64),
        (Role::User | Role::Item | Role::Event | Role::Context, UInt64) => Some(UInt64),
        (Role::Time, Timestamp(..)) => Some(Timestamp(ArrowUnit::Millisecond, None)),
        (Role::Time, Date32 | Date64) => Some(Date64),
        (Role::Time, Float16 | Float32 | Float64) => Some(Float64),
        (Role::Time, integer) if integer.is_integer() => Some(Int64),
        (Role::Weight, number) if number.is_numeric() => Some(Float64),
        _ => None,
    }
}

fn needed(role: Role) -> &'static str {
    match role {
        Role::User | Role::Item | Role::Event | Role::Context => "a string or an integer",
        Role::Time => "a timestamp, a date, a number or a string",
        Role::Weight => "a number or a string",
    }
}

/// Room for what is no text already.
#[derive(Default)]
struct Text {
    user: Vec<u8>,
    item: Vec<u8>,
    event: Vec<u8>,
    value: Vec<u8>,
    context: Vec<u8>,
}

/// Rows of the columns that are read.
#[derive(Debug)]
pub(super) struct Table {
    columns: Roles<(Values, Arc<str>)>,
    time_unit: TimeUnit,
    rows: usize,
}

/// A column, brought to one of few types.
#[derive(Debug)]
enum Values {
    Text(StringViewArray),
    Binary(BinaryViewArray),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    /// Milliseconds since 1970.
    Moment(Int64Array),
}

impl Table {
    fn new(batch: &RecordBatch, names: &Roles<Arc<str>>, time_unit: TimeUnit) -> Result<Self, String> {
        let load = |role, name: &Arc<str>| {
            let array = batch.column_by_name(name).ok_or_else(|| format!("a batch lacks the column '{name}'"))?;
            Ok::<_, String>((Values::new(role, array)?, name.clone()))
        };
        let optional = |role, name: &Option<Arc<str>>| name.as_ref().map(|name| load(role, name)).transpose();
        let columns = Roles {
            user: load(Role::User, &names.user)?,
            item: load(Role::Item, &names.item)?,
            time: optional(Role::Time, &names.time)?,
            weight: optional(Role::Weight, &names.weight)?,
            event: optional(Role::Event, &names.event)?,
            context: names.context.iter().map(|name| load(Role::Context, name)).collect::<Result<_, _>>()?,
        };
        Ok(Self { columns, time_unit, rows: batch.num_rows() })
    }

    /// Hands every row to `sink`; `first` is the number of the first.
    pub(super) fn parse<S: RowSink>(&self, source: &Arc<str>, first: u64, sink: &mut S) -> Result<RowCount, S::Error> {
        let mut count = RowCount::default();
        let mut text = Text::default();
        for at in 0..self.rows {
            match self.row(at, &mut text) {
                Ok(row) => {
                    count.good += 1;
                    sink.row(row)?;
                }
                Err(reason) => {
                    count.bad += 1;
                    let place = Place::Row(first + at as u64);
                    sink.bad(BadRow { source: source.clone(), place, reason, raw: Cow::Owned(self.render(at)) })?;
                }
            }
        }
        Ok(count)
    }

    #[inline]
    fn row<'a>(&'a self, at: usize, text: &'a mut Text) -> Result<Row<'a>, Reason> {
        let columns = &self.columns;
        for (role, (values, _)) in columns.fixed() {
            if values.array().is_null(at) {
                return Err(Reason::WrongType { role, found: "null", needed: needed(role) });
            }
        }
        let user = columns.user.0.word(at, &mut text.user);
        check_id(Role::User, user, columns.user.0.is_utf8())?;
        let item = columns.item.0.word(at, &mut text.item);
        check_id(Role::Item, item, columns.item.0.is_utf8())?;
        let time = columns.time.as_ref().map(|(values, _)| values.time(at, self.time_unit)).transpose()?;
        let weight = columns.weight.as_ref().map(|(values, _)| values.weight(at)).transpose()?;
        let event = match &columns.event {
            Some((values, _)) => {
                let event = values.word(at, &mut text.event);
                check_utf8(Role::Event, event, values.is_utf8())?;
                Some(event)
            }
            None => None,
        };
        let mut context = None;
        if !columns.context.is_empty() {
            text.context.clear();
            for (values, _) in &columns.context {
                if values.array().is_null(at) {
                    return Err(Reason::WrongType {
                        role: Role::Context,
                        found: "null",
                        needed: needed(Role::Context),
                    });
                }
                let value = values.word(at, &mut text.value);
                check_utf8(Role::Context, value, values.is_utf8())?;
                ContextKey::put(value, &mut text.context);
            }
            context = Some(ContextKey(&text.context));
        }
        Ok(Row { user, item, time, weight, event, context })
    }

    /// A row in text, for messages.
    fn render(&self, at: usize) -> Vec<u8> {
        let shown = self.columns.each().map(|(_, (values, name))| format!("{name}={}", values.render(at)));
        shown.collect::<Vec<_>>().join(", ").into_bytes()
    }
}

impl Values {
    fn new(role: Role, array: &ArrayRef) -> Result<Self, String> {
        let unsupported = || format!("a column of type {} cannot be read as {role}", array.data_type());
        let target = target(role, array.data_type()).ok_or_else(unsupported)?;
        let brought = |to: &DataType| {
            if array.data_type() == to { Ok(array.clone()) } else { cast(array, to).map_err(|e| e.to_string()) }
        };
        let array = brought(&target)?;
        Ok(match target {
            DataType::Utf8View => Self::Text(array.as_string_view().clone()),
            DataType::BinaryView => Self::Binary(array.as_binary_view().clone()),
            DataType::Int64 => Self::Integer(array.as_primitive::<Int64Type>().clone()),
            DataType::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().clone()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>().clone()),
            DataType::Date64 | DataType::Timestamp(..) => {
                let milliseconds = cast(&array, &DataType::Int64).map_err(|e| e.to_string())?;
                Self::Moment(milliseconds.as_primitive::<Int64Type>().clone())
            }
            _ => return Err(unsupported()),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Text(array) => array,
            Self::Binary(array) => array,
            Self::Integer(array) | Self::Moment(array) => array,
            Self::Unsigned(array) => array,
            Self::Float(array) => array,
        }
    }

    /// Whether the text is known to be UTF-8.
    fn is_utf8(&self) -> bool {
        !matches!(self, Self::Binary(_))
    }

    /// The value as text; what is no text already is written to `text`.
    #[inline]
    fn word<'a>(&'a self, at: usize, text: &'a mut Vec<u8>) -> &'a [u8] {
        fn write(text: &mut Vec<u8>, value: impl std::fmt::Display) -> &[u8] {
            text.clear();
            // Writing to memory does not fail.
            let _ = write!(text, "{value}");
            text
        }
        match self {
            Self::Text(array) => array.value(at).as_bytes(),
            Self::Binary(array) => array.value(at),
            Self::Integer(array) | Self::Moment(array) => write(text, array.value(at)),
            Self::Unsigned(array) => write(text, array.value(at)),
            Self::Float(array) => write(text, array.value(at)),
        }
    }

    fn time(&self, at: usize, unit: TimeUnit) -> Result<i64, Reason> {
        match self {
            // The type has its unit, so that only the range remains to be checked.
            Self::Moment(array) => integer_time(array.value(at), TimeUnit::Milliseconds),
            Self::Integer(array) => integer_time(array.value(at), unit),
            Self::Float(array) => float_time(array.value(at), unit),
            text => parse_time(text.word(at, &mut Vec::new()), unit),
        }
    }

    fn weight(&self, at: usize) -> Result<f32, Reason> {
        match self {
            Self::Float(array) => check_weight(array.value(at) as f32, || array.value(at).to_string()),
            text => parse_weight(text.word(at, &mut Vec::new())),
        }
    }

    fn render(&self, at: usize) -> String {
        if self.array().is_null(at) { "null".into() } else { excerpt(self.word(at, &mut Vec::new())) }
    }
}
