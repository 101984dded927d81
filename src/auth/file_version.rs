//! The changes of a file.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The properties of a file that change with its content, if it is replaced or written to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileVersion(Option<(u64, u64, u64, i64, i64)>);

impl FileVersion {
    /// Returns the version of the file at a path, which need not exist.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let of =
            |meta: Metadata| (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Self(Some(of(metadata)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}
