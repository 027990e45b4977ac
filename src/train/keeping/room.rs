//! The memory that tables are copied to, made beside training: pages that are touched for the first time take longer than the
//! copy itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::{ModelError, SharedTable, Tables};

/// Floats of a page.
const PAGE: usize = 1024;
/// Floats that are copied at a time to learn how fast memory is: 1 MiB.
const STRIP: usize = 1 << 18;
/// Threads that copy faster than fewer do: so many take what memory gives.
const THREADS: u32 = 4;

/// Tables to copy to, when they are there.
#[derive(Default)]
pub(super) enum Room {
    #[default]
    Nowhere,
    Making(Maker),
    Ready(Box<Tables>),
}

/// A thread that makes room.
pub(super) struct Maker {
    thread: Option<JoinHandle<Result<(Tables, Duration), ModelError>>>,
    /// Whether nobody wants it any more.
    stop: Arc<AtomicBool>,
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it has made is in vain.
            let _ = thread.join();
        }
    }
}

impl Room {
    /// Begins to make it for copies of `tables`, if that has not begun. Without a thread it is made when it is needed.
    pub(super) fn prepare(&mut self, tables: &Tables) {
        if matches!(self, Self::Nowhere) {
            let (make, stop) = (tables.maker_of_empty(), Arc::<AtomicBool>::default());
            let stopped = stop.clone();
            let make = move || {
                let mut empty = make()?;
                let copying = empty.tables_mut().map(|table| touch(table, &stopped)).sum();
                Ok((empty, copying))
            };
            if let Ok(thread) = std::thread::Builder::new().name("copy".into()).spawn(make) {
                *self = Self::Making(Maker { thread: Some(thread), stop });
            }
        }
    }

    /// Whether it would be waited for.
    pub(super) fn is_in_the_making(&self) -> bool {
        matches!(self, Self::Making(Maker { thread: Some(thread), .. }) if !thread.is_finished())
    }

    /// The tables, waited for or made now, and how long copying to them should take, where that was measured.
    pub(super) fn take(&mut self, tables: &Tables) -> Result<(Tables, Option<Duration>), ModelError> {
        match std::mem::take(self) {
            Self::Ready(tables) => Ok((*tables, None)),
            Self::Making(mut maker) => match maker.thread.take().map(JoinHandle::join) {
                Some(Ok(made)) => made.map(|(tables, copying)| (tables, Some(copying))),
                // A thread that panicked has made nothing.
                _ => self.take(tables),
            },
            Self::Nowhere => Ok((tables.maker_of_empty()()?, None)),
        }
    }
}

/// Touches every page; returns how long a copy of the table should take: at the median pace of its pieces, so that a thread that
/// had to wait for others does not count. What is in the table then means nothing.
fn touch(table: &mut SharedTable, stop: &AtomicBool) -> Duration {
    let floats = table.as_mut_slice();
    let mut paces: Vec<Duration> = Vec::new();
    for strip in floats.chunks_mut(STRIP) {
        if stop.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        strip.iter_mut().step_by(PAGE).for_each(|x| *x = std::hint::black_box(*x));
    }
    for strip in floats.chunks_mut(STRIP) {
        let began = Instant::now();
        strip.copy_within(strip.len() / 2.., 0);
        paces.push(2 * began.elapsed());
    }
    paces.sort_unstable();
    let pace = paces.get(paces.len() / 2).copied().unwrap_or_default();
    pace * paces.len() as u32 / (rayon::current_num_threads() as u32).clamp(1, THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Optimizer, Precision};

    fn tables() -> Tables {
        Tables::new(3000, 500, 8, true, (Optimizer::Sgd, Precision::F32), [None, None]).unwrap()
    }

    #[test]
    fn room_is_of_the_same_shapes_however_it_came_about() {
        let mut tables = tables();
        let shapes: Vec<(usize, usize)> = tables.tables_mut().map(|table| (table.rows(), table.stride())).collect();
        let same = |mut made: Tables| made.tables_mut().map(|table| (table.rows(), table.stride())).eq(shapes.clone());
        let mut room = Room::default();
        let (made, copying) = room.take(&tables).unwrap();
        assert!(same(made) && copying.is_none() && matches!(room, Room::Nowhere));
        room.prepare(&tables);
        room.prepare(&tables);
        let (made, copying) = room.take(&tables).unwrap();
        assert!(same(made) && copying.is_some() && !room.is_in_the_making());
        room = Room::Ready(Box::new(room.take(&tables).unwrap().0));
        room.prepare(&tables);
        assert!(matches!(room, Room::Ready(_)), "what is there is not made once more");
    }

    #[test]
    fn a_thread_that_panicked_or_is_not_wanted_does_no_harm() {
        let tables = tables();
        let panics = std::thread::Builder::new().spawn(|| std::panic::resume_unwind(Box::new("as a test"))).unwrap();
        let mut room = Room::Making(Maker { thread: Some(panics), stop: Arc::default() });
        assert!(room.take(&tables).unwrap().1.is_none());
        room.prepare(&tables);
        drop(room);
    }
}
