//! The sections on training: loss and validation, speed, negatives.

use std::collections::BTreeSet;

use super::html::{Html, html};
use super::plot::{Axis, Band, Data, Form, Frame, Lines, Mark, Series};
use super::run::{Epoch, Negatives, Run};

/// Marks on a plot, at most.
const MARKS: usize = 6;
const MIB: f64 = 1_048_576.0;

/// The curves of the runs' losses, validations and learning rates.
pub(super) fn curves(runs: &[Run], data: &mut Data) -> Html {
    let mut out = Html::default();
    let loss = series(runs, |run| run.by_epoch(|epoch| epoch.loss));
    let several = runs.len() > 1;
    let frame = Frame {
        id: "loss",
        title: "Loss",
        caption: if several {
            "Mean loss of a term before its update. Different losses are not comparable; validation is."
        } else {
            "Mean loss of a term before its update, epoch by epoch."
        },
    };
    out.push(&plot(runs, loss, ("loss", Form::Plain, false), frame, data));
    let metric = runs.iter().find_map(|run| run.validation.as_ref()).map(|found| found.metric.clone());
    if let Some(metric) = metric {
        let of = |run: &Run| {
            let found = run.validation.as_ref().filter(|found| found.metric == metric);
            let points = found.into_iter().flat_map(|found| &found.history);
            points.filter_map(|seen| Some((f64::from(seen.epoch), seen.value?))).collect()
        };
        let frame = Frame {
            id: "validation",
            title: "Validation",
            caption: "What was measured on the validation part between epochs. The model is that of the best epoch.",
        };
        out.push(&plot(runs, series(runs, of), (&metric, Form::Plain, false), frame, data));
    }
    let rates = series(runs, |run| run.by_epoch(|epoch| epoch.learning_rate));
    let frame = Frame {
        id: "learning-rate",
        title: "Learning rate",
        caption: "At the start of each epoch, after warm-up and schedule.",
    };
    out.push(&plot(runs, rates, ("learning rate", Form::Short, true), frame, data));
    let gradients = series(runs, |run| run.by_moment(|moment| moment.gradient));
    let frame = Frame {
        id: "gradients",
        title: "Gradients",
        caption: "Mean norm of the gradient of one positive's terms by its user's row. It grows before a run diverges.",
    };
    out.push(&plot(runs, gradients, ("norm", Form::Short, true), frame, data));
    let changes = series(runs, |run| run.by_moment(|moment| moment.change));
    let frame = Frame {
        id: "updates",
        title: "Updates",
        caption: "How much of a user's row one batch changes: mean norm of the change over mean norm of the rows.",
    };
    out.push(&plot(runs, changes, ("share of the row", Form::Percent, true), frame, data));
    out.push(&scheduled(runs, data));
    out
}

/// Numbers of the configuration that follow a schedule, as of the end of each epoch.
fn scheduled(runs: &[Run], data: &mut Data) -> Html {
    let mut curves: Vec<Series> = Vec::new();
    for run in runs {
        let keys: BTreeSet<&String> = run.epochs.iter().flat_map(|epoch| epoch.scheduled.keys()).collect();
        for key in keys {
            let name = if runs.len() > 1 { format!("{}: {key}", run.name) } else { key.clone() };
            let points = run.by_epoch(|epoch| epoch.scheduled.get(key).copied());
            curves.push(Series { name, colour: curves.len(), points });
        }
    }
    let frame = Frame {
        id: "schedules",
        title: "Schedules",
        caption: "Numbers of the configuration that change as the run goes on, by their keys.",
    };
    plot(runs, curves, ("value", Form::Plain, true), frame, data)
}

