//! Appending: new rows become a dataset of their own by the ordinary ingest, which is then merged into the one that is there.

mod join;
mod numbers;
mod order;
mod summary;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::budget::{Budget, SMALLEST};
use super::contexts;
use super::error::IngestError;
use super::options::{IngestOptions, IngestRun, Inputs, OnError};
use super::pipeline::{find_sources, ingest_piece};
use super::read::Source;
use super::spill::TempSpace;
use super::split::Split;
use crate::context::{Context, Unit};
use crate::dataset::{
    APPEND, Change, ChangeKind, Dataset, DatasetError, DatasetLock, Listed, Manifest, Outcome, Part, Rewrite, Shape,
    check_memory, read_dataset_manifest,
};
use crate::storage::{fingerprint, remove_folder, return_large_buffers};
use join::Join;
pub(super) use join::ROW as APPENDED_ROW;
use numbers::{Contexts, Events, number_items, number_users};
pub use summary::AppendSummary;

/// Where the users are put in order.
const ORDER: &str = ".append/order";

/// The options that rows appended to the dataset at `path` are read with unless others are given: those that it was
/// ingested with as far as they say how a log is read and which rows are dropped. Nothing is held out, and rare users and
/// items are kept.
///
/// # Errors
/// If it is no dataset.
pub fn append_options(path: impl AsRef<Path>) -> Result<IngestOptions, IngestError> {
    let manifest = read_dataset_manifest(path.as_ref())?;
    let options: IngestOptions = serde_json::from_value(manifest.options)
        .map_err(|e| IngestError::Options(format!("{}: options of its ingest: {e}", path.as_ref().display())))?;
    Ok(options.for_appending())
}

impl IngestOptions {
    /// What of them holds for rows that are appended.
    pub(crate) fn for_appending(self) -> Self {
        Self {
            min_user_count: 0,
            min_item_count: 0,
            split: Split::None,
            valid_split: Split::None,
            on_error: OnError::Fail,
            rejects: None,
            ..self
        }
    }
}

/// Appends logs to the dataset at `path`. `options` say how they are read; start from [`append_options`].
///
/// Rows of a pair that is there already are merged into it as ingest merges rows: the later one decides time, event and
/// context, weights and counts are summed. Where `options` and `inputs` hold nothing out, such a pair stays in its part, and
/// new pairs are train; where they do, a pair with rows in several parts belongs to the earliest, with these rows only, as in
/// an ingest of everything at once. New users and items get ids at the end; all others keep theirs.
///
/// The new state appears in one step when all of it is durable; whoever has the dataset open keeps the old one. Chunks
/// without users of the log stay where they are; the others, some 65,536 interactions each, are written anew. Memory: that
/// of [`ingest`](super::ingest()), then 4 bytes an item and part, 4 an item of the log, and some 32 MiB.
///
/// # Errors
/// See [`IngestError`]; after any of them the dataset is what it was before.
pub fn append_ingest(
    inputs: &Inputs,
    options: &IngestOptions,
    path: impl AsRef<Path>,
    run: IngestRun,
    ctx: &Context,
) -> Result<AppendSummary, IngestError> {
    return_large_buffers();
    let begun = Instant::now();
    // Without a slash at the end, which would put files that are named after the dataset into it.
    let path = &path.as_ref().components().collect::<PathBuf>();
    let (lock, manifest) = DatasetLock::claim(path)?;
    lock.remove_unlisted(&manifest)?;
    check_options(options, &manifest)?;
    if ["min_user_count", "min_item_count"].iter().any(|k| manifest.options[*k].as_u64().is_some_and(|n| n > 1)) {
        ctx.message("rare users and items were dropped from this dataset; those of appended rows are kept");
    }
    let again = taken_before(inputs, options, &manifest)?;
    for name in &again {
        ctx.message(&format!("{name}: a file of this name and size was taken before"));
    }
    let number = Rewrite::change_number(&manifest);
    let mut options = options.clone();
    if options.on_error == OnError::Skip && options.rejects.is_none() {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".append-{number}.rejects.ndjson"));
        options.rejects = Some(name.into());
    }
    let piece_path = path.join(APPEND);
    let _piece = Removed(&piece_path);
    let mut read = ingest_piece(inputs, &options, (&piece_path, manifest.columns), run, ctx)?;
    read.warnings.extend(again.iter().map(|name| {
        format!(
            "{name}: a file of this name and size was taken before; if it was the same, its rows were merged into those of \
             then: times, events and contexts are what they were, weights and counts have doubled"
        )
    }));
    let stated = options.split != Split::None
        || options.valid_split != Split::None
        || !inputs.valid.is_empty()
        || !inputs.test.is_empty();
    let piece = Dataset::open(&piece_path)?;
    piece.let_go();
    if let Some(number) = same_rows(&manifest, piece.fingerprint()) {
        let before = if number == 0 { "the first ingest".to_string() } else { format!("append {number}") };
        let text = format!(
            "these rows are those of {before}, whatever their files are called: weights and counts have doubled, and an update \
             trains on them as on new ones"
        );
        ctx.message(&text);
        read.warnings.push(text);
    }
    let base = Dataset::open_as(path, manifest)?;
    base.let_go();
    let manifest = Append { base: &base, piece: &piece, lock: &lock, stated, options: &options, number, ctx }.run()?;
    drop(piece);
    tidy_up(&lock, &manifest, ctx);
    AppendSummary::new(manifest, read, begun.elapsed())
        .ok_or_else(|| DatasetError::Changed { path: path.clone() }.into())
}

