//! What is known of a training run: what the model's manifest says of it, and the run log where there is one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::model::Model;
use crate::runlog::{RunHappening, RunLog, RunStage};

/// A run, as the page tells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// The model's name.
    pub(super) name: String,
    /// Its epochs.
    pub(super) epochs: Vec<Epoch>,
    /// What validation has found.
    pub(super) validation: Option<Validation>,
    /// Whether it ended because the metric did not improve.
    pub(super) out_of_patience: bool,
    /// Seconds of training, validation left out.
    pub(super) seconds: f64,
    /// Triples a second over all of it.
    pub(super) rate: f64,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// What the run log has measured at intervals, validation left out; empty without one.
    pub(super) moments: Vec<Moment>,
    /// Places where the run went on after an interruption, in epochs.
    pub(super) resumed: Vec<f64>,
}

/// How a run was doing at a moment, by its run log.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Epochs that were over, with the share of the one at hand.
    pub(super) epochs: f64,
    /// Seconds since the run began.
    pub(super) seconds: f64,
    /// Triples a second.
    pub(super) rate: f64,
    /// The share of their time that producers were blocked.
    pub(super) producers_blocked: Option<f64>,
    /// The share of their time that trainers were blocked.
    pub(super) trainers_blocked: Option<f64>,
    /// Bytes in memory.
    pub(super) memory: Option<f64>,
    /// Mean norm of gradients.
    pub(super) gradient: Option<f64>,
    /// How much of a row a batch changes: mean norm of the change over mean norm of the rows.
    pub(super) change: Option<f64>,
}

/// An epoch. What an older version did not write is absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Epoch {
    pub(super) epoch: u32,
    pub(super) loss: Option<f64>,
    pub(super) learning_rate: Option<f64>,
    pub(super) triples_per_second: Option<f64>,
    pub(super) negatives: Option<Negatives>,
    /// Numbers that follow a schedule, by key; from the run log.
    #[serde(skip)]
    pub(super) scheduled: BTreeMap<String, f64>,
}

/// How the negatives of an epoch were.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Negatives {
    pub(super) sampled: u64,
    pub(super) harder: Option<f64>,
    pub(super) difficulty: Vec<f64>,
    pub(super) log_popularity: Option<f64>,
    pub(super) positive_log_popularity: Option<f64>,
    pub(super) false_negatives: Option<f64>,
    pub(super) components: Vec<Component>,
}

/// What one component of a mixture drew.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Component {
    pub(super) propose: String,
    pub(super) select: String,
    pub(super) share: f64,
}

/// What validation has found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Validation {
    pub(super) metric: String,
    pub(super) best_epoch: u32,
    pub(super) history: Vec<Validated>,
}

/// One validation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Validated {
    pub(super) epoch: u32,
    pub(super) value: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct History {
    epochs: Vec<Epoch>,
    validation: Option<Validation>,
    stopped: String,
    seconds: f64,
    triples_per_second: f64,
    plan: Value,
}

impl Run {
    /// The run that made `model`, which the page calls `name`. What its manifest does not say is left out: a model may be
    /// of another version.
    pub(super) fn of(model: &Model, log: Option<&RunLog>, name: String) -> Self {
        let manifest = model.manifest();
        let history = History::deserialize(&manifest.history).unwrap_or_default();
        let mut run = Self {
            name,
            epochs: history.epochs,
            validation: history.validation.filter(|found| !found.history.is_empty()),
            out_of_patience: history.stopped == "patience",
            seconds: history.seconds,
            rate: history.triples_per_second,
            threads: history.plan.get("threads").and_then(Value::as_u64),
            moments: Vec::new(),
            resumed: Vec::new(),
        };
        if let Some(log) = log {
            run.add(log);
        }
        run
    }

    /// What the run log has beyond the manifest.
    fn add(&mut self, log: &RunLog) {
        let trained = log.moments().into_iter().filter(|moment| moment.stage == RunStage::Train);
        self.moments = trained
            .map(|moment| Moment {
                epochs: moment.epochs,
                seconds: moment.seconds,
                rate: moment.rate,
                producers_blocked: moment.producers_blocked,
                trainers_blocked: moment.trainers_blocked,
                memory: moment.memory.map(|bytes| bytes as f64),
                gradient: moment.gradient,
                change: moment.update.zip(moment.row).filter(|(_, row)| *row > 0.0).map(|(update, row)| update / row),
            })
            .collect();
        self.resumed = log.events().filter(|e| e.what == RunHappening::Resumed).map(|e| e.epochs).collect();
        for logged in log.epochs() {
            if let Some(epoch) = self.epochs.iter_mut().find(|epoch| epoch.epoch == logged.epoch) {
                epoch.scheduled = logged.scheduled.clone();
            }
        }
    }

    /// A value of each moment that has it, by epochs.
    pub(super) fn by_moment(&self, of: impl Fn(&Moment) -> Option<f64>) -> Vec<(f64, f64)> {
        self.moments.iter().filter_map(|moment| Some((moment.epochs, of(moment)?))).collect()
    }

