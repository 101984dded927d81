//! Peers that connect and say nothing, too little, or something else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::frames::{PREFACE, Peer};
use super::neighbour::Neighbour;
use crate::support::{TEST_TIMEOUT, TestServer};

const DEADLINE: Duration = Duration::from_millis(500);

/// Sends these pieces with pauses, and checks that the connection is closed at the deadline.
async fn check_closed_at_deadline(endpoint: &str, pieces: &[&[u8]]) {
    let began = Instant::now();
    let mut peer = Peer::silent(endpoint).await;
    for piece in pieces {
        peer.send(piece).await;
        tokio::time::sleep(DEADLINE / 50).await;
    }
    assert!(peer.closed().await.is_closed);
    let took = began.elapsed();
    assert!(took >= DEADLINE && took < TEST_TIMEOUT / 2, "{pieces:?}: {took:?}");
}

#[tokio::test]
async fn peers_that_never_finish_the_preface_are_closed_at_the_handshakes_deadline() {
    let server = TestServer::with(&[("handshake-timeout", "500ms")]).await;
    let neighbour = Neighbour::of(&server).await;
    let half = [&PREFACE[..12]];
    let drip: Vec<&[u8]> = PREFACE[..PREFACE.len() - 1].chunks(1).collect();
    tokio::join!(
        check_closed_at_deadline(&server.endpoint, &[]),
        check_closed_at_deadline(&server.endpoint, &half),
        check_closed_at_deadline(&server.endpoint, &drip),
    );
    neighbour.unharmed().await;
}

#[tokio::test]
async fn peers_of_a_tls_port_that_never_finish_are_closed_at_the_handshakes_deadline() {
    let folder = crate::support::folder();
    let names = ["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(names).expect("a certificate");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
        path.display().to_string()
    };
    let (cert, key) = (file("cert.pem", cert.pem()), file("key.pem", signing_key.serialize_pem()));
    let settings = [("handshake-timeout", "500ms"), ("tls-cert", &*cert), ("tls-key", &*key)];
    let server = TestServer::with(&settings).await;
    tokio::join!(
        check_closed_at_deadline(&server.endpoint, &[]),
        // The header of a record, and a handshake that begins like one.
        check_closed_at_deadline(&server.endpoint, &[&[0x16, 3, 1, 2, 0], &[1, 0, 1, 0xfc]]),
    );
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_closed_at_once() {
    let server = TestServer::with(&[("handshake-timeout", "5m")]).await;
    let openings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0\0\0\x04\0\0\0\0\0",
        &[0xff; 4096],
    ];
    for opening in openings {
        let mut peer = Peer::silent(&server.endpoint).await;
        peer.send(opening).await;
        assert!(peer.closed().await.is_closed, "{opening:?}");
    }
    Neighbour::of(&server).await.unharmed().await;
}

/// From the preface on it is the keepalive that checks the peer.
#[tokio::test]
async fn a_peer_that_stops_after_the_preface_is_closed_and_one_that_answers_pings_is_not() {
    let settings = [("keepalive-interval", "1s"), ("keepalive-timeout", "1s")];
    let server = TestServer::with(&settings).await;
    let mut idle = Peer::connect(&server.endpoint).await;
    let mut silent = Peer::silent(&server.endpoint).await;
    silent.send(PREFACE).await;
    let closed = async {
        // The server's frames are not answered.
        silent.ignore_until_closed().await;
    };
    tokio::select! {
        () = closed => {}
        fate = idle.closed() => panic!("closed, though it answers: {fate:?}"),
    }
}
