//! Sessions, tasks and logs in few words.

use std::path::PathBuf;

use callpark_proto::v1::session_event::Payload;
use callpark_proto::v1::session_update::Control;
use futures::future::join_all;
use tonic::{Request, Status, Streaming};

use super::{TestServer, bash, result_of, soon, v1, waiting};

/// A tool whose program doesn't exist: a call of it is the cheapest way to three events.
pub const MISSING_TOOL: &str = r#"
[[tools]]
name = "missing"
argv = ["/nonexistent/program"]
"#;

/// A new session.
pub async fn new_session(server: &TestServer) -> String {
    created(server, v1::CreateSessionRequest::default()).await.session_id
}

/// A session as this request wants it.
pub async fn created(server: &TestServer, request: v1::CreateSessionRequest) -> v1::Session {
    let mut tools = server.tools.clone();
    let answer = soon("a session", tools.create_session(request)).await.expect("created");
    answer.into_inner().session.expect("a session")
}

/// A session as it is now.
pub async fn session_now(server: &TestServer, session_id: &str) -> v1::Session {
    let request = v1::GetSessionRequest { session_id: session_id.into() };
    let answer = soon("a session", server.tools.clone().get_session(request)).await;
    answer.expect("a session").into_inner().session.expect("a session")
}

/// Closes a session.
pub async fn close(server: &TestServer, session_id: &str) -> v1::CloseSessionResponse {
    let request = v1::CloseSessionRequest {
        session_id: session_id.into(),
        reason: "done".into(),
        ..Default::default()
    };
    let answer = soon("a close", server.tools.clone().close_session(request)).await;
    answer.expect("closed").into_inner()
}

/// A request for a bash command in the background.
pub fn start_of(session_id: &str, command: &str) -> v1::StartRequest {
    tool_start(session_id, bash(command))
}

/// A request for a call in the background.
pub fn tool_start(session_id: &str, call: v1::RunToolRequest) -> v1::StartRequest {
    waiting::start_of(v1::RunToolRequest { session_id: session_id.into(), ..call })
}

/// Starts a task.
pub async fn started(server: &TestServer, request: v1::StartRequest) -> v1::Task {
    let answer = soon("a start", server.tasks.clone().start(request)).await.expect("started");
    answer.into_inner().task.expect("a task")
}

/// Starts a bash command in the background.
pub async fn task(server: &TestServer, session_id: &str, command: &str) -> v1::Task {
    started(server, start_of(session_id, command)).await
}

/// Runs a bash command in the foreground.
pub async fn run(server: &TestServer, session_id: &str, command: &str) -> v1::ToolResult {
    let call = v1::RunToolRequest { session_id: session_id.into(), ..bash(command) };
    let answer = soon("a call", server.tools.clone().run_tool(call)).await.expect("an answer");
    result_of(&answer.into_inner()).clone()
}

/// A task as it is now.
pub async fn task_now(server: &TestServer, background_id: &str) -> v1::Task {
    get(server, background_id).await.expect("a task")
}

/// Returns the answer of Get for a task.
pub async fn get(server: &TestServer, background_id: &str) -> Result<v1::Task, Status> {
    let request = v1::GetRequest { background_id: background_id.into() };
    let answer = soon("a task", server.tasks.clone().get(request)).await;
    answer.map(|answer| answer.into_inner().task.expect("a task"))
}

/// A task once it has ended.
pub async fn ended(server: &TestServer, background_id: &str) -> v1::Task {
    let request = v1::WaitRequest { background_id: background_id.into(), ..Default::default() };
    let answer = soon("an end", server.tasks.clone().wait(request)).await.expect("an answer");
    let answer = answer.into_inner();
    assert!(!answer.still_running, "{answer:?}");
    answer.task.expect("a task")
}

/// Makes a session's log longer by three events a call, as quickly as it goes.
pub async fn failing_calls(server: &TestServer, session_id: &str, count: usize) {
    let call = v1::RunToolRequest {
        session_id: session_id.into(),
        tool: "missing".into(),
        ..Default::default()
    };
    let mut left = count;
    while left > 0 {
        let now = left.min(30);
        left -= now;
        let calls = (0..now).map(|_| {
            let (mut tools, call) = (server.tools.clone(), call.clone());
            async move { tools.run_tool(call).await }
        });
        for answer in soon("calls", join_all(calls)).await {
            assert!(result_of(&answer.expect("an answer").into_inner()).is_error);
        }
    }
}

