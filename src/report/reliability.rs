//! The reliability diagram: how predicted probabilities hold.

use super::ReportError;
use super::html::{Html, html};
use super::number::{count, metric};
use super::plot::{Axis, Data, Form, Frame, Lines, Series};
use super::training::note;
use crate::context::Context;
use crate::dataset::{Dataset, Part};
use crate::evaluate::{CalibrationOptions, EvaluateError, Reliability, calibration};
use crate::model::Model;
use crate::rank::RankError;

/// The diagram of `model` on `part`, as `peccary calibrate` measures it.
pub(super) fn reliability(
    model: &Model,
    dataset: &Dataset,
    part: Part,
    data: &mut Data,
    ctx: &Context,
) -> Result<Html, ReportError> {
    let curve = model.manifest().calibration.as_ref().map(|kept| &kept.curve);
    let options = CalibrationOptions { part, ..CalibrationOptions::default() };
    let found = match calibration(model, dataset, curve, options, ctx) {
        Err(EvaluateError::Rank(RankError::Shape { .. })) => {
            return Ok(note(
                "No reliability: the dataset has users or items that came after the model, to whom it gives no probability.",
            ));
        }
        found => found?,
    };
    let of = |name: &str, colour, reliability: &Reliability| Series {
        name: format!("{name}, ECE {}", metric(reliability.ece)),
        colour,
        points: reliability.bins.iter().map(|bin| (bin.predicted, bin.observed)).collect(),
    };
    let mut series = vec![of("σ(score)", 0, &found.uncalibrated)];
    series.extend(found.calibrated.as_ref().map(|calibrated| of("calibrated", 1, calibrated)));
    let axis = |label| Axis::over(label, [0.0, 1.0].into_iter(), Form::Percent);
    let mut lines = Lines::new(axis("predicted"), axis("observed share"), series);
    lines.diagonal = true;
    let caption = format!(
        "What was predicted against the share that was taken, for {} held-out interactions and {} drawn items beside \
         them; on the dashed line predictions hold. ECE is the expected calibration error.",
        count(found.positives),
        count(found.exposures),
    );
    let figure = lines.draw(&Frame { id: "reliability", title: "Reliability", caption: &caption }, data);
    Ok(html!("<div class=\"grid\">{}</div>", figure))
}
