//! A model of a disk: what is there now, and what a crash may leave of it.
//!
//! Data is durable when its file was synced. A name is durable when its folder was synced; until then a crash may keep any
//! of the pending changes, whatever their order, but for those of the same name: of these it keeps a beginning. A rename is
//! one change, also between folders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::mix::mix;
use crate::storage::double::Op;

/// Files and folders (without content) by their paths below the root.
pub(super) type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

#[derive(Clone)]
enum Node {
    File { live: Vec<u8>, durable: Vec<u8>, last: (usize, usize) },
    Folder { live: BTreeMap<OsString, usize>, durable: BTreeMap<OsString, usize> },
}

/// Entries that change together: folder, name, and what is there then.
type Change = Vec<(usize, OsString, Option<usize>)>;

/// What a crash does to data that was not synced.
#[derive(Clone, Copy, PartialEq)]
enum Data {
    Lost,
    Kept,
    /// The second half of the last write is missing.
    Short,
    /// The second half of the last write is zeros.
    Zeros,
}

/// How many ways there are for a crash to go.
pub(super) const WAYS: u64 = 10;

/// A folder on the modelled disk.
pub(super) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    by_inode: HashMap<u64, usize>,
    pending: Vec<Change>,
}

impl Disk {
    /// As `root` is now, all of it durable.
    pub(super) fn scan(root: &Path) -> Self {
        let mut disk =
            Self { root: root.to_path_buf(), nodes: Vec::new(), by_inode: HashMap::new(), pending: Vec::new() };
        disk.add(root);
        disk
    }

    fn add(&mut self, path: &Path) -> usize {
        let number = self.nodes.len();
        self.by_inode.insert(path.metadata().unwrap().ino(), number);
        if path.is_dir() {
            self.nodes.push(Node::Folder { live: BTreeMap::new(), durable: BTreeMap::new() });
            for entry in path.read_dir().unwrap() {
                let entry = entry.unwrap();
                let child = self.add(&entry.path());
                let Node::Folder { live, durable } = &mut self.nodes[number] else { unreachable!() };
                live.insert(entry.file_name(), child);
                durable.insert(entry.file_name(), child);
            }
        } else {
            let bytes = std::fs::read(path).unwrap();
            self.nodes.push(Node::File { live: bytes.clone(), durable: bytes, last: (0, 0) });
        }
        number
    }

    /// The number of the folder that `path` is in, and its name there.
    fn place(&self, path: &Path) -> (usize, OsString) {
        let parent = self.find(path.parent().unwrap());
        (parent, path.file_name().unwrap().to_os_string())
    }

    fn find(&self, path: &Path) -> usize {
        let below = path.strip_prefix(&self.root).unwrap();
        below.iter().fold(0, |at, name| match &self.nodes[at] {
            Node::Folder { live, .. } => live[name],
            Node::File { .. } => panic!("{} goes through a file", path.display()),
        })
    }

    fn change(&mut self, change: Change) {
        for (folder, name, node) in &change {
            let Node::Folder { live, .. } = &mut self.nodes[*folder] else { panic!("{name:?} in a file") };
            set(live, name, *node);
        }
        self.pending.push(change);
    }

