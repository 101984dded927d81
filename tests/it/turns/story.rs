//! Models that call tools, as agents do.

use serde_json::json;

use super::*;
use crate::support::streams::{created, log_of, new_session};

/// A tool that parks at once where it takes long.
const SLOW: &str = "
[[tools]]
name = 'slow'
argv = ['bash', '-c', 'echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ready']
call_budget = '200ms'

[[tools]]
name = 'forever'
argv = ['sleep', '1000']
call_budget = '100ms'
";

async fn session_in(server: &TestServer, folder: &std::path::Path) -> String {
    let request = v1::CreateSessionRequest {
        working_directory: folder.display().to_string(),
        ..Default::default()
    };
    created(server, request).await.session_id
}

/// Returns the result of a call as the model sees it in this request.
fn tool_result(endpoint: &Endpoint, request: usize, id: &str) -> String {
    let messages = endpoint.messages(request);
    let answer = messages.iter().find(|message| message["tool_call_id"] == id);
    answer.expect("an answer")["content"].as_str().expect("text").to_owned()
}

/// Returns the result of the last call as the model sees it. Follow-ups may stand behind it.
fn last_tool_result(endpoint: &Endpoint, request: usize) -> String {
    let messages = endpoint.messages(request);
    let answer = messages.iter().rfind(|message| message["role"] == "tool");
    answer.expect("an answer")["content"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_tool_is_run_and_its_result_goes_to_the_model() {
    let bash = ("c1", "bash", json!({ "command": "echo four" }));
    let endpoint = Endpoint::new(vec![calls(&[bash]), says("it is four")]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let events = streamed(&server, prompt(&session, "two and two?")).await;
    let expected = [
        "turn",
        "started main two and two?",
        "used 1 of main",
        "message \"\" 1 calls",
        "call bash",
        "output four",
        "ended STATE_SUCCEEDED",
        "text it is four",
        "used 1 of main",
        "message \"it is four\" 0 calls",
        "idle STOP_REASON_END_TURN \"it is four\"",
    ];
    assert_eq!(short(&events), expected);
    assert_eq!(tool_result(&endpoint, 1, "c1"), "four\n");
    let Some(Payload::AssistantMessage(message)) = &events[4].payload else { panic!("{events:?}") };
    assert_eq!(message.call_ids, [events[5].call_id.clone()]);
    let tools = endpoint.requests()[0]["tools"].clone();
    let names: Vec<&str> = tools
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["function"]["name"].as_str().expect("a name"))
        .collect();
    let own = ["agent", "check_background_task", "read_background_output"];
    assert_eq!(names, [["bash", "python"].as_slice(), &own].concat());
}

/// The whole story: a call parks, the model looks around, waits, reads, cancels, and ends.
#[tokio::test]
async fn a_slow_call_parks_and_the_model_comes_back_for_it() {
    let folder = crate::support::folder();
    let endpoint =
        Endpoint::new(vec![calls(&[("slow", "slow", json!({})), ("never", "forever", json!({}))])])
            .await;
    let server = serve_with(&endpoint, SLOW).await;
    let session = session_in(&server, folder.path()).await;
    let request = prompt(&session, "do both");
    let stream = server.tools.clone().stream_turn(request).await.expect("a stream");
    let mut stream = stream.into_inner();
    // The model gets both ids before the next answer can be written.
    let mut events: Vec<v1::SessionEvent> = Vec::new();
    let parked = |events: &[v1::SessionEvent]| -> Vec<String> {
        let ids = events.iter().filter_map(|event| match &event.payload {
            Some(Payload::ToolCallParked(parked)) => Some(parked.background_id.clone()),
            _ => None,
        });
        ids.collect()
    };
    while parked(&events).len() < 2 {
        let update = soon("an event", stream.message()).await.expect("no error");
        events.extend(update.expect("more").events);
    }
    let of = |tool: &str| {
        let call = events.iter().find_map(|event| match &event.payload {
            Some(Payload::ToolCallStarted(started)) if started.tool == tool => {
                Some(event.call_id.replace("call-", "bg-"))
            }
            _ => None,
        });
        call.expect("a call")
    };
    let (slow, never) = (of("slow"), of("forever"));
    let check = |id: &str, action: &str, seconds: f64| {
        let action = json!({ "background_id": id, "action": action, "wait_seconds": seconds });
        ("x", "check_background_task", action)
    };
    endpoint.then(calls(&[("list", "check_background_task", json!({ "action": "list" }))]));
    endpoint.then(calls(&[check(&slow, "wait", 0.05)]));
    let read = json!({ "background_id": slow, "offset": 0 });
    endpoint.then(calls(&[("read", "read_background_output", read)]));
    endpoint.then(calls(&[check(&never, "cancel", 0.0)]));
    endpoint.asked(5).await;
    std::fs::write(folder.path().join("go"), "").expect("written");
    endpoint.then(calls(&[check(&slow, "wait", 30.0)]));
    endpoint.then(says("both are done"));
    while let Some(update) = soon("an event", stream.message()).await.expect("no error") {
        events.extend(update.events);
    }
    assert_eq!(
        short(&events).last().expect("an end"),
        "idle STOP_REASON_END_TURN \"both are done\""
    );

    check_tool_results(&endpoint, &slow, &never);
    let usage = session_now(&server, &session).await.usage.expect("usage");
    assert_eq!((usage.requests, usage.input_tokens, usage.output_tokens), (7, 700, 70));
    crate::history::check_everything(&server.connect(), 0).await;
}

/// Checks the results that the model of the story sees, round by round.
fn check_tool_results(endpoint: &Endpoint, slow: &str, never: &str) {
    let synthetic: serde_json::Value =
        serde_json::from_str(&tool_result(endpoint, 1, "slow")).expect("JSON");
    assert_eq!(
        (&synthetic["type"], &synthetic["background_id"]),
        (&json!("background"), &json!(slow))
    );
    let list = tool_result(endpoint, 2, "list");
    assert!(list.contains(slow) && list.contains(never), "{list}");
    let still = last_tool_result(endpoint, 3);
    assert!(still.contains("still running") && still.contains("begun"), "{still}");
    let read = tool_result(endpoint, 4, "read");
    assert!(read.contains(">\nbegun\n</callpark-data "), "{read}");
    assert!(read.contains(">\n[bytes 0 to 6 of 6;"), "{read}");
    let cancelled = last_tool_result(endpoint, 5);
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    let ready = last_tool_result(endpoint, 6);
    assert!(ready.contains("succeeded") && ready.contains("begun\nready"), "{ready}");
}

#[tokio::test]
async fn the_model_sees_each_failure_with_its_reason() {
    let endpoint = Endpoint::new(vec![
        calls(&[
            ("exit", "bash", json!({ "command": "echo no >&2; exit 3" })),
            ("unfit", "bash", json!({ "command": 7 })),
            ("absent", "zsh", json!({})),
            ("foreign", "check_background_task", json!({ "background_id": "bg-1" })),
        ]),
        says("I see"),
    ])
    .await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "try")).await;
    assert_eq!(answer.final_text, "I see");
    let failed = tool_result(&endpoint, 1, "exit");
    let (reason, output) = failed.split_once('\n').expect("two parts");
    assert_eq!(reason, "[failed: exit code 3]");
    assert!(output.starts_with("<callpark-data ") && output.contains(">\nno\n</"), "{failed}");
    assert!(tool_result(&endpoint, 1, "unfit").contains("command"));
    assert!(
        tool_result(&endpoint, 1, "absent")
            .contains("there is no tool `zsh`; the available tools are bash, python")
    );
    assert!(tool_result(&endpoint, 1, "foreign").contains("must be `bg-`"));
}

