//! The epochs of a run: trained leg by leg, validated, kept, and gone back from where they diverge.

use std::path::Path;
use std::time::Instant;

use super::divergence;
use super::error::{TrainError, short};
use super::gauges::Gauges;
use super::halt::Halt;
use super::keeping::{Keeper, Rollback, RunState};
use super::monitor::{Monitor, write_epoch};
use super::place::Place;
use super::run::{EpochReport, Stopped, TrainReport, fill, rate};
use super::validation::Validator;
use super::{TrainConfig, TrainPlan};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::model::{InstructionSet, Tables};
use crate::negatives::NegativesReport;
use crate::runlog::{RunHappening, RunRecord, RunValidation};
use crate::storage::check_in_use;

/// What is to be trained in one go: an epoch, or as much of it as there is until something is to be kept.
pub(super) struct Leg<'a> {
    /// The epoch, from 0.
    pub(super) number: u32,
    /// What learning rates are multiplied by.
    pub(super) scale: f32,
    /// When to leave.
    pub(super) halt: Halt<'a>,
    /// Where the epoch stands, and what came of it so far: brought up to date by whoever trains.
    pub(super) place: &'a mut Place,
    /// Whether the tables are others than at the end of the leg before: nothing that was at hand then is of use.
    pub(super) elsewhere: bool,
}

/// How a leg ended.
pub(super) struct Ran {
    /// How the negatives of the epoch were so far.
    pub(super) negatives: NegativesReport,
    /// The learning rate at which the run diverged, if it did.
    pub(super) diverged: Option<f32>,
    /// Whether nothing was left half done.
    pub(super) whole: bool,
    /// Whether the run can be gone on with from the place where the leg ended.
    pub(super) keeps: bool,
}

/// Goes through the epochs of a run: `one` trains a leg of them. A positive has `each` negatives; `nothing` says why
/// there may be no positive to learn from. In the end the tables are the best of the run, if it is validated, and the
/// last otherwise.
pub(super) fn all_epochs(
    run: (&Dataset, &TrainConfig, &TrainPlan),
    (each, nothing): (u64, &str),
    tables: &mut Tables,
    (folder, ctx): (&Path, &Context),
    keeper: &mut Keeper,
    mut one: impl FnMut(Leg<'_>, &Tables, &Gauges<'_>) -> Result<Ran, TrainError>,
) -> Result<TrainReport, TrainError> {
    let (dataset, config, plan) = run;
    let validator = Validator::begin(dataset, config, plan, tables, (folder, ctx))?;
    let mut epochs = Epochs { run, each, ctx, tables, keeper, validator, state: RunState::default() };
    epochs.resume()?;
    let left = config.epochs.saturating_sub(epochs.state.epoch);
    epochs.keeper.prepare(epochs.tables, (left, plan.counts.interactions * each * u64::from(left)));
    let total = plan.counts.interactions * each * u64::from(config.epochs);
    let stage = Gauges::new(ctx.stage("training", Some(total), Unit::Triples), config, plan);
    stage.add(epochs.stand_at(&stage));
    let _monitor = Monitor::start(epochs.keeper.log(), &stage);
    // A place that is not that of the tables when they were made is none that a producer has in mind.
    let mut elsewhere = false;
    // Whether a checkpoint was due where none can be taken: the epoch goes on to its end then.
    let mut in_vain = false;
    loop {
        if epochs.state.to_validate {
            match epochs.validate(&stage) {
                Ok(()) => {}
                Err(error) if epochs.goes_back(&error) => {
                    epochs.go_back(error, &stage)?;
                    elsewhere = true;
                }
                Err(error) => return Err(epochs.leave(error, true)),
            }
            continue;
        }
        if epochs.is_over() {
            // What is published of a validated run is looked at when it is known.
            match if epochs.validator.is_none() { epochs.exploded(true) } else { None } {
                Some(error) => epochs.go_back(error, &stage)?,
                None => break,
            }
            elsewhere = true;
            continue;
        }
        let number = epochs.state.epoch;
        let began = Instant::now();
        let before = epochs.state.place.done().positives;
        let scale = epochs.scale();
        let halt = epochs.keeper.halt(in_vain, ctx);
        stage.begin_epoch();
        let leg = Leg { number, scale, halt, place: &mut epochs.state.place, elsewhere };
        let Ran { negatives, diverged, whole, keeps } = one(leg, epochs.tables, &stage)?;
        // What was cut off a file is learnt from as zeros, where it raised no signal: not to be kept.
        check_in_use(dataset.path())?;
        elsewhere = false;
        in_vain = !keeps;
        let done = epochs.state.place.done();
        epochs.state.place.seconds += began.elapsed().as_secs_f64();
        epochs.keeper.count((done.positives - before) * each);
        let error = match diverged {
            Some(learning_rate) => {
                Some(divergence::error((dataset, config), (number + 1, learning_rate), epochs.tables))
            }
            None if epochs.state.place.over => epochs.exploded(false),
            None => None,
        };
        if let Some(error) = error {
            // Who wants to leave does not go back before.
            ctx.check()?;
            epochs.go_back(error, &stage)?;
            elsewhere = true;
            continue;
        }
        if let Err(interrupted) = ctx.check() {
            return Err(epochs.leave(interrupted.into(), whole && keeps));
        }
        let over = epochs.state.place.over;
        if over {
            if done.positives == 0 {
                return Err(TrainError::NothingToLearn(nothing.to_string()));
            }
            let loss = epochs.close(negatives);
            if let Some(report) = epochs.state.epochs.last() {
                write_epoch(epochs.keeper.log(), &stage, report);
            }
            let note = format!("epoch {}/{}, loss {loss:.4}", number + 1, config.epochs);
            stage.note(note + &epochs.note());
        }
        if keeps && !epochs.is_over() {
            let Epochs { keeper, state, tables, validator, .. } = &mut epochs;
            let best = validator.as_ref().and_then(Validator::best);
            keeper.take_if_due(state, (tables, best), over, ctx);
        }
    }
    drop(stage);
    epochs.report()
}

