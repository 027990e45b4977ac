//! What a run log says, in words and numbers for people.

use std::time::Duration;

use peccary::{RunEnded, RunEpoch, RunHappening, RunHeader, RunLog, RunMoment, RunRecord, RunStage};
use serde_json::Value;

use crate::numbers::{duration, grouped, short};

/// Moments that the rate of the time to come is taken from.
const RECENT: usize = 30;

/// Where a run stands.
pub struct Story {
    /// Epochs that are over, with the share of the one at hand.
    pub epochs: f64,
    pub seconds: f64,
    pub triples: u64,
    /// The share of the run that is over.
    pub progress: f64,
    /// Triples a second, of late.
    pub rate: f64,
    /// Seconds that are left, if no patience ends the run before; none if it has ended, or cannot be told.
    pub left: Option<f64>,
}

impl Story {
    /// Of `log` as far as it goes.
    pub fn of(log: &RunLog) -> Self {
        let header = log.header();
        let (moments, epochs, validations) = (log.moments(), log.epochs(), log.validations());
        let last = moments.last();
        let over = epochs.last().map_or(0.0, |epoch| f64::from(epoch.epoch));
        let at = last.map_or(0.0, |moment| moment.epochs).max(over);
        let end = log.end();
        let seconds = end.map(|end| end.seconds).or(last.map(|moment| moment.seconds));
        let seconds = seconds.or(epochs.last().map(|epoch| epoch.seconds)).unwrap_or(0.0);
        let of_epochs: u64 = epochs.iter().map(|epoch| epoch.triples).sum();
        let triples = end.map_or(0, |end| end.triples).max(last.map_or(0, |moment| moment.triples)).max(of_epochs);
        let training = moments.iter().rev().filter(|moment| moment.stage == RunStage::Train).take(RECENT);
        let (count, sum) = training.fold((0u32, 0.0), |(count, sum), moment| (count + 1, sum + moment.rate));
        let rate = if count > 0 { sum / f64::from(count) } else { epochs.last().map_or(0.0, |epoch| epoch.rate) };
        let epochs_left = (f64::from(header.epochs) - at).max(0.0);
        let validating: f64 = validations.iter().map(|validation| validation.duration).sum();
        let each = if over > 0.0 { validating / over } else { 0.0 };
        let left = epochs_left * header.triples as f64 / rate + epochs_left * each;
        Self {
            epochs: at,
            seconds,
            triples,
            progress: (at / f64::from(header.epochs.max(1))).clamp(0.0, 1.0),
            rate,
            left: Some(left).filter(|left| left.is_finite() && end.is_none()),
        }
    }
}

/// Seconds as `1:23`.
pub fn clock(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or("?".to_string(), duration)
}

/// What is trained: `bpr, 64 dimensions, 8 negatives, 2 threads`.
pub fn recipe(header: &RunHeader) -> String {
    let config = &header.config;
    let text =
        |value: Option<&Value>| value.map_or(String::new(), |v| v.as_str().map_or(v.to_string(), str::to_string));
    let loss = text(config.get("loss").and_then(|loss| loss.get("kind")));
    let dimensions = text(config.get("dimensions"));
    let negatives = text(config.get("negatives").and_then(|negatives| negatives.get("count")));
    let threads = if header.threads == 1 { "1 thread".to_string() } else { format!("{} threads", header.threads) };
    format!("{loss}, {dimensions} dimensions, {negatives} negatives, {threads}")
}

/// An epoch in a line.
pub fn epoch_line(header: &RunHeader, epoch: &RunEpoch) -> String {
    let loss = epoch.loss.map_or("no finite loss".to_string(), |loss| format!("loss {loss:.4}"));
    let waits =
        waits(epoch.producers_blocked, epoch.trainers_blocked).map_or(String::new(), |text| format!("  {text}"));
    format!(
        "epoch {}/{}  {loss}  {} triples/s  {:.1} % harder{waits}",
        epoch.epoch,
        header.epochs,
        short(epoch.rate),
        100.0 * epoch.negatives.harder
    )
}

