//! Durable files: checksummed and memory-mapped, published atomically, never edited in place.
#![allow(unsafe_code)] // mapped files, archives read in place, malloc's options; each block states its argument

mod allocator;
mod checked;
mod error;
mod folder;
mod manifest;
mod publish;
mod versions;

pub(crate) use allocator::return_large_buffers;
pub use checked::{CheckedFile, CheckedWriter, FileRecord, HEADER_LEN};
pub(crate) use checked::{evict, fingerprint};
pub(crate) use error::IoContext;
pub use error::StorageError;
pub(crate) use folder::{FolderLock, create_folder, remove_file, remove_folder, sync_tree};
pub(crate) use manifest::{read_format, read_manifest, replace_manifest, write_manifest};
pub(crate) use publish::{AtomicFile, Staging, replace_file, sync_folder};
pub(crate) use versions::{NewVersion, VersionsLock, version_name, version_numbers};

mod archive;
pub(crate) use archive::{Archived, Column, write_root};
