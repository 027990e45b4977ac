//! What an ingest will take, found out before it starts: by counting the log, and by ingesting its beginning.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::error::IngestError;
use super::options::{IngestOptions, IngestRun, Inputs};
use super::pipeline::{find_sources, ingest};
use super::read::{BadRow, Column, Format, Input, Limits, ReadOptions, Row, RowSink, Scratch, TimeUnit, open};
use super::survey::{Survey, survey};
use crate::context::{ByteSize, Context};
use crate::dataset::Part;
use crate::storage::disk::DiskFile;
use crate::storage::{self, IoContext, StorageError};

/// Rows of the log that are ingested to see how fast that is.
const SAMPLE: u64 = 2_000_000;

/// What an ingest will take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IngestPlan {
    /// What is in the log.
    pub survey: Survey,
    /// The budget, which it stays within.
    pub memory: ByteSize,
    /// Temporary files at most, in `OUTPUT.partial`; they are gone at the end.
    pub temporary: ByteSize,
    /// The dataset, about, before rare users and items are dropped.
    pub dataset: ByteSize,
    /// How long it takes, about; `None` if there is nothing to go by.
    pub seconds: Option<f64>,
}

/// Plans the ingest of a log to a dataset in `folder`, where a sample of it, its first two million rows, is ingested and
/// removed again. What `sampled` finds out about the sample's dataset is returned beside the plan.
///
/// # Errors
/// As for [`survey`] and [`ingest`](super::ingest()), and if there is not a single row; a disk that does not hold the
/// sample is none, but said.
pub fn plan_ingest<T>(
    inputs: &Inputs,
    options: &IngestOptions,
    folder: &Path,
    ctx: &Context,
    sampled: impl FnOnce(&Path) -> T,
) -> Result<(IngestPlan, Option<T>), IngestError> {
    let survey = survey(inputs, options, ctx)?;
    if survey.rows + survey.rejected + survey.exposure_rows == 0 {
        let sources = find_sources(inputs, options)?;
        return Err(IngestError::Empty {
            sources: sources.iter().map(|(source, _)| source.name().to_string()).collect(),
        });
    }
    let rehearsed = match rehearse(inputs, options, &survey, folder, ctx, sampled) {
        Err(error) if error.is_full() => {
            ctx.message(&format!("not timed: {error}"));
            None
        }
        rehearsed => rehearsed?,
    };
    let (seconds, sampled) = rehearsed.unzip();
    let plan = IngestPlan {
        survey,
        memory: ctx.memory(),
        temporary: ByteSize(survey.temporary_bytes),
        dataset: ByteSize(dataset_bytes(&survey)),
        seconds,
    };
    Ok((plan, sampled))
}

/// Bytes of the dataset that a log becomes; see `docs/format.md`. Most of it follows from counts; how many containers of
/// 65,536 items a user's bitmap has is what is expected of a user with an average number of items spread evenly.
fn dataset_bytes(survey: &Survey) -> u64 {
    let Survey { rows, users, items, interactions, exposures, columns, user_id_bytes, item_id_bytes, .. } = *survey;
    let count = u64::from(interactions < rows) * 4 + u64::from(survey.context_columns > 0) * 4;
    let row = 4 + u64::from(columns.time) * 8 + u64::from(columns.weight) * 4 + u64::from(columns.event) + count;
    let containers = (items as f64 / 65_536.0).max(1.0);
    let each = interactions as f64 / users.max(1) as f64;
    let touched = containers * (1.0 - (1.0 - 1.0 / containers).powf(each));
    // Two bytes an item, and a header, keys and offsets: the portable format of roaring bitmaps.
    let positives = interactions as f64 * 2.0 + users as f64 * (8.0 + 8.0 * touched);
    let shown = if exposures > 0 { (exposures + users) * 4 } else { 0 };
    shown + interactions * row + users * 8 + positives as u64 + user_id_bytes + item_id_bytes + users * 4 + items * 8
}

/// How long it takes: what counting took, and for each row what ingesting a sample took longer than counting it.
fn rehearse<T>(
    inputs: &Inputs,
    options: &IngestOptions,
    survey_of_all: &Survey,
    folder: &Path,
    ctx: &Context,
    sampled: impl FnOnce(&Path) -> T,
) -> Result<Option<(f64, T)>, IngestError> {
    if survey_of_all.rows == 0 {
        return Ok(None);
    }
    let scratch = storage::Scratch::new(folder, "sample")?;
    let log = scratch.path().join("sample.csv");
    let exposure_events = write_sample(inputs, options, &log, ctx)?;
    let columns = survey_of_all.columns;
    let named = |name: &str, is_there: bool| is_there.then(|| Column::Name(name.to_string()));
    let read = ReadOptions {
        format: Some(Format::Csv),
        header: Some(true),
        user: named("sampled user", true),
        item: named("sampled item", true),
        time: named("sampled time", columns.time),
        weight: named("sampled weight", columns.weight),
        event: named("sampled event", columns.event),
        context: options.read.context.iter().map(|column| Column::Name(column.to_string())).collect(),
        time_unit: TimeUnit::Milliseconds,
        ..ReadOptions::default()
    };
    let sample = Inputs::from(vec![Input::Path(log)]);
    let options = IngestOptions { read, exposure_events, hash_seed: options.hash_seed, ..IngestOptions::default() };
    let silent = Context::new(ctx.threads(), ctx.memory());
    let counted = survey(&sample, &options, &silent)?;
    ctx.check()?;
    let begun = Instant::now();
    let data = scratch.path().join("sample.pec");
    ingest(&sample, &options, &data, IngestRun::default(), &silent)?;
    let a_row = (begun.elapsed().as_secs_f64() - counted.seconds).max(0.0) / counted.rows.max(1) as f64;
    Ok(Some((survey_of_all.seconds + a_row * survey_of_all.rows as f64, sampled(&data))))
}

