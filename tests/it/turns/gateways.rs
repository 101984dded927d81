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

/// A stream of these events.
fn streams(body: impl Into<String>) -> Script {
    let kind = ("content-type", "text/event-stream".into());
    Script::Status(200, vec![kind], body.into())
}

#[tokio::test]
async fn a_field_that_is_refused_in_the_stream_is_left_out_from_then_on() {
    let flat = json!({ "object": "error", "message": "stream_options: extra inputs are not permitted",
        "type": "BadRequestError", "code": 400 });
    let nested =
        json!({ "error": { "message": "Unknown parameter: 'stream_options'.", "code": 400 } });
    let of_param = json!({ "error": { "message": "Unsupported parameter", "param": "stream_options",
        "type": "invalid_request_error" } });
    let of_choice = json!({ "choices": [{ "delta": {}, "error": {
        "code": 502, "message": "json: unknown field \"stream_options\"" } }] });
    let role =
        json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" } }] });
    for body in [
        format!("data: {flat}\n\ndata: [DONE]\n\n"),
        format!("data: {nested}\n\n"),
        format!("data: {of_param}\n\n"),
        format!("data: {of_choice}\n\n"),
        format!("event: error\ndata: {nested}\n\n"),
        "event: error\ndata: stream_options is not supported\n\n".into(),
        format!(": processing\n\ndata: {role}\n\ndata: {flat}\n\n"),
        format!("{nested}\n"),
    ] {
        let endpoint = Endpoint::new(vec![streams(&*body), says("well"), says("again")]).await;
        let server = serve(&endpoint).await;
        let answer = turn(&server, prompt("", "go")).await;
        assert_eq!((answer.error.as_ref(), answer.final_text.as_str()), (None, "well"), "{body}");
        assert_eq!(answer.usage.expect("usage").requests, 2, "{body}");
        assert_eq!(turn(&server, prompt("", "go")).await.final_text, "again", "{body}");
        let requests = endpoint.requests();
        let sent: Vec<bool> =
            requests.iter().map(|request| request.get("stream_options").is_some()).collect();
        assert_eq!(sent, [true, false, false], "{body}");
    }
}

#[tokio::test]
async fn refusals_in_and_before_the_stream_add_up() {
    let in_stream = json!({ "usage": { "prompt_tokens": 7 },
        "error": { "message": "max_completion_tokens: extra inputs are not permitted", "code": 400 } });
    let endpoint = Endpoint::new(vec![
        refuses("stream_options: extra inputs are not permitted"),
        streams(format!("data: {in_stream}\n\n")),
        says("well"),
        says("again"),
    ])
    .await;
    let server = serve_with(&endpoint, "max_output_tokens = 100").await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!(answer.final_text, "well");
    assert_eq!(answer.usage.expect("usage").requests, 3);
    assert_eq!(turn(&server, prompt("", "go")).await.final_text, "again");
    for request in &endpoint.requests()[2..] {
        assert_eq!(request.get("stream_options"), None);
        assert_eq!(
            (&request["max_tokens"], request.get("max_completion_tokens")),
            (&json!(100), None)
        );
    }
}

#[tokio::test]
async fn a_change_that_the_stream_refuses_too_is_not_kept() {
    let other = json!({ "error": { "message": "no more requests", "code": 400 } });
    let endpoint = Endpoint::new(vec![
        refuses("stream_options: extra inputs are not permitted"),
        streams(format!("data: {other}\n\n")),
        says("well"),
    ])
    .await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "go")).await;
    assert_eq!(error_of(&answer).code, "model_request_refused");
    assert!(error_of(&answer).message.contains("no more requests"), "{answer:?}");
    assert_eq!(turn(&server, prompt("", "go")).await.final_text, "well");
    let requests = endpoint.requests();
    let sent: Vec<bool> =
        requests.iter().map(|request| request.get("stream_options").is_some()).collect();
    assert_eq!(sent, [true, false, true]);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    let refusal = json!({ "error": { "code": 400,
        "message": "stream_options: extra inputs are not permitted" } });
    let call = json!({ "id": "c", "function": { "name": "bash", "arguments": "" } });
    for (begun, piece) in [
        ("text", Piece::Text("I".into())),
        ("reasoning", Piece::Reasoning("hm".into())),
        ("a call", Piece::Call(0, call)),
    ] {
        let stream = vec![piece, Piece::Data(refusal.to_string())];
        let endpoint = Endpoint::new(vec![Script::Stream(stream)]).await;
        let server = serve(&endpoint).await;
        let answer = turn(&server, prompt("", "go")).await;
        assert_eq!(error_of(&answer).code, "model_request_refused", "{begun}");
        assert_eq!(endpoint.requests().len(), 1, "{begun}");
    }
}

