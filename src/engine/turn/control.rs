//! What a model looks after its background tasks with: two tools that only turns have.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::calls::result_beside_pictures;
use super::pictures::{self, Room};
use super::play::Turn;
use crate::engine::calls::Asked;
use crate::engine::words::state_name;
use crate::engine::{CancelTask, Engine, Error, OutputRead, OutputStart, Started};
use crate::machine::Start;
use crate::model::limits::{
    CANCEL_WAIT_SECONDS_DEFAULT, READ_OUTPUT_BYTES_DEFAULT, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX,
};
use crate::model::{
    Call, CallId, CallPolicy, Content, ContentKind, FollowUpPolicy, ModelCall, Principal,
    SessionId, Tool, ToolKind, ToolResult, ToolSource,
};
use crate::store::OutputSelection;
use crate::tool::{ArgumentFault, Arguments, InProcess, ToolContext, Work, check_arguments};

/// The tool that waits for tasks, lists and cancels them.
pub(super) const CHECK: &str = "check_background_task";

/// The tool that reads what a task has written.
const READ: &str = "read_background_output";

/// What a model is told of parking.
pub(super) const NOTES: &str = "\
Tool calls that take long are not cancelled: they go on in the background, and you get an id that \
begins with bg-. The result is kept for you. Go on with other work, then call \
check_background_task with the id to wait for it; each call waits up to 540 seconds, and you can \
call it again as often as you need. Wait rather than cancel: a task that is slow is not stuck. Never \
start the same work again while its task runs. read_background_output shows what a task has written \
so far.";

pub(super) fn is_control(tool: &str) -> bool {
    tool == CHECK || tool == READ
}

/// The tools, as a model sees them.
pub(super) fn tools() -> [Tool; 2] {
    let check = json!({
        "type": "object",
        "properties": {
            "action": {
                "type": "string",
                "enum": ["wait", "list", "cancel"],
                "description": "wait (the default): for its end; list: all tasks of this session; \
                                cancel: stop it, if its result is no longer wanted.",
            },
            "background_id": {
                "type": "string",
                "description": "The task: bg- and 32 digits. Not for list.",
            },
            "wait_seconds": {
                "type": "number",
                "minimum": 0,
                "maximum": WAIT_SECONDS_MAX,
                "description": "How long to wait for its end. 60 by default; 0: only look.",
            },
        },
        "additionalProperties": false,
    });
    let read = json!({
        "type": "object",
        "properties": {
            "background_id": {
                "type": "string",
                "description": "The task: bg- and 32 digits.",
            },
            "offset": {
                "type": "integer",
                "minimum": 0,
                "description": "Where to begin, in bytes. Without it: the last 100 lines.",
            },
        },
        "required": ["background_id"],
        "additionalProperties": false,
    });
    [
        tool(
            CHECK,
            "Waits for a background task and gives its result, lists the tasks of this \
                     session, or cancels one.",
            check,
        ),
        tool(READ, "Reads what a background task has written so far.", read),
    ]
}

fn tool(name: &str, description: &str, input_schema: Value) -> Tool {
    Tool {
        name: name.into(),
        description: description.into(),
        input_schema,
        output_schema: None,
        kind: ToolKind::BuiltIn,
        read_only: name == READ,
        destructive: false,
        idempotent: true,
        concurrent_safe: true,
        call_budget: None,
        execution_timeout: Some(LIMIT),
        source: ToolSource::BuiltIn,
    }
}

/// More than the longest wait.
const LIMIT: Duration = Duration::from_secs(WAIT_SECONDS_MAX + 60);

impl Turn {
    pub(super) async fn start_control(
        &self,
        call: &ModelCall,
        arguments: Arguments,
    ) -> Result<Started, Error> {
        let unfit = |faults| Error::Arguments { tool: call.tool.clone(), faults };
        let order = Order::read(&call.tool, &arguments).map_err(unfit)?;
        let play = &self.play;
        let work = Control {
            engine: play.engine.clone(),
            who: play.who.clone(),
            session_id: play.session_id,
            turn: play.call_id,
            order,
        };
        let tool = self.tools.iter().find(|tool| tool.name == call.tool);
        let tool = tool.ok_or_else(|| Error::ToolNotFound(call.tool.clone()))?;
        self.start_own(call, tool, arguments, Work::InProcess(Box::new(work))).await
    }

    /// Starts a call of a tool that only turns have.
    pub(super) async fn start_own(
        &self,
        call: &ModelCall,
        tool: &Tool,
        arguments: Arguments,
        work: Work,
    ) -> Result<Started, Error> {
        let play = &self.play;
        let limit = tool.execution_timeout.unwrap_or(play.engine.shared.options.execution_timeout);
        let policy = CallPolicy {
            call_budget: tool.call_budget,
            execution_timeout: Some(limit),
            follow_up: match is_control(&call.tool) {
                true => FollowUpPolicy::None,
                false => play.session.follow_up,
            },
            ..CallPolicy::default()
        };
        let start = Start {
            arguments_bytes: call.arguments.len() as u64,
            arguments,
            is_control: is_control(&call.tool),
            ..play.start_of(call.call_id, &call.tool, tool.kind, policy)
        };
        let (asked, handle) = (Asked { start, request: None }, play.handle.clone());
        play.engine.accept(&play.who, handle, play.session_id, asked, work, None).await
    }
}

