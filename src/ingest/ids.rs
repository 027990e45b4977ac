//! Original ids on their way to a dictionary: written when not seen lately, read back sorted by hash and distinct.

use std::sync::Arc;

use super::error::IngestError;
use super::spill::{CHILDREN, Fork, Gather, SPLIT_BUFFER, Spill, SpillReader, TempSpace};
use crate::context::Context;
use crate::storage::StorageError;

/// Bytes of an entry in front of the id: hash and length.
pub(super) const HEAD: usize = 10;

/// Appends an entry: hash (u64), length (u16), id.
#[inline]
pub(super) fn put(hash: u64, id: &[u8], out: &mut Vec<u8>) {
    let mut head = [0u8; HEAD];
    head[..8].copy_from_slice(&hash.to_le_bytes());
    // Readers accept ids up to 65,535 bytes.
    head[8..].copy_from_slice(&(id.len() as u16).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(id);
}

/// Reads the next entry.
pub(super) fn take(reader: &mut SpillReader) -> Result<Option<(u64, &[u8])>, StorageError> {
    let Some(head) = reader.take(HEAD)? else { return Ok(None) };
    let mut hash = [0; 8];
    hash.copy_from_slice(&head[..8]);
    let len = u16::from_le_bytes([head[8], head[9]]);
    Ok(Some((u64::from_le_bytes(hash), reader.need(usize::from(len))?)))
}

/// A direct-mapped cache of ids seen lately, so that most repetitions are not written again.
///
/// The slot comes from the dictionary's hash, what it holds from an independent one. Two ids with the same dictionary
/// hash therefore are both written, and the collision is found when they are sorted.
///
/// It starts small and grows with what it misses: some hundred thousand ids spread over tens of MiB would miss the
/// processor's caches at every row.
pub(super) struct SeenIds {
    slots: Vec<u64>,
    most: usize,
    /// Misses until it grows.
    patience: usize,
}

/// Slots at the start.
const FEW_SLOTS: usize = 1 << 13;

impl SeenIds {
    /// A cache of up to `most` entries (a power of two), 8 bytes each.
    pub(super) fn new(most: usize) -> Self {
        let slots = most.min(FEW_SLOTS);
        Self { slots: vec![0; slots], most, patience: slots }
    }

    /// Whether the id is not in the cache; it is afterwards.
    #[inline]
    pub(super) fn is_new(&mut self, hash: u64, check: u64) -> bool {
        let at = hash as usize & (self.slots.len() - 1);
        // 0 marks a free slot.
        let check = check | 1;
        let is_new = std::mem::replace(&mut self.slots[at], check) != check;
        if is_new {
            self.patience -= 1;
            if self.patience == 0 {
                self.grow();
            }
        }
        is_new
    }

    /// Begins anew with twice the slots: entries do not know where else they belong. Over all growth no more than `2 · most`
    /// ids are missed for it.
    #[cold]
    fn grow(&mut self) {
        if self.slots.len() == self.most {
            self.patience = usize::MAX;
            return;
        }
        let slots = self.slots.len() * 2;
        // Free the old ones before asking for the new.
        self.slots = Vec::new();
        self.slots = vec![0; slots];
        self.patience = slots;
    }
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    start: u32,
    len: u16,
}

/// The distinct ids of a temporary file in the order of their hashes, within a share of memory.
pub(super) struct SortedIds<'a> {
    what: &'static str,
    hash_seed: u64,
    space: &'a Arc<TempSpace>,
    ctx: &'a Context,
    share: usize,
    later: Vec<Spill>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    at: usize,
}

impl<'a> SortedIds<'a> {
    /// Orders the ids of `spills`, whose ranges of hashes ascend, holding about `share` bytes. `what` and `hash_seed` are for messages.
    pub(super) fn new(
        what: &'static str,
        hash_seed: u64,
        mut spills: Vec<Spill>,
        space: &'a Arc<TempSpace>,
        share: usize,
        ctx: &'a Context,
    ) -> Self {
        spills.reverse();
        let later = spills;
        // An id may be long, and bytes are copied when repetitions are dropped: leave room for that.
        let share = (share / 3).clamp(256, 1 << 30);
        Self { what, hash_seed, space, ctx, share, later, entries: Vec::new(), bytes: Vec::new(), at: 0 }
    }

