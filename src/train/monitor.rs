//! Writes the moments of a run into its log, and what the epochs have measured.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::gauges::{Blocked, Counters, Gauges};
use super::run::EpochReport;
use crate::runlog::{RunEpoch, RunLogWriter, RunMoment, RunRecord, RunStage, resident_bytes};

/// Time between two moments at first; and the part of the run's age that it is at least, so that logs of long runs stay
/// small.
const INTERVAL: Duration = Duration::from_secs(1);
const PART: u32 = 600;
/// Of the thread: it formats a line at a time.
const STACK: usize = 128 << 10;

/// The thread that writes moments; it ends, with a last one, when this is dropped.
pub(super) struct Monitor {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Begins to write what `gauges` show.
    pub(super) fn start(log: &RunLogWriter, gauges: &Gauges<'_>) -> Self {
        if !log.writes() {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = bounded::<()>(0);
        let (log, counters) = (log.clone(), gauges.counters().clone());
        let write = move || {
            let mut last = Last { at: Instant::now(), triples: counters.triples(), blocked: counters.blocked() };
            loop {
                let age = Duration::try_from_secs_f64(log.seconds()).unwrap_or_default();
                let more = stopped.recv_timeout(INTERVAL.max(age / PART)) == Err(RecvTimeoutError::Timeout);
                log.write(&RunRecord::Now(last.moment(log.seconds(), &counters)));
                if !more {
                    return;
                }
            }
        };
        // Without a thread the log has epochs and events alone.
        let thread = std::thread::Builder::new().name("run log".into()).stack_size(STACK).spawn(write).ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has written what it has.
            let _ = thread.join();
        }
    }
}

/// What was counted at the moment before.
struct Last {
    at: Instant,
    triples: u64,
    blocked: Blocked,
}

impl Last {
    fn moment(&mut self, seconds: f64, counters: &Arc<Counters>) -> RunMoment {
        let (now, triples, blocked) = (Instant::now(), counters.triples(), counters.blocked());
        let passed = (now - self.at).as_secs_f64();
        let means = counters.means(counters.take(), self.blocked, passed);
        // A run that went back to a checkpoint has fewer than before.
        let rate = triples.saturating_sub(self.triples) as f64 / passed.max(1e-9);
        *self = Self { at: now, triples, blocked };
        RunMoment {
            seconds,
            epochs: counters.epochs(),
            triples,
            rate,
            loss: means.loss,
            learning_rate: counters.learning_rate(),
            gradient: means.gradient,
            update: means.update,
            row: means.row,
            producers_blocked: means.producers_blocked,
            trainers_blocked: means.trainers_blocked,
            memory: resident_bytes(),
            stage: if counters.is_validating() { RunStage::Valid } else { RunStage::Train },
            scheduled: counters.scheduled(),
        }
    }
}

/// Writes down an epoch that has ended.
pub(super) fn write_epoch(log: &RunLogWriter, gauges: &Gauges<'_>, report: &EpochReport) {
    let scheduled = gauges.counters().scheduled();
    let means = gauges.end_epoch();
    log.write(&RunRecord::Epoch(Box::new(RunEpoch {
        seconds: log.seconds(),
        epoch: report.epoch,
        loss: Some(report.loss).filter(|loss| loss.is_finite()),
        learning_rate: report.learning_rate,
        triples: report.triples,
        skipped: report.skipped,
        duration: report.seconds,
        rate: report.triples_per_second,
        gradient: means.gradient,
        update: means.update,
        row: means.row,
        producers_blocked: means.producers_blocked,
        trainers_blocked: means.trainers_blocked,
        memory: resident_bytes(),
        scheduled,
        negatives: report.negatives.clone(),
    })));
}
