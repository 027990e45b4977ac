//! Measures what a budget smaller than the dataset costs: the same epochs in memory and out of core, in turn.

use std::time::Instant;

use serde::Serialize;

use super::bench::{beside, own_negatives};
use super::config::TrainConfig;
use super::error::TrainError;
use super::gauges::Gauges;
use super::paging::ExactReading;
use super::place::Cut;
use super::plan::{TrainPlan, plan_train};
use super::run::{Prepared, epoch, prepare};
use crate::context::{ByteSize, Context, Unit};
use crate::dataset::Dataset;

/// Rates of training in memory and within a part of the dataset's size.
#[derive(Clone, Debug, Serialize)]
pub struct OutOfCoreBench {
    /// Median over the rounds, dataset in the page cache, budget as given.
    pub in_memory_triples_per_second: f64,
    /// Median over the rounds, nothing of the dataset in the page cache when the epoch begins.
    pub out_of_core_triples_per_second: f64,
    /// The second by the first.
    pub ratio: f64,
    /// Both rates of each round.
    pub rounds: Vec<[f64; 2]>,
    /// Bytes that the system read from the disk in an epoch out of core, on average.
    pub epoch_read: Option<u64>,
    /// Bytes that it was given to write in one.
    pub epoch_written: Option<u64>,
    /// Bytes of the dataset's files.
    pub dataset: ByteSize,
    /// How it went in memory.
    pub in_memory: TrainPlan,
    /// How it went out of core.
    pub out_of_core: TrainPlan,
}

/// Trains epochs on `dataset` in the budget of `ctx` and in `fraction` of the dataset's size, in turn, `rounds` times;
/// nothing is written. The page cache of the dataset is let go of before each epoch out of core.
///
/// # Errors
/// As for [`train`](super::train()), for both budgets.
pub fn bench_out_of_core(
    dataset: &Dataset,
    config: &TrainConfig,
    fraction: f64,
    rounds: u32,
    ctx: &Context,
) -> Result<OutOfCoreBench, TrainError> {
    config.validate()?;
    if !(fraction > 0.0 && fraction <= 1.0) {
        return Err(TrainError::Config {
            key: "fraction".into(),
            value: fraction.to_string(),
            must: "be above 0, up to 1".into(),
        });
    }
    let how = (fraction, rounds.max(1));
    let config = &*config.in_force();
    own_negatives(config)?;
    in_turn(dataset, config, how, ctx)
}

fn in_turn(
    dataset: &Dataset,
    config: &TrainConfig,
    (fraction, rounds): (f64, u32),
    ctx: &Context,
) -> Result<OutOfCoreBench, TrainError> {
    let bytes: u64 = dataset.manifest().files.iter().map(|file| file.bytes).sum();
    let small = ctx.clone().with_memory(ByteSize((bytes as f64 * fraction) as u64));
    let plans = [plan_train(dataset, config, ctx)?, plan_train(dataset, config, &small)?];
    let stage = Gauges::new(ctx.stage("measuring", None, Unit::Triples), config, &plans[0]);
    let mut sides = Vec::new();
    for plan in &plans {
        sides.push((plan, prepare(dataset, config, plan, (beside(dataset), ctx), None)?));
    }
    let mut rates = Vec::new();
    let mut moved = [Some(0), Some(0)];
    // Round 0 is not counted: memory is touched for the first time, and there is nothing in the page cache yet.
    for round in 0..=rounds {
        let mut both = [0.0; 2];
        for (i, (plan, Prepared { tables, crew, around })) in sides.iter_mut().enumerate() {
            stage.note(["in memory", "out of core"][i]);
            if !plan.releases_cache {
                read_all(dataset);
            }
            let exact = ExactReading::begin(dataset.train(), plan);
            let before = moved_bytes();
            let number = (round % config.epochs, *plan, Cut::new(plan, config.deterministic));
            let work = epoch(dataset, config, number, (tables, around), (ctx, &stage));
            let rate = work.update.learning_rate;
            let began = Instant::now();
            let done = crew.train(&work, |_| rate).ok_or(TrainError::Panicked)?;
            both[i] = done.positives as f64 * config.negatives() as f64 / began.elapsed().as_secs_f64();
            ctx.check()?;
            drop(exact);
            if i == 1 && round > 0 {
                let after = moved_bytes();
                for (sum, now) in moved.iter_mut().zip(0..) {
                    *sum = sum.zip(after).zip(before).map(|((sum, a), b): ((u64, _), _)| sum + a[now] - b[now]);
                }
            }
        }
        if round > 0 {
            rates.push(both);
        }
    }
    drop(stage);
    let median = |i: usize| {
        let mut side: Vec<f64> = rates.iter().map(|both| both[i]).collect();
        side.sort_by(f64::total_cmp);
        side[side.len() / 2]
    };
    let [in_memory, out_of_core] = plans.clone();
    Ok(OutOfCoreBench {
        in_memory_triples_per_second: median(0),
        out_of_core_triples_per_second: median(1),
        ratio: median(1) / median(0),
        epoch_read: moved[0].map(|sum| sum / u64::from(rounds)),
        epoch_written: moved[1].map(|sum| sum / u64::from(rounds)),
        rounds: rates,
        dataset: ByteSize(bytes),
        in_memory,
        out_of_core,
    })
}

/// Brings the train part into the page cache.
fn read_all(dataset: &Dataset) {
    let train = dataset.train();
    let sum = |chunk: usize| train.chunk(chunk).items().iter().map(|item| u64::from(item.to_native())).sum::<u64>();
    std::hint::black_box((0..train.chunks()).map(sum).sum::<u64>());
}

/// Bytes that this process has read from disks and given them to write so far, where the system tells.
fn moved_bytes() -> Option<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some([field("read_bytes:")?, field("write_bytes:")?])
}
