//! Recommendations as NDJSON, CSV or Parquet, with original ids.

use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{Float32Builder, Float64Builder, StringBuilder, UInt32Builder};
use arrow_schema::DataType;
use parquet::errors::ParquetError;
use serde::Serialize;

use super::top::recommend_beside;
use super::{RecommendError, RecommendOptions, RecommendSummary, RecommendUsers, Recommendations, recommend};
use crate::columnar::{self, BATCH_BYTES, BATCH_ROWS, Columnar, io_error};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::model::CalibrationCurve;
use crate::rank::Scorer;
use crate::storage::{AtomicFile, IoContext};

/// How recommendations are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecommendFormat {
    /// A line a user: `{"user": id, "items": [{"item": id, "score": x}, …]}`; with `"probability": p` behind each score
    /// where the scorer has a calibration.
    #[default]
    Ndjson,
    /// Rows of `user,rank,item,score` under a header, and `probability` likewise; ranks count from 1.
    Csv,
    /// The columns of CSV.
    Parquet,
}

impl RecommendFormat {
    /// The format that a file's extension asks for.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl FromStr for RecommendFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ndjson" => Ok(Self::Ndjson),
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(format!("'{text}' is no format; write ndjson, csv or parquet")),
        }
    }
}

/// Writes the recommendations of [`recommend`] to `target`, which appears whole or not at all; with `force` a file
/// there is replaced.
///
/// # Errors
/// Those of [`recommend`], and if the file exists or cannot be written.
#[allow(clippy::too_many_arguments)] // what to recommend, and where to
pub fn save_recommendations(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    users: &RecommendUsers,
    options: RecommendOptions,
    format: RecommendFormat,
    target: &Path,
    force: bool,
    ctx: &Context,
) -> Result<RecommendSummary, RecommendError> {
    let mut file = AtomicFile::new(target, force)?;
    let written = write_recommendations(scorer, dataset, users, options, format, &mut file, ctx);
    let summary = match written {
        // Named, so that a full disk is said with the file that it was to hold.
        Err(RecommendError::Output(error)) => return Err(Err::<(), _>(error).at(target, "write").unwrap_err().into()),
        other => other?,
    };
    file.publish()?;
    Ok(summary)
}

/// Writes the recommendations of [`recommend`] to `out` as they come.
///
/// # Errors
/// Those of [`recommend`], and if `out` fails.
pub fn write_recommendations(
    scorer: &dyn Scorer,
    dataset: &Dataset,
    users: &RecommendUsers,
    options: RecommendOptions,
    format: RecommendFormat,
    out: &mut (dyn Write + Send),
    ctx: &Context,
) -> Result<RecommendSummary, RecommendError> {
    let user_id = |user: u32| dataset.users().id(user).unwrap_or_default();
    let item_id = |item: u32| dataset.items().id(item).unwrap_or_default();
    let curve = scorer.calibration().map(|calibration| &calibration.curve);
    let probability = |score: f32| curve.map(|curve| curve.probability(score));
    let summary = match format {
        RecommendFormat::Ndjson => recommend(scorer, dataset, users, options, ctx, |r| {
            let items = r.items.iter().map(|(item, score)| (item_id(*item), *score, probability(*score)));
            Ok(write_line(out, user_id(r.user), items)?)
        })?,
        RecommendFormat::Csv => {
            let last = if curve.is_some() { ",probability" } else { "" };
            writeln!(out, "user,rank,item,score{last}")?;
            recommend(scorer, dataset, users, options, ctx, |r| {
                for (rank, (item, score)) in (1..).zip(&r.items) {
                    write_field(out, user_id(r.user))?;
                    write!(out, ",{rank},")?;
                    write_field(out, item_id(*item))?;
                    match probability(*score) {
                        Some(probability) => writeln!(out, ",{score},{probability}")?,
                        None => writeln!(out, ",{score}")?,
                    }
                }
                Ok(())
            })?
        }
        RecommendFormat::Parquet => {
            let mut rows = ParquetRows::new(out, curve)?;
            let summary = recommend_beside(columnar::BYTES, scorer, dataset, users, options, ctx, |r| {
                rows.push(user_id(r.user), r, item_id).map_err(RecommendError::from_parquet)
            })?;
            rows.finish().map_err(RecommendError::from_parquet)?;
            summary
        }
    };
    out.flush()?;
    Ok(summary)
}