#[tokio::test]
async fn a_change_that_does_not_help_is_not_kept() {
    let endpoint = Endpoint::new(vec![
        refuses("stream_options: extra inputs are not permitted"),
        refuses("no more requests"),
        says("well"),
    ])
    .await;
    let server = serve(&endpoint).await;
    assert_eq!(error_of(&turn(&server, prompt("", "go")).await).code, "model_request_refused");
    assert_eq!(turn(&server, prompt("", "go")).await.final_text, "well");
    let requests = endpoint.requests();
    let sent: Vec<bool> =
        requests.iter().map(|request| request.get("stream_options").is_some()).collect();
    assert_eq!(sent, [true, false, true]);
}

/// A prompt with this image.
fn look(session: &str, image: &'static [u8]) -> v1::RunTurnRequest {
    let image = v1::Image { media_type: "image/png".into(), data: image.into() };
    let kind = Some(v1::content::Kind::Image(image));
    let attachments = vec![v1::Content { kind, ..Default::default() }];
    v1::RunTurnRequest { attachments, ..prompt(session, "look") }
}

/// The images in a request.
fn images(endpoint: &Endpoint, request: usize) -> Vec<String> {
    let messages = endpoint.messages(request);
    let parts = messages.iter().filter_map(|message| message["content"].as_array()).flatten();
    let urls = parts.filter_map(|part| part["image_url"]["url"].as_str());
    urls.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_image_that_is_refused_takes_neither_its_session_nor_other_images_along() {
    let scripts = vec![
        says("one"),
        refuses("messages.3.content.1.image.source.base64: Could not process image"),
        says("two"),
        says("three"),
    ];
    let endpoint = Endpoint::new(scripts).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    for (image, words) in [
        (&b"\x89PNG\r\n\x1a\n"[..], "one"),
        (b"\x89PNG\r\n\x1a\nbroken", "two"),
        (b"\x89PNG\r\n\x1a\nagain", "three"),
    ] {
        let answer = turn(&server, look(&session, image)).await;
        assert_eq!((answer.error.as_ref(), answer.final_text.as_str()), (None, words));
    }
    assert_eq!(endpoint.requests().len(), 4, "it is refused once");
    let (first, third) = (images(&endpoint, 0).remove(0), images(&endpoint, 3).remove(1));
    assert_eq!(images(&endpoint, 1).len(), 2);
    assert_eq!(images(&endpoint, 2), std::slice::from_ref(&first));
    assert_eq!(images(&endpoint, 3), [first, third]);
    let note = "look\n\n[an attachment of 14 bytes of image/png]";
    assert_eq!(endpoint.messages(2)[3]["content"], note);
    assert_eq!(endpoint.messages(3)[3]["content"], note);
}

#[tokio::test]
async fn a_request_is_refused_if_it_is_not_its_images() {
    let endpoint = Endpoint::new(vec![refuses("the image is not valid"); 2]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let answer = turn(&server, look(&session, b"\x89PNG\r\n\x1a\n")).await;
    assert_eq!(error_of(&answer).code, "model_request_refused");
    assert!(error_of(&answer).message.contains("the image is not valid"), "{answer:?}");
    endpoint.then(says("well"));
    assert_eq!(turn(&server, prompt(&session, "go")).await.final_text, "well");
    let counts: Vec<usize> = (0..3).map(|request| images(&endpoint, request).len()).collect();
    assert_eq!(counts, [1, 0, 1]);
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
    let request = look("", b"\x89PNG\r\n\x1a\n");
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
        let in_stream = json!({ "error": { "message": words, "code": 400 } });
        for script in [refuses(words), streams(format!("data: {in_stream}\n\n"))] {
            let endpoint = Endpoint::new(vec![script]).await;
            let server = serve_with(&endpoint, more).await;
            let session = new_session(&server).await;
            let answer = turn(&server, prompt(&session, "go")).await;
            assert_eq!(error_of(&answer).code, "model_request_refused", "{words}");
            assert_eq!(endpoint.requests().len(), 1, "{words}");
        }
    }
}