#[tokio::test]
async fn arguments_that_are_not_json_are_reported_to_the_model() {
    let broken = json!({ "id": "c", "function": { "name": "bash", "arguments": "{\"comm" } });
    let script = Script::Stream(vec![Piece::Call(0, broken), Piece::Finish("tool_calls")]);
    let endpoint = Endpoint::new(vec![script, says("sorry")]).await;
    let server = serve(&endpoint).await;
    assert_eq!(turn(&server, prompt("", "try")).await.final_text, "sorry");
    assert!(tool_result(&endpoint, 1, "c").contains("not valid JSON"));
}

#[tokio::test]
async fn three_equal_failures_end_the_turn() {
    let failing = calls(&[("c", "bash", json!({ "command": "exit 1" }))]);
    let endpoint = Endpoint::new(vec![failing; 4]).await;
    let server = serve(&endpoint).await;
    let answer = turn(&server, prompt("", "try")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("repeated_failure", false));
    assert_eq!(endpoint.requests().len(), 3);
}

#[tokio::test]
async fn rounds_are_bounded() {
    let again = calls(&[("c", "bash", json!({ "command": "true" }))]);
    let endpoint = Endpoint::new(vec![again; 4]).await;
    let server = serve(&endpoint).await;
    let request = v1::RunTurnRequest { max_rounds: 2, ..prompt("", "loop") };
    let answer = turn(&server, request).await;
    assert_eq!((answer.stop_reason(), &answer.error), (v1::StopReason::MaxRounds, &None));
    assert_eq!(endpoint.requests().len(), 2);
}

