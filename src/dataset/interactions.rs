//! The interactions of one part, read in place: chunk by chunk, or user by user.

use std::path::Path;

use rkyv::rend::{f32_le, i64_le, u32_le};

use super::live::{Stream, record};
use super::positives::Positives;
use super::shard::{
    ArchivedChunkRoot, ArchivedPositivesChunkRoot, ArchivedPositivesRoot, ArchivedShardRoot, POSITIVES_KIND,
    SHARD_KIND, VERSION,
};
use super::{DatasetError, PartSummary};
use crate::storage::{Archived, CheckedFile, FileRecord};

/// Chunks that are checked between two times that their pages are let go of.
pub(super) const CHECKED: usize = 16;

struct Shard {
    interactions: Archived<ArchivedShardRoot>,
    positives: Archived<ArchivedPositivesRoot>,
}

/// The interactions of one part of a dataset.
pub struct Interactions {
    shards: Vec<Shard>,
    /// (first user, shard, chunk in the shard), ascending by user.
    index: Vec<(u32, u32, u32)>,
    summary: PartSummary,
    users: u32,
}

impl Interactions {
    pub(super) fn open(
        folder: &Path,
        files: &[FileRecord],
        stream: &Stream,
        (users, items): (u32, u32),
        summary: PartSummary,
    ) -> Result<Self, DatasetError> {
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: folder.join(&stream.name), reason };
        let mut shards = Vec::with_capacity(stream.files.len());
        for path in &stream.files {
            let positives = record(folder, files, &path.replace(".shard", ".positives"))?;
            let shard = Shard {
                interactions: Archived::new(CheckedFile::open(
                    folder,
                    record(folder, files, path)?,
                    SHARD_KIND,
                    VERSION,
                )?)?,
                positives: Archived::new(CheckedFile::open(folder, positives, POSITIVES_KIND, VERSION)?)?,
            };
            if shard.interactions.chunks.len() != shard.positives.chunks.len() {
                return Err(inconsistent(format!("{path} and its positives have different chunks")));
            }
            if stream.files.len() > 1 {
                // Many small files would stay in memory for having been compared with their checksums.
                shard.interactions.file().let_go();
                shard.positives.file().let_go();
            }
            shards.push(shard);
        }
        let mut index: Vec<(u32, u32, u32)> = Vec::new();
        let (mut next_user, mut interactions) = (0u32, 0u64);
        let release = |shard: u32| {
            let file = shards[shard as usize].interactions.file();
            file.release(0..file.bytes().len());
        };
        for place in stream.places(|file| shards[file].interactions.chunks.len()) {
            let (shard, c) =
                place.ok_or_else(|| inconsistent("the index lists chunks that are not there, or one twice".into()))?;
            let path = &stream.files[shard as usize];
            let Shard { interactions: rows, positives } = &shards[shard as usize];
            let (chunk, bitmaps) = (Chunk { root: &rows.chunks[c as usize] }, &positives.chunks[c as usize]);
            if chunk.first_user() != next_user || bitmaps.first_user != next_user || !chunk.is_valid(items) {
                return Err(inconsistent(format!("{path}: chunk {c} has invalid users, offsets or items")));
            }
            if bitmaps.offsets.len() != chunk.offsets().len() {
                return Err(inconsistent(format!("{path}: chunk {c} of the positives differs")));
            }
            // Checking the chunks touches every item.
            if let Some((_, last, _)) = index.last().filter(|_| index.len().is_multiple_of(CHECKED)) {
                release(*last);
            }
            if let Some((_, last, _)) = index.last().filter(|(_, last, _)| *last != shard) {
                release(*last);
                shards[*last as usize].interactions.file().let_go();
            }
            index.push((next_user, shard, c));
            // More users than a dense id can count are more than the manifest's in any case.
            next_user = next_user.saturating_add(u32::try_from(chunk.users()).unwrap_or(u32::MAX));
            interactions += chunk.items().len() as u64;
            if next_user > users {
                break;
            }
        }
        if let Some((_, last, _)) = index.last() {
            release(*last);
        }
        if next_user != users || interactions != summary.interactions {
            return Err(inconsistent(format!(
                "{next_user} users and {interactions} interactions, but the manifest says {users} and {}",
                summary.interactions
            )));
        }
        Ok(Self { shards, index, summary, users })
    }

    /// The file, in the order of its stream, and the chunk in it of each chunk.
    pub(super) fn place(&self, index: usize) -> (u32, u32) {
        let (_, file, chunk) = self.index[index];
        (file, chunk)
    }

    /// The users from first to one behind the last of every chunk in file `file`, those included that are no more read.
    pub(super) fn ranges_in(&self, file: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.shards[file as usize].interactions.chunks.iter().map(|root| {
            let chunk = Chunk { root };
            (chunk.first_user(), chunk.first_user().saturating_add(chunk.users() as u32))
        })
    }

    /// The serialized positives of the `at`-th user of chunk `index`.
    pub(crate) fn positives_of(&self, index: usize, at: usize) -> &[u8] {
        let (_, shard, chunk) = self.index[index];
        let chunk: &ArchivedPositivesChunkRoot = &self.shards[shard as usize].positives.chunks[chunk as usize];
        let (start, end) = (chunk.offsets[at].to_native() as usize, chunk.offsets[at + 1].to_native() as usize);
        chunk.bytes.get(start..end).unwrap_or_default()
    }

    /// Lets go of all pages of the files that chunk `index` is in: they are read again when touched.
    pub(crate) fn let_go(&self, index: usize) {
        let shard = &self.shards[self.index[index].1 as usize];
        shard.interactions.file().let_go();
        shard.positives.file().let_go();
    }

    /// The same for all files.
    pub(crate) fn let_go_all(&self) {
        for shard in &self.shards {
            shard.interactions.file().let_go();
            shard.positives.file().let_go();
        }
    }

    /// Counts.
    pub fn summary(&self) -> PartSummary {
        self.summary
    }

    /// Number of interactions.
    pub fn len(&self) -> u64 {
        self.summary.interactions
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.index.len()
    }

    /// Chunk `index`: consecutive users with some 65,536 interactions, contiguous on disk.
    ///
    /// # Panics
    /// If `index` is not below [`Interactions::chunks`].
    pub fn chunk(&self, index: usize) -> Chunk<'_> {
        let (_, shard, chunk) = self.index[index];
        Chunk { root: &self.shards[shard as usize].interactions.chunks[chunk as usize] }
    }

    /// The index of the chunk that `user` is in.
    pub(crate) fn chunk_of(&self, user: u32) -> usize {
        self.index.partition_point(|(first, _, _)| *first <= user).saturating_sub(1)
    }

    /// The interactions of `user`, sorted by item. O(log chunks).
    ///
    /// # Panics
    /// If the dataset has no such user.
    pub fn user(&self, user: u32) -> UserItems<'_> {
        assert!(user < self.users, "user {user} of {}", self.users);
        let chunk = self.chunk(self.chunk_of(user));
        chunk.user((user - chunk.first_user()) as usize)
    }

    /// The positives of `user`. O(log chunks).
    ///
    /// # Panics
    /// If the dataset has no such user.
    pub fn positives(&self, user: u32) -> Positives<'_> {
        assert!(user < self.users, "user {user} of {}", self.users);
        let index = self.chunk_of(user);
        Positives::new(self.positives_of(index, (user - self.index[index].0) as usize))
    }

    /// Tells the system that the users and items of chunk `index` will be read soon.
    pub fn will_need(&self, index: usize) {
        let chunk = self.chunk(index);
        for column in [chunk.offsets(), chunk.items()] {
            let (file, range) = self.place_of(index, column);
            file.will_need(range);
        }
    }

    /// Lets go of the items of chunk `index`, read for now: in a large dataset they no longer count as memory of this
    /// process.
    pub fn release(&self, index: usize) {
        let (file, range) = self.place_of(index, self.chunk(index).items());
        file.release(range);
    }

    /// Tells the system that the chunks of the users from `first` to `last` will be read soon.
    pub(crate) fn will_need_users(&self, first: u32, last: u32) {
        (self.chunk_of(first)..=self.chunk_of(last)).for_each(|chunk| self.will_need(chunk));
    }

    /// Lets go of the chunks of the users from `first` up to, but without, the chunk of `last`, as
    /// [`Interactions::evict`] does.
    pub(crate) fn evict_users(&self, first: u32, last: u32) {
        (self.chunk_of(first)..self.chunk_of(last)).for_each(|chunk| self.evict(chunk));
    }

    /// Bytes of this part's files.
    pub(crate) fn bytes(&self) -> u64 {
        let files = self.shards.iter().flat_map(|shard| [shard.interactions.file(), shard.positives.file()]);
        files.map(|file| file.bytes().len() as u64).sum()
    }

    /// Lets go of the users and items of chunk `index` in the system's page cache, too, unless another program has them
    /// mapped: the next reader gets them from the disk.
    pub(crate) fn evict(&self, index: usize) {
        let chunk = self.chunk(index);
        for column in [chunk.offsets(), chunk.items()] {
            let (file, range) = self.place_of(index, column);
            file.evict(range);
        }
    }

    /// Lets go of all files of this part, in the page cache, too. Until `read_exactly(false)` nothing is read from them
    /// but what is touched or asked for.
    pub(crate) fn read_exactly(&self, exactly: bool) {
        for shard in &self.shards {
            for file in [shard.interactions.file(), shard.positives.file()] {
                file.read_exactly(exactly);
                if exactly {
                    file.evict(0..file.bytes().len());
                }
            }
        }
    }

    /// The file that a column of chunk `index` is in, and where.
    fn place_of(&self, index: usize, column: &[u32_le]) -> (&CheckedFile, std::ops::Range<usize>) {
        let (_, shard, _) = self.index[index];
        let file = self.shards[shard as usize].interactions.file();
        let start = (column.as_ptr() as usize) - (file.bytes().as_ptr() as usize);
        (file, start..start + std::mem::size_of_val(column))
    }

    /// Checks what opening leaves out: that the positives of chunk `index` are exactly its items. O(interactions).
    pub(super) fn verify(&self, index: usize) -> Result<(), String> {
        let chunk = self.chunk(index);
        for u in 0..chunk.users() {
            let (user, items) = (chunk.first_user() + u as u32, chunk.user(u).items);
            let positives = self.positives(user);
            if positives.len() != items.len() as u64 || items.iter().any(|i| !positives.contains(i.to_native())) {
                return Err(format!("the positives of user {user} differ from the interactions"));
            }
        }
        Ok(())
    }
}

