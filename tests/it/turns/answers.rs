//! Answers that differ from the protocol, and failures in the place of answers.

use serde_json::json;

use super::*;

/// A success with a body of this kind.
fn body(kind: &str, body: impl Into<String>) -> Script {
    Script::Status(200, vec![("content-type", kind.into())], body.into())
}

/// Runs a turn against this answer, and returns its error and the number of requests.
async fn failed(script: &Script) -> (v1::SessionError, usize) {
    let endpoint = Endpoint::new(vec![script.clone(); 3]).await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "go")).await;
    (error_of(&answer).clone(), endpoint.requests().len())
}

#[tokio::test]
async fn an_answer_may_come_without_a_stream_or_its_mark() {
    let message = json!({ "role": "assistant", "content": "well" });
    let whole = json!({ "object": "chat.completion",
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] });
    let text = || Piece::Text("well".into());
    for script in [
        body("application/json", whole.to_string()),
        Script::Stream(vec![text()]),
        Script::Unmarked(vec![text(), Piece::Finish("stop")]),
        Script::Unmarked(vec![text(), Piece::Finish("stop"), Piece::Cut]),
    ] {
        let endpoint = Endpoint::new(vec![script]).await;
        let server = serve(&endpoint).await;
        let answer = turn(&server, prompt("", "go")).await;
        assert_eq!((answer.error.as_ref(), answer.final_text.as_str()), (None, "well"));
        assert_eq!(endpoint.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_stays_open_behind_an_answer_does_not_hold_it() {
    let pieces = vec![Piece::Text("well".into()), Piece::Finish("stop"), Piece::Hang];
    let endpoint = Endpoint::new(vec![Script::Stream(pieces)]).await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!((answer.error.as_ref(), answer.final_text.as_str()), (None, "well"));
}

#[tokio::test]
async fn a_failure_that_stays_is_reported_once_in_the_endpoint_s_words() {
    let flat =
        json!({ "object": "error", "message": "zork", "type": "BadRequestError", "code": 400 });
    let quota = json!({ "error": { "message": "zork", "code": "insufficient_quota" } }).to_string();
    let limited = json!({ "error": { "message": "zork", "type": "rate_limit_error" } });
    for (script, code, retryable) in [
        (Script::Stream(vec![Piece::Data(flat.to_string())]), "model_request_refused", false),
        (body("application/json", flat.to_string()), "model_request_refused", false),
        (
            body("text/event-stream", format!("event: error\ndata: {flat}\n\n")),
            "model_request_refused",
            false,
        ),
        (
            body("text/html", "<html><script>x</script>zork, please log in</html>"),
            "model_not_an_answer",
            false,
        ),
        (
            Script::Status(400, vec![], json!({ "detail": "zork" }).to_string()),
            "model_request_refused",
            false,
        ),
        (Script::Status(429, vec![], quota), "model_quota_exhausted", false),
        (Script::Status(402, vec![], "zork".into()), "model_quota_exhausted", false),
        (
            Script::Stream(vec![Piece::Text("wel".into()), Piece::Data(limited.to_string())]),
            "model_rate_limited",
            true,
        ),
    ] {
        let (error, requests) = failed(&script).await;
        assert_eq!((error.code.as_str(), error.retryable), (code, retryable), "{}", error.message);
        assert!(error.message.contains("zork"), "{}", error.message);
        assert_eq!(requests, 1, "{code}: {}", error.message);
    }
}

#[tokio::test]
async fn a_failure_that_may_pass_is_asked_for_again() {
    let overloaded =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "zork" } });
    for (script, code, word) in [
        (Script::Stream(vec![Piece::Data(overloaded.to_string())]), "model_unavailable", "zork"),
        (
            Script::Stream(vec![Piece::Text("we".into()), Piece::Finish("network_error")]),
            "model_unavailable",
            "network_error",
        ),
        (Script::Stream(vec![Piece::Finish("stop")]), "model_answer_empty", "without text"),
        (
            Script::Stream(vec![Piece::Reasoning("hm".into()), Piece::Finish("stop")]),
            "model_answer_empty",
            "without text",
        ),
    ] {
        let (error, requests) = failed(&script).await;
        assert_eq!((error.code.as_str(), error.retryable), (code, true), "{}", error.message);
        assert!(error.message.contains(word), "{}", error.message);
        assert_eq!(requests, 3, "{code}");
    }
}

#[tokio::test]
async fn an_empty_answer_ends_a_turn_that_has_said_something() {
    let empty = || Script::Stream(vec![Piece::Finish("stop")]);
    let call =
        json!({ "id": "a", "function": { "name": "bash", "arguments": "{\"command\":\"true\"}" } });
    let asks = |text: &str| {
        let text = Piece::Text(text.into());
        Script::Stream(vec![text, Piece::Call(0, call.clone()), Piece::Finish("tool_calls")])
    };
    let endpoint = Endpoint::new(vec![asks("I do it."), empty()]).await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!((answer.error.as_ref(), answer.stop_reason()), (None, v1::StopReason::EndTurn));
    assert_eq!(endpoint.requests().len(), 2);

    let endpoint = Endpoint::new(vec![asks(""), empty(), says("done")]).await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!(answer.final_text, "done", "silence after a call is asked about");
}
