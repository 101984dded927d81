//! One answer in the dialect of each provider, as its documentation and its servers write it: the same
//! comes of all of them.

use serde_json::{Value, json};

use super::*;
use crate::support::streams::{log_of, new_session};

const ONE: &str = r#"{"command":"echo one"}"#;
const TWO: &str = r#"{"command":"echo two"}"#;
const TEXT: &str = "Let us look.";
const REASONING: &str = "hm, both";

/// A provider, and how it streams an answer of text, two calls, usage, and reasoning where it has it.
struct Dialect {
    name: &'static str,
    body: fn() -> String,
    has_reasoning: bool,
    /// A field of the message that goes back with the results, and its value.
    goes_back: fn() -> Vec<(&'static str, Value)>,
}

const DIALECTS: [Dialect; 13] = [
    Dialect { name: "OpenAI", body: openai, has_reasoning: false, goes_back: Vec::new },
    Dialect { name: "Azure", body: azure, has_reasoning: false, goes_back: Vec::new },
    Dialect {
        name: "Gemini",
        body: gemini,
        has_reasoning: false,
        goes_back: || vec![("/tool_calls/0/extra_content/google/thought_signature", json!("c2ln"))],
    },
    Dialect { name: "Anthropic", body: anthropic, has_reasoning: false, goes_back: Vec::new },
    Dialect { name: "Mistral", body: mistral, has_reasoning: true, goes_back: Vec::new },
    Dialect { name: "DeepSeek", body: deepseek, has_reasoning: true, goes_back: reasoning_content },
    Dialect {
        name: "OpenRouter",
        body: openrouter,
        has_reasoning: true,
        goes_back: || {
            let details = json!([{ "type": "reasoning.text", "index": 0, "text": REASONING,
                "signature": "c2ln", "format": "anthropic-claude-v1" }]);
            vec![("/reasoning", json!(REASONING)), ("/reasoning_details", details)]
        },
    },
    Dialect {
        name: "Groq",
        body: groq,
        has_reasoning: true,
        goes_back: || vec![("/reasoning", json!(REASONING))],
    },
    Dialect { name: "vLLM", body: vllm, has_reasoning: true, goes_back: reasoning_content },
    Dialect { name: "llama.cpp", body: llama, has_reasoning: true, goes_back: reasoning_content },
    Dialect {
        name: "Ollama",
        body: ollama,
        has_reasoning: true,
        goes_back: || vec![("/reasoning", json!(REASONING))],
    },
    Dialect {
        name: "LM Studio",
        body: lm_studio,
        has_reasoning: true,
        goes_back: reasoning_content,
    },
    Dialect {
        name: "LiteLLM",
        body: litellm,
        has_reasoning: true,
        goes_back: || {
            let blocks =
                json!([{ "type": "thinking", "thinking": REASONING, "signature": "c2ln" }]);
            vec![("/reasoning_content", json!(REASONING)), ("/thinking_blocks", blocks)]
        },
    },
];

fn reasoning_content() -> Vec<(&'static str, Value)> {
    vec![("/reasoning_content", json!(REASONING))]
}

/// The data of an event, with what all providers have in it.
fn chunk(more: Value) -> String {
    let mut chunk = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
        "model": "fake-1" });
    let fields = more.as_object().expect("an object").clone();
    chunk.as_object_mut().expect("an object").extend(fields);
    format!("data: {chunk}\n\n")
}

fn delta(delta: Value) -> String {
    chunk(
        json!({ "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }] }),
    )
}

fn finish(reason: &str) -> String {
    chunk(
        json!({ "choices": [{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason }] }),
    )
}

fn usage() -> Value {
    json!({ "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
        "prompt_tokens_details": { "cached_tokens": 40 } })
}

fn done() -> String {
    "data: [DONE]\n\n".into()
}

/// Both calls, with an index, and each with its arguments in pieces.
fn calls_in_pieces() -> String {
    let mut text = String::new();
    for (index, id, arguments) in [(0, "call_a", ONE), (1, "call_b", TWO)] {
        let function = json!({ "name": "bash", "arguments": "" });
        let begin = json!({ "index": index, "id": id, "type": "function", "function": function });
        text += &delta(json!({ "tool_calls": [begin] }));
        for piece in [&arguments[..7], &arguments[7..]] {
            let more = json!({ "index": index, "function": { "arguments": piece } });
            text += &delta(json!({ "tool_calls": [more] }));
        }
    }
    text
}

fn whole_call(id: &str, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": "bash", "arguments": arguments } })
}

fn openai() -> String {
    delta(json!({ "role": "assistant", "content": "", "refusal": null }))
        + &delta(json!({ "content": "Let us " }))
        + &delta(json!({ "content": "look." }))
        + &calls_in_pieces()
        + &finish("tool_calls")
        + &chunk(
            json!({ "choices": [], "usage": usage(), "service_tier": "default", "obfuscation": "x" }),
        )
        + &done()
}

fn azure() -> String {
    let filters = json!({ "hate": { "filtered": false, "severity": "safe" } });
    let text = json!({ "index": 0, "delta": { "content": TEXT }, "finish_reason": null,
        "content_filter_results": filters });
    let offsets = json!({ "index": 0, "finish_reason": null, "content_filter_results": filters,
        "content_filter_offsets": { "check_offset": 0 } });
    chunk(json!({ "id": "", "model": "", "object": "", "choices": [],
        "prompt_filter_results": [{ "prompt_index": 0, "content_filter_results": filters }] }))
        + &chunk(json!({ "choices": [text] }))
        + &calls_in_pieces()
        + &chunk(json!({ "choices": [offsets], "usage": null }))
        + &finish("tool_calls")
        + &chunk(json!({ "choices": [], "usage": usage() }))
        + &done()
}

fn gemini() -> String {
    let mut one = whole_call("function-call-1", ONE);
    one["extra_content"] = json!({ "google": { "thought_signature": "c2ln" } });
    let both =
        json!({ "role": "assistant", "tool_calls": [one, whole_call("function-call-2", TWO)] });
    let so_far = json!({ "prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103 });
    chunk(json!({ "choices": [{ "delta": { "role": "assistant", "content": TEXT }, "index": 0 }],
        "usage": so_far }))
        + &chunk(json!({ "choices": [{ "delta": both, "finish_reason": "stop", "index": 0 }],
            "usage": usage() }))
        + &done()
}

fn anthropic() -> String {
    delta(json!({ "role": "assistant", "content": TEXT }))
        + &calls_in_pieces()
        + &chunk(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }],
            "usage": usage(), "system_fingerprint": null }))
        + &done()
}

