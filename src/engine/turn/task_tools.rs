//! The two tools by which a model manages its background tasks: one waits for a task or cancels it, the other
//! reads its output. Only turns have them. All of their texts are in [`crate::agent::prompts`]: names,
//! descriptions, schemas and results.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::images::{ImageBudget, image_content, images_of};
use super::resume::unless_stopping;
use super::run::TurnSpec;
use super::tool_calls::result_beside_images;
use crate::agent::prompts::{self, CHECK_TASK_TOOL, READ_OUTPUT_TOOL};
use crate::engine::{CancelTask, Engine, Error, OutputRead, OutputStart};
use crate::model::limits::{
    CANCEL_WAIT_SECONDS_DEFAULT, READ_OUTPUT_BYTES_DEFAULT, WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX,
};
use crate::model::{
    Call, CallId, Content, ContentKind, ModelCall, Principal, SessionId, Tool, ToolKind,
    ToolResult, ToolSource,
};
use crate::store::OutputSelection;
use crate::tool::{ArgumentError, Arguments, InProcess, ToolContext, check_arguments};

/// The time limit of a call: more than the longest wait.
const EXECUTION_TIMEOUT: Duration = Duration::from_secs(WAIT_SECONDS_MAX + 60);

/// The number of lines that are read without an offset.
const TAIL_LINES: u32 = 100;

pub(super) fn is_task_tool(tool: &str) -> bool {
    tool == CHECK_TASK_TOOL || tool == READ_OUTPUT_TOOL
}

/// Returns the tools, as a model is offered them.
pub(super) fn tools() -> [Tool; 2] {
    [
        tool(CHECK_TASK_TOOL, prompts::CHECK_TASK_DESCRIPTION, prompts::check_task_schema()),
        tool(READ_OUTPUT_TOOL, prompts::READ_OUTPUT_DESCRIPTION, prompts::read_output_schema()),
    ]
}

fn tool(name: &str, description: &str, input_schema: Value) -> Tool {
    Tool {
        name: name.into(),
        description: description.into(),
        input_schema,
        output_schema: None,
        kind: ToolKind::BuiltIn,
        read_only: name == READ_OUTPUT_TOOL,
        destructive: false,
        idempotent: true,
        concurrent_safe: true,
        call_budget: None,
        execution_timeout: Some(EXECUTION_TIMEOUT),
        source: ToolSource::BuiltIn,
        arguments_unchecked: false,
        secret_arguments: Vec::new(),
        warnings: Vec::new(),
    }
}

/// The parsed arguments of a call of one of the tools.
enum TaskToolCall {
    List,
    /// Waits, with a note if the time was clamped.
    Wait(CallId, Duration, Option<String>),
    Cancel(CallId),
    Read(CallId, OutputStart),
}

impl TaskToolCall {
    fn parse(tool: &str, arguments: &Arguments) -> Result<Self, Vec<ArgumentError>> {
        let mut checked = arguments.clone();
        let clamped = clamp_wait(&mut checked);
        let arguments = &checked;
        for described in tools().iter().filter(|described| described.name == tool) {
            check_arguments(described, arguments)?;
        }
        let action = arguments.get("action").and_then(Value::as_str).unwrap_or("wait");
        if tool == CHECK_TASK_TOOL && action == "list" {
            return Ok(Self::List);
        }
        let id = arguments.get("background_id").and_then(Value::as_str).unwrap_or_default();
        let id = CallId::parse_background(id).map_err(|error| {
            let (path, description) = ("background_id".into(), error.to_string());
            vec![ArgumentError { path, description }]
        })?;
        if tool == READ_OUTPUT_TOOL {
            let offset = arguments.get("offset").and_then(Value::as_u64);
            let tail = OutputStart::TailLines(TAIL_LINES);
            return Ok(Self::Read(id, offset.map_or(tail, OutputStart::Offset)));
        }
        if action == "cancel" {
            return Ok(Self::Cancel(id));
        }
        let seconds = arguments.get("wait_seconds").and_then(Value::as_f64);
        let seconds = seconds.unwrap_or(WAIT_SECONDS_DEFAULT as f64);
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(Self::Wait(id, wait.min(Duration::from_secs(WAIT_SECONDS_MAX)), clamped))
    }
}

/// Sets a wait that is out of bounds to the nearest bound, as the RPC does, and returns a note that
/// says so.
fn clamp_wait(arguments: &mut Arguments) -> Option<String> {
    let seconds = arguments.get_mut("wait_seconds")?;
    let requested = seconds.as_f64()?;
    let allowed = requested.clamp(0.0, WAIT_SECONDS_MAX as f64);
    if allowed == requested {
        return None;
    }
    *seconds = allowed.into();
    Some(prompts::wait_clamped(requested))
}

