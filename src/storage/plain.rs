//! Files of published folders that are text as it is, such as run logs: checked by one checksum of all their bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::checked::FileRecord;
use super::error::{IoContext, StorageError};

/// Whether the file that a manifest lists as `path` is one of these.
pub(crate) fn is_plain(path: &str) -> bool {
    path.ends_with(".ndjson")
}

/// What a manifest is to say of the file `path`, which it lists as `relative`.
pub(crate) fn plain_record(path: &Path, relative: &str) -> Result<FileRecord, StorageError> {
    let mut file = File::open(path).at(path, "open")?;
    let (mut hash, mut bytes, mut piece) = (Xxh3::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece).at(path, "read")? {
            0 => break,
            read => {
                hash.update(&piece[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok(FileRecord { path: relative.to_string(), bytes, checksum: format!("{:016x}", hash.digest()) })
}

/// Compares `folder/record.path` with what the manifest says of it.
pub(crate) fn check_plain(folder: &Path, record: &FileRecord) -> Result<(), StorageError> {
    let path = folder.join(&record.path);
    let found = plain_record(&path, &record.path)?;
    let damaged = |reason: String| Err(StorageError::Damaged { path: path.clone(), reason });
    if found.bytes != record.bytes {
        return damaged(format!("{} bytes, but the manifest says {}", found.bytes, record.bytes));
    }
    if found.checksum != record.checksum {
        return damaged("its checksum does not match the manifest".to_string());
    }
    Ok(())
}
