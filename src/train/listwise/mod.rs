//! Training with listwise losses: lanes as for the others, but what goes through them are blocks of positives
//! in random order that share negatives.

mod bench;

pub(super) use bench::producers;
pub use bench::{ListwiseBench, bench_listwise};

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::context::Context;
use crate::dataset::{Dataset, Interactions};
use crate::loss::{AnyListwise, Base};
use crate::model::{
    Block, InstructionSet, LossSample, Regularization, Tables, Update, Workspace, stride_of, train_block,
};
use crate::negatives::{
    Auditor, Distribution, Popularity, Proposal, SharedBlock, SharedSampler, Uniform, Watch, audit_block,
};
use crate::storage::return_large_buffers;
use crate::stream::{Window, plan as windows};
use crate::train::confidence::Confidence;
use crate::train::config::TrainConfig;
use crate::train::divergence::Alarm;
use crate::train::epochs::{Leg, Ran, all_epochs};
use crate::train::error::TrainError;
use crate::train::gauges::Gauges;
use crate::train::halt::Halt;
use crate::train::lane::{Done, IN_FLIGHT, stream_seed};
use crate::train::live::Live;
use crate::train::objective::any_loss;
use crate::train::paging::{ExactReading, Paging};
use crate::train::place::{Cut, OpenWindow, Position};
use crate::train::plan::{TrainPlan, windows_of};
use crate::train::run::{Looks, TrainReport, begin_audit, end_audit, filled_tables, rate};
use crate::train::substitution::Substitution;
use crate::train::update::{Selection, Warm};

/// Interactions of a window by default, at most: blocks are drawn from that many.
pub(super) const WINDOW: u64 = 1 << 23;

/// Something to do with a proposal, whichever it is.
trait WithProposal {
    type Outcome;
    fn with<P: Distribution + Clone>(self, proposal: &P) -> Result<Self::Outcome, TrainError>;
}

/// Makes the proposal of `config`.
fn with_proposal<W: WithProposal>(dataset: &Dataset, config: &TrainConfig, then: W) -> Result<W::Outcome, TrainError> {
    // Other mixtures are not for shared negatives.
    match config.negatives.simple().unwrap_or_default() {
        (Proposal::Uniform, _) => then.with(&Uniform),
        (Proposal::Popularity, alpha) => {
            let counts = dataset.popularity().iter().map(|c| c.to_native());
            then.with(&Arc::new(Popularity::new(counts, alpha)))
        }
    }
}

