//! The folders of shims: beside a store, one for each shim, with its files. A lock shows that the shim is
//! alive, and the identity of the folder is the address of its socket.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The name of the file with the shim's messages, which is locked while the shim is alive.
const LOG: &str = "log";

/// The extension of the note that a shim has ended in good order.
const ENDED: &str = "ended";

/// The hexadecimal digits in the name of a folder.
const NAME_DIGITS: usize = 16;

/// The attempts to create a folder.
const CREATE_ATTEMPTS: u32 = 10;

/// The folder of one shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimFolder {
    path: PathBuf,
}

impl ShimFolder {
    /// Returns the folder with this path.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the folders of the shims beside a store, in no particular order. Other files are left
    /// alone.
    pub(super) fn list(parent: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_name) && entry.file_type()?.is_dir() {
                folders.push(Self { path: entry.path() });
            }
        }
        Ok(folders)
    }

    /// Returns the shims beside a store that have ended in good order and of which a server may still want
    /// to know.
    pub(super) fn list_ended(parent: &Path) -> Vec<Self> {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let notes = entries.map(|entry| entry.path());
        let notes = notes.filter(|path| path.extension().is_some_and(|end| end == ENDED));
        notes.map(|path| Self { path: path.with_extension("") }).collect()
    }

    /// Notes beside the folder that the shim has ended in good order: the end of each run that it had is
    /// durable.
    pub(super) fn note_end(&self) -> io::Result<()> {
        File::create(self.path.with_extension(ENDED)).map(drop)
    }

    /// Removes that note.
    pub(super) fn remove_note(&self) -> io::Result<()> {
        fs::remove_file(self.path.with_extension(ENDED))?;
        self.remove_parent();
        Ok(())
    }

    /// Creates the folder of a new shim, for this user only.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!("{:0NAME_DIGITS$x}", rand::random::<u64>()));
        // With the folder above it, which the last of other shims may be removing.
        for _ in 0..CREATE_ATTEMPTS {
            let mut builder = DirBuilder::new();
            match builder.recursive(true).mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                created => return created.map(|()| Self { path }),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Returns the name, which is unique. It is a part of the arguments of the shim.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Returns the number in the name, or `None` if the folder has a name of its own.
    pub(super) fn number(&self) -> Option<u64> {
        u64::from_str_radix(&self.name(), 16).ok()
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the socket.
    pub(super) fn listen(&self) -> io::Result<OwnedFd> {
        UnixListener::bind_addr(&self.address()?).map(OwnedFd::from)
    }

    /// Connects to the shim. Returns `None` if there is none. An error of the kind `ConnectionRefused`
    /// means that the shim is about to end, or that its socket cannot be seen from here.
    pub(super) fn connect(&self) -> io::Result<Option<UnixStream>> {
        match self.has_shim()? {
            true => UnixStream::connect_addr(&self.address()?).map(Some),
            false => Ok(None),
        }
    }

    /// Creates the file for the shim's messages, which stays locked until every process that has it open
    /// is gone.
    pub(super) fn create_log(&self) -> io::Result<File> {
        let log = File::create(self.path.join(LOG))?;
        log.try_lock()?;
        Ok(log)
    }

    /// Returns whether the shim is alive.
    fn has_shim(&self) -> io::Result<bool> {
        let log = match File::open(self.path.join(LOG)) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match log.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns the address of the socket. It is no file, since a folder with one cannot be copied by every
    /// tool, and has the identity of the folder, since a copy has no shim.
    fn address(&self) -> io::Result<SocketAddr> {
        let identity = fs::metadata(&self.path)?;
        let (device, inode) = (identity.dev(), identity.ino());
        SocketAddr::from_abstract_name(format!("callpark/{}/{device:x}-{inode:x}", self.name()))
    }

    /// Returns the first line of the shim's messages, or an empty text.
    pub(super) fn first_message(&self) -> String {
        let log = fs::read_to_string(self.path.join(LOG)).unwrap_or_default();
        log.lines().next().unwrap_or_default().to_owned()
    }

    /// Returns whether the folder was removed, so that no server can connect to the shim.
    pub(super) fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// Removes the folder with all files, and the one above it if it has no other.
    pub(super) fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)?;
        self.remove_parent();
        Ok(())
    }

    fn remove_parent(&self) {
        if let Some(parent) = self.path.parent() {
            // It fails while there are other shims.
            let _result = fs::remove_dir(parent);
        }
    }
}

fn is_name(name: &str) -> bool {
    name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
