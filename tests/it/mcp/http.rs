//! Servers over HTTP whose requests fail one by one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures::future::join_all;
use serde_json::json;
use tokio::sync::{Barrier, mpsc};

use super::remote::{EVENTS, JSON, OUTAGE, Remote};
use super::{list, result, text};
use crate::support::waiting::{call, ended, outcome_of, park};
use crate::support::{TestServer, advance, folder, soon, v1};

async fn failed(server: &TestServer) -> v1::ToolResult {
    soon("an answer", result(server, "fail", json!({}))).await
}

/// A server of callpark that has this one, and has called it once. Calls of `fail` are answered with
/// `good`.
async fn in_use(remote: &Remote, more: &str) -> TestServer {
    remote.recover();
    let server = remote.server(more).await;
    assert_eq!(text(&failed(&server).await), "good");
    server
}

#[tokio::test]
async fn a_request_that_fails_ends_its_call_only() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    let working = park(&server, call("odd__work", json!({}))).await;
    for (status, headers, body, words) in [
        (
            500,
            &[][..],
            "database zork is down",
            &["HTTP 500 Internal Server Error: database zork"][..],
        ),
        (
            429,
            &[("retry-after", "30")],
            "too much zork",
            &["HTTP 429", "try again after 30 s", "too much zork"],
        ),
        (429, &[("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT")], "", &["after Fri, 31 Dec 2027"]),
        (503, EVENTS, "<html>\n<h1>zork</h1>", &["HTTP 503", "<h1>zork</h1>"]),
        (403, JSON, r#"{"error":"zork"}"#, &["HTTP 403", r#"{"error":"zork"}"#]),
        (404, JSON, "", &["HTTP 404"]),
        (400, JSON, r#"{"id":ID,"error":{"code":-3,"message":"zork"}}"#, &["an error: zork (-3)"]),
        (
            200,
            &[("content-type", "text/html")],
            "<html>zork",
            &["(text/html) is not one: <html>zork"],
        ),
        (200, JSON, "", &["its answer is empty"]),
        (200, JSON, r#"{"jsonrpc":"2.0","id":ID,"result":{"co"#, &["not valid JSON", r#"{"co"#]),
        (202, &[], "", &["HTTP 202"]),
        (204, &[], "", &["HTTP 204"]),
        (307, &[("location", "http://127.0.0.1:9/")], "", &["HTTP 307"]),
        (200, EVENTS, "", &["closed the connection before its answer"]),
        (200, EVENTS, "data: {\"id\":ID,\"result\":{\"co\n\n", &["not valid JSON"]),
        (200, EVENTS, "id: 1\ndata: {}\n\n", &["closed the connection before its answer"]),
    ] {
        remote.fail(status, headers, body);
        let answer = failed(&server).await;
        assert!(answer.is_error, "{status} {body}: {answer:?}");
        for words in words {
            assert!(answer.error_message.contains(words), "{status}: {}", answer.error_message);
        }
    }
    remote.state.go.0.add_permits(1);
    let task = ended(&server, &working).await;
    assert_eq!(text(outcome_of(&task)), "done", "{task:?}");
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1, "one connection for all of it");
}

#[tokio::test]
async fn answers_of_every_form_are_read() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    let answer = r#""id":ID,"result":{"content":"good"}"#;
    for (headers, body) in [
        (JSON, format!("{{{answer},\"error\":null}}")),
        (JSON, format!("[{{{answer}}}]")),
        (JSON, format!("[{{\"method\":\"notifications/x\"}},{{{answer}}}]")),
        (&[][..], format!("{{{answer}}}")),
        (&[("content-type", "text/plain")], format!("\u{feff}{{{answer}}}")),
        (EVENTS, format!("event: message\ndata: {{{answer}}}\n\n")),
        (EVENTS, format!("event: result\r\ndata: {{{answer}}}\r\n\r\n")),
        (EVENTS, format!("unknown: x\nid: 1\nid: 2\ndata: [{{{answer}}}]\n\n")),
        (EVENTS, format!("data: working\n\ndata: {{{answer}}}")),
    ] {
        remote.fail(200, headers, &body);
        let answer = failed(&server).await;
        assert_eq!(
            (text(&answer).as_str(), answer.is_error),
            ("good", false),
            "{body}: {answer:?}"
        );
    }
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_session_that_is_over_is_begun_again() {
    let remote = Remote::with_session().await;
    let server = in_use(&remote, "").await;
    let working = park(&server, call("odd__work", json!({}))).await;
    // Otherwise it would be a call of the next session, which it might begin.
    remote.works(1).await;
    remote.state.session.store(2, Ordering::SeqCst);
    assert_eq!(text(&failed(&server).await), "good");
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 2);
    // The tools of a server that has begun again may be others.
    let lists = remote.state.lists.load(Ordering::SeqCst);
    list(&server).await;
    assert_eq!(remote.state.lists.load(Ordering::SeqCst), lists + 1);
    // A call of the earlier session goes on.
    remote.state.go.0.add_permits(1);
    assert_eq!(text(outcome_of(&ended(&server, &working).await)), "done");
    // In words instead of a status.
    remote.fail(400, &[], "Bad Request: No valid session");
    let answer = failed(&server).await;
    assert!(answer.error_message.contains("ession"), "{}", answer.error_message);
    assert!(answer.error_message.contains("No valid session"), "{}", answer.error_message);
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 3, "once, not again and again");
    remote.recover();
    assert_eq!(text(&failed(&server).await), "good");
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let folder = folder();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").expect("a token");
    let remote = Remote::start().await;
    "first".clone_into(&mut remote.state.token.lock().expect("a lock"));
    let server = in_use(&remote, &format!("token_file = '{}'", file.display())).await;
    "second".clone_into(&mut remote.state.token.lock().expect("a lock"));
    let refused = failed(&server).await;
    assert!(refused.error_message.contains("HTTP 401 Unauthorized: who are you?"), "{refused:?}");
    std::fs::write(&file, "second\n").expect("a token");
    assert_eq!(text(&failed(&server).await), "good");
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_that_are_refused_together_all_get_the_new_token() {
    let folder = folder();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").expect("a token");
    let remote = Remote::start().await;
    "first".clone_into(&mut remote.state.token.lock().expect("a lock"));
    let server = in_use(&remote, &format!("token_file = '{}'", file.display())).await;
    const CALLS: usize = 8;
    *remote.state.refusals.lock().expect("a lock") = Some(Arc::new(Barrier::new(CALLS)));
    "second".clone_into(&mut remote.state.token.lock().expect("a lock"));
    std::fs::write(&file, "second\n").expect("a token");
    for answer in join_all((0..CALLS).map(|_| failed(&server))).await {
        assert_eq!(text(&answer), "good", "{answer:?}");
    }
}

