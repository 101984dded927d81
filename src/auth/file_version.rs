//! The changes of a file.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The properties of a file that change with its content or its permissions. `None`: there is no file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FileVersion(Option<[i128; 8]>);

impl FileVersion {
    /// Returns the version of the file at a path, which need not exist.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let of = |meta: Metadata| {
            [
                meta.dev().into(),
                meta.ino().into(),
                meta.len().into(),
                // Permissions are changed without a change of the content.
                meta.mode().into(),
                meta.mtime().into(),
                meta.mtime_nsec().into(),
                meta.ctime().into(),
                meta.ctime_nsec().into(),
            ]
        };
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Self(Some(of(metadata)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}
