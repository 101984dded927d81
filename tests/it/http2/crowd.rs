//! All that is bad, at once, beside one client that behaves.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frames::{
    CANCEL, CONTINUATION, DATA, END_STREAM, HEADERS, PING, PREFACE, Peer, SETTINGS, frame, headers,
    message, reset,
};
use super::gzip::zeros;
use super::hpack::Head;
use super::neighbour::{Memory, Neighbour};
use super::requests::dry_run;
use super::unread::{replay, session_with};
use crate::support::processor_time::processor_ticks;
use crate::support::program::{Program, Site};
use crate::support::soon;

const PEERS: u16 = 300;

/// The number of calls of a client that behaves, beside the peers and on another server.
const CALLS: usize = 120;

/// The time for which a peer stays, unless the server ends the connection before, until it comes
/// again.
const STAY: Duration = Duration::from_secs(2);

/// The processor time that the server may spend on one connection of a bad peer, in calls of a client that
/// behaves: most of these connections bring 200 requests, or as many frames.
const CONNECTION_CALLS_MAX: f64 = 4.0;

/// The growth of the server's memory while they are connected, and once they are gone.
const CROWD_BYTES_MAX: usize = 64 << 20;
const LEFT_BYTES_MAX: usize = 48 << 20;

/// The misbehaviour of a peer.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Silent,
    HalfPreface,
    OtherProtocol,
    Resets,
    Malformed,
    EndlessHead,
    EmptyData,
    Pings,
    Settings,
    Drip,
    HugeLength,
    Bomb,
    Unread,
    Cut,
    Deaf,
}

const KINDS: [Kind; 15] = [
    Kind::Silent,
    Kind::HalfPreface,
    Kind::OtherProtocol,
    Kind::Resets,
    Kind::Malformed,
    Kind::EndlessHead,
    Kind::EmptyData,
    Kind::Pings,
    Kind::Settings,
    Kind::Drip,
    Kind::HugeLength,
    Kind::Bomb,
    Kind::Unread,
    Kind::Cut,
    Kind::Deaf,
];

/// The address and the token that the peers use.
struct Target {
    endpoint: String,
    token: String,
    session_id: String,
    bomb: Vec<u8>,
    stop: CancellationToken,
    rounds: watch::Sender<usize>,
}

impl Target {
    fn head(&self) -> Head {
        Head::of("ToolRunner/RunTool", &self.token)
    }

    /// All bytes of a peer of this kind behind its settings.
    fn bytes(&self, kind: Kind) -> Vec<u8> {
        let head = self.head();
        let streams = |count: u32| (0..count).map(|index| 2 * index + 1);
        let start = |head: &Head| headers(1, 0, head);
        let then = |start: Vec<u8>, more: Vec<u8>| [start, more].concat();
        match kind {
            Kind::Silent | Kind::HalfPreface | Kind::OtherProtocol => Vec::new(),
            Kind::Resets => {
                let both = |stream| then(headers(stream, 0, &head), reset(stream, CANCEL));
                streams(200).flat_map(both).collect()
            }
            Kind::Malformed => {
                let head = head.without(":path");
                streams(200).flat_map(|stream| headers(stream, END_STREAM, &head)).collect()
            }
            Kind::EndlessHead => {
                let more = frame(CONTINUATION, 0, 1, &Head::default().with("x", "y").encode());
                then(frame(HEADERS, 0, 1, &head.encode()), more.repeat(200))
            }
            Kind::EmptyData => then(start(&head), frame(DATA, 0, 1, b"").repeat(200)),
            Kind::Pings => frame(PING, 0, 0, b"12345678").repeat(200),
            Kind::Settings => frame(SETTINGS, 0, 0, b"").repeat(200),
            Kind::Drip => start(&head),
            Kind::HugeLength => {
                then(start(&head), frame(DATA, 0, 1, &message(0, u32::MAX, b"few")))
            }
            Kind::Bomb => {
                let length = u32::try_from(self.bomb.len()).expect("a length");
                let content = message(1, length, &self.bomb);
                let head = head.with("grpc-encoding", "gzip");
                then(start(&head), frame(DATA, END_STREAM, 1, &content))
            }
            Kind::Unread => {
                let head = Head::of("ToolRunner/StreamSession", &self.token);
                let body =
                    |stream| frame(DATA, END_STREAM, stream, &replay(&self.session_id, stream));
                let ask = |stream| then(headers(stream, 0, &head), body(stream));
                streams(2).flat_map(ask).collect()
            }
            Kind::Cut => then(start(&head), frame(DATA, 0, 1, &dry_run()[..9])),
            Kind::Deaf => {
                let head = Head::of("ToolRunner/RunTool", "no token");
                streams(200).flat_map(|stream| headers(stream, END_STREAM, &head)).collect()
            }
        }
    }

