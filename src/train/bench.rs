//! Measures training stage by stage: each stage alone, all of them together, and what the machine could do at most.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::bounded;
use serde::Serialize;

use super::config::TrainConfig;
use super::error::TrainError;
use super::gauges::Gauges;
use super::lane::{Done, Epoch, Lane};
use super::paging::ExactReading;
use super::place::Cut;
use super::plan::plan_train;
use super::run::{Prepared, epoch, prepare};
use crate::context::{Context, Unit};
use crate::dataset::Dataset;
use crate::model::{InstructionSet, Tables};
use crate::negatives::Batch;

/// Each stage is measured this many times; the median is reported.
const ROUNDS: u32 = 3;
/// Batches of one block that the bare kernel goes over again and again.
const KERNEL_BATCHES: usize = 8;
const KERNEL_REPEATS: usize = 40;
const COPY_BYTES: usize = 256 << 20;

/// Rates of the stages of training, each measured alone on all threads over one epoch.
#[derive(Clone, Debug, Serialize)]
pub struct TrainBench {
    /// The whole pipeline: stream, sample, channel, update.
    pub triples_per_second: f64,
    /// The bare kernel on batches made before, whose item rows stay in cache: what the pipeline could reach at most.
    pub limit_triples_per_second: f64,
    /// Reading every item of the train part through the map.
    pub read_interactions_per_second: f64,
    /// Reading, and bucketing into windows.
    pub shuffle_interactions_per_second: f64,
    /// The above, and drawing negatives with exact rejection.
    pub sample_triples_per_second: f64,
    /// The above, and handing batches over the channel to a thread that only gives them back.
    pub channel_triples_per_second: f64,
    /// Copying memory, counted once.
    pub copy_bytes_per_second: f64,
    /// Lanes: producer and trainer threads, each.
    pub threads: usize,
    /// Kernels used.
    pub instruction_set: String,
    /// Train interactions of the dataset.
    pub interactions: u64,
    /// Triples of an epoch.
    pub triples: u64,
}

/// Measures training on `dataset` with `config`; nothing is written. Takes some twenty epochs. Only the whole pipeline
/// differs with [`TrainConfig::deterministic`]: the stages alone are measured as they are without.
///
/// # Errors
/// As for [`train`](super::train).
pub fn bench_train(dataset: &Dataset, config: &TrainConfig, ctx: &Context) -> Result<TrainBench, TrainError> {
    config.validate()?;
    let config = &*config.in_force();
    own_negatives(config)?;
    stages(dataset, config, ctx)
}

/// An error where negatives are shared: that cannot be measured here.
pub(super) fn own_negatives(config: &TrainConfig) -> Result<(), TrainError> {
    match config.shares_negatives() {
        true => Err(TrainError::Config {
            key: "loss.kind".into(),
            value: config.loss.kind.name().to_string(),
            must: "be \"bpr\" or another loss that is not listwise; shared negatives have a measurement of their own"
                .into(),
        }),
        false => Ok(()),
    }
}

fn stages(dataset: &Dataset, config: &TrainConfig, ctx: &Context) -> Result<TrainBench, TrainError> {
    // The stages are those of lanes in any case; deterministic training has no channel to measure.
    let free = TrainConfig { deterministic: false, ..config.clone() };
    let plan = plan_train(dataset, &free, ctx)?;
    let _exact = ExactReading::begin(dataset.train(), &plan);
    let place = (beside(dataset), ctx);
    let Prepared { tables, mut crew, around } = prepare(dataset, &free, &plan, place, None)?;
    let mut ordered = match config.deterministic {
        true => Some(prepare(dataset, config, &plan_train(dataset, config, ctx)?, place, None)?.crew),
        false => None,
    };
    let each = config.negatives() as u64;
    let interactions = dataset.train().len();
    let stage = Gauges::new(ctx.stage("measuring", None, Unit::Triples), config, &plan);
    let mut number = 0;
    let mut median = |name: &str, run: &mut dyn FnMut(&Epoch<'_>, &Tables) -> Option<f64>| -> Result<f64, TrainError> {
        stage.note(name);
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let number_of = (number % config.epochs, &plan, Cut::new(&plan, config.deterministic));
            let around = (&tables, &around);
            let work = epoch(dataset, config, number_of, around, (ctx, &stage));
            number += 1;
            rates.push(run(&work, &tables).ok_or(TrainError::Panicked)?);
            ctx.check()?;
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[rates.len() / 2])
    };
    let per_second = |count: u64, began: Instant| count as f64 / began.elapsed().as_secs_f64();

    let threads = ctx.threads();
    let read = median("read", &mut |_, _| {
        let began = Instant::now();
        read_all(dataset, threads);
        Some(per_second(interactions, began))
    })?;
    let shuffle = median("shuffle", &mut |work, _| {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for lane in crew.lanes() {
                scope.spawn(|| while work.fill(&mut lane.window, lane.kept_room).is_some() {});
            }
        });
        Some(per_second(interactions, began))
    })?;
    let sample = median("sample", &mut |work, _| {
        let began = Instant::now();
        let triples = sample_all(work, crew.lanes());
        Some(per_second(triples, began))
    })?;
    let channel = median("channel", &mut |work, _| {
        let began = Instant::now();
        let triples = over_channel(work, crew.lanes())?;
        Some(per_second(triples, began))
    })?;
    let whole = median("whole pipeline", &mut |work, _| {
        let began = Instant::now();
        let rate = work.update.learning_rate;
        let done = ordered.as_mut().unwrap_or(&mut crew).train(work, |_| rate)?;
        Some(per_second(done.positives * each, began))
    })?;
    let limit = median("bare kernel", &mut |work, _| Some(kernel_alone(work, crew.lanes())))?;
    drop(stage);
    Ok(TrainBench {
        triples_per_second: whole,
        limit_triples_per_second: limit,
        read_interactions_per_second: read,
        shuffle_interactions_per_second: shuffle,
        sample_triples_per_second: sample,
        channel_triples_per_second: channel,
        copy_bytes_per_second: copy(),
        threads,
        instruction_set: InstructionSet::detect().name().to_string(),
        interactions,
        triples: interactions * each,
    })
}