/// Consecutive users and their interactions. Columns that the dataset does not have are empty.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    root: &'a ArchivedChunkRoot,
}

impl<'a> Chunk<'a> {
    /// The first user.
    pub fn first_user(&self) -> u32 {
        self.root.first_user.to_native()
    }

    /// Number of users.
    pub fn users(&self) -> usize {
        self.root.offsets.len().saturating_sub(1)
    }

    /// `users + 1` positions in the columns.
    pub fn offsets(&self) -> &'a [u32_le] {
        self.root.offsets.as_slice()
    }

    /// Items, ascending within each user.
    pub fn items(&self) -> &'a [u32_le] {
        self.root.items.as_slice()
    }

    /// Times, where the dataset has them.
    pub(super) fn times(&self) -> &'a [i64_le] {
        self.root.times.as_slice()
    }

    /// The interactions of the chunk's `index`-th user.
    pub fn user(&self, index: usize) -> UserItems<'a> {
        let range = self.root.offsets[index].to_native() as usize..self.root.offsets[index + 1].to_native() as usize;
        UserItems {
            items: &self.root.items[range.clone()],
            times: self.root.times.get(range.clone()).unwrap_or_default(),
            weights: self.root.weights.get(range.clone()).unwrap_or_default(),
            counts: self.root.counts.get(range.clone()).unwrap_or_default(),
            events: self.root.events.get(range).unwrap_or_default(),
        }
    }

    /// Offsets ascend from 0 to the end, columns are whole or absent, no item is out of range, and those of each user
    /// ascend without repeats: what readers index by without a second look.
    fn is_valid(&self, items: u32) -> bool {
        let n = self.items().len();
        let whole = |len: usize| len == 0 || len == n;
        [self.root.times.len(), self.root.weights.len(), self.root.counts.len(), self.root.events.len()]
            .into_iter()
            .all(whole)
            && are_lists(self.offsets(), self.items(), items)
    }
}