impl RecommendError {
    /// The I/O error inside, where there is one.
    fn from_parquet(error: ParquetError) -> Self {
        io_error(error).map_or_else(Self::Parquet, Self::Output)
    }
}

#[derive(Serialize)]
struct ScoredItem<'a> {
    item: &'a str,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
}

/// A line of NDJSON, without holding what it says of the items.
fn write_line<'a>(
    out: &mut (dyn Write + Send),
    user: &str,
    items: impl Iterator<Item = (&'a str, f32, Option<f64>)>,
) -> std::io::Result<()> {
    out.write_all(b"{\"user\":")?;
    serde_json::to_writer(&mut *out, user)?;
    let mut before = &b",\"items\":["[..];
    for (item, score, probability) in items {
        out.write_all(before)?;
        before = b",";
        serde_json::to_writer(&mut *out, &ScoredItem { item, score, probability })?;
    }
    out.write_all(if before == b"," { b"]}\n" } else { b",\"items\":[]}\n" })
}

/// A field of CSV, quoted where RFC 4180 asks for it.
pub(super) fn write_field(out: &mut (dyn Write + Send), field: &str) -> std::io::Result<()> {
    if field.contains(['"', ',', '\n', '\r']) {
        write!(out, "\"{}\"", field.replace('"', "\"\""))
    } else {
        out.write_all(field.as_bytes())
    }
}

/// Rows on their way into Parquet: a batch of columns, then the row group that the writer encodes.
struct ParquetRows<'a> {
    out: Columnar<&'a mut (dyn Write + Send)>,
    users: StringBuilder,
    ranks: UInt32Builder,
    items: StringBuilder,
    scores: Float32Builder,
    /// Of the scores, where there is a curve.
    probabilities: Option<(&'a CalibrationCurve, Float64Builder)>,
    rows: usize,
    id_bytes: usize,
}

impl<'a> ParquetRows<'a> {
    fn new(out: &'a mut (dyn Write + Send), curve: Option<&'a CalibrationCurve>) -> Result<Self, ParquetError> {
        let mut columns = vec![
            ("user", DataType::Utf8, false),
            ("rank", DataType::UInt32, false),
            ("item", DataType::Utf8, false),
            ("score", DataType::Float32, false),
        ];
        columns.extend(curve.map(|_| ("probability", DataType::Float64, false)));
        Ok(Self {
            out: Columnar::new(out, &columns)?,
            users: StringBuilder::new(),
            ranks: UInt32Builder::new(),
            items: StringBuilder::new(),
            scores: Float32Builder::new(),
            probabilities: curve.map(|curve| (curve, Float64Builder::new())),
            rows: 0,
            id_bytes: 0,
        })
    }

    fn push<'d>(
        &mut self,
        user: &str,
        recommendations: &Recommendations,
        item_id: impl Fn(u32) -> &'d str,
    ) -> Result<(), ParquetError> {
        for (rank, (item, score)) in (1..).zip(&recommendations.items) {
            self.users.append_value(user);
            self.ranks.append_value(rank);
            let item = item_id(*item);
            self.items.append_value(item);
            self.scores.append_value(*score);
            if let Some((curve, builder)) = &mut self.probabilities {
                builder.append_value(curve.probability(*score));
            }
            self.rows += 1;
            self.id_bytes += user.len() + item.len();
            if self.rows == BATCH_ROWS || self.id_bytes >= BATCH_BYTES {
                self.write_batch()?;
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), ParquetError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.users.finish()),
            Arc::new(self.ranks.finish()),
            Arc::new(self.items.finish()),
            Arc::new(self.scores.finish()),
        ];
        if let Some((_, builder)) = &mut self.probabilities {
            columns.push(Arc::new(builder.finish()));
        }
        (self.rows, self.id_bytes) = (0, 0);
        self.out.write(columns)
    }

    fn finish(mut self) -> Result<(), ParquetError> {
        self.write_batch()?;
        self.out.finish().map(|_| ())
    }
}