/// A moment in a line.
pub fn moment_line(log: &RunLog, moment: &RunMoment) -> String {
    let left = Story::of(log).left.map_or(String::new(), |left| format!("  {} left", clock(left)));
    let loss = moment.loss.map_or(String::new(), |loss| format!("  loss {loss:.4}"));
    format!("{:.2} of {} epochs{loss}  {} triples/s{left}", moment.epochs, log.header().epochs, short(moment.rate))
}

/// A validation, event or end in a line; none of other records.
pub fn event_line(record: &RunRecord) -> Option<String> {
    match record {
        RunRecord::Valid(seen) => {
            let best = if seen.best { ", the best so far" } else { "" };
            let lowered = if seen.lowered { "; the learning rate falls" } else { "" };
            let stop = if seen.stop { "; the run ends for want of improvement" } else { "" };
            Some(format!("{} {:.5} after epoch {}{best}{lowered}{stop}", seen.metric, seen.value, seen.epoch))
        }
        RunRecord::Event(event) => Some(match event.what {
            RunHappening::Checkpoint => format!("checkpoint after {:.2} epochs", event.epochs),
            RunHappening::Resumed => format!("goes on from {:.2} epochs", event.epochs),
            RunHappening::Rollback => format!("back to {:.2} epochs: {}", event.epochs, event.text),
            _ => event.text.clone(),
        }),
        RunRecord::End(end) => Some(match end.status {
            RunEnded::Done => "all epochs are trained".to_string(),
            RunEnded::Patience => "ended for want of improvement".to_string(),
            RunEnded::Interrupted => "interrupted".to_string(),
            _ => end.text.clone(),
        }),
        _ => None,
    }
}

/// Which stage is behind, by the shares of their time that producers and trainers are blocked.
pub fn waits(producers: Option<f64>, trainers: Option<f64>) -> Option<String> {
    let (producers, trainers) = (100.0 * producers?, 100.0 * trainers?);
    Some(match producers - trainers {
        d if d > 10.0 => format!("producers wait for trainers ({producers:.0} %)"),
        d if d < -10.0 => format!("trainers wait for producers ({trainers:.0} %)"),
        _ => "balanced".to_string(),
    })
}

/// How the run went, in a few lines.
pub fn summary(log: &RunLog, gone: bool) -> String {
    let (story, header) = (Story::of(log), log.header());
    let epochs = log.epochs();
    let losses = match (epochs.first().and_then(|e| e.loss), epochs.last().and_then(|e| e.loss)) {
        (Some(first), Some(last)) => format!(", loss {first:.4} -> {last:.4}"),
        _ => String::new(),
    };
    let mean = epochs.iter().map(|e| e.duration).sum::<f64>();
    let rate = epochs.iter().map(|e| e.triples).sum::<u64>() as f64 / mean;
    let rate = if rate.is_finite() { format!(", {} triples/s", short(rate)) } else { String::new() };
    let mut text = format!(
        "{}: {} of {} epochs in {}, {} triples{rate}{losses}",
        header.model,
        epochs.len(),
        header.epochs,
        clock(story.seconds),
        grouped(story.triples),
    );
    let validations = log.validations();
    let best = validations.iter().rev().find(|validation| validation.best);
    if let Some(best) = best {
        text += &format!("\nbest: {} {:.5} after epoch {}", best.metric, best.value, best.epoch);
    }
    match log.end() {
        Some(end) => {
            let why = event_line(&RunRecord::End(end.clone())).unwrap_or_default();
            text += &format!("\n{why}");
        }
        None if gone => {
            text += &format!(
                "\nnobody writes this run's log any more: it was killed; \
                 peccary train --resume {} goes on from its last checkpoint, if it has one",
                header.model
            );
        }
        None => text += "\nstill running",
    }
    text
}