/// Throughput over the run, who waited for whom, and memory.
pub(super) fn speed(runs: &[Run], data: &mut Data) -> Html {
    let mut out = Html::default();
    // Whichever is finer: epochs of long runs take many moments, short ones less than one.
    let rates = series(runs, |run| {
        let moments = run.by_moment(|moment| Some(moment.rate));
        let epochs = run.by_epoch(|epoch| epoch.triples_per_second);
        if moments.len() > epochs.len() { moments } else { epochs }
    });
    let frame = Frame {
        id: "throughput",
        title: "Throughput",
        caption: "Triples (user, positive, negative) trained a second; time in which validation ran is left out.",
    };
    out.push(&plot(runs, rates, ("triples a second", Form::Short, true), frame, data));

    let mut waiting = Vec::new();
    for run in runs {
        let of = |text: &str| if runs.len() > 1 { format!("{}: {text}", run.name) } else { text.to_string() };
        for (name, points) in [
            ("producers wait for trainers", run.by_moment(|moment| moment.producers_blocked)),
            ("trainers wait for producers", run.by_moment(|moment| moment.trainers_blocked)),
        ] {
            waiting.push(Series { name: of(name), colour: waiting.len(), points });
        }
    }
    let frame = Frame {
        id: "bottleneck",
        title: "Who waits for whom",
        caption: "The share of their time that each side of the pipeline was blocked. Where producers wait, updates are \
                  the bottleneck; where trainers wait, reading and sampling are.",
    };
    let y = Axis::over("share of time", [0.0, 1.0].into_iter(), Form::Percent);
    out.push(&Lines::new(epochs(runs), y, waiting).draw(&frame, data));

    let memory = series(runs, |run| run.by_moment(|moment| moment.memory.map(|bytes| bytes / MIB)));
    let frame = Frame {
        id: "memory",
        title: "Memory",
        caption: "The process's memory while it trained, pages of mapped files included: those count only as long as \
                  nobody else needs the room.",
    };
    out.push(&plot(runs, memory, ("MiB", Form::Short, true), frame, data));
    out
}

/// How the negatives were.
pub(super) fn negatives(runs: &[Run], data: &mut Data) -> Html {
    let mut out = Html::default();
    let medians = series(runs, |run| run.of_negatives(|n| n.quantile(0.5)));
    let band = |(at, run): (usize, &Run)| {
        let bound = |q| run.of_negatives(move |n: &Negatives| n.quantile(q));
        let points = bound(0.1).into_iter().zip(bound(0.9)).map(|((x, low), (_, high))| (x, low, high)).collect();
        Band { name: format!("{}, middle 80 %", run.name), colour: at, points }
    };
    let bands: Vec<Band> = runs.iter().enumerate().map(band).filter(|band| !band.points.is_empty()).collect();
    let frame = Frame {
        id: "difficulty",
        title: "Difficulty of negatives",
        caption: "σ((s⁻ − s⁺) / T): 0 where a negative scores far below its positive, above ½ where it scores higher. \
                  The line is the median, the band holds the middle 80 %.",
    };
    let x = epochs(runs);
    let y = Axis::over("difficulty", [0.0, 1.0].into_iter(), Form::Plain);
    let mut lines = Lines::new(x.clone(), y, medians);
    lines.bands = bands;
    out.push(&lines.draw(&frame, data));

    let mut harder = series(runs, |run| run.of_negatives(|n| n.harder));
    for (at, run) in runs.iter().enumerate() {
        let points = run.of_negatives(|n| n.false_negatives);
        if points.iter().any(|(_, share)| *share > 0.0) {
            let name = format!("{}: held-out positives", run.name);
            harder.push(Series { name, colour: runs.len() + at, points });
        }
    }
    let frame = Frame {
        id: "harder",
        title: "Hard and false negatives",
        caption: "The share of negatives that score above their positive, and, where there is a validation part, the \
                  share that are held-out positives of the user.",
    };
    out.push(&plot(runs, harder, ("share of negatives", Form::Percent, true), frame, data));

    let mut popularity = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let of = |log: Option<f64>| log.map(f64::exp_m1);
        let pair = [
            ("negatives", run.of_negatives(|n| of(n.log_popularity))),
            ("positives", run.of_negatives(|n| of(n.positive_log_popularity))),
        ];
        for (which, (name, points)) in pair.into_iter().enumerate() {
            let name = if runs.len() > 1 { format!("{}: {name}", run.name) } else { name.to_string() };
            popularity.push(Series { name, colour: 2 * at + which, points });
        }
    }
    let frame = Frame {
        id: "negatives-popularity",
        title: "Popularity of negatives",
        caption: "Train interactions of the negatives' items and of their positives' (geometric means). Negatives far \
                  less popular than positives teach little but popularity.",
    };
    out.push(&plot(runs, popularity, ("train interactions", Form::Short, false), frame, data));
    out.push(&components(runs, x, data));
    out
}

