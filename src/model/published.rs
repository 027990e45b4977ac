//! A published model: an immutable folder of two factor tables, the item dictionary and a manifest.

use std::path::{Path, PathBuf};

use super::{Calibration, Factors, MODEL_FORMAT_VERSION, ModelError, ModelManifest};
use crate::dataset::{Dataset, Dictionary};
use crate::storage::{FileRecord, Staging, read_manifest, replace_manifest, write_manifest};

const USERS: &str = "users.factors";
const ITEMS: &str = "items.factors";
const ITEM_IDS: &str = "items.dict";

/// An open model.
pub struct Model {
    path: PathBuf,
    manifest: ModelManifest,
    users: Factors,
    items: Factors,
    item_ids: Dictionary,
}

impl Model {
    /// Opens the model at `path` and compares every byte of it with its checksum.
    ///
    /// # Errors
    /// If it is no model, of a newer format, damaged, or inconsistent.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let manifest: ModelManifest = read_manifest(path, "peccary-model", MODEL_FORMAT_VERSION)?;
        let inconsistent = |reason: &str| ModelError::Inconsistent { path: path.to_path_buf(), reason: reason.into() };
        let file = |name: &str| -> Result<&FileRecord, ModelError> {
            let found = manifest.files.iter().find(|f| f.path == name);
            found.ok_or_else(|| inconsistent(&format!("the manifest does not list {name}")))
        };
        let users = Factors::open(path, file(USERS)?)?;
        let items = Factors::open(path, file(ITEMS)?)?;
        let item_ids = Dictionary::open(path, file(ITEM_IDS)?)?;
        if users.rows() != manifest.users as usize
            || items.rows() != manifest.items as usize
            || item_ids.len() != manifest.items
            || users.width() != items.width()
            || users.width() != manifest.dimensions.saturating_add(if manifest.biases { 2 } else { 0 })
        {
            return Err(inconsistent("the tables' shapes differ from the manifest"));
        }
        Ok(Self { path: path.to_path_buf(), manifest, users, items, item_ids })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its manifest says.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// User factors: one row a user of the dataset.
    pub fn users(&self) -> &Factors {
        &self.users
    }

    /// Item factors: one row an item of the dataset.
    pub fn items(&self) -> &Factors {
        &self.items
    }

    /// Original item ids by row.
    pub fn item_ids(&self) -> &Dictionary {
        &self.item_ids
    }

    /// Keeps `calibration` in the manifest of the model at `path`, in place of one that is there, and nothing else of it
    /// changes; `None` removes it. The manifest is replaced in one step.
    ///
    /// # Errors
    /// If there is no model, or its manifest cannot be read or written.
    pub fn keep_calibration(path: impl AsRef<Path>, calibration: Option<Calibration>) -> Result<(), ModelError> {
        let path = path.as_ref();
        let mut manifest: ModelManifest = read_manifest(path, "peccary-model", MODEL_FORMAT_VERSION)?;
        manifest.calibration = calibration;
        Ok(replace_manifest(path, "peccary-model", MODEL_FORMAT_VERSION, &manifest)?)
    }

    /// Makes sure that `dataset` is the one that this model was trained on.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`], naming both.
    pub fn check_dataset(&self, dataset: &Dataset) -> Result<(), ModelError> {
        if self.manifest.dataset == dataset.fingerprint() {
            return Ok(());
        }
        Err(ModelError::Mismatch {
            model: self.path.clone(),
            dataset: dataset.path().to_path_buf(),
            trained_on: self.manifest.dataset.clone(),
            given: dataset.fingerprint().to_string(),
        })
    }
}

/// Writes a model beside `target` and makes it appear there whole. `user_row(i, out)` and `item_row(i, out)` fill the
/// `width` floats of a row. The tables and ids are added to `manifest.files`, in front of what is
/// in the folder already. `target` was claimed by `staging` before training.
pub(crate) fn publish(
    staging: Staging,
    mut manifest: ModelManifest,
    dataset: &Dataset,
    width: usize,
    user_row: impl FnMut(usize, &mut [f32]),
    item_row: impl FnMut(usize, &mut [f32]),
) -> Result<ModelManifest, ModelError> {
    let folder = staging.path();
    let users = Factors::write(&folder.join(USERS), USERS, manifest.users as usize, width, user_row)?;
    let items = Factors::write(&folder.join(ITEMS), ITEMS, manifest.items as usize, width, item_row)?;
    let ids = dataset.items().copy_to(&folder.join(ITEM_IDS), ITEM_IDS)?;
    manifest.files = [users, items, ids].into_iter().chain(manifest.files).collect();
    write_manifest(folder, "peccary-model", MODEL_FORMAT_VERSION, &manifest)?;
    staging.publish()?;
    Ok(manifest)
}
