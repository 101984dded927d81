//! Failures of an endpoint, and the exact consequences of each.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::support::streams::{log_of, new_session};

/// The events of a turn in a new session, in short.
async fn events(endpoint: &Endpoint) -> (TestServer, Vec<v1::SessionEvent>) {
    let server = serve(endpoint).await;
    let session = new_session(&server).await;
    let events = streamed(&server, prompt(&session, "go")).await;
    (server, events)
}

fn error_status(code: u16) -> Script {
    Script::Status(code, vec![], json!({ "error": { "message": "not now" } }).to_string())
}

/// A fault that may pass: the attempt is void, and another one succeeds.
async fn is_retried(fault: Script, shown: &[&str]) {
    let endpoint = Endpoint::new(vec![fault, says("well")]).await;
    let (_server, events) = events(&endpoint).await;
    let mut expected = vec!["turn", "started main go"];
    expected.extend(shown);
    expected.extend([
        "used 1 of main",
        "retrying 2",
        "text well",
        "used 1 of main",
        "message \"well\" 0 calls",
        "idle STOP_REASON_END_TURN \"well\"",
    ]);
    assert_eq!(short(&events), expected);
    let retrying =
        events.iter().position(|event| matches!(event.payload, Some(Payload::TurnRetrying(_))));
    let (failed, second) = events.split_at(retrying.expect("a retry") + 1);
    assert!(failed.iter().all(|event| event.attempt == 1), "what is void bears its attempt");
    assert!(second.iter().all(|event| event.attempt == 2));
    assert_eq!(endpoint.requests().len(), 2);
    assert_eq!(endpoint.messages(0), endpoint.messages(1), "nothing of the failed one is kept");
}

#[tokio::test]
async fn an_unavailable_endpoint_is_asked_again() {
    for code in [500, 502, 503, 504, 529] {
        is_retried(error_status(code), &[]).await;
    }
}

#[tokio::test]
async fn an_answer_cut_in_the_middle_is_void() {
    is_retried(Script::Stream(vec![Piece::Text("wel".into()), Piece::Cut]), &["text wel"]).await;
}

#[tokio::test]
async fn an_answer_that_ends_with_an_error_is_void() {
    let pieces = vec![Piece::Text("wel".into()), Piece::Finish("error")];
    is_retried(Script::Stream(pieces), &["text wel"]).await;
}

#[tokio::test]
async fn an_end_without_a_reason_and_a_mark_is_a_cut() {
    is_retried(Script::Unmarked(vec![Piece::Text("wel".into())]), &["text wel"]).await;
}

#[tokio::test]
async fn garbage_is_asked_for_again() {
    is_retried(Script::Stream(vec![Piece::Data("{\"choices\": 7".into())]), &[]).await;
    let fault = json!({ "error": { "message": "overloaded" } }).to_string();
    is_retried(Script::Stream(vec![Piece::Data(fault)]), &[]).await;
}

#[tokio::test]
async fn an_endpoint_that_says_nothing_is_given_up() {
    let script = Script::Stream(vec![Piece::Text("wel".into()), Piece::Hang]);
    let endpoint = Endpoint::new(vec![script, says("well")]).await;
    let server = serve_with(&endpoint, "read_timeout = '300ms'").await;
    let session = new_session(&server).await;
    let events = streamed(&server, prompt(&session, "go")).await;
    let retrying = events.iter().find_map(|event| match &event.payload {
        Some(Payload::TurnRetrying(retrying)) => retrying.error.clone(),
        _ => None,
    });
    let error = retrying.expect("a retry");
    assert!(error.message.contains("sent nothing for too long"), "{}", error.message);
    assert_eq!(short(&events).last().expect("an end"), "idle STOP_REASON_END_TURN \"well\"");
}

#[tokio::test]
async fn the_announced_delay_is_the_one_that_is_slept() {
    let endpoint = Endpoint::new(vec![error_status(503), error_status(503), says("well")]).await;
    let (_server, events) = events(&endpoint).await;
    let at = |event: &v1::SessionEvent| {
        Duration::try_from(prost_as_span(event.create_time.expect("a time"))).expect("a span")
    };
    let mut delays = Vec::new();
    for pair in events.windows(2) {
        if let Some(Payload::TurnRetrying(retrying)) = &pair[0].payload {
            let delay = Duration::try_from(retrying.delay.expect("a delay")).expect("a span");
            assert!(at(&pair[1]) - at(&pair[0]) >= delay, "{delay:?} was announced");
            delays.push(delay);
        }
    }
    let range = |most: u64| Duration::from_millis(most / 2)..=Duration::from_millis(most);
    assert_eq!(delays.len(), 2);
    assert!(range(20).contains(&delays[0]) && range(40).contains(&delays[1]), "{delays:?}");
}

