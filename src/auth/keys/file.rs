//! The file with the keys of a server: a line of JSON for each.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::api_key::{KeyHash, KeyId};
use super::record::{KeyRecord, NewKey};
use crate::auth::names::check_name;
use crate::auth::ownership::{GuardedFile, OwnershipError};
use crate::auth::random::RandomError;
use crate::model::{Scopes, Tenant, Timestamp};

/// The largest file of keys, in bytes: more than a million keys.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// The permissions of a new file, and of its lock.
const PRIVATE: u32 = 0o600;

/// The error of a file of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file could not be read or written.
    #[error("the file of API keys {} cannot be {action}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The action that failed: `read`, `locked` or `written`.
        action: &'static str,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// Others could change the file.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// A property of a new key is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no key with this id.
    #[error("there is no key {id} in {}: see `callpark keys list`", path.display())]
    Unknown {
        /// The id.
        id: KeyId,
        /// The file.
        path: PathBuf,
    },
    /// The operating system provides no random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The properties of a key to be created.
#[derive(Debug, Clone)]
pub struct KeyOptions {
    /// The tenant of the key's callers.
    pub tenant: String,
    /// The name of the key's callers.
    pub name: String,
    /// The scopes of the key's callers.
    pub scopes: Scopes,
    /// The time at which the key is created.
    pub create_time: Timestamp,
    /// The time from which the key is refused, or `None` if it does not expire.
    pub expire_time: Option<Timestamp>,
}

/// The content of a file of keys.
#[derive(Debug, Default)]
pub struct KeyList {
    /// The keys, in the order of their creation.
    pub records: Vec<KeyRecord>,
    /// The lines that are not keys, each with its number and the reason.
    pub unreadable: Vec<(usize, String)>,
}

impl KeyList {
    fn parse(bytes: &[u8]) -> Self {
        let (mut list, mut places) = (Self::default(), HashMap::<KeyHash, usize>::new());
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let record = match KeyRecord::parse(line) {
                Ok(record) => record,
                Err(reason) => {
                    list.unreadable.push((index + 1, reason));
                    continue;
                }
            };
            match places.get(&record.hash) {
                None => {
                    places.insert(record.hash, list.records.len());
                    list.records.push(record);
                }
                // As when two files were put together.
                Some(&first) => {
                    list.unreadable.push((index + 1, format!("{} is there twice", record.id)));
                    list.records[first].restrict(record);
                }
            }
        }
        list
    }

    /// Logs the lines that are not keys.
    pub(super) fn report(&self, file: &KeyFile) {
        for (line, reason) in &self.unreadable {
            let file = file.path().display();
            tracing::warn!(%file, line, reason, "a line of the file of API keys is left out");
        }
    }
}

