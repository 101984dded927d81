//! The results of calls as a model is shown them, and the arguments that it may write.

use serde_json::{Value, json};

use super::messages::PARKS;
use super::*;
use crate::support::streams::{ended, new_session};
use crate::support::waiting::{outcome_of, start, start_of_turn};

/// Runs a turn in which the model calls a tool, and returns what it is shown of the result.
async fn shown(server: &TestServer, endpoint: &Endpoint, tool: &str, arguments: Value) -> String {
    endpoint.then(calls(&[("a", tool, arguments)]));
    endpoint.then(says("done"));
    let session = new_session(server).await;
    let answer = turn(server, prompt(&session, "go")).await;
    assert_eq!(answer.final_text, "done");
    let messages = endpoint.messages(endpoint.requests().len() - 1);
    let result = messages.iter().find(|message| message["role"] == "tool").expect("a result");
    result["content"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn output_is_shown_as_a_person_reads_it() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    for (command, expected) in [
        ("printf '10 %%\\r50 %%\\r100 %%\\n\\e[1mdone\\e[0m\\n'", "100 %\ndone\n"),
        (
            "seq 3; printf 'caf\\xe9\\n'; echo the end",
            "1\n2\n3\ncaf\u{fffd}\nthe end\n[bytes that are not UTF-8: 1; each place is shown as \
             \u{fffd}]",
        ),
        ("printf '\\x7fELF\\0\\xff'", "[6 bytes of application/octet-stream]"),
    ] {
        let arguments = json!({ "command": command });
        assert_eq!(shown(&server, &endpoint, "bash", arguments).await, expected);
    }
}

#[tokio::test]
async fn arguments_are_read_as_they_are_meant() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve(&endpoint).await;
    let nulls = json!({ "command": "echo hi", "cwd": null, "env": { "A": null }, "stdin": null });
    assert_eq!(shown(&server, &endpoint, "bash", nulls).await, "hi\n");
    let texts = json!({ "command": "echo $A", "env": "{\"A\": \"b\"}" });
    let converted = shown(&server, &endpoint, "bash", texts).await;
    assert!(converted.contains(">\nb\n</callpark-data "), "{converted}");
    let note = "[arguments were given as text and read as the tool takes them: `env` as object]";
    assert!(converted.ends_with(&format!(">\n{note}")), "{converted}");
    let required = shown(&server, &endpoint, "bash", json!({ "command": null })).await;
    assert!(required.contains("command: must be of type string"), "{required}");
    let deep = format!("{{\"A\": {}1{}}}", "[".repeat(40), "]".repeat(40));
    let deep = shown(&server, &endpoint, "bash", json!({ "command": "x", "env": deep })).await;
    assert!(deep.contains("deeper than 32 levels"), "{deep}");
}

#[tokio::test]
async fn a_wait_that_is_out_of_bounds_is_clamped() {
    let endpoint = Endpoint::new(vec![]).await;
    let server = serve_with(&endpoint, PARKS).await;
    let session = new_session(&server).await;
    endpoint.then(calls(&[("p", "parks", json!({ "command": "echo fine" }))]));
    let request = prompt(&session, "go");
    let (answer, ()) = tokio::join!(turn(&server, request), async {
        endpoint.asked(2).await;
        let messages = endpoint.messages(1);
        let parked = messages.iter().find(|message| message["role"] == "tool").expect("a result");
        let parked: Value =
            serde_json::from_str(parked["content"].as_str().expect("text")).expect("a parked call");
        let id = &parked["background_id"];
        let wait = |seconds: Value| json!({ "background_id": id, "wait_seconds": seconds });
        endpoint.then(calls(&[
            ("long", "check_background_task", wait(json!(541))),
            ("negative", "check_background_task", wait(json!(-5))),
            ("text", "check_background_task", wait(json!("30"))),
        ]));
        endpoint.then(says("done"));
    });
    assert_eq!(answer.final_text, "done");
    let results = endpoint.messages(2);
    let result = |id: &str| {
        let result = results.iter().find(|message| message["tool_call_id"] == id);
        result.expect("a result")["content"].as_str().expect("text").to_owned()
    };
    let (long, negative, text) = (result("long"), result("negative"), result("text"));
    assert!(long.contains("fine\n"), "{long}");
    assert!(long.ends_with("\n[wait_seconds 541 counts as 540: it can be 0 to 540]"), "{long}");
    assert!(
        negative.ends_with("\n[wait_seconds -5 counts as 0: it can be 0 to 540]"),
        "{negative}"
    );
    assert!(text.contains("fine\n") && text.ends_with("`wait_seconds` as number]"), "{text}");
}

#[tokio::test]
async fn a_turn_whose_last_message_is_empty_ends_with_the_last_text() {
    let last = vec![Piece::Text(" \n".into()), Piece::Finish("stop")];
    let with_text = vec![
        Piece::Text("The answer is 4.".into()),
        Piece::Call(
            0,
            json!({ "id": "a", "type": "function",
            "function": { "name": "bash", "arguments": "{\"command\":\"true\"}" } }),
        ),
        Piece::Finish("tool_calls"),
    ];
    let scripts = [with_text, last].map(Script::Stream);
    let endpoint = Endpoint::new([scripts.clone(), scripts].concat()).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let events = streamed(&server, prompt(&session, "two and two?")).await;
    let Some(Payload::SessionIdle(idle)) = &events.last().expect("an end").payload else {
        panic!("{events:?}")
    };
    assert_eq!(idle.final_text, "The answer is 4.");
    let started = start(&server, start_of_turn(prompt(&session, "again?"))).await;
    let task = ended(&server, &started.background_id).await;
    let content = &outcome_of(&task).content;
    let [v1::Content { kind: Some(v1::content::Kind::Text(text)), .. }] = &content[..] else {
        panic!("{content:?}")
    };
    assert_eq!(text, "The answer is 4.");
}
