//! Holding out what was appended: a dataset as it was at a moment of its history, and what came after that as its test part.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::block::{Event, UserBlock};
use super::change::{DatasetLock, is_dataset, read_dataset_manifest};
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
    /// Interactions that had been held out and are in no part, because later appends held out more and nothing tells which.
    pub left_out: u64,
    /// Identifies the content.
    pub fingerprint: String,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Makes the dataset `output` of what `dataset` had in train when its fingerprint was `since`, which a model remembers, with
/// the interactions that came to train after that as its test part. What was held out before is its validation part, unless
/// an append since has held out more: then it is left out, for nothing tells what is newer than the test part.
///
/// Ids are those of `dataset`. Models of that moment and of before belong to the new dataset, and have learnt nothing of what
/// came after the test part begins: they can be evaluated and compared on it. Interactions that were there and had rows
/// merged into them since stay in train as they are now, and exposures are those of now, less what has been taken. Time:
/// O(interactions). Memory: 4 bytes an item and part, 4 a forgotten user, and some 32 MiB. Interrupted at any moment it leaves
/// `output` as it was.
///
/// # Errors
/// If `dataset` never had that fingerprint, or has but appends of an older build since then; if nothing came to train since;
/// if `output` is the dataset itself, is there already and not to be replaced by `force`, is being changed, or cannot be
/// written; if users were forgotten in `dataset` meanwhile, a file of it is damaged or cut off, `ctx` has too little memory, or
/// was interrupted.
pub fn hold_out(
    dataset: &Dataset,
    since: &str,
    output: (&Path, bool),
    ctx: &Context,
) -> Result<HoldOutSummary, DatasetError> {
    let made = copy(dataset, since, output, ctx);
    // Then lists of what was appended, which are opened on the way, are gone, too.
    match forgotten_meanwhile(dataset) {
        Err(error @ DatasetError::ForgottenMeanwhile { .. }) => Err(error),
        looked => made.and_then(|made| looked.map(|()| made)),
    }
}

/// Fails if users were forgotten in `dataset` since it was opened.
fn forgotten_meanwhile(dataset: &Dataset) -> Result<(), DatasetError> {
    let forgets = |manifest: &Manifest| manifest.changes.iter().filter(|c| c.kind == ChangeKind::Forget).count();
    let path = dataset.path();
    match forgets(&read_dataset_manifest(path)?) > forgets(dataset.manifest()) {
        true => Err(DatasetError::ForgottenMeanwhile { path: path.to_path_buf() }),
        false => Ok(()),
    }
}

/// [`hold_out`], without a look at the dataset as it is in the end.
fn copy(
    dataset: &Dataset,
    since: &str,
    (output, force): (&Path, bool),
    ctx: &Context,
) -> Result<HoldOutSummary, DatasetError> {
    return_large_buffers();
    let begun = Instant::now();
    let path = || dataset.path().to_path_buf();
    let never_had = || DatasetError::NeverHad { path: path(), fingerprint: since.to_string() };
    let later = dataset.changes_since(since).ok_or_else(never_had)?;
    if let Some(old) = later.iter().find(|change| change.trained > 0 && change.repeated.is_none()) {
        return Err(DatasetError::NoRepeats { path: path(), number: old.number });
    }
    let appended = dataset.appended_since(since)?.ok_or_else(never_had)?;
    let mut arrivals = appended.arrivals().peekable();
    if arrivals.peek().is_none() {
        return Err(DatasetError::NothingSince { path: path(), fingerprint: since.to_string() });
    }
    if output.canonicalize().is_ok_and(|output| dataset.path().canonicalize().is_ok_and(|from| from == output)) {
        return Err(DatasetError::OntoItself { path: path() });
    }
    let mut held_out = [Part::Valid, Part::Test].map(|part| dataset.part(part));
    let mut left_out = 0;
    if has_newer_held_out(later) {
        left_out = held_out.iter().flatten().map(|part| part.len()).sum();
        held_out = [None; 2];
    }
    let has_valid = held_out.iter().flatten().count() > 0;
    let parts = Part::ALL.into_iter().filter(|part| *part != Part::Valid || has_valid).collect();
    let shape = Shape { parts, ..Shape::of(dataset) };
    let holes = u64::from(dataset.users().holes());
    check_memory(&shape, 4 * holes, "holding out what was appended to a dataset", ctx)?;
    // Held until the new one is there: who changes the one that it replaces would change the new one.
    let replaced = match force && is_dataset(output) {
        true => Some(DatasetLock::claim_to_replace(output)?),
        false => None,
    };
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
    if let Some((user, item)) = arrivals.next() {
        let reason = format!("user {user} and item {item} are listed as appended to train, and are not there");
        return Err(dataset.inconsistent(reason));
    }
    drop((stage, arrivals));
    chunks.append(first, &block)?;
    let manifest = finish(dataset, since, (&staging, chunks), ctx)?;
    // What was cut off a file meanwhile was read as zeros, where it raised no signal.
    check_in_use(dataset.path())?;
    forgotten_meanwhile(dataset)?;
    staging.publish()?;
    drop(replaced);
    let Manifest { users, items, parts, fingerprint, .. } = manifest;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(HoldOutSummary { users, items, parts, cold_users, left_out, fingerprint, seconds })
}

