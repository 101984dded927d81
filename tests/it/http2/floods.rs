//! Frames without end, of each kind that costs the sender nothing: the server, in a process of its
//! own, neither grows nor keeps anybody else waiting.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, End, Fate, HEADERS, PING, Peer,
    SETTINGS, WINDOW_UPDATE, frame, headers,
};
use super::hpack::Head;
use super::neighbour::{GROWTH_BYTES_MAX, Memory, Neighbour};
use crate::support::program::{Program, Site};

/// Sends `opening`, and then `flood` so many times, and returns the fate of the connection, while
/// another client runs calls.
async fn flooded(server: &Program, opening: &[u8], flood: &[u8], times: usize) -> Fate {
    let mut neighbour = Neighbour::of(server).await;
    // What the neighbour costs is no growth.
    neighbour.more(5).await;
    let memory = Memory::of(server);
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.send(opening).await;
    let block = flood.repeat(1_000);
    for _ in 0..times.div_ceil(1_000) {
        if peer.flood(&block).await.is_refused() {
            break;
        }
    }
    neighbour.unharmed().await;
    memory.check_peak(GROWTH_BYTES_MAX);
    peer.fate
}

#[tokio::test]
async fn a_head_that_goes_on_without_end_ends_its_connection() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let filler = Head::default().with("x-filler", "x".repeat(4_000)).encode();
    let start = frame(HEADERS, 0, 1, &Head::of("ToolRunner/RunTool", &server.token).encode());
    for piece in [filler.as_slice(), b""] {
        let more = frame(CONTINUATION, 0, 1, piece);
        let fate = flooded(&server, &start, &more, 100_000).await;
        assert!(fate.is_refused(), "{} bytes a frame: {fate:?}", piece.len());
        assert!([Some(ENHANCE_YOUR_CALM), None].contains(&fate.goaway), "{fate:?}");
    }
}

#[tokio::test]
async fn a_head_of_more_than_sixteen_kibibytes_is_refused_and_a_smaller_one_is_not() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let head = |filler| {
        let head = Head::of("ToolRunner/RunTool", &server.token);
        head.with("x-filler", "x".repeat(filler))
    };
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.send(&headers(1, END_STREAM, &head(15 << 10))).await;
    assert_eq!(peer.answer(1).await.status(), Some(3), "served, and there is no message");
    // In as many frames as it takes.
    let large = head(17 << 10).encode();
    let (first, second) = large.split_at(16 << 10);
    peer.send(&frame(HEADERS, END_STREAM, 3, first)).await;
    peer.send(&frame(CONTINUATION, END_HEADERS, 3, second)).await;
    let answer = peer.answer(3).await;
    assert_eq!(answer.field(":status"), Some("431"), "{answer:?}");
    // The connection lives on.
    peer.send(&headers(5, END_STREAM, &head(0))).await;
    assert_eq!(peer.answer(5).await.status(), Some(3));
}

/// One entry of the table, and a byte for each use of it: 16 KiB stand for 64 MiB.
#[tokio::test]
async fn a_small_head_that_unfolds_to_a_huge_one_is_refused() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    // The same literal, but remembered.
    let mut entry = Head::default().with("x-filler", "x".repeat(4_000)).encode();
    entry[0] = 0x40;
    let uses = vec![0x80 | 62; 12 << 10];
    let block = [Head::of("ToolRunner/RunTool", &server.token).encode(), entry, uses].concat();
    let (first, second) = block.split_at(16 << 10);
    let head = [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, second)];
    let memory = Memory::of(&server);
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.send(&head.concat()).await;
    let answer = peer.answer(1).await;
    let is_refused = answer.field(":status") == Some("431")
        || matches!(answer.end, Some(End::Reset(_)))
        || peer.fate.is_refused();
    assert!(is_refused, "{answer:?} {:?}", peer.fate);
    memory.check_peak(GROWTH_BYTES_MAX);
    Neighbour::of(&server).await.unharmed().await;
}

#[tokio::test]
async fn data_without_a_byte_in_it_ends_its_connection() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let start = headers(1, 0, &Head::of("ToolRunner/RunTool", &server.token));
    let fate = flooded(&server, &start, &frame(DATA, 0, 1, b""), 200_000).await;
    assert!(fate.is_refused(), "{fate:?}");
}

#[tokio::test]
async fn endless_pings_settings_and_windows_do_no_harm() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let floods = [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0, b""),
        // The size of the table and of the windows, which the server must apply.
        frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0, 0, 4, 0, 0, 255, 255]),
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        // A priority, and an unknown kind.
        frame(2, 0, 1, &[0, 0, 0, 0, 16]),
        frame(0xbe, 0, 0, b"whatever"),
    ];
    for flood in floods {
        flooded(&server, b"", &flood, 20_000).await;
    }
}