/// A task that ends when its gate opens.
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// A closed gate; its name is good for one use.
    pub fn new(server: &TestServer, name: &str) -> Self {
        Self { path: server.folder().join(format!("gate-{name}")) }
    }

    /// A command that waits for the gate.
    pub fn command(&self) -> String {
        format!("while [ ! -e '{}' ]; do sleep 0.05; done", self.path.display())
    }

    /// Lets the command end.
    pub fn open(&self) {
        std::fs::write(&self.path, "").expect("a gate");
    }
}

/// A request for a whole log, and then for what comes.
pub fn stream_of(session_id: &str) -> v1::StreamSessionRequest {
    v1::StreamSessionRequest { session_id: session_id.into(), ..Default::default() }
}

/// A request for what there is of a log.
pub fn replay_of(session_id: &str) -> v1::StreamSessionRequest {
    v1::StreamSessionRequest { follow: Some(false), ..stream_of(session_id) }
}

/// All events of a session that there are.
pub async fn log_of(server: &TestServer, session_id: &str) -> Vec<v1::SessionEvent> {
    let (events, end) = Reader::open(server, replay_of(session_id)).await.rest().await;
    assert!(end.is_none(), "{end:?}");
    events
}

/// The sequences of events.
pub fn sequences(events: &[v1::SessionEvent]) -> Vec<i64> {
    events.iter().map(|event| event.sequence).collect()
}

/// Returns whether an event is the end of a call.
pub fn is_end(event: &v1::SessionEvent) -> bool {
    matches!(event.payload, Some(Payload::ToolCallFinished(_)))
}

/// The error that a session's stream ends with.
pub async fn stream_error(server: &TestServer, request: v1::StreamSessionRequest) -> Status {
    match soon("a stream", server.tools.clone().stream_session(request)).await {
        Err(status) => status,
        Ok(stream) => {
            let (_, end) = Reader { stream: stream.into_inner() }.rest().await;
            end.expect("an error")
        }
    }
}

/// An open stream of a session.
pub struct Reader {
    stream: Streaming<v1::SessionUpdate>,
}

impl Reader {
    /// Opens one.
    pub async fn open(server: &TestServer, request: v1::StreamSessionRequest) -> Self {
        Self::send(server, Request::new(request)).await
    }

    /// Opens one with a request that has more than a message.
    pub async fn send(server: &TestServer, request: Request<v1::StreamSessionRequest>) -> Self {
        let stream = soon("a stream", server.tools.clone().stream_session(request)).await;
        Self { stream: stream.expect("a stream").into_inner() }
    }

    /// The next message; none at the end.
    pub async fn next(&mut self) -> Result<Option<v1::SessionUpdate>, Status> {
        soon("an update", self.stream.message()).await
    }

    /// The next message, which there must be.
    pub async fn update(&mut self) -> v1::SessionUpdate {
        self.next().await.expect("no error").expect("an update")
    }

    /// The snapshot, which must be the first message.
    pub async fn snapshot(&mut self) -> v1::Snapshot {
        match self.update().await {
            v1::SessionUpdate { events, control: Some(Control::Snapshot(snapshot)) }
                if events.is_empty() =>
            {
                snapshot
            }
            other => panic!("not a snapshot first: {other:?}"),
        }
    }

    /// The events up to a control message that is wanted, and that message.
    pub async fn until_control<T>(
        &mut self,
        wanted: impl Fn(&Control) -> Option<T>,
    ) -> (Vec<v1::SessionEvent>, T) {
        let mut events = Vec::new();
        loop {
            let update = self.update().await;
            events.extend(update.events);
            if let Some(found) = update.control.as_ref().and_then(&wanted) {
                return (events, found);
            }
        }
    }

    /// The events up to `caught_up`, and the head that it names.
    pub async fn until_caught_up(&mut self) -> (Vec<v1::SessionEvent>, i64) {
        let head = |control: &Control| match control {
            Control::CaughtUp(caught_up) => Some(caught_up.head_sequence),
            _ => None,
        };
        self.until_control(head).await
    }

    /// The events up to and including one that is wanted, or the rest of its message.
    pub async fn until_event(
        &mut self,
        wanted: impl Fn(&v1::SessionEvent) -> bool,
    ) -> Vec<v1::SessionEvent> {
        let mut events = Vec::new();
        loop {
            let update = self.update().await;
            let found = update.events.iter().any(&wanted);
            events.extend(update.events);
            if found {
                return events;
            }
        }
    }

    /// All events to the end, and the error that it ended with.
    pub async fn rest(mut self) -> (Vec<v1::SessionEvent>, Option<Status>) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(update)) => events.extend(update.events),
                Ok(None) => return (events, None),
                Err(status) => return (events, Some(status)),
            }
        }
    }
}
