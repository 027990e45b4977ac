//! The whole way: scatter, number the items, drop the rare, and write users in order.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::budget::Budget;
use super::error::IngestError;
use super::ids::SortedIds;
use super::items::ItemTable;
use super::kcore::{self, Core, Staged};
use super::merge::MergeRecords;
use super::options::{IngestOptions, Inputs, OnError};
use super::read::{Input, ReadError, Source, sources};
use super::record::SortedRecords;
use super::rejects::Rejects;
use super::scatter::{RowCounts, Scattered, scatter};
use super::spill::{Spill, TempSpace};
use super::split::{Assign, Split};
use super::summary::{IngestCounts, IngestSummary, Thresholds};
use super::users::{Encode, Tally, in_order, in_parallel};
use crate::context::{Context, Unit};
use crate::dataset::{Columns, DatasetWriter, Description, Part};

/// Turns logs into the dataset `output`, which appears whole or not at all; `force` replaces an earlier one.
///
/// The result depends on the rows and the options only: neither on the order of the rows nor on threads and memory.
/// Memory stays within `ctx.memory()`, of which at least 64 MiB are needed; temporary files beside the output take about
/// as much as the log does uncompressed. Time: O(rows · log(rows a partition)).
///
/// When it is stopped while waiting for a pipe, one thread keeps waiting until the pipe has data or is closed.
///
/// # Errors
/// See [`IngestError`]; after any of them, `output` is what it was before.
pub fn ingest(
    inputs: &Inputs,
    options: &IngestOptions,
    output: &Path,
    force: bool,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    options.validate(inputs)?;
    let found = find_sources(inputs, options)?;
    let budget = Budget::new(ctx, expected_bytes(&found))?;
    ingest_within(found, inputs, options, output, force, &budget, ctx)
}

/// All sources, each with the part that its rows belong to; the rows of [`Part::Train`] may be split further.
fn find_sources(inputs: &Inputs, options: &IngestOptions) -> Result<Vec<(Source, Part)>, IngestError> {
    let lists = [(&inputs.main, Part::Train), (&inputs.valid, Part::Valid), (&inputs.test, Part::Test)];
    let pipes = lists.iter().flat_map(|(list, _)| list.iter()).filter(|i| **i == Input::Stdin).count();
    if pipes > 1 {
        return Err(ReadError::StdinTwice.into());
    }
    let mut found = Vec::new();
    for (list, part) in lists {
        if part == Part::Train || !list.is_empty() {
            found.extend(sources(list, &options.read)?.into_iter().map(|source| (source, part)));
        }
    }
    Ok(found)
}

/// A guess at the bytes of text, from which the number of partitions follows.
fn expected_bytes(sources: &[(Source, Part)]) -> Option<u64> {
    let text = |source: &Source| {
        let name = source.name();
        let packed = [".gz", ".zst", ".parquet"].iter().any(|e| name.ends_with(e));
        Some(source.bytes()? * if packed { 6 } else { 1 })
    };
    sources.iter().map(|(source, _)| text(source)).sum()
}

/// [`ingest`] with sizes of the test's choice.
#[cfg(test)]
pub(super) fn ingest_for_test(
    inputs: &Inputs,
    options: &IngestOptions,
    output: &Path,
    budget: &Budget,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    options.validate(inputs)?;
    ingest_within(find_sources(inputs, options)?, inputs, options, output, true, budget, ctx)
}

fn rejects_path(options: &IngestOptions, output: &Path) -> PathBuf {
    options.rejects.clone().unwrap_or_else(|| {
        let mut name = output.as_os_str().to_os_string();
        name.push(".rejects.ndjson");
        name.into()
    })
}

