//! Rows as Arrow columns, for Parquet.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema};

use super::config::SynthConfig;
use super::rows::{EVENTS, Row};

/// The columns user, item and time (seconds since 1970), and weight and event where asked for; none is ever null.
pub(super) fn schema(config: &SynthConfig) -> Arc<Schema> {
    let id = if config.integer_ids { DataType::Int64 } else { DataType::Utf8 };
    let mut fields = vec![
        Field::new("user", id.clone(), false),
        Field::new("item", id, false),
        Field::new("time", DataType::Int64, false),
    ];
    if config.weights {
        fields.push(Field::new("weight", DataType::Float32, false));
    }
    if config.events {
        fields.push(Field::new("event", DataType::Utf8, false));
    }
    Arc::new(Schema::new(fields))
}

/// Ids under construction: text or integers.
enum Ids {
    Text(StringBuilder, char),
    Integer(Int64Builder),
}

impl Ids {
    fn new(config: &SynthConfig, letter: char) -> Self {
        if config.integer_ids { Self::Integer(Int64Builder::new()) } else { Self::Text(StringBuilder::new(), letter) }
    }

    fn push(&mut self, number: u64, text: &mut String) {
        use std::fmt::Write;
        match self {
            Self::Text(builder, letter) => {
                text.clear();
                // Writing to a String cannot fail.
                let _ = write!(text, "{letter}{number}");
                builder.append_value(&*text);
            }
            Self::Integer(builder) => builder.append_value(number as i64),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut builder, _) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Columns under construction.
pub(super) struct Columns {
    schema: Arc<Schema>,
    users: Ids,
    items: Ids,
    times: Int64Builder,
    weights: Option<Float32Builder>,
    events: Option<StringBuilder>,
    text: String,
}

impl Columns {
    pub(super) fn new(config: &SynthConfig) -> Self {
        Self {
            schema: schema(config),
            users: Ids::new(config, 'u'),
            items: Ids::new(config, 'i'),
            times: Int64Builder::new(),
            weights: config.weights.then(Float32Builder::new),
            events: config.events.then(StringBuilder::new),
            text: String::new(),
        }
    }

    /// Appends the rows of one user.
    pub(super) fn write(&mut self, user: u64, rows: &[Row]) {
        for row in rows {
            self.users.push(user, &mut self.text);
            self.items.push(u64::from(row.item), &mut self.text);
            self.times.append_value(row.time);
            if let Some(weights) = &mut self.weights {
                weights.append_value(f32::from(row.halves) / 2.0);
            }
            if let Some(events) = &mut self.events {
                events.append_value(EVENTS[row.event as usize]);
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let mut arrays = vec![self.users.finish(), self.items.finish(), Arc::new(self.times.finish()) as ArrayRef];
        if let Some(weights) = &mut self.weights {
            arrays.push(Arc::new(weights.finish()));
        }
        if let Some(events) = &mut self.events {
            arrays.push(Arc::new(events.finish()));
        }
        RecordBatch::try_new(self.schema, arrays)
    }
}
