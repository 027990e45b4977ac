//! The memory that tables are copied to, made beside training: pages that are touched for the first time take longer than the
//! copy itself.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::{ModelError, SharedTable, Tables};

/// Floats of a page.
const PAGE: usize = 1024;
/// Floats that are copied at a time to learn how fast memory is: 1 MiB.
const STRIP: usize = 1 << 18;

/// Tables to copy to, when they are there.
#[derive(Default)]
pub(super) enum Room {
    #[default]
    None,
    Making(JoinHandle<Result<(Tables, Duration), ModelError>>),
    Ready(Tables),
}

impl Room {
    /// Begins to make it for copies of `tables`, if that has not begun. Without a thread it is made when it is needed.
    pub(super) fn prepare(&mut self, tables: &Tables) {
        if matches!(self, Self::None) {
            let make = tables.maker_of_empty();
            let make = move || {
                let mut empty = make()?;
                let copying = empty.tables_mut().map(touch).sum();
                Ok((empty, copying))
            };
            if let Ok(thread) = std::thread::Builder::new().name("copy".into()).spawn(make) {
                *self = Self::Making(thread);
            }
        }
    }

    /// Whether it would be waited for.
    pub(super) fn is_in_the_making(&self) -> bool {
        matches!(self, Self::Making(thread) if !thread.is_finished())
    }

    /// The tables, waited for or made now, and how long copying to them should take, where that was measured.
    pub(super) fn take(&mut self, tables: &Tables) -> Result<(Tables, Option<Duration>), ModelError> {
        match std::mem::take(self) {
            Self::Ready(tables) => Ok((tables, None)),
            Self::None => Ok((tables.maker_of_empty()()?, None)),
            Self::Making(thread) => match thread.join() {
                Ok(made) => made.map(|(tables, copying)| (tables, Some(copying))),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }
}

/// Touches every page; returns how long a copy of the table by one thread should take: at the median pace of its pieces, so that
/// a thread that had to wait for others does not count. What is in the table then means nothing.
fn touch(table: &mut SharedTable) -> Duration {
    let floats = table.as_mut_slice();
    floats.iter_mut().step_by(PAGE).for_each(|x| *x = std::hint::black_box(*x));
    let half_copied = |strip: &mut [f32]| {
        let began = Instant::now();
        strip.copy_within(strip.len() / 2.., 0);
        2 * began.elapsed()
    };
    let mut paces: Vec<Duration> = floats.chunks_mut(STRIP).map(half_copied).collect();
    paces.sort_unstable();
    paces.get(paces.len() / 2).map_or(Duration::ZERO, |pace| *pace * paces.len() as u32)
}