fn prost_as_span(time: prost_types::Timestamp) -> prost_types::Duration {
    prost_types::Duration { seconds: time.seconds, nanos: time.nanos }
}

#[tokio::test]
async fn after_the_last_attempt_the_turn_fails_with_its_usage() {
    let failing = Script::Stream(vec![Piece::Usage(50, 0, 5), Piece::Cut]);
    let endpoint = Endpoint::new(vec![failing; 3]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let answer = turn(&server, prompt(&session, "go")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("model_connection", true));
    assert!(error.message.contains("was lost"), "{}", error.message);
    let usage = answer.usage.expect("usage");
    assert_eq!((usage.requests, usage.input_tokens, usage.output_tokens), (3, 150, 15));
    let total = session_now(&server, &session).await.usage.expect("usage");
    assert_eq!(total, usage);
    assert_eq!(endpoint.requests().len(), 3);
}

#[tokio::test]
async fn a_final_error_is_not_tried_again() {
    for (code, name, word) in [
        (401, "model_unauthenticated", "api_key"),
        (400, "model_request_refused", "not now"),
        (404, "model_request_refused", "endpoint and model"),
    ] {
        let endpoint = Endpoint::new(vec![error_status(code)]).await;
        let (_server, events) = events(&endpoint).await;
        let end = events.last().and_then(|event| event.payload.clone());
        let Some(Payload::SessionError(error)) = end else { panic!("no error: {events:?}") };
        assert_eq!((error.code.as_str(), error.retryable), (name, false));
        assert!(error.message.contains(word), "{}", error.message);
        assert_eq!(endpoint.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_by_the_client_of_the_model() {
    let limited = |seconds: &str| {
        let headers = vec![("retry-after", seconds.to_owned())];
        Script::Status(429, headers, "{}".into())
    };
    let endpoint = Endpoint::new(vec![limited("0"), limited("0.2"), says("well")]).await;
    let began = std::time::Instant::now();
    let (_server, events) = events(&endpoint).await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    let expected = [
        "turn",
        "started main go",
        "retrying 2",
        "retrying 3",
        "text well",
        "used 3 of main",
        "message \"well\" 0 calls",
        "idle STOP_REASON_END_TURN \"well\"",
    ];
    assert_eq!(short(&events), expected);
    let pauses = events.iter().filter_map(|event| match &event.payload {
        Some(Payload::TurnRetrying(retrying)) => Some(retrying),
        _ => None,
    });
    let pauses: Vec<&v1::TurnRetrying> = pauses.collect();
    let second = Duration::try_from(pauses[1].delay.expect("a delay")).expect("a span");
    assert!(second >= Duration::from_millis(200), "{second:?}");
    let error = pauses[1].error.as_ref().expect("the reason");
    assert!(error.message.contains("429"), "{}", error.message);
    assert!(events.iter().rev().take(4).all(|event| event.attempt == 3), "{events:?}");

    let endpoint = Endpoint::new(vec![limited("3600")]).await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "go")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("model_rate_limited", true));
}

#[tokio::test]
async fn an_answer_without_bounds_is_given_up() {
    let line = Script::Stream(vec![Piece::Data("x".repeat(5 << 20))]);
    let text = Script::Stream(vec![Piece::Text("x".repeat(1 << 20)); 5]);
    for script in [line, text] {
        let endpoint = Endpoint::new(vec![script]).await;
        let server = serve(&endpoint).await;
        let answer = turn(&server, prompt("", "go")).await;
        let error = error_of(&answer);
        assert_eq!((error.code.as_str(), error.retryable), ("model_answer_too_large", false));
        assert_eq!(endpoint.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_nonsensical_retry_after_is_not_waited_for() {
    // At the same time, since each pauses for some seconds.
    let cases = ["inf", "1e300", "NaN", "-1", "soon"].map(|asked| async move {
        let limited = Script::Status(429, vec![("retry-after", asked.into())], "{}".into());
        let endpoint = Endpoint::new(vec![limited, says("well")]).await;
        let server = serve(&endpoint).await;
        let answer = turn(&server, prompt("", "go")).await;
        match &answer.error {
            // More than is waited for.
            Some(error) => assert_eq!(error.code, "model_rate_limited", "{asked}"),
            None => assert_eq!(answer.final_text, "well", "{asked}"),
        }
    });
    futures::future::join_all(cases).await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named() {
    let mut endpoint = Endpoint::new(vec![]).await;
    endpoint.url = "http://127.0.0.1:9/v1".into();
    let server = serve(&endpoint).await;
    let request = v1::RunTurnRequest { max_attempts: 1, ..prompt("", "go") };
    let answer = turn(&server, request).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("model_connection", true));
    assert!(error.message.contains("http://127.0.0.1:9/v1"), "{}", error.message);
    assert!(error.message.contains("cannot be reached"), "{}", error.message);
}

#[tokio::test]
async fn a_key_comes_from_its_file_and_is_in_no_event() {
    let folder = crate::support::folder();
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-very-secret\n").expect("written");
    let endpoint = Endpoint::new(vec![says("well"), error_status(401)]).await;
    let more = format!("api_key_file = '{}'", file.display());
    let server = serve_with(&endpoint, &more).await;
    let session = new_session(&server).await;
    turn(&server, prompt(&session, "go")).await;
    let head = endpoint.heads().remove(0).to_ascii_lowercase();
    assert!(head.contains("authorization: bearer sk-very-secret"), "{head}");
    let events = streamed(&server, prompt(&session, "go")).await;
    assert!(!format!("{events:?}").contains("very-secret"));
    std::fs::remove_file(&file).expect("removed");
    let answer = turn(&server, prompt(&session, "go")).await;
    assert_eq!(error_of(&answer).code, "model_unauthenticated");
    assert!(error_of(&answer).message.contains("api_key_file"));
}

#[tokio::test]
async fn the_end_of_an_answer_is_its_stop_reason() {
    for (reason, expected) in [
        ("length", v1::StopReason::MaxTokens),
        ("content_filter", v1::StopReason::Refusal),
        ("stop", v1::StopReason::EndTurn),
    ] {
        let pieces = vec![Piece::Text("so".into()), Piece::Finish(reason)];
        let endpoint = Endpoint::new(vec![Script::Stream(pieces)]).await;
        let server = serve(&endpoint).await;
        let answer = turn(&server, prompt("", "go")).await;
        assert_eq!((answer.stop_reason(), answer.final_text.as_str()), (expected, "so"));
    }
}

#[tokio::test]
async fn slow_pieces_are_emitted_as_they_arrive() {
    let held = std::sync::Arc::new(tokio::sync::Notify::new());
    let mut pieces = Vec::new();
    for word in ["one ", "two ", "three"] {
        pieces.extend([Piece::Text(word.into()), Piece::Wait(held.clone())]);
    }
    pieces.push(Piece::Finish("stop"));
    let endpoint = Endpoint::new(vec![Script::Stream(pieces)]).await;
    let server = serve(&endpoint).await;
    let request = prompt("", "go");
    let stream = soon("a turn", server.tools.clone().stream_turn(request)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut words = Vec::new();
    while let Some(update) = soon("an event", stream.message()).await.expect("no error") {
        for event in update.events {
            if let Some(Payload::AssistantDelta(delta)) = event.payload {
                words.push(delta.text);
                // The next piece is sent only after this one has arrived.
                held.notify_one();
            }
        }
    }
    assert_eq!(words, ["one ", "two ", "three"]);
}

#[tokio::test]
async fn an_agent_whose_program_is_missing_ends_its_turn_at_once() {
    let toml = "[[agents]]\nname = 'gone'\nargv = ['no-such-agent']\n";
    let server = TestServer::with_config(toml, &[("model-retry-delay", "20ms")]).await;
    let session = new_session(&server).await;
    let answer = turn(&server, prompt(&session, "go")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("agent_not_startable", false));
    assert!(error.message.contains("`no-such-agent` was not found"), "{}", error.message);
    let log = short(&log_of(&server, &session).await);
    assert!(!log.iter().any(|event| event.starts_with("retrying")), "{log:?}");
}
