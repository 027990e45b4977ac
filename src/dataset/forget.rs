//! Forgetting users: their interactions, exposures and ids are gone from every file; their dense ids stay as holes.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::change::{APPEND_PARTIAL, DatasetLock, has_journal};
use super::compact::check_memory;
use super::dictionary::write_listed;
use super::live::{CONTEXTS, EXPOSURES};
use super::manifest::{Change, ChangeKind};
use super::open::Dataset;
use super::pairs::Listed;
use super::rewrite::{Outcome, Rewrite, Shape};
use super::{DatasetError, USERS};
use crate::context::{Context, Unit};
use crate::storage::{fingerprint, return_large_buffers};

/// What [`forget`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ForgetSummary {
    /// Users that were forgotten.
    pub users: u32,
    /// Their interactions, in all parts.
    pub interactions: u64,
    /// Their exposures.
    pub exposures: u64,
    /// Chunks that were written anew, of those that there are.
    pub rewritten: usize,
    /// Chunks that there are.
    pub chunks: usize,
    /// Identifies the content from now on.
    pub fingerprint: String,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Removes users, by their original ids, from the dataset at `path`: their interactions in all parts, their exposures, what
/// the lists of appended pairs say of them, and the ids themselves. No file of the dataset holds any of it afterwards: every
/// file that did is written anew, and the old one removed. The dense id stays as a hole, without an id and without rows, so
/// that all others keep theirs; if the user is appended again, that is a new one.
///
/// A process that has the dataset open keeps reading the old files until it closes them, but for the lists of appended
/// pairs, which are opened when they are needed: an update, or ranking an older model, then has to be begun anew.
/// Interrupted before the new manifest
/// is in place, nothing was forgotten; after that and before the old files are gone, the next change of the dataset removes
/// them. Memory: 4 bytes an item and part, 12 bytes a forgotten user, and some 32 MiB.
///
/// # Errors
/// If a user is not there, in which case nothing is forgotten; if it is no dataset, damaged, being changed by another
/// process, or cannot be written.
pub fn forget(path: impl AsRef<Path>, users: &[String], ctx: &Context) -> Result<ForgetSummary, DatasetError> {
    return_large_buffers();
    let begun = Instant::now();
    let path = path.as_ref();
    let (lock, manifest) = DatasetLock::claim(path)?;
    let leftover = path.join(APPEND_PARTIAL);
    if has_journal(path) {
        return Err(DatasetError::Leftover { folder: leftover });
    }
    lock.remove_unlisted(&manifest)?;
    let base = Dataset::open_as(path, manifest)?;
    base.let_go();
    let forgotten = numbers(&base, users)?;
    let is_forgotten = |user: u32| forgotten.binary_search(&user).is_ok();
    let shape = Shape::of(&base);
    check_memory(&shape, 12 * users.len() as u64, "forgetting users of a dataset", ctx)?;
    let tainted = tainted(&base, &forgotten);
    let mut rewrite = Rewrite::begin(&base, &lock, shape)?;
    let (mut interactions, mut exposures) = (0, 0);
    let stage = ctx.stage("forgetting", Some(base.users().len().into()), Unit::Users);
    for (index, tainted) in tainted.iter().enumerate() {
        ctx.check()?;
        let chunk = base.train().chunk(index);
        if !tainted {
            rewrite.keep(index)?;
        } else {
            for at in 0..chunk.users() {
                let user = chunk.first_user() + at as u32;
                let empty = is_forgotten(user);
                if empty {
                    let of = |part: &super::Interactions| part.chunk(index).user(at).items.len() as u64;
                    interactions += base.parts().map(|(_, part)| of(part)).sum::<u64>();
                    exposures += base.exposures().map_or(0, |e| e.user(user).len() as u64);
                }
                rewrite.copy(index, at, empty)?;
            }
            base.let_go_of(index);
        }
        stage.add(chunk.users() as u64);
    }
    drop(stage);
    let mut outcome = Outcome::same(&base);
    let (file, relative) = rewrite.file(USERS);
    outcome.users = vec![write_listed(base.users(), &forgotten, &file, &relative, ctx)?];
    outcome.pairs.clear();
    for change in &mut outcome.changes {
        for what in [Listed::All, Listed::Repeated] {
            let Some(pairs) = base.pairs_of(change, what)? else { continue };
            let (mut writer, name) = rewrite.pairs(change.number, what)?;
            for (user, item) in pairs.iter().filter(|(user, _)| !is_forgotten(*user)) {
                writer.push(user, item)?;
            }
            let kept = writer.len();
            outcome.pairs.push(writer.finish(&name)?);
            match what {
                Listed::All => (change.trained, change.pairs) = (kept, Some(name)),
                Listed::Repeated => (change.repeats, change.repeated) = (kept, Some(name)),
            }
        }
    }
    let numbers: Vec<u8> = forgotten.iter().flat_map(|user| user.to_le_bytes()).collect();
    let before = base.fingerprint().to_string();
    outcome.fingerprint = fingerprint([&b"forget"[..], before.as_bytes(), &numbers].into_iter());
    outcome.changes.push(Change {
        users: forgotten.len() as u32,
        lowest: forgotten.first().copied(),
        interactions,
        ..Change::new(Rewrite::change_number(base.manifest()), ChangeKind::Forget, &before, &outcome.fingerprint)
    });
    let manifest = rewrite.publish(outcome)?;
    lock.remove_unlisted(&manifest)?;
    Ok(ForgetSummary {
        users: forgotten.len() as u32,
        interactions,
        exposures,
        rewritten: tainted.iter().filter(|t| **t).count(),
        chunks: tainted.len(),
        fingerprint: manifest.fingerprint,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// The dense ids of users, ascending, each once.
fn numbers(base: &Dataset, users: &[String]) -> Result<Vec<u32>, DatasetError> {
    let unknown = |user: &String| DatasetError::UnknownUser {
        path: base.path().to_path_buf(),
        user: user.clone(),
        similar: base.users().similar(user).into_iter().map(str::to_string).collect(),
    };
    let find = |user: &String| base.users().find(user).ok_or_else(|| unknown(user));
    let mut found = users.iter().map(find).collect::<Result<Vec<u32>, _>>()?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Which chunks must be written anew so that every file can go that holds, in chunks read or no more read, rows of the
/// forgotten: all chunks in such files.
fn tainted(base: &Dataset, forgotten: &[u32]) -> Vec<bool> {
    let train = base.train();
    let covers = |(first, end): (u32, u32)| {
        let at = forgotten.partition_point(|user| *user < first);
        forgotten.get(at).is_some_and(|user| *user < end)
    };
    let range = |index: usize| {
        let chunk = train.chunk(index);
        (chunk.first_user(), chunk.first_user() + chunk.users() as u32)
    };
    let mut tainted: Vec<bool> = (0..train.chunks()).map(|index| covers(range(index))).collect();
    let mut mark = |place: &dyn Fn(usize) -> (u32, u32), bad: HashSet<u32>| {
        for (index, tainted) in tainted.iter_mut().enumerate() {
            *tainted |= bad.contains(&place(index).0);
        }
    };
    let count = |name: &str| base.live().stream(name).files.len() as u32;
    for (part, rows) in base.parts() {
        let bad = (0..count(part.name())).filter(|file| rows.ranges_in(*file).any(covers)).collect();
        mark(&|index| rows.place(index), bad);
    }
    if let Some(exposures) = base.exposures() {
        let bad = (0..count(EXPOSURES)).filter(|file| exposures.ranges_in(*file).any(covers)).collect();
        mark(&|index| exposures.place(index), bad);
    }
    if let Some(contexts) = base.contexts() {
        // These chunks do not say where they end: who is behind the first user may be among them.
        let first = forgotten.last().copied().unwrap_or_default();
        let bad = (0..count(CONTEXTS)).filter(|file| contexts.firsts_in(*file).any(|user| user <= first)).collect();
        mark(&|index| contexts.place(index), bad);
    }
    tainted
}
