//! Turns of agents that run their own loop, with an agent that a test scripts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use callpark::agent::{
    Agent, AgentEvent, AgentRequest, AgentStream, CallAnswer, ModelError, ModelErrorCode, OwnCall,
    OwnCallEvent, RequestedCall,
};
use callpark::model::{Message, Origin, SessionId, StopReason, ToolResult, Usage};
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::support::Additions;
use crate::support::streams::{Reader, close, ended, log_of, new_session, session_now, task_now};

type Said = Result<AgentEvent, ModelError>;

/// An agent whose turns are scripts: each the events of one attempt, as they come.
#[derive(Default)]
struct Scripted {
    turns: Mutex<VecDeque<mpsc::Receiver<Said>>>,
    requests: Mutex<Vec<AgentRequest>>,
    forgotten: Mutex<Vec<SessionId>>,
}

impl Scripted {
    /// The next attempt: what is sent is what the agent says.
    fn next(&self) -> mpsc::Sender<Said> {
        let (say, said) = mpsc::channel(16);
        self.turns.lock().expect("a lock").push_back(said);
        say
    }

    /// An attempt that says all this.
    async fn says(&self, events: Vec<Said>) {
        let say = self.next();
        for event in events {
            say.send(event).await.expect("room");
        }
    }

    fn request(&self, index: usize) -> AgentRequest {
        self.requests.lock().expect("a lock")[index].clone()
    }
}

#[async_trait]
impl Agent for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn turn(&self, request: AgentRequest) -> AgentStream {
        self.requests.lock().expect("a lock").push(request);
        let said = self.turns.lock().expect("a lock").pop_front().expect("a script");
        tokio_stream::wrappers::ReceiverStream::new(said).boxed()
    }

    async fn forget(&self, session_id: SessionId) {
        self.forgotten.lock().expect("a lock").push(session_id);
    }

    async fn close(&self) {}
}

async fn serve_agent(settings: &[(&str, &str)]) -> (TestServer, Arc<Scripted>) {
    let agent = Arc::new(Scripted::default());
    let more = Additions {
        agents: vec![agent.clone()],
        tools: vec![crate::in_process::count()],
        ..Additions::default()
    };
    let settings = [&[("model-retry-delay", "20ms")], settings].concat();
    (TestServer::with_more(more, &settings).await, agent)
}

fn text(text: &str) -> Said {
    Ok(AgentEvent::Text(text.into()))
}

fn done() -> Said {
    Ok(AgentEvent::Finished(StopReason::EndTurn))
}

fn dies() -> Said {
    Err(ModelError { code: ModelErrorCode::Connection, message: "the agent died".into() })
}

/// A call of a tool of the agent's own, and where to say what comes of it.
fn own_call() -> (Said, mpsc::Sender<OwnCallEvent>) {
    let (say, events) = mpsc::channel(4);
    let arguments = json!({ "command": "make" }).as_object().expect("an object").clone();
    let (tool, description) = ("scripted__execute".to_owned(), "builds it".to_owned());
    (Ok(AgentEvent::OwnCall(OwnCall { tool, description, arguments, events })), say)
}

/// A call of bash, and its answer.
fn bash(command: &str) -> (Said, oneshot::Receiver<CallAnswer>) {
    ours("bash", json!({ "command": command }))
}

/// A call of a tool of callpark's, and its answer.
fn ours(tool: &str, arguments: serde_json::Value) -> (Said, oneshot::Receiver<CallAnswer>) {
    let (answer, answered) = oneshot::channel();
    let arguments = arguments.to_string();
    let wanted =
        RequestedCall { id: "1".into(), tool: tool.into(), arguments, provider_data: None };
    (Ok(AgentEvent::Call(wanted, answer)), answered)
}

