//! The whole way: scatter, number the items, drop the rare, and write users in order.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::budget::Budget;
use super::contexts;
use super::error::IngestError;
use super::items::ItemTable;
use super::journal::{Journal, Mark};
use super::options::{IngestOptions, IngestRun, Inputs};
use super::partial::Partial;
use super::read::{Input, ReadError, Source, sources};
use super::read_state::{ReadState, RowCounts};
use super::rejects::Rejects;
use super::scatter::{Checkpoints, Scattered, scatter};
use super::sorting::{Shelf, Sorting};
use super::spill::TempSpace;
use super::split::{Assign, Split};
use super::summary::{IngestCounts, IngestSummary, Thresholds};
use super::users::{Encode, Tally};
use crate::context::{ByteSize, Context};
use crate::dataset::{Columns, DatasetLock, DatasetWriter, Description, Part, is_dataset};
use crate::storage::return_large_buffers;

/// Names in the folder of an ingest in the making.
const TEMPORARY: &str = "temporary";
const REJECTS: &str = "rejects.ndjson";

/// Turns logs into the dataset `output`, which appears whole or not at all. `run` says what to do about an earlier one, and
/// about an interrupted ingest to the same place; `true` and `false` stand for `force` and nothing else.
///
/// The result depends on the rows and the options only: neither on the order of the rows nor on threads and memory, nor on
/// whether it was interrupted and resumed. Memory stays within `ctx.memory()`, of which at least 64 MiB are needed; the
/// folder `OUTPUT.partial` takes about as much as the log does uncompressed, and as the dataset once reading was made
/// durable. Time: O(rows · log(rows a partition)).
///
/// When it is stopped while waiting for a pipe, one thread keeps waiting until the pipe has data or is closed.
///
/// # Errors
/// See [`IngestError`]; after any of them, `output` is what it was before, unless only the file of rejects could not be
/// renamed at the very end. After [`IngestError::Kept`] there is something
/// to be resumed.
pub fn ingest(
    inputs: &Inputs,
    options: &IngestOptions,
    output: &Path,
    run: impl Into<IngestRun>,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    return_large_buffers();
    let run = run.into();
    // Held until the new one is there: who changes the one that it replaces would change the new one.
    let replaced = match run.force && is_dataset(output) {
        true => Some(DatasetLock::claim_to_replace(output)?),
        false => None,
    };
    let summary = ingest_with(inputs, options, output, run, Whole::All, Budget::new, ctx);
    drop(replaced);
    summary
}

/// Turns logs into a dataset that is to be merged into another one with the columns `others`.
pub(super) fn ingest_piece(
    inputs: &Inputs,
    options: &IngestOptions,
    (output, others): (&Path, Columns),
    run: IngestRun,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    ingest_with(inputs, options, output, run, Whole::Piece(others), Budget::new, ctx)
}

/// Whether the rows are all that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// They are.
    All,
    /// They are merged with others: users without interactions are kept, for they may have some there, and so may types of
    /// exposures be there that no row has. Those have these columns.
    Piece(Columns),
}

/// All sources, each with the part that its rows belong to; the rows of [`Part::Train`] may be split further.
pub(super) fn find_sources(inputs: &Inputs, options: &IngestOptions) -> Result<Vec<(Source, Part)>, IngestError> {
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
    let mut names = HashMap::new();
    for (source, _) in found.iter().filter(|(source, _)| source.bytes().is_some()) {
        let Some(file) = source.path().and_then(|path| std::fs::metadata(path).ok()) else { continue };
        // By this, links are the same file, too.
        if let Some(first) = names.insert((file.dev(), file.ino()), source.name()) {
            return Err(ReadError::Twice { name: source.name().into(), first: first.into() }.into());
        }
    }
    Ok(found)
}

/// A guess at the bytes of text, from which the number of partitions follows.
pub(super) fn expected_bytes(sources: &[(Source, Part)]) -> Option<u64> {
    let text = |source: &Source| {
        let name = source.name();
        let packed = [".gz", ".zst", ".parquet"].iter().any(|e| name.ends_with(e));
        Some(source.bytes()? * if packed { 6 } else { 1 })
    };
    sources.iter().map(|(source, _)| text(source)).sum()
}

