//! Compacting: one file again where appends made several, chunks of the usual size, and nothing that is no more needed.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::change::DatasetLock;
use super::dictionary::{Dictionary, write_listed};
use super::open::Dataset;
use super::rewrite::{Outcome, Rewrite, Shape};
use super::{DatasetError, ITEMS, USERS};
use crate::context::{ByteSize, Context, Unit};
use crate::storage::{FileRecord, return_large_buffers};

/// What changing a dataset takes beside counts of items: the program, what is being written, and one large user.
const FIXED: u64 = 32 << 20;

/// What [`compact`] did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompactSummary {
    /// Whether there was anything to do.
    pub compacted: bool,
    /// Files before and after, the manifest left out.
    pub files: [usize; 2],
    /// Chunks before and after.
    pub chunks: [u32; 2],
    /// Bytes of the files before and after.
    pub bytes: [u64; 2],
    /// The same as before.
    pub fingerprint: String,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Refuses a budget that the counts of `shape` and `more` bytes do not fit.
pub(crate) fn check_memory(shape: &Shape, more: u64, what: &str, ctx: &Context) -> Result<(), DatasetError> {
    let needed = ByteSize((FIXED + shape.bytes() + more).div_ceil(1 << 20) << 20);
    if ctx.memory() < needed {
        let what = format!("{what} with {} items", shape.items);
        return Err(DatasetError::Memory { given: ctx.memory(), needed, what });
    }
    Ok(())
}

/// Merges what appends added to the dataset at `path` with what was there: each kind of file is one again (as far as one
/// may be 1 GiB), chunks have some 65,536 interactions, and what is no more needed is gone. Ids, content and fingerprint stay
/// what they are, and so do the pairs that say what was appended. Who has the dataset open is not disturbed.
///
/// Reads and writes all of it once; needs as much room on the disk again until it is done. Memory: 4 bytes an item and part,
/// and some 32 MiB. Interrupted at any moment it leaves the dataset as it was.
///
/// # Errors
/// If it is no dataset, damaged, being changed by another process, or cannot be written.
pub fn compact(path: impl AsRef<Path>, ctx: &Context) -> Result<CompactSummary, DatasetError> {
    return_large_buffers();
    let begun = Instant::now();
    let (lock, manifest) = DatasetLock::claim(path.as_ref())?;
    lock.remove_unlisted(&manifest)?;
    let base = Dataset::open_as(path.as_ref(), manifest)?;
    base.let_go();
    let size = |files: &[FileRecord]| files.iter().map(|f| f.bytes).sum::<u64>();
    let files = &base.manifest().files;
    let mut summary = CompactSummary {
        compacted: false,
        files: [files.len(); 2],
        chunks: [base.train().chunks() as u32; 2],
        bytes: [size(files); 2],
        fingerprint: base.fingerprint().to_string(),
        seconds: 0.0,
    };
    if !is_compact(&base) {
        let shape = Shape::of(&base);
        check_memory(&shape, 0, "compacting a dataset", ctx)?;
        let mut rewrite = Rewrite::begin(&base, &lock, shape)?;
        let stage = ctx.stage("compacting", Some(base.users().len().into()), Unit::Users);
        for index in 0..base.train().chunks() {
            ctx.check()?;
            let users = base.train().chunk(index).users();
            for at in 0..users {
                rewrite.copy(index, at, false)?;
            }
            base.let_go_of(index);
            stage.add(users as u64);
        }
        drop(stage);
        let listed = |dictionary: &Dictionary, name: &str| {
            let (path, relative) = rewrite.file(name);
            write_listed(dictionary, &[], &path, &relative, ctx)
        };
        let mut outcome = Outcome::same(&base);
        outcome.users = vec![listed(base.users(), USERS)?];
        outcome.items = vec![listed(base.items(), ITEMS)?];
        let manifest = rewrite.publish(outcome)?;
        lock.remove_unlisted(&manifest)?;
        summary.files[1] = manifest.files.len();
        summary.bytes[1] = size(&manifest.files);
        summary.chunks[1] = manifest.layout.as_ref().map_or(0, |layout| layout.number_of_chunks);
        summary.compacted = true;
    }
    summary.seconds = begun.elapsed().as_secs_f64();
    Ok(summary)
}

/// Whether it is as it was ingested, or all its chunks were written by one change, and each dictionary is one file.
fn is_compact(base: &Dataset) -> bool {
    let Some(layout) = &base.manifest().layout else { return true };
    let newest = layout.chunks.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_new = |path: &String| path.strip_prefix(newest).is_some_and(|rest| rest.starts_with('/'));
    layout.users.len() == 1
        && layout.items.len() == 1
        && base.live().streams.iter().flat_map(|stream| &stream.files).all(is_new)
}