#[tokio::test]
async fn a_finished_call_is_not_run_again_when_the_model_fails_after_it() {
    let folder = crate::support::folder();
    let call = ("c", "bash", json!({ "command": "echo x >> runs" }));
    let cut = Script::Stream(vec![Piece::Text("on".into()), Piece::Cut]);
    let endpoint = Endpoint::new(vec![calls(&[call]), cut, says("once")]).await;
    let server = serve(&endpoint).await;
    let session = session_in(&server, folder.path()).await;
    assert_eq!(turn(&server, prompt(&session, "go")).await.final_text, "once");
    let runs = std::fs::read_to_string(folder.path().join("runs")).expect("a file");
    assert_eq!(runs, "x\n");
    assert_eq!(endpoint.messages(1), endpoint.messages(2));
}

#[tokio::test]
async fn a_full_session_can_still_be_asked_to_look_after_its_tasks() {
    let wait = json!({ "action": "list" });
    let endpoint = Endpoint::new(vec![
        calls(&[("a", "forever", json!({})), ("b", "forever", json!({}))]),
        calls(&[("c", "forever", json!({})), ("list", "check_background_task", wait)]),
        says("it is full"),
        says("I can be asked"),
    ])
    .await;
    let server = serve_with(&endpoint, SLOW).await;
    // The turn, and two calls of it.
    let request = v1::CreateSessionRequest { max_live_tasks: 3, ..Default::default() };
    let session = created(&server, request).await.session_id;
    let answer = turn(&server, prompt(&session, "fill it")).await;
    assert_eq!(answer.final_text, "it is full");
    assert_eq!(answer.running_background_ids.len(), 2);
    assert!(tool_result(&endpoint, 2, "c").contains("has 3 live tasks, its limit"));
    assert!(
        tool_result(&endpoint, 2, "list").contains("2 background tasks"),
        "{}",
        tool_result(&endpoint, 2, "list")
    );
    let third = crate::support::streams::start_of(&session, "sleep 1000");
    crate::support::waiting::start(&server, third).await;
    assert_eq!(turn(&server, prompt(&session, "well?")).await.final_text, "I can be asked");
}

#[tokio::test]
async fn calls_of_one_message_run_together_and_answer_in_order() {
    let folder = crate::support::folder();
    // Each waits for the other.
    let meet = |own: &str, other: &str| json!({ "command": format!("touch {own}; while [ ! -e {other} ]; do sleep 0.02; done; echo {own}") });
    let both = [("1", "bash", meet("a", "b")), ("2", "bash", meet("b", "a"))];
    let endpoint = Endpoint::new(vec![calls(&both), says("met")]).await;
    let server = serve(&endpoint).await;
    let session = session_in(&server, folder.path()).await;
    assert_eq!(turn(&server, prompt(&session, "go")).await.final_text, "met");
    assert_eq!(
        (tool_result(&endpoint, 1, "1"), tool_result(&endpoint, 1, "2")),
        ("a\n".into(), "b\n".into())
    );
}

#[tokio::test]
async fn a_stopped_turn_leaves_its_calls_in_the_background() {
    let endpoint =
        Endpoint::new(vec![calls(&[("c", "bash", json!({ "command": "sleep 1000" }))])]).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let request = prompt(&session, "go");
    let stream = server.tools.clone().stream_turn(request).await.expect("a stream");
    let mut stream = stream.into_inner();
    let mut events = Vec::new();
    while !short(&events).iter().any(|event| event == "call bash") {
        let update = soon("an event", stream.message()).await.expect("no error");
        events.extend(update.expect("more").events);
    }
    let request = v1::CancelTurnRequest { session_id: session.clone(), ..Default::default() };
    let stopped = soon("a cancel", server.tools.clone().cancel_turn(request)).await;
    let stopped = stopped.expect("an answer").into_inner();
    assert_eq!(stopped.running_background_ids.len(), 1);
    while let Some(update) = soon("an event", stream.message()).await.expect("no error") {
        events.extend(update.events);
    }
    let Some(Payload::SessionIdle(idle)) = &events.last().expect("an end").payload else {
        panic!("{events:?}");
    };
    assert_eq!(idle.stop_reason(), v1::StopReason::Cancelled);
    assert_eq!(idle.running_background_ids, stopped.running_background_ids);
    assert!(short(&log_of(&server, &session).await).contains(&"parked".to_owned()));
}
