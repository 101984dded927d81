//! Histories with everything that some endpoint refuses. The endpoint of these tests refuses all of it,
//! so a turn that is answered shows that its request has none of it.

use serde_json::{Value, json};

use super::*;
use crate::support::streams::new_session;

/// An answer that asks for one call, as the model wrote it.
fn asks(id: &str, tool: &str, arguments: &str) -> Script {
    let function = json!({ "name": tool, "arguments": arguments });
    let call = json!({ "id": id, "type": "function", "function": function });
    Script::Stream(vec![Piece::Call(0, call), Piece::Finish("tool_calls")])
}

fn refused() -> Script {
    Script::Status(400, vec![], json!({ "error": { "message": "not today" } }).to_string())
}

/// Returns the calls in the messages of a request.
fn sent_calls(endpoint: &Endpoint, request: usize) -> Vec<Value> {
    let messages = endpoint.messages(request);
    let calls = messages.iter().filter_map(|message| message["tool_calls"].as_array());
    calls.flatten().cloned().collect()
}

/// Returns the roles of the messages of a request.
fn roles(endpoint: &Endpoint, request: usize) -> Vec<String> {
    let messages = endpoint.messages(request);
    messages.iter().map(|message| message["role"].as_str().expect("a role").into()).collect()
}

#[tokio::test]
async fn arguments_that_are_not_an_object_are_sent_as_one() {
    for (arguments, sent) in [
        ("{\"command\":\"ls", json!({ "arguments": "{\"command\":\"ls" })),
        ("", json!({})),
        ("null", json!({})),
        ("[]", json!({ "arguments": "[]" })),
        ("ls -l", json!({ "arguments": "ls -l" })),
        ("{\"a\":1}{\"b\":2}", json!({ "arguments": "{\"a\":1}{\"b\":2}" })),
        ("{\"command\":\"\\ud83d\"}", json!({ "command": "\u{fffd}" })),
        ("{\"a\": 1}", json!({ "a": 1 })),
    ] {
        let endpoint =
            Endpoint::new(vec![asks("c", "bash", arguments), says("sorry"), says("again")]).await;
        let server = serve(&endpoint).await;
        let session = new_session(&server).await;
        assert_eq!(turn(&server, prompt(&session, "try")).await.final_text, "sorry");
        assert_eq!(turn(&server, prompt(&session, "go on")).await.final_text, "again");
        let call = sent_calls(&endpoint, 2).remove(0);
        let text = call["function"]["arguments"].as_str().expect("text").to_owned();
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), sent, "{arguments}");
    }
}

#[tokio::test]
async fn names_and_ids_that_endpoints_refuse_are_sent_as_others() {
    let dotted = "[[tools]]\nname = '1.echo'\nargv = ['echo', 'four']\n";
    let endpoint = Endpoint::new(vec![
        asks("c", "_1_echo", "{}"),
        asks("c", "no/such tool", "{}"),
        asks(" ", "", "{}"),
        says("done"),
        says("again"),
    ])
    .await;
    let server = serve_with(&endpoint, dotted).await;
    let session = new_session(&server).await;
    assert_eq!(turn(&server, prompt(&session, "try")).await.final_text, "done");
    assert_eq!(turn(&server, prompt(&session, "go on")).await.final_text, "again");
    let results = |request| {
        let messages = endpoint.messages(request);
        let results = messages.iter().filter(|message| message["role"] == "tool");
        results.map(|message| message["content"].as_str().expect("text").into()).collect()
    };
    let results: Vec<String> = results(3);
    assert_eq!(results[0], "four\n", "the name leads back to the tool");
    assert!(results[1].contains("there is no tool \"no/such tool\""), "{}", results[1]);
    assert_eq!(sent_calls(&endpoint, 3), sent_calls(&endpoint, 4)[..3], "they stay the same");
    assert_eq!(sent_calls(&endpoint, 3)[0]["id"], "c", "the first one keeps its id");
    // The stored history has what the model wrote.
    let request = v1::ListMessagesRequest { session_id: session, ..Default::default() };
    let page = server.tools.clone().list_messages(request).await.expect("a page").into_inner();
    assert!(format!("{page:?}").contains("no/such tool"), "{page:?}");
}

#[tokio::test]
async fn prompts_whose_turns_failed_are_sent_as_one_message() {
    let endpoint = Endpoint::new(vec![refused(), refused(), says("well")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    for text in ["one", "two"] {
        error_of(&turn(&server, prompt(&session, text)).await);
    }
    assert_eq!(turn(&server, prompt(&session, "three")).await.final_text, "well");
    assert_eq!(roles(&endpoint, 2), ["system", "user"]);
    assert_eq!(endpoint.messages(2)[1]["content"], "one\n\ntwo\n\nthree");
}

#[tokio::test]
async fn a_prompt_never_follows_results_directly() {
    let call = asks("c", "bash", "{\"command\":\"true\"}");
    let endpoint = Endpoint::new(vec![call, refused(), says("well")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    error_of(&turn(&server, prompt(&session, "one")).await);
    assert_eq!(turn(&server, prompt(&session, "two")).await.final_text, "well");
    assert_eq!(roles(&endpoint, 2)[1..], ["user", "assistant", "tool", "assistant", "user"]);
}

#[tokio::test]
async fn an_answer_without_content_is_left_out() {
    let filtered = Script::Stream(vec![Piece::Text(" \n".into()), Piece::Finish("content_filter")]);
    let endpoint = Endpoint::new(vec![filtered, says("well")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let answer = turn(&server, prompt(&session, "one")).await;
    assert_eq!(answer.stop_reason(), v1::StopReason::Refusal);
    assert_eq!(turn(&server, prompt(&session, "two")).await.final_text, "well");
    assert_eq!(endpoint.messages(1)[1]["content"], "one\n\ntwo");
}

#[tokio::test]
async fn schemas_that_endpoints_refuse_are_sent_as_others() {
    let tools = r#"
[[tools]]
name = 'plain'
argv = ['echo', 'plain']
input_schema = { type = 'object' }

[[tools]]
name = 'either'
argv = ['echo', '{a}', '{b}']
input_schema = { type = 'object', properties = { a = { type = 'string' }, b = { type = 'string' } }, anyOf = [{ required = ['a'] }, { required = ['b'] }] }
"#;
    let wrapped = r#"{"arguments":{"a":"four"}}"#;
    let endpoint = Endpoint::new(vec![
        asks("1", "either", wrapped),
        asks("2", "either", r#"{"b":"five"}"#),
        says("done"),
    ])
    .await;
    let server = serve_with(&endpoint, tools).await;
    assert_eq!(turn(&server, prompt("", "try")).await.final_text, "done");
    let messages = endpoint.messages(2);
    assert!(messages[3]["content"].as_str().expect("text").contains("four"), "{messages:?}");
    assert!(messages[5]["content"].as_str().expect("text").contains("five"), "{messages:?}");
    let calls = sent_calls(&endpoint, 2);
    assert_eq!(calls[0]["function"]["arguments"], wrapped, "as the schema says");
    assert_eq!(calls[1]["function"]["arguments"], r#"{"arguments":{"b":"five"}}"#);
}
