//! A published version of a model: two factor tables, the item dictionary and a manifest, never changed.

use std::path::{Path, PathBuf};

use super::versions::{
    current_of, manifest_of, no_version, predate_forgetting, root_manifest, split_version, there_are,
};
use super::{Calibration, Factors, MODEL_FORMAT_VERSION, ModelError, ModelManifest};
use crate::context::Context;
use crate::dataset::{Appended, Change, ChangeKind, Dataset, Dictionary};
use crate::storage::{FileRecord, NewVersion, VersionsLock, replace_manifest, version_name};

pub(super) const USERS: &str = "users.factors";
pub(super) const ITEMS: &str = "items.factors";
pub(super) const ITEM_IDS: &str = "items.dict";
const MANIFEST: &str = "manifest.json";
pub(super) const FORMAT: &str = "peccary-model";

/// An open version of a model. It stays readable whatever is published, rolled back or pruned meanwhile.
pub struct Model {
    path: PathBuf,
    manifest: ModelManifest,
    users: Factors,
    items: Factors,
    item_ids: Dictionary,
}

impl Model {
    /// Opens the current version of the model at `path` and compares every byte of it with its checksum.
    ///
    /// # Errors
    /// If it is no model, of a newer format, damaged, or inconsistent.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        loop {
            let before = std::fs::read(path.join(MANIFEST)).ok();
            let opened = root_manifest(path).and_then(|manifest| Self::open_files(path, manifest));
            // The version may have been replaced and pruned between: then there is another to open.
            if opened.is_ok() || before == std::fs::read(path.join(MANIFEST)).ok() {
                return opened;
            }
        }
    }

    /// Opens version `number` of the model at `path`, as [`Model::open`] does the current one.
    ///
    /// # Errors
    /// Those of [`Model::open`], and [`ModelError::NoVersion`] if there is no such version, or no more.
    pub fn open_version(path: impl AsRef<Path>, number: u32) -> Result<Self, ModelError> {
        let path = path.as_ref();
        let opened = manifest_of(path, number).and_then(|manifest| Self::open_files(path, manifest));
        // It may have been pruned between.
        match opened {
            Err(error) if there_are(path).is_ok_and(|numbers| numbers.contains(&number)) => Err(error),
            Err(_) => Err(no_version(path, number)?),
            opened => opened,
        }
    }

    /// Opens what a command line names: the current version of the model at `name`, or of `MODEL@N` version N. A folder
    /// whose own name ends like that goes first.
    ///
    /// # Errors
    /// Those of [`Model::open`] and [`Model::open_version`].
    pub fn open_named(name: impl AsRef<Path>) -> Result<Self, ModelError> {
        match split_version(name.as_ref()) {
            (path, Some(number)) => Self::open_version(path, number),
            (path, None) => Self::open(path),
        }
    }

    fn open_files(path: &Path, manifest: ModelManifest) -> Result<Self, ModelError> {
        let inconsistent = |reason: &str| ModelError::Inconsistent { path: path.to_path_buf(), reason: reason.into() };
        let file = |name: &str| -> Result<&FileRecord, ModelError> {
            let own = format!("{}/{name}", version_name(manifest.model_version));
            let found = manifest.files.iter().find(|f| f.path == own || f.path == name);
            found.ok_or_else(|| inconsistent(&format!("the manifest does not list {own}")))
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

    /// The number of the version that is open, from 1.
    pub fn version(&self) -> u32 {
        self.manifest.model_version
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

    /// Keeps `calibration` in the manifest of this version, current or not, in place of one that is there, and nothing else
    /// of the model changes; `None` removes it. The manifest is replaced in one step. What is open here stays as it was.
    ///
    /// # Errors
    /// If the version is no more, its manifest cannot be read or written, or another process is writing the model.
    pub fn keep_calibration(&self, calibration: Option<Calibration>) -> Result<(), ModelError> {
        let (path, number) = (&self.path, self.version());
        // That it is still a model, before a lock is put into it.
        current_of(path)?;
        let lock = VersionsLock::take(path)?;
        lock.keep_first()?;
        let mut manifest = manifest_of(path, number)?;
        // A model that was trained anew by --force has the same numbers again.
        if manifest.fingerprint() != self.manifest.fingerprint() {
            return Err(no_version(path, number)?);
        }
        manifest.calibration = calibration;
        replace_manifest(&path.join(version_name(number)), FORMAT, MODEL_FORMAT_VERSION, &manifest)?;
        if current_of(path)? == number {
            lock.make_current(number)?;
        }
        Ok(())
    }

    /// Makes sure that `dataset` is the one that this model was trained on, whatever was appended or forgotten since: ids
    /// keep their numbers, so that rows are those of the first users and items.
    ///
    /// # Errors
    /// [`ModelError::Mismatch`], naming both; [`ModelError::LearntTest`] if the dataset holds out what the model has learnt.
    pub fn check_dataset(&self, dataset: &Dataset) -> Result<(), ModelError> {
        if dataset.changes_since(&self.manifest.dataset).is_some() {
            return Ok(());
        }
        if dataset.withholds_from(&self.manifest.dataset) {
            let (model, version, dataset) = (self.path.clone(), self.version(), dataset.path().to_path_buf());
            return Err(ModelError::LearntTest { model, version, dataset });
        }
        Err(self.mismatch(dataset))
    }

    fn mismatch(&self, dataset: &Dataset) -> ModelError {
        ModelError::Mismatch {
            model: self.path.clone(),
            version: self.version(),
            dataset: dataset.path().to_path_buf(),
            trained_on: self.manifest.dataset.clone(),
            given: dataset.fingerprint().to_string(),
            held_out: dataset.manifest().changes.iter().any(|change| change.kind == ChangeKind::HoldOut),
        }
    }

    /// What was appended to the train part of `dataset` since this model was trained, for an update.
    ///
    /// # Errors
    /// Those of [`Model::check_dataset`]; [`ModelError::HeldOut`] if all of that is held out.
    pub(crate) fn news(&self, dataset: &Dataset) -> Result<Appended, ModelError> {
        self.check_dataset(dataset)?;
        if self.is_held_out(dataset) {
            return Err(self.held_out(dataset));
        }
        dataset.appended_since(&self.manifest.dataset)?.ok_or_else(|| self.mismatch(dataset))
    }

    /// Whether `dataset` was made by holding out since this model was trained.
    fn is_held_out(&self, dataset: &Dataset) -> bool {
        let since = dataset.changes_since(&self.manifest.dataset).unwrap_or_default();
        since.iter().any(|change| change.kind == ChangeKind::HoldOut)
    }

    fn held_out(&self, dataset: &Dataset) -> ModelError {
        let (model, version, dataset) = (self.path.clone(), self.version(), dataset.path().to_path_buf());
        ModelError::HeldOut { model, version, dataset }
    }

    /// Makes sure that `dataset` has the users, items and pairs in train that this model was trained on, and no others
    /// since: an update would have nothing to do. Held-out interactions of theirs may have been appended.
    ///
    /// # Errors
    /// Those of [`Model::check_dataset`], [`ModelError::Changed`] or [`ModelError::HeldOut`], naming both.
    pub fn check_unchanged(&self, dataset: &Dataset) -> Result<(), ModelError> {
        self.check_dataset(dataset)?;
        if self.is_held_out(dataset) {
            return Err(self.held_out(dataset));
        }
        let since = dataset.changes_since(&self.manifest.dataset).unwrap_or_default();
        let ids = (dataset.users().len(), dataset.items().len());
        let is_new = |change: &Change| change.trained > 0 || change.kind == ChangeKind::Forget;
        if !since.iter().any(is_new) && ids == (self.manifest.users, self.manifest.items) {
            return Ok(());
        }
        let (model, version, dataset) = (self.path.clone(), self.version(), dataset.path().to_path_buf());
        Err(ModelError::Changed { model, version, dataset })
    }
}

/// Writes the files of `version`, which was begun before training, and makes it the current one. `user_row(i, out)` and
/// `item_row(i, out)` fill the `width` floats of a row. The number and the time of `manifest` are filled in here; the tables
/// and ids are added to its files, in front of what is in the folder already.
pub(crate) fn publish(
    version: NewVersion,
    mut manifest: ModelManifest,
    dataset: &Dataset,
    width: usize,
    user_row: impl FnMut(usize, &mut [f32]),
    item_row: impl FnMut(usize, &mut [f32]),
) -> Result<ModelManifest, ModelError> {
    let file = |name: &str| (version.path().join(name), version.relative(name));
    let (path, relative) = file(USERS);
    let users = Factors::write(&path, &relative, manifest.users as usize, width, user_row)?;
    let (path, relative) = file(ITEMS);
    let items = Factors::write(&path, &relative, manifest.items as usize, width, item_row)?;
    let (path, relative) = file(ITEM_IDS);
    // Who interrupts now does not mean what was learnt to be lost.
    let ids = dataset.items().copy_to(&path, &relative, &Context::default())?;
    manifest.files = [users, items, ids].into_iter().chain(manifest.files).collect();
    manifest.model_version = version.number();
    manifest.predate_forgetting = match version.beside() {
        Some(folder) => predate_forgetting(folder, dataset)?,
        None => Vec::new(),
    };
    manifest.published = Some(crate::runlog::now());
    version.publish(MODEL_FORMAT_VERSION, &manifest)?;
    Ok(manifest)
}
