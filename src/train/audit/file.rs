//! The file of an audit: a row a candidate, with the log's own ids.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float32Builder, StringBuilder, UInt32Builder};
use arrow_schema::DataType;
use parquet::errors::ParquetError;

use super::AuditSummary;
use crate::columnar::{self, BATCH_BYTES, BATCH_ROWS, Columnar, io_error};
use crate::dataset::Dataset;
use crate::negatives::{Candidate, Decision, NegativesConfig};
use crate::storage::{AtomicFile, StorageError};
use crate::train::error::TrainError;

/// An audit that is being written.
pub(super) struct AuditFile<'a> {
    dataset: &'a Dataset,
    /// What each component proposes by.
    proposers: Vec<&'static str>,
    path: PathBuf,
    out: Columnar<AtomicFile>,
    rows: Rows,
    summary: AuditSummary,
}

/// Rows on their way.
#[derive(Default)]
struct Rows {
    epochs: UInt32Builder,
    users: StringBuilder,
    positives: StringBuilder,
    negatives: UInt32Builder,
    items: StringBuilder,
    components: UInt32Builder,
    proposers: StringBuilder,
    scores: Float32Builder,
    positive_scores: Float32Builder,
    noises: Float32Builder,
    filtered: StringBuilder,
    chosen: BooleanBuilder,
    reasons: StringBuilder,
    weights: Float32Builder,
    corrections: Float32Builder,
    rows: usize,
    id_bytes: usize,
}

/// Names and types of the columns, in order; whether a value may be absent.
const COLUMNS: [(&str, DataType, bool); 15] = [
    ("epoch", DataType::UInt32, false),
    ("user", DataType::Utf8, false),
    ("positive", DataType::Utf8, false),
    ("negative", DataType::UInt32, false),
    ("item", DataType::Utf8, false),
    ("component", DataType::UInt32, false),
    ("proposer", DataType::Utf8, false),
    ("score", DataType::Float32, false),
    ("positive_score", DataType::Float32, false),
    ("noise", DataType::Float32, false),
    ("filtered_by", DataType::Utf8, true),
    ("chosen", DataType::Boolean, false),
    ("reason", DataType::Utf8, true),
    ("weight", DataType::Float32, true),
    ("correction", DataType::Float32, true),
];

impl Rows {
    fn push(&mut self, epoch: u32, [user, positive, item]: [&str; 3], proposer: &str, score: f32, c: &Candidate) {
        let known = |x: f32| Some(x).filter(|x| !x.is_nan());
        self.epochs.append_value(epoch);
        self.users.append_value(user);
        self.positives.append_value(positive);
        self.negatives.append_value(c.slot);
        self.items.append_value(item);
        self.components.append_value(c.component.into());
        self.proposers.append_value(proposer);
        self.scores.append_value(c.score);
        self.positive_scores.append_value(score);
        self.noises.append_value(c.noise);
        self.filtered.append_option(c.filtered.map(|f| f.name()));
        self.chosen.append_value(c.chosen.is_some());
        self.reasons.append_option(c.chosen.map(|why| why.to_string()));
        self.weights.append_option(c.chosen.and(known(c.weight)));
        self.corrections.append_option(c.chosen.and(known(c.correction)));
        self.rows += 1;
        self.id_bytes += user.len() + positive.len() + item.len();
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        (self.rows, self.id_bytes) = (0, 0);
        vec![
            Arc::new(self.epochs.finish()),
            Arc::new(self.users.finish()),
            Arc::new(self.positives.finish()),
            Arc::new(self.negatives.finish()),
            Arc::new(self.items.finish()),
            Arc::new(self.components.finish()),
            Arc::new(self.proposers.finish()),
            Arc::new(self.scores.finish()),
            Arc::new(self.positive_scores.finish()),
            Arc::new(self.noises.finish()),
            Arc::new(self.filtered.finish()),
            Arc::new(self.chosen.finish()),
            Arc::new(self.reasons.finish()),
            Arc::new(self.weights.finish()),
            Arc::new(self.corrections.finish()),
        ]
    }
}

impl<'a> AuditFile<'a> {
    /// What writing takes.
    pub(super) const BYTES: usize = columnar::BYTES;

    pub(super) fn new(
        dataset: &'a Dataset,
        config: &NegativesConfig,
        path: &Path,
        force: bool,
    ) -> Result<Self, TrainError> {
        let failed = |error| failed(path, error);
        let out = Columnar::new(AtomicFile::new(path, force)?, &COLUMNS).map_err(failed)?;
        let (path, summary) = (path.to_path_buf(), AuditSummary::default());
        Ok(Self { dataset, proposers: config.proposers(), path, out, rows: Rows::default(), summary })
    }

    /// Writes the decisions of an epoch.
    pub(super) fn write(&mut self, epoch: u32, decisions: &[Decision], left_out: u64) -> Result<(), TrainError> {
        self.summary.positives += decisions.len() as u64;
        self.summary.left_out += left_out;
        for decision in decisions {
            self.summary.rows += decision.candidates.len() as u64;
            let user = self.dataset.users().id(decision.user).unwrap_or_default();
            let positive = self.dataset.items().id(decision.positive).unwrap_or_default();
            for candidate in &decision.candidates {
                let item = self.dataset.items().id(candidate.item).unwrap_or_default();
                let proposer = self.proposers.get(usize::from(candidate.component)).copied().unwrap_or_default();
                self.rows.push(epoch, [user, positive, item], proposer, decision.score, candidate);
                if self.rows.rows == BATCH_ROWS || self.rows.id_bytes >= BATCH_BYTES {
                    self.out.write(self.rows.take()).map_err(|error| failed(&self.path, error))?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is left, and the end of the file.
    pub(super) fn finish(mut self) -> Result<(AtomicFile, AuditSummary), TrainError> {
        let rest = self.rows.take();
        let file = self.out.write(rest).and_then(|()| self.out.finish());
        let mut file = file.map_err(|error| failed(&self.path, error))?;
        file.complete()?;
        Ok((file, self.summary))
    }
}

/// What went wrong with the file.
fn failed(path: &Path, error: ParquetError) -> TrainError {
    match io_error(error) {
        Ok(source) => StorageError::Io { path: path.to_path_buf(), action: "write", source }.into(),
        Err(source) => TrainError::Audit { path: path.to_path_buf(), source },
    }
}
