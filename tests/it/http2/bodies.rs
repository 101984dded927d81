//! Bodies that are too slow, too short, too long, or said to be other than they are.

use std::time::{Duration, Instant};

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::frames::{CANCEL, DATA, END_STREAM, Peer, frame, headers, message, reset};
use super::gzip::{deflated_zeros, zeros};
use super::hpack::Head;
use super::neighbour::{GROWTH_BYTES_MAX, Memory, Neighbour};
use super::requests::dry_run;
use crate::support::program::Site;
use crate::support::{TEST_TIMEOUT, TestServer, bash, v1};

const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNIMPLEMENTED: i32 = 12;

/// A peer with a stream whose body it sends at a byte every 100 ms, until there is an answer: its
/// status, what it says, and how long it took.
async fn drip(endpoint: &str, head: &Head, content: &[u8]) -> (Option<i32>, String, Duration) {
    let began = Instant::now();
    let mut peer = Peer::connect(endpoint).await;
    peer.send(&headers(1, 0, head)).await;
    for byte in content {
        peer.send(&frame(DATA, 0, 1, &[*byte])).await;
        let pause = Duration::from_millis(100);
        if tokio::time::timeout(pause, peer.ended(1)).await.is_ok() {
            break;
        }
    }
    let answer = peer.answer(1).await;
    let text = answer.field("grpc-message").unwrap_or_default().to_owned();
    (answer.status(), text, began.elapsed())
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_is_ended_at_its_deadline_with_a_status_that_says_so() {
    let server = TestServer::with(&[("request-read-timeout", "1s")]).await;
    let neighbour = Neighbour::of(&server).await;
    for method in ["ToolRunner/RunTool", "ToolRunner/StreamTool", "BackgroundTasks/Get"] {
        let head = Head::of(method, server.token());
        let (status, text, took) = drip(&server.endpoint, &head, &[0; 100]).await;
        assert_eq!(status, Some(INVALID_ARGUMENT), "{method}: {text}");
        assert!(text.contains("request:%20must%20arrive%20within%201%20s"), "{text}");
        assert!(took >= Duration::from_secs(1) && took < TEST_TIMEOUT / 3, "{method}: {took:?}");
    }
    neighbour.unharmed().await;
}

/// Health needs no token: even so, no peer may hold a stream and its body for ever.
#[tokio::test]
async fn a_body_for_health_has_the_same_deadline() {
    let server = TestServer::with(&[("request-read-timeout", "1s")]).await;
    for method in ["Check", "Watch"] {
        let path = format!("/grpc.health.v1.Health/{method}");
        let head = Head::of("", "").set(":path", path).without("authorization");
        let (status, text, took) = drip(&server.endpoint, &head, &[0; 100]).await;
        assert!(status.is_some_and(|status| status != OK), "{method}: {status:?} {text}");
        assert!(took < TEST_TIMEOUT / 3, "{method}: {took:?}");
    }
}

#[tokio::test]
async fn a_body_that_never_begins_is_ended_at_its_deadline() {
    let server = TestServer::with(&[("request-read-timeout", "500ms")]).await;
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.send(&headers(1, 0, &Head::of("ToolRunner/RunTool", server.token()))).await;
    assert_eq!(peer.answer(1).await.status(), Some(INVALID_ARGUMENT));
    // The stream is over, its connection isn't.
    peer.request(3, &Head::of("ToolRunner/RunTool", server.token()), &dry_run()).await;
    assert_eq!(peer.answer(3).await.status(), Some(OK));
}

#[tokio::test]
async fn a_body_that_ends_within_a_message_is_an_invalid_argument() {
    let server = TestServer::start().await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    let mut peer = Peer::connect(&server.endpoint).await;
    let good = dry_run();
    let half = good.len() / 2;
    let bodies = [
        &good[..1],
        &good[..4],
        &good[..5],
        &good[..half],
        &good[..good.len() - 1],
        &[good.as_slice(), &good[..1]].concat(),
        &[good.as_slice(), &good[..half]].concat(),
        b"",
        b"\0\0\0\0\x01",
        b"junk that is no message",
    ];
    for (stream, body) in (1..).step_by(2).zip(bodies) {
        peer.request(stream, &head, body).await;
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status(), Some(INVALID_ARGUMENT), "{body:?}: {answer:?}");
    }
    // Half a message and then none of it any more.
    peer.send(&[headers(101, 0, &head), frame(DATA, 0, 101, &good[..half])].concat()).await;
    peer.send(&reset(101, CANCEL)).await;
    peer.request(103, &head, &good).await;
    assert_eq!(peer.answer(103).await.status(), Some(OK));
}

/// A call of so many bytes that is good: a field that the contract doesn't have is ignored.
fn call_of(bytes: usize) -> Vec<u8> {
    let mut content = v1::RunToolRequest { dry_run: true, ..bash("true") }.encode_to_vec();
    encode_key(15_000, WireType::LengthDelimited, &mut content);
    let rest = bytes - content.len();
    // Four bytes hold the length of some mebibytes.
    encode_varint(u64::try_from(rest - 4).expect("a length"), &mut content);
    content.resize(bytes, 0);
    message(0, u32::try_from(bytes).expect("a length"), &content)
}