/// The loss of `config`, which must be listwise.
fn listwise(config: &TrainConfig) -> Result<AnyListwise, TrainError> {
    match any_loss(config).base {
        Base::Listwise(loss) => Ok(loss),
        _ => Err(TrainError::Config {
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
    looks: Looks<'_, '_>,
) -> Result<(Tables, TrainReport), TrainError> {
    type Place<'a> = (&'a Path, &'a Context);
    struct Run<'a, 'd>(&'a Dataset, &'a TrainConfig, &'a TrainPlan, Place<'a>, Looks<'a, 'd>);
    impl WithProposal for Run<'_, '_> {
        type Outcome = (Tables, TrainReport);
        fn with<P: Distribution + Clone>(self, proposal: &P) -> Result<Self::Outcome, TrainError> {
            run(self.0, self.1, proposal, self.2, (self.3, self.4))
        }
    }
    with_proposal(dataset, config, Run(dataset, config, plan, place, looks))
}

/// What a producer keeps from epoch to epoch.
struct Source<P> {
    window: Window,
    pairs: Vec<u64>,
    sampler: SharedSampler<P>,
    /// The window at hand, if it was left in its middle.
    at_hand: Option<AtHand>,
}

/// A window that a producer works through: its positives are shuffled.
struct AtHand {
    number: usize,
    rng: Xoshiro256PlusPlus,
    /// Positives handed over, and those that had been before the run was gone on with: they are drawn, but not handed
    /// over again.
    handed: usize,
    skip: usize,
}

impl<P> Source<P> {
    /// The window that was left in its middle, if any was.
    fn open(&self) -> Option<OpenWindow> {
        let AtHand { number, handed, skip, .. } = *self.at_hand.as_ref()?;
        Some(OpenWindow { number, trained: handed.max(skip) as u64 })
    }
}

/// What a lane keeps from epoch to epoch.
struct Lane<P> {
    source: Source<P>,
    spare: Vec<SharedBlock>,
    workspace: Workspace,
}

/// One epoch's work, shared by all lanes.
struct Epoch<'a> {
    interactions: &'a Interactions,
    windows: Vec<Vec<u32>>,
    /// The next window that nobody has taken.
    next: AtomicUsize,
    /// Windows that were left in their middle, which no lane has at hand.
    open: Mutex<Vec<OpenWindow>>,
    halt: Halt<'a>,
    alarm: Alarm,
    seed: u64,
    tables: &'a Tables,
    paging: Paging<'a>,
    set: InstructionSet,
    loss: AnyListwise,
    update: Update,
    shared_by: usize,
    scale: f32,
    confidence: Option<&'a Confidence<'a>>,
    substitution: Option<&'a Substitution>,
    watch: &'a Watch<'a>,
    /// Which positives are trained on, if not all.
    selection: Option<&'a Selection>,
    /// Who asks how negatives came about.
    audit: Option<&'a dyn Auditor>,
    stage: &'a Gauges<'a>,
}

impl Epoch<'_> {
    fn stopped(&self) -> bool {
        self.halt.is_due() || self.alarm.is_raised()
    }

    /// Produces and trains until no window is left, or as far as it may, and adds to `done`. `rate` is the learning rate
    /// of a window by its number.
    fn run<P: Distribution>(&self, lane: &mut Lane<P>, rate: impl Fn(usize) -> f32 + Send, done: Done) -> Option<Done> {
        let (full, blocks) = bounded::<SharedBlock>(IN_FLIGHT);
        let (empty, spare) = bounded::<SharedBlock>(IN_FLIGHT + 2);
        for block in lane.spare.drain(..) {
            // Never more than were in use before, so that there is room.
            let _ = empty.try_send(block);
        }
        let Lane { source, workspace, .. } = lane;
        let kept = spare.clone();
        let done = std::thread::scope(|scope| {
            let trainer = scope.spawn(move || self.train(&blocks, &empty, workspace, done));
            let send = |block| self.stage.send(&full, block);
            let skipped = self.produce(source, || spare.try_recv().ok(), send, rate);
            drop(full);
            let mut done = trainer.join().ok()?;
            done.skipped += skipped;
            Some(done)
        });
        lane.spare.extend(kept.try_iter());
        done
    }

    /// The next window, filled and shuffled into `source`: one that was left in its middle, or one that nobody has begun.
    /// `None` when there is none, or when told to stop.
    fn fill<P: Distribution>(&self, source: &mut Source<P>) -> Option<AtHand> {
        if self.stopped() {
            return None;
        }
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (number, skip) = match open {
            Some(OpenWindow { number, trained }) => (number, trained as usize),
            None => (self.next.fetch_add(1, Ordering::Relaxed), 0),
        };
        let chunks = self.windows.get(number)?;
        self.paging.ask(self.windows.get(number + 1).map_or(&[], Vec::as_slice));
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(stream_seed(self.seed, number as u64));
        source.window.fill(self.interactions, chunks, &mut rng);
        self.paging.read(chunks);
        source.pairs.clear();
        source.pairs.extend_from_slice(source.window.bucket(0));
        if let Some(selection) = self.selection {
            // One block: positions are item ids.
            source.pairs.retain(|pair| selection.keeps(self.seed, (pair >> 32) as u32, *pair as u32));
        }
        source.pairs.shuffle(&mut rng);
        Some(AtHand { number, rng, handed: 0, skip })
    }

    /// What is left of the windows after `lanes` have left them.
    fn position<P>(&self, lanes: &[Lane<P>]) -> Position {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.extend(lanes.iter().filter_map(|lane| lane.source.open()));
        open.sort_unstable_by_key(|open| open.number);
        Position { next: self.next.load(Ordering::Relaxed).min(self.windows.len()), open, steps: Vec::new() }
    }

    /// Hands blocks of the positives of windows to `emit` until no window is left, or `emit` or another says to stop;
    /// returns how many positives no negative could be proposed for.
    fn produce<P: Distribution>(
        &self,
        source: &mut Source<P>,
        mut spare: impl FnMut() -> Option<SharedBlock>,
        mut emit: impl FnMut(SharedBlock) -> ControlFlow<()>,
        rate: impl Fn(usize) -> f32,
    ) -> u64 {
        let mut skipped = 0;
        while let Some(mut at) = source.at_hand.take().or_else(|| self.fill(source)) {
            let Source { pairs, sampler, at_hand, .. } = &mut *source;
            while at.handed < pairs.len() {
                if self.stopped() {
                    *at_hand = Some(at);
                    return skipped;
                }
                let until = pairs.len().min(at.handed + self.shared_by);
                let pairs = &mut pairs[at.handed..until];
                if let Some(substitution) = self.substitution {
                    substitution.apply(pairs, &mut at.rng);
                }
                let mut block = spare().unwrap_or_default();
                block.learning_rate = rate(at.number);
                if self.update.regularization.draws() {
                    block.seed = at.rng.next_u64();
                }
                sampler.fill(pairs, self.interactions, &mut at.rng, &mut block);
                let drawn_before = at.handed < at.skip;
                at.handed += pairs.len();
                if drawn_before {
                    continue;
                }
                if block.negatives == 0 {
                    skipped += pairs.len() as u64;
                    continue;
                }
                if let Some(confidence) = self.confidence {
                    confidence.fill_shared(&mut block);
                }
                if emit(block).is_break() {
                    return skipped;
                }
            }
            // A few blocks may still be on their way: their rows come back.
            self.paging.trained(&self.windows[at.number]);
        }
        skipped
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
        match self.loss {
            AnyListwise::Softmax(loss) => train_block(self.set, self.tables, view, loss, update, workspace),
            AnyListwise::Bsl(loss) => train_block(self.set, self.tables, view, loss, update, workspace),
            AnyListwise::Ccl(loss) => train_block(self.set, self.tables, view, loss, update, workspace),
            AnyListwise::Tanh(loss) => train_block(self.set, self.tables, view, loss, update, workspace),
            AnyListwise::Atan(loss) => train_block(self.set, self.tables, view, loss, update, workspace),
            AnyListwise::Relu(loss) => train_block(self.set, self.tables, view, loss, update, workspace),
        }
    }

    fn train(
        &self,
        blocks: &Receiver<SharedBlock>,
        empty: &Sender<SharedBlock>,
        workspace: &mut Workspace,
        mut done: Done,
    ) -> Done {
        while let Some(block) = self.stage.receive(blocks) {
            let live = Live { tables: self.tables, set: self.set, similarity: self.update.similarity };
            if let Some(auditor) = self.audit {
                audit_block(&block, &live, auditor);
            }
            self.watch.look_at_shared(&block, &live, &mut done.health);
            let looked = self.stage.look_at_shared(&live, &block);
            let sample = self.learn(&block, workspace);
            // A block's first user, its first item, which is a negative, and its last, mostly a positive.
            let items = block.items.iter().take(1).chain(block.items.last());
            let users = block.users.iter().take(1);
            let seen = (sample.sum, block.learning_rate);
            self.alarm.look((self.set, self.tables), seen, users.copied(), items.copied());
            done.add_loss(sample);
            done.positives += block.user_of.len() as u64;
            let triples = (block.user_of.len() * block.negatives) as u64;
            self.stage.learnt(&live, looked, (sample, block.learning_rate), triples);
            self.halt.count(triples);
            // A full or closed return channel only means that this block's memory is not needed again.
            let _ = empty.try_send(block);
        }
        done
    }
}

/// Runs every lane to the end of the epoch, or as far as it may, and adds to `done`; `None` if one of them panicked.
fn all_lanes<P: Distribution>(
    work: &Epoch<'_>,
    lanes: &mut [Lane<P>],
    rate: impl Fn(usize) -> f32 + Send + Sync + Copy,
    done: Done,
) -> Option<Done> {
    // The first lane goes on with the sums: a single one then has those of a run that was never interrupted.
    let mut done = Some(done);
    std::thread::scope(|scope| {
        let spawn = |lane| {
            let done = done.take().unwrap_or_default();
            scope.spawn(move || work.run(lane, rate, done))
        };
        let running: Vec<_> = lanes.iter_mut().map(spawn).collect();
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
            let source = Source { window: Window::new(items, items), pairs: Vec::new(), sampler, at_hand: None };
            Lane { source, spare: Vec::new(), workspace: Workspace::new() }
        })
        .collect();
    Ok((tables, lanes))
}

/// What surrounds the blocks of every epoch.
struct Around<'a> {
    confidence: Option<Confidence<'a>>,
    substitution: Option<Substitution>,
    watch: Watch<'a>,
}