fn mistral() -> String {
    let thinking =
        json!({ "type": "thinking", "thinking": [{ "type": "text", "text": REASONING }] });
    let mut both = json!([whole_call("aB3dE5fG7", ONE), whole_call("hI9jK1lM3", TWO)]);
    both[1]["index"] = 1.into();
    both[0]["index"] = 0.into();
    delta(json!({ "role": "assistant", "content": "" }))
        + &delta(json!({ "content": [thinking] }))
        + &delta(json!({ "content": [{ "type": "text", "text": "Let us " }] }))
        + &delta(json!({ "content": "look." }))
        + &chunk(json!({ "choices": [{ "index": 0, "finish_reason": "tool_calls",
            "delta": { "content": "", "tool_calls": both } }], "usage": usage() }))
        + &done()
}

fn deepseek() -> String {
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
        "prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60 });
    ": keep-alive\n\n".to_owned()
        + &delta(json!({ "role": "assistant", "content": null, "reasoning_content": "hm, " }))
        + &delta(json!({ "content": null, "reasoning_content": "both" }))
        + &delta(json!({ "content": TEXT, "reasoning_content": null }))
        + &calls_in_pieces()
        + &chunk(json!({ "choices": [{ "index": 0, "delta": { "content": "" },
            "finish_reason": "tool_calls" }], "usage": usage }))
        + &done()
}

fn openrouter() -> String {
    let detail = |text: &str, signature: Value| {
        json!({ "role": "assistant", "content": "", "reasoning": text,
            "reasoning_details": [{ "type": "reasoning.text", "index": 0, "text": text,
                "signature": signature, "format": "anthropic-claude-v1" }] })
    };
    let last = json!({ "index": 0, "delta": { "role": "assistant", "content": "" },
        "finish_reason": null, "native_finish_reason": null });
    let mut cost = usage();
    cost["cost"] = json!(0.0012);
    ": OPENROUTER PROCESSING\n\n".to_owned()
        + &delta(detail("hm, ", Value::Null))
        + &delta(detail("both", Value::Null))
        + &delta(detail("", json!("c2ln")))
        + &delta(json!({ "role": "assistant", "content": TEXT }))
        + &calls_in_pieces()
        + &chunk(json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" },
            "finish_reason": "tool_calls", "native_finish_reason": "tool_use" }] }))
        + &chunk(json!({ "choices": [last], "usage": cost }))
        + &done()
}

fn groq() -> String {
    let mut both = json!([whole_call("fc_a", ONE), whole_call("fc_b", TWO)]);
    both[0]["index"] = 0.into();
    both[1]["index"] = 1.into();
    chunk(json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": null } }],
        "x_groq": { "id": "req_1" } }))
        + &delta(json!({ "reasoning": REASONING, "channel": "analysis" }))
        + &delta(json!({ "content": TEXT }))
        + &delta(json!({ "tool_calls": both }))
        + &chunk(json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }],
            "x_groq": { "id": "req_1", "usage": usage() } }))
        + &done()
}

fn vllm() -> String {
    delta(json!({ "role": "assistant", "content": "" }))
        + &delta(json!({ "reasoning": "hm, ", "reasoning_content": "hm, " }))
        + &delta(json!({ "reasoning": "both", "reasoning_content": "both" }))
        + &delta(json!({ "content": TEXT }))
        + &calls_in_pieces()
        + &chunk(json!({ "choices": [{ "index": 0, "delta": { "content": "" }, "logprobs": null,
            "finish_reason": "tool_calls", "stop_reason": null, "token_ids": null }] }))
        + &chunk(json!({ "choices": [], "usage": usage() }))
        + &done()
}

