//! Progress on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use peccary::{Live, Progress, Unit};

use crate::numbers::{amount, duration, rate};
use crate::printable::printable;

/// Time between two looks at a stage's counters when a bar shows them.
const BAR_TICK: Duration = Duration::from_millis(100);

/// Time between two plain lines.
const LINE_TICK: Duration = Duration::from_secs(5);

/// Shows stages on standard error until they end, and one line with the totals of each that did.
pub struct Display {
    bars: Option<MultiProgress>,
    /// The running stages, innermost last.
    running: Mutex<Vec<Running>>,
}

struct Running {
    /// Dropped to end the watching thread.
    stop: Sender<()>,
    watcher: JoinHandle<()>,
}

impl Display {
    /// Bars if standard error is a terminal.
    pub fn new() -> Self {
        let bars =
            io::stderr().is_terminal().then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { bars, running: Mutex::default() }
    }
}

impl Progress for Display {
    fn begin(&self, name: &str, total: Option<u64>, unit: Unit, live: Arc<Live>) {
        let stage = Watched { name: name.to_owned(), total, unit, live, begun: Instant::now() };
        let bars = self.bars.clone();
        let (stop, stopped) = bounded::<()>(0);
        let watcher = std::thread::spawn(move || {
            let bar = bars.as_ref().map(|bars| bars.add(stage.bar()));
            let tick = if bar.is_some() { BAR_TICK } else { LINE_TICK };
            while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                match &bar {
                    Some(bar) => stage.show(bar),
                    None => line(&stage.state()),
                }
            }
            if let (Some(bars), Some(bar)) = (bars, bar) {
                bar.finish_and_clear();
                bars.remove(&bar);
            }
            line(&stage.total());
        });
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(Running { stop, watcher });
    }

    fn end(&self) {
        let last = self.running.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(Running { stop, watcher }) = last {
            drop(stop);
            // A watcher that panicked has shown its message already.
            let _ = watcher.join();
        }
    }

    fn message(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| line(text)),
            None => line(text),
        }
    }
}

/// Writes a line to standard error; a closed one is no reason to stop.
fn line(text: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// A stage and what is needed to describe it.
struct Watched {
    name: String,
    total: Option<u64>,
    unit: Unit,
    live: Arc<Live>,
    begun: Instant,
}

impl Watched {
    fn bar(&self) -> ProgressBar {
        let template = match self.total {
            Some(_) => "{prefix}  {percent:>3}% {bar:30} {wide_msg}",
            None => "{prefix}  {spinner} {wide_msg}",
        };
        // The templates are constants: one that does not parse would show the default bar.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::hidden().with_style(style.progress_chars("##-")).with_prefix(self.name.clone());
        bar.set_length(self.total.unwrap_or(0));
        bar
    }

    fn show(&self, bar: &ProgressBar) {
        bar.set_position(self.live.done());
        bar.set_message(self.speed().join("  "));
        bar.tick();
    }

    /// The running stage in a line: "training  45%  3.1M triples/s  0:12 left".
    fn state(&self) -> String {
        let mut parts = vec![self.name.clone()];
        parts.push(match self.total {
            Some(total) => format!("{:.0}%", percent(self.live.done(), total)),
            None => amount(self.live.done(), self.unit),
        });
        parts.extend(self.speed());
        parts.join("  ")
    }

    /// Rate, time left and note.
    fn speed(&self) -> Vec<String> {
        let (done, time) = (self.live.done(), self.begun.elapsed());
        let a_second = done as f64 / time.as_secs_f64().max(1e-3);
        let mut parts = vec![rate(a_second, self.unit)];
        let left = self.total.map(|total| total.saturating_sub(done) as f64 / a_second);
        // Nothing done yet leaves an infinite time.
        if let Some(left) = left.and_then(|left| Duration::try_from_secs_f64(left).ok()) {
            parts.push(format!("{} left", duration(left)));
        }
        parts.extend(Some(self.live.note()).filter(|note| !note.is_empty()));
        parts
    }

    /// The ended stage in a line: "training  1,000,000 triples in 0:12, 83.3k triples/s".
    fn total(&self) -> String {
        let (done, time) = (self.live.done(), self.begun.elapsed());
        let a_second = done as f64 / time.as_secs_f64().max(1e-3);
        let mut text = format!("{}  {} in {}", self.name, amount(done, self.unit), duration(time));
        text = text + ", " + &rate(a_second, self.unit);
        let note = self.live.note();
        if !note.is_empty() {
            text = text + ", " + &note;
        }
        match self.total {
            // Estimates may be off by some percent; and a training may end because it is good enough.
            Some(total) if percent(done, total) < 95.0 => format!("{text} ({:.0}% of it)", percent(done, total)),
            _ => text,
        }
    }
}

fn percent(done: u64, total: u64) -> f64 {
    (100.0 * done as f64 / total.max(1) as f64).floor().min(100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(total: Option<u64>) -> Watched {
        let begun = Instant::now();
        Watched { name: "training".into(), total, unit: Unit::Triples, live: Arc::default(), begun }
    }

    #[test]
    fn a_stage_without_work_is_described_without_a_time_left() {
        let state = watched(Some(10)).state();
        assert!(state.starts_with("training  0%  0 triples/s"), "{state}");
        assert!(!state.contains("left"), "{state}");
        assert!(watched(Some(10)).total().ends_with("(0% of it)"));
        assert!(watched(None).state().starts_with("training  0 triples"));
    }

    #[test]
    fn percentages_never_claim_more_than_is_done() {
        assert_eq!(percent(999, 1000), 99.0);
        assert_eq!(percent(1000, 1000), 100.0);
        assert_eq!(percent(2000, 1000), 100.0);
        assert_eq!(percent(0, 0), 0.0);
    }
}