    /// The next id with its hash.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>, IngestError> {
        while self.at == self.entries.len() {
            let Some(spill) = self.later.pop() else { return Ok(None) };
            self.load(spill)?;
        }
        let entry = self.entries[self.at];
        self.at += 1;
        Ok(Some((entry.hash, id(&self.bytes, entry))))
    }

    /// The id with this hash; those before it are passed over. Hashes must ascend from call to call.
    pub(super) fn find(&mut self, hash: u64) -> Result<Option<&[u8]>, IngestError> {
        loop {
            while self.at == self.entries.len() {
                let Some(spill) = self.later.pop() else { return Ok(None) };
                self.load(spill)?;
            }
            let entry = self.entries[self.at];
            if entry.hash >= hash {
                return Ok((entry.hash == hash).then(|| id(&self.bytes, entry)));
            }
            self.at += 1;
        }
    }

    fn used(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    fn load(&mut self, spill: Spill) -> Result<(), IngestError> {
        spill.seal();
        self.entries.clear();
        self.bytes.clear();
        self.at = 0;
        let mut reader = spill.read()?;
        while let Some((hash, id)) = take(&mut reader)? {
            self.entries.push(Entry { hash, start: self.bytes.len() as u32, len: id.len() as u16 });
            self.bytes.extend_from_slice(id);
            if self.used() > self.share && self.entries.len() > 1 {
                self.ctx.check()?;
                self.compact()?;
                if self.used() > self.share / 2 && self.entries.len() > 1 {
                    self.entries = Vec::new();
                    self.bytes = Vec::new();
                    return self.split(&spill);
                }
            }
        }
        self.compact()
    }

    /// Sorts what is held and drops repetitions.
    fn compact(&mut self) -> Result<(), IngestError> {
        let bytes = &self.bytes;
        self.entries.sort_unstable_by(|a, b| a.hash.cmp(&b.hash).then_with(|| id(bytes, *a).cmp(id(bytes, *b))));
        let mut kept = Vec::new();
        let mut count = 0usize;
        for i in 0..self.entries.len() {
            let entry = self.entries[i];
            if let Some(last) = count.checked_sub(1).map(|c| self.entries[c])
                && last.hash == entry.hash
            {
                let (first, second) = (id(&kept, last), id(&self.bytes, entry));
                if first == second {
                    continue;
                }
                return Err(self.collision(first, second));
            }
            let start = kept.len() as u32;
            kept.extend_from_slice(id(&self.bytes, entry));
            self.entries[count] = Entry { start, ..entry };
            count += 1;
        }
        self.entries.truncate(count);
        self.bytes = kept;
        Ok(())
    }

    #[cold]
    fn collision(&self, first: &[u8], second: &[u8]) -> IngestError {
        IngestError::Collision {
            what: self.what,
            first: String::from_utf8_lossy(first).into_owned(),
            second: String::from_utf8_lossy(second).into_owned(),
            remedy: self.hash_seed.wrapping_add(1),
        }
    }

    fn split(&mut self, spill: &Spill) -> Result<(), IngestError> {
        let mut first = None;
        let mut differing = 0;
        let mut reader = spill.read()?;
        while let Some((hash, _)) = take(&mut reader)? {
            differing |= hash ^ *first.get_or_insert(hash);
        }
        // There is more than one hash, else all but one entry would have been dropped or been a collision.
        let Some(fork) = Fork::on(differing) else { return Ok(()) };
        let children = Spill::several(self.space, CHILDREN);
        let mut gather = Gather::new(CHILDREN, SPLIT_BUFFER);
        let mut reader = spill.read()?;
        while let Some((hash, id)) = take(&mut reader)? {
            let child = fork.child(hash);
            gather.make_room(child, HEAD + id.len(), &children)?;
            put(hash, id, gather.buffer(child));
        }
        gather.finish(&children)?;
        children.iter().for_each(Spill::seal);
        self.later.extend(children.into_iter().rev().filter(|c| c.len() > 0));
        Ok(())
    }
}

fn id(bytes: &[u8], entry: Entry) -> &[u8] {
    &bytes[entry.start as usize..][..usize::from(entry.len)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;
    use crate::dataset::id_hash;
    use proptest::prelude::*;

    fn sorted(entries: &[(u64, Vec<u8>)], share: usize) -> Result<Vec<(u64, Vec<u8>)>, IngestError> {
        let folder = tempfile::tempdir().unwrap();
        let space = TempSpace::create(folder.path().join("t")).unwrap();
        let spill = Spill::new(&space);
        let mut bytes = Vec::new();
        entries.iter().for_each(|(hash, id)| put(*hash, id, &mut bytes));
        spill.append(&bytes).unwrap();
        let ctx = Context::new(1, ByteSize(1 << 20));
        let mut ids = SortedIds::new("user", 0, vec![spill], &space, share, &ctx);
        let mut found = Vec::new();
        while let Some((hash, id)) = ids.next()? {
            found.push((hash, id.to_vec()));
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn ids_come_distinct_and_in_order(names in proptest::collection::vec("[a-z]{1,40}", 1..300), share in 0usize..4000) {
            let entries: Vec<_> =
                names.iter().chain(&names).map(|n| (id_hash(n.as_bytes(), 3), n.clone().into_bytes())).collect();
            let wanted: std::collections::BTreeMap<_, _> = entries.iter().cloned().collect();
            prop_assert_eq!(sorted(&entries, share).unwrap(), wanted.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_collision_is_told_with_a_remedy() {
        let entries = [(7, b"anna".to_vec()), (9, b"carl".to_vec()), (7, b"bert".to_vec())];
        let text = sorted(&entries, 1 << 20).unwrap_err().to_string();
        assert!(text.contains("'anna' and 'bert'") && text.contains("--hash-seed, such as 1"), "{text}");
    }

    #[test]
    fn ids_that_share_a_dictionary_hash_are_both_new() {
        let mut seen = SeenIds::new(8);
        assert!(seen.is_new(5, 100));
        assert!(!seen.is_new(5, 100));
        assert!(seen.is_new(5, 200));
    }
}
