//! A folder that is a dataset or a model, whichever it turns out to be.

use std::path::Path;

use crate::dataset::{Dataset, DatasetError};
use crate::model::{Model, ModelError, split_version};
use crate::storage::{StorageError, no_current, read_format};

/// What a folder holds.
pub enum Stored {
    /// A dataset.
    Dataset(Box<Dataset>),
    /// A model.
    Model(Box<Model>),
}

/// A folder could not be opened as a dataset or model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// It cannot be read, or is neither.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The dataset cannot be opened.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The model cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Stored {
    /// Opens the dataset or model at `path`, comparing every byte with its checksum: of a model the current version, or
    /// version N where `path` is `MODEL@N`.
    ///
    /// # Errors
    /// If it is neither, of a newer format, or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoredError> {
        let path = path.as_ref();
        if split_version(path).1.is_some() {
            return Ok(Self::Model(Box::new(Model::open_named(path)?)));
        }
        let format = read_format(path, "dataset or model");
        match format.as_deref() {
            Ok("peccary-model") => Ok(Self::Model(Box::new(Model::open(path)?))),
            Ok("peccary-dataset") => Ok(Self::Dataset(Box::new(Dataset::open(path)?))),
            _ => {
                no_current(path, "peccary-model").map_or(Ok(()), Err)?;
                format?;
                Ok(Self::Dataset(Box::new(Dataset::open(path)?)))
            }
        }
    }
}