/// Where tables go that do not fit the budget.
pub(super) fn beside(dataset: &Dataset) -> &Path {
    match dataset.path().parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Touches every item once.
fn read_all(dataset: &Dataset, threads: usize) {
    let chunks = dataset.train().chunks();
    std::thread::scope(|scope| {
        for t in 0..threads {
            scope.spawn(move || {
                let mut sum = 0u64;
                for c in (t..chunks).step_by(threads) {
                    sum += dataset.train().chunk(c).items().iter().map(|i| u64::from(i.to_native())).sum::<u64>();
                }
                black_box(sum)
            });
        }
    });
}

/// Produces an epoch's batches on every lane, into the same memory again and again. Returns the triples.
fn sample_all(work: &Epoch<'_>, lanes: &mut [Lane<'_>]) -> u64 {
    let triples = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| {
                let mut count = 0;
                let spare = std::cell::Cell::new(None);
                let emit = |batch: Batch| {
                    count += batch.negatives.len() as u64;
                    spare.set(Some(batch));
                    ControlFlow::Continue(())
                };
                work.produce(lane, || spare.take(), emit, |_| 0.0, &mut Done::default());
                triples.fetch_add(count, Ordering::Relaxed);
            });
        }
    });
    triples.into_inner()
}

/// As [`sample_all`], with a second thread a lane that receives the batches and sends them back.
fn over_channel(work: &Epoch<'_>, lanes: &mut [Lane<'_>]) -> Option<u64> {
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for lane in lanes {
            let (full, batches) = bounded::<Batch>(super::lane::IN_FLIGHT);
            let (empty, spare) = bounded::<Batch>(super::lane::IN_FLIGHT + 2);
            running.push(scope.spawn(move || {
                let mut count = 0;
                for batch in batches {
                    count += batch.negatives.len() as u64;
                    // A full return channel only means that the memory is not needed.
                    let _ = empty.try_send(batch);
                }
                count
            }));
            scope.spawn(move || {
                let send = |batch| match full.send(batch) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                };
                work.produce(lane, || spare.try_recv().ok(), send, |_| 0.0, &mut Done::default())
            });
        }
        running.into_iter().map(|thread| thread.join().ok()).sum()
    })
}

/// Trains on a few batches of one block again and again, on every thread at once; triples a second of all together.
fn kernel_alone(work: &Epoch<'_>, lanes: &mut [Lane<'_>]) -> f64 {
    let barrier = &std::sync::Barrier::new(lanes.len());
    let rates: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                scope.spawn(move || {
                    let mut batches = Vec::new();
                    let keep = |batch: Batch| {
                        batches.push(batch);
                        if batches.len() < KERNEL_BATCHES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                    };
                    work.produce(lane, || None, keep, |_| work.update.learning_rate, &mut Done::default());
                    for batch in &batches {
                        work.learn(batch);
                    }
                    let triples: usize = batches.iter().map(|b| b.negatives.len()).sum();
                    barrier.wait();
                    let began = Instant::now();
                    for _ in 0..KERNEL_REPEATS {
                        for batch in &batches {
                            black_box(work.learn(batch));
                        }
                    }
                    (triples * KERNEL_REPEATS) as f64 / began.elapsed().as_secs_f64()
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    rates.iter().sum()
}

/// Bytes a second that one thread copies between two buffers larger than any cache.
fn copy() -> f64 {
    let from = vec![1u8; COPY_BYTES];
    let mut to = vec![2u8; COPY_BYTES];
    let began = Instant::now();
    for _ in 0..4 {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    }
    4.0 * COPY_BYTES as f64 / began.elapsed().as_secs_f64()
}
