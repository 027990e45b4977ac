//! How much a disk still takes.

use std::path::Path;

use super::StorageError;
use crate::context::ByteSize;

/// Bytes that may still be written where `folder` is; `None` where the system does not say.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    // Some file systems that are not on a disk count no blocks at all.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Makes sure that `needed` bytes can be written where `folder` is, as far as that can be known before.
///
/// # Errors
/// [`StorageError::NoRoom`] if they cannot.
pub(crate) fn check_room(folder: &Path, needed: u64) -> Result<(), StorageError> {
    match free_bytes(folder) {
        Some(free) if free < needed => {
            let (needed, free) = (ByteSize(needed), ByteSize(free));
            Err(StorageError::NoRoom { folder: folder.to_path_buf(), needed, free })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_holds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        check_room(folder.path(), 1).unwrap();
        let refused = check_room(folder.path(), u64::MAX).unwrap_err();
        assert!(refused.is_full(), "{refused}");
        assert_eq!(free_bytes(&folder.path().join("absent")), None);
    }
}
