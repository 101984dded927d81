//! The file with the keys of a server: a line of JSON for each.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::api_key::{KeyId, NewKey};
use super::record::{KeyRecord, KeyState};
use crate::auth::names::check_name;
use crate::auth::ownership::{GuardedFile, OwnershipError};
use crate::auth::random::RandomError;
use crate::model::{Scopes, Tenant, Timestamp};

/// The largest file of keys, in bytes: more than a million keys.
const FILE_BYTES_MAX: u64 = 512 << 20;

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
    /// The tenant of its callers.
    pub tenant: String,
    /// The name of its callers.
    pub name: String,
    /// What its callers may do.
    pub scopes: Scopes,
    /// The time at which it is created.
    pub create_time: Timestamp,
    /// The time from which it is refused, or `None` if it does not expire.
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
    fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match KeyRecord::parse(line) {
                Ok(record) => list.records.push(record),
                Err(reason) => list.unreadable.push((index + 1, reason)),
            }
        }
        list
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
    /// The file cannot be read, or others could change it.
    pub fn read(&self) -> Result<KeyList, KeyFileError> {
        Ok(KeyList::parse(&self.text()?))
    }

    /// Adds a random key, and creates the file if there is none. Servers accept the key within a second
    /// or two.
    ///
    /// # Errors
    ///
    /// A property is not valid, or the file cannot be used.
    pub fn create(&self, options: KeyOptions) -> Result<NewKey, KeyFileError> {
        let KeyOptions { tenant, name, scopes, create_time, expire_time } = options;
        check_name("tenant", &tenant).map_err(KeyFileError::Invalid)?;
        check_name("name", &name).map_err(KeyFileError::Invalid)?;
        if scopes.is_empty() {
            return Err(KeyFileError::Invalid("a key without scopes is good for nothing".into()));
        }
        let key = NewKey::random()?;
        let record = KeyRecord {
            id: key.id.clone(),
            hash: key.hash,
            tenant: Tenant::new(&tenant),
            name,
            scopes,
            create_time,
            expire_time,
            revoke_time: None,
        };
        let line = record.to_line().map_err(KeyFileError::Invalid)?;
        let _lock = self.lock()?;
        let mut text = self.text()?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
        text.push('\n');
        self.write(&text)?;
        Ok(key)
    }

    /// Revokes a key. Servers refuse it, and end the requests that it has open, within a second or two.
    /// Returns `false` if it was revoked before.
    ///
    /// # Errors
    ///
    /// There is no such key, or the file cannot be used.
    pub fn revoke(&self, id: &KeyId, now: Timestamp) -> Result<bool, KeyFileError> {
        let _lock = self.lock()?;
        let text = self.text()?;
        let (mut is_found, mut is_changed) = (false, false);
        let mut changed = String::with_capacity(text.len() + 64);
        for line in text.lines() {
            // A line that cannot be read stays as it is.
            let record = KeyRecord::parse(line).ok().filter(|record| record.id == *id);
            is_found |= record.is_some();
            match record.filter(|record| record.state(now) != KeyState::Revoked) {
                Some(record) => {
                    let record = KeyRecord { revoke_time: Some(now), ..record };
                    changed.push_str(&record.to_line().map_err(KeyFileError::Invalid)?);
                    is_changed = true;
                }
                None => changed.push_str(line),
            }
            changed.push('\n');
        }
        if !is_found {
            return Err(KeyFileError::Unknown { id: id.clone(), path: self.path.clone() });
        }
        if is_changed {
            self.write(&changed)?;
        }
        Ok(is_changed)
    }

    fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> KeyFileError {
        let path = self.path.clone();
        move |cause| KeyFileError::File { path, action, cause }
    }

    fn text(&self) -> Result<String, KeyFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(self.error("read")(error)),
        };
        // The opened file, as the path may name another one by now.
        let metadata = file.metadata().map_err(self.error("read"))?;
        GuardedFile::Keys.check(&self.path, &metadata)?;
        if metadata.len() > FILE_BYTES_MAX {
            return Err(self.error("read")(io::Error::other("it is larger than 512 MiB")));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(self.error("read"))?;
        // A line that is no text is no key, and takes no other along.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Waits for other programs that change the file.
    fn lock(&self) -> Result<File, KeyFileError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(self.folder());
        made.map_err(self.error("written"))?;
        // The file itself is replaced, so a lock on it would be one on a file that is gone.
        let path = PathBuf::from(format!("{}.lock", self.path.display()));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = file.map_err(self.error("locked"))?;
        file.lock().map_err(self.error("locked"))?;
        Ok(file)
    }

    /// Replaces the file by one with this content, so that a reader sees the old or the new one.
    fn write(&self, text: &str) -> Result<(), KeyFileError> {
        let written = || {
            let mut draft = tempfile::Builder::new()
                .prefix(".keys-")
                .permissions(Permissions::from_mode(0o600))
                .tempfile_in(self.folder())?;
            draft.write_all(text.as_bytes())?;
            draft.as_file().sync_all()?;
            draft.persist(&self.path).map_err(|error| error.error)?;
            File::open(self.folder())?.sync_all()
        };
        written().map_err(self.error("written"))
    }
}
