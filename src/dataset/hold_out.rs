//! Holding out what was appended: a dataset as it was at a moment of its history, and what came after that as its test part.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::block::{Event, UserBlock};
use super::chunks::{ChunkWriter, Written};
use super::compact::check_memory;
use super::interactions::UserItems;
use super::live::record;
use super::manifest::{Change, ChangeKind, Columns, Manifest, PartSummary};
use super::open::Dataset;
use super::pairs::{self, Listed};
use super::rewrite::{LARGE_USER, Rewrite, Shape};
use super::{DatasetError, FORMAT, FORMAT_VERSION, ITEMS, POPULARITY, Part, USERS, contexts, popularity};
use crate::context::{Context, Unit};
use crate::storage::{
    FileRecord, Staging, check_in_use, create_folder, fingerprint, return_large_buffers, write_manifest,
};

/// What [`hold_out`] made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HoldOutSummary {
    /// Dense user ids, which are those of the dataset that it was made from.
    pub users: u32,
    /// Items, likewise.
    pub items: u32,
    /// Counts by part.
    pub parts: Vec<(Part, PartSummary)>,
    /// Users with test interactions and none in train.
    pub cold_users: u64,
    /// Identifies the content.
    pub fingerprint: String,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Makes the dataset `output` of what `dataset` had in train when its fingerprint was `since`, which a model remembers, with
/// the interactions that came to train after that as its test part. What was held out before is its validation part.
///
/// Ids are those of `dataset`. Models of that moment and of before belong to the new dataset, and have learnt nothing of what
/// came after the test part begins: they can be evaluated and compared on it. Interactions that were there and had rows
/// merged into them since stay in train as they are now, and exposures are those of now. Time: O(interactions). Memory: 4
/// bytes an item and part, and some 32 MiB.
///
/// # Errors
/// If `dataset` never had that fingerprint, nothing came to train since, `output` is there already and not to be replaced by
/// `force`, or cannot be written.
pub fn hold_out(
    dataset: &Dataset,
    since: &str,
    (output, force): (&Path, bool),
    ctx: &Context,
) -> Result<HoldOutSummary, DatasetError> {
    return_large_buffers();
    let begun = Instant::now();
    let path = || dataset.path().to_path_buf();
    let appended = dataset.appended_since(since)?;
    let appended = appended.ok_or_else(|| DatasetError::NeverHad { path: path(), fingerprint: since.to_string() })?;
    let mut arrivals = appended.arrivals().peekable();
    if arrivals.peek().is_none() {
        return Err(DatasetError::NothingSince { path: path(), fingerprint: since.to_string() });
    }
    if output.canonicalize().is_ok_and(|output| dataset.path().canonicalize().is_ok_and(|from| from == output)) {
        return Err(DatasetError::OntoItself { path: path() });
    }
    let held_out = [Part::Valid, Part::Test].map(|part| dataset.part(part));
    let has_valid = held_out.iter().flatten().count() > 0;
    let parts = Part::ALL.into_iter().filter(|part| *part != Part::Valid || has_valid).collect();
    let shape = Shape { parts, ..Shape::of(dataset) };
    check_memory(&shape, 0, "holding out what was appended to a dataset", ctx)?;
    let staging = Staging::new(output, force, FORMAT)?;
    let mut chunks = ChunkWriter::create(staging.path(), &shape.parts)?;
    chunks.set_items(shape.items as usize);
    let (mut block, mut first, mut cold_users) = (shape.block(), 0u32, 0);
    let stage = ctx.stage("holding out", Some(dataset.users().len().into()), Unit::Users);
    for index in 0..dataset.train().chunks() {
        ctx.check()?;
        let chunk = dataset.train().chunk(index);
        for at in 0..chunk.users() {
            let user = chunk.first_user() + at as u32;
            let train = chunk.user(at);
            if block.is_full() || (train.items.len() > LARGE_USER && block.users() > 0) {
                let full = std::mem::replace(&mut block, shape.block());
                chunks.append(first, &full)?;
                first += full.users() as u32;
            }
            let came = take_user(dataset, &mut arrivals, (user, &train), &mut block);
            cold_users += u64::from(came > 0 && came == train.items.len());
            push_valid(held_out.map(|part| part.map(|part| part.chunk(index).user(at))), &mut block);
            for item in dataset.exposures().iter().flat_map(|exposures| exposures.user(user)) {
                block.expose(item.to_native());
            }
            block.end_user(&[]);
        }
        dataset.let_go_of(index);
        stage.add(chunk.users() as u64);
    }
    drop((stage, arrivals));
    chunks.append(first, &block)?;
    let manifest = finish(dataset, since, (&staging, chunks))?;
    // What was cut off a file meanwhile was read as zeros, where it raised no signal.
    check_in_use(dataset.path())?;
    staging.publish()?;
    let Manifest { users, items, parts, fingerprint, .. } = manifest;
    Ok(HoldOutSummary { users, items, parts, cold_users, fingerprint, seconds: begun.elapsed().as_secs_f64() })
}