/// Writes the first rows of the log's train part as CSV; returns the types of exposures among them.
fn write_sample(
    inputs: &Inputs,
    options: &IngestOptions,
    log: &Path,
    ctx: &Context,
) -> Result<Vec<String>, IngestError> {
    let file = DiskFile::create_new(log).at(log, "create a sample of the log")?;
    let exposures = options.exposure_events.iter().map(|name| (name, false)).collect();
    let mut sink =
        Sample { out: BufWriter::new(file), rows: 0, exposures, context: &options.read.context, log, header: false };
    let mut scratch = Scratch::default();
    'sources: for (source, _) in find_sources(inputs, options)?.iter().filter(|(_, part)| *part == Part::Train) {
        for block in open(source, &options.read, Limits::default())? {
            ctx.check()?;
            if sink.rows >= SAMPLE {
                break 'sources;
            }
            block?.parse(&mut scratch, &mut sink)?;
        }
    }
    sink.out.flush().at(log, "write a sample of the log")?;
    Ok(sink.exposures.into_iter().filter(|(_, came)| *came).map(|(name, _)| name.clone()).collect())
}

struct Sample<'a> {
    out: BufWriter<DiskFile>,
    rows: u64,
    /// Types of exposures, and whether a row had them.
    exposures: Vec<(&'a String, bool)>,
    context: &'a [Column],
    log: &'a Path,
    header: bool,
}

impl Sample<'_> {
    fn write(&mut self, row: Row<'_>) -> std::io::Result<()> {
        let out = &mut self.out;
        if !self.header {
            self.header = true;
            // Columns of context have their own names, which must be no other's.
            out.write_all(b"sampled user,sampled item")?;
            for (name, is_there) in
                [("time", row.time.is_some()), ("weight", row.weight.is_some()), ("event", row.event.is_some())]
            {
                if is_there {
                    write!(out, ",sampled {name}")?;
                }
            }
            for column in self.context {
                out.write_all(b",")?;
                quoted(out, column.to_string().as_bytes())?;
            }
            out.write_all(b"\n")?;
        }
        quoted(out, row.user)?;
        out.write_all(b",")?;
        quoted(out, row.item)?;
        if let Some(time) = row.time {
            write!(out, ",{time}")?;
        }
        if let Some(weight) = row.weight {
            write!(out, ",{weight}")?;
        }
        if let Some(event) = row.event {
            self.exposures.iter_mut().filter(|(name, _)| name.as_bytes() == event).for_each(|(_, came)| *came = true);
            out.write_all(b",")?;
            quoted(out, event)?;
        }
        for value in row.context.iter().flat_map(|context| context.values()) {
            out.write_all(b",")?;
            quoted(out, value)?;
        }
        out.write_all(b"\n")
    }
}

/// A field, quoted where it must be.
fn quoted(out: &mut impl Write, field: &[u8]) -> std::io::Result<()> {
    if !field.iter().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        return out.write_all(field);
    }
    out.write_all(b"\"")?;
    for part in field.split_inclusive(|b| *b == b'"') {
        out.write_all(part)?;
        if part.ends_with(b"\"") {
            out.write_all(b"\"")?;
        }
    }
    out.write_all(b"\"")
}

impl RowSink for Sample<'_> {
    type Error = StorageError;

    fn row(&mut self, row: Row<'_>) -> Result<(), StorageError> {
        self.rows += 1;
        self.write(row).at(self.log, "write a sample of the log")
    }

    fn bad(&mut self, _: BadRow<'_>) -> Result<(), StorageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_ingest_then_takes() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.csv");
        let mut text = String::from("user,item,time\n");
        for row in 0u64..60_000 {
            // A few hundred repeats, and ids that must be quoted.
            let (user, item) = (row * 7919 % 3_001, row * row % 70_001);
            text += &format!("\"user, \"\"{user}\"\"\",i{item},{}\n", 1_600_000_000 + row);
        }
        std::fs::write(&log, text).unwrap();
        let ctx = Context::new(2, ByteSize(128 << 20));
        let (inputs, options) = (Inputs::from(vec![Input::Path(log)]), IngestOptions::default());
        let (plan, sampled) = plan_ingest(&inputs, &options, folder.path(), &ctx, Path::exists).unwrap();
        assert_eq!(sampled, Some(true));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the sample is gone");
        let data = folder.path().join("log.pec");
        let done = ingest(&inputs, &options, &data, false, &ctx).unwrap();
        let near = |what: &str, planned: u64, actual: u64, share: f64| {
            let off = planned as f64 / actual as f64 - 1.0;
            assert!(off.abs() <= share, "{what}: planned {planned}, was {actual}");
        };
        assert_eq!(plan.survey.rows, done.counts.rows_read);
        near("users", plan.survey.users, done.users.into(), 0.02);
        near("items", plan.survey.items, done.items.into(), 0.02);
        near("interactions", plan.survey.interactions, done.parts[0].1.interactions, 0.02);
        near("temporary files", plan.temporary.0, done.peak_temp_bytes, 0.25);
        let dataset = crate::dataset::Dataset::open(&data).unwrap();
        near("dataset", plan.dataset.0, dataset.manifest().files.iter().map(|file| file.bytes).sum(), 0.25);
        assert!(plan.seconds.is_some_and(|seconds| seconds > 0.0));
    }
}
