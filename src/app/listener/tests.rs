mod tls;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Endpoint, Server as TonicServer};
use tower::ServiceExt;

use super::{Accept, Connection, Incoming, Listener, ListenerOptions, Socket, bind};
use crate::app::config::SocketMode;
use crate::auth::{Peer, PeerInfo};
use crate::telemetry::Metrics;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Far more than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A listener at work; what it yields comes out of `connections`.
struct Server {
    address: SocketAddr,
    connections: mpsc::Receiver<Connection>,
    metrics: Metrics,
    _task: JoinSet<()>,
}

fn options() -> ListenerOptions {
    ListenerOptions {
        connections_max: 100,
        connections_per_peer_max: 100,
        pending_handshakes_max: 100,
        handshake_timeout: TIMEOUT * 2,
        tls: None,
    }
}

async fn start(options: ListenerOptions) -> Server {
    let listeners = listeners().await;
    let address = address(&listeners[0]);
    let metrics = Metrics::default();
    drive(address, Incoming::new(listeners, options, metrics.clone()), metrics)
}

async fn listeners() -> Vec<Listener> {
    listen("127.0.0.1:0").await
}

async fn listen(address: &str) -> Vec<Listener> {
    let address = address.parse().expect("an address");
    bind(&[address], SocketMode::OWNER, "listen").await.expect("bound")
}

fn address(listener: &Listener) -> SocketAddr {
    listener.address().expect("an address").expect("of the network")
}

fn drive(address: SocketAddr, mut incoming: Incoming, metrics: Metrics) -> Server {
    let (sender, connections) = mpsc::channel(100);
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some(Ok(connection)) = incoming.next().await {
            if sender.send(connection).await.is_err() {
                return;
            }
        }
    });
    Server { address, connections, metrics, _task: task }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// A client that behaves, and the server's end of its connection.
    async fn check_good_client(&mut self) -> (TcpStream, Connection) {
        let mut client = self.connect().await;
        client.write_all(PREFACE).await.expect("written");
        let connection = self.next().await;
        (client, connection)
    }

    async fn next(&mut self) -> Connection {
        timeout(TIMEOUT, self.connections.recv()).await.expect("in time").expect("a connection")
    }

    fn check_refused(&self, reason: &str, count: u32) {
        self.check_line(&format!(
            "callpark_connections_refused_total{{reason=\"{reason}\"}} {count}"
        ));
    }

    fn check_line(&self, line: &str) {
        let page = self.metrics.render();
        assert!(page.lines().any(|l| l == line), "no line `{line}` in:\n{page}");
    }
}

