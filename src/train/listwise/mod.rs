//! Training with listwise losses: lanes as for the others, but what goes through them are blocks of positives
//! in random order that share negatives.

mod bench;

pub(super) use bench::producers;
pub use bench::{ListwiseBench, bench_listwise};

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::context::{Context, Stage};
use crate::dataset::{Dataset, Interactions};
use crate::loss::{Base, Listwise};
use crate::model::{
    Block, InstructionSet, LossSample, Regularization, Tables, Update, Workspace, stride_of, train_block,
};
use crate::negatives::{
    Auditor, Distribution, Popularity, Proposal, SharedBlock, SharedSampler, Uniform, Watch, audit_block,
};
use crate::storage::return_large_buffers;
use crate::stream::{Window, plan as windows};
use crate::train::audit::Audit;
use crate::train::confidence::Confidence;
use crate::train::config::TrainConfig;
use crate::train::divergence::Alarm;
use crate::train::error::TrainError;
use crate::train::lane::{Done, IN_FLIGHT, stream_seed};
use crate::train::live::Live;
use crate::train::objective::any_loss;
use crate::train::paging::{ExactReading, Paging};
use crate::train::plan::{TrainPlan, windows_of};
use crate::train::run::{Ran, TrainReport, all_epochs, begin_audit, end_audit, filled_tables, positives_of, rate};
use crate::train::update::{Selection, Warm};

/// Interactions of a window by default, at most: blocks are drawn from that many.
pub(super) const WINDOW: u64 = 1 << 23;

/// Something to do with a loss and a proposal, whichever they are.
trait WithLoss {
    type Outcome;
    fn with<L: Listwise, P: Distribution + Clone>(self, loss: L, proposal: &P) -> Result<Self::Outcome, TrainError>;
}

/// Makes the proposal and the listwise loss of `config`.
fn with_proposal<W: WithLoss>(dataset: &Dataset, config: &TrainConfig, then: W) -> Result<W::Outcome, TrainError> {
    // Other mixtures are not for shared negatives.
    match config.negatives.simple().unwrap_or_default() {
        (Proposal::Uniform, _) => with_loss(config, &Uniform, then),
        (Proposal::Popularity, alpha) => {
            let counts = dataset.popularity().iter().map(|c| c.to_native());
            with_loss(config, &Arc::new(Popularity::new(counts, alpha)), then)
        }
    }
}

fn with_loss<W: WithLoss, P: Distribution + Clone>(
    config: &TrainConfig,
    proposal: &P,
    then: W,
) -> Result<W::Outcome, TrainError> {
    match any_loss(config).base {
        Base::Softmax(loss) => then.with(loss, proposal),
        Base::Bsl(loss) => then.with(loss, proposal),
        Base::Ccl(loss) => then.with(loss, proposal),
        Base::Tanh(loss) => then.with(loss, proposal),
        Base::Atan(loss) => then.with(loss, proposal),
        Base::Relu(loss) => then.with(loss, proposal),
        Base::Bpr(_) | Base::Logistic(_) | Base::Focal(_) | Base::Hinge(_) => Err(TrainError::Config {
            key: "loss.kind".into(),
            value: config.loss.kind.name().to_string(),
            must: "be \"softmax\", \"bsl\", \"ccl\" or \"psl\" where negatives are shared".into(),
        }),
    }
}

/// Trains with a listwise loss.
pub(in crate::train) fn train_listwise(
    dataset: &Dataset,
    config: &TrainConfig,
    plan: &TrainPlan,
    place: (&Path, &Context),
    (audit, warm): (Option<&mut Audit<'_>>, Option<&Warm<'_>>),
) -> Result<(Tables, TrainReport), TrainError> {
    type Place<'a> = (&'a Path, &'a Context);
    type Looks<'a, 'd> = (Option<&'a mut Audit<'d>>, Option<&'a Warm<'a>>);
    struct Run<'a, 'd>(&'a Dataset, &'a TrainConfig, &'a TrainPlan, Place<'a>, Looks<'a, 'd>);
    impl WithLoss for Run<'_, '_> {
        type Outcome = (Tables, TrainReport);
        fn with<L: Listwise, P: Distribution + Clone>(
            self,
            loss: L,
            proposal: &P,
        ) -> Result<Self::Outcome, TrainError> {
            run(self.0, self.1, loss, proposal, self.2, (self.3, self.4))
        }
    }
    with_proposal(dataset, config, Run(dataset, config, plan, place, (audit, warm)))
}

