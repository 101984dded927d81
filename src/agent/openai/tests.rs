//! Bodies of every dialect, read as answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::answer::AnswerBuilder;
use super::error::AnswerError;
use super::names::ToolNames;
use super::reading::{self, AnswerReader};
use crate::agent::{FinishReason, ModelError, ModelErrorCode, ModelEvent};

/// An answer in short.
#[derive(Debug, Default, PartialEq)]
struct Read {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    /// Tokens: read, from a cache, written.
    usage: (u64, u64, u64),
    finish: Option<FinishReason>,
}

fn says(text: &str) -> Read {
    Read { text: text.into(), finish: Some(FinishReason::Done), ..Read::default() }
}

fn reader(content_type: &str) -> AnswerReader {
    let url = "http://model".to_owned();
    let answer = AnswerBuilder::new(url.clone(), "here".into(), Arc::new(ToolNames::default()));
    AnswerReader::new(url, content_type.into(), answer)
}

fn read_as(content_type: &str, body: &str) -> Result<Read, (ModelErrorCode, String)> {
    let mut reader = reader(content_type);
    let mut said = Vec::new();
    let ended = reader.push(body.as_bytes(), &mut said).and_then(|()| reader.finish(&mut said));
    ended.map_err(|AnswerError { error, .. }| (error.code, error.message))?;
    Ok(in_short(said))
}

fn in_short(said: Vec<ModelEvent>) -> Read {
    let mut read = Read::default();
    for event in said {
        match event {
            ModelEvent::Text(text) => read.text += &text,
            ModelEvent::Reasoning(text) => read.reasoning += &text,
            ModelEvent::Pausing { .. } => panic!("a reader doesn't pause"),
            ModelEvent::Used(usage) => {
                read.usage = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens);
            }
            ModelEvent::Finished(answer) => {
                let calls = answer.calls.into_iter().map(|call| (call.tool, call.arguments));
                (read.calls, read.finish) = (calls.collect(), Some(answer.finish));
            }
        }
    }
    read
}

fn read(body: &str) -> Result<Read, (ModelErrorCode, String)> {
    read_as("text/event-stream", body)
}

/// A stream of these pieces and the mark of the end.
fn stream(pieces: &[Value]) -> String {
    unmarked(pieces) + "data: [DONE]\n\n"
}

fn unmarked(pieces: &[Value]) -> String {
    pieces.iter().map(|piece| format!("data: {piece}\n\n")).collect()
}