    /// One connection of a bad peer, from its beginning to its end.
    async fn misbehave(&self, kind: Kind, source: Ipv4Addr) {
        let mut peer = match kind {
            Kind::Silent | Kind::HalfPreface | Kind::OtherProtocol => {
                Peer::silent_from(source, &self.endpoint).await
            }
            Kind::Unread => Peer::connect_from(source, &self.endpoint, 0).await,
            _ => Peer::connect_from(source, &self.endpoint, 65_535).await,
        };
        match kind {
            Kind::Silent => {}
            Kind::HalfPreface => peer.send(&PREFACE[..12]).await,
            Kind::OtherProtocol => peer.send(b"GET / HTTP/1.1\r\n\r\n").await,
            _ => peer.send(&self.bytes(kind)).await,
        }
        if matches!(kind, Kind::Drip) {
            for _ in 0..10 {
                tokio::time::sleep(STAY / 10).await;
                peer.send(&frame(DATA, 0, 1, b"\0")).await;
            }
        }
        tokio::time::sleep(STAY).await;
    }

    /// A bad peer, from one connection to the next until the test ends.
    async fn be_bad(self: Arc<Self>, index: u16) {
        let kind = KINDS[usize::from(index) % KINDS.len()];
        // A few peers an address, as if they were many machines.
        let source = Ipv4Addr::new(127, 0, 1, (index / 8 + 1).to_le_bytes()[0]);
        // They don't all come in the same moment.
        tokio::time::sleep(STAY * u32::from(index) / u32::from(PEERS)).await;
        while !self.stop.is_cancelled() {
            self.misbehave(kind, source).await;
            self.rounds.send_modify(|rounds| *rounds += 1);
        }
    }
}

/// Returns the number of sockets that a server has open. Only root sees them.
fn sockets(server: &Program) -> usize {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not checked: the sockets of a server are hidden from its user");
        return 0;
    }
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.live.pid()));
    let links = folder.expect("a live process").flatten().map(|entry| entry.path().read_link());
    let is_socket = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    links.flatten().filter(is_socket).count()
}

/// Returns the time of each of `count` calls of a new client.
async fn calls(server: &Program, count: usize) -> Vec<Duration> {
    let mut neighbour = Neighbour::of(server).await;
    neighbour.more(count).await;
    neighbour.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_bad_peers_costs_a_good_one_little_and_leaves_nothing_behind() {
    let site = Site::new();
    let server = site.serve(&["--handshake-timeout", "1s", "--request-read-timeout", "1s"]).await;
    let session_id = session_with(&server, 4).await;
    // The machine is as busy for this server as for the other one.
    let other_site = Site::new();
    let other = other_site.serve(&[]).await;
    calls(&server, 20).await;
    let (open, memory) = (sockets(&server), Memory::of(&server));
    let target = Arc::new(Target {
        endpoint: server.endpoint.clone(),
        token: server.token.clone(),
        session_id,
        bomb: zeros(1 << 20),
        stop: CancellationToken::new(),
        rounds: watch::Sender::new(0),
    });
    let peers = TaskTracker::new();
    for index in 0..PEERS {
        peers.spawn(target.clone().be_bad(index));
    }
    let mut rounds = target.rounds.subscribe();
    soon("the crowd", rounds.wait_for(|count| *count >= PEERS.into())).await.expect("peers");
    let used = || [&server, &other].map(|server| processor_ticks(server.live.pid()) as f64);
    let (before, [of_server, of_other]) = (*rounds.borrow(), used());
    let (beside, apart) = tokio::join!(calls(&server, CALLS), calls(&other, CALLS));
    let (connections, now) = (*rounds.borrow_and_update() - before, used());
    let call = (now[1] - of_other) / apart.len() as f64;
    let bad = now[0] - of_server - call * beside.len() as f64;
    target.stop.cancel();
    peers.close();
    soon("the end of the crowd", peers.wait()).await;
    let in_calls = bad / connections as f64 / call;
    println!("{bad:.0} ticks for {connections} connections, {call:.2} for a call: {in_calls:.1}");
    assert!(in_calls < CONNECTION_CALLS_MAX, "{in_calls:.1} calls for one connection");
    memory.check_peak(CROWD_BYTES_MAX);
    let gone = async {
        while sockets(&server) > open {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of all connections", gone).await;
    memory.check_now(LEFT_BYTES_MAX);
    calls(&server, 1).await;
}