/// The files among `inputs` whose name and size are those of one that the dataset was made of.
fn taken_before(inputs: &Inputs, options: &IngestOptions, manifest: &Manifest) -> Result<Vec<String>, IngestError> {
    let taken: HashSet<_> =
        manifest.sources.iter().map(|source| (Path::new(&source.name).file_name(), source.bytes)).collect();
    let again = |source: &Source| {
        let name = source.path()?.file_name();
        taken.contains(&(name, source.bytes().filter(|bytes| *bytes > 0)?)).then(|| source.name().to_string())
    };
    Ok(find_sources(inputs, options)?.iter().filter_map(|(source, _)| again(source)).collect())
}

/// The number of the append that added the rows with this fingerprint before; 0 is the first ingest.
fn same_rows(manifest: &Manifest, content: &str) -> Option<u32> {
    let first = manifest.changes.first().map_or(&manifest.fingerprint, |change| &change.before);
    let same = |change: &&Change| change.content.as_deref() == Some(content);
    (first == content).then_some(0).or_else(|| Some(manifest.changes.iter().find(same)?.number))
}

/// The dataset of the new rows, which goes whatever happens.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        // Failing to tidy up is no reason to fail; the next change tries again.
        let _ = remove_folder(self.0);
    }
}

/// What was replaced is not needed, but no reason to call the append a failure; the next change tries again.
fn tidy_up(lock: &DatasetLock, manifest: &Manifest, ctx: &Context) {
    if let Err(error) = lock.remove_unlisted(manifest) {
        ctx.message(&format!("appended; but what that made unnecessary could not be removed: {error}"));
    }
}

/// Refuses what could not be kept true of the whole dataset.
fn check_options(options: &IngestOptions, manifest: &Manifest) -> Result<(), IngestError> {
    let refuse = |text: String| Err(IngestError::Options(text));
    if options.has_core() {
        return refuse(
            "--min-user-count and --min-item-count look at a whole log and cannot be applied to appended rows: leave them out, \
             or ingest all logs anew"
                .into(),
        );
    }
    if options.hash_seed != manifest.hash_seed {
        let (given, has) = (options.hash_seed, manifest.hash_seed);
        return refuse(format!("--hash-seed {given}, but the dataset has {has}: leave the flag out"));
    }
    let given: Vec<String> = options.read.context.iter().map(ToString::to_string).collect();
    let has: Vec<String> =
        manifest.contexts.iter().flat_map(|c| &c.columns).map(|column| column.name.clone()).collect();
    if given != has {
        let names = |columns: &[String]| if columns.is_empty() { "none".into() } else { columns.join(",") };
        return refuse(format!(
            "--context {}, but the dataset has the columns of context: {}; leave the flag out, or ingest all logs anew",
            names(&given),
            names(&has)
        ));
    }
    Ok(())
}

/// All that merging needs to know.
struct Append<'a> {
    base: &'a Dataset,
    piece: &'a Dataset,
    lock: &'a DatasetLock,
    /// Whether the rows say which part they belong to.
    stated: bool,
    options: &'a IngestOptions,
    number: u32,
    ctx: &'a Context,
}