/// Shares a user's train interactions out to train and test; how many of them have come since.
fn take_user(
    dataset: &Dataset,
    arrivals: &mut std::iter::Peekable<impl Iterator<Item = (u32, u32)>>,
    (user, train): (u32, &UserItems<'_>),
    block: &mut UserBlock,
) -> usize {
    let contexts = dataset.contexts().map(|contexts| contexts.user(dataset.train(), user));
    let mut came = 0;
    for at in 0..train.items.len() {
        let context = contexts.and_then(|codes| codes.get(at)).map_or(0, |code| code.to_native());
        let event = Event { context, ..event(train, at) };
        let is_new = arrivals.next_if_eq(&(user, event.item)).is_some();
        came += usize::from(is_new);
        block.push(if is_new { Part::Test } else { Part::Train }, event);
    }
    came
}

/// Merges what was held out of a user's interactions, which no two parts share.
fn push_valid(held_out: [Option<UserItems<'_>>; 2], block: &mut UserBlock) {
    let mut rest = held_out.map(|part| part.map(|part| (part, 0)));
    loop {
        let next = |of: &Option<(UserItems<'_>, usize)>| of.and_then(|(part, at)| part.items.get(at).copied());
        let [a, b] = [next(&rest[0]), next(&rest[1])].map(|item| item.map(|item| item.to_native()));
        let which = match (a, b) {
            (None, None) => return,
            (Some(a), Some(b)) => usize::from(b < a),
            (a, _) => usize::from(a.is_none()),
        };
        if let Some((part, at)) = &mut rest[which] {
            block.push(Part::Valid, event(part, *at));
            *at += 1;
        }
    }
}

/// The `at`-th interaction of a user.
fn event(user: &UserItems<'_>, at: usize) -> Event {
    Event {
        item: user.items[at].to_native(),
        time: user.times.get(at).map_or(0, |time| time.to_native()),
        weight: user.weights.get(at).map_or(1.0, |weight| weight.to_native()),
        count: user.counts.get(at).map_or(1, |count| count.to_native()),
        event: user.events.get(at).copied().unwrap_or_default(),
        context: 0,
    }
}

/// Writes all files but those of chunks.
fn finish(
    dataset: &Dataset,
    since: &str,
    (staging, chunks): (&Staging, ChunkWriter),
) -> Result<Manifest, DatasetError> {
    let (folder, base) = (staging.path(), dataset.manifest());
    let Written { mut files, parts, popularity: counts, exposures, repeated } = chunks.finish()?;
    files.push(popularity::write(&folder.join(POPULARITY), POPULARITY, &counts)?);
    files.push(dataset.users().copy_to(&folder.join(USERS), USERS)?);
    files.push(dataset.items().copy_to(&folder.join(ITEMS), ITEMS)?);
    if let (Some(contexts), Some(record)) = (dataset.contexts(), dataset.context_file()) {
        contexts.copy_values(folder)?;
        files.push(FileRecord { path: contexts::VALUES.to_string(), ..record });
    }
    let later = dataset.changes_since(since).unwrap_or_default();
    let mut changes = base.changes[..base.changes.len() - later.len()].to_vec();
    for change in &mut changes {
        // What was held out then is the validation part now, and older than the test part.
        change.held_out = if change.held_out.is_empty() { Vec::new() } else { vec![Part::Valid] };
        for what in [Listed::All, Listed::Repeated] {
            let (Some(pairs), Some(name)) = (dataset.pairs_of(change, what)?, change.listed(what)) else { continue };
            create_folder(&folder.join(pairs::FOLDER))?;
            pairs.copy_to(&folder.join(name))?;
            files.push(record(dataset.path(), &base.files, name)?.clone());
        }
    }
    let of = [&b"hold out"[..], since.as_bytes(), dataset.fingerprint().as_bytes()];
    let fingerprint = fingerprint(of.into_iter());
    let test = parts.iter().find(|(part, _)| *part == Part::Test).map_or(0, |(_, test)| test.interactions);
    // Nothing of it was trained on: models of before belong to this dataset, and know no less of its train part.
    changes.push(Change {
        number: Rewrite::change_number(base),
        kind: ChangeKind::Append,
        before: since.to_string(),
        after: fingerprint.clone(),
        users: 0,
        items: 0,
        interactions: test,
        merged: 0,
        trained: 0,
        held_out: Vec::new(),
        pairs: None,
        repeats: 0,
        repeated: None,
        sources: later.iter().flat_map(|change| change.sources.clone()).collect(),
        options: serde_json::Value::Null,
        ingest: serde_json::Value::Null,
    });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = Manifest {
        peccary: env!("CARGO_PKG_VERSION").to_string(),
        fingerprint,
        parts,
        exposures,
        columns: Columns { count: base.columns.count && repeated, ..base.columns },
        layout: None,
        changes,
        files,
        ..base.clone()
    };
    write_manifest(folder, FORMAT, FORMAT_VERSION, &manifest)?;
    Ok(manifest)
}