/// The server has closed this client's connection, or does so soon.
async fn check_closed(client: &mut TcpStream) {
    let read = timeout(TIMEOUT, client.read(&mut [0; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "read {read:?} from a connection that should be shut");
}

#[tokio::test]
async fn bytes_of_the_handshake_are_read_again() {
    let mut server = start(options()).await;
    let mut client = server.connect().await;
    // The preface comes in two pieces, the second with more behind it.
    client.write_all(&PREFACE[..10]).await.expect("written");
    client.write_all(&[&PREFACE[10..], b"more"].concat()).await.expect("written");
    let mut connection = server.next().await;
    let mut all = vec![0; PREFACE.len() + 4];
    timeout(TIMEOUT, connection.read_exact(&mut all)).await.expect("in time").expect("read");
    assert_eq!(all, [PREFACE, b"more"].concat());
    let own = client.local_addr().expect("an address");
    assert_eq!(connection.connect_info().peer, Peer::Network(own));
    connection.write_all(b"hello").await.expect("written");
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.expect("read");
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn silent_and_slow_peers_are_closed_at_the_deadline_and_others_are_not() {
    let handshake_timeout = Duration::from_millis(200);
    let mut server = start(ListenerOptions { handshake_timeout, ..options() }).await;
    let (_client, mut good) = server.check_good_client().await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(&PREFACE[..23]).await.expect("written");
    check_closed(&mut silent).await;
    check_closed(&mut slow).await;
    server.check_refused("handshake_timeout", 2);
    server.check_line("callpark_connections_open 1");
    good.write_all(b"still here").await.expect("written");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_http2_is_closed_at_once() {
    let server = start(options()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    check_closed(&mut client).await;
    server.check_refused("not_http2", 1);
}

#[tokio::test]
async fn a_connection_over_the_cap_is_closed_until_there_is_a_slot() {
    let mut server = start(ListenerOptions { connections_max: 2, ..options() }).await;
    let _first = server.check_good_client().await;
    let second = server.check_good_client().await;
    check_closed(&mut server.connect().await).await;
    server.check_refused("too_many_connections", 1);
    drop(second);
    let _third = server.check_good_client().await;
    server.check_line("callpark_connections_open 2");
    server.check_line("callpark_connections_accepted_total 3");
}

#[tokio::test]
async fn a_peer_over_its_cap_is_closed() {
    let mut server = start(ListenerOptions { connections_per_peer_max: 1, ..options() }).await;
    let _first = server.check_good_client().await;
    check_closed(&mut server.connect().await).await;
    server.check_refused("too_many_from_peer", 1);
}

#[tokio::test]
async fn handshakes_over_the_cap_are_closed_and_those_under_way_end_well() {
    let mut server = start(ListenerOptions { pending_handshakes_max: 1, ..options() }).await;
    let mut slow = server.connect().await;
    check_closed(&mut server.connect().await).await;
    server.check_refused("too_many_handshakes", 1);
    slow.write_all(PREFACE).await.expect("written");
    let _connection = server.next().await;
    let _other = server.check_good_client().await;
}

/// Fails as a system without file descriptors does, then gives out what the listener has.
struct Starved {
    failures: u32,
    listener: Listener,
}

impl Accept for Starved {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        if self.failures == 0 {
            return self.listener.poll_accept(cx);
        }
        self.failures -= 1;
        // EMFILE, too many open files.
        Poll::Ready(Err(io::Error::from_raw_os_error(24)))
    }
}

#[tokio::test]
async fn accepting_goes_on_after_the_system_had_no_descriptors() {
    let listener = listeners().await.remove(0);
    let address = address(&listener);
    let metrics = Metrics::default();
    let sources: Vec<Box<dyn Accept>> = vec![Box::new(Starved { failures: 3, listener })];
    let incoming = Incoming::from_sources(sources, options(), metrics.clone());
    let mut server = drive(address, incoming, metrics);
    let _connection = server.check_good_client().await;
    server.check_line("callpark_accept_errors_total 3");
}

/// Keepalive of HTTP/2 takes over where the handshake's deadline ends: a peer that falls silent
/// after the preface is closed too.
#[tokio::test]
async fn a_peer_that_stops_after_the_preface_is_closed_by_keepalive() {
    let listeners = listeners().await;
    let address = address(&listeners[0]);
    let incoming = Incoming::new(listeners, options(), Metrics::default());
    let mut task = JoinSet::new();
    task.spawn(async move {
        TonicServer::builder()
            .http2_keepalive_interval(Some(Duration::from_millis(100)))
            .http2_keepalive_timeout(Some(Duration::from_millis(100)))
            .serve_with_incoming(Routes::default().prepare(), incoming)
            .await
    });
    let mut client = TcpStream::connect(address).await.expect("connected");
    client.write_all(PREFACE).await.expect("written");
    let mut received = Vec::new();
    let end = timeout(TIMEOUT, client.read_to_end(&mut received)).await;
    assert!(end.is_ok(), "still open");
}

/// A client of tonic's over a server of tonic's: the handler learns who calls.
#[tokio::test]
async fn a_handler_learns_the_address_of_its_peer() {
    async fn peer(axum::Extension(info): axum::Extension<PeerInfo>) -> [(&'static str, String); 1] {
        [("x-peer", info.peer.to_string())]
    }
    let listeners = listeners().await;
    let address = address(&listeners[0]);
    let incoming = Incoming::new(listeners, options(), Metrics::default());
    let routes = Routes::from(axum::Router::new().route("/peer", axum::routing::get(peer)));
    let mut task = JoinSet::new();
    task.spawn(TonicServer::builder().serve_with_incoming(routes.prepare(), incoming));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an endpoint");
    let channel = timeout(TIMEOUT, endpoint.connect()).await.expect("in time").expect("connected");
    let request = http::Request::get("/peer").body(tonic::body::Body::empty()).expect("a request");
    let answer = timeout(TIMEOUT, channel.oneshot(request)).await.expect("in time");
    assert!(
        answer.expect("an answer").headers()["x-peer"]
            .to_str()
            .is_ok_and(|peer| peer.starts_with("127.0.0.1:"))
    );
}