impl Append<'_> {
    fn run(&self) -> Result<Manifest, IngestError> {
        let Self { base, piece, ctx, .. } = *self;
        let (before, added) = (base.manifest(), piece.manifest());
        let events = Events::new(&before.events, &added.events)?;
        let (_, context_bytes) = contexts::shared_out(self.options, ctx)?;
        let contexts = match (base.contexts(), piece.contexts()) {
            (Some(base), Some(piece)) => Some(Contexts::new(base, piece, context_bytes)?),
            _ => None,
        };
        let has = |part: &Part| base.part(*part).is_some() || piece.part(*part).is_some();
        let mut shape = Shape {
            parts: Part::ALL.into_iter().filter(has).collect(),
            exposed: base.exposures().is_some() || piece.exposures().is_some(),
            ..Shape::of(base)
        };
        // What is there must be written anew if it lacks a part, or a list of exposures.
        let whole = shape.parts.len() > base.parts().count() || (shape.exposed && base.exposures().is_none());
        let too_many = || DatasetError::TooMany { what: "items" };
        shape.items = base.items().len().checked_add(piece.items().len()).ok_or_else(too_many)?;
        let more = u64::from(piece.items().len()) * 4 + context_bytes as u64;
        check_memory(&shape, more, "appending to a dataset", ctx)?;
        let mut rewrite = Rewrite::begin(base, self.lock, shape.clone())?;
        let (mut item_file, mut user_file) = (rewrite.dictionary("items.dict")?, rewrite.dictionary("users.dict")?);
        let items = number_items(base, piece, &mut item_file, ctx)?;
        let space = TempSpace::create(base.path().join(ORDER))?;
        let (known, new) = number_users(base, piece, &mut user_file, &space, ctx)?;
        let n_items = base.items().len() + item_file.len();
        let most = most_rows(&shape, ctx);
        let (mut pairs, name) = rewrite.pairs(self.number, Listed::All)?;
        let (mut repeated, name_of_repeated) = rewrite.pairs(self.number, Listed::Repeated)?;
        let (user_names, item_names) = (rewrite.file("users.dict").1, rewrite.file("items.dict").1);
        let mut join = Join::new(base, piece, self.stated, items, &events, contexts.as_ref(), most);
        let stage = ctx.stage("merging", Some(base.users().len().into()), Unit::Users);
        let mut known = known.into_sorted()?;
        let mut next = known.next()?;
        for index in 0..base.train().chunks() {
            ctx.check()?;
            let chunk = base.train().chunk(index);
            let (first, users) = (chunk.first_user(), chunk.users());
            stage.add(users as u64);
            if !whole && next.is_none_or(|(user, _)| user >= first.saturating_add(users as u32)) {
                rewrite.keep(index)?;
                continue;
            }
            for at in 0..users {
                let user = first + at as u32;
                if next.is_none_or(|(known, _)| known != user) {
                    rewrite.copy(index, at, false)?;
                    continue;
                }
                join.clear();
                join.add_base(index, at);
                while let Some((_, numbered)) = next.filter(|(known, _)| *known == user) {
                    join.add_piece(numbered);
                    next = known.next()?;
                }
                join.merge()?;
                join.write(user, rewrite.block(join.is_large())?, (&mut pairs, &mut repeated))?;
            }
            base.let_go_of(index);
        }
        let mut new = new.into_sorted()?;
        let mut user = base.users().len();
        while let Some((_, numbered)) = new.next()? {
            if user.is_multiple_of(1 << 10) {
                ctx.check()?;
            }
            join.clear();
            join.add_piece(numbered);
            join.merge()?;
            join.write(user, rewrite.block(join.is_large())?, (&mut pairs, &mut repeated))?;
            user += 1;
        }
        drop((stage, known, new));
        let joined = join.finish();
        space.remove()?;

        let mut outcome = Outcome::same(base);
        outcome.users.extend(user_file.finish(&user_names)?);
        outcome.items.extend(item_file.finish(&item_names)?);
        outcome.n_items = n_items;
        if let Some(table) = contexts.and_then(|c| c.table) {
            outcome.contexts = Some(rewrite.contexts(&table)?);
        }
        outcome.events = events.names;
        outcome.sources.extend(added.sources.iter().cloned());
        let (trained, repeats) = (pairs.len(), repeated.len());
        outcome.pairs.push(pairs.finish(&name)?);
        outcome.pairs.push(repeated.finish(&name_of_repeated)?);
        let fingerprints = [before.fingerprint.as_bytes(), added.fingerprint.as_bytes()];
        let names = added.events.iter().map(String::as_bytes);
        let how: &[u8] = if self.stated { b"append, parts stated" } else { b"append" };
        outcome.fingerprint = fingerprint([how].into_iter().chain(fingerprints).chain(names));
        outcome.changes.push(Change {
            users: user - base.users().len(),
            items: n_items - base.items().len(),
            interactions: joined.new,
            held: Some(joined.held),
            merged: joined.merged,
            trained,
            held_out: base
                .parts()
                .map(|(part, _)| part)
                .filter(|part| *part != Part::Train && trained > repeats)
                .collect(),
            pairs: Some(name),
            repeats,
            repeated: Some(name_of_repeated),
            content: Some(added.fingerprint.clone()),
            sources: added.sources.clone(),
            options: added.options.clone(),
            ingest: added.ingest.clone(),
            ..Change::new(self.number, ChangeKind::Append, &before.fingerprint, &outcome.fingerprint)
        });
        rewrite.set_items(n_items);
        Ok(rewrite.publish(outcome)?)
    }
}

/// Rows that one user may have: what is left of the budget, beside what [`check_memory`] sets aside.
fn most_rows(shape: &Shape, ctx: &Context) -> usize {
    let left = ctx.memory().0.saturating_sub(SMALLEST.0 / 2 + shape.bytes());
    Budget::rows_within(usize::try_from(left).unwrap_or(usize::MAX))
}
