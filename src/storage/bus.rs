//! Files that are mapped, and what is said when one of them is cut off or fails while it is read.
//!
//! Touching a page of a map whose file no longer has it, or whose disk cannot read it, raises SIGBUS, which ends the process
//! without a word. The handler here looks the address up among the maps and says which file it was. It may run at any
//! instant in any thread, so all it does is load atomics and call `write` and `_exit`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use super::error::{IoContext, StorageError};

/// Where one map is, for the handler. Even generations are whole; while fields change it is odd.
struct Slot {
    generation: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    path: AtomicPtr<u8>,
    path_len: AtomicUsize,
    file: AtomicI32,
}

const SLOTS: usize = 256;

/// Slots are never freed: there are as many as there were maps at once.
struct Block {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Self {
        let slots = [const {
            Slot {
                generation: AtomicUsize::new(0),
                start: AtomicUsize::new(0),
                end: AtomicUsize::new(0),
                path: AtomicPtr::new(std::ptr::null_mut()),
                path_len: AtomicUsize::new(0),
                file: AtomicI32::new(-1),
            }
        }; SLOTS];
        Self { slots, next: AtomicPtr::new(std::ptr::null_mut()) }
    }
}

static FIRST: Block = Block::new();
/// Slots that nobody uses, and how many of the last block have never been used. Held by whoever changes a slot.
static FREE: Mutex<Free> = Mutex::new(Free { slots: Vec::new(), last: &FIRST, used: 0 });

struct Free {
    slots: Vec<&'static Slot>,
    last: &'static Block,
    used: usize,
}

fn free() -> MutexGuard<'static, Free> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map that the handler knows. Dropped before the map is.
#[derive(Debug)]
pub(crate) struct InUse {
    slot: &'static Slot,
    /// What the slot points at.
    _path: Box<[u8]>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("start", &self.start).field("end", &self.end).finish()
    }
}

impl InUse {
    /// Makes the map `bytes` of `file`, called `path`, known. The file must stay open as long.
    pub(crate) fn new(bytes: &[u8], file: &File, path: &Path) -> Self {
        let path: Box<[u8]> = path.as_os_str().as_bytes().into();
        let mut free = free();
        let slot = free.slots.pop().unwrap_or_else(|| {
            if free.used == SLOTS {
                let block: &'static Block = Box::leak(Box::new(Block::new()));
                free.last.next.store((&raw const *block).cast_mut(), Ordering::Release);
                (free.last, free.used) = (block, 0);
            }
            free.used += 1;
            &free.last.slots[free.used - 1]
        });
        let start = bytes.as_ptr() as usize;
        slot.set(start, start + bytes.len(), &path, file.as_raw_fd());
        Self { slot, _path: path }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut free = free();
        self.slot.set(0, 0, &[], -1);
        free.slots.push(self.slot);
    }
}

impl Slot {
    /// Under the lock of [`FREE`].
    fn set(&self, start: usize, end: usize, path: &[u8], file: RawFd) {
        let generation = self.generation.load(Ordering::Relaxed);
        self.generation.store(generation + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.path.store(path.as_ptr().cast_mut(), Ordering::Relaxed);
        self.path_len.store(path.len(), Ordering::Relaxed);
        self.file.store(file, Ordering::Relaxed);
        self.generation.store(generation + 2, Ordering::Release);
    }

    /// The path if `address` is in the map, without locks.
    fn path_at(&self, address: usize) -> Option<(*const u8, usize)> {
        let before = self.generation.load(Ordering::Acquire);
        let range = self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed);
        let path = (self.path.load(Ordering::Relaxed).cast_const(), self.path_len.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let whole = before.is_multiple_of(2) && self.generation.load(Ordering::Relaxed) == before;
        (whole && range.contains(&address)).then_some(path)
    }
}

fn slots() -> impl Iterator<Item = &'static Slot> {
    let next = |block: &&'static Block| {
        // SAFETY: null, or a block that was leaked after it had been filled in.
        unsafe { block.next.load(Ordering::Acquire).as_ref() }
    };
    std::iter::successors(Some(&FIRST), next).flat_map(|block| &block.slots)
}

/// Whether the files below `folder` that are in use have the length that they had when they were mapped.
///
/// A file that is cut off inside of its last page raises no signal: what is missing reads as zeros.
pub(crate) fn check_in_use(folder: &Path) -> Result<(), StorageError> {
    let _held = free();
    for slot in slots().filter(|slot| slot.file.load(Ordering::Relaxed) >= 0) {
        let (path, len) = (slot.path.load(Ordering::Relaxed), slot.path_len.load(Ordering::Relaxed));
        // SAFETY: slots change under the lock that is held here: the path and the file are those of a value that lives.
        let (path, file) = unsafe {
            let path = std::slice::from_raw_parts(path, len).to_vec();
            (
                PathBuf::from(std::ffi::OsString::from_vec(path)),
                BorrowedFd::borrow_raw(slot.file.load(Ordering::Relaxed)),
            )
        };
        if path.starts_with(folder) {
            let now =
                rustix::fs::fstat(file).map_err(std::io::Error::from).at(&path, "read the size of")?.st_size as u64;
            let then = (slot.end.load(Ordering::Relaxed) - slot.start.load(Ordering::Relaxed)) as u64;
            if now < then {
                let reason = format!("it was truncated from {then} to {now} bytes while in use");
                return Err(StorageError::Damaged { path, reason });
            }
        }
    }
    Ok(())
}