    /// Does what was done.
    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Open { .. } => {}
            Op::CreateFile { path, inode } => {
                let node = self.nodes.len();
                self.nodes.push(Node::File { live: Vec::new(), durable: Vec::new(), last: (0, 0) });
                self.by_inode.insert(*inode, node);
                let (folder, name) = self.place(path);
                self.change(vec![(folder, name, Some(node))]);
            }
            Op::CreateFolder { path } => {
                let node = self.nodes.len();
                self.nodes.push(Node::Folder { live: BTreeMap::new(), durable: BTreeMap::new() });
                let (folder, name) = self.place(path);
                self.change(vec![(folder, name, Some(node))]);
            }
            Op::Write { inode, at, bytes, .. } => {
                let Node::File { live, last, .. } = &mut self.nodes[self.by_inode[inode]] else { unreachable!() };
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                live.resize(live.len().max(end), 0);
                live[at..end].copy_from_slice(bytes);
                *last = (at, end);
            }
            Op::SetLen { inode, bytes, .. } => {
                let Node::File { live, last, .. } = &mut self.nodes[self.by_inode[inode]] else { unreachable!() };
                live.resize(*bytes as usize, 0);
                *last = (live.len(), live.len());
            }
            Op::SyncFile { inode, .. } => {
                let Node::File { live, durable, .. } = &mut self.nodes[self.by_inode[inode]] else { unreachable!() };
                durable.clone_from(live);
            }
            Op::SyncFolder { path } => {
                let folder = self.find(path);
                let chosen = self.closed(|change| change.iter().any(|(of, ..)| *of == folder));
                let mut number = 0;
                for change in std::mem::take(&mut self.pending) {
                    if chosen.contains(&number) {
                        for (folder, name, node) in &change {
                            let Node::Folder { durable, .. } = &mut self.nodes[*folder] else { unreachable!() };
                            set(durable, name, *node);
                        }
                    } else {
                        self.pending.push(change);
                    }
                    number += 1;
                }
            }
            Op::Rename { from, to } | Op::RenameNew { from, to } => {
                let node = self.find(from);
                let ((from, old), (to, new)) = (self.place(from), self.place(to));
                self.change(vec![(from, old, None), (to, new, Some(node))]);
            }
            Op::Exchange { one, other } => {
                let (a, b) = (self.find(one), self.find(other));
                let ((x, one), (y, other)) = (self.place(one), self.place(other));
                self.change(vec![(x, one, Some(b)), (y, other, Some(a))]);
            }
            Op::RemoveFile { path } | Op::RemoveFolder { path } => {
                let (folder, name) = self.place(path);
                self.change(vec![(folder, name, None)]);
            }
        }
    }

    /// The pending changes that are `wanted`, and those before them of the same names.
    fn closed(&self, mut wanted: impl FnMut(&Change) -> bool) -> BTreeSet<usize> {
        let mut chosen = BTreeSet::new();
        let mut names: BTreeSet<(usize, &OsString)> = BTreeSet::new();
        for (number, change) in self.pending.iter().enumerate().rev() {
            if wanted(change) || change.iter().any(|(folder, name, _)| names.contains(&(*folder, name))) {
                chosen.insert(number);
                names.extend(change.iter().map(|(folder, name, _)| (*folder, name)));
            }
        }
        chosen
    }

    /// What a crash leaves if it goes the way `way`.
    pub(super) fn crash(&self, way: u64) -> Image {
        let mut draw = way;
        let mut random = || {
            draw = mix(draw.wrapping_add(0x9E37_79B9_7F4A_7C15));
            draw
        };
        let (names, data) = match way {
            0 => (Some(false), Some(Data::Lost)),
            1 => (Some(true), Some(Data::Kept)),
            2 => (Some(true), Some(Data::Lost)),
            3 => (Some(false), Some(Data::Kept)),
            4 => (Some(true), Some(Data::Short)),
            5 => (Some(true), Some(Data::Zeros)),
            _ => (None, None),
        };
        let chosen = self.closed(|_| names.unwrap_or_else(|| random() & 1 == 0));
        let mut entries: HashMap<usize, BTreeMap<OsString, usize>> = HashMap::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if let Node::Folder { durable, .. } = node {
                entries.insert(number, durable.clone());
            }
        }
        for number in chosen {
            for (folder, name, node) in &self.pending[number] {
                set(entries.get_mut(folder).unwrap(), name, *node);
            }
        }
        let each = [Data::Lost, Data::Kept, Data::Short, Data::Zeros];
        let data: Vec<Data> =
            self.nodes.iter().map(|_| data.unwrap_or_else(|| each[random() as usize % each.len()])).collect();
        let mut image = Image::new();
        let mut open = vec![(PathBuf::new(), 0)];
        while let Some((path, folder)) = open.pop() {
            for (name, node) in &entries[&folder] {
                let path = path.join(name);
                match &self.nodes[*node] {
                    Node::Folder { .. } => {
                        image.insert(path.clone(), None);
                        open.push((path, *node));
                    }
                    Node::File { live, durable, last } => {
                        image.insert(path, Some(left(live, durable, *last, data[*node])));
                    }
                }
            }
        }
        image
    }
}

fn set(entries: &mut BTreeMap<OsString, usize>, name: &OsString, node: Option<usize>) {
    match node {
        Some(node) => entries.insert(name.clone(), node),
        None => entries.remove(name),
    };
}

/// What is left of a file.
fn left(live: &[u8], durable: &[u8], (from, to): (usize, usize), data: Data) -> Vec<u8> {
    if live == durable {
        return durable.to_vec();
    }
    let half = from + (to - from) / 2;
    match data {
        Data::Lost => durable.to_vec(),
        Data::Kept => live.to_vec(),
        Data::Short => live[..half.min(live.len())].to_vec(),
        Data::Zeros => {
            let mut bytes = live.to_vec();
            bytes[half.min(live.len())..to.min(live.len())].fill(0);
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::double::Watched;
    use crate::storage::{disk, replace_file};
    use std::io::Write;

    /// All that a crash may leave behind the last call, and before.
    fn contents(root: &Path, name: &str, act: impl Fn()) -> [BTreeSet<Option<Vec<u8>>>; 2] {
        let mut disk = Disk::scan(root);
        let watched = Watched::new(root);
        act();
        let mut seen = [BTreeSet::new(), BTreeSet::new()];
        let trace = watched.trace();
        for number in 0..=trace.len() {
            for way in 0..WAYS {
                let content = disk.crash(way).get(Path::new(name)).cloned().flatten();
                seen[usize::from(number == trace.len())].insert(content);
            }
            trace.get(number).into_iter().for_each(|op| disk.apply(op));
        }
        seen
    }

    #[test]
    fn what_was_not_synced_may_be_lost_and_what_was_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        let text = |bytes: &str| Some(bytes.as_bytes().to_vec());
        std::fs::write(&path, "old").unwrap();
        let [before, after] = contents(root.path(), "a", || replace_file(&path, b"new!").unwrap());
        assert_eq!(before, BTreeSet::from([text("old"), text("new!")]));
        assert_eq!(after, BTreeSet::from([text("new!")]));
        // The same without care: then there must be a third state, or this finds nothing anywhere.
        let [_, careless] = contents(root.path(), "a", || {
            let next = root.path().join("b");
            disk::DiskFile::create_new(&next).unwrap().write_all(b"newer").unwrap();
            disk::rename(&next, &path).unwrap();
        });
        assert!(careless.contains(&text("")) && careless.contains(&text("ne")), "{careless:?}");
        assert!(careless.contains(&text("new!")) && careless.contains(&text("newer")), "{careless:?}");
        let [_, removed] = contents(root.path(), "a", || disk::remove_file(&path).unwrap());
        assert_eq!(removed, BTreeSet::from([None, text("newer")]));
    }
}
