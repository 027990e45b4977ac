//! Going on with a training that was interrupted.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::TrainError;
use super::keeping::{Origin, Partial, Saved, check_origin};
use super::run::carry_out;
use super::{CheckpointConfig, DivergenceConfig, TrainConfig, TrainReport};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::model::{InstructionSet, ModelManifest};

/// What an interrupted training has left, claimed by this process: the newest checkpoint that is whole.
pub struct TrainCheckpoint {
    output: PathBuf,
    partial: Partial,
    saved: Saved,
}

impl TrainCheckpoint {
    /// Looks for what a training of the model `output` has left in `OUTPUT.partial`, and compares every byte of it with
    /// its checksum.
    ///
    /// # Errors
    /// If there is none, none that is whole, or the training is still running.
    pub fn open(output: impl AsRef<Path>) -> Result<Self, TrainError> {
        let output = output.as_ref().to_path_buf();
        let (partial, saved) = Partial::resume(&output)?;
        Ok(Self { output, partial, saved })
    }

    /// Where the dataset was that it trained on.
    pub fn dataset(&self) -> &Path {
        &self.saved.origin.dataset
    }

    /// How it trained.
    pub fn config(&self) -> &TrainConfig {
        &self.saved.origin.config
    }

    /// How far it was, for people: such as `3 of 30 epochs and 45 % of the next`.
    pub fn position(&self) -> String {
        let Saved { origin, state, .. } = &self.saved;
        state.describe(origin.config.epochs, origin.plan.counts.interactions)
    }

    /// Other intervals of checkpoints, and other things to do about divergences, from here on; all else must stay.
    ///
    /// # Errors
    /// If `config` differs from [`TrainCheckpoint::config`] in anything else: names all of it.
    pub fn reconfigure(&mut self, config: &TrainConfig) -> Result<(), TrainError> {
        config.validate()?;
        let origin = &mut self.saved.origin;
        let kept = |config: &TrainConfig| {
            let (checkpoint, divergence) = (CheckpointConfig::default(), DivergenceConfig::default());
            serde_json::to_value(TrainConfig { checkpoint, divergence, ..config.clone() }).unwrap_or(Value::Null)
        };
        let mut changes = Vec::new();
        differences("", &kept(&origin.config), &kept(config), &mut changes);
        if !changes.is_empty() {
            let folder = self.partial.folder().to_path_buf();
            let remedy = "leave out what differs";
            return Err(TrainError::Changed { folder, what: changes.join("; "), remedy });
        }
        origin.config = config.clone();
        Ok(())
    }

    /// Goes on until the model is published. `dataset` is the one of before, wherever it is now. With
    /// [`TrainConfig::deterministic`] the result is that of a run that was never interrupted, bit for bit and whatever the
    /// threads; without, within noise.
    ///
    /// # Errors
    /// As for [`train`](super::train()), and if the dataset is another one, or the memory of `ctx` does not hold what
    /// decides what is learnt.
    pub fn resume(self, dataset: &Dataset, ctx: &Context) -> Result<(ModelManifest, TrainReport), TrainError> {
        let Self { output, partial, saved } = self;
        let mut changes = Vec::new();
        let Origin { run, peccary, fingerprint, config, plan, force, instruction_set, .. } = &saved.origin;
        let mut compare = |what: &str, then: &str, now: &str| {
            if then != now {
                changes.push(format!("{what} was {then} and is {now}"));
            }
        };
        compare("peccary", peccary, env!("CARGO_PKG_VERSION"));
        compare(&format!("the content of {}", dataset.path().display()), fingerprint, dataset.fingerprint());
        if config.deterministic {
            compare("the instruction set", instruction_set, InstructionSet::detect().name());
        }
        if !changes.is_empty() {
            let folder = partial.folder().to_path_buf();
            let remedy = match dataset.changes_since(fingerprint) {
                Some(changes) if !changes.is_empty() => {
                    "name a copy of the dataset as it was before rows were appended or users forgotten"
                }
                _ => "go on with what it began with",
            };
            return Err(TrainError::Changed { folder, what: changes.join("; "), remedy });
        }
        let folder = partial.folder().to_path_buf();
        let refused = |source| TrainError::Checkpoint { folder: folder.clone(), source };
        check_origin(&saved.origin, dataset).map_err(|reason| refused(saved.damaged(reason)))?;
        let origin = Origin {
            run: run.clone(),
            peccary: peccary.clone(),
            dataset: std::path::absolute(dataset.path()).unwrap_or_else(|_| dataset.path().to_path_buf()),
            fingerprint: fingerprint.clone(),
            config: config.clone(),
            plan: plan.go_on(config, ctx)?,
            force: *force,
            instruction_set: instruction_set.clone(),
        };
        saved.check(dataset, &config.in_force(), &origin.plan).map_err(refused)?;
        carry_out(dataset, origin, &output, (Some(partial), Some(saved)), None, ctx)
    }
}

/// Lists the settings that differ, by their names in TOML.
fn differences(key: &str, then: &Value, now: &Value, out: &mut Vec<String>) {
    let none = &Value::Null;
    match (then, now) {
        (Value::Object(_), Value::Object(_)) | (Value::Object(_), Value::Null) | (Value::Null, Value::Object(_)) => {
            let names =
                |value: &Value| value.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect::<Vec<_>>();
            let mut all = names(then);
            all.extend(names(now).into_iter().filter(|name| then.get(name).is_none()));
            for name in all {
                let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                differences(&path, then.get(&name).unwrap_or(none), now.get(&name).unwrap_or(none), out);
            }
        }
        _ if then == now => {}
        _ => {
            let text = |value: &Value| if value.is_null() { "its default".to_string() } else { value.to_string() };
            out.push(format!("{key} was {} and is {}", text(then), text(now)));
        }
    }
}
