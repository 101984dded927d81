//! The file of a Unix domain socket.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, RenameFlags, chmod, fchmod, renameat_with};
use tokio::net::{UnixListener, UnixSocket};

/// The number of connections that queue in the kernel, as for TCP.
const BACKLOG: u32 = 1024;

/// The file of a socket that this process listens on. It is removed when it is dropped, unless another
/// file has its name by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

/// The identity of a file, whatever its name is.
type FileId = (u64, u64);

impl SocketFile {
    /// Listens on a new socket with this path and these permissions. A file that a killed server has
    /// left is replaced.
    ///
    /// # Errors
    /// Another server listens on it, or the path names another file.
    pub(super) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        let socket = match bind(path, mode) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                bind(path, mode)?
            }
            bound => bound?,
        };
        // From here on the file is removed whatever happens.
        let file = Self { path: path.to_owned(), id: file_id(path)? };
        // The mask of the process may have removed permissions.
        chmod(path, Mode::from_raw_mode(mode))?;
        Ok((socket.listen(BACKLOG)?, file))
    }

    /// Returns the path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket cannot be removed");
        }
    }
}

/// Binds a new socket. Its file has no more than these permissions from the beginning.
fn bind(path: &Path, mode: u32) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    socket.bind(path)?;
    Ok(socket)
}

/// Removes a socket that nothing listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "there is a file that is not a socket: remove it, or choose another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // The queue of a live listener may be full.
        Ok(_) => return Err(ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(ErrorKind::AddrInUse.into());
        }
        Err(error) => return Err(error),
    }
    // Moved away first, because another server may have put a socket of its own there since.
    let stale = (metadata.dev(), metadata.ino());
    let aside = path.with_added_extension(format!("stale-{}", std::process::id()));
    renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE)?;
    if file_id(&aside)? == stale {
        return std::fs::remove_file(&aside);
    }
    renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?;
    Err(ErrorKind::AddrInUse.into())
}

fn file_id(path: &Path) -> io::Result<FileId> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        SocketFile::listen(path, 0o600)
    }

    #[tokio::test]
    async fn a_socket_has_its_permissions_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for mode in [0o600, 0o660, 0o666] {
            let listening = SocketFile::listen(&path, mode).unwrap();
            let found = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{found:o}");
            drop(listening);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_socket_that_a_dead_server_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener of the standard library leaves its file");
        let _listening = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_socket_of_a_live_server_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listening = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "mine").unwrap();
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = listen(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }
}
