//! The run on a terminal: as much of it as fits, the most telling first.

use peccary::{ByteSize, RunEpoch, RunLog, RunStage};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, GraphType, LineGauge, Paragraph, Wrap};

use super::story::{Story, clock, event_line, recipe, waits};
use crate::numbers::short;

/// From this width on, panels stand in two columns.
const TWO_COLUMNS: u16 = 90;
/// Rows that a curve needs, and a panel of text.
const CURVE: u16 = 8;
const TEXT: u16 = 6;
/// Columns of a bar.
const BAR: usize = 12;

/// Draws `log` on all of `frame`. `gone` says that nobody writes it any more.
pub fn draw(frame: &mut Frame<'_>, log: &RunLog, gone: bool) {
    let [head, gauge, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    let story = Story::of(log);
    frame.render_widget(title(log), head);
    let left = match (log.end(), gone, story.left) {
        (Some(_), ..) => format!("ended after {}", clock(story.seconds)),
        (None, true, _) => "the run was killed".to_string(),
        (None, false, Some(left)) => format!("{} left", clock(left)),
        (None, false, None) => "begins".to_string(),
    };
    let label = format!("{:3.0} %  epoch {:.1}/{}  {left}", 100.0 * story.progress, story.epochs, log.header().epochs);
    let bar = LineGauge::default()
        .ratio(story.progress)
        .label(label)
        .filled_symbol("━")
        .unfilled_symbol("─")
        .filled_style(Style::new().fg(Color::Green));
    frame.render_widget(bar, gauge);
    let quit = match log.end() {
        Some(_) => "q leaves",
        None => "q leaves; the run goes on",
    };
    frame.render_widget(Line::styled(quit, Style::new().add_modifier(Modifier::DIM)), foot);
    panels(frame, body, log, &story);
}

fn title(log: &RunLog) -> Line<'static> {
    let header = log.header();
    Line::from(vec![
        Span::styled(header.model.clone(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("  {}", recipe(header))),
    ])
}

/// What there is to show, the most telling first.
#[derive(Clone, Copy, PartialEq)]
enum Panel {
    Loss,
    Metric,
    Pipeline,
    Rate,
    Negatives,
    Messages,
}

impl Panel {
    fn rows(self) -> u16 {
        match self {
            Self::Loss | Self::Metric | Self::Rate => CURVE,
            Self::Pipeline | Self::Negatives | Self::Messages => TEXT,
        }
    }
}

fn panels(frame: &mut Frame<'_>, area: Rect, log: &RunLog, story: &Story) {
    let wide = area.width >= TWO_COLUMNS;
    let all = [Panel::Loss, Panel::Metric, Panel::Pipeline, Panel::Rate, Panel::Negatives, Panel::Messages];
    let columns = if wide { 2 } else { 1 };
    // Rows of panels, as many as fit.
    let (mut rows, mut left) = (Vec::new(), area.height);
    for row in all.chunks(columns) {
        let height = row.iter().map(|panel| panel.rows()).max().unwrap_or(0);
        // A first one that is too high for the terminal is drawn as far as it goes.
        if height > left && !rows.is_empty() {
            continue;
        }
        left = left.saturating_sub(height);
        rows.push((row, height));
    }
    let heights = rows.iter().map(|(row, height)| match row.iter().any(|panel| panel.rows() == CURVE) {
        true => Constraint::Fill(*height),
        false => Constraint::Length(*height),
    });
    let areas = Layout::vertical(heights).split(area);
    for ((row, _), area) in rows.iter().zip(areas.iter()) {
        let cells = Layout::horizontal(row.iter().map(|_| Constraint::Fill(1))).split(*area);
        for (panel, cell) in row.iter().zip(cells.iter()) {
            draw_panel(frame, *cell, *panel, log, story);
        }
    }
}

fn framed(title: &str) -> Block<'static> {
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().add_modifier(Modifier::DIM)).title(
        Span::styled(format!(" {title} "), Style::new().remove_modifier(Modifier::DIM).add_modifier(Modifier::BOLD)),
    )
}

