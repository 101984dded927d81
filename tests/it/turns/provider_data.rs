//! Reasoning and signatures, which go back with the calls that they came with.

use serde_json::{Value, json};

use super::*;
use crate::support::streams::new_session;

/// An answer with reasoning, and with a call that bears a signature.
fn signed_call(reasoning: &str) -> Script {
    let extra = json!({ "google": { "thought_signature": "c2ln" } });
    let call = json!({ "id": "a", "type": "function", "extra_content": extra,
        "function": { "name": "bash", "arguments": "{\"command\":\"echo 1\"}" } });
    let pieces =
        vec![Piece::Reasoning(reasoning.into()), Piece::Call(0, call), Piece::Finish("tool_calls")];
    Script::Stream(pieces)
}

/// The reasoning and the signature that a request sends back.
fn sent_back(endpoint: &Endpoint, request: usize) -> (Value, Value) {
    let messages = endpoint.messages(request);
    let said = messages.iter().find(|message| message["tool_calls"].is_array()).expect("a call");
    let signature = said.pointer("/tool_calls/0/extra_content/google/thought_signature");
    (said["reasoning_content"].clone(), signature.cloned().unwrap_or_default())
}

#[tokio::test]
async fn data_of_a_provider_goes_back_to_its_model_alone() {
    let endpoint = Endpoint::new(vec![signed_call("let me look"), says("1"), says("1")]).await;
    let other = Endpoint::new(vec![says("1")]).await;
    let more =
        format!("[[models]]\nname = 'other'\nendpoint = '{}'\nmodel = 'fake-1'\n", other.url);
    let server = serve_with(&endpoint, &more).await;
    let session = new_session(&server).await;
    turn(&server, prompt(&session, "go")).await;
    let both = (json!("let me look"), json!("c2ln"));
    assert_eq!(sent_back(&endpoint, 1), both, "in the same turn");
    let request = v1::RunTurnRequest { model: "other".into(), ..prompt(&session, "and you?") };
    turn(&server, request).await;
    assert_eq!(sent_back(&other, 0), (Value::Null, Value::Null), "nothing for another endpoint");
    turn(&server, prompt(&session, "again")).await;
    assert_eq!(sent_back(&endpoint, 2), both, "in a later turn");

    let request = v1::ListMessagesRequest { session_id: session, ..Default::default() };
    let listed = soon("a list", server.tools.clone().list_messages(request)).await;
    let listed = format!("{:?}", listed.expect("a list").into_inner());
    assert!(!listed.contains("c2ln") && !listed.contains("let me look"), "{listed}");
}

#[tokio::test]
async fn reasoning_without_a_call_is_not_kept() {
    let pieces =
        vec![Piece::Reasoning("hm".into()), Piece::Text("yes".into()), Piece::Finish("stop")];
    let endpoint = Endpoint::new(vec![Script::Stream(pieces), says("well")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    turn(&server, prompt(&session, "go")).await;
    turn(&server, prompt(&session, "on")).await;
    let said = endpoint.messages(1).into_iter().find(|m| m["role"] == "assistant");
    assert_eq!(said, Some(json!({ "role": "assistant", "content": "yes" })));
}

#[tokio::test]
async fn reasoning_that_is_too_large_is_left_out_and_counted() {
    let endpoint = Endpoint::new(vec![signed_call(&"x".repeat(1 << 20)), says("1")]).await;
    let settings = [("model-retry-delay", "20ms"), ("admin-listen", "127.0.0.1:0")];
    let server = TestServer::with_config(&config(&endpoint, ""), &settings).await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!(answer.final_text, "1");
    assert_eq!(sent_back(&endpoint, 1), (Value::Null, json!("c2ln")), "the signature has room");
    check_counts(&server, &[r#"callpark_model_data_dropped_total{model="main"} 1"#]).await;
}