/// Whether changes have held out what may be newer than what they brought to train.
fn has_newer_held_out(later: &[Change]) -> bool {
    let mut came = false;
    later.iter().any(|change| {
        let is_newer = match change.kind {
            ChangeKind::Append => change.held != Some(0),
            ChangeKind::HoldOut => came,
            ChangeKind::Forget => false,
        };
        came |= change.trained > change.repeats;
        is_newer
    })
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
    ctx: &Context,
) -> Result<Manifest, DatasetError> {
    let (folder, base) = (staging.path(), dataset.manifest());
    let Written { mut files, parts, popularity: counts, exposures, repeated } = chunks.finish()?;
    files.push(popularity::write(&folder.join(POPULARITY), POPULARITY, &counts)?);
    files.push(dataset.users().copy_to(&folder.join(USERS), USERS, ctx)?);
    files.push(dataset.items().copy_to(&folder.join(ITEMS), ITEMS, ctx)?);
    if let (Some(contexts), Some(record)) = (dataset.contexts(), dataset.context_file()) {
        contexts.copy_values(folder)?;
        files.push(FileRecord { path: contexts::VALUES.to_string(), ..record });
    }
    let later = dataset.changes_since(since).unwrap_or_default();
    let mut changes = base.changes[..base.changes.len() - later.len()].to_vec();
    for change in &mut changes {
        // What was held out then is the validation part now, and older than the test part.
        let has_valid = parts.iter().any(|(part, _)| *part == Part::Valid);
        change.held_out = Some(Part::Valid).filter(|_| has_valid && !change.held_out.is_empty()).into_iter().collect();
        for what in [Listed::All, Listed::Repeated] {
            let (Some(pairs), Some(name)) = (dataset.pairs_of(change, what)?, change.listed(what)) else { continue };
            // Under the names of no change of these files, so that the next one writes others beside.
            let copy = pairs::name(change.number, 0, what);
            create_folder(&folder.join(pairs::FOLDER))?;
            pairs.copy_to(&folder.join(&copy))?;
            files.push(FileRecord { path: copy.clone(), ..record(dataset.path(), &base.files, name)?.clone() });
            match what {
                Listed::All => change.pairs = Some(copy),
                Listed::Repeated => change.repeated = Some(copy),
            }
        }
    }
    let fingerprint_of = |how: &str, more: &str| fingerprint([how, since, more].iter().map(|text| text.as_bytes()));
    let (mut now, mut withheld, mut came) = (since.to_string(), Vec::new(), false);
    for change in later {
        came |= change.trained > change.repeats;
        if change.kind != ChangeKind::Append {
            // As it was where nothing had been appended yet: models of between have learnt no more.
            let after = match change.before == now {
                true => change.after.clone(),
                false => fingerprint_of("without what was appended", &change.after),
            };
            let before = std::mem::replace(&mut now, after);
            changes.push(Change {
                users: change.users,
                lowest: change.lowest,
                interactions: change.interactions,
                withheld: change.withheld.clone(),
                ..Change::new(change.number, change.kind, &before, &now)
            });
        }
        withheld.extend((came && change.after != now).then(|| change.after.clone()));
    }
    let fingerprint = fingerprint_of("hold out", dataset.fingerprint());
    let test = parts.iter().find(|(part, _)| *part == Part::Test).map_or(0, |(_, test)| test.interactions);
    // Nothing of it was trained on: models of before belong to this dataset, and know no less of its train part.
    changes.push(Change {
        interactions: test,
        withheld,
        ..Change::new(Rewrite::change_number(base), ChangeKind::HoldOut, &now, &fingerprint)
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