impl<'a> Around<'a> {
    fn new(dataset: &'a Dataset, config: &TrainConfig, plan: &TrainPlan, ctx: &Context) -> Result<Self, TrainError> {
        Ok(Self {
            confidence: Confidence::new(dataset, &config.confidence, ctx)?,
            substitution: Substitution::new(dataset, config, plan.sampled_share, ctx)?,
            watch: Watch::new(dataset, config.negatives(), config.temperature()),
        })
    }
}

/// The work of epoch `number`, from 0.
fn epoch<'a>(
    dataset: &'a Dataset,
    config: &TrainConfig,
    (number, plan, cut): (u32, &TrainPlan, Cut),
    loss: AnyListwise,
    (tables, around): (&'a Tables, &'a Around<'a>),
    (ctx, stage): (&'a Context, &'a Gauges<'a>),
) -> Epoch<'a> {
    let seed = stream_seed(config.seed, 2 + u64::from(number));
    let learning_rate = rate(config, f64::from(number));
    let (sizes, lanes) = windows_of(config, plan.counts.items, cut.window, cut.lanes);
    let windows = windows(dataset.train(), sizes, lanes, &mut Xoshiro256PlusPlus::seed_from_u64(seed));
    Epoch {
        interactions: dataset.train(),
        windows,
        next: AtomicUsize::new(0),
        open: Mutex::default(),
        halt: Halt::when_cancelled(ctx),
        alarm: Alarm::new(config),
        seed,
        tables,
        paging: Paging::new(dataset.train(), tables, plan),
        set: InstructionSet::detect(),
        loss,
        update: config.update(learning_rate),
        shared_by: config.shared_by(),
        scale: any_loss(config).scale,
        confidence: around.confidence.as_ref(),
        substitution: around.substitution.as_ref(),
        watch: &around.watch,
        selection: None,
        audit: None,
        stage,
    }
}