#[tokio::test]
async fn requests_that_wait_for_a_session_fail_together() {
    let remote = Remote::with_session().await;
    let server = in_use(&remote, "").await;
    *remote.state.broken.lock().expect("a lock") = "initialize";
    remote.state.session.store(2, Ordering::SeqCst);
    let began = Instant::now();
    for answer in join_all((0..8).map(|_| failed(&server))).await {
        assert!(answer.error_message.contains("HTTP 500"), "{answer:?}");
        assert!(answer.error_message.contains("out of order"), "{answer:?}");
    }
    let attempts = remote.state.beginnings.load(Ordering::SeqCst) - 1;
    // A request that comes late begins a second one.
    assert!(attempts <= 2, "{attempts} attempts in {:?}, of {OUTAGE:?} each", began.elapsed());
    *remote.state.broken.lock().expect("a lock") = "";
    assert_eq!(text(&failed(&server).await), "good", "a failure is not for ever");
}

#[tokio::test]
async fn a_session_that_is_begun_again_has_a_stream_of_its_own() {
    let remote = Remote::with_streams().await;
    let server = in_use(&remote, "").await;
    // Open, and it stays so.
    let _first = remote.stream_of("1").await;
    remote.state.session.store(2, Ordering::SeqCst);
    assert_eq!(text(&failed(&server).await), "good");
    let second = remote.stream_of("2").await;
    list(&server).await;
    notify_of_tools(&remote, &server, &second).await;
}

