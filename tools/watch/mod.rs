//! `peccary watch`: a training run while it goes, or after it, from its run log.

mod story;
mod view;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use peccary::{Context, RunLog, RunLogError, RunRecord};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use serde::Serialize;

use crate::common::Globals;
use story::{Story, epoch_line, event_line, moment_line, summary};

const EXAMPLES: &str = "\
Shows loss and metric, throughput, who waits for whom, the health of the negatives and what the run has to say, from the \
run log that every training writes: docs/runlog.md. Ends with the run; q or Ctrl-C leaves it, and the run goes on. Where \
standard output is no terminal it prints a line for each epoch; with --json how the run ended, once it has.

Examples:
  peccary watch clicks.model
  peccary watch clicks.model.partial
  peccary watch clicks.model > progress.txt";

/// Time between two looks at the log.
const TICK: Duration = Duration::from_millis(250);
/// A line is printed at least that often where standard output is no terminal.
const LINES: Duration = Duration::from_secs(30);
/// How long a log that nobody has locked may be silent before its run is taken for dead; and the part of its age.
const SILENCE: Duration = Duration::from_secs(3);
const PART: u32 = 200;
/// Looks at a log whose header is not there yet.
const ATTEMPTS: u32 = 10;

/// Watch a training run, in the terminal, while it goes
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Model that is being trained, or has been; or a run log
    #[arg(value_name = "MODEL")]
    path: PathBuf,
}

/// What `--json` prints, when the run has ended.
#[derive(Serialize)]
struct Ended<'a> {
    model: &'a str,
    /// Why it ended: as in the run log; `killed` if it left no word.
    status: String,
    epochs: usize,
    epochs_planned: u32,
    seconds: f64,
    triples: u64,
    loss: Option<f64>,
    best: Option<serde_json::Value>,
}

/// How a run stands, for whoever watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended,
    /// Nobody writes its log any more, and it has no end.
    Gone,
}

/// A log that is looked at again and again.
struct Watched {
    log: RunLog,
    /// When it last had something new.
    heard: Instant,
}

impl Watched {
    fn open(path: &std::path::Path) -> Result<Self, RunLogError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match RunLog::open_running(path) {
                // A run that has just begun.
                Err(RunLogError::Header { .. }) if attempts < ATTEMPTS => std::thread::sleep(TICK),
                other => return Ok(Self { log: other?, heard: Instant::now() }),
            }
        }
    }

    /// Reads what is new.
    fn look(&mut self) -> Result<State, RunLogError> {
        if self.log.refresh()? > 0 {
            self.heard = Instant::now();
        }
        if self.log.end().is_some() {
            return Ok(State::Ended);
        }
        let age = self.log.moments().last().map_or(0.0, |moment| moment.seconds);
        let silence = SILENCE.max(Duration::try_from_secs_f64(age).unwrap_or_default() / PART);
        if self.heard.elapsed() < silence || self.log.is_being_written() {
            return Ok(State::Running);
        }
        // It may have ended between.
        self.log.refresh()?;
        Ok(if self.log.end().is_some() { State::Ended } else { State::Gone })
    }
}

/// Runs the command.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<()> {
    let mut watched = Watched::open(&args.path)?;
    let ctx = globals.context();
    let state = match () {
        () if globals.json => wait(&mut watched, &ctx, |_| Ok(()))?,
        () if io::stdout().is_terminal() => on_terminal(&mut watched, &ctx)?,
        () => plain(&mut watched, &ctx)?,
    };
    if ctx.cancelled() {
        return Ok(());
    }
    let log = &watched.log;
    let status = match (state, log.end()) {
        (_, Some(end)) => serde_json::to_value(end.status)?.as_str().unwrap_or_default().to_string(),
        (State::Gone, None) => "killed".to_string(),
        _ => "running".to_string(),
    };
    let epochs = log.epochs();
    let ended = Ended {
        model: &log.header().model,
        status,
        epochs: epochs.len(),
        epochs_planned: log.header().epochs,
        seconds: Story::of(log).seconds,
        triples: Story::of(log).triples,
        loss: epochs.last().and_then(|epoch| epoch.loss),
        best: log.end().and_then(|end| end.best.as_ref()).map(serde_json::to_value).transpose()?,
    };
    globals.print(&ended, summary(log, state == State::Gone))
}

/// Waits for the end of the run; `look` is shown the log each time that it has something new.
fn wait(
    watched: &mut Watched,
    ctx: &Context,
    mut look: impl FnMut(&RunLog) -> anyhow::Result<()>,
) -> anyhow::Result<State> {
    loop {
        let state = watched.look()?;
        look(&watched.log)?;
        if state != State::Running || ctx.cancelled() {
            return Ok(state);
        }
        std::thread::sleep(TICK);
    }
}

/// Prints lines until the run has ended.
fn plain(watched: &mut Watched, ctx: &Context) -> anyhow::Result<State> {
    let (mut printed, mut last) = (0, Instant::now());
    wait(watched, ctx, |log| {
        let mut out = io::stdout().lock();
        let mut lines = Vec::new();
        for record in &log.records()[printed..] {
            lines.extend(match record {
                RunRecord::Epoch(epoch) => Some(epoch_line(log.header(), epoch)),
                RunRecord::Now(moment) if last.elapsed() >= LINES => Some(moment_line(log, moment)),
                other => event_line(other),
            });
        }
        printed = log.records().len();
        if !lines.is_empty() {
            last = Instant::now();
        }
        lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush())?;
        Ok(())
    })
    .context("cannot write to standard output")
}

/// Shows the run on the whole terminal until it has ended, or the user leaves. One that had ended before stays.
fn on_terminal(watched: &mut Watched, ctx: &Context) -> anyhow::Result<State> {
    end_without_terminal(ctx.clone());
    let mut terminal =
        ratatui::try_init().context("cannot draw on the terminal; redirect the output for plain lines")?;
    let shown = show(watched, &mut terminal, ctx);
    ratatui::restore();
    shown
}

/// Ends the process when it was told to and does not: keys of a terminal that was closed are waited for without end, and
/// busily, in crossterm.
fn end_without_terminal(ctx: Context) {
    std::thread::spawn(move || {
        while !ctx.cancelled() {
            std::thread::sleep(TICK);
        }
        std::thread::sleep(8 * TICK);
        std::process::exit(0);
    });
}

fn show(watched: &mut Watched, terminal: &mut ratatui::DefaultTerminal, ctx: &Context) -> anyhow::Result<State> {
    let ended_before = watched.look()? == State::Ended;
    loop {
        let state = watched.look()?;
        terminal.draw(|frame| view::draw(frame, &watched.log, state == State::Gone))?;
        if state != State::Running && !ended_before || ctx.cancelled() {
            return Ok(state);
        }
        if event::poll(TICK)?
            && let Event::Key(key) = event::read()?
            && leaves(key)
        {
            return Ok(state);
        }
    }
}

fn leaves(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => control,
        _ => false,
    }
}
