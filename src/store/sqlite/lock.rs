//! The lock of the server's files, which one server at a time has.

use std::fs::{File, TryLockError};
#[cfg(feature = "postgres")]
use std::io::Seek as _;
use std::io::{Read as _, Write as _};
use std::path::Path;

use super::files::{Files, private_file};
use super::open_error::{OpenError, unwritable};

/// The lock of a data folder. It ends when this is dropped.
///
/// A server whose store is in this folder has it, and one with a store elsewhere has it for its other files,
/// such as those of running calls.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
    /// The file with the id of the folder.
    #[cfg(feature = "postgres")]
    id_path: std::path::PathBuf,
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

    /// Returns the id of the folder, and creates it if there is none. A copy of a folder has the same.
    ///
    /// # Errors
    ///
    /// The folder cannot be written to.
    #[cfg(feature = "postgres")]
    pub(crate) fn folder_id(&self) -> Result<uuid::Uuid, OpenError> {
        let path = &self.id_path;
        let failed = |cause: std::io::Error| unwritable(path, &cause);
        let mut text = String::new();
        let mut file = private_file(path).map_err(failed)?;
        (&mut file).take(40).read_to_string(&mut text).map_err(failed)?;
        if let Ok(id) = text.trim().parse() {
            return Ok(id);
        }
        let id = uuid::Uuid::new_v4();
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{id}").and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(id)
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
        Ok(Ok(Self {
            _file: file,
            #[cfg(feature = "postgres")]
            id_path: files.folder_id(),
        }))
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
