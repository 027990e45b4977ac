//! The planted ranking of a sample of users as a file, for evaluations outside the library.

use std::path::Path;

use serde::Serialize;

use super::error::SynthError;
use super::model::PlantedModel;
use super::write::publish;
use crate::context::Context;

/// How many users a truth file tells about, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruthSample {
    /// Users, spread evenly over all; all of them if there are no more.
    pub users: u64,
    /// Items for each user.
    pub items: usize,
}

/// One line of a truth file.
#[derive(Serialize)]
struct Line {
    user: String,
    items: Vec<String>,
    probabilities: Vec<f64>,
}

/// Writes the truth file `path`: one JSON object a line,
/// `{"user": "u3", "items": ["i9", …], "probabilities": [0.021, …]}`, with the items of the highest planted score (see
/// [`PlantedModel::scores`], averaged over the user's time) best first. Whole or not at all, as `save_synth`. Returns
/// the number of lines.
///
/// What a user has in the training part must be left out of a line before it is compared with recommendations, so ask
/// for more items than the comparison is over.
///
/// # Errors
/// [`SynthError::Storage`] if the file exists or cannot be written, or an interruption.
pub fn write_truth(
    model: &PlantedModel,
    sample: TruthSample,
    path: &Path,
    replace: bool,
    ctx: &Context,
) -> Result<u64, SynthError> {
    let all = model.config().users;
    let users = sample.users.min(all);
    publish(path, replace, |output| {
        for place in 0..users {
            ctx.check()?;
            let number = (u128::from(place) * u128::from(all) / u128::from(users)) as u32;
            let user = model.user_id(number);
            let top = model.top_items(&user, None, sample.items)?;
            let (items, probabilities) = top.into_iter().map(|(item, p)| (model.item_id(item), p)).unzip();
            let line = Line { user, items, probabilities };
            serde_json::to_writer(&mut *output, &line).map_err(|error| SynthError::Output(error.into()))?;
            output.write_all(b"\n").map_err(SynthError::Output)?;
        }
        output.flush().map_err(SynthError::Output)?;
        Ok(users)
    })
}
