//! How long training will take here: the run itself begins, is watched for two seconds, and is broken off.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{TrainConfig, TrainError, train};
use crate::context::{Context, Live, Progress, Unit};
use crate::dataset::Dataset;
use crate::storage::disk::DiskFile;
use crate::storage::{IoContext, Scratch, StorageError};

/// Not measured: caches and pages are touched for the first time.
const WARM_UP: Duration = Duration::from_millis(300);
/// Measured.
const WATCHED: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_millis(5);
/// Bytes written to see how fast the disk takes a model.
const TRIAL: u64 = 64 << 20;

/// What a run was seen to do, and what follows for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rehearsal {
    /// Triples a second, seen.
    pub triples_per_second: f64,
    /// Getting memory and filling the tables, seen.
    pub setup_seconds: f64,
    /// An epoch, by the rate.
    pub epoch_seconds: f64,
    /// All epochs.
    pub training_seconds: f64,
    /// Writing the model, by how fast a file was written and synced.
    pub publish_seconds: f64,
}

impl Rehearsal {
    /// The whole of [`train()`](super::train()).
    pub fn seconds(&self) -> f64 {
        self.setup_seconds + self.training_seconds + self.publish_seconds
    }
}

/// Notes when the stage of training began, and counts.
#[derive(Default)]
struct Watch(Mutex<Option<(Instant, Arc<Live>)>>);

impl Watch {
    fn stage(&self) -> Option<(Instant, Arc<Live>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress for Watch {
    fn begin(&self, _: &str, _: Option<u64>, _: Unit, live: Arc<Live>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), live));
    }
    fn end(&self) {}
    fn message(&self, _: &str) {}
}

/// Begins to train on `dataset` as [`train()`](super::train()) would, within the same memory, to an output in `folder`
/// that never appears, and breaks off after some two seconds of training.
///
/// # Errors
/// As for [`train()`](super::train()).
pub fn rehearse_train(
    dataset: &Dataset,
    config: &TrainConfig,
    folder: &Path,
    ctx: &Context,
) -> Result<Rehearsal, TrainError> {
    let scratch = Scratch::new(folder, "rehearsal")?;
    let output = scratch.path().join("model");
    let (watch, cancel) = (Arc::new(Watch::default()), Arc::new(AtomicBool::new(false)));
    let watched = Context::new(ctx.threads(), ctx.memory()).with_progress(watch.clone()).with_cancel(cancel.clone());
    let mut config = config.clone();
    config.keep_nothing();
    let config = &config;
    let called = Instant::now();
    let (seen, ended) = std::thread::scope(|scope| {
        let running = scope.spawn(|| train(dataset, config, &output, false, &watched));
        let mut from: Option<(Instant, u64)> = None;
        let mut seen = None;
        while !running.is_finished() && seen.is_none() {
            std::thread::sleep(PATIENCE);
            let Some((began, live)) = watch.stage() else { continue };
            match from {
                // An index of the items may have to be built before the first batch.
                None if began.elapsed() >= WARM_UP && live.done() > 0 => from = Some((Instant::now(), live.done())),
                Some((at, count)) if at.elapsed() >= WATCHED => {
                    seen = Some((live.done() - count) as f64 / at.elapsed().as_secs_f64());
                }
                _ => {}
            }
            if ctx.cancelled() {
                break;
            }
        }
        cancel.store(true, Ordering::Relaxed);
        (seen, running.join())
    });
    ctx.check()?;
    let triples_per_second = match ended.map_err(|_| TrainError::Panicked)? {
        // It was over before there was much to see: then all of it was seen.
        Ok((_, report)) => report.triples_per_second,
        Err(TrainError::Interrupted(_)) => seen.unwrap_or_default(),
        Err(other) => return Err(other),
    };
    let setup_seconds = watch.stage().map_or(0.0, |(began, _)| (began - called).as_secs_f64());
    let each = config.negatives().min(dataset.items().len() as usize) as f64;
    let epoch_seconds = dataset.train().len() as f64 * each / triples_per_second.max(1.0);
    let model = super::plan_train(dataset, config, ctx)?.model.0;
    Ok(Rehearsal {
        triples_per_second,
        setup_seconds,
        epoch_seconds,
        training_seconds: epoch_seconds * f64::from(config.epochs),
        publish_seconds: publish_seconds(model, scratch.path())?,
    })
}

/// How long writing and syncing `bytes` in `folder` takes, by trying some of them.
fn publish_seconds(bytes: u64, folder: &Path) -> Result<f64, StorageError> {
    let trial = bytes.clamp(1, TRIAL);
    let path = folder.join("trial");
    let write = || -> std::io::Result<f64> {
        let began = Instant::now();
        let mut file = DiskFile::create_new(&path)?;
        let block = vec![0x5a; 1 << 20];
        let mut left = trial;
        while left > 0 {
            let now = left.min(block.len() as u64);
            file.write_all(&block[..now as usize])?;
            left -= now;
        }
        file.sync()?;
        Ok(began.elapsed().as_secs_f64())
    };
    Ok(write().at(folder, "write a trial file in it")? * bytes as f64 / trial as f64)
}
