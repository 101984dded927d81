//! Requests whose head is wrong: one orderly answer to each.

use super::frames::{End, Peer};
use super::hpack::Head;
use super::neighbour::Neighbour;
use super::requests::{self, dry_run};
use crate::support::{TestServer, bash};

/// The expected outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A status of gRPC.
    Status(i32),
    /// A status of HTTP, from which a client makes one of gRPC.
    Http(u16),
    /// The stream is reset: what was sent is no request of HTTP.
    Reset,
    /// The connection is ended: what was sent is no head at all.
    Goaway,
}

use Outcome::{Goaway, Http, Reset, Status};

const OK: Outcome = Status(0);
const DEADLINE_EXCEEDED: Outcome = Status(4);
const UNIMPLEMENTED: Outcome = Status(12);
const UNAUTHENTICATED: Outcome = Status(16);

/// Returns the outcome of a request with this head and body.
async fn outcome(server: &TestServer, head: &Head, body: &[u8]) -> Outcome {
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.request(1, head, body).await;
    let answer = peer.answer(1).await;
    let http = answer.field(":status").and_then(|status| status.parse().ok());
    match (answer.end, http, answer.status()) {
        (Some(End::Whole), Some(200), Some(status)) => Status(status),
        (Some(End::Whole), Some(status), None) => Http(status),
        (Some(End::Reset(_)), None, None) => Reset,
        (None, None, None) if peer.fate.goaway.is_some() => Goaway,
        _ => panic!("{head:?}: {answer:?} {:?}", peer.fate),
    }
}

/// Checks what comes of these heads with a good body, and that the server serves on.
async fn check(server: &TestServer, cases: Vec<(Head, Outcome)>) {
    check_with(server, cases, &dry_run()).await;
}

