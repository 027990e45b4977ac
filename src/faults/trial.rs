//! Tries an operation with a crash or a fault at each of its calls.

use std::collections::{BTreeSet, HashSet};
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::image::{Disk, Image, WAYS};
use crate::storage::double::{Fault, Op, Watched};

type Done = Result<(), Box<dyn Error>>;
type State = Result<String, Box<dyn Error>>;

/// An operation below a folder. What it reads, but may not change, is elsewhere.
pub(super) struct Trial<'a> {
    /// Makes what is there before.
    pub(super) prepare: &'a dyn Fn(&Path),
    /// The operation.
    pub(super) act: &'a dyn Fn(&Path) -> Done,
    /// Opens and verifies what is there, and says what it is: equal texts for equal content. An error is a third state.
    pub(super) state: &'a dyn Fn(&Path) -> State,
    /// What a user does next: it gets to the new state from wherever the operation ended.
    pub(super) again: &'a dyn Fn(&Path) -> Done,
}

/// What happens at every call.
#[derive(Clone, Copy)]
pub(super) enum Tried {
    Crash,
    Fault,
}

/// What a trial found the same everywhere.
struct Around {
    folder: tempfile::TempDir,
    /// Where the operation works.
    root: PathBuf,
    before: Image,
    old: String,
    new: String,
    /// Names of all there is when it is done.
    names: BTreeSet<PathBuf>,
}

