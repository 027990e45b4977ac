//! The manifest of a model: every hyperparameter, what it was trained on, and how training went.

use serde::{Deserialize, Serialize};

use super::Calibration;
use crate::storage::{FileRecord, fingerprint, is_plain};

/// How a user's and an item's factors make a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// The dot product of the two rows.
    #[default]
    Dot,
    /// The cosine of the angle between the two rows.
    Cosine,
}

impl Similarity {
    /// The margin that scores are compared with by default: cosines span only −1 to 1.
    pub(crate) fn margin(self) -> f64 {
        match self {
            Self::Dot => 1.0,
            Self::Cosine => 0.1,
        }
    }
}

/// What `manifest.json` of a model says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelManifest {
    /// The build that wrote it.
    pub peccary: String,
    /// The number of this version of the model, from 1. Models of the older layout have none: they are version 1.
    #[serde(default = "first")]
    pub model_version: u32,
    /// The version that this one was updated from; none of models that were trained from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_from: Option<u32>,
    /// When it was published: milliseconds since 1970. Models of the older layout do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<i64>,
    /// Identifies the run that trained it: a checkpoint of that run is of no more use. Random; updates have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The versions, of those that there were, that had been trained on this dataset before users were forgotten: they
    /// have rows of these users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predate_forgetting: Vec<u32>,
    /// Fingerprint of the dataset it was trained on.
    pub dataset: String,
    /// Rows of the user table.
    pub users: u32,
    /// Rows of the item table.
    pub items: u32,
    /// Learnt factors a row, without biases.
    pub dimensions: usize,
    /// Whether rows carry biases: two more columns, so that scores stay plain dot products.
    pub biases: bool,
    /// Similarity it was trained for. Tables of cosine models are stored with rows of unit length.
    pub similarity: Similarity,
    /// The training configuration as used.
    pub config: serde_json::Value,
    /// What training measured, epoch by epoch.
    pub history: serde_json::Value,
    /// What makes probabilities of its scores, if that was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Every other file of the model.
    pub files: Vec<FileRecord>,
}

fn first() -> u32 {
    1
}

impl ModelManifest {
    /// Identifies the content of the tables, whatever the run log says.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.files.iter().filter(|f| !is_plain(&f.path)).map(|f| f.checksum.as_bytes()))
    }
}
