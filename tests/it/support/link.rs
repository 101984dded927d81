//! An address of a server that can be taken away and given back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// An address that passes connections on to a server. Two of them before one server are like two
/// servers with one state.
pub struct Link {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    own: SocketAddr,
    target: SocketAddr,
    open: Mutex<Option<Open>>,
    accepted: Arc<AtomicUsize>,
}

struct Open {
    tasks: TaskTracker,
    end: DropGuard,
}

impl Link {
    /// An address for the server at this endpoint.
    pub async fn start(endpoint: &str) -> Self {
        let target = endpoint.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address");
        let accepted = Arc::default();
        let link = Self {
            endpoint: format!("http://{own}"),
            own,
            target,
            open: Mutex::new(None),
            accepted,
        };
        link.listen(listener).await;
        link
    }

    async fn listen(&self, listener: TcpListener) {
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let (target, accepted) = (self.target, Arc::clone(&self.accepted));
        let (connections, ended) = (tasks.clone(), end.clone());
        let accept = async move {
            loop {
                let (mut client, _) = listener.accept().await.expect("a connection");
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(ended.clone().run_until_cancelled_owned(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    // The end of either side is the end of the connection.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }));
            }
        };
        tasks.spawn(end.clone().run_until_cancelled_owned(accept));
        *self.open.lock().await = Some(Open { tasks, end: end.drop_guard() });
    }

    /// Ends all connections, and refuses further ones.
    pub async fn cut(&self) {
        let Some(Open { tasks, end }) = self.open.lock().await.take() else { return };
        drop(end);
        tasks.close();
        tasks.wait().await;
    }

    /// Takes connections again, if it does not.
    pub async fn mend(&self) {
        if self.open.lock().await.is_some() {
            return;
        }
        self.listen(TcpListener::bind(self.own).await.expect("the same port")).await;
    }

    /// Returns the number of connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}
