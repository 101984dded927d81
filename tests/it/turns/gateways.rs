//! Settings of a model, and gateways that refuse a part of the protocol.

use serde_json::{Value, json};

use super::*;
use crate::support::streams::new_session;

fn refuses(words: &str) -> Script {
    let error = json!({ "error": { "message": words, "type": "invalid_request_error" } });
    Script::Status(400, vec![], error.to_string())
}

#[tokio::test]
async fn every_setting_of_a_model_is_sent() {
    let folder = crate::support::folder();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-a-file\n").expect("written");
    let more = format!(
        "max_output_tokens = 100\nmax_tokens_field = 'max_tokens'\ntemperature = 0.5\n\
         reasoning_effort = 'low'\ntool_choice = 'bash'\nparallel_tool_calls = false\n\
         omit = ['stream_options']\ncall_ids = 'short'\n\
         headers = {{ x-title = 'callpark', x-token = {{ file = '{}' }}, x-path = {{ environment = 'PATH' }} }}\n\
         extra_body = {{ provider = {{ order = ['a', 'b'] }}, reasoning_effort = 'none' }}",
        file.display()
    );
    let bash = ("c", "bash", json!({ "command": "true" }));
    let endpoint = Endpoint::new(vec![calls(&[bash]), says("well")]).await;
    let server = serve_with(&endpoint, &more).await;
    assert_eq!(turn(&server, prompt("", "go")).await.final_text, "well");
    let request = endpoint.requests().remove(1);
    for (field, value) in [
        ("max_tokens", json!(100)),
        ("max_completion_tokens", Value::Null),
        ("temperature", json!(0.5)),
        ("reasoning_effort", json!("none")),
        ("tool_choice", json!({ "type": "function", "function": { "name": "bash" } })),
        ("parallel_tool_calls", json!(false)),
        ("stream_options", Value::Null),
        ("provider", json!({ "order": ["a", "b"] })),
    ] {
        assert_eq!(request[field], value, "{field}");
    }
    let id = request["messages"][2]["tool_calls"][0]["id"].as_str().expect("an id");
    assert!(id.len() == 9 && id.chars().all(|c| c.is_ascii_alphanumeric()), "{id}");
    let head = endpoint.heads().remove(0).to_ascii_lowercase();
    assert!(head.contains("x-title: callpark\r\n"), "{head}");
    assert!(head.contains("x-token: from-a-file\r\n") && head.contains("x-path: /"), "{head}");
}

#[tokio::test]
async fn the_path_of_the_protocol_stands_before_a_query() {
    let mut endpoint = Endpoint::new(vec![says("well"), refuses("no")]).await;
    endpoint.url = format!("{}/deployments/d?api-version=1&key=secret", endpoint.url);
    let server = serve(&endpoint).await;
    assert_eq!(turn(&server, prompt("", "go")).await.final_text, "well");
    let head = endpoint.heads().remove(0);
    let line = "POST /v1/deployments/d/chat/completions?api-version=1&key=secret HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    let answer = turn(&server, prompt("", "go")).await;
    assert!(!error_of(&answer).message.contains("secret"), "{answer:?}");
}

#[tokio::test]
async fn a_field_that_a_gateway_refuses_is_left_out_from_then_on() {
    let endpoint = Endpoint::new(vec![
        refuses("stream_options: extra inputs are not permitted"),
        refuses("max_completion_tokens: extra inputs are not permitted"),
        says("well"),
        says("again"),
    ])
    .await;
    let server = serve_with(&endpoint, "max_output_tokens = 100").await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!(answer.final_text, "well");
    assert_eq!(answer.usage.expect("usage").requests, 3);
    assert_eq!(turn(&server, prompt("", "go")).await.final_text, "again");
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 4);
    for request in &requests[2..] {
        assert_eq!(request.get("stream_options"), None);
        assert_eq!(
            (&request["max_tokens"], request.get("max_completion_tokens")),
            (&json!(100), None)
        );
    }
}

#[tokio::test]
async fn ids_and_images_that_a_gateway_refuses_are_sent_differently() {
    let endpoint = Endpoint::new(vec![
        calls(&[("call_1", "bash", json!({ "command": "true" }))]),
        refuses("Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9."),
        refuses("unknown variant `image_url`, expected `text`"),
        says("well"),
    ])
    .await;
    let server = serve(&endpoint).await;
    let data = b"\x89PNG\r\n\x1a\n"[..].into();
    let image = v1::Image { media_type: "image/png".into(), data };
    let kind = Some(v1::content::Kind::Image(image));
    let attachments = vec![v1::Content { kind, ..Default::default() }];
    let request = v1::RunTurnRequest { attachments, ..prompt("", "look") };
    assert_eq!(turn(&server, request).await.final_text, "well");
    let messages = endpoint.messages(3);
    assert_eq!(messages[1]["content"], "look\n\n[an attachment of 8 bytes of image/png]");
    assert_eq!(messages[2]["tool_calls"][0]["id"].as_str().map(str::len), Some(9));
}

#[tokio::test]
async fn other_refusals_are_errors() {
    let added = "extra_body = { temperature = 3 }";
    for (words, more) in [
        ("temperature: extra inputs are not permitted", added),
        ("max_completion_tokens is too large", "max_output_tokens = 100"),
        ("stream_options are fine, but not the model", ""),
    ] {
        let endpoint = Endpoint::new(vec![refuses(words)]).await;
        let server = serve_with(&endpoint, more).await;
        let session = new_session(&server).await;
        let answer = turn(&server, prompt(&session, "go")).await;
        assert_eq!(error_of(&answer).code, "model_request_refused", "{words}");
        assert_eq!(endpoint.requests().len(), 1, "{words}");
    }
}
