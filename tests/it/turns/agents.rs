//! Agents that work for agents, each in a session of its own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::support::streams::{created, ended, log_of, new_session, session_now, task};

/// A call of the tool `agent`.
fn agent(id: &'static str, arguments: Value) -> (&'static str, &'static str, Value) {
    (id, "agent", arguments)
}

fn ask(prompt: &str) -> Value {
    json!({ "prompt": prompt })
}

/// Returns the result of a call as the model sees it in this request.
fn tool_result(endpoint: &Endpoint, request: usize, id: &str) -> String {
    let messages = endpoint.messages(request);
    let answer = messages.iter().find(|message| message["tool_call_id"] == id);
    answer.expect("an answer")["content"].as_str().expect("text").to_owned()
}

/// The names of the tools that a request offers.
fn offered(endpoint: &Endpoint, request: usize) -> Vec<String> {
    let request = &endpoint.requests()[request];
    let tools = request["tools"].as_array().expect("tools").iter();
    tools.map(|tool| tool["function"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// The session that the agent of this session's newest call of the tool works in.
async fn below(server: &TestServer, session: &str) -> String {
    let events = log_of(server, session).await;
    let progress = events.iter().rev().find_map(|event| match &event.payload {
        Some(Payload::ToolProgress(event)) => event.progress.as_ref().map(|p| p.message.clone()),
        _ => None,
    });
    let message = progress.expect("progress that names the session");
    message.rsplit(' ').next().expect("an id").to_owned()
}

#[tokio::test]
async fn an_agent_works_in_a_session_of_its_own_and_its_usage_adds_up() {
    let bash = ("b", "bash", json!({ "command": "echo seven" }));
    let endpoint = Endpoint::new(vec![
        calls(&[agent("a", ask("count them"))]),
        calls(&[bash]),
        says("there are seven"),
        says("seven, they say"),
    ])
    .await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let answer = turn(&server, prompt(&session, "how many?")).await;
    assert_eq!(answer.final_text, "seven, they say");
    assert_eq!(tool_result(&endpoint, 3, "a"), "there are seven");

    // The sub-agent gets its own prompt, and nothing of the conversation above.
    let shown = json!(endpoint.messages(1)).to_string();
    assert!(shown.contains("count them") && !shown.contains("how many?"), "{shown}");
    let inner = below(&server, &session).await;
    let log = short(&log_of(&server, &inner).await);
    assert!(log.contains(&"call bash".to_owned()), "{log:?}");
    let log = short(&log_of(&server, &session).await);
    assert!(!log.contains(&"call bash".to_owned()), "{log:?}");

    let (above, inside) =
        (session_now(&server, &session).await, session_now(&server, &inner).await);
    assert_eq!(inside.state(), v1::SessionState::Closed);
    let requests = |usage: Option<v1::Usage>| usage.expect("usage").requests;
    assert_eq!((requests(above.usage), requests(inside.usage)), (4, 2));
    assert_eq!(requests(answer.usage), 4);
    crate::history::check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn cancelling_a_parked_agent_ends_its_turn_and_its_calls() {
    let folder = crate::support::folder();
    let sleeps = json!({ "command": "echo $$ > pid; sleep 1000" });
    let endpoint = Endpoint::new(vec![
        calls(&[agent("a", ask("take long"))]),
        calls(&[("b", "bash", sleeps)]),
        says("I go on"),
    ])
    .await;
    let settings = [("call-budget", "300ms")];
    let server = TestServer::with_config(&config(&endpoint, ""), &settings).await;
    let request = v1::CreateSessionRequest {
        working_directory: folder.path().display().to_string(),
        allowed_tools: vec!["agent".into(), "bash".into()],
        ..Default::default()
    };
    let session = created(&server, request).await.session_id;
    // The call of the agent's own parks, too: its model is asked again, and hangs.
    endpoint.then(Script::Stream(vec![Piece::Hang]));
    let answer = turn(&server, prompt(&session, "begin")).await;
    let [id] = answer.running_background_ids.as_slice() else { panic!("{answer:?}") };
    endpoint.asked(4).await;
    let inner = below(&server, &session).await;
    let cancel = v1::CancelRequest { background_id: id.clone(), ..Default::default() };
    soon("a cancel", server.tasks.clone().cancel(cancel)).await.expect("an answer");
    let task = ended(&server, id).await;
    assert_eq!(task.state(), v1::State::Cancelled);
    // Its calls have the time of grace, as the turn had, from when it closed its session.
    let closed = async {
        loop {
            let inside = session_now(&server, &inner).await;
            if inside.state() == v1::SessionState::Closed {
                return inside.live_tasks;
            }
            assert_eq!(inside.state(), v1::SessionState::Closing);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(soon("the end of the inner session", closed).await, 0);
    let pid = std::fs::read_to_string(folder.path().join("pid")).expect("a file");
    assert!(!crate::support::waiting::is_alive(pid.trim().parse().expect("a number")));
    crate::history::check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn an_agent_neither_sees_nor_cancels_tasks_above_it() {
    let endpoint = Endpoint::new(Vec::new()).await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    let above = task(&server, &session, "sleep 1000").await;
    let id = &above.background_id;
    let check = |action: &str| json!({ "action": action, "background_id": id });
    endpoint.then(calls(&[agent("a", ask("look around"))]));
    endpoint.then(calls(&[
        ("list", "check_background_task", json!({ "action": "list" })),
        ("wait", "check_background_task", check("wait")),
        ("cancel", "check_background_task", check("cancel")),
        ("read", "read_background_output", json!({ "background_id": id })),
    ]));
    endpoint.then(says("nothing here"));
    endpoint.then(says("good"));
    assert_eq!(turn(&server, prompt(&session, "try")).await.final_text, "good");
    let list = tool_result(&endpoint, 2, "list");
    assert!(!list.contains(id.as_str()), "{list}");
    for call in ["wait", "cancel", "read"] {
        let result = tool_result(&endpoint, 2, call);
        assert!(result.contains("failed") && result.contains("was not found"), "{result}");
    }
    let still = crate::support::streams::task_now(&server, id).await;
    assert_eq!(still.state(), v1::State::Running);
}

#[tokio::test]
async fn an_agent_has_the_tools_that_it_is_given_and_no_others() {
    let endpoint = Endpoint::new(vec![
        calls(&[
            agent("a", json!({ "prompt": "use bash", "tools": ["bash"] })),
            agent("b", json!({ "prompt": "x", "tools": ["zsh"] })),
            agent("c", json!({ "prompt": "x", "model": "none" })),
            agent("d", json!({ "prompt": "" })),
        ]),
        says("done"),
        says("fine"),
    ])
    .await;
    let server = serve(&endpoint).await;
    turn(&server, prompt("", "go")).await;
    let names = offered(&endpoint, 1);
    assert_eq!(names, ["bash", "check_background_task", "read_background_output"]);
    assert!(
        tool_result(&endpoint, 2, "b")
            .contains("tools contains `zsh`, which is not one of your tools")
    );
    for (call, field) in [("c", "model"), ("d", "prompt")] {
        let result = tool_result(&endpoint, 2, call);
        assert!(result.contains(field), "{result}");
    }
}

#[tokio::test]
async fn agents_are_nested_three_deep_and_no_deeper() {
    let deeper = || calls(&[agent("a", ask("go deeper"))]);
    let endpoint = Endpoint::new(vec![
        deeper(),
        deeper(),
        deeper(),
        says("this is the ground"),
        says("3"),
        says("2"),
        says("1"),
    ])
    .await;
    let server = serve(&endpoint).await;
    let session = new_session(&server).await;
    assert_eq!(turn(&server, prompt(&session, "go deep")).await.final_text, "1");
    let has_agent = |request| offered(&endpoint, request).contains(&"agent".to_owned());
    assert_eq!([0, 1, 2, 3].map(has_agent), [true, true, true, false]);
    let usage = session_now(&server, &session).await.usage.expect("usage");
    assert_eq!(usage.requests, 7);
}

#[tokio::test]
async fn as_many_agents_work_at_once_as_may_and_one_more_is_refused() {
    let ids = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let wanted: Vec<_> = ids.iter().map(|id| agent(id, ask("work"))).collect();
    let endpoint = Endpoint::new(vec![calls(&wanted)]).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let go_on = Arc::new(Notify::new());
        let pieces = vec![Piece::Wait(go_on.clone()), Piece::Text("done".into())];
        endpoint.then(Script::Stream([pieces, vec![Piece::Finish("stop")]].concat()));
        held.push(go_on);
    }
    endpoint.then(says("all done"));
    let server = serve(&endpoint).await;
    let asking = turn(&server, prompt("", "all"));
    let letting_go = async {
        endpoint.asked(9).await;
        held.iter().for_each(|go_on| go_on.notify_one());
    };
    assert_eq!(tokio::join!(asking, letting_go).0.final_text, "all done");
    let answers: Vec<String> = ids.iter().map(|id| tool_result(&endpoint, 9, id)).collect();
    assert_eq!(&answers[..8], ["done"; 8]);
    assert!(answers[8].contains("8 agents are working for this session"), "{}", answers[8]);
}