/// What a producer keeps from epoch to epoch.
struct Source<P> {
    window: Window,
    pairs: Vec<u64>,
    sampler: SharedSampler<P>,
}

/// What a lane keeps from epoch to epoch.
struct Lane<P> {
    source: Source<P>,
    spare: Vec<SharedBlock>,
    workspace: Workspace,
}

/// One epoch's work, shared by all lanes.
struct Epoch<'a, L> {
    interactions: &'a Interactions,
    windows: Vec<Vec<u32>>,
    /// The next window that nobody has taken.
    next: AtomicUsize,
    alarm: Alarm,
    seed: u64,
    tables: &'a Tables,
    paging: Paging<'a>,
    set: InstructionSet,
    loss: L,
    update: Update,
    shared_by: usize,
    scale: f32,
    confidence: Option<&'a Confidence<'a>>,
    watch: &'a Watch<'a>,
    /// Which positives are trained on, if not all.
    selection: Option<&'a Selection>,
    /// Who asks how negatives came about.
    audit: Option<&'a dyn Auditor>,
    ctx: &'a Context,
    stage: &'a Stage<'a>,
}

impl<L: Listwise> Epoch<'_, L> {
    fn stopped(&self) -> bool {
        self.ctx.cancelled() || self.alarm.is_raised()
    }

    /// Produces and trains until no window is left. `rate` is the learning rate of a window by its number.
    fn run<P: Distribution>(&self, lane: &mut Lane<P>, rate: impl Fn(usize) -> f32 + Send) -> Option<Done> {
        let (full, blocks) = bounded::<SharedBlock>(IN_FLIGHT);
        let (empty, spare) = bounded::<SharedBlock>(IN_FLIGHT + 2);
        for block in lane.spare.drain(..) {
            // Never more than were in use before, so that there is room.
            let _ = empty.try_send(block);
        }
        let Lane { source, workspace, .. } = lane;
        let kept = spare.clone();
        let done = std::thread::scope(|scope| {
            let trainer = scope.spawn(move || self.train(&blocks, &empty, workspace));
            let send =
                |block| if full.send(block).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            let skipped = self.produce(source, || spare.try_recv().ok(), send, rate);
            drop(full);
            let mut done = trainer.join().ok()?;
            done.skipped = skipped;
            Some(done)
        });
        lane.spare.extend(kept.try_iter());
        done
    }

    /// Fills windows, shuffles their positives, and hands blocks of them to `emit` until no window is left or `emit`
    /// says to stop; returns how many positives no negative could be proposed for.
    fn produce<P: Distribution>(
        &self,
        source: &mut Source<P>,
        mut spare: impl FnMut() -> Option<SharedBlock>,
        mut emit: impl FnMut(SharedBlock) -> ControlFlow<()>,
        rate: impl Fn(usize) -> f32,
    ) -> u64 {
        let Source { window, pairs, sampler } = source;
        let mut skipped = 0;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(chunks) = self.windows.get(number).filter(|_| !self.stopped()) else { return skipped };
            self.paging.ask(self.windows.get(number + 1).map_or(&[], Vec::as_slice));
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(self.seed, number as u64));
            window.fill(self.interactions, chunks, &mut rng);
            self.paging.read(chunks);
            pairs.clear();
            pairs.extend_from_slice(window.bucket(0));
            if let Some(selection) = self.selection {
                // One block: positions are item ids.
                pairs.retain(|pair| selection.keeps(self.seed, (pair >> 32) as u32, *pair as u32));
            }
            pairs.shuffle(&mut rng);
            for pairs in pairs.chunks(self.shared_by) {
                let mut block = spare().unwrap_or_default();
                block.learning_rate = rate(number);
                if self.update.regularization.draws() {
                    block.seed = rng.next_u64();
                }
                sampler.fill(pairs, self.interactions, &mut rng, &mut block);
                if block.negatives == 0 {
                    skipped += pairs.len() as u64;
                    continue;
                }
                if let Some(confidence) = self.confidence {
                    confidence.fill_shared(&mut block);
                }
                if self.stopped() || emit(block).is_break() {
                    return skipped;
                }
            }
            // A few blocks may still be on their way: their rows come back.
            self.paging.trained(chunks);
        }
    }

    /// Updates the tables by one block.
    fn learn(&self, block: &SharedBlock, workspace: &mut Workspace) -> LossSample {
        let update = Update { learning_rate: block.learning_rate, seed: block.seed, ..self.update };
        let view = Block {
            users: &block.users,
            items: &block.items,
            negatives: block.negatives,
            user_of: &block.user_of,
            item_of: &block.item_of,
            masked: &block.masked,
            corrections: &block.corrections,
            weights: &block.confidence,
            scale: self.scale,
        };
        train_block(self.set, self.tables, view, self.loss, update, workspace)
    }

    fn train(&self, blocks: &Receiver<SharedBlock>, empty: &Sender<SharedBlock>, workspace: &mut Workspace) -> Done {
        let mut done = Done::default();
        for block in blocks {
            let live = Live { tables: self.tables, set: self.set, similarity: self.update.similarity };
            if let Some(auditor) = self.audit {
                audit_block(&block, &live, auditor);
            }
            self.watch.look_at_shared(&block, &live, &mut done.health);
            let sample = self.learn(&block, workspace);
            // A block's first user, its first item, which is a negative, and its last, mostly a positive.
            let items = block.items.iter().take(1).chain(block.items.last());
            let users = block.users.iter().take(1);
            let seen = (sample.sum, block.learning_rate);
            self.alarm.look((self.set, self.tables), seen, users.copied(), items.copied());
            done.add_loss(sample);
            done.positives += block.user_of.len() as u64;
            self.stage.add((block.user_of.len() * block.negatives) as u64);
            // A full or closed return channel only means that this block's memory is not needed again.
            let _ = empty.try_send(block);
        }
        done
    }
}

