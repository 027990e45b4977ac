//! When the threads of an epoch leave it: at the next place where nothing is half done, or at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::context::Context;

/// How long a run that is told to stop looks for a place where it can be gone on with: of the two seconds within which it
/// leaves, what is left is for the disk.
const SEARCH: Duration = Duration::from_millis(1200);

/// Asked by everyone who works on an epoch, batch by batch.
pub(super) struct Halt<'a> {
    ctx: &'a Context,
    /// Whether stopping at the right place is worth waiting for: what was learnt is kept then.
    keeps: bool,
    /// When to stop in any case, and after how many triples.
    until: Option<Instant>,
    triples: Option<u64>,
    counted: AtomicU64,
    told: OnceLock<Instant>,
    broken_off: AtomicBool,
}

impl<'a> Halt<'a> {
    /// Stops at once when told to, and not before.
    pub(super) fn when_cancelled(ctx: &'a Context) -> Self {
        Self::new(ctx, false, None, None)
    }

    /// Stops at the right place when told to, at the moment `until`, or after so many `triples`.
    pub(super) fn at_a_place(ctx: &'a Context, until: Option<Instant>, triples: Option<u64>) -> Self {
        Self::new(ctx, true, until, triples)
    }

    fn new(ctx: &'a Context, keeps: bool, until: Option<Instant>, triples: Option<u64>) -> Self {
        let (counted, broken_off) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { ctx, keeps, until, triples, counted, told: OnceLock::new(), broken_off }
    }

    /// Counts triples that have been trained.
    pub(super) fn count(&self, triples: u64) {
        if self.triples.is_some() {
            self.counted.fetch_add(triples, Ordering::Relaxed);
        }
    }

    /// Whether to leave at a place where nothing is half done.
    pub(super) fn is_due(&self) -> bool {
        self.ctx.cancelled()
            || self.triples.is_some_and(|most| self.counted.load(Ordering::Relaxed) >= most)
            || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Whether to leave whatever is half done. Whoever does so says it by [`Halt::break_off`].
    pub(super) fn is_out_of_time(&self) -> bool {
        self.ctx.cancelled() && (!self.keeps || self.told.get_or_init(Instant::now).elapsed() >= SEARCH)
    }

    /// Something is left half done.
    pub(super) fn break_off(&self) {
        self.broken_off.store(true, Ordering::Relaxed);
    }

    /// Whether something was: the tables are those of no place in the stream then.
    pub(super) fn is_broken_off(&self) -> bool {
        self.broken_off.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ByteSize;
    use std::sync::Arc;

    #[test]
    fn one_leaves_at_once_where_nothing_is_kept_and_in_time_where_it_is() {
        let flag = Arc::new(AtomicBool::new(false));
        let ctx = Context::new(1, ByteSize(1)).with_cancel(flag.clone());
        let (free, kept) = (Halt::when_cancelled(&ctx), Halt::at_a_place(&ctx, None, Some(10)));
        kept.count(9);
        assert!(!free.is_due() && !kept.is_due() && !free.is_out_of_time());
        kept.count(1);
        assert!(kept.is_due() && !kept.is_out_of_time());
        assert!(Halt::at_a_place(&ctx, Some(Instant::now()), None).is_due());
        flag.store(true, Ordering::Relaxed);
        assert!(free.is_due() && free.is_out_of_time());
        assert!(kept.is_due() && !kept.is_out_of_time(), "there is time to find a place");
    }
}