/// What the components of mixtures drew, of the runs that have several.
fn components(runs: &[Run], x: Axis, data: &mut Data) -> Html {
    let mut shares: Vec<Series> = Vec::new();
    for run in runs {
        let last =
            run.epochs.iter().rev().find_map(|epoch| epoch.negatives.as_ref()).filter(|n| n.components.len() > 1);
        for (at, component) in last.into_iter().flat_map(|n| n.components.iter().enumerate()) {
            let name = format!("{} → {}", component.propose, component.select);
            let name = if runs.len() > 1 { format!("{}: {name}", run.name) } else { name };
            let points = run.by_epoch(|e: &Epoch| Some(e.negatives.as_ref()?.components.get(at)?.share));
            shares.push(Series { name, colour: shares.len(), points });
        }
    }
    let frame = Frame {
        id: "samplers",
        title: "Samplers",
        caption: "What each component of the mixture drew, of all negatives: a curriculum shows here.",
    };
    let y = Axis::over("share of negatives", [0.0, 1.0].into_iter(), Form::Percent);
    Lines::new(x, y, shares).draw(&frame, data)
}

/// A curve of each run.
fn series(runs: &[Run], of: impl Fn(&Run) -> Vec<(f64, f64)>) -> Vec<Series> {
    runs.iter().enumerate().map(|(at, run)| Series { name: run.name.clone(), colour: at, points: of(run) }).collect()
}

/// The axis of epochs, for all runs.
fn epochs(runs: &[Run]) -> Axis {
    let whole = runs.iter().flat_map(|run| &run.epochs).map(|epoch| f64::from(epoch.epoch));
    let within = runs.iter().flat_map(|run| &run.moments).map(|moment| moment.epochs);
    Axis::over("epoch", whole.chain(within), Form::Plain)
}

/// Curves over epochs, with the best epochs and early ends marked.
fn plot(
    runs: &[Run],
    series: Vec<Series>,
    (label, form, zero): (&str, Form, bool),
    frame: Frame<'_>,
    data: &mut Data,
) -> Html {
    let y = Axis::over(label, series.iter().flat_map(|s| &s.points).map(|p| p.1), form);
    let y = match (zero, form) {
        (true, _) => y.with_zero(),
        (false, Form::Short) => y.log_if_wide(),
        (false, _) => y,
    };
    let y = y.widened();
    let mut lines = Lines::new(epochs(runs), y, series);
    if matches!(frame.id, "loss" | "validation") {
        lines.marks = marks(runs);
    }
    lines.draw(&frame, data)
}

/// The best epoch of each run, and where it ended early.
fn marks(runs: &[Run]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for run in runs {
        let of = |text: String| if runs.len() > 1 { format!("{}: {text}", run.name) } else { text };
        if let Some(found) = &run.validation {
            let label = of(format!("best: epoch {}", found.best_epoch));
            marks.push(Mark { x: f64::from(found.best_epoch), label });
        }
        if let Some(last) = run.epochs.last().filter(|_| run.out_of_patience) {
            let label = of(format!("stopped early: epoch {}", last.epoch));
            marks.push(Mark { x: f64::from(last.epoch), label });
        }
        marks.extend(run.resumed.iter().map(|at| Mark { x: *at, label: of("resumed".into()) }));
    }
    // More labels would lie on each other.
    marks.truncate(MARKS);
    marks
}

/// A note where a section has nothing to show.
pub(super) fn note(text: &str) -> Html {
    html!("<p class=\"note\">{}</p>", text)
}