/// Runs every lane to the end of the epoch; `None` if one of them panicked.
fn all_lanes<P: Distribution, L: Listwise>(
    work: &Epoch<'_, L>,
    lanes: &mut [Lane<P>],
    rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
) -> Option<Done> {
    std::thread::scope(|scope| {
        let running: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || work.run(lane, rate))).collect();
        let mut all = Done::default();
        for lane in running {
            all.add(&lane.join().ok()??);
        }
        Some(all)
    })
}

/// Bytes of what a lane has besides its window: blocks on their way, and the trainer's own.
pub(super) fn lane_bytes(config: &TrainConfig, items: u32) -> u64 {
    let (positives, negatives) = (config.shared_by(), config.negatives().min(items as usize));
    let width = config.dimensions + if config.biases() { 2 } else { 0 };
    let Regularization { user_dropout, item_dropout, .. } = config.update(0.0).regularization;
    let masks = [user_dropout.is_on(), item_dropout.is_on()];
    SharedSampler::<Uniform>::bytes(positives, negatives, items)
        + Workspace::bytes(positives, negatives, stride_of(width), masks)
        + if config.confidence.is_off() { 0 } else { positives as u64 * 4 * (IN_FLIGHT as u64 + 3) }
}

/// Fills the tables and makes the lanes. Lanes race; deterministic training has one, whatever the threads.
fn prepare<P: Distribution + Clone>(
    dataset: &Dataset,
    config: &TrainConfig,
    proposal: &P,
    plan: &TrainPlan,
    (folder, warm): (&Path, Option<&Warm<'_>>),
) -> Result<(Tables, Vec<Lane<P>>), TrainError> {
    let items = dataset.items().len();
    let tables = filled_tables(dataset, config, plan, (folder, warm))?;
    let sizes = (config.shared_by(), config.negatives().min(items as usize));
    let lanes = (0..if config.deterministic { 1 } else { plan.threads })
        .map(|_| {
            let allowed = config.negatives.allow_positives;
            let sampler = SharedSampler::new(proposal.clone(), sizes, items, allowed, config.log_q());
            let source = Source { window: Window::new(items, items), pairs: Vec::new(), sampler };
            Lane { source, spare: Vec::new(), workspace: Workspace::new() }
        })
        .collect();
    Ok((tables, lanes))
}

/// The work of epoch `number`, from 0.
fn epoch<'a, L: Listwise>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    (number, plan): (u32, &TrainPlan),
    loss: L,
    (tables, confidence, watch): (&'a Tables, Option<&'a Confidence<'a>>, &'a Watch<'a>),
    (ctx, stage): (&'a Context, &'a Stage<'a>),
) -> Epoch<'a, L> {
    let seed = stream_seed(config.seed, 2 + u64::from(number));
    let learning_rate = rate(config, f64::from(number));
    let (sizes, lanes) = windows_of(config, plan.counts.items, plan.window, plan.threads);
    let windows = windows(dataset.train(), sizes, lanes, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
    Epoch {
        interactions: dataset.train(),
        windows,
        next: AtomicUsize::new(0),
        alarm: Alarm::new(config),
        seed,
        tables,
        paging: Paging::new(dataset.train(), tables, plan),
        set: InstructionSet::detect(),
        loss,
        update: config.update(learning_rate),
        shared_by: config.shared_by(),
        scale: any_loss(config).scale,
        confidence,
        watch,
        selection: None,
        audit: None,
        ctx,
        stage,
    }
}

fn run<P: Distribution + Clone>(
    dataset: &Dataset,
    config: &TrainConfig,
    loss: impl Listwise,
    proposal: &P,
    plan: &TrainPlan,
    ((folder, ctx), (mut audit, warm)): ((&Path, &Context), (Option<&mut Audit<'_>>, Option<&Warm<'_>>)),
) -> Result<(Tables, TrainReport), TrainError> {
    return_large_buffers();
    let _exact = ExactReading::begin(dataset.train(), plan);
    let (mut tables, mut lanes) = prepare(dataset, config, proposal, plan, (folder, warm))?;
    let confidence = Confidence::new(dataset, &config.confidence, ctx)?;
    let watch = Watch::new(dataset, config.negatives(), config.temperature());
    let each = config.negatives().min(dataset.items().len() as usize) as u64;
    let why = "no positive with a negative: no item can be proposed";
    let run = (dataset, config, plan);
    let positives = positives_of(plan, warm);
    let report =
        all_epochs(run, (positives, each, why), &mut tables, (folder, ctx), |(number, scale), tables, stage| {
            let mut work =
                epoch(dataset, config, (number, plan), loss, (tables, confidence.as_ref(), &watch), (ctx, stage));
            work.audit = begin_audit(&mut audit, number);
            work.selection = warm.map(|warm| &warm.selection);
            let windows = work.windows.len() as f64;
            let rate = |window: usize| scale * rate(config, f64::from(number) + window as f64 / windows);
            let done = all_lanes(&work, &mut lanes, rate).ok_or(TrainError::Panicked)?;
            let diverged = work.alarm.learning_rate();
            end_audit(&mut audit)?;
            let negatives = watch.report(&done.health, &config.negatives);
            Ok(Ran { done, negatives, diverged })
        })?;
    Ok((tables, report))
}
