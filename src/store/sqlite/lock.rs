//! The lock of the server's files, which one server at a time has.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::files::{Files, private_file};
use super::open::{OpenError, unwritable};

/// The lock of a data folder. It ends when this is dropped.
///
/// A server whose store is in this folder has it, and one with a store elsewhere has it for its other files,
/// such as those of running calls.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Acquires the lock of a data folder, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// Another server has it, or the folder cannot be written to.
    pub fn acquire(folder: &Path) -> Result<Self, OpenError> {
        let files = Files::of(folder);
        files.create_directory().map_err(|(path, cause)| unwritable(&path, &cause))?;
        Self::of_files(&files)?.map_err(|holder| {
            let path = folder.to_owned();
            OpenError::FolderLocked { path, holder }
        })
    }

    /// Acquires the lock, or returns its holder: ` (process 123)`, or nothing if it is not known.
    pub(super) fn of_files(files: &Files) -> Result<Result<Self, String>, OpenError> {
        let path = files.lock();
        let mut file = private_file(&path).map_err(|cause| unwritable(&path, &cause))?;
        if !try_lock(&file, &path)? {
            return Ok(Err(holder(&mut file)));
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(|cause| unwritable(&path, &cause))?;
        Ok(Ok(Self { _file: file }))
    }
}

/// Takes the lock of a file, and returns whether it was free.
pub(super) fn try_lock(file: &File, path: &Path) -> Result<bool, OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(cause)) => Err(unwritable(path, &cause)),
    }
}

/// Returns the holder of the lock, from the content of the file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => format!(" (process {text})"),
        _ => String::new(),
    }
}
