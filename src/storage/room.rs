//! How much a disk still takes.

use std::path::Path;

use super::StorageError;
use crate::context::ByteSize;

/// What may still be written where `folder` is; `None` where the system does not say.
pub fn free_disk(folder: &Path) -> Option<ByteSize> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    // Some file systems that are not on a disk count no blocks at all.
    (disk.f_blocks > 0).then(|| ByteSize(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

/// Makes sure that `needed` bytes of `output` can be written in `folder`, as far as that can be known before.
///
/// # Errors
/// [`StorageError::NoRoom`] if they cannot.
pub(crate) fn check_room(folder: &Path, output: &Path, needed: u64) -> Result<(), StorageError> {
    match free_disk(folder) {
        Some(free) if free.0 < needed => {
            let needed = ByteSize(needed);
            Err(StorageError::NoRoom { output: output.to_path_buf(), needed, free })
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
        let output = Path::new("clicks.model");
        check_room(folder.path(), output, 1).unwrap();
        let refused = check_room(folder.path(), output, u64::MAX).unwrap_err();
        assert!(refused.is_full() && refused.to_string().starts_with("clicks.model: "), "{refused}");
        assert_eq!(free_disk(&folder.path().join("absent")), None);
    }
}
