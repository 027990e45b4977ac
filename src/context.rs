//! What every long operation is handed: threads, a memory budget, progress, and a way to be stopped.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// A number of bytes, written and read as `2GiB`, `512MiB`, `64KiB` or a plain number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (name, size) in UNITS {
            if self.0 >= size {
                let value = self.0 as f64 / size as f64;
                return if self.0.is_multiple_of(size) {
                    write!(f, "{}{name}", self.0 / size)
                } else {
                    write!(f, "{value:.1}{name}")
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(format!("unknown unit '{unit}'; write a size such as 512MiB or 2GiB")),
        };
        let value: f64 =
            number.parse().map_err(|_| format!("'{text}' is not a size; write one such as 512MiB or 2GiB"))?;
        let bytes = value * scale as f64;
        if !bytes.is_finite() || bytes < 1.0 || bytes > u64::MAX as f64 / 2.0 {
            return Err(format!("'{text}' is out of range for a size"));
        }
        Ok(Self(bytes as u64))
    }
}

/// What the counts of a [`Stage`] count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown as MiB and GiB.
    Bytes,
    /// Rows of a log.
    Rows,
    /// Users.
    Users,
    /// Items.
    Items,
    /// Training triples (user, positive, negative).
    Triples,
    /// Epochs of training, of several runs.
    Epochs,
}

/// Where progress goes: a terminal, plain lines, or nowhere ([`Silent`]).
pub trait Progress: Send + Sync {
    /// A stage begins. `done` counts up, towards `total` where that is known; `note` holds a short text to show.
    fn begin(&self, name: &str, total: Option<u64>, unit: Unit, live: Arc<Live>);
    /// The stage begun last has ended.
    fn end(&self);
    /// A line that the user should see.
    fn message(&self, text: &str);
}

/// The live counters of a stage, read by whoever displays them.
#[derive(Debug, Default)]
pub struct Live {
    done: AtomicU64,
    note: std::sync::Mutex<String>,
}

impl Live {
    /// How much is done so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The note to show beside the count, such as the current loss.
    pub fn note(&self) -> String {
        self.note.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>, _: Unit, _: Arc<Live>) {}
    fn end(&self) {}
    fn message(&self, _: &str) {}
}

/// Passes everything on, and messages to a listener as well.
struct Overheard<F> {
    progress: Arc<dyn Progress>,
    listener: F,
}

impl<F: Fn(&str) + Send + Sync> Progress for Overheard<F> {
    fn begin(&self, name: &str, total: Option<u64>, unit: Unit, live: Arc<Live>) {
        self.progress.begin(name, total, unit, live);
    }

    fn end(&self) {
        self.progress.end();
    }

    fn message(&self, text: &str) {
        self.progress.message(text);
        (self.listener)(text);
    }
}

/// One running stage; it ends when dropped.
pub struct Stage<'a> {
    live: Arc<Live>,
    progress: &'a dyn Progress,
}

impl Stage<'_> {
    /// Counts `n` more as done. Cheap, but not for every row: call it once a block.
    pub fn add(&self, n: u64) {
        self.live.done.fetch_add(n, Ordering::Relaxed);
    }

    /// Replaces the note shown beside the count.
    pub fn note(&self, text: impl Into<String>) {
        *self.live.note.lock().unwrap_or_else(|e| e.into_inner()) = text.into();
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.progress.end();
    }
}

/// The operation was stopped from outside; nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted: nothing was written, what was there before is untouched")]
pub struct Interrupted;

/// Threads, memory budget, progress and cancellation of one operation.
#[derive(Clone)]
pub struct Context {
    threads: usize,
    memory: ByteSize,
    progress: Arc<dyn Progress>,
    cancel: Arc<AtomicBool>,
}

impl Context {
    /// `threads` worker threads (at least one) and `memory` bytes at most, with no progress shown.
    pub fn new(threads: usize, memory: ByteSize) -> Self {
        Self { threads: threads.max(1), memory, progress: Arc::new(Silent), cancel: Arc::default() }
    }

    /// The same with another number of threads.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// The same with another memory budget.
    #[must_use]
    pub fn with_memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// Shows progress through `progress`.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// The same, with a `listener` that is told the messages, too.
    pub(crate) fn overheard(&self, listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let progress = Arc::new(Overheard { progress: self.progress.clone(), listener });
        Self { progress, ..self.clone() }
    }

    /// Stops soon after `flag` becomes true.
    #[must_use]
    pub fn with_cancel(mut self, flag: Arc<AtomicBool>) -> Self {
        self.cancel = flag;
        self
    }

    /// Worker threads to use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Memory budget in bytes.
    pub fn memory(&self) -> ByteSize {
        self.memory
    }

    /// Begins a stage called `name`, of `total` units if that is known.
    pub fn stage(&self, name: &str, total: Option<u64>, unit: Unit) -> Stage<'_> {
        let live = Arc::new(Live::default());
        self.progress.begin(name, total, unit, live.clone());
        Stage { live, progress: &*self.progress }
    }

    /// Shows a line to the user.
    pub fn message(&self, text: &str) {
        self.progress.message(text);
    }

    /// Whether the operation has been asked to stop.
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Fails with [`Interrupted`] when asked to stop. Long loops call it at least ten times a second.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.cancelled() { Err(Interrupted) } else { Ok(()) }
    }
}

impl Default for Context {
    /// One thread a core and half of the machine's memory.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        Self::new(threads, ByteSize(physical_memory() / 2))
    }
}

/// The machine's memory in bytes, or 4 GiB where it cannot be told.
fn physical_memory() -> u64 {
    let stated = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    stated.map_or(4 << 30, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in
            [("2GiB", 2 << 30), ("512MiB", 512 << 20), ("1.5k", 1536), ("77", 77), ("1 GB", 1_000_000_000)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "2 parsecs", "0", "1e400"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(2 << 30).to_string(), "2GiB");
        assert_eq!(ByteSize(1536).to_string(), "1.5KiB");
        assert_eq!(ByteSize(12).to_string(), "12B");
    }
}