async fn check_with(server: &TestServer, cases: Vec<(Head, Outcome)>, body: &[u8]) {
    let mut wrong = Vec::new();
    for (head, expected) in cases {
        let found = outcome(server, &head, body).await;
        if found != expected {
            wrong.push(format!("{found:?}, not {expected:?}: {head}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Neighbour::of(server).await.unharmed().await;
}

fn good(server: &TestServer) -> Head {
    Head::of("ToolRunner/RunTool", server.token())
}

#[tokio::test]
async fn a_request_that_is_not_grpc_gets_an_http_status() {
    let server = TestServer::start().await;
    let good = || good(&server);
    let mut cases = vec![(good().without("content-type"), Http(415))];
    for kind in ["", "text/plain", "application/json", "application/grpcx", "application/grpc-web"]
    {
        cases.push((good().set("content-type", kind), Http(415)));
    }
    for kind in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        cases.push((good().set("content-type", kind), OK));
    }
    for method in ["GET", "HEAD", "PUT", "OPTIONS", "NOSUCH"] {
        cases.push((good().set(":method", method), Http(405)));
    }
    check(&server, cases).await;
}

#[tokio::test]
async fn paths_that_lead_nowhere_are_unimplemented_whatever_is_in_them() {
    let server = TestServer::start().await;
    let path = |path: &str| good(&server).set(":path", path);
    let nowhere = [
        "/",
        "*",
        "/callpark.v1.ToolRunner",
        "/callpark.v1.ToolRunner/",
        "/callpark.v1.ToolRunner/runtool",
        "/callpark.v1.ToolRunner/RunTool/",
        "//callpark.v1.ToolRunner/RunTool",
        "/callpark.v1.ToolRunner%2fRunTool",
        "/callpark.v1.ToolRunner/%52unTool",
        "/callpark.v1.ToolRunner/../callpark.v1.ToolRunner/RunTool",
        "/%zz%00%ff%",
        // These ask for no token, and serve nothing either.
        "/grpc.health.v1.Health/../callpark.v1.ToolRunner/RunTool",
        "/grpc.reflection.x/y",
    ];
    let mut cases: Vec<_> = nowhere.iter().map(|text| (path(text), UNIMPLEMENTED)).collect();
    for text in ["", "no-slash", "/with space", "http://other/callpark.v1.ToolRunner/RunTool"] {
        cases.push((path(text), Reset));
    }
    cases.push((good(&server).set(":path", b"/\xff\xfe"), Goaway));
    check(&server, cases).await;
}

#[tokio::test]
async fn an_error_about_a_long_path_is_small_enough_to_arrive() {
    let server = TestServer::start().await;
    let path = format!("/{}", "%".repeat(12_000));
    let mut peer = Peer::connect(&server.endpoint).await;
    peer.request(1, &good(&server).set(":path", path), &dry_run()).await;
    let answer = peer.answer(1).await;
    assert_eq!(answer.status(), Some(12), "{answer:?}");
    let bytes: usize = answer.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    // A client that takes no more than this of an answer's head is usual.
    assert!(bytes < 8 << 10, "{bytes} bytes of fields");
}

#[tokio::test]
async fn missing_or_repeated_fields_have_an_orderly_answer() {
    let server = TestServer::start().await;
    let good = || good(&server);
    let cases = vec![
        (good(), OK),
        (good().without(":authority"), OK),
        (good().without("te"), OK),
        (good().set("te", "gzip"), Reset),
        (good().without(":path"), Reset),
        (good().without(":method"), Reset),
        (good().without(":scheme"), Reset),
        (good().set(":scheme", "\u{1f980}"), Reset),
        (good().set(":authority", "a b%%\\@:x"), Reset),
        (good().set(":authority", b"\xff"), Goaway),
        (good().set(":method", "NO SUCH"), Goaway),
        (good().set(":method", "CONNECT"), Reset),
        (good().first(":path", "/"), Reset),
        (good().first(":authority", "other"), Reset),
        (good().first(":scheme", "http"), Reset),
        (good().first(":status", "200"), Reset),
        (good().first(":unknown", "x"), Goaway),
        // Fields that begin with a colon stand before all others.
        (good().without(":path").with(":path", "/callpark.v1.ToolRunner/RunTool"), Reset),
        (good().with("connection", "close"), Reset),
        (good().with("transfer-encoding", "chunked"), Reset),
        (good().with("content-length", "3"), Reset),
        (good().with("content-length", "99999999999"), Reset),
        (good().with("content-length", "many"), Reset),
    ];
    check(&server, cases).await;
}

#[tokio::test]
async fn names_and_values_of_any_bytes_have_an_orderly_answer() {
    let server = TestServer::start().await;
    let good = || good(&server);
    let mut cases = vec![
        (good().with("x-any", b"\xff\xfe\x80"), OK),
        (good().with("x-request-id", b"\xff\xfe\x80"), OK),
        (good().with("x-any-bin", "!!! no base64 %%%"), OK),
        (good().with("grpc-message", "%%%zz%ff%0"), OK),
        (good().with("grpc-accept-encoding", b",,\xff,nope"), OK),
    ];
    for (name, value) in [
        ("X-Upper", "1"),
        ("", "1"),
        ("a b", "1"),
        ("a\0b", "1"),
        ("x", "a\0b"),
        ("x", "a\r\nb: c"),
    ] {
        cases.push((good().with(name, value), Goaway));
    }
    check(&server, cases).await;
}

#[tokio::test]
async fn the_first_credentials_count_and_must_be_text() {
    let server = TestServer::start().await;
    let good = || good(&server);
    let cases = vec![
        (good().without("authorization"), UNAUTHENTICATED),
        (good().set("authorization", b"Bearer \xff\xfe"), UNAUTHENTICATED),
        (good().set("authorization", "Bearer %%%"), UNAUTHENTICATED),
        (good().before_others("authorization", "Bearer other"), UNAUTHENTICATED),
        (good().with("authorization", "Bearer other"), OK),
    ];
    check(&server, cases).await;
}

/// As gRPC says: a value that is none is as good as none. One that has passed is one.
#[tokio::test]
async fn a_timeout_that_is_none_is_ignored_and_a_huge_one_is_no_overflow() {
    let server = TestServer::start().await;
    let timeout = |value: &[u8]| good(&server).with("grpc-timeout", value);
    let ignored: [&[u8]; 12] = [
        b"",
        b"S",
        b"5",
        b" 5S",
        b"-1S",
        b"1.5S",
        b"5s",
        b"garbage",
        b"999999999S",
        b"18446744073709551616S",
        b"\xff\xfeS",
        b"%35S",
    ];
    // A call that takes a moment: with a deadline that has passed it can't be answered.
    let brief = requests::of(&bash("sleep 0.1"));
    let mut cases: Vec<_> = ignored.iter().map(|value| (timeout(value), OK)).collect();
    cases.push((timeout(b"99999999H"), OK));
    cases.extend(["0n", "0S", "1n"].map(|value| (timeout(value.as_bytes()), DEADLINE_EXCEEDED)));
    check_with(&server, cases, &brief).await;
}
