//! Takes the checkpoints of a run: copies the tables while training stands still, and writes the copy while it goes on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::room::Room;
use super::saved::{Best, Writing, Written};
use super::{CheckpointEvery, Origin, Partial, RunState, Saved};
use crate::context::{ByteSize, Context};
use crate::model::{SharedTable, Tables};
use crate::runlog::{RunHappening, RunLogWriter};
use crate::storage::{FileRecord, StorageError};
use crate::train::halt::Halt;
use crate::train::{TrainError, divergence};

/// Pauses come to this part of the time at most, where checkpoints are taken by time.
const PAUSES: u32 = 100;

/// The best tables of a validated run, which a checkpoint in the writing shares; and how often they have changed.
#[derive(Clone)]
pub(in crate::train) struct BestTables {
    tables: Arc<Mutex<[SharedTable; 2]>>,
    version: u64,
}

impl BestTables {
    pub(in crate::train) fn new(tables: [SharedTable; 2]) -> Self {
        Self { tables: Arc::new(Mutex::new(tables)), version: 0 }
    }

    /// The tables, when nobody else is at them.
    pub(in crate::train) fn lock(&self) -> MutexGuard<'_, [SharedTable; 2]> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that they are others now.
    pub(in crate::train) fn changed(&mut self) {
        self.version += 1;
    }

    /// Notes that they are those of the checkpoint that the run goes on from.
    pub(in crate::train) fn restored(&mut self) {
        self.version = 0;
    }
}

/// How the writing of a checkpoint ended.
enum Outcome {
    Written(Written, f64),
    /// The tables have exploded: there is nothing to keep.
    Exploded,
    Stopped,
}

/// A checkpoint in the writing.
struct Running {
    thread: JoinHandle<(Tables, Result<Outcome, StorageError>)>,
    number: u64,
    best: Option<u64>,
    /// Whether it writes the best tables, too: they must not change meanwhile.
    reads_best: bool,
}

/// Takes the checkpoints of a run, if there is a place for them.
pub(in crate::train) struct Keeper {
    /// Dropped last, after the thread has ended.
    partial: Option<Arc<Partial>>,
    origin: Arc<Origin>,
    /// What the run begins with, if it goes on.
    resumed: Option<Saved>,
    /// The checkpoint to come.
    number: u64,
    /// Where copies are made.
    room: Room,
    /// When this was made: training began a little later.
    began: Instant,
    running: Option<Running>,
    stop: Arc<AtomicBool>,
    /// The version of the best tables that is on the disk, and its file.
    best: Option<(u64, FileRecord)>,
    /// Checkpoints that were gone back to already.
    spent: Vec<u64>,
    /// When the next one is due.
    next: Instant,
    /// Triples since the last.
    triples: u64,
    /// What is lost of an interrupted run, for people.
    lost: Option<String>,
    failed: u64,
    /// Those that failed one after the other since the last that did not.
    failing: u64,
    written: Option<(Written, f64)>,
    count: u64,
    log: RunLogWriter,
    /// Where the run was at the last checkpoint: epochs, and triples.
    at: (f64, u64),
}

impl Keeper {
    /// For a run whose checkpoints go into `partial`, if any are to be taken, and which goes on from `resumed`.
    pub(in crate::train) fn new(
        partial: Option<Partial>,
        origin: Origin,
        resumed: Option<Saved>,
        log: RunLogWriter,
    ) -> Self {
        let number = resumed.as_ref().map_or(0, |saved| saved.number) + 1;
        let best = resumed.as_ref().and_then(|saved| Some((0, saved.best.as_ref()?.0.clone())));
        let mut keeper = Self {
            partial: partial.map(Arc::new),
            origin: Arc::new(origin),
            resumed,
            number,
            room: Room::default(),
            began: Instant::now(),
            running: None,
            stop: Arc::default(),
            best,
            spent: Vec::new(),
            next: Instant::now(),
            triples: 0,
            lost: None,
            failed: 0,
            failing: 0,
            written: None,
            count: 0,
            log,
            at: (0.0, 0),
        };
        keeper.schedule(Duration::ZERO);
        keeper
    }

    /// Where what happens to the run is written down.
    pub(in crate::train) fn log(&self) -> &RunLogWriter {
        &self.log
    }

    /// What the run goes on from, if it does; once.
    pub(in crate::train) fn resumed(&mut self) -> Option<Saved> {
        self.resumed.take()
    }

    fn every(&self) -> CheckpointEvery {
        self.origin.config.checkpoint.every
    }