fn run<P: Distribution + Clone>(
    dataset: &Dataset,
    config: &TrainConfig,
    proposal: &P,
    plan: &TrainPlan,
    ((folder, ctx), (mut audit, keeper, warm)): ((&Path, &Context), Looks<'_, '_>),
) -> Result<(Tables, TrainReport), TrainError> {
    return_large_buffers();
    let _exact = ExactReading::begin(dataset.train(), plan);
    let (mut tables, mut lanes) = prepare(dataset, config, proposal, plan, (folder, warm))?;
    let around = Around::new(dataset, config, plan, ctx)?;
    let each = config.negatives().min(dataset.items().len() as usize) as u64;
    let why = "no positive with a negative: no item can be proposed";
    let loss = listwise(config)?;
    let run = (dataset, config, plan);
    let one = |leg: Leg<'_>, tables: &Tables, stage: &Gauges<'_>| {
        let Leg { number, scale, halt, place, elsewhere } = leg;
        if elsewhere {
            lanes.iter_mut().for_each(|lane| lane.source.at_hand = None);
        }
        let cut = *place.cut.get_or_insert(Cut::new(plan, false));
        let mut work = epoch(dataset, config, (number, plan, cut), loss, (tables, &around), (ctx, stage));
        work.audit = begin_audit(&mut audit, number);
        work.halt = halt;
        work.selection = warm.map(|warm| &warm.selection);
        work.next = AtomicUsize::new(place.position.next);
        let at_hand = |open: &OpenWindow| lanes.iter().any(|lane| lane.source.open().as_ref() == Some(open));
        let open = place.position.open.iter().filter(|open| !at_hand(open)).copied().collect();
        work.open = Mutex::new(open);
        let windows = work.windows.len() as f64;
        let rate = |window: usize| scale * rate(config, f64::from(number) + window as f64 / windows);
        let done = all_lanes(&work, &mut lanes, rate, place.done()).ok_or(TrainError::Panicked)?;
        place.position = work.position(&lanes);
        place.over = place.position.open.is_empty() && place.position.next == work.windows.len();
        let diverged = work.alarm.learning_rate();
        end_audit(&mut audit)?;
        let negatives = around.watch.report(&done.health, &config.negatives);
        place.parts = vec![done];
        Ok(Ran { negatives, diverged, whole: true, keeps: true })
    };
    let report = all_epochs(run, (each, why), &mut tables, (folder, ctx), keeper, one)?;
    Ok((tables, report))
}
