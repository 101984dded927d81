//! Streams that are reset, by their caller or for their mistakes, and too many of them.

use super::frames::{
    CANCEL, END_STREAM, ENHANCE_YOUR_CALM, End, Peer, REFUSED_STREAM, body, headers, reset,
};
use super::hpack::Head;
use super::neighbour::Neighbour;
use super::requests::dry_run;
use crate::support::TestServer;

/// The ids of a client's streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|index| 2 * index + 1)
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_their_connection_and_no_other() {
    let server = TestServer::start().await;
    let neighbour = Neighbour::of(&server).await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    let both = |stream| [headers(stream, 0, &head), reset(stream, CANCEL)].concat();
    let flood: Vec<u8> = streams(20_000).flat_map(both).collect();
    let mut peer = Peer::connect(&server.endpoint).await;
    let fate = peer.flood(&flood).await;
    assert!(fate.is_closed && [Some(ENHANCE_YOUR_CALM), None].contains(&fate.goaway), "{fate:?}");
    neighbour.unharmed().await;
}

/// The deadlines of all calls of a client pass together, and it resets their streams before the server
/// has looked at any of them; some that waited for a place follow, with the same fate.
#[tokio::test]
async fn a_client_that_resets_all_of_its_streams_at_once_keeps_its_connection() {
    for limit in [128, 353] {
        let flag = limit.to_string();
        let server = TestServer::with(&[("max-streams-per-connection", &flag)]).await;
        let head = Head::of("ToolRunner/RunTool", server.token());
        let mut peer = Peer::connect(&server.endpoint).await;
        let all: Vec<u32> = streams(limit + 30).collect();
        let opened =
            |stream: &u32| [headers(*stream, 0, &head), body(*stream, &dry_run())].concat();
        let burst = all.chunks(limit as usize).flat_map(|streams| {
            let opened = streams.iter().flat_map(opened);
            opened
                .chain(streams.iter().flat_map(|stream| reset(*stream, CANCEL)))
                .collect::<Vec<_>>()
        });
        peer.send(&burst.collect::<Vec<u8>>()).await;
        let next = 2 * (limit + 30) + 1;
        peer.request(next, &head, &dry_run()).await;
        assert_eq!(peer.answer(next).await.status(), Some(0), "{limit}: {:?}", peer.fate);
        assert_eq!(peer.fate.goaway, None, "{limit}: {:?}", peer.fate);
    }
}

/// Returns the number of requests without a path that are reset before the connection is ended.
async fn resets_before_the_end(server: &TestServer) -> usize {
    let head = Head::of("ToolRunner/RunTool", server.token()).without(":path");
    let mut peer = Peer::connect(&server.endpoint).await;
    for stream in streams(20_000) {
        peer.request(stream, &head, &[]).await;
        match peer.answer(stream).await.end {
            Some(End::Reset(_)) => {}
            None => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(peer.fate.goaway, Some(ENHANCE_YOUR_CALM), "{:?}", peer.fate);
    peer.fate.resets
}

#[tokio::test]
async fn malformed_requests_end_their_connection_after_as_many_as_are_allowed() {
    let server = TestServer::start().await;
    let neighbour = Neighbour::of(&server).await;
    assert_eq!(resets_before_the_end(&server).await, 128);
    // Another connection begins again at nothing.
    assert_eq!(resets_before_the_end(&server).await, 128);
    neighbour.unharmed().await;
    let strict = TestServer::with(&[("max-local-error-resets", "3")]).await;
    assert_eq!(resets_before_the_end(&strict).await, 3);
}

#[tokio::test]
async fn a_stream_over_the_limit_is_refused_and_those_below_it_are_answered() {
    let server = TestServer::start().await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    let mut peer = Peer::connect(&server.endpoint).await;
    for stream in streams(130) {
        peer.send(&headers(stream, 0, &head)).await;
    }
    for stream in streams(130).skip(128) {
        assert_eq!(peer.answer(stream).await.end, Some(End::Reset(REFUSED_STREAM)));
    }
    for stream in streams(128) {
        peer.send(&body(stream, &dry_run())).await;
    }
    for stream in streams(128) {
        let answer = peer.answer(stream).await;
        assert_eq!((answer.end, answer.status()), (Some(End::Whole), Some(0)), "{answer:?}");
    }
    // There is room again.
    peer.request(261, &head, &dry_run()).await;
    assert_eq!(peer.answer(261).await.status(), Some(0));
    assert!(!peer.fate.is_refused(), "{:?}", peer.fate);
}

/// The head has ended the stream, so each byte more is a mistake.
#[tokio::test]
async fn bodies_after_the_end_of_their_stream_harm_no_other_stream() {
    let server = TestServer::start().await;
    let neighbour = Neighbour::of(&server).await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    let mut peer = Peer::connect(&server.endpoint).await;
    let late = |stream| [headers(stream, END_STREAM, &head), body(stream, &dry_run())].concat();
    let flood: Vec<u8> = streams(2_000).flat_map(late).collect();
    let fate = peer.flood(&flood).await;
    assert!(fate.is_closed, "{fate:?}");
    neighbour.unharmed().await;
}