#[tokio::test]
async fn the_events_of_an_agent_are_emitted_and_its_last_message_is_kept() {
    let (server, agent) = serve_agent(&[]).await;
    let session = new_session(&server).await;
    let (call, events) = own_call();
    events.send(OwnCallEvent::Output("one\n".into())).await.expect("room");
    events.send(OwnCallEvent::Output("two\n".into())).await.expect("room");
    events.send(OwnCallEvent::Ended(Box::default())).await.expect("room");
    let usage = Usage { input_tokens: 7, output_tokens: 3, requests: 2, ..Usage::default() };
    let events = vec![text("Let me "), call, text("see."), Ok(AgentEvent::Used(usage)), done()];
    agent.says(events).await;
    let events = short(&streamed(&server, prompt(&session, "build")).await);
    let has = |wanted: &str| events.iter().filter(|event| *event == wanted).count();
    for wanted in [
        "started scripted build",
        "text Let me ",
        "call scripted__execute",
        "text see.",
        "used 2 of scripted",
        "message \"Let me see.\" 0 calls",
        "ended STATE_SUCCEEDED",
        "idle STOP_REASON_END_TURN \"Let me see.\"",
    ] {
        assert_eq!(has(wanted), 1, "{wanted} in {events:?}");
    }
    let output: Vec<&str> =
        events.iter().filter_map(|event| event.strip_prefix("output ")).collect();
    assert_eq!(output.concat().replace('\n', ""), "onetwo");

    agent.says(vec![text("yes"), done()]).await;
    assert_eq!(turn(&server, prompt(&session, "again")).await.final_text, "yes");
    let request = agent.request(1);
    assert_eq!((request.messages_before, request.messages.len()), (2, 2));
    let said = Message::Assistant {
        text: "Let me see.".into(),
        calls: Vec::new(),
        provider_data: None,
        note: None,
        origin: Origin::Model,
    };
    assert_eq!(*request.messages[1], said);
    let usage = session_now(&server, &session).await.usage.expect("usage");
    assert_eq!((usage.requests, usage.input_tokens), (2, 7));
    crate::history::check_everything(&server.connect(), 0).await;
    close(&server, &session).await;
    let is_forgotten = || !agent.forgotten.lock().expect("a lock").is_empty();
    soon("the notice to the agent that its session is over", async {
        while !is_forgotten() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn remarks_about_an_agent_and_late_details_of_its_calls_are_progress() {
    let (server, agent) = serve_agent(&[]).await;
    let session = new_session(&server).await;
    let (call, events) = own_call();
    events.send(OwnCallEvent::Details("make all".into())).await.expect("room");
    events.send(OwnCallEvent::Ended(Box::default())).await.expect("room");
    let notice = Ok(AgentEvent::Notice("it asks for no tools".into()));
    agent.says(vec![call, notice, text("done"), done()]).await;
    let turn = turn(&server, prompt(&session, "build")).await;
    assert_eq!(turn.final_text, "done");
    let log = log_of(&server, &session).await;
    let report_of = |message: &str| {
        let is_it = |event: &&v1::SessionEvent| match &event.payload {
            Some(Payload::ToolProgress(report)) => {
                report.progress.as_ref().is_some_and(|progress| progress.message == message)
            }
            _ => false,
        };
        log.iter().find(is_it).unwrap_or_else(|| panic!("no `{message}` in {log:?}"))
    };
    let accepted = |tool: &str| {
        let is_it = |event: &&v1::SessionEvent| match &event.payload {
            Some(Payload::ToolCallAccepted(call)) => call.tool == tool,
            _ => false,
        };
        log.iter().find(is_it).expect("an accepted call").call_id.clone()
    };
    assert_eq!(report_of("make all").call_id, accepted("scripted__execute"));
    assert_eq!(report_of("it asks for no tools").call_id, accepted(""), "of the turn itself");
    close(&server, &session).await;
}

#[tokio::test]
async fn an_agents_call_of_a_tool_runs_and_a_slow_one_parks() {
    let (server, agent) = serve_agent(&[("call-budget", "200ms")]).await;
    let session = new_session(&server).await;
    let (say, (quick, answered), (slow, parked)) = (agent.next(), bash("echo hi"), bash("sleep 9"));
    let playing = turn(&server, prompt(&session, "go"));
    let saying = async {
        say.send(quick).await.expect("room");
        let answer = soon("an answer", answered).await.expect("an answer");
        assert_eq!(answer, CallAnswer { text: "hi\n".into(), images: vec![], failed: false });
        say.send(slow).await.expect("room");
        let answer = soon("an answer", parked).await.expect("an answer");
        let shown: serde_json::Value = serde_json::from_str(&answer.text).expect("JSON");
        assert_eq!((&shown["type"], answer.failed), (&json!("background"), false));
        say.send(text("I went on")).await.expect("room");
        say.send(done()).await.expect("room");
        shown["background_id"].as_str().expect("an id").to_owned()
    };
    let (answer, id) = tokio::join!(playing, saying);
    assert_eq!(answer.final_text, "I went on");
    assert_eq!(answer.running_background_ids, std::slice::from_ref(&id));
    assert_eq!(task_now(&server, &id).await.state(), v1::State::Running);
    let names: Vec<String> = agent.request(0).tools.iter().map(|tool| tool.name.clone()).collect();
    assert!(names.contains(&"check_background_task".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_crashed_agent_is_asked_again_unless_it_had_called_tools() {
    let (server, agent) = serve_agent(&[("admin-listen", "127.0.0.1:0")]).await;
    let session = new_session(&server).await;
    agent.says(vec![text("Let"), dies()]).await;
    agent.says(vec![text("Let us"), done()]).await;
    let events = short(&streamed(&server, prompt(&session, "go")).await);
    assert!(events.contains(&"retrying 2".to_owned()), "{events:?}");
    assert_eq!(events.last().expect("an end"), "idle STOP_REASON_END_TURN \"Let us\"");

    let (call, events) = own_call();
    drop(events);
    agent.says(vec![call, dies()]).await;
    let answer = turn(&server, prompt(&session, "go")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("model_connection", true));
    // A call whose end the agent never reported has failed, and says so.
    let log = log_of(&server, &session).await;
    let failed = log.iter().find_map(|event| match &event.payload {
        Some(Payload::ToolCallFinished(end)) if end.state() == v1::State::Failed => Some(end),
        _ => None,
    });
    let outcome = format!("{:?}", failed.expect("a failed call").outcome);
    assert!(outcome.contains("its end was never reported"), "{outcome}");
    check_counts(
        &server,
        &[
            r#"callpark_model_requests_total{model="scripted",outcome="ok"} 1"#,
            r#"callpark_model_requests_total{model="scripted",outcome="model_connection"} 2"#,
        ],
    )
    .await;
}

#[tokio::test]
async fn stopping_the_turn_abandons_the_agent_and_parks_its_calls() {
    let (server, agent) = serve_agent(&[]).await;
    let session = new_session(&server).await;
    let (say, (own, _events), (slow, _answered)) = (agent.next(), own_call(), bash("sleep 1000"));
    say.send(own).await.expect("room");
    say.send(slow).await.expect("room");
    let playing = turn(&server, prompt(&session, "go"));
    let stopping = async {
        let mut stream = Reader::open(&server, crate::support::streams::stream_of(&session)).await;
        let is_bash = |event: &v1::SessionEvent| match &event.payload {
            Some(Payload::ToolCallStarted(started)) => started.tool == "bash",
            _ => false,
        };
        stream.until_event(is_bash).await;
        let request = v1::CancelTurnRequest { session_id: session.clone(), ..Default::default() };
        let answer = soon("a cancel", server.tools.clone().cancel_turn(request)).await;
        answer.expect("an answer").into_inner()
    };
    let (answer, stopped) = tokio::join!(playing, stopping);
    assert_eq!(answer.stop_reason(), v1::StopReason::Cancelled);
    // The agent is notified by the end of its stream.
    soon("the stream to be given up", say.closed()).await;
    let [id] = stopped.running_background_ids.as_slice() else { panic!("{stopped:?}") };
    let task = task_now(&server, id).await;
    assert_eq!((task.state(), task.tool.as_str()), (v1::State::Running, "bash"));
    let own = || async {
        let log = short(&log_of(&server, &session).await);
        log.contains(&"ended STATE_CANCELLED".to_owned())
    };
    soon("the agent's own call to end", async {
        while !own().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let cancel = v1::CancelRequest { background_id: id.clone(), ..Default::default() };
    soon("a cancel", server.tasks.clone().cancel(cancel)).await.expect("an answer");
    ended(&server, id).await;
    crate::history::check_everything(&server.connect(), 0).await;
}

#[tokio::test]
async fn endless_or_deeply_nested_messages_of_an_agent_are_bounded() {
    let (server, agent) = serve_agent(&[]).await;
    let session = new_session(&server).await;
    let megabyte = "x".repeat(1 << 20);
    agent.says((0..5).map(|_| text(&megabyte)).collect()).await;
    let answer = turn(&server, prompt(&session, "go")).await;
    let error = error_of(&answer);
    assert_eq!((error.code.as_str(), error.retryable), ("model_answer_too_large", false));

    let (say, events) = mpsc::channel(1);
    let mut arguments = json!({});
    for _ in 0..100 {
        arguments = json!({ "a": arguments });
    }
    let arguments = arguments.as_object().expect("an object").clone();
    let (tool, description) = ("scripted__execute".to_owned(), "long ".repeat(10_000));
    let own = OwnCall { tool, description, arguments, events };
    let result = ToolResult { error_message: megabyte, is_error: true, ..ToolResult::default() };
    say.send(OwnCallEvent::Ended(Box::new(result))).await.expect("room");
    agent.says(vec![Ok(AgentEvent::OwnCall(own)), done()]).await;
    turn(&server, prompt(&session, "go")).await;
    // It can be read, and is as short as a caller's.
    let log = log_of(&server, &session).await;
    let accepted = log.iter().find_map(|event| match &event.payload {
        Some(Payload::ToolCallAccepted(accepted)) if !accepted.tool.is_empty() => Some(accepted),
        _ => None,
    });
    let accepted = accepted.expect("an acceptance");
    assert!(accepted.description.len() < 5_000, "{}", accepted.description.len());
    let arguments = accepted.arguments.as_ref().expect("arguments");
    assert!(arguments.fields.contains_key("json"), "{arguments:?}");
    let shown = format!(
        "{:?}",
        log.iter().rev().find_map(|event| match &event.payload {
            Some(Payload::ToolCallFinished(end)) if end.state() == v1::State::Failed => {
                end.outcome.clone()
            }
            _ => None,
        })
    );
    assert!(shown.contains("xxx") && shown.len() < 10_000, "{}", shown.len());
}

#[tokio::test]
async fn an_agent_gets_the_pictures_of_a_result() {
    let (server, agent) = serve_agent(&[]).await;
    let session = new_session(&server).await;
    let say = agent.next();
    let (call, answered) = ours("count", json!({ "then": "draw" }));
    say.send(call).await.expect("room");
    let playing = turn(&server, prompt(&session, "look"));
    let answering = async {
        let answer = soon("an answer", answered).await.expect("an answer");
        say.send(done()).await.expect("room");
        answer
    };
    let (_, answer) = tokio::join!(playing, answering);
    let [picture] = &answer.images[..] else { panic!("{answer:?}") };
    assert_eq!(picture.media_type, "image/png");
    assert_eq!(answer.text, "[8 bytes of image/png]");
}
