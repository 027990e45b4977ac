//! How many train interactions each item has.

use std::path::Path;

use rkyv::{Archive, Serialize};

use crate::storage::{Archived, CheckedFile, CheckedWriter, Column, FileRecord, StorageError, write_root};

const KIND: &str = "popular";
const VERSION: u32 = 1;

#[derive(Archive, Serialize)]
pub(super) struct PopularityRoot {
    counts: Column<u32>,
}

pub(super) fn write(path: &Path, relative: &str, counts: &[u32]) -> Result<FileRecord, StorageError> {
    let mut file = CheckedWriter::create(path, KIND, VERSION)?;
    let counts = Column::write(&mut file, counts, u32::to_le_bytes)?;
    let root = write_root(&mut file, &PopularityRoot { counts })?;
    file.finish(relative, root)
}

/// Train interactions by item.
pub(super) struct Popularity(Archived<ArchivedPopularityRoot>);

impl Popularity {
    pub(super) fn open(folder: &Path, record: &FileRecord) -> Result<Self, StorageError> {
        Archived::new(CheckedFile::open(folder, record, KIND, VERSION)?).map(Self)
    }

    pub(super) fn counts(&self) -> &[rkyv::rend::u32_le] {
        self.0.counts.as_slice()
    }
}
