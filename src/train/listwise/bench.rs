//! Measures training with listwise losses beside the machine's matrix speed.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::time::Instant;

use serde::Serialize;

use super::{Around, Epoch, Lane, WithProposal, all_lanes, epoch, listwise, prepare, with_proposal};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::model::{InstructionSet, SquareProduct, Tables};
use crate::negatives::{Distribution, SharedBlock};
use crate::train::bench::beside;
use crate::train::config::TrainConfig;
use crate::train::error::TrainError;
use crate::train::gauges::Gauges;
use crate::train::lane::Done;
use crate::train::place::Cut;
use crate::train::plan::plan_train;

/// Each stage is measured this many times; the median is reported.
const ROUNDS: u32 = 3;
/// Blocks that the bare trainer goes over again and again.
const BLOCKS: usize = 16;
const REPEATS: usize = 16;
const PRODUCTS: usize = 60;

/// Rates of listwise training, each measured on all threads. Operations count the three matrix products alone: 6 for
/// each triple and dimension.
#[derive(Clone, Debug, Serialize)]
pub struct ListwiseBench {
    /// Thousand million operations a second of the whole pipeline: stream, sample, mask, channel, train.
    pub gflops: f64,
    /// The same of trainers alone, on blocks made before.
    pub trainer_gflops: f64,
    /// What a product of two large square matrices reaches on all threads: the limit.
    pub limit_gflops: f64,
    /// Positives a second of the whole pipeline.
    pub positives_per_second: f64,
    /// (User, positive, negative) triples a second of the whole pipeline.
    pub triples_per_second: f64,
    /// Positives a second of producers alone: stream, shuffle, draw and mask.
    pub produced_positives_per_second: f64,
    /// Lanes: producer and trainer threads, each.
    pub threads: usize,
    /// Kernels used.
    pub instruction_set: String,
    /// Train interactions of the dataset.
    pub interactions: u64,
    /// Negatives that a block shares.
    pub negatives: usize,
    /// Positives of a block.
    pub shared_by: usize,
    /// Learnt factors a row.
    pub dimensions: usize,
}

/// Measures training on `dataset` with the listwise loss of `config`; nothing is written. Takes some seven epochs.
///
/// # Errors
/// As for [`train`](crate::train()).
pub fn bench_listwise(dataset: &Dataset, config: &TrainConfig, ctx: &Context) -> Result<ListwiseBench, TrainError> {
    struct Measure<'a>(&'a Dataset, &'a TrainConfig, &'a Context);
    impl WithProposal for Measure<'_> {
        type Outcome = ListwiseBench;
        fn with<P: Distribution + Clone>(self, proposal: &P) -> Result<ListwiseBench, TrainError> {
            measure(self.0, self.1, proposal, self.2)
        }
    }
    config.validate()?;
    if config.loss.kind.is_listwise() && !config.shares_negatives() {
        return Err(TrainError::Config {
            key: "negatives.mix".into(),
            value: format!("{} components", config.negatives.mix.len()),
            must: "be left out here, where shared negatives are measured".into(),
        });
    }
    with_proposal(dataset, config, Measure(dataset, config, ctx))
}

fn measure<P: Distribution + Clone>(
    dataset: &Dataset,
    config: &TrainConfig,
    proposal: &P,
    ctx: &Context,
) -> Result<ListwiseBench, TrainError> {
    let loss = listwise(config)?;
    let plan = plan_train(dataset, config, ctx)?;
    let (tables, mut lanes) = prepare(dataset, config, proposal, &plan, (beside(dataset), None))?;
    let around = Around::new(dataset, config, &plan, ctx)?;
    let stage = Gauges::new(ctx.stage("measuring", None, Unit::Triples), config, &plan);
    let negatives = config.negatives().min(dataset.items().len() as usize);
    let interactions = dataset.train().len();
    let operations = (6 * negatives * config.dimensions) as f64 / 1e9;
    let mut number = 0;
    let mut median = |name: &str, run: &mut dyn FnMut(&Epoch<'_>, &Tables) -> Option<f64>| {
        stage.note(name);
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let at = (number % config.epochs, &plan, Cut::new(&plan, false));
            let work = epoch(dataset, config, at, loss, (&tables, &around), (ctx, &stage));
            number += 1;
            rates.push(run(&work, &tables).ok_or(TrainError::Panicked)?);
            ctx.check()?;
        }
        rates.sort_by(f64::total_cmp);
        Ok::<f64, TrainError>(rates[rates.len() / 2])
    };
    let threads = ctx.threads();
    let produced = median("produce", &mut |work, _| {
        let began = Instant::now();
        produce_all(work, &mut lanes);
        Some(interactions as f64 / began.elapsed().as_secs_f64())
    })?;
    let whole = median("whole pipeline", &mut |work, _| {
        let began = Instant::now();
        let rate = work.update.learning_rate;
        let done = all_lanes(work, &mut lanes, |_| rate, Done::default())?;
        Some(done.positives as f64 / began.elapsed().as_secs_f64())
    })?;
    let trainer = median("trainer", &mut |work, _| Some(trainers_alone(work, &mut lanes)))?;
    let limit = median("square products", &mut |work, _| Some(square_products(threads, work.set)))?;
    drop(stage);
    Ok(ListwiseBench {
        gflops: whole * operations,
        trainer_gflops: trainer * operations,
        limit_gflops: limit,
        positives_per_second: whole,
        triples_per_second: whole * negatives as f64,
        produced_positives_per_second: produced,
        threads,
        instruction_set: InstructionSet::detect().name().to_string(),
        interactions,
        negatives,
        shared_by: config.shared_by(),
        dimensions: config.dimensions,
    })
}