/// A call of one of the tools, which runs inside the server.
pub(super) struct TaskTool {
    engine: Engine,
    principal: Principal,
    session_id: SessionId,
    /// The turn's own call, which can be neither waited for nor cancelled.
    turn: CallId,
    call: TaskToolCall,
}

impl TaskTool {
    pub(super) fn new(
        spec: &TurnSpec,
        call: &ModelCall,
        arguments: &Arguments,
    ) -> Result<Self, Error> {
        let invalid = |errors| Error::Arguments { tool: call.tool.clone(), errors };
        Ok(Self {
            engine: spec.engine.clone(),
            principal: spec.principal.clone(),
            session_id: spec.session_id,
            turn: spec.call_id,
            call: TaskToolCall::parse(&call.tool, arguments).map_err(invalid)?,
        })
    }

    async fn execute(&self) -> Result<Vec<Content>, Error> {
        match &self.call {
            TaskToolCall::List => {
                let (session_id, turn) = (self.session_id, Some(self.turn));
                let summary = self
                    .engine
                    .calls()
                    .summarize_without(&self.principal, session_id, turn)
                    .await?;
                Ok(vec![text_content(summary.text)])
            }
            TaskToolCall::Wait(id, wait, clamped) => {
                let id = *id;
                self.check_own_task(id).await?;
                // The result is acknowledged: the model needs no follow-up for it.
                let waited = self.engine.calls().wait(&self.principal, id, *wait, true).await?;
                let mut content = self.describe(waited.call).await?;
                content.extend(clamped.clone().map(text_content));
                Ok(content)
            }
            TaskToolCall::Cancel(id) => {
                let id = *id;
                self.check_own_task(id).await?;
                let cancel = CancelTask {
                    id,
                    request: None,
                    force: false,
                    reason: "requested by the model".into(),
                    grace: None,
                    wait: Duration::from_secs(CANCEL_WAIT_SECONDS_DEFAULT),
                    dry_run: false,
                };
                self.engine.calls().cancel(&self.principal, cancel).await?;
                let ended =
                    self.engine.calls().wait(&self.principal, id, Duration::ZERO, true).await?;
                self.describe(ended.call).await
            }
            TaskToolCall::Read(id, start) => self.read(*id, *start).await,
        }
    }

    async fn read(&self, id: CallId, start: OutputStart) -> Result<Vec<Content>, Error> {
        self.check_own_task(id).await?;
        let read = OutputRead {
            id,
            selection: OutputSelection::Combined,
            start,
            bytes_max: READ_OUTPUT_BYTES_DEFAULT,
            wait: Duration::ZERO,
        };
        let slice = self.engine.calls().read_output(&self.principal, read).await?;
        // The next page begins with the character that this one would cut.
        let cut = if slice.eof { 0 } else { incomplete_character(&slice.data) };
        let data = &slice.data[..slice.data.len() - cut];
        Ok(vec![text_content(prompts::output_page(
            &prompts::output_text(data),
            slice.offset..slice.next_offset - cut as u64,
            slice.total_bytes,
            slice.dropped_bytes,
            slice.eof,
        ))])
    }

    /// Fails for a task of another session as for one that doesn't exist.
    async fn check_own_task(&self, id: CallId) -> Result<(), Error> {
        let call = self.engine.calls().get_task(&self.principal, id).await?;
        let is_own = call.session_id == self.session_id && id != self.turn;
        if is_own { Ok(()) } else { Err(Error::TaskNotFound(id.background())) }
    }

    async fn describe(&self, task: Call) -> Result<Vec<Content>, Error> {
        if task.state.is_terminal() {
            let (task, _) = self.engine.calls().with_full_output(task).await?;
            let result = result_beside_images(&task);
            let mut text = prompts::finished_task(&task, self.engine.now(), result);
            let images = ImageBudget::default().select(images_of(&task), &mut text);
            let images = images.into_iter().map(image_content);
            return Ok([text_content(text.render())].into_iter().chain(images).collect());
        }
        let now = self.engine.now();
        let (tail, _) = self.engine.calls().output_tail(&task).await?;
        Ok(vec![text_content(prompts::running_task(&task, now, &prompts::content_text(&tail)))])
    }
}

#[async_trait]
impl InProcess for TaskTool {
    async fn run(self: Box<Self>, context: ToolContext) -> ToolResult {
        let stop = context.cancellation_token();
        let execute = async { unless_stopping(self.execute().await).await };
        match stop.run_until_cancelled(execute).await {
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

/// Returns the length of a character at the end that is not complete. A page that holds nothing else
/// is complete as it is: the process may never write the rest.
fn incomplete_character(data: &[u8]) -> usize {
    let last = data.utf8_chunks().last().map(|chunk| chunk.invalid()).unwrap_or_default();
    let is_incomplete = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    if is_incomplete && last.len() < data.len() { last.len() } else { 0 }
}

fn text_content(text: String) -> Content {
    Content { kind: ContentKind::Text(text), stream: None, offset: 0 }
}
