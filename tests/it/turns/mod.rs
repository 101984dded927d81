//! Turns of agents, with a model endpoint that says what a test wants.

use callpark_proto::v1::session_event::Payload;

use crate::support::streams::session_now;
use crate::support::{TestServer, soon, v1};

mod agents;
mod answers;
mod busy;
mod chat;
mod contexts;
mod copilot;
mod counted;
mod dialects;
mod endpoint;
mod faults;
mod gateways;
mod histories;
mod messages;
mod parks;
mod pictures;
mod plain;
mod provider_data;
mod providers;
mod relayed;
mod results;
mod resumption;
mod silence;
mod story;
mod strict;

pub use endpoint::{Endpoint, Piece, Script, calls, held, says};

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

/// Runs a turn that must be answered.
pub async fn turn(server: &TestServer, request: v1::RunTurnRequest) -> FinishedTurn {
    let answer = soon("a turn", server.tools.clone().run_turn(request)).await;
    FinishedTurn::of(answer.expect("an answer").into_inner())
}

/// The answer of a turn that finished, which has the fields of its result too.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedTurn {
    pub session_id: String,
    pub turn_id: String,
    pub call_id: String,
    pub replayed: bool,
    pub result: v1::TurnResult,
}

impl FinishedTurn {
    /// Panics if the turn was parked or only checked.
    #[track_caller]
    pub fn of(answer: v1::RunTurnResponse) -> Self {
        let v1::RunTurnResponse { session_id, turn_id, call_id, outcome, replayed, .. } = answer;
        let Some(v1::run_turn_response::Outcome::Result(result)) = outcome else {
            panic!("not finished but {outcome:?}")
        };
        Self { session_id, turn_id, call_id, replayed, result }
    }
}

impl std::ops::Deref for FinishedTurn {
    type Target = v1::TurnResult;

    fn deref(&self) -> &Self::Target {
        &self.result
    }
}

/// All events that a stream of the turn gives.
async fn streamed(server: &TestServer, request: v1::RunTurnRequest) -> Vec<v1::SessionEvent> {
    let stream = soon("a turn", server.tools.clone().stream_turn(request)).await;
    let mut stream = stream.expect("a stream").into_inner();
    let mut events = Vec::new();
    while let Some(update) = soon("an event", stream.message()).await.expect("no error") {
        events.extend(update.events);
    }
    events
}

/// The error that a turn ended with.
#[track_caller]
fn error_of(answer: &FinishedTurn) -> &v1::SessionError {
    answer.error.as_ref().expect("an error")
}

/// Checks lines of what operators see.
async fn check_counts(server: &TestServer, lines: &[&str]) {
    let page = server.http("/metrics").await;
    for line in lines {
        assert!(page.lines().any(|l| l == *line), "no line `{line}` in:\n{page}");
    }
}

/// Describes each event in a few words. Starts of calls are left out, since each follows its
/// acceptance.
pub fn short(events: &[v1::SessionEvent]) -> Vec<String> {
    let payloads = events.iter().map(|event| event.payload.as_ref().expect("a payload"));
    payloads
        .filter(|payload| !matches!(payload, Payload::ToolCallStarted(_)))
        .map(shorten)
        .collect()
}

fn shorten(payload: &Payload) -> String {
    match payload {
        Payload::TurnStarted(started) => format!("started {} {}", started.model, started.prompt),
        Payload::AssistantDelta(delta) => format!("text {}", delta.text),
        Payload::ReasoningDelta(delta) => format!("thinks {}", delta.text),
        Payload::AssistantMessage(message) => {
            format!("message {:?} {} calls", message.text, message.call_ids.len())
        }
        Payload::HistoryCompacted(_) => "compacted".into(),
        Payload::TurnResumed(resumed) => {
            format!("resumed {} attempt {}", resumed.resumption, resumed.attempt)
        }
        Payload::TurnRetrying(retrying) => format!("retrying {}", retrying.attempt),
        Payload::ToolCallAccepted(accepted) if accepted.tool.is_empty() => "turn".into(),
        Payload::ToolCallAccepted(accepted) => format!("call {}", accepted.tool),
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