/// A stream that ends is opened again after a minute.
const REOPEN_PAUSE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_stream_that_has_ended_is_opened_again() {
    let remote = Remote::with_streams().await;
    let server = in_use(&remote, "").await;
    drop(remote.stream_of("1").await);
    remote.end_streams();
    list(&server).await;
    list(&server).await;
    assert!(!remote.has_stream(), "not at once");
    let begun = Instant::now();
    // The pause begins when the end of the stream has been read. The steps are short, so that the
    // request for a stream, which may take as long as the pause, is not given up.
    while !remote.has_stream() {
        assert!(begun.elapsed() < REOPEN_PAUSE / 2, "no stream, whatever the clock shows");
        advance(REOPEN_PAUSE / 6).await;
        list(&server).await;
    }
    assert_eq!(remote.state.beginnings.load(Ordering::SeqCst), 1, "in the same session");
    let stream = remote.stream_of("1").await;
    list(&server).await;
    notify_of_tools(&remote, &server, &stream).await;
}

/// Sends that the tools have changed over this stream, and waits until they are listed again.
async fn notify_of_tools(remote: &Remote, server: &TestServer, stream: &mpsc::Sender<Bytes>) {
    let before = remote.state.lists.load(Ordering::SeqCst);
    let event = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    stream.send(format!("data: {event}\n\n").into()).await.expect("a stream");
    let listed = async {
        while remote.state.lists.load(Ordering::SeqCst) == before {
            list(server).await;
        }
    };
    soon("another list", listed).await;
}

#[tokio::test]
async fn tools_that_cannot_be_listed_are_asked_for_once_for_all_that_wait() {
    let remote = Remote::with_streams().await;
    let server = remote.server("").await;
    assert!(list(&server).await.unavailable.is_empty());
    *remote.state.broken.lock().expect("a lock") = "tools/list";
    notify_of_tools(&remote, &server, &remote.stream_of("1").await).await;
    let before = remote.state.lists.load(Ordering::SeqCst);
    for answer in join_all((0..8).map(|_| list(&server))).await {
        assert!(answer.tools.iter().any(|tool| tool.name == "odd__work"), "{answer:?}");
        let words = &answer.unavailable.first().expect("a warning").message;
        assert!(words.contains("what has changed") && words.contains("out of order"), "{words}");
    }
    let lists = remote.state.lists.load(Ordering::SeqCst) - before;
    // A request that comes late asks for a second one.
    assert!(lists <= 2, "{lists} lists");
    *remote.state.broken.lock().expect("a lock") = "";
    assert!(list(&server).await.unavailable.is_empty(), "a failure is not for ever");
}

#[tokio::test]
async fn a_server_that_is_gone_for_a_while_is_found_again() {
    let mut remote = Remote::start().await;
    let server = in_use(&remote, "").await;
    remote.task.abort();
    let _aborted = (&mut remote.task).await;
    let gone = failed(&server).await;
    assert!(gone.error_message.contains("the request failed: "), "{}", gone.error_message);
    assert!(!gone.error_message.contains("::"), "{}", gone.error_message);
    let tools = list(&server).await;
    assert!(tools.tools.iter().any(|tool| tool.name == "odd__work"), "{:?}", tools.unavailable);
    let words = &tools.unavailable.first().expect("a warning").message;
    assert!(words.contains("what has changed"), "{words}");
    remote.restart().await;
    assert_eq!(text(&failed(&server).await), "good");
}

#[tokio::test]
async fn slow_calls_do_not_hold_up_the_others() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    remote.recover();
    let mut working = Vec::new();
    for _ in 0..20 {
        working.push(park(&server, call("odd__work", json!({}))).await);
    }
    assert_eq!(text(&failed(&server).await), "good");
    remote.state.go.0.add_permits(working.len());
    for id in working {
        assert_eq!(text(outcome_of(&ended(&server, &id).await)), "done");
    }
}

#[tokio::test]
async fn tools_that_do_not_change_are_listed_once() {
    let remote = Remote::start().await;
    let server = remote.server("").await;
    remote.recover();
    for _ in 0..3 {
        list(&server).await;
        assert_eq!(text(&failed(&server).await), "good");
    }
    assert_eq!(remote.state.lists.load(Ordering::SeqCst), 1);
}
