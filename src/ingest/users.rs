//! Users from partitions to the dataset: sorted and encoded by many threads, written in order by one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::budget::partition_of;
use super::error::IngestError;
use super::ids::SortedIds;
use super::merge::{Merged, User, UserSource, lost};
use super::split::Assign;
use crate::context::{Context, Interrupted};
use crate::dataset::{Columns, Event, Part, UserBlock};

/// Calls `work` for each of `count` parts on `workers` threads; the error is that of the first part that failed.
pub(super) fn in_parallel(
    workers: usize,
    count: usize,
    work: impl Fn(usize) -> Result<(), IngestError> + Sync,
) -> Result<(), IngestError> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, IngestError)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    if let Err(error) = work(at) {
                        next.store(count, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if failed.as_ref().is_none_or(|(other, _)| at < *other) {
                            *failed = Some((at, error));
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Where a part's results go. Sending fails when nobody wants them any more.
pub(super) struct Outlet<T>(Sender<Result<T, IngestError>>);

impl<T> Outlet<T> {
    pub(super) fn send(&self, value: T) -> Result<(), IngestError> {
        self.0.send(Ok(value)).map_err(|_| Interrupted.into())
    }
}

/// When a worker panics, drops the outlets that nobody has taken: else the consumer would wait for them for ever, and
/// the panic would never be seen.
struct ReleaseOnPanic<'a, T> {
    next: &'a AtomicUsize,
    outlets: &'a [Mutex<Option<Outlet<T>>>],
}

impl<T> Drop for ReleaseOnPanic<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.next.store(self.outlets.len(), Ordering::Relaxed);
            for outlet in self.outlets {
                drop(outlet.lock().unwrap_or_else(PoisonError::into_inner).take());
            }
        }
    }
}

/// Calls `produce` for each of `count` parts on `workers` threads, and `consume` on this one with all that they send: in
/// the order of the parts. Up to `waiting` results of each part wait for their turn. `state` is kept by each thread.
pub(super) fn in_order<T: Send, S>(
    workers: usize,
    count: usize,
    waiting: usize,
    state: impl Fn() -> S + Sync,
    produce: impl Fn(&mut S, usize, &Outlet<T>) -> Result<(), IngestError> + Sync,
    mut consume: impl FnMut(T) -> Result<(), IngestError>,
) -> Result<(), IngestError> {
    let mut outlets = Vec::with_capacity(count);
    let mut inlets: Vec<Receiver<Result<T, IngestError>>> = Vec::with_capacity(count);
    for _ in 0..count {
        let (outlet, inlet) = bounded(waiting);
        outlets.push(Mutex::new(Some(Outlet(outlet))));
        inlets.push(inlet);
    }
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(count) {
            scope.spawn(|| {
                let _release = ReleaseOnPanic { next: &next, outlets: &outlets };
                let mut state = state();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(outlet) = outlets.get(at).and_then(|o| o.lock().ok()?.take()) else { return };
                    if let Err(error) = produce(&mut state, at, &outlet) {
                        // If nobody listens, another part has failed already.
                        let _ = outlet.0.send(Err(error));
                        return;
                    }
                }
            });
        }
        let mut result = Ok(());
        'parts: for inlet in inlets {
            for value in inlet {
                result = value.and_then(&mut consume);
                if result.is_err() {
                    next.store(count, Ordering::Relaxed);
                    break 'parts;
                }
            }
        }
        result
    })
}

/// What encoding counts.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) train: AtomicU64,
    pub(super) held_out: AtomicU64,
    pub(super) not_split: AtomicU64,
}

/// Turns users into blocks of the dataset.
pub(super) struct Encode<'a> {
    pub(super) columns: Columns,
    /// Whether there are exposures.
    pub(super) exposed: bool,
    /// Whether there are columns of context.
    pub(super) context: bool,
    pub(super) parts: &'a [Part],
    pub(super) assign: Assign,
    pub(super) tally: Tally,
    /// Topmost bits of the hash at whose change a block ends, so that blocks do not depend on partitions.
    pub(super) range_bits: u32,
    pub(super) ctx: &'a Context,
}

impl Encode<'_> {
    fn block(&self) -> UserBlock {
        let block = UserBlock::new(self.columns, self.parts);
        let block = if self.context { block.with_contexts() } else { block };
        if self.exposed { block.with_exposures() } else { block }
    }

    /// Sends the users of `source`, whose original ids are among `ids`.
    pub(super) fn partition(
        &self,
        source: &mut impl UserSource,
        mut ids: SortedIds<'_>,
        item_hash: impl Fn(u32) -> u64,
        outlet: &Outlet<UserBlock>,
    ) -> Result<(), IngestError> {
        let mut user = User::default();
        let mut block = self.block();
        let (mut train, mut held_out, mut not_split) = (0, 0, 0);
        let mut range = None;
        while source.next_user(&mut user)? {
            let last = range.replace(partition_of(user.hash, self.range_bits));
            // A large user begins a block, so that a block is bounded by the usual size or by one user.
            let ends = last != range || user.is_large();
            if block.is_full() || (ends && block.users() > 0) {
                self.ctx.check()?;
                outlet.send(std::mem::replace(&mut block, self.block()))?;
            }
            let too_few = self.assign.user(&user, &item_hash, |part, row| {
                *(if part == Part::Train { &mut train } else { &mut held_out }) += 1;
                let weight = row.weight.min(f64::from(f32::MAX)) as f32;
                let Merged { item, time, count, event, context, .. } = *row;
                block.push(part, Event { item, time, weight, count, event, context });
            });
            user.exposed.iter().for_each(|item| block.expose(*item));
            not_split += u64::from(too_few);
            block.end_user(ids.find(user.hash)?.ok_or_else(|| lost("user"))?);
        }
        if block.users() > 0 {
            outlet.send(block)?;
        }
        self.tally.train.fetch_add(train, Ordering::Relaxed);
        self.tally.held_out.fetch_add(held_out, Ordering::Relaxed);
        self.tally.not_split.fetch_add(not_split, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_worker_is_passed_on_and_leaves_nobody_waiting() {
        for (workers, at_fault) in [(1, 0), (1, 3), (2, 0), (3, 5)] {
            let (done, wait) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let produce = |(): &mut (), at: usize, outlet: &Outlet<usize>| {
                    outlet.send(at)?;
                    assert_ne!(at, at_fault, "a fault of the test's making");
                    outlet.send(at)
                };
                let run = || in_order(workers, 8, 0, || (), produce, |_| Ok(()));
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
                let _ = done.send(ended.is_err());
            });
            let panicked = wait.recv_timeout(std::time::Duration::from_secs(60));
            assert_eq!(panicked, Ok(true), "{workers} workers, part {at_fault}");
        }
    }
}
