//! The thread that reads the logs, in legs: between two of them everything read has been scattered, and can be made durable.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::error::IngestError;
use super::read::{Block, Compression, Limits, Position, ReadOptions, Roles, Source, SourceInfo, open, open_at};
use super::record::Layout;
use crate::context::Context;
use crate::dataset::{Columns, Part};

/// A block with its place in the whole input.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) source: usize,
    pub(super) layout: Layout,
    pub(super) block: Block,
}

pub(super) type Message = Result<Job, IngestError>;

/// What is read in one go. The last one ends where there is nothing more to read.
pub(super) struct Leg {
    pub(super) blocks: Receiver<Message>,
    /// Where the next leg begins, once there are no more blocks.
    pub(super) end: Receiver<Place>,
}

/// A place between two records of the whole input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The source that is read next.
    pub(super) source: usize,
    /// Where in it, if not at its start.
    at: Option<Position>,
    /// Layout and name of the first source that has rows.
    first: Option<(Layout, String)>,
}

impl Place {
    /// The end of an input of `sources`.
    pub(super) fn end(sources: usize) -> Self {
        Self { source: sources, ..Self::default() }
    }
}

/// What there is to read, and how.
pub(super) struct Plan {
    pub(super) sources: Vec<(Source, Part)>,
    pub(super) read: ReadOptions,
    /// The columns of the dataset that this is appended to.
    pub(super) others: Option<Columns>,
    /// Whether times are needed.
    pub(super) by_time: bool,
    /// Whether some rows are exposures.
    pub(super) exposed: bool,
    pub(super) limits: Limits,
    /// Blocks that wait for a parser.
    pub(super) queue: usize,
    /// The shortest leg.
    pub(super) leg: Duration,
    pub(super) ctx: Context,
}

/// The thread that reads.
pub(super) struct Reader {
    plan: Plan,
    place: Place,
    legs: Sender<Leg>,
    send: Sender<Message>,
    end: Sender<Place>,
    number: u64,
    begun: Instant,
}

/// Nobody receives any more.
struct Gone;

impl Reader {
    /// Reads from `place` on; the first leg can be received at once.
    pub(super) fn new(plan: Plan, place: Place) -> (Self, Receiver<Leg>) {
        // Legs are few, and the next one waits until this one has been scattered.
        let (legs, receive) = bounded(1);
        let (send, end, leg) = channels(plan.queue);
        // There is room for one.
        let _ = legs.send(leg);
        (Self { plan, place, legs, send, end, number: 0, begun: Instant::now() }, receive)
    }

    /// Reads all there is.
    pub(super) fn run(mut self) {
        while self.place.source < self.plan.sources.len() {
            match self.source() {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) => return,
                Err(error) => {
                    let _ = self.send.send(Err(error));
                    return;
                }
            }
        }
        let _ = self.end.send(self.place);
    }

    fn source(&mut self) -> Result<Result<(), Gone>, IngestError> {
        let Plan { sources, read, limits, ctx, .. } = &self.plan;
        let source = &sources[self.place.source].0;
        // Pipes cannot be read again: there is no stopping inside of them.
        let can_pause = source.bytes().is_some();
        let mut blocks = match self.place.at.take() {
            None => open(source, read, *limits)?,
            Some(position) => open_at(source, read, *limits, position, &|| ctx.cancelled())?,
        };
        if ctx.cancelled() {
            return Ok(Err(Gone));
        }
        let Some(columns) = &blocks.info().columns else {
            self.place.source += 1;
            return Ok(Ok(()));
        };
        let layout = Layout {
            time: columns.time.is_some(),
            weight: columns.weight.is_some(),
            event: columns.event.is_some(),
            part: sources.iter().any(|(_, part)| *part != Part::Train),
            exposed: self.plan.exposed,
            context: !columns.context.is_empty(),
        };
        self.check(blocks.info(), layout)?;
        while let Some(block) = blocks.next() {
            let job = Job { number: self.number, source: self.place.source, layout, block: block? };
            self.number += 1;
            if self.send.send(Ok(job)).is_err() {
                return Ok(Err(Gone));
            }
            if can_pause && self.begun.elapsed() >= self.plan.leg {
                self.place.at = Some(blocks.position());
                if self.next_leg().is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
        self.place.at = None;
        self.place.source += 1;
        let pause = self.begun.elapsed() >= self.plan.leg && self.place.source < self.plan.sources.len();
        Ok(if pause { self.next_leg() } else { Ok(()) })
    }

    /// Ends a leg and begins the next.
    fn next_leg(&mut self) -> Result<(), Gone> {
        let (send, end, leg) = channels(self.plan.queue);
        self.end.send(self.place.clone()).map_err(|_| Gone)?;
        (self.send, self.end) = (send, end);
        self.legs.send(leg).map_err(|_| Gone)?;
        self.begun = Instant::now();
        Ok(())
    }

    /// Makes sure that all sources have the same columns.
    fn check(&mut self, info: &SourceInfo, layout: Layout) -> Result<(), IngestError> {
        let name = info.name.to_string();
        if self.plan.by_time && !layout.time {
            return Err(IngestError::Options(format!(
                "{name} has no time column, which a split by time needs; name it by --time-column"
            )));
        }
        if let Some(others) = self.plan.others {
            let others = Layout { time: others.time, weight: others.weight, event: others.event, ..layout };
            same_columns((&name, layout), ("the dataset", others))?;
        }
        if self.place.first.is_none() {
            self.plan.ctx.message(&describe(info));
        }
        let (first, other) = self.place.first.get_or_insert_with(|| (layout, name.clone()));
        same_columns((&name, layout), (other, *first))
    }
}

/// Refuses a source whose columns are not those of another one.
fn same_columns((name, own): (&str, Layout), (other, theirs): (&str, Layout)) -> Result<(), IngestError> {
    let roles =
        [("time", own.time, theirs.time), ("weight", own.weight, theirs.weight), ("event", own.event, theirs.event)];
    match roles.into_iter().find(|(_, own, theirs)| own != theirs) {
        None => Ok(()),
        Some((role, has, _)) => {
            let has = if has { "a" } else { "no" };
            Err(IngestError::Columns { name: name.into(), has, role, other: other.into() })
        }
    }
}

fn channels(queue: usize) -> (Sender<Message>, Sender<Place>, Leg) {
    let (send, blocks) = bounded(queue);
    let (done, end) = bounded(1);
    (send, done, Leg { blocks, end })
}

/// What was found out about a source.
fn describe(info: &SourceInfo) -> String {
    let mut text = format!("{}: {}", info.name, info.format);
    if info.compression != Compression::None {
        text += &format!(" in {}", info.compression);
    }
    if let Some(delimiter) = &info.delimiter {
        let header = if info.header { "a header" } else { "no header" };
        text += &format!(" with {header}, delimiter '{delimiter}'");
    }
    if let Some(Roles { user, item, time, weight, event, context }) = &info.columns {
        text += &format!("; users from column {user}, items from {item}");
        for (what, column) in [("times", time), ("weights", weight), ("events", event)] {
            match column {
                Some(column) => text += &format!(", {what} from {column}"),
                None => text += &format!(", no {what}"),
            }
        }
        for column in context {
            text += &format!(", context from {column}");
        }
    }
    text
}
