//! Peers that ask and don't take the answer: it waits where it costs little, and no other client waits with
//! them.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::frames::{END_STREAM, End, PING, Peer, SETTINGS, frame, headers, window_update};
use super::hpack::Head;
use super::neighbour::{GROWTH_BYTES_MAX, Memory, Neighbour};
use super::requests::of;
use crate::support::program::{Program, Site};
use crate::support::{bash, result_of, soon, stdout_of, v1};

/// The bytes that a call of these tests writes.
const OUTPUT_BYTES: usize = 1_000_000;

/// A session with so many calls' output in its log.
pub async fn session_with(server: &Program, calls: usize) -> String {
    let mut tools = server.connect().tools;
    let created = tools.create_session(v1::CreateSessionRequest::default()).await;
    let session = created.expect("a session").into_inner().session.expect("a session");
    for _ in 0..calls {
        let command = format!("head -c {OUTPUT_BYTES} /dev/zero | tr '\\0' x");
        let session_id = session.session_id.clone();
        let call = v1::RunToolRequest { session_id, ..bash(&command) };
        let answer = soon("a call", tools.run_tool(call)).await.expect("an answer");
        assert_eq!(stdout_of(result_of(answer.get_ref())).len(), OUTPUT_BYTES);
    }
    session.session_id
}

/// A request for the log behind this sequence.
pub fn replay(session_id: &str, after: u32) -> Vec<u8> {
    of(&v1::StreamSessionRequest {
        session_id: session_id.to_owned(),
        start_after_sequence: Some(after.into()),
        follow: Some(false),
        ..Default::default()
    })
}

/// Asks for the log on so many streams, for another part of it on each, so that no two of them
/// share a read.
async fn ask(peer: &mut Peer, server: &Program, session_id: &str, streams: u32) {
    let head = Head::of("ToolRunner/StreamSession", &server.token);
    for index in 0..streams {
        peer.request(2 * index + 1, &head, &replay(session_id, index)).await;
    }
}

#[tokio::test]
async fn a_client_without_a_window_costs_a_page_a_stream_and_has_all_when_it_reads() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let session_id = session_with(&server, 8).await;
    let neighbour = Neighbour::of(&server).await;
    let memory = Memory::of(&server);
    let mut peer = Peer::connect_from(Ipv4Addr::LOCALHOST, &server.endpoint, 0).await;
    ask(&mut peer, &server, &session_id, 32).await;
    // The heads of all answers are there, so their streams have begun.
    peer.heads(32).await;
    neighbour.unharmed().await;
    memory.check_peak(GROWTH_BYTES_MAX + 32 * (512 << 10));
    peer.send(&[window_update(0, 1 << 30), window_update(1, 1 << 30)].concat()).await;
    let answer = peer.answer(1).await;
    assert_eq!((answer.end, answer.status()), (Some(End::Whole), Some(0)));
    assert!(answer.data.len() > 8 * OUTPUT_BYTES, "{}", answer.data.len());
}

/// Two that read the same may share a read: it must not be the one's who has stopped.
#[tokio::test]
async fn a_client_without_a_window_holds_up_no_reader_of_the_same_log() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let session_id = session_with(&server, 4).await;
    let mut unread = Peer::connect_from(Ipv4Addr::LOCALHOST, &server.endpoint, 0).await;
    ask(&mut unread, &server, &session_id, 1).await;
    unread.heads(1).await;
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.send(&window_update(0, 1 << 30)).await;
    ask(&mut peer, &server, &session_id, 1).await;
    peer.send(&window_update(1, 1 << 30)).await;
    let answer = peer.answer(1).await;
    assert_eq!((answer.end, answer.status()), (Some(End::Whole), Some(0)));
    assert!(answer.data.len() > 4 * OUTPUT_BYTES, "{}", answer.data.len());
}

#[tokio::test]
async fn a_client_that_never_reads_its_socket_costs_little_whatever_windows_it_opens() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let session_id = session_with(&server, 8).await;
    let neighbour = Neighbour::of(&server).await;
    let memory = Memory::of(&server);
    let window = (1 << 31) - 1;
    let mut peer = Peer::connect_from(Ipv4Addr::LOCALHOST, &server.endpoint, window).await;
    peer.send(&window_update(0, 1 << 30)).await;
    ask(&mut peer, &server, &session_id, 32).await;
    neighbour.unharmed().await;
    // Two pages: what the transport takes of one makes the next one read.
    memory.check_peak(GROWTH_BYTES_MAX + 32 * 2 * (512 << 10));
}

#[tokio::test]
async fn unread_answers_are_not_piled_up() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let head = Head::of("ToolRunner/RunTool", "no token");
    let refused = |index: u32| headers(2 * index + 1, END_STREAM, &head);
    let floods = [
        frame(PING, 0, 0, b"12345678").repeat(3_000_000),
        frame(SETTINGS, 0, 0, b"").repeat(6_000_000),
        (0..100_000).flat_map(refused).collect(),
    ];
    for flood in floods {
        let neighbour = Neighbour::of(&server).await;
        let memory = Memory::of(&server);
        let mut peer = Peer::connect(&server.endpoint).await;
        // Kept, the answers would be more than the server may grow by.
        peer.push(&flood, Duration::from_secs(1)).await;
        neighbour.unharmed().await;
        memory.check_peak(GROWTH_BYTES_MAX);
    }
}