/// [`ingest`] with a budget of `budget`'s choice.
pub(super) fn ingest_with(
    inputs: &Inputs,
    options: &IngestOptions,
    output: &Path,
    run: IngestRun,
    whole: Whole,
    budget: impl Fn(&Context, Option<u64>, Option<usize>) -> Result<Budget, IngestError>,
    ctx: &Context,
) -> Result<IngestSummary, IngestError> {
    // Without a slash at the end, which would put files that are named after the output into it.
    let output = &output.components().collect::<PathBuf>();
    options.validate(inputs)?;
    let sources = find_sources(inputs, options)?;
    let marks = sources.iter().map(|(source, part)| Mark::of(source, *part)).collect::<Result<Vec<_>, _>>()?;
    let (partial, journal) = Partial::claim(output, run.leftover, ctx)?;
    if let Some(journal) = &journal {
        journal.check(&marks, options, partial.folder())?;
    }
    let resume = journal.map(|journal| journal.read);
    let (rest, context_bytes) = contexts::shared_out(options, ctx)?;
    let budget = budget(&rest, expected_bytes(&sources), resume.as_ref().map(ReadState::partitions))?;
    let budget = (&budget, context_bytes);
    let work = Work { inputs, options, output, run, whole, budget, partial: &partial, marks: &marks, ctx };
    let result = work.run(sources, resume);
    match result {
        Ok(_) => partial.discard(),
        Err(ref error) if error.is_final() => partial.discard(),
        Err(error) if partial.is_journaled() && error.is_passing() => {
            let (folder, held) = (partial.folder().to_path_buf(), ByteSize(partial.bytes()));
            return Err(IngestError::Kept { source: Box::new(error), folder, held });
        }
        Err(_) => {}
    }
    result
}

/// All that an ingest needs to know.
struct Work<'a> {
    inputs: &'a Inputs,
    options: &'a IngestOptions,
    output: &'a Path,
    run: IngestRun,
    whole: Whole,
    /// And bytes beside it for combinations of context.
    budget: (&'a Budget, usize),
    partial: &'a Partial,
    marks: &'a [Mark],
    ctx: &'a Context,
}

fn rejects_path(options: &IngestOptions, output: &Path) -> PathBuf {
    options.rejects.clone().unwrap_or_else(|| {
        let mut name = output.as_os_str().to_os_string();
        name.push(".rejects.ndjson");
        name.into()
    })
}

