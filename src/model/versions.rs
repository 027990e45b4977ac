//! The versions of a model: listed, one made current, old ones removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::published::{FORMAT, ITEM_IDS, ITEMS, USERS};
use super::{MODEL_FORMAT_VERSION, Model, ModelError, ModelManifest};
use crate::dataset::{ChangeKind, Dataset};
use crate::storage::{StorageError, VersionsLock, read_manifest, version_name, version_numbers, without_root};

/// A version of a model, as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelVersion {
    /// Its number, from 1.
    pub number: u32,
    /// Whether it is the one that is opened where none is named.
    pub current: bool,
    /// The newest version that was trained after users had been forgotten of whom this one has rows; none of which that is
    /// known. Forgetting leaves models alone, so that it is the next training or update that tells.
    pub predates_forgetting: Option<u32>,
    /// Why its manifest cannot be read, where it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// What its manifest says, where it can be read.
    #[serde(flatten)]
    pub facts: Option<VersionFacts>,
}

/// What the manifest of a version says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VersionFacts {
    /// When it was published: milliseconds since 1970. Models of the older layout do not say.
    pub published: Option<i64>,
    /// The version that it was updated from, if it was not trained from the start.
    pub updated_from: Option<u32>,
    /// Fingerprint of the dataset it was trained on.
    pub dataset_fingerprint: String,
    /// Identifies the content of its tables.
    pub fingerprint: String,
    /// Rows of the user table.
    pub users: u32,
    /// Rows of the item table.
    pub items: u32,
    /// Bytes of its files.
    pub bytes: u64,
    /// The build that wrote it.
    pub peccary: String,
}

/// All versions of the model at `path`, ascending. Reads their manifests alone, and lists those that it cannot read.
///
/// # Errors
/// If there is no model, or its manifest, which says which version is the current one, is damaged or of a newer format.
pub fn versions(path: impl AsRef<Path>) -> Result<Vec<ModelVersion>, ModelError> {
    let path = path.as_ref();
    let (current, all) = (current_of(path)?, readable(path)?);
    let mut listed: Vec<_> = all.iter().map(|manifest| described(manifest, &all, current)).collect();
    for number in there_are(path)? {
        let Err(error) = manifest_of(path, number) else { continue };
        // Unless it was pruned since the folder was listed.
        if there_are(path)?.contains(&number) {
            listed.push(ModelVersion {
                number,
                current: number == current,
                predates_forgetting: is_marked(&all, number),
                unreadable: Some(error.to_string()),
                facts: None,
            });
        }
    }
    listed.sort_by_key(|version| version.number);
    Ok(listed)
}

/// The manifests of the versions whose manifest can be read, ascending.
pub(crate) fn readable(path: &Path) -> Result<Vec<ModelManifest>, ModelError> {
    Ok(there_are(path)?.into_iter().filter_map(|number| manifest_of(path, number).ok()).collect())
}

/// Makes version `to` of the model at `path` the current one, or else the one that the current one was updated from, or
/// else the newest that is older: after an update that was rolled back there may be one between that nobody wants.
/// Nothing is removed, and whoever has a version open is undisturbed. The version is checked first, every byte of it.
///
/// # Errors
/// If there is no model or no such version, it is damaged, or another process is writing the model. Where the manifest of the
/// model itself is damaged, a version must be named.
pub fn rollback(path: impl AsRef<Path>, to: Option<u32>) -> Result<ModelVersion, ModelError> {
    let path = path.as_ref();
    // A version that is named needs no current one: this is how to get one again where the manifest at the root is damaged.
    let root = || match root_manifest(path) {
        Err(ModelError::Storage(StorageError::NoCurrent { .. })) if to.is_some() => Ok(None),
        manifest => manifest.map(Some),
    };
    root()?;
    let lock = VersionsLock::take(path)?;
    let (there, manifest) = (there_are(path)?, root()?);
    let older = || {
        let manifest = manifest.as_ref()?;
        let current = manifest.model_version;
        let parent = manifest.updated_from.filter(|parent| there.contains(parent));
        Some((current, parent.or_else(|| there.iter().rev().find(|number| **number < current).copied())))
    };
    let to = match (to, older()) {
        (Some(to), _) | (None, Some((_, Some(to)))) => to,
        (None, older) => {
            let current = older.map_or(0, |(current, _)| current);
            return Err(ModelError::NothingOlder { model: path.to_path_buf(), current, there });
        }
    };
    let model = Model::open_version(path, to)?;
    // What can fail does so before anything changes. A damaged version beside is no reason not to go back to a sound one.
    let all = readable(path)?;
    lock.make_current(to)?;
    Ok(described(model.manifest(), &all, to))
}

/// Removes all versions of the model at `path` but the `keep` newest and the current one; returns the numbers of those
/// removed. Versions whose manifest cannot be read do not count, and go with those that are older. Whoever has one open keeps it.
///
/// # Errors
/// If there is no model, `keep` is 0, or another process is writing the model.
pub fn prune(path: impl AsRef<Path>, keep: u32) -> Result<Vec<u32>, ModelError> {
    let path = path.as_ref();
    if keep == 0 {
        return Err(ModelError::KeepNone);
    }
    current_of(path)?;
    let lock = VersionsLock::take(path)?;
    // Again, behind the lock.
    let current = current_of(path)?;
    let sound = readable(path)?;
    let oldest = sound.len().checked_sub(keep as usize).map_or(0, |old| sound[old].model_version);
    let is_old = |number: &u32| *number < oldest && *number != current;
    let gone: Vec<u32> = there_are(path)?.into_iter().filter(is_old).collect();
    for number in &gone {
        lock.remove(*number)?;
    }
    // Files of the older layout that no manifest lists any more, also those that an interrupted prune left. Only the first
    // version can have such files.
    let mut listed = Vec::new();
    if there_are(path)?.contains(&1) {
        let Ok(manifest) = manifest_of(path, 1) else { return Ok(gone) };
        listed.extend(manifest.files.into_iter().map(|file| file.path));
    }
    for name in [USERS, ITEMS, ITEM_IDS, crate::runlog::NAME] {
        if !listed.iter().any(|path| path == name) {
            lock.remove_file(name)?;
        }
    }
    Ok(gone)
}

