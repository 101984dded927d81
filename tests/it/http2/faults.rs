//! Frames that break the rules of HTTP/2: the connection ends with the reason, and only that one.

use super::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, Peer, SETTINGS,
    WINDOW_UPDATE, frame, headers, reset, window_update,
};
use super::hpack::Head;
use super::neighbour::Neighbour;
use super::requests::dry_run;
use crate::support::TestServer;

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;

/// A name, and the bytes behind the preface and the settings.
type Fault = (&'static str, Vec<u8>);

fn faults_of_streams(head: &Head) -> Vec<Fault> {
    let open = |stream| headers(stream, 0, head);
    let block = head.encode();
    vec![
        ("a body on a stream that was never opened", frame(DATA, 0, 1, b"x")),
        ("a body on no stream", frame(DATA, 0, 0, b"x")),
        ("a head on no stream", open(0)),
        ("a head on a stream of the server's", open(2)),
        ("a stream below the last one", [open(5), open(3)].concat()),
        ("the reset of a stream that was never opened", reset(1, CANCEL)),
        ("the reset of no stream", reset(0, CANCEL)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block)),
        (
            "a ping within a head",
            [frame(HEADERS, 0, 1, &block), frame(PING, 0, 0, b"12345678")].concat(),
        ),
        (
            "a head that goes on elsewhere",
            [frame(HEADERS, 0, 1, &block), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
        ),
        ("a promise of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a head that can't be unpacked", frame(HEADERS, END_HEADERS, 1, &[0xff; 20])),
        ("an entry that isn't in the table", frame(HEADERS, END_HEADERS, 1, &[0x80 | 100])),
        ("padding longer than its frame", frame(HEADERS, END_HEADERS | 8, 1, &[200, 0])),
    ]
}

fn faults_of_frames() -> Vec<Fault> {
    vec![
        ("a frame longer than allowed", frame(PING, 0, 0, &[0; (16 << 10) + 1])),
        ("a ping of seven bytes", frame(PING, 0, 0, b"1234567")),
        ("a ping on a stream", frame(PING, 0, 1, b"12345678")),
        ("a reset of three bytes", frame(3, 0, 1, &[0; 3])),
        ("half a setting", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, b"")),
        ("an answer with settings in it", frame(SETTINGS, 1, 0, &[0; 6])),
        ("a window that is too large", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("frames that are too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("a window of the connection that grows by nothing", window_update(0, 0)),
        ("a window that overflows", window_update(0, (1 << 31) - 1)),
        ("a window of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        ("a priority on no stream", frame(PRIORITY, 0, 0, &[0; 5])),
        ("a second preface", PREFACE.to_vec()),
    ]
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_their_connection_and_no_other() {
    let server = TestServer::start().await;
    let neighbour = Neighbour::of(&server).await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    for (name, bytes) in faults_of_streams(&head).into_iter().chain(faults_of_frames()) {
        let mut peer = Peer::connect(&server.endpoint).await;
        peer.send(&bytes).await;
        let fate = peer.closed().await;
        assert!(fate.goaway.is_some_and(|code| code != 0), "{name}: {fate:?}");
    }
    neighbour.unharmed().await;
}

#[tokio::test]
async fn odd_requests_that_the_protocol_allows_are_served() {
    let server = TestServer::start().await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    let block = head.encode();
    let good = dry_run();
    let (first, second) = block.split_at(block.len() / 2);
    let padded = [&[3][..], &block, &[0; 3]].concat();
    let with_priority = [&[0, 0, 0, 0, 255][..], &block].concat();
    let bytes = good.iter().flat_map(|byte| frame(DATA, 0, 9, &[*byte]));
    let trailers = Head::default().with("x-trailer", "1");
    let whole = |stream| frame(DATA, END_STREAM, stream, &good);
    let odd = [
        frame(0xbe, 0xff, 0, b"an unknown kind"),
        frame(SETTINGS, 0, 0, &[0xbe, 0xef, 1, 2, 3, 4]),
        frame(PRIORITY, 0, 99, &[0, 0, 0, 0, 1]),
        // A head in pieces, one of them empty; then with padding, then with a priority.
        [frame(HEADERS, 0, 1, first), frame(CONTINUATION, 0, 1, b"")].concat(),
        [frame(CONTINUATION, END_HEADERS, 1, second), whole(1)].concat(),
        [frame(HEADERS, END_HEADERS | 8, 3, &padded), whole(3)].concat(),
        [frame(HEADERS, END_HEADERS | 0x20, 5, &with_priority), whole(5)].concat(),
        // A body with padding, one byte by byte, and one with something behind it.
        [headers(7, 0, &head), frame(DATA, END_STREAM | 8, 7, &[&[1][..], &good, &[0]].concat())]
            .concat(),
        [headers(9, 0, &head), bytes.collect(), frame(DATA, END_STREAM, 9, b"")].concat(),
        [headers(11, 0, &head), frame(DATA, 0, 11, &good), headers(11, END_STREAM, &trailers)]
            .concat(),
    ];
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.send(&odd.concat()).await;
    for stream in [1, 3, 5, 7, 9, 11] {
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status(), Some(0), "{stream}: {answer:?} {:?}", peer.fate);
    }
}
