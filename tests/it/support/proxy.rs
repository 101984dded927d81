//! A proxy between a client and a server that cuts connections after so many bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How many bytes a connection may carry, from server to client, before it is cut.
pub type Lengths = Box<dyn FnMut() -> usize + Send>;

/// A proxy. Its connections end with it.
pub struct Proxy {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    cuts: Arc<AtomicUsize>,
    _end: DropGuard,
}

impl Proxy {
    /// A proxy for this endpoint. It cuts so many connections, each after as many bytes as the
    /// next length says; the ones after those it lets live.
    pub async fn start(endpoint: &str, cuts_max: usize, mut lengths: Lengths) -> Self {
        let target = endpoint.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address");
        let (end, cuts) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (end.clone(), cuts.clone());
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let left = count.load(Ordering::Relaxed) < cuts_max;
                let length = if left { lengths() } else { usize::MAX };
                let (stopped, count) = (stopped.clone(), count.clone());
                TaskTracker::new().spawn(stopped.run_until_cancelled_owned(async move {
                    if carry(client, target, length).await {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
        };
        TaskTracker::new().spawn(end.clone().run_until_cancelled_owned(accept));
        Self { endpoint: format!("http://{own}"), cuts, _end: end.drop_guard() }
    }

    /// How many connections it has cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Carries bytes both ways. True: until `length` bytes had come from the server. Both ends are
/// dropped then, whatever is on its way.
async fn carry(mut client: TcpStream, target: SocketAddr, length: usize) -> bool {
    let Ok(mut server) = TcpStream::connect(target).await else { return false };
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        _ = copy(from_client, to_server, usize::MAX) => false,
        cut = copy(from_server, to_client, length) => cut,
    }
}

/// Copies so many bytes. True: all of them. False: one of the ends has gone.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut left: usize,
) -> bool {
    let mut piece = vec![0; 16 << 10];
    while left > 0 {
        let room = piece.len().min(left);
        let Ok(read @ 1..) = from.read(&mut piece[..room]).await else { return false };
        if to.write_all(&piece[..read]).await.is_err() {
            return false;
        }
        left -= read;
    }
    true
}