fn llama() -> String {
    delta(json!({ "role": "assistant", "content": null }))
        + &delta(json!({ "reasoning_content": "hm, " }))
        + &delta(json!({ "reasoning_content": "both" }))
        + &delta(json!({ "content": TEXT }))
        + &calls_in_pieces()
        + &finish("tool_calls")
        + &chunk(json!({ "choices": [], "usage": usage(),
            "timings": { "prompt_n": 60, "cache_n": 40, "predicted_ms": 12.5 } }))
        + &done()
}

fn ollama() -> String {
    let mut both = json!([whole_call("call_a", ONE), whole_call("call_b", TWO)]);
    both[0]["index"] = 0.into();
    // Early versions give 0 to each call.
    both[1]["index"] = 0.into();
    delta(json!({ "role": "assistant", "content": "", "reasoning": REASONING }))
        + &delta(json!({ "role": "assistant", "content": TEXT }))
        + &delta(json!({ "role": "assistant", "content": "", "tool_calls": both }))
        + &chunk(json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" },
            "finish_reason": "tool_calls" }] }))
        + &chunk(json!({ "choices": [], "usage": usage() }))
        + &done()
}

fn lm_studio() -> String {
    let call = |index: u32, id: &str, arguments: &str| {
        let mut call = whole_call(id, arguments);
        call["index"] = index.into();
        delta(json!({ "tool_calls": [call] }))
    };
    delta(json!({ "role": "assistant", "reasoning_content": REASONING }))
        + &delta(json!({ "content": TEXT }))
        + &call(0, "365174485", "")
        + &delta(json!({ "tool_calls": [{ "index": 0, "type": "function",
            "function": { "name": "", "arguments": ONE } }] }))
        + &call(1, "365174486", TWO)
        + &finish("tool_calls")
        + &chunk(json!({ "choices": [], "usage": usage() }))
        + &done()
}

fn litellm() -> String {
    let nulls = json!({ "provider_specific_fields": null, "refusal": null, "role": null,
        "function_call": null, "audio": null });
    let with_nulls = |more: Value| {
        let mut all = nulls.clone();
        let fields = more.as_object().expect("an object").clone();
        all.as_object_mut().expect("an object").extend(fields);
        delta(all)
    };
    let thinking = |text: &str, signature: &str| {
        with_nulls(json!({ "content": "", "tool_calls": null, "reasoning_content": text,
            "thinking_blocks": [{ "type": "thinking", "thinking": text, "signature": signature }] }))
    };
    thinking("hm, ", "")
        + &thinking("both", "")
        + &thinking("", "c2ln")
        + &with_nulls(json!({ "content": TEXT, "tool_calls": null }))
        + &calls_in_pieces()
        + &finish("tool_calls")
        + &chunk(json!({ "choices": [{ "index": 0, "delta": nulls }], "usage": usage() }))
        + &done()
}

fn script(body: String) -> Script {
    Script::Status(200, vec![("content-type", "text/event-stream; charset=utf-8".into())], body)
}

#[tokio::test]
async fn one_answer_comes_of_every_dialect() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    for (number, dialect) in DIALECTS.iter().enumerate() {
        let name = dialect.name;
        endpoint.then(script((dialect.body)()));
        endpoint.then(says("both were"));
        let session = new_session(&server).await;
        let answer = turn(&server, prompt(&session, "go")).await;
        assert_eq!(
            (answer.error.as_ref(), answer.final_text.as_str()),
            (None, "both were"),
            "{name}"
        );
        let used = answer.usage.expect("usage");
        let tokens =
            (used.requests, used.input_tokens, used.cached_input_tokens, used.output_tokens);
        assert_eq!(tokens, (2, 200, 80, 20), "{name}");

        let log = log_of(&server, &session).await;
        let texts = |event: &v1::SessionEvent| match &event.payload {
            Some(Payload::ReasoningDelta(delta)) => Some(delta.text.clone()),
            _ => None,
        };
        let reasoning: String = log.iter().filter_map(texts).collect();
        assert_eq!(reasoning, if dialect.has_reasoning { REASONING } else { "" }, "{name}");

        let messages = endpoint.messages(number * 2 + 1);
        let [.., said, one, two] = &messages[..] else { panic!("{name}: {messages:?}") };
        assert_eq!(
            (&said["role"], &said["content"]),
            (&json!("assistant"), &json!(TEXT)),
            "{name}"
        );
        let called: Vec<_> = said["tool_calls"].as_array().expect("calls").iter().collect();
        let functions: Vec<_> = called.iter().map(|call| call["function"].clone()).collect();
        let wanted = [ONE, TWO].map(|args| json!({ "name": "bash", "arguments": args }));
        assert_eq!(functions, wanted, "{name}");
        for (result, call, text) in [(one, called[0], "one\n"), (two, called[1], "two\n")] {
            let ids = (&result["tool_call_id"], &result["content"]);
            assert_eq!(ids, (&call["id"], &json!(text)), "{name}");
        }
        for (place, value) in (dialect.goes_back)() {
            assert_eq!(said.pointer(place), Some(&value), "{name}: {place}");
        }
    }
}