impl Work<'_> {
    fn run(&self, sources: Vec<(Source, Part)>, resume: Option<ReadState>) -> Result<IngestSummary, IngestError> {
        let Self { inputs, options, output, budget, partial, ctx, .. } = *self;
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
        // Of what an interrupted run left, the dataset is made again.
        partial.clear_but(&[TEMPORARY, REJECTS])?;
        let mut writer =
            DatasetWriter::create_within(partial.folder(), output, self.run.force, &parts, options.hash_seed)?;
        // Also where bad rows are errors: what an earlier run left there would seem to belong to this dataset.
        let kept = resume.as_ref().map(|state| state.rejects).unwrap_or_default();
        let rejects = Rejects::create(&rejects_path(options, output), self.run.force, &partial.path(REJECTS), kept)?;
        let space = TempSpace::create(partial.path(TEMPORARY))?;
        if let Some(state) = &resume {
            ctx.message(&format!("resuming behind {} rows", state.rows()));
        }
        let save = |state| partial.save(&Journal::new(self.marks.to_vec(), options, state)?);
        let checkpoints = Checkpoints { resume, every: self.run.checkpoint, save: &save };
        let scattered = scatter(sources, options, self.whole, budget, &space, &rejects, checkpoints, ctx)?;
        let budget = budget.0;
        let Scattered { layout, records, users, items, counts: rows, histogram, sources, .. } = scattered;
        let Scattered { events, misspelt, contexts, places, .. } = scattered;
        let mut counts = counts_of(&rows);
        let reading_seconds = begun.elapsed().as_secs_f64();
        counts.rows_read = sources.iter().map(|s| s.rows).sum();
        if counts.rows_read == 0 {
            return Err(IngestError::Empty { sources: sources.into_iter().map(|source| source.name).collect() });
        }
        let empty = sources.iter().filter(|source| source.rows == 0);
        let mut warnings: Vec<String> = empty.map(|source| format!("{}: not a single row", source.name)).collect();
        if rows.kept == if self.whole == Whole::All { rows.exposed } else { 0 } {
            return Err(counts.no_rows());
        }
        match misspelt {
            Some(error) if self.whole == Whole::All => return Err(error),
            _ => {}
        }
        counts.thresholds = thresholds(options, histogram.as_ref());

        // All items, numbered by hash.
        let per_item = 4 * parts.len() + usize::from(layout.exposed) + if options.has_core() { 13 } else { 0 };
        let (share, most) = (budget.sort_share(0), budget.item_bytes);
        let items = ItemTable::build(items, options.hash_seed, &space, share, most, per_item, ctx)?;
        let files = (2 * parts.len() + 2) << 20;
        let held = items.bytes() + items.len() * per_item + files;
        let share = budget.sort_share(held);
        // Blocks of the dataset end where ranges of hashes do that follow from the rows alone. A range lies in one unit of
        // work, so that the blocks are the same whatever the partitions.
        let ranges = (rows.kept >> budget.range_rows).max(1).next_power_of_two();
        let n = budget.partitions.min(usize::try_from(ranges).unwrap_or(usize::MAX));
        let sorting = Sorting {
            records: Shelf::new(records, n),
            users: Shelf::new(users, n),
            units: n,
            layout,
            places: &places,
            items: &items,
            thresholds: counts.thresholds,
            record_share: share / 4 * 3,
            id_share: share / 4,
            user_rows: budget.user_rows(held, layout.context),
            rows: rows.kept,
            pairs: AtomicU64::new(0),
            options,
            whole: self.whole,
            budget,
            space: &space,
            ctx,
        };
        let columns = Columns { time: layout.time, weight: layout.weight, count: true, event: layout.event };
        let assign = Assign { split: options.split, valid_split: options.valid_split, seed: options.seed };
        let encode = Encode {
            columns,
            exposed: layout.exposed,
            context: layout.context,
            parts: &parts,
            assign,
            tally: Tally::default(),
            range_bits: ranges.ilog2(),
            ctx,
        };
        if options.has_core() {
            sorting.write_core(&encode, &mut writer, &mut counts)?;
        } else {
            sorting.write_all(&encode, &mut writer)?;
        }
        counts.merged = rows.kept - rows.exposed - sorting.pairs.load(Ordering::Relaxed);
        counts.users_not_split = encode.tally.not_split.load(Ordering::Relaxed);
        if self.whole == Whole::All && encode.tally.train.load(Ordering::Relaxed) == 0 {
            let flag = match (options.split, options.valid_split) {
                (Split::None, Split::None) => "the inputs",
                (Split::None, _) => "--valid-split",
                _ => "--split",
            };
            return Err(IngestError::NothingToTrain { held_out: encode.tally.held_out.into_inner(), flag });
        }
        drop(sorting);
        drop(items);
        // The temporary files stay until the dataset is there: a journal that names them may outlive this process.
        let peak_temp_bytes = space.peak();
        ctx.check()?;
        writer.set_columns(columns);
        let rejects = rejects.finish()?;
        let manifest = writer.finish(Description {
            options: serde_json::to_value(options).map_err(|e| IngestError::Options(e.to_string()))?,
            ingest: serde_json::to_value(&counts).map_err(|e| IngestError::Options(e.to_string()))?,
            sources,
            events,
            contexts,
        })?;
        let rejects = rejects.publish()?;
        if self.whole == Whole::All {
            let empty = manifest.parts.iter().filter(|(_, part)| part.interactions == 0);
            let what = |part: &Part| format!("the {} part is empty: nothing in the log belongs there", part.name());
            warnings.extend(empty.map(|(part, _)| what(part)));
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(IngestSummary {
            users: manifest.users,
            items: manifest.items,
            parts: manifest.parts,
            exposures: manifest.exposures,
            contexts: manifest.contexts,
            fingerprint: manifest.fingerprint,
            rejects,
            rows_per_second: counts.rows_read as f64 / seconds,
            seconds,
            reading_seconds,
            peak_temp_bytes,
            warnings,
            counts,
        })
    }
}

fn counts_of(rows: &RowCounts) -> IngestCounts {
    IngestCounts {
        rejected: rows.rejected.values().sum(),
        rejected_by_reason: rows.rejected.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
        filtered_by_event: rows.by_event,
        filtered_by_weight: rows.by_weight,
        exposure_rows: rows.exposed,
        ..IngestCounts::default()
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
