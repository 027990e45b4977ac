//! Folders with numbered versions: the manifest at the root is that of the current one, all stay readable until pruned.
//!
//! ```text
//! manifest.json           the current version's: the same bytes as its own
//! v000001/manifest.json   …and the files that it lists, by their paths from the root
//! v000002/…
//! .lock                   held by whoever changes the folder
//! .tmp-…                  versions in the making, and those being removed
//! ```
//!
//! A folder of the older layout has its files at the root and no version's folder: that is its version 1.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::disk;
use super::error::{IoContext, StorageError};
use super::folder::{FolderLock, create_folder, remove_file, remove_folder};
use super::manifest::{NAME, read_format, read_manifest, write_manifest};
use super::publish::{Staging, replace_file, sync_folder};
use super::temporary::Temporary;

/// How names of what is not yet, or no longer, a version begin.
const TEMPORARY: &str = ".tmp-";

/// The name of a version's folder.
pub(crate) fn version_name(number: u32) -> String {
    format!("v{number:06}")
}

fn version_of(name: &str) -> Option<u32> {
    let number = name.strip_prefix('v')?.parse().ok()?;
    (version_name(number) == name).then_some(number)
}

/// The numbers of all versions in `folder`, ascending, also of those that have lost their manifest. In the older layout that
/// is 1.
pub(crate) fn version_numbers(folder: &Path) -> Result<Vec<u32>, StorageError> {
    let mut numbers = Vec::new();
    for entry in folder.read_dir().at(folder, "list")? {
        let entry = entry.at(folder, "list")?;
        if let Some(number) = version_of(&entry.file_name().to_string_lossy())
            && entry.path().is_dir()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    if numbers.is_empty() && folder.join(NAME).is_file() {
        numbers.push(1);
    }
    Ok(numbers)
}

/// What `error`, of reading the manifest at the root of `folder`, comes to where there are versions whose own manifests can
/// be read: that one of them can be made the current one.
pub(crate) fn without_root(folder: &Path, format: &str, error: StorageError) -> StorageError {
    match error {
        StorageError::Damaged { .. } | StorageError::NotOne { .. } => no_current(folder, format).unwrap_or(error),
        other => other,
    }
}

/// That versions in `folder` have manifests that can be read, for where that at the root is none.
pub(crate) fn no_current(folder: &Path, format: &str) -> Option<StorageError> {
    let is_sound = |number: &u32| {
        read_manifest::<serde_json::Value>(&folder.join(version_name(*number)), format, u32::MAX).is_ok()
    };
    let sound: Vec<u32> = version_numbers(folder).unwrap_or_default().into_iter().filter(is_sound).collect();
    (!sound.is_empty()).then(|| StorageError::NoCurrent { path: folder.to_path_buf(), sound })
}

/// The right to change the versions in a folder. The system lets go of it with the process.
pub(crate) struct VersionsLock {
    folder: PathBuf,
    _lock: FolderLock,
}

impl VersionsLock {
    /// Takes it, and removes what a killed process left half made or half removed.
    ///
    /// # Errors
    /// [`StorageError::Busy`] if another process has it.
    pub(crate) fn take(folder: &Path) -> Result<Self, StorageError> {
        let busy = || StorageError::Busy { path: folder.to_path_buf() };
        let lock = Self { folder: folder.to_path_buf(), _lock: FolderLock::claim(folder)?.ok_or_else(busy)? };
        lock.tidy()?;
        Ok(lock)
    }

    /// Removes temporary folders: nobody else is at work here. A version appears whole and goes whole: one without a manifest
    /// has lost it, and is kept.
    fn tidy(&self) -> Result<(), StorageError> {
        for entry in self.folder.read_dir().at(&self.folder, "list")? {
            let entry = entry.at(&self.folder, "list")?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes `number` the current version, in one step.
    pub(crate) fn make_current(&self, number: u32) -> Result<(), StorageError> {
        self.keep_first()?;
        let own = self.folder.join(version_name(number)).join(NAME);
        let bytes = std::fs::read(&own).at(&own, "read")?;
        replace_file(&self.folder.join(NAME), &bytes)
    }

    /// Removes version `number`, which must not be the current one. Whoever has its files open keeps them.
    pub(crate) fn remove(&self, number: u32) -> Result<(), StorageError> {
        let gone = self.folder.join(format!("{TEMPORARY}{}", version_name(number)));
        let path = self.folder.join(version_name(number));
        disk::rename(&path, &gone).at(&path, "rename")?;
        sync_folder(&self.folder)?;
        remove_folder(&gone)
    }

    /// Removes the file `name` of the root, if it is there: one of a version of the older layout that is no more.
    pub(crate) fn remove_file(&self, name: &str) -> Result<(), StorageError> {
        remove_file(&self.folder.join(name))
    }

    /// Gives the only version of the older layout a folder with its manifest; its files stay where they are.
    pub(crate) fn keep_first(&self) -> Result<(), StorageError> {
        let first = self.folder.join(version_name(1));
        if version_numbers(&self.folder)? != [1] || first.exists() {
            return Ok(());
        }
        let making = temporary(&self.folder)?;
        let root = self.folder.join(NAME);
        let bytes = std::fs::read(&root).at(&root, "read")?;
        replace_file(&making.path().join(NAME), &bytes)?;
        self.appear(making, 1)
    }

    /// Makes a folder with a manifest, synced, version `number`.
    fn appear(&self, making: Temporary, number: u32) -> Result<(), StorageError> {
        sync_folder(making.path())?;
        making.put(&self.folder.join(version_name(number)), false)
    }
}

fn temporary(folder: &Path) -> Result<Temporary, StorageError> {
    Temporary::folder(folder, TEMPORARY).at(folder, "create a folder in it")
}

/// A version in the making. Dropping it without [`NewVersion::publish`] leaves everything as it was.
pub(crate) struct NewVersion {
    place: Place,
    number: u32,
    format: &'static str,
}

enum Place {
    /// The first version of a folder that is yet to appear, or that replaces another, which is locked.
    Whole { staging: Staging, folder: PathBuf, _replaced: Option<VersionsLock> },
    /// A further version of one that is there.
    Within { making: Temporary, lock: VersionsLock },
}

impl NewVersion {
    /// Starts the next version of `target`, in `format`, such as `peccary-model`: the first where nothing is there yet, or
    /// with `force`, which replaces the folder with all its versions. Until this is published or dropped, nobody else can
    /// change the versions that are there. Two first ones may be begun at once: who is second to publish is refused then.
    ///
    /// # Errors
    /// [`StorageError::Busy`] if another process is at work on it; if something else is there.
    pub(crate) fn begin(target: &Path, force: bool, format: &'static str) -> Result<Self, StorageError> {
        let there = target.is_dir() && read_format(target, "folder").is_ok_and(|found| found == format);
        if let Some(error) = no_current(target, format).filter(|_| !there) {
            return Err(error);
        }
        if there && !force {
            let lock = VersionsLock::take(target)?;
            let number = version_numbers(target)?.last().map_or(1, |last| last.saturating_add(1));
            return Ok(Self { place: Place::Within { making: temporary(target)?, lock }, number, format });
        }
        let replaced = if there { Some(VersionsLock::take(target)?) } else { None };
        let staging = Staging::new(target, force, format)?;
        let folder = staging.path().join(version_name(1));
        create_folder(&folder)?;
        Ok(Self { place: Place::Whole { staging, folder, _replaced: replaced }, number: 1, format })
    }

    /// Its number, from 1.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Where to write its files, and others for the time being.
    pub(crate) fn path(&self) -> &Path {
        match &self.place {
            Place::Whole { folder, .. } => folder,
            Place::Within { making, .. } => making.path(),
        }
    }

    /// The folder with the versions that there are beside it, which stay.
    pub(crate) fn beside(&self) -> Option<&Path> {
        match &self.place {
            Place::Whole { .. } => None,
            Place::Within { lock, .. } => Some(&lock.folder),
        }
    }

    /// The path from the root that the file `name` will have.
    pub(crate) fn relative(&self, name: &str) -> String {
        format!("{}/{name}", version_name(self.number))
    }

    /// Writes its manifest and makes it the current version. Its files must have been synced.
    pub(crate) fn publish(self, version: u32, manifest: &impl Serialize) -> Result<(), StorageError> {
        write_manifest(self.path(), self.format, version, manifest)?;
        match self.place {
            Place::Whole { staging, _replaced, .. } => {
                write_manifest(staging.path(), self.format, version, manifest)?;
                staging.publish()
            }
            Place::Within { making, lock } => {
                lock.keep_first()?;
                lock.appear(making, self.number)?;
                lock.make_current(self.number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const FORMAT: &str = "peccary-model";

    fn publish(target: &Path, name: &str) -> u32 {
        let version = NewVersion::begin(target, false, FORMAT).unwrap();
        std::fs::write(version.path().join("rows"), name).unwrap();
        let (number, rows) = (version.number(), version.relative("rows"));
        version.publish(1, &json!({ "name": name, "rows": rows })).unwrap();
        number
    }

    fn current(target: &Path) -> String {
        let manifest: Value = read_manifest(target, FORMAT, 1).unwrap();
        let rows = std::fs::read_to_string(target.join(manifest["rows"].as_str().unwrap())).unwrap();
        assert_eq!(manifest["name"], rows);
        rows
    }

    #[test]
    fn versions_are_added_rolled_back_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("m");
        assert_eq!([publish(&target, "a"), publish(&target, "b"), publish(&target, "c")], [1, 2, 3]);
        assert_eq!((version_numbers(&target).unwrap(), current(&target)), (vec![1, 2, 3], "c".to_string()));
        let lock = VersionsLock::take(&target).unwrap();
        lock.make_current(1).unwrap();
        assert_eq!(current(&target), "a");
        lock.remove(3).unwrap();
        lock.remove(2).unwrap();
        drop(lock);
        assert_eq!((version_numbers(&target).unwrap(), publish(&target, "d")), (vec![1], 2));
        let mut left: Vec<_> = target.read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "manifest.json", "v000001", "v000002"]);
    }

    #[test]
    fn one_at_a_time_and_what_is_dropped_or_left_by_a_killed_process_goes() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("m");
        for force in [false, true] {
            drop(NewVersion::begin(&target, force, FORMAT).unwrap());
            assert_eq!(root.path().read_dir().unwrap().count(), 0, "nothing is left");
        }
        let second = NewVersion::begin(&target, false, FORMAT).unwrap();
        publish(&target, "a");
        assert!(matches!(second.publish(1, &json!({})), Err(StorageError::Exists { .. })));
        assert_eq!((version_numbers(&target).unwrap(), current(&target)), (vec![1], "a".to_string()));
        for force in [false, true] {
            let first = NewVersion::begin(&target, force, FORMAT).unwrap();
            assert!(matches!(VersionsLock::take(&target).err(), Some(StorageError::Busy { .. })));
            assert!(matches!(NewVersion::begin(&target, true, FORMAT).err(), Some(StorageError::Busy { .. })));
            drop(first);
        }
        std::fs::create_dir(target.join(".tmp-x")).unwrap();
        std::fs::create_dir(target.join("v000009")).unwrap();
        assert_eq!((publish(&target, "b"), current(&target)), (10, "b".to_string()));
        assert!(!target.join(".tmp-x").exists() && target.join("v000009").exists(), "what was a version is kept");
        assert_eq!(version_numbers(&target).unwrap(), [1, 9, 10]);
        // Anew: the versions so far go.
        let version = NewVersion::begin(&target, true, FORMAT).unwrap();
        std::fs::write(version.path().join("rows"), "z").unwrap();
        let rows = version.relative("rows");
        version.publish(1, &json!({ "name": "z", "rows": rows })).unwrap();
        assert_eq!((version_numbers(&target).unwrap(), current(&target)), (vec![1], "z".to_string()));
        assert_eq!(root.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn the_older_layout_is_version_one() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("m");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("rows"), "old").unwrap();
        write_manifest(&target, FORMAT, 1, &json!({ "name": "old", "rows": "rows" })).unwrap();
        let before = std::fs::read(target.join(NAME)).unwrap();
        assert_eq!(version_numbers(&target).unwrap(), [1]);
        assert_eq!((publish(&target, "b"), version_numbers(&target).unwrap()), (2, vec![1, 2]));
        let lock = VersionsLock::take(&target).unwrap();
        lock.make_current(1).unwrap();
        assert_eq!((current(&target), std::fs::read(target.join(NAME)).unwrap()), ("old".to_string(), before));
    }
}
