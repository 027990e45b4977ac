//! Blocks made by several threads and consumed in order, with a bounded number of them in flight.

use crossbeam_channel::{Receiver, bounded};

use super::error::SynthError;
use crate::context::{Context, Interrupted};

/// Blocks that a thread may have finished before the first of them is consumed.
const AHEAD: usize = 3;

/// Calls `make` for each of `blocks` on the context's threads and `consume` with the results, in order, on this one.
///
/// Thread w makes the blocks w, w + threads, …, so that reading the threads' channels in turn restores the order
/// without a buffer: at most `threads × (AHEAD + 1)` results exist at a time. `start` makes the scratch space of a
/// thread.
pub(super) fn in_order<S, T: Send>(
    ctx: &Context,
    blocks: usize,
    start: impl Fn() -> S + Sync,
    make: impl Fn(&mut S, usize) -> T + Sync,
    mut consume: impl FnMut(usize, T) -> Result<(), SynthError>,
) -> Result<(), SynthError> {
    let threads = ctx.threads().min(blocks).max(1);
    std::thread::scope(|scope| {
        let finished: Vec<Receiver<T>> = (0..threads)
            .map(|first| {
                let (sender, receiver) = bounded(AHEAD);
                let (start, make) = (&start, &make);
                scope.spawn(move || {
                    let mut scratch = start();
                    for block in (first..blocks).step_by(threads) {
                        // The receiver is gone when consuming failed.
                        if ctx.cancelled() || sender.send(make(&mut scratch, block)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for block in 0..blocks {
            ctx.check()?;
            let made = finished[block % threads].recv().map_err(|_| Interrupted)?;
            consume(block, made)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::context::ByteSize;

    #[test]
    fn order_holds_for_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let ctx = Context::new(threads, ByteSize(1 << 20));
            let mut seen = Vec::new();
            in_order(
                &ctx,
                50,
                || (),
                |(), block| block * 2,
                |_, made| {
                    seen.push(made);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(seen, (0..50).map(|b| b * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn cancelling_and_failing_end_it() {
        let flag = Arc::new(AtomicBool::new(false));
        let ctx = Context::new(2, ByteSize(1 << 20)).with_cancel(flag.clone());
        let stop = |block: usize, _: ()| {
            if block == 5 {
                flag.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        let ended = in_order(&ctx, usize::MAX, || (), |(), _| (), stop);
        assert!(matches!(ended, Err(SynthError::Interrupted(_))));

        let ctx = Context::new(2, ByteSize(1 << 20));
        let failed = in_order(
            &ctx,
            usize::MAX,
            || (),
            |(), _| (),
            |_, ()| Err(SynthError::Output(std::io::Error::other("full"))),
        );
        assert!(matches!(failed, Err(SynthError::Output(_))));
    }
}
