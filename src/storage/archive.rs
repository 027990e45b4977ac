//! rkyv archives inside checked files: columns written as streams, a root that points back at them, read in place.

use std::marker::PhantomData;
use std::ops::Deref;

use rkyv::api::high::HighValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{Error as RkyvError, Fallible, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::sharing::Share;
use rkyv::ser::writer::IoWriter;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, Portable, Serialize};

use super::checked::{CheckedFile, CheckedWriter};
use super::error::StorageError;

/// A column that has been written already: `len` values of `T` at offset `position` of the file. It archives as an
/// [`ArchivedVec`] that points there, so that no column is ever held whole in memory.
///
/// rkyv's validator wants what a root points at in the order of its fields: write the columns in that order.
pub(crate) struct Column<T> {
    position: usize,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Copy + Archive> Column<T> {
    /// Appends `values` to `file`, each as `encode` turns it into little-endian bytes.
    pub(crate) fn write<const N: usize>(
        file: &mut CheckedWriter,
        values: &[T],
        encode: impl Fn(T) -> [u8; N],
    ) -> Result<Self, StorageError> {
        file.align(8)?;
        let position = file.position() as usize;
        let mut bytes = [0u8; 4096];
        for group in values.chunks(bytes.len() / N) {
            for (out, value) in bytes.chunks_exact_mut(N).zip(group) {
                out.copy_from_slice(&encode(*value));
            }
            file.put(&bytes[..group.len() * N])?;
        }
        Ok(Self { position, len: values.len(), kind: PhantomData })
    }

    /// A column of `len` values that the caller has put at `position`, a multiple of 8, itself: for those that are never
    /// held as a slice.
    pub(crate) fn written(position: u64, len: usize) -> Self {
        Self { position: position as usize, len, kind: PhantomData }
    }
}

impl<T: Archive> Archive for Column<T> {
    type Archived = ArchivedVec<T::Archived>;
    type Resolver = VecResolver;

    fn resolve(&self, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(self.len, resolver, out);
    }
}

impl<T: Archive, S: Fallible + ?Sized> Serialize<S> for Column<T> {
    fn serialize(&self, _: &mut S) -> Result<VecResolver, S::Error> {
        Ok(VecResolver::from_pos(self.position))
    }
}

type RootSerializer<'a> = Strategy<Serializer<IoWriter<&'a mut CheckedWriter>, ArenaHandle<'a>, Share>, RkyvError>;

/// Appends `root` to `file`; returns its offset, for [`CheckedWriter::finish`].
pub(crate) fn write_root<T>(file: &mut CheckedWriter, root: &T) -> Result<u64, StorageError>
where
    T: for<'a> Serialize<RootSerializer<'a>>,
{
    file.align(8)?;
    let position = file.position() as usize;
    let path = file.path().to_path_buf();
    let mut arena = Arena::new();
    let mut serializer = Serializer::new(IoWriter::with_pos(&mut *file, position), arena.acquire(), Share::new());
    let root = rkyv::api::serialize_using::<_, RkyvError>(root, &mut serializer).map_err(|error| StorageError::Io {
        path,
        action: "write",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(root as u64)
}

/// A checked file whose root is an archived `T`, validated once at opening.
pub(crate) struct Archived<T> {
    file: CheckedFile,
    root: *const T,
}

// SAFETY: `root` points into `file`'s read-only map, which lives as long as this value and never moves; sharing it
// between threads is sharing `&T`.
unsafe impl<T: Sync> Send for Archived<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Archived<T> {}

impl<T> Archived<T>
where
    T: Portable + for<'a> CheckBytes<HighValidator<'a, RkyvError>>,
{
    /// Validates the archive in `file`: every pointer stays inside it. Columns of numbers cost nothing to validate.
    pub(crate) fn new(file: CheckedFile) -> Result<Self, StorageError> {
        let root: *const T =
            rkyv::api::high::access_pos::<T, RkyvError>(file.bytes(), file.root()).map_err(|error| {
                StorageError::Damaged { path: file.path().to_path_buf(), reason: format!("invalid archive: {error}") }
            })?;
        Ok(Self { file, root })
    }

    /// The file below.
    pub(crate) fn file(&self) -> &CheckedFile {
        &self.file
    }
}

impl<T> Deref for Archived<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` validated a `T` there, in a read-only map that `self` owns.
        unsafe { &*self.root }
    }
}
