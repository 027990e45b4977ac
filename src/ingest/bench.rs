//! The stages of ingest, alone and together, beside a plain copy of the same bytes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::budget::Budget;
use super::error::IngestError;
use super::options::{IngestOptions, IngestRun, Inputs};
use super::pipeline::{expected_bytes, find_sources, ingest};
use super::read::{BadRow, Row, RowSink, Scratch, Source};
use super::reading::{Place, Plan, Reader};
use crate::context::Context;
use crate::dataset::Part;
use crate::storage::IoContext;
use crate::storage::disk::{self, DiskFile};

/// Measurements are repeated so often; the median counts.
const REPEATS: usize = 3;

/// Rates of ingest. Each is the median of three.
#[derive(Clone, Debug, Serialize)]
pub struct IngestBench {
    /// Rows of the log, good and bad.
    pub rows: u64,
    /// Its bytes as stored.
    pub bytes: u64,
    /// Threads that parse and sort.
    pub threads: usize,
    /// Copying the log's bytes to a new file, one thread: rows a second that would be. The limit, for ingest reads and
    /// writes them, too.
    pub copy_rows_per_second: f64,
    /// The same in bytes.
    pub copy_bytes_per_second: f64,
    /// Reading, decompressing and parsing alone; the rows are dropped.
    pub read_rows_per_second: f64,
    /// The same, and scattering rows and ids to temporary files.
    pub scatter_rows_per_second: f64,
    /// Ordering the items; sorting, merging, encoding and writing the users.
    pub merge_rows_per_second: f64,
    /// The whole ingest.
    pub rows_per_second: f64,
    /// The most that temporary files held at once.
    pub peak_temp_bytes: u64,
}

/// Measures ingesting `inputs` in `folder`, where a copy and a dataset are made and removed again.
///
/// The log's pages are in the system's cache, where it fits: the first reading is not counted.
///
/// # Errors
/// Those of [`ingest()`].
pub fn bench_ingest(
    inputs: &Inputs,
    options: &IngestOptions,
    folder: &Path,
    ctx: &Context,
) -> Result<IngestBench, IngestError> {
    let sources = find_sources(inputs, options)?;
    let bytes = sources.iter().filter_map(|(s, _)| s.bytes()).sum();
    let budget = Budget::new(ctx, expected_bytes(&sources), None)?;
    let rows = parse_all(&sources, options, &budget, ctx)?;
    let (mut copies, mut reads, mut scatters, mut merges, mut wholes) = (vec![], vec![], vec![], vec![], vec![]);
    let mut peak_temp_bytes = 0;
    for _ in 0..REPEATS {
        let begun = Instant::now();
        copy(&sources, &folder.join("bench.copy"), ctx)?;
        copies.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        parse_all(&sources, options, &budget, ctx)?;
        reads.push(begun.elapsed().as_secs_f64());
        let output = folder.join("bench.pec");
        let summary = ingest(inputs, options, &output, IngestRun::from(true), ctx)?;
        disk::remove_tree(&output).at(&output, "remove")?;
        scatters.push(summary.reading_seconds);
        merges.push(summary.seconds - summary.reading_seconds);
        wholes.push(summary.seconds);
        peak_temp_bytes = summary.peak_temp_bytes;
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[REPEATS / 2]
    };
    let rate = |seconds| rows as f64 / median(seconds);
    let copy_rows_per_second = rate(copies);
    Ok(IngestBench {
        rows,
        bytes,
        threads: budget.workers,
        copy_rows_per_second,
        copy_bytes_per_second: copy_rows_per_second * bytes as f64 / rows.max(1) as f64,
        read_rows_per_second: rate(reads),
        scatter_rows_per_second: rate(scatters),
        merge_rows_per_second: rate(merges),
        rows_per_second: rate(wholes),
        peak_temp_bytes,
    })
}

/// Copies all files into one through a buffer; the data is on the medium at the end, as a dataset's is.
fn copy(sources: &[(Source, Part)], to: &Path, ctx: &Context) -> Result<(), IngestError> {
    disk::remove_tree(to).at(to, "remove")?;
    let mut out = DiskFile::create_new(to).at(to, "create")?;
    let mut buffer = vec![0; 1 << 20];
    for path in sources.iter().filter_map(|(source, _)| source.path()) {
        let mut file = File::open(path).at(path, "open")?;
        loop {
            ctx.check()?;
            let count = file.read(&mut buffer).at(path, "read")?;
            if count == 0 {
                break;
            }
            out.write_all(&buffer[..count]).at(to, "write")?;
        }
    }
    out.sync().at(to, "sync")?;
    Ok(disk::remove_file(to).at(to, "remove")?)
}

/// Drops rows.
struct Sink;

impl RowSink for Sink {
    type Error = IngestError;

    fn row(&mut self, row: Row<'_>) -> Result<(), IngestError> {
        // So that the compiler cannot leave out what makes a row.
        std::hint::black_box(row);
        Ok(())
    }

    fn bad(&mut self, bad: BadRow<'_>) -> Result<(), IngestError> {
        std::hint::black_box(bad);
        Ok(())
    }
}

/// Reads and parses everything as ingest does; returns the rows.
fn parse_all(
    sources: &[(Source, Part)],
    options: &IngestOptions,
    budget: &Budget,
    ctx: &Context,
) -> Result<u64, IngestError> {
    let plan = Plan {
        sources: sources.to_vec(),
        read: options.read.clone(),
        others: None,
        by_time: false,
        exposed: options.has_exposures(),
        limits: budget.limits,
        queue: budget.queue,
        leg: std::time::Duration::MAX,
        ctx: ctx.clone(),
    };
    let (reader, legs) = Reader::new(plan, Place::default());
    let rows = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || reader.run());
        let parsers: Vec<_> = legs
            .recv()
            .into_iter()
            .flat_map(|leg| (0..budget.workers).map(move |_| leg.blocks.clone()))
            .map(|blocks| {
                let rows = &rows;
                scope.spawn(move || {
                    let mut scratch = Scratch::default();
                    for message in blocks {
                        ctx.check()?;
                        let count = message?.block.parse(&mut scratch, &mut Sink)?;
                        rows.fetch_add(count.good + count.bad, Ordering::Relaxed);
                    }
                    Ok::<_, IngestError>(())
                })
            })
            .collect();
        for parser in parsers {
            match parser.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match reader.join() {
            Ok(()) => Ok(rows.load(Ordering::Relaxed)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
