//! A proxy between a client and a server that treats connections badly.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// The fate of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Left alone.
    Whole,
    /// Both ends are dropped after so many bytes from the server, whatever is on its way.
    CutDown(usize),
    /// The same after so many bytes from the client.
    CutUp(usize),
    /// After so many bytes from the server nothing passes any more, and both ends stay open.
    Stall(usize),
    /// After so many bytes the client gets the end of the server's data; what the
    /// client says still passes.
    HalfClose(usize),
    /// Data from the server passes in pieces of at most so many bytes, one a millisecond.
    Throttle(usize),
}

/// Says what becomes of the next connection.
pub type Fates = Box<dyn FnMut() -> Fate + Send>;

/// A proxy. Its connections end with it.
pub struct Proxy {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    damaged: Arc<AtomicUsize>,
    _end: DropGuard,
}

impl Proxy {
    /// A proxy for this endpoint. It damages so many connections, each as the next fate says; the
    /// ones after those it lets live.
    pub async fn start(endpoint: &str, damaged_max: usize, fates: Fates) -> Self {
        let target = endpoint.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address");
        let (end, damaged) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (stopped, count, fates) = (end.clone(), damaged.clone(), Mutex::new(fates));
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let is_damaged = count.load(Ordering::Relaxed) < damaged_max;
                let fate = match is_damaged {
                    true => fates.lock().unwrap_or_else(PoisonError::into_inner)(),
                    false => Fate::Whole,
                };
                let (stopped, count) = (stopped.clone(), count.clone());
                TaskTracker::new().spawn(stopped.run_until_cancelled_owned(async move {
                    carry(client, target, fate, &count).await;
                }));
            }
        };
        TaskTracker::new().spawn(end.clone().run_until_cancelled_owned(accept));
        Self { endpoint: format!("http://{own}"), damaged, _end: end.drop_guard() }
    }

    /// Returns the number of connections that have met their fate.
    pub fn damaged(&self) -> usize {
        self.damaged.load(Ordering::Relaxed)
    }
}

/// Carries bytes both ways, as long as the connection's fate lets it.
async fn carry(mut client: TcpStream, target: SocketAddr, fate: Fate, damaged: &AtomicUsize) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let unbound = usize::MAX;
    let (up_max, down_max, piece) = match fate {
        Fate::Whole => (unbound, unbound, PIECE),
        Fate::CutDown(length) | Fate::Stall(length) | Fate::HalfClose(length) => {
            (unbound, length, PIECE)
        }
        Fate::CutUp(length) => (length, unbound, PIECE),
        Fate::Throttle(piece) => (unbound, unbound, piece),
    };
    let mut to_client = to_client;
    let pause = matches!(fate, Fate::Throttle(_)).then_some(Duration::from_millis(1));
    if pause.is_some() {
        damaged.fetch_add(1, Ordering::Relaxed);
    }
    let up = copy(from_client, &mut to_server, up_max, PIECE, None);
    let down = copy(from_server, &mut to_client, down_max, piece, pause);
    let mut up = std::pin::pin!(up);
    let met_its_fate = tokio::select! {
        met = &mut up => met,
        met = down => met,
    };
    if !met_its_fate {
        return;
    }
    damaged.fetch_add(1, Ordering::Relaxed);
    match fate {
        Fate::Stall(_) => std::future::pending().await,
        Fate::HalfClose(_) => {
            // The client may have gone already.
            let _ = to_client.shutdown().await;
            up.await;
        }
        Fate::Whole | Fate::CutDown(_) | Fate::CutUp(_) | Fate::Throttle(_) => {}
    }
}

/// The largest piece that is carried at once, in bytes.
const PIECE: usize = 16 << 10;

/// Copies so many bytes. True: all of them. False: one of the ends has gone.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    mut left: usize,
    piece_max: usize,
    pause: Option<Duration>,
) -> bool {
    let mut piece = vec![0; piece_max];
    while left > 0 {
        let room = piece.len().min(left);
        let Ok(read @ 1..) = from.read(&mut piece[..room]).await else { return false };
        if to.write_all(&piece[..read]).await.is_err() {
            return false;
        }
        left -= read;
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    true
}
