//! Durable files: checksummed and memory-mapped, published atomically, never edited in place.
#![allow(unsafe_code)] // mapped files, archives read in place, malloc's options; each block states its argument

mod allocator;
mod bus;
mod checked;
pub(crate) mod disk;
#[cfg(test)]
pub(crate) mod double;
mod error;
mod folder;
mod manifest;
mod plain;
mod publish;
mod room;
mod temporary;
mod versions;

pub(crate) use allocator::return_large_buffers;
pub(crate) use bus::{InUse, check_in_use};
pub use bus::{explain_bus_errors, explain_file_limits};
pub use checked::{CheckedFile, CheckedWriter, FileRecord, HEADER_LEN};
pub(crate) use checked::{evict, fingerprint};
pub(crate) use error::IoContext;
pub use error::StorageError;
pub(crate) use folder::{FolderLock, create_folder, remove_file, remove_folder, sync_tree};
pub(crate) use manifest::{read_format, read_manifest, replace_manifest, write_manifest};
pub(crate) use plain::{check_plain, is_plain, plain_record};
pub(crate) use publish::{AtomicFile, Staging, replace_file, sync_folder};
pub(crate) use room::check_room;
pub use room::free_disk;
pub(crate) use temporary::Scratch;
pub(crate) use versions::{NewVersion, VersionsLock, no_current, version_name, version_numbers, without_root};

mod archive;
pub(crate) use archive::{Archived, Column, write_root};