/// How the process ends if a file fails while it is mapped.
const EXIT_CODE: i32 = 1;
const SAID: &[u8] = b": was truncated, or its disk is failing, while in use; restore the file from a copy or make it \
again, and let nobody change files that are being read\n";

static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
static TO_TERMINAL: AtomicBool = AtomicBool::new(false);

/// Lets the process end with an error message, and exit code 1, where it would end without a word: when a file of a
/// dataset or model that is in use was truncated by another program, or can no longer be read from its disk.
///
/// Installs a handler of SIGBUS for the whole process, once; the `peccary` command does so. Faults at addresses outside of
/// Peccary's maps go to the handler that was there before, or end the process as they did. Nothing is cleaned up: what
/// lies under temporary names is removed by the next run.
pub fn explain_bus_errors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        TO_TERMINAL.store(std::io::stderr().is_terminal(), Ordering::Relaxed);
        // SAFETY: plain C structures, for which zeros are valid, and calls that the process may make at any time. The
        // handler does what is allowed in one (see there); what was there before is known before it can run.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut previous) != 0 {
                return;
            }
            let _ = PREVIOUS.set(previous);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            // Refused, all stays as it was.
            let _ = libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        }
    });
}

/// Lets writing beyond the process's limit of a file's size (`ulimit -f`) fail with an error, where the system would end the
/// process without a word: SIGXFSZ is ignored, for the whole process, unless it has a handler. The `peccary` command does so.
pub fn explain_file_limits() {
    // SAFETY: plain C structures, for which zeros are valid, and calls that the process may make at any time.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGXFSZ, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_DFL {
            action.sa_sigaction = libc::SIG_IGN;
            // Refused, all stays as it was.
            let _ = libc::sigaction(libc::SIGXFSZ, &action, std::ptr::null_mut());
        }
    }
}

/// The handler: async-signal-safe, for it loads atomics, follows pointers that stay, and calls `write` and `_exit` alone.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system gives a valid `info`. `si_addr` means something where the kernel raised the signal (code above 0).
    let address = unsafe { if (*info).si_code > 0 { (*info).si_addr() as usize } else { 0 } };
    if let Some((path, len)) = slots().find_map(|slot| slot.path_at(address)).filter(|_| address != 0) {
        let head: &[u8] = if TO_TERMINAL.load(Ordering::Relaxed) { b"\nerror: " } else { b"error: " };
        // SAFETY: maps do not overlap, and this thread is reading the one that the slot is of: so it lives, and with it the
        // path.
        let path = unsafe { std::slice::from_raw_parts(path, len) };
        for text in [head, path, SAID] {
            // SAFETY: the bytes are valid; what cannot be written is lost, for there is nobody to tell.
            let _ = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        }
        // SAFETY: ends the process without running anything of it.
        unsafe { libc::_exit(EXIT_CODE) };
    }
    let previous = PREVIOUS.get();
    let handler = previous.map_or(libc::SIG_DFL, |action| action.sa_sigaction);
    // SAFETY: a handler that was installed is a function of the kind that its flags say; where there was none, the default
    // action is restored, and takes place when the instruction is tried again.
    unsafe {
        match previous {
            Some(action) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => {
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    let call: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        std::mem::transmute(handler);
                    call(signal, info, context);
                } else {
                    let call: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                    call(signal);
                }
            }
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                if address == 0 {
                    libc::raise(signal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(address: *const u8) -> Option<Vec<u8>> {
        let (path, len) = slots().find_map(|slot| slot.path_at(address as usize))?;
        // SAFETY: the caller has the map.
        Some(unsafe { std::slice::from_raw_parts(path, len) }.to_vec())
    }

    #[test]
    fn maps_are_found_by_any_address_inside_as_long_as_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create_new(folder.path().join("a")).unwrap();
        let maps: Vec<Vec<u8>> = (1..2 * SLOTS + 9).map(|i| vec![0; i]).collect();
        let name = |i: usize| folder.path().join(i.to_string());
        for _ in 0..2 {
            let used: Vec<InUse> = maps.iter().enumerate().map(|(i, map)| InUse::new(map, &file, &name(i))).collect();
            for (i, map) in maps.iter().enumerate() {
                for at in [0, map.len() / 2, map.len() - 1] {
                    assert_eq!(path_of(&map[at]).unwrap(), name(i).as_os_str().as_bytes());
                }
            }
            drop(used);
            assert!(maps.iter().all(|map| path_of(map.as_ptr()).is_none()));
        }
        assert!(slots().count() >= 2 * SLOTS);
    }

    #[test]
    fn a_file_that_shrank_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create_new(folder.path().join("a")).unwrap();
        file.set_len(100).unwrap();
        let bytes = vec![0; 100];
        let _used = InUse::new(&bytes, &file, &folder.path().join("a"));
        check_in_use(folder.path()).unwrap();
        file.set_len(99).unwrap();
        let error = check_in_use(folder.path()).unwrap_err().to_string();
        assert!(error.contains("from 100 to 99"), "{error}");
        check_in_use(&folder.path().join("other")).unwrap();
    }
}