/// Positives a second of producers alone, the median of so many epochs, and the seconds that it took to make them ready.
pub(in crate::train) fn producers(
    dataset: &Dataset,
    config: &TrainConfig,
    rounds: usize,
    (ctx, stage): (&Context, &Gauges<'_>),
) -> Result<(f64, f64), TrainError> {
    struct Produce<'a>(&'a Dataset, &'a TrainConfig, usize, (&'a Context, &'a Gauges<'a>), Instant);
    impl WithProposal for Produce<'_> {
        type Outcome = (f64, f64);
        fn with<P: Distribution + Clone>(self, proposal: &P) -> Result<(f64, f64), TrainError> {
            let loss = listwise(self.1)?;
            let Self(dataset, config, rounds, (ctx, stage), began) = self;
            let plan = plan_train(dataset, config, ctx)?;
            let (tables, mut lanes) = prepare(dataset, config, proposal, &plan, (beside(dataset), None))?;
            let around = Around::new(dataset, config, &plan, ctx)?;
            let setup = began.elapsed().as_secs_f64();
            let mut rates = Vec::new();
            for _ in 0..rounds {
                let at = (0, &plan, Cut::new(&plan, false));
                let work = epoch(dataset, config, at, loss, (&tables, &around), (ctx, stage));
                let began = Instant::now();
                produce_all(&work, &mut lanes);
                rates.push(dataset.train().len() as f64 / began.elapsed().as_secs_f64());
                ctx.check()?;
            }
            rates.sort_by(f64::total_cmp);
            Ok((rates.get(rates.len() / 2).copied().unwrap_or_default(), setup))
        }
    }
    config.validate()?;
    with_proposal(dataset, config, Produce(dataset, config, rounds, (ctx, stage), Instant::now()))
}

/// Produces an epoch's blocks on every lane, into the same memory again and again.
fn produce_all<P: Distribution>(work: &Epoch<'_>, lanes: &mut [Lane<P>]) {
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                let spare = Cell::new(None);
                let emit = |block: SharedBlock| {
                    spare.set(Some(block));
                    ControlFlow::Continue(())
                };
                work.produce(&mut lane.source, || spare.take(), emit, |_| 0.0)
            });
        }
    });
}

/// Trains on a few blocks again and again, on every thread at once; positives a second of all together.
fn trainers_alone<P: Distribution>(work: &Epoch<'_>, lanes: &mut [Lane<P>]) -> f64 {
    let barrier = &Barrier::new(lanes.len());
    let rates: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                scope.spawn(move || {
                    let mut blocks = Vec::new();
                    let keep = |block: SharedBlock| {
                        blocks.push(block);
                        if blocks.len() < BLOCKS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    };
                    work.produce(&mut lane.source, || None, keep, |_| work.update.learning_rate);
                    for block in &blocks {
                        work.learn(block, &mut lane.workspace);
                    }
                    let positives: usize = blocks.iter().map(|b| b.user_of.len()).sum();
                    barrier.wait();
                    let began = Instant::now();
                    for _ in 0..REPEATS {
                        for block in &blocks {
                            std::hint::black_box(work.learn(block, &mut lane.workspace));
                        }
                    }
                    (positives * REPEATS) as f64 / began.elapsed().as_secs_f64()
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    rates.iter().sum()
}

/// Thousand million operations a second of large square products, one after the other on every thread.
fn square_products(threads: usize, set: InstructionSet) -> f64 {
    let barrier = &Barrier::new(threads);
    let rates: Vec<f64> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || {
                    let mut product = SquareProduct::new();
                    product.run(set);
                    barrier.wait();
                    let began = Instant::now();
                    let operations: f64 = (0..PRODUCTS).map(|_| std::hint::black_box(product.run(set))).sum();
                    operations / began.elapsed().as_secs_f64() / 1e9
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    rates.iter().sum()
}
