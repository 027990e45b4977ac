//! The audit trail of a run: a sample of the decisions of every epoch, written as Parquet.

mod file;
mod sample;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::file::AuditFile;
use self::sample::AuditSample;
use super::config::TrainConfig;
use super::error::TrainError;
use crate::dataset::Dataset;
use crate::negatives::{Auditor, Decision};

/// What to write of the decisions of a run, and where to.
///
/// Which positives are looked at depends on the seed of the run and the number of the epoch, and on nothing else. They
/// are one in `sample`, and of an epoch no more than have 32,768 candidates together. Looking changes nothing of what
/// is learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// The Parquet file: a row a candidate. It appears whole, when the model does.
    pub path: PathBuf,
    /// One positive in so many is looked at; at least 1.
    pub sample: u32,
}

impl AuditOptions {
    /// One positive in this many by default.
    pub const SAMPLE: u32 = 1024;
}

/// What an audit holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSummary {
    /// Positives whose negatives were looked at, over all epochs.
    pub positives: u64,
    /// Candidates, each a row.
    pub rows: u64,
    /// Positives left out because their epoch had too many candidates already.
    pub left_out: u64,
}

/// An audit under way.
pub(super) struct Audit<'a> {
    sample: AuditSample,
    file: AuditFile<'a>,
}

impl<'a> Audit<'a> {
    /// Starts the file; with `force` one that is there is replaced in the end. The model will be at `output`.
    pub(super) fn new(
        dataset: &'a Dataset,
        config: &TrainConfig,
        options: &AuditOptions,
        (output, force): (&Path, bool),
    ) -> Result<Self, TrainError> {
        let wrong = |key: &str, value: String, must: &str| TrainError::Config {
            key: key.to_string(),
            value,
            must: must.to_string(),
        };
        if options.sample == 0 {
            return Err(wrong("--audit-sample", "0".into(), "be at least 1: one positive in so many"));
        }
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let path = absolute(&options.path);
        if [output, dataset.path()].into_iter().any(|folder| path.starts_with(absolute(folder))) {
            let must = "not be in the folder of the model or of the dataset, which hold nothing else: choose another";
            return Err(wrong("--audit", options.path.display().to_string(), must));
        }
        let file = AuditFile::new(dataset, &config.negatives, &options.path, force)?;
        Ok(Self { sample: AuditSample::new(config.seed, options.sample), file })
    }

    /// Bytes that it takes while `threads` draw.
    pub(super) fn bytes(threads: usize) -> u64 {
        (AuditSample::BYTES + (threads + 1) * Decision::MOST_BYTES + AuditFile::BYTES) as u64
    }

    /// Epoch `number` begins, from 1.
    pub(super) fn begin(&mut self, number: u32) {
        self.sample.begin(number);
    }

    /// Who asks about this epoch.
    pub(super) fn auditor(&self) -> &dyn Auditor {
        &self.sample
    }

    /// The epoch is over: writes what was seen.
    pub(super) fn end(&mut self) -> Result<(), TrainError> {
        let (number, decisions, left_out) = self.sample.end();
        self.file.write(number, &decisions, left_out)
    }

    /// Ends the file; it appears when what this returns is published.
    pub(super) fn finish(self) -> Result<(crate::storage::AtomicFile, AuditSummary), TrainError> {
        self.file.finish()
    }
}