#[tokio::test]
async fn a_message_of_four_mebibytes_is_read_and_one_byte_more_is_not() {
    let server = TestServer::start().await;
    let head = Head::of("ToolRunner/RunTool", server.token());
    let mut peer = Peer::connect(&server.endpoint).await;
    for (stream, bytes, status) in [(1, 4 << 20, OK), (3, (4 << 20) + 1, RESOURCE_EXHAUSTED)] {
        peer.send(&headers(stream, 0, &head)).await;
        peer.upload(stream, &call_of(bytes)).await;
        peer.send(&frame(DATA, END_STREAM, stream, b"")).await;
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status(), Some(status), "{bytes}: {answer:?}");
    }
}

#[tokio::test]
async fn a_length_that_no_message_may_have_is_refused_at_once_and_takes_no_memory() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let neighbour = Neighbour::of(&server).await;
    let head = Head::of("ToolRunner/RunTool", &server.token);
    let memory = Memory::of(&server);
    let mut peer = Peer::connect(&server.endpoint).await;
    let lengths = [u32::MAX, 1 << 31, (1 << 31) - 1, 1 << 30, (4 << 20) + 1];
    for (stream, length) in (1..100).step_by(2).zip(lengths.into_iter().cycle()) {
        // The body doesn't end: its beginning is enough.
        let start = frame(DATA, 0, stream, &message(0, length, b"few"));
        peer.send(&[headers(stream, 0, &head), start].concat()).await;
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status(), Some(RESOURCE_EXHAUSTED), "{length}: {answer:?}");
    }
    neighbour.unharmed().await;
    memory.check_peak(GROWTH_BYTES_MAX);
    memory.check_reserved(1 << 30);
}

/// No token is needed for health and the schema, and none for being refused.
#[tokio::test]
async fn a_caller_without_a_token_cannot_fill_the_memory() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let neighbour = Neighbour::of(&server).await;
    let memory = Memory::of(&server);
    let paths = [
        "/callpark.v1.ToolRunner/RunTool",
        "/callpark.v1.BackgroundTasks/Start",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ];
    // Of each of a hundred messages all but the last byte.
    let piece = message(0, 1 << 20, &vec![0; (1 << 20) - 1]);
    let mut peer = Peer::connect(&server.endpoint).await;
    for (stream, path) in (1..200).step_by(2).zip(paths.into_iter().cycle()) {
        let head = Head::of("", "").set(":path", path).without("authorization");
        peer.send(&headers(stream, 0, &head)).await;
        peer.upload(stream, &piece).await;
    }
    neighbour.unharmed().await;
    memory.check_peak(GROWTH_BYTES_MAX);
}

#[tokio::test]
async fn a_bomb_is_refused_and_unpacked_no_further_than_a_message_may_be_long() {
    let site = Site::new();
    let server = site.serve(&[]).await;
    let bomb = zeros(100 << 20);
    assert!(bomb.len() < 1 << 20, "{}", bomb.len());
    let length = u32::try_from(bomb.len()).expect("a length");
    let neighbour = Neighbour::of(&server).await;
    let memory = Memory::of(&server);
    let mut peer = Peer::connect(&server.endpoint).await;
    let cases = [
        (1, Some("gzip"), RESOURCE_EXHAUSTED),
        (0, Some("gzip"), INVALID_ARGUMENT),
        // No deflate has the head of gzip.
        (1, Some("deflate"), INVALID_ARGUMENT),
        (1, Some("zstd"), UNIMPLEMENTED),
        (1, Some("no such thing"), UNIMPLEMENTED),
        (1, Some("identity"), INVALID_ARGUMENT),
        (1, None, INVALID_ARGUMENT),
        (0, None, INVALID_ARGUMENT),
        (2, None, INVALID_ARGUMENT),
        (255, None, INVALID_ARGUMENT),
    ];
    for (stream, (flag, encoding, status)) in (1..).step_by(2).zip(cases) {
        let head = Head::of("ToolRunner/RunTool", &server.token);
        let head = encoding.iter().fold(head, |head, name| head.with("grpc-encoding", name));
        peer.send(&headers(stream, 0, &head)).await;
        peer.upload(stream, &message(flag, length, &bomb)).await;
        let answer = peer.answer(stream).await;
        assert_eq!(answer.status(), Some(status), "{flag} {encoding:?}: {answer:?}");
    }
    let head = Head::of("ToolRunner/RunTool", &server.token).with("grpc-encoding", "deflate");
    let bomb = deflated_zeros(100 << 20);
    peer.send(&headers(101, 0, &head)).await;
    peer.upload(101, &message(1, u32::try_from(bomb.len()).expect("a length"), &bomb)).await;
    let answer = peer.answer(101).await;
    assert_eq!(answer.status(), Some(RESOURCE_EXHAUSTED), "{answer:?}");
    neighbour.unharmed().await;
    memory.check_peak(GROWTH_BYTES_MAX);
}

/// The error lets the caller repeat the same request in another way.
#[tokio::test]
async fn a_request_in_another_compression_is_answered_as_unsupported() {
    let server = TestServer::start().await;
    let head = Head::of("ToolRunner/RunTool", server.token()).with("grpc-encoding", "zstd");
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.request(1, &head, &message(1, 3, b"any")).await;
    let answer = peer.answer(1).await;
    assert_eq!(answer.status(), Some(UNIMPLEMENTED), "{answer:?}");
    assert!(answer.field("grpc-message").is_some_and(|text| text.contains("zstd")), "{answer:?}");
    let accepted = answer.field("grpc-accept-encoding");
    assert!(accepted.is_some_and(|names| names.contains("gzip")), "{answer:?}");
}
