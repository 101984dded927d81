//! Conversations that are longer than the context of their model.

use serde_json::json;

use super::*;
use crate::support::streams::new_session;

/// Returns the refusal of a request that is too long, as an endpoint words it.
fn too_long(status: u16, words: &str) -> Script {
    Script::Status(status, vec![], json!({ "error": { "message": words } }).to_string())
}

fn compactions(events: &[v1::SessionEvent]) -> Vec<v1::HistoryCompacted> {
    let compacted = events.iter().filter_map(|event| match &event.payload {
        Some(Payload::HistoryCompacted(compacted)) => Some(*compacted),
        _ => None,
    });
    compacted.collect()
}

/// Returns the size of the messages of a request.
fn size(endpoint: &Endpoint, request: usize) -> usize {
    endpoint.messages(request).iter().map(|message| message.to_string().len()).sum()
}

/// A session with a long history. Its turns take the first scripts of the endpoint.
async fn long_session(server: &TestServer, turns: usize) -> String {
    let session = new_session(server).await;
    for number in 0..turns {
        turn(server, prompt(&session, &format!("prompt {number}"))).await;
    }
    session
}

#[tokio::test]
async fn a_history_that_is_refused_as_too_long_is_compacted_and_sent_again() {
    let in_stream = json!({ "error": { "message": "context window exceeded", "code": 400 } });
    for refusal in [
        too_long(400, "This model's maximum context length is 8192 tokens."),
        too_long(413, ""),
        too_long(500, "the request exceeds the available context size, try increasing it"),
        Script::Stream(vec![Piece::Text("w".into()), Piece::Data(in_stream.to_string())]),
    ] {
        let is_limit_of_bytes = matches!(refusal, Script::Status(413, ..));
        let mut scripts: Vec<_> = (0..4).map(|_| says(&"x".repeat(2_000))).collect();
        scripts.extend([refusal, says("well"), says("again")]);
        let endpoint = Endpoint::new(scripts).await;
        let server = serve(&endpoint).await;
        let session = long_session(&server, 4).await;
        let events = streamed(&server, prompt(&session, "go")).await;
        assert_eq!(short(&events).last().expect("an end"), "idle STOP_REASON_END_TURN \"well\"");
        let compacted = compactions(&events);
        assert_eq!(compacted.len(), 1, "{:?}", short(&events));
        assert_eq!(compacted[0].reason(), v1::CompactionReason::Refused);
        assert_eq!(compacted[0].messages_omitted, 5);
        assert!(compacted[0].request_bytes_after < compacted[0].request_bytes_before);
        assert!(short(&events).contains(&"retrying 2".to_owned()), "{:?}", short(&events));
        // The model learns of it.
        let first = endpoint.messages(5)[1]["content"].as_str().expect("text").to_owned();
        assert!(
            first.starts_with("[5 older messages of this conversation are left out"),
            "{first}"
        );
        assert!(size(&endpoint, 5) < size(&endpoint, 4) - 3_000);
        // The next turn knows how much the model takes, unless it was a limit of bytes.
        let events = streamed(&server, prompt(&session, "again")).await;
        let compacted = compactions(&events);
        if is_limit_of_bytes {
            assert_eq!((compacted.len(), endpoint.requests().len()), (0, 7));
            continue;
        }
        assert_eq!(compacted[0].reason(), v1::CompactionReason::Limit);
        assert_eq!(endpoint.requests().len(), 7, "nothing is refused again");
        let Some(Payload::SessionIdle(idle)) = &events.last().expect("an end").payload else {
            panic!("{events:?}")
        };
        assert_eq!(idle.history_messages_omitted, compacted[0].messages_omitted);
    }
}

#[tokio::test]
async fn the_oldest_results_of_a_long_turn_are_shortened_first() {
    let print = |id: &'static str| {
        (id, "bash", json!({ "command": "head -c 9000 /dev/zero | tr '\\0' x" }))
    };
    let endpoint = Endpoint::new(vec![
        calls(&[print("a")]),
        calls(&[print("b")]),
        calls(&[print("c")]),
        too_long(400, "prompt is too long: 213462 tokens > 200000 maximum"),
        says("done"),
    ])
    .await;
    let server = serve(&endpoint).await;
    let events = streamed(&server, prompt("", "go")).await;
    let compacted = compactions(&events);
    assert_eq!((compacted[0].results_shortened, compacted[0].messages_omitted), (2, 0));
    let messages = endpoint.messages(4);
    let results: Vec<&str> = messages
        .iter()
        .filter(|message| message["role"] == "tool")
        .map(|message| message["content"].as_str().expect("text"))
        .collect();
    assert!(
        results[0].contains("left out, because the conversation is too long"),
        "{}",
        results[0]
    );
    assert_eq!(results[2].len(), 9_000, "the newest one stays");
    assert_eq!(messages[1]["content"], "go");
}

#[tokio::test]
async fn a_request_that_is_too_long_however_short_fails_with_its_reason() {
    let refusal = || too_long(400, "maximum context length is 100 tokens");
    let endpoint = Endpoint::new(vec![says("x"), refusal(), refusal(), refusal()]).await;
    let server = serve(&endpoint).await;
    // One message after the other is left out, before the prompt.
    let session = long_session(&server, 1).await;
    let answer = turn(&server, prompt(&session, "go")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("model_context_exceeded", false));
    assert!(error.message.contains("context_tokens of the model"), "{}", error.message);
    assert_eq!(endpoint.requests().len(), 4, "there is nothing more to leave out");
}

#[tokio::test]
async fn a_context_that_is_configured_is_never_exceeded() {
    let mut scripts: Vec<_> = (0..8)
        .map(|_| Script::Stream(vec![Piece::Text("y".repeat(4_000)), Piece::Finish("stop")]))
        .collect();
    scripts.push(says("done"));
    let endpoint = Endpoint::new(scripts).await;
    // Room for about 21 KB with the tools.
    let server = serve_with(&endpoint, "context_tokens = 8000").await;
    let session = long_session(&server, 8).await;
    let events = streamed(&server, prompt(&session, "go")).await;
    let compacted = compactions(&events);
    assert_eq!(compacted[0].reason(), v1::CompactionReason::Limit);
    assert!(compacted[0].messages_omitted > 0);
    for (number, request) in endpoint.requests().iter().enumerate() {
        let bytes = request["messages"].to_string().len() + request["tools"].to_string().len();
        assert!(bytes < 24_000, "request {number} has {bytes} bytes");
    }
    assert_eq!(endpoint.requests().len(), 9, "none was refused");
}
