//! Manifests: JSON that people can read, whose last line is a checksum of every byte before it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::disk::DiskFile;
use super::error::{IoContext, StorageError};
use super::publish::replace_file;

pub(super) const NAME: &str = "manifest.json";
/// A manifest takes some hundred bytes for each file of a GiB; this is far beyond, and fits in memory.
const MAX_BYTES: u64 = 64 << 20;
const KEY: &str = "  \"checksum\": \"";

/// Writes `folder/manifest.json` with `format` and `version` in front and the checksum behind; synced when it returns.
pub(crate) fn write_manifest(
    folder: &Path,
    format: &str,
    version: u32,
    content: &impl Serialize,
) -> Result<(), StorageError> {
    let path = folder.join(NAME);
    let text = text_of(&path, format, version, content)?;
    let mut file = DiskFile::create_new(&path).at(&path, "create")?;
    file.write_all(text.as_bytes()).at(&path, "write")?;
    file.sync().at(&path, "sync")
}

/// Replaces `folder/manifest.json`, in one step, by one that says `content`; durable when it returns. For those who hold
/// the folder's lock.
pub(crate) fn replace_manifest(
    folder: &Path,
    format: &str,
    version: u32,
    content: &impl Serialize,
) -> Result<(), StorageError> {
    let path = folder.join(NAME);
    let text = text_of(&path, format, version, content)?;
    replace_file(&path, text.as_bytes())
}

fn text_of(path: &Path, format: &str, version: u32, content: &impl Serialize) -> Result<String, StorageError> {
    let invalid = |e: serde_json::Error| StorageError::Io {
        path: path.to_path_buf(),
        action: "write",
        source: std::io::Error::other(e),
    };
    let mut map = serde_json::Map::new();
    map.insert("format".into(), Value::from(format));
    map.insert("version".into(), Value::from(version));
    if let Value::Object(fields) = serde_json::to_value(content).map_err(invalid)? {
        map.extend(fields);
    }
    let mut text = serde_json::to_string_pretty(&Value::Object(map)).map_err(invalid)?;
    text.truncate(text.len() - 2);
    text.push_str(",\n");
    let checksum = xxh3_64(text.as_bytes());
    text.push_str(&format!("{KEY}{checksum:016x}\"\n}}\n"));
    Ok(text)
}

/// The format that `folder/manifest.json` states. `what` names what was expected, for messages.
pub(crate) fn read_format(folder: &Path, what: &str) -> Result<String, StorageError> {
    let (_, value) = read_json(folder, what)?;
    match value.get("format").and_then(Value::as_str) {
        Some(found) if found.starts_with("peccary-") => Ok(found.to_string()),
        _ => Err(not_one(folder, what, "its manifest.json is not one of Peccary's")),
    }
}

fn not_one(folder: &Path, what: &str, reason: &str) -> StorageError {
    StorageError::NotOne { path: folder.to_path_buf(), expected: what.into(), reason: reason.into() }
}

/// Whether what is to become `folder` is in the making, or was when it was interrupted.
fn has_partial(folder: &Path) -> bool {
    let mut name = folder.components().collect::<PathBuf>().into_os_string();
    name.push(".partial");
    Path::new(&name).is_dir()
}

fn read_json(folder: &Path, what: &str) -> Result<(Vec<u8>, Value), StorageError> {
    let path = folder.join(NAME);
    let mut text = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > MAX_BYTES => {
            let reason = format!("it has more than the {MAX_BYTES} bytes of the longest manifest");
            return Err(StorageError::Damaged { path, reason });
        }
        Ok(_) => {}
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            let reason = match folder.metadata() {
                Err(_) if has_partial(folder) && what == "dataset" => {
                    "there is no such folder yet; its ingest is on its way or was interrupted: run the same peccary ingest with \
                     --resume"
                }
                Err(_) if has_partial(folder) => {
                    "there is no such folder yet; its training is on its way or was interrupted: peccary train --resume goes on \
                     with it"
                }
                Err(_) => "there is no such folder",
                Ok(m) if m.is_dir() => "it holds no manifest.json",
                Ok(_) if what == "dataset" => {
                    "it is a file, not a folder; if it is a log, make a dataset of it first: peccary ingest LOG --output \
                     DATASET"
                }
                Ok(_) => "it is a file, not a folder",
            };
            return Err(not_one(folder, what, reason));
        }
        Err(e) => return Err(e).at(&path, "read"),
    }
    match serde_json::from_slice(&text) {
        Ok(value) => Ok((text, value)),
        Err(e) => Err(StorageError::Damaged { path, reason: format!("not valid JSON: {e}") }),
    }
}

/// Reads `folder/manifest.json`, refusing another `format`, a newer `version` and any byte that was changed.
pub(crate) fn read_manifest<T: DeserializeOwned>(folder: &Path, format: &str, version: u32) -> Result<T, StorageError> {
    let what = format.trim_start_matches("peccary-");
    let (text, value) = read_json(folder, what)?;
    let path = folder.join(NAME);
    let damaged = |reason: &str| StorageError::Damaged { path: path.clone(), reason: reason.into() };
    match value.get("format").and_then(Value::as_str) {
        Some(found) if found == format => {}
        Some(found) if found.starts_with("peccary-") => {
            let is = found.trim_start_matches("peccary-");
            return Err(not_one(
                folder,
                what,
                &format!("it is a {is}; where a command takes both, the model comes first"),
            ));
        }
        _ => return Err(not_one(folder, what, "its manifest.json is not one of Peccary's")),
    }
    let got = value.get("version").and_then(Value::as_u64).ok_or_else(|| damaged("no format version"))?;
    if got > u64::from(version) {
        return Err(StorageError::Version { path, expected: version, got: got.try_into().unwrap_or(u32::MAX) });
    }
    let split = memchr::memmem::rfind(&text, KEY.as_bytes()).ok_or_else(|| damaged("no checksum"))?;
    if text[split..] != *format!("{KEY}{:016x}\"\n}}\n", xxh3_64(&text[..split])).as_bytes() {
        return Err(damaged("its checksum does not match its text"));
    }
    serde_json::from_value(value).map_err(|e| damaged(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Content {
        rows: u64,
        rate: f64,
    }

    #[test]
    fn what_is_too_long_for_a_manifest_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        // A file of a terabyte, none of which is on the disk.
        std::fs::File::create(folder.path().join(NAME)).unwrap().set_len(1 << 40).unwrap();
        let error = read_manifest::<Content>(folder.path(), "peccary-dataset", 1).unwrap_err().to_string();
        assert!(error.contains("longest manifest"), "{error}");
    }

    #[test]
    fn every_flipped_byte_is_found_and_the_version_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let content = Content { rows: 7, rate: 0.1 + 0.2 };
        write_manifest(folder.path(), "peccary-dataset", 1, &content).unwrap();
        assert_eq!(read_manifest::<Content>(folder.path(), "peccary-dataset", 1).unwrap(), content);
        assert!(matches!(
            read_manifest::<Content>(folder.path(), "peccary-dataset", 0),
            Err(StorageError::Version { expected: 0, got: 1, .. })
        ));
        assert!(matches!(
            read_manifest::<Content>(folder.path(), "peccary-model", 1),
            Err(StorageError::NotOne { .. })
        ));
        let path = folder.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(read_manifest::<Content>(folder.path(), "peccary-dataset", 1).is_err(), "byte {at}");
        }
    }
}