    /// Whether checkpoints are taken.
    pub(in crate::train) fn keeps(&self) -> bool {
        self.partial.is_some()
    }

    /// When an epoch is to be left next: at its end, if it would be `in_vain` before.
    pub(in crate::train) fn halt<'a>(&self, in_vain: bool, ctx: &'a Context) -> Halt<'a> {
        match self.every() {
            _ if !self.keeps() => Halt::when_cancelled(ctx),
            _ if in_vain => Halt::at_a_place(ctx, None, None),
            CheckpointEvery::Time(_) => Halt::at_a_place(ctx, Some(self.next), None),
            CheckpointEvery::Triples(n) => Halt::at_a_place(ctx, None, Some(n.saturating_sub(self.triples))),
            CheckpointEvery::Epoch | CheckpointEvery::Off => Halt::at_a_place(ctx, None, None),
        }
    }

    /// Counts triples that were trained.
    pub(in crate::train) fn count(&mut self, triples: u64) {
        self.triples += triples;
    }

    /// Whether a checkpoint is due, `between` epochs or inside of one.
    fn is_due(&self, between: bool) -> bool {
        match self.every() {
            _ if !self.keeps() => false,
            CheckpointEvery::Off => false,
            CheckpointEvery::Epoch => between,
            CheckpointEvery::Time(_) => Instant::now() >= self.next,
            CheckpointEvery::Triples(n) => self.triples >= n,
        }
    }

    /// Plans the next one after a pause.
    fn schedule(&mut self, pause: Duration) {
        self.triples = 0;
        if let CheckpointEvery::Time(time) = self.every() {
            self.next = Instant::now() + time.max(pause * PAUSES);
        }
    }

    /// Whether the tables are copied first, and the copy is written while training goes on.
    fn copies(&self) -> bool {
        self.origin.plan.checkpoint.is_some_and(|plan| plan.copy.0 > 0)
    }

    /// Makes ready for the first checkpoint, where it is known to come in the `epochs` and `triples` that are left.
    pub(in crate::train) fn prepare(&mut self, tables: &Tables, (epochs, triples): (u32, u64)) {
        let comes = match self.every() {
            CheckpointEvery::Epoch => epochs > 1,
            CheckpointEvery::Triples(n) => n < triples,
            // By time it is made ready when the first one is due.
            CheckpointEvery::Time(_) | CheckpointEvery::Off => false,
        };
        if comes && self.keeps() && self.copies() {
            self.room.prepare(tables);
        }
    }

    /// Puts the first checkpoint by time off until there is room for the copy, and until the pause for it is a small part of
    /// the time.
    fn puts_off(&mut self, tables: &Tables) -> Result<bool, TrainError> {
        let idle = self.running.is_none();
        if !idle || !matches!(self.every(), CheckpointEvery::Time(_)) || !self.copies() {
            return Ok(false);
        }
        self.room.prepare(tables);
        if self.room.is_in_the_making() {
            self.next = Instant::now() + Duration::from_millis(200);
            return Ok(true);
        }
        let (made, copying) = self.room.take(tables)?;
        self.room = Room::Ready(Box::new(made));
        let earliest = self.began + copying.unwrap_or_default() * PAUSES;
        if earliest > Instant::now() {
            self.next = earliest;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes a checkpoint if one is due, `between` epochs or inside of one. Where it cannot be written, training goes on.
    pub(in crate::train) fn take_if_due(
        &mut self,
        state: &mut RunState,
        (tables, best): (&mut Tables, Option<&BestTables>),
        between: bool,
        ctx: &Context,
    ) {
        if !self.is_due(between) {
            return;
        }
        if self.running.as_ref().is_some_and(|running| !running.thread.is_finished())
            && let CheckpointEvery::Time(time) = self.every()
        {
            // The disk is slow: there is no point in standing still for it.
            self.next = Instant::now() + (time / 10).max(Duration::from_millis(50));
            return;
        }
        match self.puts_off(tables) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                self.warn(&error, ctx);
                return self.schedule(Duration::ZERO);
            }
        }
        let began = Instant::now();
        self.finish(ctx);
        self.tell(state);
        self.at = self.origin.place_of(state);
        if self.copies() {
            if let Err(error) = self.begin(state, tables, best) {
                self.warn(&error, ctx);
            }
        } else {
            let written = self.write(state, tables, best);
            self.note(written, self.number, best.map(|best| best.version), ctx);
        }
        let pause = began.elapsed();
        let report = &mut state.checkpoints;
        report.pause_seconds += pause.as_secs_f64();
        report.longest_pause_seconds = report.longest_pause_seconds.max(pause.as_secs_f64());
        self.schedule(pause);
    }

    /// Puts what is known of checkpoints so far into `state`.
    pub(in crate::train) fn tell(&mut self, state: &mut RunState) {
        let report = &mut state.checkpoints;
        report.written += std::mem::take(&mut self.count);
        report.failed += std::mem::take(&mut self.failed);
        if let Some((written, seconds)) = self.written.take() {
            (report.bytes, report.write_seconds) = (ByteSize(written.bytes), seconds);
        }
        let training: f64 = state.epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() + state.place.seconds;
        report.pause_share = report.pause_seconds / (training + report.pause_seconds).max(f64::MIN_POSITIVE);
    }

    /// Copies the tables, and lets a thread write the copy.
    fn begin(&mut self, state: &RunState, tables: &mut Tables, best: Option<&BestTables>) -> Result<(), TrainError> {
        let Some(partial) = self.partial.clone() else { return Ok(()) };
        let (mut copy, _) = self.room.take(tables)?;
        for (to, from) in copy.tables_mut().zip(tables.tables_mut()) {
            to.copy_from(from, || Ok::<(), TrainError>(()))?;
        }
        let number = self.number;
        let (origin, stop, state) = (self.origin.clone(), self.stop.clone(), state.clone());
        let (record, best) = self.best_of(best);
        let version = best.as_ref().map(|best| best.version).or(record.as_ref().map(|(version, _)| *version));
        let reads_best = best.is_some();
        let write = move || {
            let folder = partial.folder();
            let writing =
                Writing { folder, slot: Partial::slot(number), number, origin: &origin, state: &state, stop: &stop };
            let written = write(&writing, &mut copy, best.as_ref(), record.map(|(_, record)| record));
            (copy, written)
        };
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(write);
        let thread = thread.map_err(|source| StorageError::Io {
            path: self.partial.as_ref().map_or(Path::new(""), |partial| partial.folder()).to_path_buf(),
            action: "start a thread that writes to",
            source,
        })?;
        self.running = Some(Running { thread, number, best: version, reads_best });
        Ok(())
    }

    /// The file that the best tables are in already, or the tables, if there are any.
    fn best_of(&self, best: Option<&BestTables>) -> (Option<(u64, FileRecord)>, Option<BestTables>) {
        match best {
            None => (None, None),
            Some(best) => match &self.best {
                Some((version, record)) if *version == best.version => (Some((*version, record.clone())), None),
                _ => (None, Some(best.clone())),
            },
        }
    }

    /// Writes a checkpoint of the tables themselves.
    fn write(
        &mut self,
        state: &RunState,
        tables: &mut Tables,
        best: Option<&BestTables>,
    ) -> Result<Outcome, StorageError> {
        let Some(partial) = self.partial.clone() else { return Ok(Outcome::Stopped) };
        let (record, best) = self.best_of(best);
        let (folder, slot, stop) = (partial.folder(), Partial::slot(self.number), &AtomicBool::new(false));
        let writing = Writing { folder, slot, number: self.number, origin: &self.origin, state, stop };
        write(&writing, tables, best.as_ref(), record.map(|(_, record)| record))
    }

    /// Waits for the checkpoint in the writing, if there is one.
    pub(in crate::train) fn finish(&mut self, ctx: &Context) {
        let Some(Running { thread, number, best, .. }) = self.running.take() else { return };
        // A thread that panicked has left no checkpoint, and no copy to use again.
        if let Ok((copy, outcome)) = thread.join() {
            self.room = Room::Ready(Box::new(copy));
            self.note(outcome, number, best, ctx);
        }
    }

    /// The same, if it needs the best tables: before they change.
    pub(in crate::train) fn finish_with_best(&mut self, ctx: &Context) {
        if self.running.as_ref().is_some_and(|running| running.reads_best) {
            self.finish(ctx);
        }
    }

    /// Takes note of how the writing of checkpoint `number` ended.
    fn note(&mut self, outcome: Result<Outcome, StorageError>, number: u64, best: Option<u64>, ctx: &Context) {
        match outcome {
            Ok(Outcome::Written(written, seconds)) => {
                self.best = best.zip(written.best.clone());
                self.written = Some((written, seconds));
                self.count += 1;
                if self.failing > 1 {
                    ctx.message(&format!("checkpoints are written again, after {} that failed", self.failing));
                }
                self.failing = 0;
                self.log.event(RunHappening::Checkpoint, self.at, "");
                // One that failed is tried again in the same place: never in that of the newest good one.
                self.number = number + 1;
                self.spent.retain(|spent| spent % 2 != number % 2);
                if let Some(partial) = &self.partial {
                    partial.tidy();
                }
            }
            Ok(Outcome::Exploded | Outcome::Stopped) => {}
            Err(error) => self.warn(&error.into(), ctx),
        }
    }

    fn warn(&mut self, error: &TrainError, ctx: &Context) {
        self.failed += 1;
        self.failing += 1;
        // A disk may stay full for days: what is said once is enough, until it is over.
        if self.failing > 1 {
            return;
        }
        let kept = match self.partial.as_ref().is_some_and(|partial| partial.holds_checkpoint()) {
            true => "the one before is kept",
            false => "there is none to go on from",
        };
        ctx.message(&format!("warning: no checkpoint: {error}; training goes on, {kept}"));
    }

    /// The newest checkpoint that was not gone back to yet, for a run that has diverged.
    pub(in crate::train) fn go_back(&mut self, ctx: &Context) -> Option<Saved> {
        self.finish(ctx);
        let saved = self.partial.as_ref()?.newest(&self.spent).ok().flatten()?;
        self.spent.push(saved.number);
        self.best = saved.best.as_ref().map(|(record, _)| (0, record.clone()));
        self.schedule(Duration::ZERO);
        Some(saved)
    }

    /// The run starts from its beginning once more.
    pub(in crate::train) fn start_over(&mut self) {
        self.best = None;
        self.schedule(Duration::ZERO);
    }

    /// Keeps an interrupted run where it stands, if what `tables` hold is of a place that it can be gone on with from.
    pub(in crate::train) fn leave(
        &mut self,
        state: &mut RunState,
        (tables, best): (&mut Tables, Option<&BestTables>),
        is_place: bool,
        ctx: &Context,
    ) {
        if !self.keeps() {
            return;
        }
        // One of before is not needed if this one can be written.
        self.stop.store(is_place, Ordering::Relaxed);
        self.finish(ctx);
        self.tell(state);
        let now = state.describe(self.origin.config.epochs, self.origin.plan.counts.interactions);
        if !is_place {
            self.lost = Some(format!("; this is what will be trained again: all that follows, up to {now}"));
            return;
        }
        self.at = self.origin.place_of(state);
        let written = self.write(state, tables, best);
        match &written {
            Ok(Outcome::Written(..)) => {}
            _ => self.lost = Some(format!("; this is what will be trained again: all that follows, up to {now}")),
        }
        self.note(written, self.number, best.map(|best| best.version), ctx);
    }

    /// The run is published: nothing of it is kept.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub(in crate::train) fn discard(&mut self, ctx: &Context) -> Result<(), StorageError> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish(ctx);
        self.room = Room::default();
        self.partial.as_ref().map_or(Ok(()), |partial| partial.clear())
    }

    /// What it means to a run that it has ended with `error`: whether it can be gone on with.
    pub(in crate::train) fn explain(&mut self, error: TrainError, model: &Path, ctx: &Context) -> TrainError {
        self.finish(ctx);
        let Some(partial) = self.partial.clone().filter(|partial| partial.holds_checkpoint()) else { return error };
        let saved = partial.newest(&[]).ok().flatten();
        let (epochs, interactions) = (self.origin.config.epochs, self.origin.plan.counts.interactions);
        let at = saved.map_or_else(String::new, |saved| saved.state.describe(epochs, interactions));
        TrainError::Kept {
            source: Box::new(error),
            at,
            lost: self.lost.take().unwrap_or_default(),
            held: partial.bytes(),
            folder: partial.folder().to_path_buf(),
            model: model.to_path_buf(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            // Whoever drops this is on the way out, and what is on the disk stays good.
            let _ = running.thread.join();
        }
    }
}

/// Writes a checkpoint of `tables`, unless they have exploded.
fn write(
    writing: &Writing<'_>,
    tables: &mut Tables,
    best: Option<&BestTables>,
    record: Option<FileRecord>,
) -> Result<Outcome, StorageError> {
    let began = Instant::now();
    if divergence::has_exploded(&writing.origin.config, tables, 0, true) {
        return Ok(Outcome::Exploded);
    }
    let written = match (best, record) {
        (_, Some(record)) => writing.write(tables.tables_mut(), Best::Written(record))?,
        (None, None) => writing.write(tables.tables_mut(), Best::None)?,
        (Some(best), None) => writing.write(tables.tables_mut(), Best::Tables(&mut best.lock()))?,
    };
    Ok(written.map_or(Outcome::Stopped, |written| Outcome::Written(written, began.elapsed().as_secs_f64())))
}