/// The version of the model at `path` that `run` has trained, and whether it is the current one; `None` if there is none that
/// can be read. Reads manifests alone.
pub(crate) fn version_of_run(path: &Path, run: &str) -> Option<(u32, bool)> {
    let current = current_of(path).ok()?;
    let is_of = |number: &u32| manifest_of(path, *number).is_ok_and(|m| m.run.as_deref() == Some(run));
    let number = there_are(path).ok()?.into_iter().rev().find(is_of)?;
    Some((number, number == current))
}

/// `MODEL@N` as a path and a version; all of it as a path if it names something, or does not end so.
pub(crate) fn split_version(name: &Path) -> (PathBuf, Option<u32>) {
    let whole = || (name.to_path_buf(), None);
    let Some((path, number)) = name.to_str().and_then(|text| text.rsplit_once('@')) else { return whole() };
    match number.parse() {
        Ok(number) if !path.is_empty() && !name.exists() => (PathBuf::from(path), Some(number)),
        _ => whole(),
    }
}

/// The manifest of version `number`.
pub(super) fn manifest_of(path: &Path, number: u32) -> Result<ModelManifest, ModelError> {
    let own = path.join(version_name(number));
    if own.is_dir() {
        return Ok(read_manifest(&own, FORMAT, MODEL_FORMAT_VERSION)?);
    }
    // The older layout has but the one at the root.
    let root: ModelManifest = read_manifest(path, FORMAT, MODEL_FORMAT_VERSION)?;
    if root.model_version == number { Ok(root) } else { Err(no_version(path, number)?) }
}

/// The numbers of the versions that there are, ascending.
pub(super) fn there_are(path: &Path) -> Result<Vec<u32>, ModelError> {
    Ok(version_numbers(path)?)
}

/// The error that there is no such version, or why that cannot be told.
pub(super) fn no_version(path: &Path, number: u32) -> Result<ModelError, ModelError> {
    // That it is a model at all.
    match current_of(path) {
        Err(ModelError::Storage(StorageError::NoCurrent { .. })) => {}
        other => _ = other?,
    }
    Ok(ModelError::NoVersion { model: path.to_path_buf(), number, there: there_are(path)? })
}

pub(crate) fn current_of(path: &Path) -> Result<u32, ModelError> {
    Ok(root_manifest(path)?.model_version)
}

/// The manifest of the current version.
pub(super) fn root_manifest(path: &Path) -> Result<ModelManifest, ModelError> {
    let manifest = read_manifest(path, FORMAT, MODEL_FORMAT_VERSION);
    manifest.map_err(|error| without_root(path, FORMAT, error).into())
}

/// The versions in `folder` that have rows of users who were forgotten in `dataset` since they were trained, or in another
/// one before that, as versions beside them remember. What cannot be read is passed over, unless it is remembered.
pub(super) fn predate_forgetting(folder: &Path, dataset: &Dataset) -> Result<Vec<u32>, ModelError> {
    let all = readable(folder)?;
    let hole = dataset.users().forgotten().next();
    let is_old = |manifest: &ModelManifest| {
        // Of a dataset that holds out what the version has learnt nothing tells how old it is: rather once too often.
        let all = dataset.withholds_from(&manifest.dataset).then_some(&dataset.manifest().changes[..]);
        let since = all.or_else(|| dataset.changes_since(&manifest.dataset)).unwrap_or_default();
        let forgets = since.iter().filter(|change| change.kind == ChangeKind::Forget);
        forgets.filter_map(|change| change.lowest.or(hole)).any(|lowest| lowest < manifest.users)
    };
    let old = all.iter().filter(|manifest| is_old(manifest)).map(|manifest| manifest.model_version);
    let remembered = all.iter().flat_map(|manifest| manifest.predate_forgetting.iter().copied());
    let there = there_are(folder)?;
    let old: BTreeSet<u32> = old.chain(remembered).filter(|number| there.contains(number)).collect();
    Ok(old.into_iter().collect())
}

/// The newest of `all` versions that knows version `number` to have rows of users who were forgotten.
fn is_marked(all: &[ModelManifest], number: u32) -> Option<u32> {
    all.iter().rev().find(|other| other.predate_forgetting.contains(&number)).map(|other| other.model_version)
}

/// What is listed of one of `all` versions.
fn described(manifest: &ModelManifest, all: &[ModelManifest], current: u32) -> ModelVersion {
    let number = manifest.model_version;
    ModelVersion {
        number,
        current: number == current,
        predates_forgetting: is_marked(all, number),
        unreadable: None,
        facts: Some(VersionFacts {
            published: manifest.published,
            updated_from: manifest.updated_from,
            dataset_fingerprint: manifest.dataset.clone(),
            fingerprint: manifest.fingerprint(),
            users: manifest.users,
            items: manifest.items,
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            peccary: manifest.peccary.clone(),
        }),
    }
}
