//! Opening a dataset: everything is mapped and checked, nothing is loaded.

use std::path::{Path, PathBuf};

use rkyv::rend::u32_le;

use super::contexts::{Contexts, VALUES};
use super::dictionary::Dictionary;
use super::exposures::Exposures;
use super::interactions::Interactions;
use super::live::{CONTEXTS, EXPOSURES, LiveChunks, record};
use super::manifest::{Change, Layout, Manifest};
use super::pairs::{Appended, Listed, Pairs};
use super::popularity::Popularity;
use super::{DatasetError, FORMAT, FORMAT_VERSION, ITEMS, POPULARITY, Part, USERS};
use crate::storage::{FileRecord, read_manifest};

/// An open dataset: an immutable folder of memory-mapped files. What is appended to it, compacted or forgotten later makes
/// new files, and does not disturb it.
pub struct Dataset {
    path: PathBuf,
    manifest: Manifest,
    users: Dictionary,
    items: Dictionary,
    popularity: Popularity,
    live: LiveChunks,
    parts: Vec<(Part, Interactions)>,
    exposures: Option<Exposures>,
    contexts: Option<Contexts>,
}

impl Dataset {
    /// Opens the dataset at `path` and compares every byte of it with its checksum.
    ///
    /// Reads all files once (about 10 GiB a second and core from the page cache) and keeps a few bytes for every
    /// 65,536 interactions. If the dataset is changed meanwhile, it is opened as it is after that.
    ///
    /// # Errors
    /// If it is no dataset, of a newer format, damaged, or inconsistent.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let mut manifest: Manifest = read_manifest(path, FORMAT, FORMAT_VERSION)?;
        loop {
            let files = manifest.files.clone();
            let error = match Self::open_as(path, manifest) {
                Err(error) => error,
                opened => return opened,
            };
            // Files go when they are no more needed: those of the manifest that has replaced this one are there.
            manifest = read_manifest(path, FORMAT, FORMAT_VERSION)?;
            if manifest.files == files {
                return Err(error);
            }
        }
    }

    /// Opens what `manifest` lists.
    pub(crate) fn open_as(path: &Path, manifest: Manifest) -> Result<Self, DatasetError> {
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: path.to_path_buf(), reason };
        let files = &manifest.files;
        let chain = |names: &[String]| -> Result<Dictionary, DatasetError> {
            let records = names.iter().map(|name| record(path, files, name)).collect::<Result<Vec<_>, _>>()?;
            Ok(Dictionary::open_chain(path, &records)?)
        };
        let first = Layout {
            users: vec![USERS.into()],
            items: vec![ITEMS.into()],
            popularity: POPULARITY.into(),
            contexts: Some(VALUES.into()),
            ..Layout::default()
        };
        let layout = manifest.layout.as_ref().unwrap_or(&first);
        let (users, items) = (chain(&layout.users)?, chain(&layout.items)?);
        let popularity = Popularity::open(path, record(path, files, &layout.popularity)?)?;
        let (u, i, p) = (users.len(), items.len(), popularity.counts().len());
        if (u, i, p) != (manifest.users, manifest.items, i as usize) {
            return Err(inconsistent(format!("{u} user ids, {i} item ids and {p} popularities")));
        }
        let live = match &manifest.layout {
            Some(layout) => LiveChunks::open(path, record(path, files, &layout.chunks)?)?,
            None => LiveChunks::all(files),
        };
        let numbers = || manifest.changes.iter().map(|change| change.number);
        if !numbers().is_sorted_by(|a, b| a < b) || numbers().any(|number| number == u32::MAX) {
            return Err(inconsistent("the changes are not numbered in their order".to_string()));
        }
        let mut parts = Vec::new();
        for (part, summary) in &manifest.parts {
            parts.push((*part, Interactions::open(path, files, &live.stream(part.name()), (u, i), *summary)?));
        }
        if parts.first().is_none_or(|(p, _)| *p != Part::Train) {
            return Err(inconsistent("there is no train part".to_string()));
        }
        if !parts.is_sorted_by_key(|(p, _)| *p) || parts.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err(inconsistent("the parts are out of order, or one is there twice".to_string()));
        }
        let exposures = match manifest.exposures {
            Some(summary) => Some(Exposures::open(path, files, &live.stream(EXPOSURES), (u, i), summary)?),
            None => None,
        };
        let contexts = match &manifest.contexts {
            Some(summary) => {
                let name = layout.contexts.as_deref().unwrap_or(VALUES);
                Some(Contexts::open(path, files, (name, &live.stream(CONTEXTS)), &parts[0].1, summary)?)
            }
            None => None,
        };
        Ok(Self { path: path.to_path_buf(), manifest, users, items, popularity, live, parts, exposures, contexts })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Identifies the content; a model remembers it.
    pub fn fingerprint(&self) -> &str {
        &self.manifest.fingerprint
    }

    /// Original user ids.
    pub fn users(&self) -> &Dictionary {
        &self.users
    }

    /// Original item ids.
    pub fn items(&self) -> &Dictionary {
        &self.items
    }

    /// Train interactions by item.
    pub fn popularity(&self) -> &[u32_le] {
        self.popularity.counts()
    }

    /// The train part, which every dataset has.
    pub fn train(&self) -> &Interactions {
        &self.parts[0].1
    }

    /// A part, where the dataset has it.
    pub fn part(&self, part: Part) -> Option<&Interactions> {
        self.parts.iter().find(|(p, _)| *p == part).map(|(_, i)| i)
    }

    /// The parts that it has.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &Interactions)> {
        self.parts.iter().map(|(p, i)| (*p, i))
    }

    /// What was shown and never taken, where that was ingested.
    pub fn exposures(&self) -> Option<&Exposures> {
        self.exposures.as_ref()
    }

    /// The context of the train interactions, where that was ingested.
    pub fn contexts(&self) -> Option<&Contexts> {
        self.contexts.as_ref()
    }

    /// What changed since the dataset had `fingerprint`, which a model remembers, the oldest first. `None` if it never had
    /// it.
    pub fn changes_since(&self, fingerprint: &str) -> Option<&[Change]> {
        self.split_changes(fingerprint).map(|(_, later)| later)
    }

    /// The changes until the dataset had `fingerprint`, and those after that.
    fn split_changes(&self, fingerprint: &str) -> Option<(&[Change], &[Change])> {
        let changes = &self.manifest.changes;
        let at = changes.iter().position(|change| change.before == fingerprint);
        at.or_else(|| (self.fingerprint() == fingerprint).then_some(changes.len())).map(|at| changes.split_at(at))
    }

    /// Whether it holds out what models have learnt that were trained on the dataset with this fingerprint.
    pub(crate) fn withholds_from(&self, fingerprint: &str) -> bool {
        self.manifest.changes.iter().any(|change| change.withheld.iter().any(|after| after == fingerprint))
    }

    /// How many interactions were appended to train until the dataset had `fingerprint`, while the held-out `part` was there
    /// already; `None` where there were none. Who has learnt from them knows what came after `part`.
    pub(crate) fn trained_behind(&self, part: Part, fingerprint: &str) -> Option<u64> {
        let (until, _) = self.split_changes(fingerprint)?;
        let behind = until.iter().filter(|change| change.held_out.contains(&part));
        let arrived = behind.map(|change| change.trained.saturating_sub(change.repeats)).sum();
        Some(arrived).filter(|arrived| *arrived > 0)
    }

    /// Which train interactions rows were appended to since the dataset had `fingerprint`, which a model remembers. `None`
    /// if it never had it.
    ///
    /// # Errors
    /// If a file of pairs is damaged, or gone because the dataset was changed since it was opened.
    pub fn appended_since(&self, fingerprint: &str) -> Result<Option<Appended>, DatasetError> {
        let Some(later) = self.changes_since(fingerprint) else { return Ok(None) };
        let mut files = Vec::new();
        for change in later {
            if let Some(pairs) = self.pairs_of(change, Listed::All)? {
                files.push((pairs, self.pairs_of(change, Listed::Repeated)?));
            }
        }
        Ok(Some(Appended::new(files)))
    }

    /// What a change appended, if anything.
    pub(super) fn pairs_of(&self, change: &Change, what: Listed) -> Result<Option<Pairs>, DatasetError> {
        let Some(name) = change.listed(what) else { return Ok(None) };
        let record = record(&self.path, &self.manifest.files, name)?;
        Pairs::open(&self.path, record, (self.users.len(), self.items.len())).map(Some)
    }

    /// Which chunks it consists of.
    pub(super) fn live(&self) -> &LiveChunks {
        &self.live
    }

    fn records<'a>(&'a self, names: impl Iterator<Item = &'a str>) -> Vec<FileRecord> {
        names.filter_map(|name| self.manifest.files.iter().find(|f| f.path == name)).cloned().collect()
    }

    /// The files of the user dictionary.
    pub(crate) fn user_files(&self) -> Vec<FileRecord> {
        match &self.manifest.layout {
            Some(layout) => self.records(layout.users.iter().map(String::as_str)),
            None => self.records([USERS].into_iter()),
        }
    }

    /// The files of the item dictionary.
    pub(crate) fn item_files(&self) -> Vec<FileRecord> {
        match &self.manifest.layout {
            Some(layout) => self.records(layout.items.iter().map(String::as_str)),
            None => self.records([ITEMS].into_iter()),
        }
    }

    /// The file of the combinations of context.
    pub(crate) fn context_file(&self) -> Option<FileRecord> {
        let name = self.manifest.layout.as_ref().map_or(Some(VALUES), |layout| layout.contexts.as_deref());
        self.records(name.into_iter()).pop()
    }

    /// Lets go of all pages: they are read again when touched.
    pub(crate) fn let_go(&self) {
        self.users.let_go();
        self.items.let_go();
        self.parts.iter().for_each(|(_, part)| part.let_go_all());
        self.exposures.iter().for_each(Exposures::let_go_all);
        self.contexts.iter().for_each(Contexts::let_go_all);
    }

    /// The same for the files of chunk `index`.
    pub(crate) fn let_go_of(&self, index: usize) {
        self.parts.iter().for_each(|(_, part)| part.let_go(index));
        self.exposures.iter().for_each(|exposures| exposures.let_go(index));
        self.contexts.iter().for_each(|contexts| contexts.let_go(index));
    }

    pub(super) fn inconsistent(&self, reason: String) -> DatasetError {
        DatasetError::Inconsistent { path: self.path.clone(), reason }
    }
}
