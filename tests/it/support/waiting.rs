//! Calls and tasks by one word, and what their processes can be held and seen by.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use callpark_proto::v1;
use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::Status;

use super::{TestServer, millis, soon, span};

/// An object of JSON as a message.
pub fn json(value: serde_json::Value) -> Option<Struct> {
    match message(value).kind {
        Some(Kind::StructValue(object)) => Some(object),
        other => panic!("no object but {other:?}"),
    }
}

fn message(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().expect("a number")),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(message).collect() })
        }
        Json::Object(members) => Kind::StructValue(Struct {
            fields: members.into_iter().map(|(key, value)| (key, message(value))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// A call of a tool with these arguments.
pub fn call(tool: &str, arguments: serde_json::Value) -> v1::RunToolRequest {
    v1::RunToolRequest { tool: tool.into(), arguments: json(arguments), ..Default::default() }
}

/// The same call for the background, without what only a call in the foreground may have.
pub fn start_of(request: v1::RunToolRequest) -> v1::StartRequest {
    let call = v1::RunToolRequest { call_budget: None, on_disconnect: 0, ..request };
    let work = Some(v1::start_request::Work::ToolCall(call));
    v1::StartRequest { work, ..Default::default() }
}

/// Returns the call that a request starts in the background.
#[track_caller]
pub fn call_of(request: &v1::StartRequest) -> &v1::RunToolRequest {
    match &request.work {
        Some(v1::start_request::Work::ToolCall(call)) => call,
        other => panic!("no call but {other:?}"),
    }
}

/// A turn for the background.
pub fn start_of_turn(request: v1::RunTurnRequest) -> v1::StartRequest {
    let work = Some(v1::start_request::Work::Turn(request));
    v1::StartRequest { work, ..Default::default() }
}

/// Runs a call that must be answered.
pub async fn run(server: &TestServer, request: v1::RunToolRequest) -> v1::RunToolResponse {
    let answer = soon("a call", server.tools.clone().run_tool(request)).await;
    answer.expect("an answer").into_inner()
}

/// Runs a call that must be refused.
pub async fn refusal(server: &TestServer, request: v1::RunToolRequest) -> Status {
    let answer = soon("a call", server.tools.clone().run_tool(request)).await;
    answer.expect_err("a refusal")
}

/// Starts work that must be accepted.
pub async fn start(server: &TestServer, request: v1::StartRequest) -> v1::Task {
    let answer = soon("a start", server.tasks.clone().start(request)).await;
    answer.expect("an answer").into_inner().task.expect("a task")
}

/// Returns the parked call of an answer.
#[track_caller]
pub fn parked_of(answer: &v1::RunToolResponse) -> &v1::ParkedCall {
    match &answer.outcome {
        Some(v1::run_tool_response::Outcome::Parked(parked)) => parked,
        other => panic!("not parked but {other:?}"),
    }
}

/// Runs a call that is parked at once; its background id.
pub async fn park(server: &TestServer, request: v1::RunToolRequest) -> String {
    let request = v1::RunToolRequest { call_budget: millis(0), ..request };
    parked_of(&run(server, request).await).background_id.clone()
}

/// A task as it is now.
pub async fn task(server: &TestServer, id: &str) -> v1::Task {
    let request = v1::GetRequest { background_id: id.into() };
    let answer = soon("a get", server.tasks.clone().get(request)).await;
    answer.expect("an answer").into_inner().task.expect("a task")
}

/// A task once it has ended.
pub async fn ended(server: &TestServer, id: &str) -> v1::Task {
    let wait = span(Duration::from_secs(60));
    let request = v1::WaitRequest { background_id: id.into(), wait, acknowledge: false };
    let answer = soon("a task's end", server.tasks.clone().wait(request)).await;
    let answer = answer.expect("an answer").into_inner();
    assert!(!answer.still_running, "{answer:?}");
    answer.task.expect("a task")
}

/// The result of a task that has one.
#[track_caller]
pub fn outcome_of(task: &v1::Task) -> &v1::ToolResult {
    match &task.outcome {
        Some(v1::task::Outcome::Result(result)) => result,
        other => panic!("no result but {other:?}"),
    }
}

/// Cancels a task and waits for its end.
pub async fn cancel(server: &TestServer, request: v1::CancelRequest) -> v1::CancelResponse {
    let wait = request.wait.or(span(Duration::from_secs(60)));
    let request = v1::CancelRequest { wait, ..request };
    let answer = soon("a cancel", server.tasks.clone().cancel(request)).await;
    answer.expect("an answer").into_inner()
}

/// A request to cancel this task.
pub fn cancel_of(id: &str) -> v1::CancelRequest {
    v1::CancelRequest { background_id: id.into(), ..Default::default() }
}

/// A new session's id.
pub async fn session(server: &TestServer, request: v1::CreateSessionRequest) -> String {
    let answer = soon("a session", server.tools.clone().create_session(request)).await;
    answer.expect("an answer").into_inner().session.expect("a session").session_id
}

/// The log of a session as far as it goes now.
pub async fn log_of(server: &TestServer, session_id: &str) -> Vec<v1::SessionEvent> {
    let request = v1::StreamSessionRequest {
        session_id: session_id.into(),
        follow: Some(false),
        ..Default::default()
    };
    let stream = soon("a stream", server.tools.clone().stream_session(request)).await;
    events_of(stream.expect("a stream").into_inner()).await
}

/// The events of a stream that must end well.
pub async fn events_of(mut stream: tonic::Streaming<v1::SessionUpdate>) -> Vec<v1::SessionEvent> {
    let mut events = Vec::new();
    while let Some(update) = soon("an update", stream.message()).await.expect("no cut") {
        events.extend(update.events);
    }
    events
}

/// The first event of a session, from its beginning on, of which `wanted` gives something.
pub async fn event<T>(
    server: &TestServer,
    session_id: &str,
    wanted: impl Fn(&v1::session_event::Payload) -> Option<T>,
) -> T {
    let request = v1::StreamSessionRequest { session_id: session_id.into(), ..Default::default() };
    let stream = soon("a stream", server.tools.clone().stream_session(request)).await;
    let mut stream = stream.expect("a stream").into_inner();
    loop {
        let update = soon("the event", stream.message()).await.expect("no cut");
        let events = update.expect("the event before the end of the log").events;
        let mut found = events.iter().filter_map(|event| wanted(event.payload.as_ref()?));
        if let Some(found) = found.next() {
            return found;
        }
    }
}

/// The end of the session's first call that ends.
pub async fn first_end(server: &TestServer, session_id: &str) -> v1::ToolCallFinished {
    use v1::session_event::Payload;
    let finished = |payload: &Payload| match payload {
        Payload::ToolCallFinished(finished) => Some((**finished).clone()),
        _ => None,
    };
    event(server, session_id, finished).await
}

/// Waits until the file has this many whole lines, and gives them.
pub async fn lines_of(path: &Path, count: usize) -> Vec<String> {
    let written = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.matches('\n').count() >= count {
                return text.lines().map(str::to_owned).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(&format!("{count} lines in {}", path.display()), written).await
}

/// Returns the content of a file, or nothing if there is none.
pub fn text_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Holds processes until it is opened for each of them. When it is dropped, it holds none.
pub struct Gate {
    path: PathBuf,
    end: File,
}

impl Gate {
    /// A closed gate in this folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let path = folder.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        // Open for both, it waits for no reader, and a reader waits for no writer.
        let end = OpenOptions::new().read(true).write(true).open(&path).expect("its end");
        Self { path, end }
    }

    /// Returns the path of the gate.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command of a shell that waits at it.
    pub fn wait(&self) -> String {
        format!("read -r _ < {}", self.path.display())
    }

    /// Lets one process through.
    pub fn open(&mut self) {
        self.end.write_all(b"\n").expect("written");
    }
}

/// The process exists and has not ended. One without memory runs no code any more, and is about to
/// become a zombie.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_ascii_whitespace());
    let fields: Vec<&str> = fields.into_iter().flatten().collect();
    let has_memory = fields.get(20).is_some_and(|bytes| *bytes != "0");
    has_memory && !matches!(fields[0], "Z" | "X")
}

/// Process ids in lines.
pub fn pids(lines: &[String]) -> Vec<u32> {
    lines.iter().map(|line| line.trim().parse().expect("a process id")).collect()
}

/// A time that is there.
#[track_caller]
pub fn time(time: &Option<prost_types::Timestamp>) -> Duration {
    let time = time.as_ref().expect("a time");
    let (seconds, nanos) = (time.seconds.cast_unsigned(), time.nanos.cast_unsigned());
    Duration::new(seconds, nanos)
}

/// A span that is there.
#[track_caller]
pub fn span_of(span: &Option<prost_types::Duration>) -> Duration {
    Duration::try_from(*span.as_ref().expect("a span")).expect("no negative one")
}

/// A variable of this process.
pub fn variable(name: &str) -> Option<String> {
    callpark::config::Environment::capture().pick([name]).remove(name)
}