/// A run on its way.
struct Epochs<'a> {
    run: (&'a Dataset, &'a TrainConfig, &'a TrainPlan),
    each: u64,
    ctx: &'a Context,
    tables: &'a mut Tables,
    keeper: &'a mut Keeper,
    validator: Option<Validator<'a>>,
    state: RunState,
}

impl Epochs<'_> {
    /// Goes on from the checkpoint that the run begins with, if it does.
    fn resume(&mut self) -> Result<(), TrainError> {
        let Some(saved) = self.keeper.resumed() else { return Ok(()) };
        saved.read_tables(self.tables.tables_mut())?;
        if let Some(validator) = &mut self.validator {
            validator.go_on_from(Some(&saved))?;
        }
        self.state = saved.state;
        self.state.checkpoints.resumed = self.state.checkpoints.resumed.saturating_add(1);
        let (_, config, plan) = self.run;
        let at = self.state.describe(config.epochs, plan.counts.interactions);
        self.ctx.message(&format!("going on from a checkpoint: {at}"));
        Ok(())
    }

    /// Tells the gauges where the run stands; how many triples it has trained.
    fn stand_at(&self, stage: &Gauges<'_>) -> u64 {
        let before: u64 = self.state.epochs.iter().map(|epoch| epoch.triples).sum();
        let of_epoch = self.state.place.done().positives * self.each;
        stage.stand_at(self.state.epoch, before + of_epoch, of_epoch);
        before + of_epoch
    }

    fn is_over(&self) -> bool {
        self.state.epoch == self.run.1.epochs || self.state.stopped.is_some()
    }

    /// What divergences and plateaus have multiplied the learning rate by.
    fn scale(&self) -> f32 {
        let config = self.run.1;
        (self.state.control.scale(config) * self.state.rollbacks.last().map_or(1.0, |last| last.factor)) as f32
    }

    /// The learning rate when so many epochs are over.
    fn rate_at(&self, done: u32) -> f32 {
        self.scale() * rate(self.run.1, f64::from(done))
    }

    /// The error if rows have exploded: some of those in memory, or `all`.
    fn exploded(&mut self, all: bool) -> Option<TrainError> {
        let (dataset, config, _) = self.run;
        let number = self.state.epoch;
        let epoch =
            if all { (number, self.state.epochs.last()?.learning_rate) } else { (number + 1, self.rate_at(number)) };
        divergence::has_exploded(config, self.tables, number, all)
            .then(|| divergence::error((dataset, config), epoch, self.tables))
    }

    /// Ends the epoch at hand; returns its loss.
    fn close(&mut self, negatives: NegativesReport) -> f64 {
        let learning_rate = self.rate_at(self.state.epoch);
        let place = std::mem::take(&mut self.state.place);
        let done = place.done();
        let loss = done.loss.sum / done.loss.terms.max(1) as f64;
        let triples = done.positives * self.each;
        self.state.epoch += 1;
        self.state.epochs.push(EpochReport {
            epoch: self.state.epoch,
            loss,
            learning_rate,
            triples,
            skipped: done.skipped,
            negatives,
            seconds: place.seconds,
            triples_per_second: triples as f64 / place.seconds,
        });
        self.state.to_validate = self.validator.as_ref().is_some_and(|v| v.is_due(self.state.epoch));
        loss
    }

    /// What the run shows beside its loss.
    fn note(&self) -> String {
        match &self.validator {
            Some(_) if self.state.to_validate => ", validating".to_string(),
            Some(validator) => validator.note(&self.state.control),
            None => String::new(),
        }
    }

    /// Validates the epoch that has ended last, and decides what follows.
    fn validate(&mut self, stage: &Gauges<'_>) -> Result<(), TrainError> {
        let (epoch, learning_rate) = (self.state.epoch, self.rate_at(self.state.epoch));
        let Self { run: (_, config, _), ctx, tables, keeper, validator, state, .. } = self;
        let Some(validator) = validator else { return Ok(()) };
        keeper.finish_with_best(ctx);
        stage.validating(true);
        let decision = validator.validate((epoch, learning_rate), tables, state);
        stage.validating(false);
        let decision = decision?;
        state.to_validate = false;
        if let (Some(validation), Some(seen)) = (&config.validation, state.control.history.last()) {
            keeper.log().write(&RunRecord::Valid(RunValidation {
                seconds: keeper.log().seconds(),
                epoch,
                metric: validation.metric.clone(),
                value: seen.value,
                best: decision.best,
                lowered: decision.lowered,
                stop: decision.stop,
                duration: seen.seconds,
            }));
        }
        if decision.lowered && !decision.stop && epoch < config.epochs {
            let factor = config.optimizer.factor();
            ctx.message(&format!("after epoch {epoch}: a plateau, learning rate times {factor}"));
        }
        if decision.stop && epoch < config.epochs {
            state.stopped = Some(Stopped::Patience);
        }
        let loss = state.epochs.last().map_or(f64::NAN, |last| last.loss);
        stage.note(format!("epoch {epoch}/{}, loss {loss:.4}{}", config.epochs, validator.note(&state.control)));
        Ok(())
    }

    /// Whether `error` is a divergence.
    fn goes_back(&self, error: &TrainError) -> bool {
        matches!(error, TrainError::Diverged { .. })
    }

    /// After a divergence: the tables become those of the last checkpoint, or of the start, and the learning rate falls.
    /// Deterministic runs go back to their start: when checkpoints are taken depends on the time.
    fn go_back(&mut self, error: TrainError, stage: &Gauges<'_>) -> Result<(), TrainError> {
        let (dataset, config, plan) = self.run;
        let TrainError::Diverged { epoch, learning_rate, row, .. } = &error else { return Err(error) };
        let most = config.divergence.rollbacks;
        if self.state.rollbacks.len() as u32 >= most {
            return Err(error);
        }
        let mut rollbacks = std::mem::take(&mut self.state.rollbacks);
        let mut checkpoints = std::mem::take(&mut self.state.checkpoints);
        let saved = if config.deterministic { None } else { self.keeper.go_back(self.ctx) };
        let checkpoint = saved.as_ref().map(|saved| saved.number);
        if let Some(validator) = &mut self.validator {
            validator.go_on_from(saved.as_ref())?;
        }
        self.state = match saved {
            Some(saved) => {
                saved.check(dataset, config, plan)?;
                saved.read_tables(self.tables.tables_mut())?;
                saved.state
            }
            None => {
                self.keeper.finish(self.ctx);
                self.keeper.start_over();
                fill(self.tables, config);
                RunState::default()
            }
        };
        checkpoints.resumed = checkpoints.resumed.max(self.state.checkpoints.resumed);
        self.state.checkpoints = checkpoints;
        let back_to = self.state.epoch;
        let factor = rollbacks.last().map_or(1.0, |last: &Rollback| last.factor) * config.divergence.factor;
        let reason = row.to_string();
        let (epoch, learning_rate) = (*epoch, *learning_rate);
        rollbacks.push(Rollback { epoch, learning_rate, reason, back_to, checkpoint, factor });
        let to = match checkpoint {
            Some(_) => {
                format!("the last good checkpoint, {}", self.state.describe(config.epochs, plan.counts.interactions))
            }
            None => "the initial factors".to_string(),
        };
        self.ctx.message(&format!(
            "diverged in epoch {epoch} at learning rate {}: {row}; back to {to}, and on with {factor} times \
             the learning rate (rollback {} of {most})",
            short(learning_rate),
            rollbacks.len()
        ));
        self.state.rollbacks = rollbacks;
        let triples = self.stand_at(stage);
        let epochs =
            f64::from(self.state.epoch) + self.state.place.done().positives as f64 / plan.counts.interactions as f64;
        self.keeper.log().event(RunHappening::Rollback, (epochs, triples), &error.to_string());
        Ok(())
    }

    /// Keeps what an interrupted run has learnt, if the tables are those of a place that it can be gone on with from;
    /// gives `error` back.
    fn leave(&mut self, error: TrainError, is_place: bool) -> TrainError {
        if self.ctx.cancelled() {
            let Self { keeper, state, tables, validator, ctx, .. } = self;
            let best = validator.as_ref().and_then(Validator::best);
            keeper.leave(state, (tables, best), is_place, ctx);
        }
        error
    }

    /// Makes the best tables those in training, and says what was done.
    fn report(mut self) -> Result<TrainReport, TrainError> {
        let (dataset, config, plan) = self.run;
        self.keeper.finish(self.ctx);
        self.keeper.tell(&mut self.state);
        let validation = self.validator.map(|validator| validator.finish(self.tables, &self.state));
        let RunState { epochs, stopped, rollbacks, checkpoints, .. } = self.state;
        if validation.is_some() && divergence::has_exploded(config, self.tables, 0, true) {
            let last = epochs.last().map_or((0, 0.0), |last| (last.epoch, last.learning_rate));
            return Err(divergence::error((dataset, config), last, self.tables));
        }
        if let Some(last) = epochs.last() {
            self.ctx.message(&last.negatives.to_string());
        }
        if checkpoints.written + checkpoints.failed > 0 {
            self.ctx.message(&checkpoints.to_string());
        }
        let seconds: f64 = epochs.iter().map(|e| e.seconds).sum();
        let triples: u64 = epochs.iter().map(|e| e.triples).sum();
        Ok(TrainReport {
            epochs,
            stopped: stopped.unwrap_or(Stopped::Epochs),
            validation,
            seconds,
            triples_per_second: triples as f64 / seconds,
            instruction_set: InstructionSet::detect().name().to_string(),
            plan: plan.clone(),
            audit: None,
            rollbacks,
            checkpoints: self.keeper.keeps().then_some(checkpoints),
        })
    }
}