fn delta(delta: Value) -> Value {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

fn end(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

/// Reads the text "hi", this piece, and an end.
fn hi_with(piece: &str) -> Result<Read, (ModelErrorCode, String)> {
    let hi = unmarked(&[delta(json!({ "role": "assistant", "content": "hi" }))]);
    read(&format!("{hi}data: {piece}\n\n{}", stream(&[end("stop")])))
}

#[test]
fn a_field_that_is_odd_costs_nothing() {
    for piece in [
        r#"{"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"index":null,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":{"delta":{},"finish_reason":"stop"}}"#,
        r#"{"choices":[null,7,{"finish_reason":"stop"}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":7}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":""}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":null}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":null}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":"odd","function_call":null,"refusal":null}}]}"#,
        r#"{"choices":[{"delta":{"content":null,"audio":{},"annotations":[7]}}]}"#,
        r#"{"choices":[{"delta":{"content":7}}]}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"another answer"}}]}"#,
        r#"{"choices":[{"index":"0","delta":{},"logprobs":NaN}]}"#,
        r#"{"choices":[],"prompt_filter_results":[]}"#,
        r#"{"choices":null,"usage":"none"}"#,
        r#"[{"choices":[]},7]"#,
        r#"{"type":"ping"}"#,
        "null",
        "[]",
        "\"ping\"",
        "ping",
        "",
    ] {
        assert_eq!(hi_with(piece), Ok(says("hi")), "{piece}");
    }
    let novel = [delta(json!({ "content": "hi" })), end("a novel reason")];
    assert_eq!(read(&stream(&novel)), Ok(says("hi")));
    let listed = [json!([delta(json!({ "content": "hi" }))]), json!([end("stop")])];
    assert_eq!(read(&stream(&listed)), Ok(says("hi")));
}

#[test]
fn usage_is_read_in_every_form() {
    for (usage, counted) in [
        (r#"{"prompt_tokens":3,"completion_tokens":2}"#, (3, 0, 2)),
        (r#"{"prompt_tokens":3.0,"completion_tokens":null}"#, (3, 0, 0)),
        (r#"{"prompt_tokens":"3","prompt_tokens_details":{"cached_tokens":1.0}}"#, (3, 1, 0)),
        (r#"{"prompt_tokens":3,"prompt_cache_hit_tokens":2}"#, (3, 2, 0)),
        (r#"{"prompt_tokens":-3,"prompt_tokens_details":7,"cached_tokens":1}"#, (0, 1, 0)),
        (r#"{"input_tokens":3,"input_tokens_details":{"cached_tokens":1}}"#, (3, 1, 0)),
    ] {
        let expected = || Ok(Read { usage: counted, ..says("hi") });
        for piece in [
            format!(r#"{{"choices":null,"usage":{usage}}}"#),
            format!(r#"{{"choices":[{{"delta":{{}},"usage":{usage}}}]}}"#),
            format!(r#"{{"choices":[],"x_groq":{{"usage":{usage}}}}}"#),
        ] {
            assert_eq!(hi_with(&piece), expected(), "{piece}");
        }
    }
}

#[test]
fn white_space_is_text() {
    let pieces = ["a", " ", "\n", "0", ""].map(|text| delta(json!({ "content": text })));
    assert_eq!(read(&stream(&[&pieces[..], &[end("stop")]].concat())), Ok(says("a \n0")));
}

#[test]
fn the_end_of_a_stream_has_many_forms() {
    let hi = delta(json!({ "content": "hi" }));
    let whole = unmarked(&[hi.clone(), end("stop")]);
    for body in [
        whole.clone(),
        whole.trim_end().to_owned(),
        format!("{whole}data:  [DONE]  \n\n"),
        format!("{whole}data: [done]\n\n"),
        format!("{whole}data: [DON"),
        format!("{whole}data: {{\"choices\":[],\"usage\":{{\"prompt_to"),
        format!("{whole}data: [DONE]\n\ndata: {{\"error\":\"late\"}}\n\n"),
        format!("{}data: [DONE]\n\n", unmarked(std::slice::from_ref(&hi))),
        format!("data: {hi}\ndata: {}\ndata: [DONE]\n\n", end("stop")),
        format!(": processing\n\nevent: ping\ndata: ping\n\n{whole}"),
        format!("data: {hi}\r\n\r\ndata: {}\r\n\r\n", end("stop")),
    ] {
        assert_eq!(read(&body), Ok(says("hi")), "{body}");
    }
    let half = delta(
        json!({ "tool_calls": [{ "id": "a", "function": { "name": "t", "arguments": "{\"a\"" } }] }),
    );
    for body in [
        unmarked(&[hi]),
        stream(&[half]),
        String::new(),
        ": processing\n\n".to_owned(),
        "data: Service is restarting\n\n".to_owned(),
    ] {
        let (code, _) = read(&body).expect_err(&body);
        assert_eq!(code, ModelErrorCode::Truncated, "{body}");
    }
    let (_, message) = read("data: Service is restarting\n\n").expect_err("is cut");
    assert!(message.contains("Service is restarting"), "{message}");
}

#[test]
fn a_message_stands_for_its_pieces() {
    let message = |text: &str, reason| {
        let message = json!({ "role": "assistant", "content": text });
        json!({ "choices": [{ "index": 0, "message": message, "finish_reason": reason }] })
    };
    let call = json!([{ "id": "a", "function": { "name": "t", "arguments": { "c": 1 } } }]);
    let calls = json!({ "choices": [{ "message": { "content": null, "tool_calls": call }, "finish_reason": "tool_calls" }] });
    let called = Read {
        calls: vec![("t".into(), "{\"c\":1}".into())],
        finish: Some(FinishReason::Done),
        ..Read::default()
    };
    let hi = delta(json!({ "content": "hi" }));
    let call_piece = delta(json!({ "tool_calls": call }));
    for (pieces, expected) in [
        (vec![message("hi", json!("stop"))], says("hi")),
        (vec![message("h", json!(null)), message("i", json!("stop"))], says("hi")),
        (vec![hi.clone(), message("hi", json!("stop"))], says("hi")),
        (vec![delta(json!({ "role": "assistant" })), message("hi", json!("stop"))], says("hi")),
        (vec![calls.clone()], called),
        (
            vec![call_piece, calls],
            Read {
                calls: vec![("t".into(), "{\"c\":1}".into())],
                finish: Some(FinishReason::Done),
                ..Read::default()
            },
        ),
        (vec![json!({ "choices": [{ "text": "hi", "finish_reason": "stop" }] })], says("hi")),
    ] {
        assert_eq!(read(&stream(&pieces)), Ok(expected), "{pieces:?}");
    }
    let whole = message("hi", json!("stop"));
    for body in [
        whole.to_string(),
        format!("\n{whole:#}\n"),
        json!([whole]).to_string(),
        message("hi", json!(null)).to_string(),
    ] {
        for kind in ["application/json", "text/event-stream", "text/html", ""] {
            assert_eq!(read_as(kind, &body), Ok(says("hi")), "{kind}: {body}");
        }
    }
    let lines = format!("{hi}\n{}\n", end("stop"));
    assert_eq!(read_as("application/x-ndjson", &lines), Ok(says("hi")));
    let sse = stream(&[hi, end("stop")]);
    assert_eq!(read_as("application/json", &sse), Ok(says("hi")), "a stream under a wrong type");
}

#[test]
fn halves_of_characters_in_pieces_are_joined() {
    let text = |json: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{json}\"}}}}]}}\n\n")
    };
    let ended = |body: String| body + &stream(&[end("stop")]);
    assert_eq!(read(&ended(text("a\\ud83d") + &text("\\ude00b"))), Ok(says("a😀b")));
    assert_eq!(read(&ended(text("a\\ud83d") + &text("b"))), Ok(says("a\u{FFFD}b")));
    assert_eq!(read(&ended(text("a\\ud83d"))), Ok(says("a\u{FFFD}")));
}

#[test]
fn parts_of_a_content_are_text_and_reasoning() {
    let thinking = json!([{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }]);
    let picture =
        json!([{ "type": "image_url", "image_url": {} }, { "type": "text", "text": "hello" }]);
    let pieces = [
        delta(json!({ "content": thinking })),
        delta(json!({ "content": picture })),
        delta(json!({ "content": " there" })),
        end("stop"),
    ];
    let expected = Read { reasoning: "hm".into(), ..says("hello there") };
    assert_eq!(read(&stream(&pieces)), Ok(expected));
    let refusal = [delta(json!({ "content": null, "refusal": "no" })), end("stop")];
    let refused = Read { finish: Some(FinishReason::Refused), ..says("no") };
    assert_eq!(read(&stream(&refusal)), Ok(refused));
    let refused = Read { finish: Some(FinishReason::Refused), ..says("no") };
    assert_eq!(read(&stream(&refusal[..1])), Ok(refused), "without a reason");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_slow_is_read_to_its_end() {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 2 } });
    let pieces = [
        delta(json!({ "refusal": "I can" })),
        delta(json!({ "refusal": "not" })),
        end("stop"),
        usage,
    ];
    let bodies = [unmarked(&pieces[..1]), stream(&pieces[1..])];
    let bytes = futures::stream::iter(bodies).then(|body| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, ModelError>(Bytes::from(body))
    });
    let said = reading::read(bytes, |error| error, reader("text/event-stream"));
    let said = said.try_collect::<Vec<_>>().await.expect("is an answer");
    let expected =
        Read { usage: (3, 0, 2), finish: Some(FinishReason::Refused), ..says("I cannot") };
    assert_eq!(in_short(said), expected);
}

#[test]
fn errors_inside_a_success_are_reported() {
    use ModelErrorCode::{
        Malformed, NotAnAnswer, QuotaExhausted, RateLimited, Refused, Server, Timeout,
    };
    let hi = delta(json!({ "content": "hi" }));
    let flat =
        json!({ "object": "error", "message": "zork", "type": "BadRequestError", "code": 400 });
    let nested = |code: Value| json!({ "error": { "message": "zork", "code": code } });
    let openrouter = json!({ "error": { "code": "server_error", "message": "zork" },
        "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error" }] });
    for (body, code, words) in [
        (stream(std::slice::from_ref(&flat)), Refused, "zork"),
        (flat.to_string(), Refused, "zork"),
        (stream(&[hi.clone(), nested(json!(400))]), Refused, "zork"),
        (stream(&[hi.clone(), nested(json!("rate_limit_exceeded"))]), RateLimited, "zork"),
        (stream(&[hi.clone(), nested(json!(429.0))]), RateLimited, "zork"),
        (stream(&[nested(json!("insufficient_quota"))]), QuotaExhausted, "zork"),
        (stream(&[hi.clone(), nested(json!(null))]), Server, "zork"),
        (stream(&[json!({ "error": "zork" })]), Server, "zork"),
        (stream(&[openrouter]), Server, "zork"),
        ("event: error\ndata: {\"message\": \"zork\", \"code\": 400}\n\n".into(), Refused, "zork"),
        ("event: error\ndata: zork is down\n\n".into(), Server, "zork is down"),
        ("event: error\ndata: \"zork\"\n\n".into(), Server, "zork"),
        ("error: {\"code\":500,\"message\":\"zork\"}\n\n".into(), Server, "zork"),
        (
            format!("{}{}\n", unmarked(std::slice::from_ref(&hi)), nested(json!(503))),
            Server,
            "zork",
        ),
        (json!([nested(json!(400))]).to_string(), Refused, "zork"),
        (json!({ "error": { "message": "no such model zork" } }).to_string(), Refused, "zork"),
        (json!({ "detail": "zork not found" }).to_string(), Refused, "zork"),
        (json!({ "status": "ok" }).to_string(), NotAnAnswer, "{\"status\":\"ok\"}"),
        ("<html><title>Zork</title>Please log in</html>".into(), NotAnAnswer, "Zork Please log in"),
        ("upstream zork".into(), NotAnAnswer, "upstream zork"),
        ("data: {\"choices\": 7\n\n".into(), Malformed, "{\"choices\": 7"),
        (stream(&[hi.clone(), end("network_error")]), Server, "network_error"),
        (stream(&[hi.clone(), end("insufficient_system_resource")]), Server, "insufficient"),
        (stream(&[hi.clone(), end("stop"), end("error")]), Server, "`error`"),
        (stream(&[hi, end("timeout")]), Timeout, "timeout"),
    ] {
        let (found, message) = read(&body).expect_err(&body);
        assert_eq!(found, code, "{body}: {message}");
        assert!(message.contains(words) && message.contains("http://model"), "{body}: {message}");
    }
    let (_, message) = read_as("text/html", "<p>Log in").expect_err("is no answer");
    assert!(message.contains("text/html") && message.contains("Log in"), "{message}");
}

#[test]
fn an_answer_that_names_no_error_is_one() {
    let fine = json!({ "error": null, "message": "", "choices": [{ "delta": { "content": "hi" }, "error": {} }] });
    assert_eq!(read(&stream(&[fine, end("stop")])), Ok(says("hi")));
}
