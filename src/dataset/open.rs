//! Opening a dataset: everything is mapped and checked, nothing is loaded.

use std::path::{Path, PathBuf};

use rkyv::rend::u32_le;

use super::dictionary::Dictionary;
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
        Ok(Self { path: path.to_path_buf(), manifest, users, items, popularity, parts })
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

    /// Checks every invariant beyond those of opening: dictionaries in order, positives equal to the interactions,
    /// popularity equal to the counts, no pair in two parts. O(interactions).
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
        for (part, interactions) in &self.parts {
            interactions.verify(&self.path.join(part.name()))?;
            for c in 0..interactions.chunks() {
                ctx.check()?;
                let chunk = interactions.chunk(c);
                if *part == Part::Train {
                    chunk.items().iter().for_each(|i| counts[i.to_native() as usize] += 1);
                } else {
                    for u in 0..chunk.users() {
                        let train = self.train().positives(chunk.first_user() + u as u32);
                        if chunk.user(u).items.iter().any(|i| train.contains(i.to_native())) {
                            return Err(inconsistent(format!("an interaction is in train and in {}", part.name())));
                        }
                    }
                }
                stage.add(chunk.items().len() as u64);
            }
        }
        if counts.iter().zip(self.popularity()).any(|(a, b)| *a != b.to_native()) {
            return Err(inconsistent("popularity differs from the interactions".to_string()));
        }
        Ok(())
    }
}
