//! Turns of agents, with a model endpoint that says what a test wants.

use callpark_proto::v1::session_event::Payload;

use crate::support::streams::session_now;
use crate::support::{TestServer, soon, v1};

mod agents;
mod busy;
mod chat;
mod copilot;
mod counted;
mod endpoint;
mod faults;
mod pictures;
mod plain;
mod relayed;
mod story;

pub use endpoint::{Endpoint, Piece, Script, calls, says};

/// The models and the tools of the servers here.
pub fn config(endpoint: &Endpoint, more: &str) -> String {
    format!(
        "[[models]]\nname = 'main'\nendpoint = '{}'\nmodel = 'fake-1'\n\
         price = {{ input = 2.0, cached_input = 0.5, output = 10.0 }}\n{more}\n",
        endpoint.url
    )
}

/// A server with this model, whose pauses between attempts are short.
async fn serve(endpoint: &Endpoint) -> TestServer {
    serve_with(endpoint, "").await
}

pub async fn serve_with(endpoint: &Endpoint, more: &str) -> TestServer {
    TestServer::with_config(&config(endpoint, more), &[("model-retry-delay", "20ms")]).await
}

/// A prompt in this session.
pub fn prompt(session_id: &str, text: &str) -> v1::RunTurnRequest {
    v1::RunTurnRequest { session_id: session_id.into(), prompt: text.into(), ..Default::default() }
}

fn stream_of(request: v1::RunTurnRequest) -> v1::StreamTurnRequest {
    v1::StreamTurnRequest {
        session_id: request.session_id,
        prompt: request.prompt,
        attachments: request.attachments,
        model: request.model,
        system_message: request.system_message,
        max_rounds: request.max_rounds,
        request_id: request.request_id,
        busy_policy: request.busy_policy,
        max_attempts: request.max_attempts,
    }
}

/// Runs a turn that must be answered.
pub async fn turn(server: &TestServer, request: v1::RunTurnRequest) -> v1::RunTurnResponse {
    let answer = soon("a turn", server.tools.clone().run_turn(request)).await;
    answer.expect("an answer").into_inner()
}

/// All events that a stream of the turn gives.
async fn streamed(server: &TestServer, request: v1::RunTurnRequest) -> Vec<v1::SessionEvent> {
    let stream = soon("a turn", server.tools.clone().stream_turn(stream_of(request))).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut events = Vec::new();
    while let Some(update) = soon("an event", stream.message()).await.expect("no error") {
        events.extend(update.events);
    }
    events
}

/// The error that a turn ended with.
#[track_caller]
fn error_of(answer: &v1::RunTurnResponse) -> &v1::SessionError {
    answer.error.as_ref().expect("an error")
}

/// Checks lines of what operators see.
async fn check_counts(server: &TestServer, lines: &[&str]) {
    let page = server.http("/metrics").await;
    for line in lines {
        assert!(page.lines().any(|l| l == *line), "no line `{line}` in:\n{page}");
    }
}

/// Events in short: what they are, and what is peculiar about each.
pub fn short(events: &[v1::SessionEvent]) -> Vec<String> {
    events.iter().map(|event| shorten(event.payload.as_ref().expect("a payload"))).collect()
}

fn shorten(payload: &Payload) -> String {
    match payload {
        Payload::TurnStarted(started) => format!("started {} {}", started.model, started.prompt),
        Payload::AssistantDelta(delta) => format!("text {}", delta.text),
        Payload::ReasoningDelta(delta) => format!("thinks {}", delta.text),
        Payload::AssistantMessage(message) => {
            format!("message {:?} {} calls", message.text, message.call_ids.len())
        }
        Payload::TurnRetrying(retrying) => format!("retrying {}", retrying.attempt),
        Payload::ToolCallStarted(started) if started.tool.is_empty() => "turn".into(),
        Payload::ToolCallStarted(started) => format!("call {}", started.tool),
        Payload::ToolOutput(output) => {
            format!("output {}", String::from_utf8_lossy(&output.data).trim())
        }
        Payload::ToolCallParked(_) => "parked".into(),
        Payload::ToolCallFinished(finished) => format!("ended {}", finished.state().as_str_name()),
        Payload::UsageReported(reported) => {
            let usage = reported.usage.unwrap_or_default();
            format!("used {} of {}", usage.requests, reported.model)
        }
        Payload::SessionIdle(idle) => {
            format!("idle {} {:?}", idle.stop_reason().as_str_name(), idle.final_text)
        }
        Payload::SessionError(error) => format!("error {} {}", error.code, error.retryable),
        other => format!("{other:?}"),
    }
}
