//! The file of a Unix domain socket.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, chmod, flock, renameat_with};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// The number of connections that queue in the kernel, as for TCP.
const BACKLOG: u32 = 1024;

/// The number and the interval of the checks whether no other server is starting in the folder.
const TURN_CHECKS: u32 = 400;
const TURN_CHECK: Duration = Duration::from_millis(5);

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
    pub(super) async fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        // Between the creation of a file and the look at its identity, no other server may replace it.
        let _turn = take_turn(path).await;
        let socket = match bind(path) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                remove_stale(path).await?;
                bind(path)?
            }
            bound => bound?,
        };
        // From here on the file is removed whatever happens.
        let file = Self { path: path.to_owned(), id: file_id(path)? };
        // Nobody can connect before `listen`.
        chmod(path, Mode::from_raw_mode(mode))?;
        let listener = socket.listen(BACKLOG)?;
        // A server that started at the same time may have taken the file for a stale one.
        match file_id(path) {
            Ok(id) if id == file.id => Ok((listener, file)),
            _ => Err(ErrorKind::AddrInUse.into()),
        }
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

/// Waits for the turn of this server among those that start in the folder of the path. It ends when the
/// result is dropped. There is none if the folder cannot be locked, or is locked for longer than a start
/// takes.
async fn take_turn(path: &Path) -> Option<OwnedFd> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty()).ok()?;
    for _ in 0..TURN_CHECKS {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::WOULDBLOCK) => tokio::time::sleep(TURN_CHECK).await,
            Err(_) => return None,
        }
    }
    None
}

fn bind(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    Ok(socket)
}

/// Removes a socket that nothing listens on.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty())?;
    // The file, whatever its name is. The path of a socket must not be long.
    let file = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let metadata = std::fs::metadata(&file)?;
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "there is a file that is not a socket: remove it, or choose another path",
        ));
    }
    check_dead(&file).await?;
    let stale = (metadata.dev(), metadata.ino());
    if file_id(path)? != stale {
        return Err(ErrorKind::AddrInUse.into());
    }
    // Moved away first, because a server that starts at the same time may have put a socket of its
    // own there, or may listen by now.
    let aside = path.with_added_extension(format!("stale-{}", uuid::Uuid::new_v4().simple()));
    std::fs::rename(path, &aside)?;
    if file_id(&aside)? == stale && check_dead(&file).await.is_ok() {
        return std::fs::remove_file(&aside);
    }
    renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE)?;
    Err(ErrorKind::AddrInUse.into())
}

/// Checks that nothing listens on a socket.
async fn check_dead(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        // The queue of a live listener may be full.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

fn file_id(path: &Path) -> io::Result<FileId> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
        SocketFile::listen(path, 0o600).await
    }

    async fn check_live(path: &Path) {
        UnixStream::connect(path).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_has_its_permissions_and_is_removed_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for mode in [0o600, 0o660, 0o666] {
            let listening = SocketFile::listen(&path, mode).await.unwrap();
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
        let _listening = listen(&path).await.unwrap();
        check_live(&path).await;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_socket_of_a_live_server_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        // As long as the path of a socket may be.
        let room = 106 - folder.path().as_os_str().len();
        let path = folder.path().join("s".repeat(room));
        let _listening = listen(&path).await.unwrap();
        assert_eq!(listen(&path).await.unwrap_err().kind(), ErrorKind::AddrInUse);
        check_live(&path).await;
    }

    #[tokio::test]
    async fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        std::fs::write(&path, "mine").unwrap();
        let error = listen(&path).await.unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = listen(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = listen(&path).await.unwrap();
        drop(first);
        check_live(&path).await;
    }

    #[tokio::test]
    async fn of_two_servers_that_start_together_one_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for _ in 0..50 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let mut starts = tokio::task::JoinSet::new();
            for _ in 0..2 {
                let path = path.clone();
                starts.spawn_blocking(move || {
                    let runtime = tokio::runtime::Handle::current();
                    runtime.block_on(SocketFile::listen(&path, 0o600))
                });
            }
            let started: Vec<_> = starts.join_all().await.into_iter().flatten().collect();
            assert!(started.len() <= 1, "{} listen on one path", started.len());
            if !started.is_empty() {
                check_live(&path).await;
            }
            drop(started);
            let _ = std::fs::remove_file(&path);
        }
    }
}