impl Trial<'_> {
    fn around(&self) -> Around {
        // Where syncing costs nothing, if there is such a place.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        (self.prepare)(&root);
        let before = Disk::scan(&root).crash(0);
        let old = (self.state)(&root).unwrap();
        (self.act)(&root).unwrap();
        let new = (self.state)(&root).unwrap();
        assert_ne!(old, new, "the operation changes nothing");
        let names = Disk::scan(&root).crash(0).into_keys().collect();
        Around { folder, root, before, old, new, names }
    }

    /// Does it. Returns how many cases there were.
    pub(super) fn run(&self, tried: Tried) -> usize {
        match tried {
            Tried::Crash => self.crash(),
            Tried::Fault => self.fault(),
        }
    }

    /// Crashes after every call, in every way there is. Returns how many different disks were looked at.
    fn crash(&self) -> usize {
        let around = self.around();
        let Around { root, old, new, .. } = &around;
        put(root, &around.before);
        let mut disk = Disk::scan(root);
        let watched = Watched::new(root);
        (self.act)(root).unwrap();
        let trace = watched.trace();
        drop(watched);
        let mut seen = HashSet::new();
        for number in 0..=trace.len() {
            for way in 0..WAYS {
                let image = disk.crash(way);
                let mut hash = DefaultHasher::new();
                (&image, number == trace.len()).hash(&mut hash);
                if !seen.insert(hash.finish()) {
                    continue;
                }
                let what = || {
                    let last = number.checked_sub(1).map(|last| short(&trace[last]));
                    format!("crash after call {number} of {}, {last:?}, way {way}", trace.len())
                };
                put(root, &image);
                let state = (self.state)(root).unwrap_or_else(|e| panic!("{}: {e}\n{:#?}", what(), image.keys()));
                assert!([old, new].contains(&&state), "{}: neither old nor new, but {state}", what());
                assert!(number < trace.len() || state == *new, "{}: it was done, and is lost", what());
                self.go_on(&around, &what);
            }
            trace.get(number).into_iter().for_each(|op| disk.apply(op));
        }
        seen.len()
    }

    /// Refuses every call in turn, once and for good. Returns how many there are.
    fn fault(&self) -> usize {
        let around = self.around();
        let Around { root, old, new, .. } = &around;
        let errors = [Errno::NOSPC, Errno::IO, Errno::ACCESS, Errno::ROFS, Errno::INVAL];
        for at in 0.. {
            let mut reached = false;
            for (error, stays) in [(errors[at % errors.len()], false), (errors[(at + 1) % 4], true)] {
                put(root, &around.before);
                let watched = Watched::new(root).fail(Fault { at, error, stays });
                let done = (self.act)(root);
                let Some(failed) = watched.failed() else { continue };
                let before = watched.trace();
                // What was replaced by a rename cannot be brought back if only the sync that follows fails.
                let replaced =
                    matches!(before.last(), Some(Op::Rename { .. })) && matches!(failed, Op::SyncFolder { .. });
                // The file of rejects gets its name after the dataset.
                let mut tried = before.iter().chain([&failed]);
                let late = tried.any(|op| op.renames() && short(op).contains(".rejects.ndjson"));
                // What a change has made unnecessary is removed after the manifest says that it has been made.
                let made = |op: &Op| matches!(op, Op::Rename { to, .. } if ["out.pec", "out.model"].iter().any(|of| to.ends_with(format!("{of}/manifest.json"))));
                let late = stays || replaced || late || before.iter().any(made);
                drop(watched);
                reached = true;
                let what = || format!("{error:?} at call {at} ({}), stays: {stays}", short(&failed));
                let state = (self.state)(root).unwrap_or_else(|e| panic!("{}: {e}", what()));
                match &done {
                    // What is only tidied up may fail.
                    Ok(()) => assert_eq!(state, *new, "{}", what()),
                    Err(e) => {
                        let said = e.to_string();
                        assert!(state == *old || late && state == *new, "{}: {state}", what());
                        let root = around.folder.path().to_str().unwrap();
                        assert!(said.contains(root), "{}: no path in: {said}", what());
                        let remedy = match error {
                            Errno::NOSPC => "free some space",
                            Errno::ACCESS => "change the permissions",
                            Errno::ROFS => "choose another place",
                            Errno::IO => "the disk",
                            _ => "",
                        };
                        assert!(said.contains(remedy), "{}: no remedy in: {said}", what());
                    }
                }
                self.go_on(&around, &what);
            }
            if !reached {
                put(root, &around.before);
                let watched = Watched::new(root).shorten(777);
                (self.act)(root).unwrap();
                drop(watched);
                assert_eq!((self.state)(root).unwrap(), *new, "short writes");
                return at;
            }
        }
        unreachable!()
    }

    /// The next run gets to the new state and leaves nothing else.
    fn go_on(&self, around: &Around, what: &dyn Fn() -> String) {
        (self.again)(&around.root).unwrap_or_else(|e| panic!("{}: then: {e}", what()));
        let state = (self.state)(&around.root).unwrap_or_else(|e| panic!("{}: then: {e}", what()));
        assert_eq!(state, around.new, "{}: then", what());
        // A run log may be missing: no training fails for it. A lock stays with whoever had to take it.
        let may_differ = |path: &PathBuf| path.file_name().is_some_and(|name| name == "run.ndjson" || name == ".lock");
        let names: BTreeSet<PathBuf> =
            Disk::scan(&around.root).crash(0).into_keys().filter(|path| !may_differ(path)).collect();
        let wanted: BTreeSet<PathBuf> = around.names.iter().filter(|path| !may_differ(path)).cloned().collect();
        assert_eq!(names, wanted, "{}: left behind", what());
    }
}

/// Makes `root` hold this and nothing else.
pub(super) fn put(root: &Path, image: &Image) {
    std::fs::remove_dir_all(root).unwrap();
    std::fs::create_dir(root).unwrap();
    for (path, content) in image {
        match content {
            None => std::fs::create_dir(root.join(path)).unwrap(),
            Some(bytes) => std::fs::write(root.join(path), bytes).unwrap(),
        }
    }
}

/// An operation without its bytes.
fn short(op: &impl std::fmt::Debug) -> String {
    let text = format!("{op:?}");
    text.find("bytes: [").map_or(text.clone(), |end| text[..end].to_string())
}
