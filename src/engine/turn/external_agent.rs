//! A turn of an external agent. Everything that the agent reports becomes events, and its calls of
//! callpark's tools run as those of a model do.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::budget;
use super::images::ImageBudget;
use super::round::{DeltaBuffer, DeltaKind, model_turn_error};
use super::run::{TurnRun, TurnStart, turn_error};
use super::tool_calls::{ModelVisibleResult, ToolCalls, with_call_id};
use crate::agent::prompts::{self, truncate_middle};
use crate::agent::{
    Agent, AgentEvent, AgentRequest, CallAnswer, CallReply, ModelError, ModelErrorCode, OwnCall,
    OwnCallEvent, RequestedCall,
};
use crate::engine::call::{CallHold, StartRequest};
use crate::engine::run::json_depth::are_too_deep;
use crate::engine::sleep_until;
use crate::engine::{CallHandle, Error, Started};
use crate::machine::Start;
use crate::model::limits::{
    MODEL_ANSWER_BYTES_MAX, OUTPUT_BYTES_MAX, TEXT_BYTES_MAX, TURN_IDLE_SECONDS,
};
use crate::model::{
    CallId, CallPolicy, OnDisconnect, Progress, StopReason, ToolKind, TurnError, TurnReport,
};
use crate::redact::{HIDDEN, redacted};
use crate::tool::{Work, WorkEvent, calls_without_secrets};

/// Work that runs beside the reading of an agent's events: the answers to its calls, and the calls of
/// its own tools.
type ConcurrentWork<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>;

/// The reason for which an attempt failed.
enum AttemptError {
    Agent {
        error: ModelError,
        /// `true` if the agent has called tools: the same prompt would call them again.
        has_called: bool,
    },
    Turn(TurnError),
}

impl From<TurnError> for AttemptError {
    fn from(error: TurnError) -> Self {
        Self::Turn(error)
    }
}

/// Runs a turn of the agent. An attempt that fails is repeated only if the agent has not called any
/// tool.
pub(super) async fn run(
    run: &mut TurnRun,
    agent: &dyn Agent,
    start: TurnStart,
) -> Result<StopReason, TurnError> {
    if budget::is_used_up(run).await? {
        return Ok(StopReason::BudgetUsedUp);
    }
    let request = agent_request(run, start);
    let metrics = run.spec.engine.shared.metrics.clone();
    let mut failures = 0;
    loop {
        let attempt = Attempt { run, agent };
        let (error, has_called) = match attempt.run(request.clone()).await {
            Ok((stop, text)) => {
                metrics.model_request(agent.name(), Ok(()));
                let report = TurnReport::Message {
                    text: text.clone(),
                    calls: Vec::new(),
                    incomplete_call_ids: Vec::new(),
                    provider_data: None,
                    stop: Some(stop),
                };
                run.record(report).await?;
                run.final_text = text;
                return Ok(stop);
            }
            Err(AttemptError::Agent { error, has_called }) => (error, has_called),
            Err(AttemptError::Turn(error)) => return Err(error),
        };
        metrics.model_request(agent.name(), Err(error.code.name()));
        failures += 1;
        if has_called || !error.code.is_transient() || failures >= run.spec.attempts_max {
            return Err(model_turn_error(&error));
        }
        run.pause_before_retry(failures, model_turn_error(&error)).await?;
    }
}

fn agent_request(run: &TurnRun, start: TurnStart) -> AgentRequest {
    let spec = &run.spec;
    let own = Some(&spec.session.working_directory).filter(|path| !path.is_empty());
    let options = &spec.engine.shared.options;
    AgentRequest {
        session_id: spec.session_id,
        system: spec.system.clone(),
        tool_instructions: prompts::background_task_instructions(),
        messages: start.messages,
        messages_before: start.messages_before,
        messages_after: start.messages_before + if spec.delivers { 1 } else { 2 },
        prompt: start.prompt,
        attachments: start.attachments,
        tools: run.tools.clone(),
        working_directory: own.map(PathBuf::from).or(options.working_directory.clone()),
        allowed_tools: spec.session.allowed_tools.clone(),
    }
}