fn ingest_within(
    sources: Vec<(Source, Part)>,
    inputs: &Inputs,
    options: &IngestOptions,
    output: &Path,
    force: bool,
    budget: &Budget,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    let begun = Instant::now();
    let has = |part: Part, list: &[Input], split: Split| (!list.is_empty() || split != Split::None).then_some(part);
    let parts: Vec<Part> = [
        Some(Part::Train),
        has(Part::Valid, &inputs.valid, options.valid_split),
        has(Part::Test, &inputs.test, options.split),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut writer = DatasetWriter::create(output, force, Columns::default(), &parts, options.hash_seed)?;
    let rejects = match options.on_error {
        OnError::Fail => None,
        OnError::Skip => Some(Rejects::create(&rejects_path(options, output), force)?),
    };
    let space = TempSpace::create(writer.folder().join("temporary"))?;
    let source_count = sources.len();
    let scattered = scatter(sources, options, budget, &space, rejects.as_ref(), ctx)?;
    let Scattered { layout, records, users, items, counts: rows, histogram, sources, events, places } = scattered;
    let mut counts = counts_of(&rows);
    counts.rows_read = sources.iter().map(|s| s.rows).sum();
    if counts.rows_read == 0 {
        let sources = if source_count == 1 { "one file".to_string() } else { format!("{source_count} files") };
        return Err(IngestError::Empty { sources });
    }
    if rows.kept == 0 {
        return Err(no_rows(&counts));
    }
    counts.thresholds = thresholds(options, histogram.as_ref());

    // All items, numbered by hash.
    let items = ItemTable::build(items, options.hash_seed, &space, budget.sort_share(0), budget.item_table, ctx)?;
    let parts_bytes = parts.len() * items.len() * 4;
    let files = (2 * parts.len() + 2) << 20;
    let core_bytes = if options.has_core() { items.len() * 13 } else { 0 };
    let share = budget.sort_share(items.bytes() + parts_bytes + core_bytes + files);
    let record_share = share / 4 * 3;
    let id_share = share / 4;
    // Blocks of the dataset end where ranges of hashes do that follow from the rows alone. A range lies in one unit of
    // work, so that the blocks are the same whatever the partitions.
    let ranges = (rows.kept >> budget.range_rows).max(1).next_power_of_two();
    let n = budget.partitions.min(usize::try_from(ranges).unwrap_or(usize::MAX));
    let (records, users) = (Shelf::new(records, n), Shelf::new(users, n));
    let merge = |at, buffer| {
        let spills = records.take(at);
        let sorted = SortedRecords::new(spills, layout, &places, &space, record_share, ctx, buffer);
        MergeRecords::new(sorted, &items, counts.thresholds)
    };
    let pairs = std::sync::atomic::AtomicU64::new(0);
    let columns = Columns { time: layout.time, weight: layout.weight, count: true, event: layout.event };
    let assign = Assign { split: options.split, valid_split: options.valid_split, seed: options.seed };
    let encode = Encode { columns, parts: &parts, assign, tally: Tally::default(), range_bits: ranges.ilog2(), ctx };
    let sorted_ids = |at| SortedIds::new("user", options.hash_seed, users.take(at), &space, id_share, ctx);
    let mut core_counts = (0, 0, 0);

    if options.has_core() {
        let staged: Vec<Mutex<Option<Staged>>> = (0..n).map(|_| Mutex::new(None)).collect();
        {
            let stage = ctx.stage("merging", Some(rows.kept), Unit::Rows);
            in_parallel(budget.workers, n, |at| {
                let rows = records.bytes(at) / layout.width() as u64;
                let mut source = merge(at, Vec::new());
                let written = Staged::write(&mut source, layout, &space, ctx)?;
                pairs.fetch_add(source.pairs, Ordering::Relaxed);
                *staged[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
                stage.add(rows);
                Ok(())
            })?;
        }
        let staged: Vec<Staged> =
            staged.into_iter().filter_map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        let (min_user, min_item) = (options.min_user_count, options.min_item_count);
        let core = Core::find(&staged, items.len(), min_user, min_item, budget.workers, ctx)?;
        let (all_users, all_pairs) = kcore::totals(&staged);
        core_counts = (all_pairs - core.pairs, all_users - core.users, items.len() as u64 - u64::from(core.items));
        (counts.filtered_by_count, counts.users_dropped, counts.items_dropped) = core_counts;
        if core.pairs == 0 {
            return Err(no_rows(&counts));
        }
        let mut dictionary = writer.start_items()?;
        items.write(&mut dictionary, |item| core.numbers[item as usize] != u32::MAX)?;
        writer.finish_items(dictionary)?;
        let old_numbers = core.old_numbers();
        let stage = ctx.stage("writing users", Some(core.users), Unit::Users);
        in_order(
            budget.workers,
            n,
            budget.waiting,
            || (),
            |(), at, outlet| {
                let mut source = core.users(&staged[at], layout)?;
                encode.partition(&mut source, sorted_ids(at), |item| items.hash(old_numbers[item as usize]), outlet)
            },
            |block| {
                stage.add(block.users() as u64);
                Ok(writer.append(&block)?)
            },
        )?;
    } else {
        let mut dictionary = writer.start_items()?;
        items.write(&mut dictionary, |_| true)?;
        writer.finish_items(dictionary)?;
        let stage = ctx.stage("sorting and writing", Some(rows.kept), Unit::Rows);
        in_order(
            budget.workers,
            n,
            budget.waiting,
            Vec::new,
            |buffer, at, outlet| {
                let rows = records.bytes(at) / layout.width() as u64;
                let mut source = merge(at, std::mem::take(buffer));
                encode.partition(&mut source, sorted_ids(at), |item| items.hash(item), outlet)?;
                pairs.fetch_add(source.pairs, Ordering::Relaxed);
                *buffer = source.records.into_buffer();
                stage.add(rows);
                Ok(())
            },
            |block| Ok(writer.append(&block)?),
        )?;
    }
    counts.merged = rows.kept - pairs.into_inner();
    (counts.filtered_by_count, counts.users_dropped, counts.items_dropped) = core_counts;
    counts.users_not_split = encode.tally.not_split.load(Ordering::Relaxed);
    if encode.tally.train.load(Ordering::Relaxed) == 0 {
        let flag = match (options.split, options.valid_split) {
            (Split::None, Split::None) => "the inputs",
            (Split::None, _) => "--valid-split",
            _ => "--split",
        };
        return Err(IngestError::NothingToTrain { held_out: encode.tally.held_out.into_inner(), flag });
    }
    drop((items, records, users));
    let peak_temp_bytes = space.peak();
    space.remove()?;
    ctx.check()?;
    writer.set_columns(columns);
    let manifest = writer.finish(Description {
        options: serde_json::to_value(options).map_err(|e| IngestError::Options(e.to_string()))?,
        ingest: serde_json::to_value(&counts).map_err(|e| IngestError::Options(e.to_string()))?,
        sources,
        events,
    })?;
    let rejects = match rejects {
        Some(rejects) => rejects.publish()?,
        None => None,
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(IngestSummary {
        users: manifest.users,
        items: manifest.items,
        parts: manifest.parts,
        fingerprint: manifest.fingerprint,
        rejects,
        rows_per_second: counts.rows_read as f64 / seconds,
        seconds,
        peak_temp_bytes,
        counts,
    })
}

/// Temporary files by unit of work, each taken once.
struct Shelf(Vec<Mutex<Vec<Spill>>>);

impl Shelf {
    /// Groups `spills` into `units` of as many consecutive ones each.
    fn new(spills: Vec<Spill>, units: usize) -> Self {
        let each = spills.len() / units;
        let mut spills = spills.into_iter();
        Self((0..units).map(|_| Mutex::new(spills.by_ref().take(each).collect())).collect())
    }

    fn take(&self, at: usize) -> Vec<Spill> {
        std::mem::take(&mut *self.0[at].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn bytes(&self, at: usize) -> u64 {
        self.0[at].lock().unwrap_or_else(PoisonError::into_inner).iter().map(Spill::len).sum()
    }
}

fn counts_of(rows: &RowCounts) -> IngestCounts {
    IngestCounts {
        rejected: rows.rejected.values().sum(),
        rejected_by_reason: rows.rejected.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
        filtered_by_event: rows.by_event,
        filtered_by_weight: rows.by_weight,
        ..IngestCounts::default()
    }
}

fn no_rows(counts: &IngestCounts) -> IngestError {
    IngestError::NoRows {
        read: counts.rows_read,
        rejected: counts.rejected,
        by_event: counts.filtered_by_event,
        by_weight: counts.filtered_by_weight,
        by_count: counts.filtered_by_count,
    }
}

/// The moments of splits by time. A fraction of validation is one of the rows before test.
fn thresholds(options: &IngestOptions, histogram: Option<&super::histogram::Histogram>) -> Thresholds {
    let moment = |split, end| match split {
        Split::TimeAt(time) => Some(time),
        Split::TimeFraction(fraction) => histogram.and_then(|h| h.threshold(fraction, end)),
        _ => None,
    };
    let test = moment(options.split, None);
    Thresholds { test, valid: moment(options.valid_split, test) }
}