/// A file of keys.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// Names the file at this path, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all keys. A file that does not exist has none.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or users other than that of this process and root could change it.
    pub fn read(&self) -> Result<KeyList, KeyFileError> {
        let Some((bytes, metadata)) = self.content()? else { return Ok(KeyList::default()) };
        GuardedFile::Keys.check(&self.path, &metadata)?;
        Ok(KeyList::parse(&bytes))
    }

    /// Reads all keys for a person, who may be root where the server is another user.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn list(&self) -> Result<KeyList, KeyFileError> {
        let content = self.content()?;
        Ok(content.map(|(bytes, _)| KeyList::parse(&bytes)).unwrap_or_default())
    }

    /// Adds a random key, and creates the file if there is none. Servers accept the key within two seconds.
    ///
    /// # Errors
    ///
    /// A property is not valid, or the file cannot be used.
    pub fn create(&self, options: KeyOptions) -> Result<NewKey, KeyFileError> {
        let KeyOptions { tenant, name, scopes, create_time, expire_time } = options;
        check_name("tenant", &tenant).map_err(KeyFileError::Invalid)?;
        check_name("name", &name).map_err(KeyFileError::Invalid)?;
        if scopes.is_empty() {
            let text = format!("a key needs at least one scope of {}", Scopes::ALL);
            return Err(KeyFileError::Invalid(text));
        }
        let (id, text) = KeyId::random()?;
        let record = KeyRecord {
            id,
            hash: KeyHash::of(&text),
            tenant: Tenant::new(&tenant),
            name,
            scopes,
            create_time,
            expire_time,
            revoke_time: None,
        };
        let line = record.to_line().map_err(KeyFileError::Invalid)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(self.folder());
        made.map_err(self.error("written"))?;
        let change = self.change()?;
        let mut bytes = change.content()?;
        if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        bytes.extend([line.as_bytes(), b"\n"].concat());
        change.write(&bytes)?;
        Ok(NewKey { record, text: text.into() })
    }

    /// Revokes a key. Servers refuse it, and end the requests that it has open, within two seconds.
    /// Returns `false` if it was revoked before.
    ///
    /// # Errors
    ///
    /// There is no such key, or the file cannot be used.
    pub fn revoke(&self, id: &KeyId, now: Timestamp) -> Result<bool, KeyFileError> {
        let unknown = || KeyFileError::Unknown { id: id.clone(), path: self.path.clone() };
        if !self.path.exists() {
            return Err(unknown());
        }
        let change = self.change()?;
        let bytes = change.content()?;
        let (mut is_found, mut is_changed) = (false, false);
        let mut changed = Vec::with_capacity(bytes.len() + 64);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let revoked = KeyRecord::revoke_line(line, id, now);
            is_found |= revoked.is_some();
            match revoked.flatten() {
                Some(line) => {
                    is_changed = true;
                    changed.extend([line.as_bytes(), b"\n"].concat());
                }
                // Also a line that cannot be read.
                None => changed.extend(line),
            }
        }
        if !is_found {
            return Err(unknown());
        }
        if is_changed {
            change.write(&changed)?;
        }
        Ok(is_changed)
    }

    fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> KeyFileError {
        let path = self.path.clone();
        move |cause| KeyFileError::File { path, action, cause }
    }

    fn content(&self) -> Result<Option<(Vec<u8>, Metadata)>, KeyFileError> {
        // A named pipe in the place of the file must not block the server.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.error("read")(error)),
        };
        // Of the opened file, as the path may name another one by now.
        let metadata = file.metadata().map_err(self.error("read"))?;
        let problem = match metadata {
            ref metadata if !metadata.is_file() => Some("it is not a regular file"),
            ref metadata if metadata.len() > FILE_BYTES_MAX => Some("it is larger than 512 MiB"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(self.error("read")(io::Error::other(problem)));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(self.error("read"))?;
        Ok(Some((bytes, metadata)))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Waits for other programs that change the file, and keeps them out.
    fn change(&self) -> Result<Change, KeyFileError> {
        // The file behind a symbolic link, and not the link, is changed and replaced.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let file = Self { path };
        let lock = file.lock_file(".lock").map_err(self.error("locked"))?;
        lock.lock().map_err(self.error("locked"))?;
        Ok(Change { file, _lock: lock })
    }

    /// Opens a file beside this one, with this ending of its name, for a lock.
    pub(super) fn lock_file(&self, ending: &str) -> io::Result<File> {
        // This file itself is replaced: a lock on it would be one on a file that is gone.
        let path = format!("{}{ending}", self.path.display());
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let file =
            options.create(true).append(true).mode(PRIVATE).custom_flags(flags).open(path)?;
        own_as(&file, &std::fs::metadata(self.folder())?);
        Ok(file)
    }
}

/// The right to change a file.
struct Change {
    file: KeyFile,
    _lock: File,
}

impl Change {
    fn content(&self) -> Result<Vec<u8>, KeyFileError> {
        Ok(self.file.content()?.map(|(bytes, _)| bytes).unwrap_or_default())
    }

    /// Replaces the file by one with this content, so that a reader sees the old or the new one. Its owner
    /// and its permissions stay.
    fn write(self, bytes: &[u8]) -> Result<(), KeyFileError> {
        let (path, folder) = (&self.file.path, self.file.folder());
        let written = || {
            let before = std::fs::metadata(path).ok();
            let mode = before.as_ref().map_or(PRIVATE, |before| before.mode() & 0o777);
            let owner = before.map_or_else(|| std::fs::metadata(folder), Ok)?;
            let mut draft = tempfile::Builder::new()
                .prefix(".keys-")
                .permissions(Permissions::from_mode(PRIVATE))
                .tempfile_in(folder)?;
            draft.write_all(bytes)?;
            own_as(draft.as_file(), &owner);
            draft.as_file().set_permissions(Permissions::from_mode(mode))?;
            draft.as_file().sync_all()?;
            draft.persist(path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()
        };
        written().map_err(self.file.error("written"))
    }
}

/// Gives a file to the owner of another one, where this user may: a server reads what root has written.
fn own_as(file: &File, other: &Metadata) {
    if rustix::process::geteuid().is_root() {
        // Where root may not either, the file is root's, which servers accept.
        let _refused = fchown(file, Some(other.uid()), Some(other.gid())).err();
    }
}