/// One attempt at a turn.
struct Attempt<'a> {
    run: &'a TurnRun,
    agent: &'a dyn Agent,
}

impl Attempt<'_> {
    /// Returns the reason for which the agent stopped, and its whole answer.
    async fn run(&self, request: AgentRequest) -> Result<(StopReason, String), AttemptError> {
        let (run, agent) = (self.run, self.agent);
        let mut stream = agent.turn(request);
        let (mut deltas, mut text) = (DeltaBuffer::new(run), String::new());
        let mut has_called = false;
        let mut work: ConcurrentWork<'_> = FuturesUnordered::new();
        let pause = Duration::from_secs(TURN_IDLE_SECONDS / 4);
        let mut last_keep_alive = Instant::now();
        let ended = loop {
            let keep_alive_at = (!work.is_empty()).then(|| last_keep_alive + pause);
            let event = tokio::select! {
                biased;
                Some(()) = work.next() => continue,
                event = stream.next() => event,
                () = sleep_until(deltas.due_time()) => {
                    deltas.flush().await?;
                    continue;
                }
                // The calls have limits of their own: while they are running, the turn isn't idle.
                () = sleep_until(keep_alive_at) => {
                    run.keep_alive().await;
                    last_keep_alive = Instant::now();
                    continue;
                }
            };
            match event {
                Some(Ok(AgentEvent::Text(more))) => {
                    if text.len() + more.len() > MODEL_ANSWER_BYTES_MAX {
                        break Err(self.too_large());
                    }
                    text.push_str(&more);
                    deltas.push(DeltaKind::Text, &more).await?;
                }
                Some(Ok(AgentEvent::Reasoning(more))) => {
                    deltas.push(DeltaKind::Reasoning, &more).await?;
                }
                Some(Ok(AgentEvent::Used(usage))) => run.record_usage(usage, agent.name()).await?,
                Some(Ok(AgentEvent::Call(call, reply))) => {
                    has_called = true;
                    deltas.flush().await?;
                    work.push(self.answer_call(call, reply).boxed());
                }
                Some(Ok(AgentEvent::OwnCall(own))) => {
                    has_called = true;
                    deltas.flush().await?;
                    let arguments = Value::Object(own.arguments.clone()).to_string();
                    let handle = self.start_own_call(own).await?;
                    work.push(self.note_own_call(handle, arguments).boxed());
                }
                Some(Ok(AgentEvent::Notice(message))) => run.note_progress(message).await,
                Some(Ok(AgentEvent::Finished(stop))) => break Ok(stop),
                Some(Err(error)) => break Err(error),
                None => break Err(self.truncated()),
            }
        };
        deltas.flush().await?;
        drop(stream);
        // The agent has ended, so this work only has to finish.
        while work.next().await.is_some() {}
        match ended {
            Ok(stop) => Ok((stop, text)),
            Err(error) => Err(AttemptError::Agent { error, has_called }),
        }
    }

    /// Runs a call of one of callpark's tools. If the agent stops waiting for the answer, the call is
    /// parked.
    async fn answer_call(&self, call: RequestedCall, mut reply: CallReply) {
        let call = with_call_id(call);
        let calls = ToolCalls::new(self.run);
        let result = async {
            match calls.start(&call).await {
                Ok(handle) => calls.result(handle).await,
                Err(error) => error,
            }
        };
        let result = tokio::select! {
            result = result => result,
            () = reply.closed() => return,
        };
        let kept = calls_without_secrets(&self.run.tools, std::slice::from_ref(&call));
        let arguments = kept.first().map_or(HIDDEN, |kept| &*kept.arguments);
        self.run.notes.add(0, &call.tool, arguments, &result.text.for_people(), result.exit_code);
        let result = result.truncated(&mut ImageBudget::default());
        let ModelVisibleResult { text, images, failed, .. } = result;
        // If the agent has stopped waiting, the result is still in the log.
        let _ = reply.send(CallAnswer { text: text.render(), images, failed });
    }

    /// Waits until a call of the agent's own tool has ended, and notes it.
    async fn note_own_call(&self, mut handle: CallHandle, arguments: String) {
        match handle.wait_settled(|| None).await {
            Ok(call) => {
                let result = ModelVisibleResult::of(&call);
                let notes = &self.run.notes;
                notes.add(0, &call.tool, &arguments, &result.text.for_people(), result.exit_code);
            }
            Err(error) => {
                let call_id = handle.call_id;
                tracing::debug!(%call_id, %error, "a call of an agent was not followed to its end");
            }
        }
    }

    /// Starts a call that shows what the agent does with one of its own tools.
    async fn start_own_call(&self, own: OwnCall) -> Result<CallHandle, TurnError> {
        let OwnCall { tool, description, mut arguments, events } = own;
        if are_too_deep(&arguments) {
            let text = Value::Object(arguments).to_string();
            arguments = Map::from_iter([("json".to_owned(), text.into())]);
        }
        let spec = &self.run.spec;
        let policy = CallPolicy {
            execution_timeout: Some(spec.engine.shared.options.execution_timeout),
            // The end of the call is reported by the turn only.
            on_disconnect: OnDisconnect::Cancel,
            max_output_bytes: OUTPUT_BYTES_MAX,
            ..CallPolicy::default()
        };
        let start = Start {
            description: truncate_middle(&redacted(&description), TEXT_BYTES_MAX),
            arguments_bytes: size_bytes(&arguments),
            arguments,
            // The call is already running, so the session's task limit can't refuse it.
            is_control: true,
            ..spec.call_start(CallId::random(), &tool, ToolKind::Agent, policy)
        };
        let events =
            futures::stream::unfold((events, 0.0), |(mut events, mut details)| async move {
                let event = match events.recv().await? {
                    OwnCallEvent::Details(message) => {
                        // They have no numbers, so they are counted.
                        details += 1.0;
                        WorkEvent::Progress(Progress { done: details, total: None, message })
                    }
                    OwnCallEvent::Output(data) => WorkEvent::Output(data),
                    OwnCallEvent::Ended(mut result) => {
                        result.error_message =
                            truncate_middle(&result.error_message, TEXT_BYTES_MAX);
                        WorkEvent::Ended(result)
                    }
                };
                Some((event, (events, details)))
            });
        let hold = CallHold::keep(&spec.engine.shared, &spec.principal.tenant, true);
        let asked = StartRequest { start, request: None, hold };
        let handle = spec.handle.clone();
        let work = Work::Followed(events.boxed());
        let calls = spec.engine.calls();
        match calls.accept(&spec.principal, handle, spec.session_id, asked, work, None).await {
            Ok(Started::Call(handle)) => Ok(handle),
            Ok(Started::DryRun(_)) => {
                Err(turn_error(&Error::Internal("a call of an agent was not recorded".into())))
            }
            Err(error) => Err(turn_error(&error)),
        }
    }

    fn truncated(&self) -> ModelError {
        let message = format!("the turn of the agent {} ended early", self.agent.name());
        ModelError { code: ModelErrorCode::Truncated, message }
    }

    fn too_large(&self) -> ModelError {
        let message = format!(
            "the agent {} answered with more than {MODEL_ANSWER_BYTES_MAX} bytes in one turn",
            self.agent.name()
        );
        ModelError { code: ModelErrorCode::TooLarge, message }
    }
}

fn size_bytes(arguments: &Map<String, Value>) -> u64 {
    serde_json::to_vec(arguments).map_or(0, |bytes| bytes.len() as u64)
}