    /// The shares of their time that producers and trainers were blocked, over the whole run.
    pub(super) fn blocked(&self) -> Option<(f64, f64)> {
        let mut before = 0.0;
        let (mut total, mut producers, mut trainers) = (0.0, 0.0, 0.0);
        for moment in &self.moments {
            let took = (moment.seconds - before).max(0.0);
            before = moment.seconds;
            let Some(share) = moment.trainers_blocked else { continue };
            total += took;
            trainers += took * share;
            producers += took * moment.producers_blocked.unwrap_or(0.0);
        }
        (total > 0.0).then(|| (producers / total, trainers / total))
    }

    /// A value of each epoch that has it, by epoch.
    pub(super) fn by_epoch(&self, of: impl Fn(&Epoch) -> Option<f64>) -> Vec<(f64, f64)> {
        self.epochs.iter().filter_map(|epoch| Some((f64::from(epoch.epoch), of(epoch)?))).collect()
    }

    /// The same of negatives, in epochs in which some were looked at.
    pub(super) fn of_negatives(&self, of: impl Fn(&Negatives) -> Option<f64>) -> Vec<(f64, f64)> {
        self.by_epoch(|epoch| epoch.negatives.as_ref().filter(|n| n.sampled > 0).and_then(&of))
    }
}

impl Negatives {
    /// The difficulty below which a share `q` of the negatives is: linear within each of the classes.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.difficulty.iter().sum();
        if self.difficulty.is_empty() || !(total > 0.0 && total.is_finite()) {
            return None;
        }
        let width = 1.0 / self.difficulty.len() as f64;
        let mut below = 0.0;
        for (class, share) in self.difficulty.iter().enumerate() {
            let share = share / total;
            if below + share >= q && share > 0.0 {
                return Some((class as f64 + (q - below) / share) * width);
            }
            below += share;
        }
        Some(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_difficulty_are_those_of_the_classes() {
        let negatives = Negatives { difficulty: vec![0.5, 0.5, 0.0, 0.0], ..Negatives::default() };
        assert_eq!(negatives.quantile(0.5), Some(0.25));
        assert_eq!(negatives.quantile(0.25), Some(0.125));
        assert_eq!(negatives.quantile(1.0), Some(0.5));
        assert_eq!(Negatives::default().quantile(0.5), None);
    }

    #[test]
    fn blocked_time_is_weighed_by_its_length() {
        let moment = |seconds, share| Moment {
            seconds,
            producers_blocked: Some(share),
            trainers_blocked: Some(0.1),
            ..Moment::default()
        };
        let run = Run { moments: vec![moment(1.0, 0.8), moment(4.0, 0.4)], ..Run::default() };
        let (producers, trainers) = run.blocked().unwrap();
        assert!((producers - 0.5).abs() < 1e-12 && (trainers - 0.1).abs() < 1e-12);
        assert!(Run::default().blocked().is_none());
    }

    #[test]
    fn the_run_log_says_who_waited_and_where_the_run_went_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.ndjson");
        let lines = [
            r#"{"k":"run","v":1,"peccary":"0.1.0","at":0,"model":"m","dataset":{"path":"d","fingerprint":"f","users":1,"items":2,"interactions":3},"epochs":2,"triples":10,"threads":1,"config":{},"plan":{},"machine":{"os":"linux","arch":"x","cores":1,"instruction_set":"AVX2"}}"#,
            r#"{"k":"now","t":1.0,"e":0.5,"n":5,"r":5.0,"l":0.6,"g":0.2,"u":0.01,"x":0.5,"p":0.75,"w":0.25,"m":1048576}"#,
            r#"{"k":"now","t":2.0,"e":0.7,"n":7,"r":0.0,"s":"valid"}"#,
            r#"{"k":"event","t":2.5,"at":1,"what":"resumed","e":0.5,"n":5}"#,
            r#"{"k":"epoch","t":3.0,"e":1,"l":0.5,"lr":0.1,"n":10,"d":3.0,"r":3.3,"sch":{"negatives.mix.0.share":0.4},"neg":{"sampled":0,"harder":0.0,"difficulty":[],"mean_gap":0.0,"log_popularity":0.0,"positive_log_popularity":0.0,"effective_sample_size":1.0,"false_negatives":null,"components":[],"filled":0.0,"void":0.0}}"#,
        ];
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let mut run = Run { epochs: vec![Epoch { epoch: 1, ..Epoch::default() }], ..Run::default() };
        run.add(&RunLog::open(&path).unwrap());
        assert_eq!(run.by_moment(|m| m.producers_blocked), [(0.5, 0.75)], "validation is no training");
        assert_eq!(run.by_moment(|m| m.change), [(0.5, 0.02)]);
        assert_eq!(run.blocked(), Some((0.75, 0.25)));
        assert_eq!(run.resumed, [0.5]);
        assert_eq!(run.epochs[0].scheduled["negatives.mix.0.share"], 0.4);
    }

    #[test]
    fn a_history_of_another_version_is_read_as_far_as_it_goes() {
        let history = serde_json::json!({ "epochs": [{ "epoch": 1, "loss": null, "later": 3 }], "seconds": 1.5 });
        let history = History::deserialize(&history).unwrap();
        assert_eq!((history.epochs.len(), history.epochs[0].loss, history.seconds), (1, None, 1.5));
    }
}