/// What a model wants of its tasks.
enum Order {
    List,
    Wait(CallId, Duration),
    Cancel(CallId),
    Read(CallId, OutputStart),
}

impl Order {
    fn read(tool: &str, arguments: &Arguments) -> Result<Self, Vec<ArgumentFault>> {
        for described in tools().iter().filter(|described| described.name == tool) {
            check_arguments(described, arguments)?;
        }
        let fault =
            |description: String| vec![ArgumentFault { path: "background_id".into(), description }];
        let action = arguments.get("action").and_then(Value::as_str).unwrap_or("wait");
        if tool == CHECK && action == "list" {
            return Ok(Self::List);
        }
        let id = arguments.get("background_id").and_then(Value::as_str).unwrap_or_default();
        let id = CallId::parse_background(id).map_err(|error| fault(error.to_string()))?;
        if tool == READ {
            let offset = arguments.get("offset").and_then(Value::as_u64);
            return Ok(Self::Read(
                id,
                offset.map_or(OutputStart::TailLines(100), OutputStart::Offset),
            ));
        }
        if action == "cancel" {
            return Ok(Self::Cancel(id));
        }
        let seconds = arguments.get("wait_seconds").and_then(Value::as_f64);
        let seconds = seconds.unwrap_or(WAIT_SECONDS_DEFAULT as f64);
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(Self::Wait(id, wait.min(Duration::from_secs(WAIT_SECONDS_MAX))))
    }
}

struct Control {
    engine: Engine,
    who: Principal,
    session_id: SessionId,
    /// The turn's own call, which it neither waits for nor cancels.
    turn: CallId,
    order: Order,
}

#[async_trait]
impl InProcess for Control {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let stop = context.cancellation_token();
        let done = stop.run_until_cancelled(self.carry_out()).await;
        match done {
            Some(Ok(content)) => ToolResult { content, ..ToolResult::default() },
            Some(Err(error)) => ToolResult {
                is_error: true,
                error_message: error.to_string(),
                ..ToolResult::default()
            },
            None => ToolResult { is_error: true, ..ToolResult::default() },
        }
    }
}

impl Control {
    async fn carry_out(&self) -> Result<Vec<Content>, Error> {
        match self.order {
            Order::List => {
                let (session_id, asking) = (self.session_id, Some(self.turn));
                Ok(vec![plain(
                    self.engine.summarize_but(&self.who, session_id, asking).await?.text,
                )])
            }
            Order::Wait(id, wait) => {
                self.own_task(id).await?;
                // What the model hears here it needn't be told again.
                let waited = self.engine.wait(&self.who, id, wait, true).await?;
                self.told(waited.call).await
            }
            Order::Cancel(id) => {
                self.own_task(id).await?;
                let cancel = CancelTask {
                    id,
                    request: None,
                    force: false,
                    reason: "the model asked for it".into(),
                    grace: None,
                    wait: Duration::from_secs(CANCEL_WAIT_SECONDS_DEFAULT),
                    dry_run: false,
                };
                self.engine.cancel(&self.who, cancel).await?;
                let ended = self.engine.wait(&self.who, id, Duration::ZERO, true).await?;
                self.told(ended.call).await
            }
            Order::Read(id, start) => {
                self.own_task(id).await?;
                let read = OutputRead {
                    id,
                    selection: OutputSelection::Combined,
                    start,
                    bytes_max: READ_OUTPUT_BYTES_DEFAULT,
                    wait: Duration::ZERO,
                };
                let slice = self.engine.read_output(&self.who, read).await?;
                let end = if slice.eof { "that is all" } else { "there may be more" };
                Ok(vec![plain(format!(
                    "{}\n[bytes {} to {} of {}; {} dropped; {end}]",
                    String::from_utf8_lossy(&slice.data),
                    slice.offset,
                    slice.next_offset,
                    slice.total_bytes,
                    slice.dropped_bytes,
                ))])
            }
        }
    }

    /// A task of another session is as one that isn't there.
    async fn own_task(&self, id: CallId) -> Result<(), Error> {
        let call = self.engine.task(&self.who, id).await?;
        let is_own = call.session_id == self.session_id && id != self.turn;
        if is_own { Ok(()) } else { Err(Error::TaskNotFound(id.background())) }
    }

    async fn told(&self, call: Call) -> Result<Vec<Content>, Error> {
        let id = call.id.background();
        if call.state.is_terminal() {
            let (call, _) = self.engine.complete(call).await?;
            let seconds = call.elapsed(self.engine.now()).as_secs();
            let state = state_name(call.state);
            let told = result_beside_pictures(&call);
            let mut text = format!("{id}: {state} after {seconds} s\n{told}");
            let pictures = Room::default().take(pictures::of(&call), &mut text);
            let pictures = pictures.into_iter().map(pictures::content);
            return Ok([plain(text)].into_iter().chain(pictures).collect());
        }
        let seconds = call.elapsed(self.engine.now()).as_secs();
        let (tail, _) = self.engine.output_tail(&call).await?;
        let tail = crate::engine::words::content(&tail);
        let state = state_name(call.state);
        let text =
            format!("{id}: still {state} after {seconds} s. The end of its output so far:\n{tail}");
        Ok(vec![plain(text)])
    }
}

fn plain(text: String) -> Content {
    Content { kind: ContentKind::Text(text), stream: None, offset: 0 }
}