/// Whether `offsets` ascend from 0 to the end and delimit lists of items below `bound`, ascending without repeats.
pub(super) fn are_lists(offsets: &[u32_le], items: &[u32_le], bound: u32) -> bool {
    let n = items.len();
    offsets.first().is_some_and(|o| o.to_native() == 0)
        && offsets.last().is_some_and(|o| o.to_native() as usize == n)
        && offsets.is_sorted()
        && (n == 0 || items.iter().fold(0, |max, i| i.to_native().max(max)) < bound)
        && lists_ascend(offsets, items)
}

/// Counts the places where items do not ascend: they must all be where a list begins. Two passes that vectorize are
/// faster than a look at every list.
fn lists_ascend(offsets: &[u32_le], items: &[u32_le]) -> bool {
    let falls = items.iter().zip(items.iter().skip(1)).filter(|(a, b)| a.to_native() >= b.to_native()).count();
    let mut last = 0;
    let mut allowed = 0;
    for start in offsets.iter().map(|o| o.to_native() as usize) {
        if start > last && start < items.len() {
            allowed += usize::from(items[start - 1].to_native() >= items[start].to_native());
        }
        last = start;
    }
    falls == allowed
}

/// One user's interactions, sorted by item. Columns that the dataset does not have are empty.
#[derive(Clone, Copy, Debug)]
pub struct UserItems<'a> {
    /// Dense item ids, ascending.
    pub items: &'a [u32_le],
    /// Milliseconds since 1970-01-01 UTC of the last occurrence.
    pub times: &'a [i64_le],
    /// Summed weights.
    pub weights: &'a [f32_le],
    /// Occurrences; empty where all are 1.
    pub counts: &'a [u32_le],
    /// Event types, as indices into the manifest's `events`.
    pub events: &'a [u8],
}
