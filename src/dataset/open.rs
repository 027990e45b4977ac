//! Opening a dataset: everything is mapped and checked, nothing is loaded.

use std::path::{Path, PathBuf};

use rkyv::rend::u32_le;

use super::contexts::Contexts;
use super::dictionary::Dictionary;
use super::exposures::Exposures;
use super::interactions::Interactions;
use super::manifest::Manifest;
use super::popularity::Popularity;
use super::{DatasetError, FORMAT_VERSION, Part};
use crate::context::{Context, Unit};
use crate::storage::{FileRecord, read_manifest};

/// An open dataset: an immutable folder of memory-mapped files.
pub struct Dataset {
    path: PathBuf,
    manifest: Manifest,
    users: Dictionary,
    items: Dictionary,
    popularity: Popularity,
    parts: Vec<(Part, Interactions)>,
    exposures: Option<Exposures>,
    contexts: Option<Contexts>,
}

impl Dataset {
    /// Opens the dataset at `path` and compares every byte of it with its checksum.
    ///
    /// Reads all files once (about 10 GiB a second and core from the page cache) and keeps a few bytes for every
    /// 65,536 interactions.
    ///
    /// # Errors
    /// If it is no dataset, of a newer format, damaged, or inconsistent.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let manifest: Manifest = read_manifest(path, "peccary-dataset", FORMAT_VERSION)?;
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: path.to_path_buf(), reason };
        let file = |name: &str| -> Result<&FileRecord, DatasetError> {
            let found = manifest.files.iter().find(|f| f.path == name);
            found.ok_or_else(|| inconsistent(format!("the manifest does not list {name}")))
        };
        let users = Dictionary::open(path, file("users.dict")?)?;
        let items = Dictionary::open(path, file("items.dict")?)?;
        let popularity = Popularity::open(path, file("popularity.pec")?)?;
        let (u, i, p) = (users.len(), items.len(), popularity.counts().len());
        if (u, i, p) != (manifest.users, manifest.items, i as usize) {
            return Err(inconsistent(format!("{u} user ids, {i} item ids and {p} popularities")));
        }
        let mut parts = Vec::new();
        for (part, summary) in &manifest.parts {
            parts.push((*part, Interactions::open(path, &manifest.files, *part, u, i, *summary)?));
        }
        if parts.first().is_none_or(|(p, _)| *p != Part::Train) {
            return Err(inconsistent("there is no train part".to_string()));
        }
        if !parts.is_sorted_by_key(|(p, _)| *p) || parts.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err(inconsistent("the parts are out of order, or one is there twice".to_string()));
        }
        let exposures = match manifest.exposures {
            Some(summary) => Some(Exposures::open(path, &manifest.files, (u, i), summary)?),
            None => None,
        };
        let contexts = match &manifest.contexts {
            Some(summary) => Some(Contexts::open(path, &manifest.files, &parts[0].1, summary)?),
            None => None,
        };
        Ok(Self { path: path.to_path_buf(), manifest, users, items, popularity, parts, exposures, contexts })
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

    /// Checks every invariant beyond those of opening: dictionaries in order, positives equal to the interactions,
    /// popularity equal to the counts, no pair in two parts, no exposure of what was taken. O(interactions + exposures).
    ///
    /// # Errors
    /// Names the first thing that is wrong.
    pub fn verify(&self, ctx: &Context) -> Result<(), DatasetError> {
        self.users.verify()?;
        self.items.verify()?;
        let total = self.parts.iter().map(|(_, i)| i.len()).sum();
        let stage = ctx.stage("verifying", Some(total), Unit::Rows);
        let inconsistent = |reason: String| DatasetError::Inconsistent { path: self.path.clone(), reason };
        let mut counts = vec![0u32; self.items.len() as usize];
        for (at, (part, interactions)) in self.parts.iter().enumerate() {
            for c in 0..interactions.chunks() {
                ctx.check()?;
                let chunk = interactions.chunk(c);
                interactions.verify(c).map_err(|reason| inconsistent(format!("{}: {reason}", part.name())))?;
                if *part == Part::Train {
                    chunk.items().iter().for_each(|i| counts[i.to_native() as usize] += 1);
                }
                for (before, earlier) in &self.parts[..at] {
                    for u in 0..chunk.users() {
                        let user = chunk.first_user() + u as u32;
                        let known = earlier.positives(user);
                        if chunk.user(u).items.iter().any(|i| known.contains(i.to_native())) {
                            let (a, b) = (before.name(), part.name());
                            return Err(inconsistent(format!("user {user} has an item both in {a} and in {b}")));
                        }
                    }
                }
                stage.add(chunk.items().len() as u64);
            }
        }
        if counts.iter().zip(self.popularity()).any(|(a, b)| *a != b.to_native()) {
            return Err(inconsistent("popularity differs from the interactions".to_string()));
        }
        if let Some(exposures) = &self.exposures {
            for user in 0..self.users.len() {
                if user.is_multiple_of(1 << 12) {
                    ctx.check()?;
                }
                let shown = exposures.user(user);
                for (part, interactions) in self.parts.iter().filter(|_| !shown.is_empty()) {
                    let taken = interactions.positives(user);
                    if shown.iter().any(|i| taken.contains(i.to_native())) {
                        let part = part.name();
                        return Err(inconsistent(format!("user {user} has an item both in {part} and in exposures")));
                    }
                }
            }
        }
        Ok(())
    }
}