fn draw_panel(frame: &mut Frame<'_>, area: Rect, panel: Panel, log: &RunLog, story: &Story) {
    match panel {
        Panel::Loss => {
            let (moments, epochs) = (log.moments(), log.epochs());
            let by_moment = moments.iter().filter_map(|m| Some((m.epochs, m.loss?))).collect::<Vec<_>>();
            let by_epoch = epochs.iter().filter_map(|e| Some((f64::from(e.epoch), e.loss?))).collect::<Vec<_>>();
            let points = if by_moment.len() > by_epoch.len() { by_moment } else { by_epoch };
            let now = points.last().map_or(String::new(), |(_, loss)| format!(" {loss:.4}"));
            curve(frame, area, (&format!("loss{now}"), "epoch"), &points, None, Color::Cyan);
        }
        Panel::Metric => metric(frame, area, log),
        Panel::Rate => {
            let points: Vec<_> = log.moments().iter().map(|m| (m.seconds, m.rate)).collect();
            let title = format!("{} triples/s", short(story.rate));
            curve(frame, area, (&title, "s"), &points, Some(0.0), Color::Green);
        }
        Panel::Pipeline => text(frame, area, "pipeline", pipeline(log, area.width)),
        Panel::Negatives => text(frame, area, "negatives", log.epochs().last().map_or(Vec::new(), |e| negatives(e))),
        Panel::Messages => {
            let rows = area.height.saturating_sub(2) as usize;
            let lines: Vec<String> = log.records().iter().filter_map(event_line).collect();
            let last = lines.into_iter().rev().take(rows).collect::<Vec<_>>();
            let lines = last.into_iter().rev().map(Line::from).collect::<Vec<_>>();
            frame.render_widget(Paragraph::new(lines).block(framed("log")), area);
        }
    }
}

/// The metric, and the best of it; the gradient's norm where nothing is validated.
fn metric(frame: &mut Frame<'_>, area: Rect, log: &RunLog) {
    let validations = log.validations();
    let Some(last) = validations.last() else {
        let moments = log.moments();
        let points: Vec<_> = moments.iter().filter_map(|m| Some((m.epochs, m.gradient?))).collect();
        let now = points.last().map_or(String::new(), |(_, norm)| match *norm >= 0.001 {
            true => format!(" {norm:.3}"),
            false => format!(" {norm:.3e}"),
        });
        return curve(frame, area, (&format!("gradient norm{now}"), "epoch"), &points, None, Color::Yellow);
    };
    let points: Vec<_> = validations.iter().map(|v| (f64::from(v.epoch), v.value)).collect();
    let best = validations.iter().rev().find(|v| v.best);
    let marked = best.map_or(String::new(), |best| format!(", best {:.5} at {}", best.value, best.epoch));
    let title = format!("{} {:.5}{marked}", last.metric, last.value);
    curve(frame, area, (&title, "epoch"), &points, None, Color::Yellow);
}

fn text(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'static>>) {
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(framed(title)), area);
}

/// A curve in a frame; `floor` is to be on the axis of its values.
fn curve(
    frame: &mut Frame<'_>,
    area: Rect,
    (title, unit): (&str, &str),
    points: &[(f64, f64)],
    floor: Option<f64>,
    color: Color,
) {
    if points.len() < 2 {
        return text(frame, area, title, vec![Line::styled("not yet", Style::new().add_modifier(Modifier::DIM))]);
    }
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        points.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (first, last) = bounds(|p| p.0);
    let (low, high) = bounds(|p| p.1);
    let low = floor.map_or(low, |floor| low.min(floor));
    // A flat line is in the middle.
    let room = if high > low { 0.0 } else { high.abs().max(1e-9) * 0.1 };
    let (low, high) = (low - room, high + room);
    let labels = |low: f64, high: f64| [axis_label(low, high - low), axis_label(high, high - low)];
    let [left, right] = labels(first, last);
    let dim = Style::new().add_modifier(Modifier::DIM);
    let chart = Chart::new(vec![
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
            .data(points),
    ])
    .block(framed(title))
    .x_axis(Axis::default().bounds([first, last]).labels([left, format!("{right} {unit}")]).style(dim))
    .y_axis(Axis::default().bounds([low, high]).labels(labels(low, high)).style(dim));
    frame.render_widget(chart, area);
}

