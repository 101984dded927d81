//! Random histories: whatever is in one, its request has nothing that an endpoint refuses.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::agent::ModelConfig;
use crate::agent::openai::request;
use crate::model::{Origin, Tool, ToolKind, ToolSource};

/// The rules of all endpoints, which the endpoint of the integration tests has, too.
#[path = "../../../../tests/it/turns/strict.rs"]
mod strict;

/// Few ids, so that most occur twice.
const IDS: [&str; 5] =
    ["", " ", "call_0", "call_1", "toolu_0123456789012345678901234567890123456789"];
const TOOLS: [&str; 6] = ["bash", "a.b", "a/b", "1st", "", "functions.bash:0"];
const ARGUMENTS: [&str; 8] =
    ["{}", "{\"a\":1}", "", "null", "[]", "{\"a\":", "\"text\"", "{\"a\":1}{\"b\":2}"];
const TEXTS: [&str; 5] = ["", " \n", "hello", "two\nlines", "ünïcode \u{0}"];

fn texts() -> impl Strategy<Value = String> {
    prop::sample::select(&TEXTS[..]).prop_map(str::to_owned)
}

fn images() -> impl Strategy<Value = Vec<Image>> {
    let image = Image { media_type: "image/png".into(), data: b"\x89PNG"[..].into() };
    prop::collection::vec(Just(image), 0..3)
}

fn attachments() -> impl Strategy<Value = Vec<Content>> {
    let content = |kind| Content { kind, stream: None, offset: 0 };
    let image = ContentKind::Image { media_type: "image/png".into(), data: b"\x89PNG"[..].into() };
    let kinds = [ContentKind::Text(String::new()), ContentKind::Text("a file".into()), image];
    prop::collection::vec(prop::sample::select(kinds.map(content).to_vec()), 0..3)
}

fn calls() -> impl Strategy<Value = ModelCall> {
    let parts = (
        prop::sample::select(&IDS[..]),
        prop::sample::select(&TOOLS[..]),
        prop::sample::select(&ARGUMENTS[..]),
    );
    parts.prop_map(|(id, tool, arguments)| ModelCall {
        id: id.into(),
        tool: tool.into(),
        arguments: arguments.into(),
        call_id: CallId::random(),
        provider_data: None,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let user = (texts(), attachments()).prop_map(|(text, attachments)| Message::User {
        text,
        attachments,
        origin: Origin::Person,
    });
    let assistant = (texts(), prop::collection::vec(calls(), 0..4)).prop_map(|(text, calls)| {
        Message::Assistant { text, calls, provider_data: None, origin: Origin::Model, note: None }
    });
    let result =
        (prop::sample::select(&IDS[..]), texts(), images()).prop_map(|(id, text, pictures)| {
            Message::Tool { id: id.into(), text, pictures, origin: Origin::Tool }
        });
    prop_oneof![2 => user, 3 => assistant, 4 => result]
}

fn tools() -> Arc<[Tool]> {
    let tool = |name: &&str| {
        let schema = json!({ "anyOf": [{ "required": ["a"] }, true] });
        Tool::new(*name, "", schema, ToolKind::Command, ToolSource::Config)
    };
    TOOLS[..4].iter().map(tool).collect()
}

/// Returns the request for messages that end with a prompt, as those of a turn do.
fn request_of(messages: &[Message]) -> ModelRequest {
    let prompt =
        Message::User { text: "go".into(), attachments: Vec::new(), origin: Origin::Person };
    let messages = messages.iter().cloned().chain([prompt]).map(Arc::new).collect();
    ModelRequest { system: "Be brief.".into(), messages, tools: tools() }
}

fn body_of(request: &ModelRequest, more: &str) -> Value {
    let toml = format!("name = 'm'\nendpoint = 'http://127.0.0.1:1'\n{more}");
    let config: ModelConfig = toml::from_str(&toml).expect("a model");
    let names = ToolNames::new(&request.tools, &request.messages);
    request::body(&config, request, &names, &Dialect::new(&config), "here")
}

proptest! {
    #[test]
    fn no_endpoint_refuses_a_history(messages in prop::collection::vec(any_message(), 0..12)) {
        for more in ["", "pictures = false\ncall_ids = 'short'"] {
            let body = body_of(&request_of(&messages), more);
            prop_assert_eq!(strict::refusal(&body), None, "{}", body["messages"]);
        }
    }

    #[test]
    fn a_request_for_a_longer_history_begins_with_the_same_bytes(
        messages in prop::collection::vec(any_message(), 1..12),
    ) {
        // Providers keep the beginning of a request in a cache.
        let whole = request_of(&messages);
        let shorter = ModelRequest { messages: whole.messages[..messages.len()].to_vec(), ..whole.clone() };
        let (whole, shorter) = (body_of(&whole, ""), body_of(&shorter, ""));
        let messages = |body: &Value| body["messages"].as_array().cloned().unwrap_or_default();
        let (whole, shorter) = (messages(&whole), messages(&shorter));
        // The last message of the shorter one may be joined with the next.
        let same = shorter.len() - 1;
        prop_assert_eq!(&whole[..same], &shorter[..same]);
    }
}

#[test]
fn the_strict_rules_refuse_what_they_name() {
    let user = json!({ "role": "user", "content": "go" });
    let call = |id: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": "t", "arguments": arguments } });
    let asks = |calls: Value| json!({ "role": "assistant", "content": null, "tool_calls": calls });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "x" });
    for (messages, words) in [
        (json!([user, user]), "Unexpected role"),
        (json!([{ "role": "assistant", "content": "x" }]), "Unexpected role"),
        (json!([user, asks(json!([call("a", "[]")])), result("a")]), "JSON object"),
        (json!([user, asks(json!([call("a", "{}"), call("a", "{}")]))]), "Duplicate"),
        (json!([user, asks(json!([call("a", "{}")])), user]), "not answered"),
        (json!([user, asks(json!([call("a", "{}")])), result("a"), user]), "Unexpected role"),
        (json!([user, { "role": "assistant", "content": " " }]), "must not be blank"),
        (json!([user, { "role": "assistant", "content": "x" }]), "last role"),
        (json!([{ "role": "user", "content": [{ "type": "text", "text": "x" }] }]), "a string"),
    ] {
        let refusal = strict::refusal(&json!({ "messages": messages })).expect(words);
        assert!(refusal.contains(words), "{refusal}");
    }
    let tool = |name: &str, schema: Value| {
        let function = json!({ "name": name, "description": "", "parameters": schema });
        json!({ "messages": [user], "tools": [{ "type": "function", "function": function }] })
    };
    let open = json!({ "type": "object", "properties": {} });
    assert_eq!(strict::refusal(&tool("t", open.clone())), None);
    for (name, schema, words) in [
        ("1st", open.clone(), "invalid name"),
        ("a.b", open, "invalid name"),
        ("t", json!({ "type": "object" }), "missing properties"),
        ("t", json!({ "type": "object", "properties": {}, "anyOf": [{}] }), "'anyOf'"),
        ("t", json!({ "type": "object", "properties": { "a": { "type": 7 } } }), "JSON Schema"),
    ] {
        let refusal = strict::refusal(&tool(name, schema)).expect(words);
        assert!(refusal.contains(words), "{refusal}");
    }
}
