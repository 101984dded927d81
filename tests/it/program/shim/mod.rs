//! The shim: work that outlives its server, through kills, stops and faults.

mod damage;
mod deadline;
mod earlier;
mod fake_server;
mod faults;
mod keep_for;
mod kills;
mod limits;
mod owners;
mod stops;
mod unstarted;
mod upgrade;
mod views;
mod worker;

use std::fs::File;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::program::{Clients, Site};
use crate::support::{millis, remote, soon, v1};
use v1::OutputStream::{self, Stderr, Stdout};

/// The socket and the lock of a process that servers take for a shim.
struct FakeShim {
    _log: File,
    listener: UnixListener,
}

impl FakeShim {
    /// The name of the folder.
    const NAME: &str = "0123456789abcdef";

    fn folder(site: &Site) -> PathBuf {
        site.data().join("callpark.db.shims").join(Self::NAME)
    }

    fn listen(site: &Site) -> Self {
        let folder = Self::folder(site);
        std::fs::create_dir_all(&folder).expect("a folder");
        let log = File::create(folder.join("log")).expect("a file");
        log.try_lock().expect("a lock");
        let address = SocketAddr::from_abstract_name(socket_name(&folder)).expect("an address");
        let listener = UnixListener::bind_addr(&address).expect("a socket");
        Self { _log: log, listener }
    }

    fn accept(&self) -> UnixStream {
        self.listener.accept().expect("a server").0
    }
}

/// Returns the name of a shim's socket in the abstract namespace.
fn socket_name(folder: &Path) -> String {
    let identity = std::fs::metadata(folder).expect("a folder");
    let name = folder.file_name().expect("a name").display();
    format!("callpark/{name}/{:x}-{:x}", identity.dev(), identity.ino())
}

/// Connects to the shim of a folder.
fn connect(folder: &Path) -> UnixStream {
    let address = SocketAddr::from_abstract_name(socket_name(folder)).expect("an address");
    UnixStream::connect_addr(&address).expect("a shim")
}

/// A stream of a call, as ReadOutput returns it.
#[derive(Debug, Default)]
struct Stream {
    /// The pieces with their offsets.
    pieces: Vec<(usize, Vec<u8>)>,
    total: usize,
    dropped: usize,
}

impl Stream {
    async fn read(clients: &Clients, id: &str, stream: OutputStream) -> Self {
        let mut read = Self::default();
        let mut offset = 0;
        loop {
            let request = v1::ReadOutputRequest {
                background_id: id.into(),
                stream: stream.into(),
                position: Some(v1::read_output_request::Position::Offset(offset)),
                max_bytes: i32::MAX,
                wait: millis(0),
            };
            let part = soon("output", clients.tasks.clone().read_output(request)).await;
            let part = part.expect("output").into_inner();
            let count = |number: i64| usize::try_from(number).expect("a count");
            (read.total, read.dropped) = (count(part.total_bytes), count(part.dropped_bytes));
            offset = part.next_offset;
            if part.data.is_empty() {
                return read;
            }
            read.pieces.push((count(part.offset), part.data.to_vec()));
        }
    }

    /// Checks that every piece is what was written there, and that all that is not there was counted as
    /// dropped.
    #[track_caller]
    fn check(&self, written: &[u8], what: &str) {
        assert_eq!(self.total, written.len(), "{what}");
        self.check_pieces(written, what);
        let kept: usize = self.pieces.iter().map(|(_, data)| data.len()).sum();
        assert_eq!(kept + self.dropped, self.total, "{what}");
    }

    #[track_caller]
    fn check_pieces(&self, written: &[u8], what: &str) {
        for (offset, data) in &self.pieces {
            let is_exact = written.get(*offset..offset + data.len()) == Some(data);
            assert!(is_exact, "{what}: other bytes from {offset} on");
        }
    }
}

/// Checks that the whole output of a task on a stream is this.
async fn check_output(clients: &Clients, id: &str, stream: OutputStream, written: &[u8]) {
    let read = Stream::read(clients, id, stream).await;
    read.check(written, &format!("{id}, {stream:?}"));
    assert_eq!(read.dropped, 0, "{id}, {stream:?}");
}

/// Checks both streams of a task.
pub async fn check_outputs(clients: &Clients, id: &str, written: [&[u8]; 2]) {
    for (stream, written) in [Stdout, Stderr].into_iter().zip(written) {
        check_output(clients, id, stream, written).await;
    }
}

/// Returns the message of a call that must be lost.
#[track_caller]
pub fn loss_of(task: &v1::Task) -> &str {
    assert_eq!(task.state(), v1::State::Lost, "{task:?}");
    match &task.outcome {
        Some(v1::task::Outcome::Error(error)) => &error.message,
        other => panic!("no error but {other:?}"),
    }
}

/// Returns the exit code of a task that has ended with one.
#[track_caller]
pub fn code_of(task: &v1::Task) -> i32 {
    match &task.outcome {
        Some(v1::task::Outcome::Result(v1::ToolResult {
            exit: Some(v1::tool_result::Exit::ExitCode(code)),
            ..
        })) => *code,
        _ => panic!("no exit code: {task:?}"),
    }
}

/// Waits until a task has written so many bytes to standard output.
pub async fn until_written(clients: &Clients, id: &str, count: usize) {
    let written = async {
        while remote::output(clients, id).await.len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("output", written).await;
}

/// The files with output that the shims of a site hold.
fn spools(site: &Site) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(site.data().join("callpark.db.shims"));
    let folders = folders.into_iter().flatten().flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flatten();
    let files = files.flatten().map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "spool")).collect()
}

/// Waits until this number stays the same, because its process is blocked, and returns it.
async fn until_steady(what: &str, number: impl Fn() -> u64) -> u64 {
    const STEADY: u32 = 20;
    let steady = async {
        let (mut last, mut times) = (0, 0);
        loop {
            let now = number();
            times = if now == last && now > 0 { times + 1 } else { 0 };
            if times == STEADY {
                return now;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, steady).await
}