/// A number on an axis of a certain length: as many digits as tell its ends apart.
fn axis_label(value: f64, length: f64) -> String {
    if value.abs() >= 1000.0 {
        return short(value);
    }
    let decimals = if length > 0.0 { (2.0 - length.log10()).clamp(0.0, 5.0).ceil() as usize } else { 2 };
    let decimals = if value.fract() == 0.0 && length >= 1.0 { 0 } else { decimals };
    format!("{value:.decimals$}")
}

fn bar(share: f64) -> String {
    let filled = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "█".repeat(filled) + &"░".repeat(BAR - filled)
}

/// Who waits for whom, and what the process takes.
fn pipeline(log: &RunLog, width: u16) -> Vec<Line<'static>> {
    let moments = log.moments();
    // Of late, for the last second alone flickers.
    let late: Vec<_> = moments.iter().rev().filter(|m| m.stage == RunStage::Train).take(10).collect();
    let mean = |of: fn(&peccary::RunMoment) -> Option<f64>| {
        let values: Vec<f64> = late.iter().filter_map(|m| of(m)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (producers, trainers) = (mean(|m| m.producers_blocked), mean(|m| m.trainers_blocked));
    let mut lines = Vec::new();
    for (name, share) in [("producers wait", producers), ("trainers wait", trainers)] {
        if let Some(share) = share {
            lines.push(Line::from(format!("{name:<15}{} {:3.0} %", bar(share), 100.0 * share)));
        }
    }
    let said = match log.moments().last() {
        Some(moment) if moment.stage == RunStage::Valid => Some("validating; trainers wait".to_string()),
        _ => waits(producers, trainers),
    };
    lines.extend(said.map(|said| Line::styled(said, Style::new().add_modifier(Modifier::BOLD))));
    let mut parts = Vec::new();
    if let Some(memory) = moments.last().and_then(|m| m.memory) {
        parts.push(format!("{} resident", ByteSize(memory)));
    }
    if let Some(rate) = moments.last().and_then(|m| m.learning_rate) {
        parts.push(format!("learning rate {rate:.2e}"));
    }
    if let (Some(update), Some(row)) = (mean(|m| m.update), mean(|m| m.row)) {
        parts.push(format!("a row moves {:.2} % a batch", 100.0 * update / row.max(1e-12)));
    }
    // On a narrow terminal the first ones.
    let mut line = String::new();
    for part in parts {
        let longer = if line.is_empty() { part } else { format!("{line}, {part}") };
        if longer.chars().count() + 2 > width as usize && !line.is_empty() {
            break;
        }
        line = longer;
    }
    lines.push(Line::from(line));
    lines
}

/// How the negatives of an epoch were.
fn negatives(epoch: &RunEpoch) -> Vec<Line<'static>> {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let report = &epoch.negatives;
    let top = report.difficulty.iter().copied().fold(1e-9, f64::max);
    let step = |share: &f64| STEPS[((share / top * 7.0).round() as usize).min(7)];
    let histogram: String = report.difficulty.iter().map(step).collect();
    let held = report.false_negatives.map_or(String::new(), |share| format!(", {:.3} % held out", 100.0 * share));
    let mut lines = vec![
        Line::from(format!("{:.1} % score above their positive{held}", 100.0 * report.harder)),
        Line::from(format!("difficulty {histogram} easy to hard, gap {:.3}", report.mean_gap)),
    ];
    let shares = report.components.iter().map(|c| format!("{:.0} % {}/{}", 100.0 * c.share, c.propose, c.select));
    let shares = shares.collect::<Vec<_>>().join(", ");
    if !shares.is_empty() {
        lines.push(Line::from(shares));
    }
    let popularity = (report.log_popularity - report.positive_log_popularity).exp();
    lines.push(Line::from(format!("{popularity:.2} times the positives' popularity")));
    lines
}
