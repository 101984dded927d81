//! The calls that a model asks for. They run as the calls of any other caller do.

use std::time::Duration;

use futures::future::join_all;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::images::{ImageBudget, images_of, is_image};
use super::resume;
use super::run::TurnRun;
use super::sub_agent::SubAgent;
use super::task_tools::{TaskTool, is_task_tool};
use crate::agent::prompts::{self, ResultText};
use crate::agent::{FinishReason, RequestedCall};
use crate::engine::call::{CallHold, StartRequest};
use crate::engine::run::json_depth::are_too_deep;
use crate::engine::{CallHandle, CallRequest, Error, Started};
use crate::machine::Start;
use crate::model::limits::{MODEL_RESULT_BYTES_MAX, REPEATED_FAILURES_MAX, TURN_IDLE_SECONDS};
use crate::model::{
    Call, CallId, CallPolicy, Exit, FollowUpPolicy, Image, ModelCall, Origin, Outcome, State, Tool,
    ToolKind, TurnError,
};
use crate::tool::{Arguments, CoercedArguments, Work, coerce_arguments, hidden_argument, on_input};

/// The result of a call as the model is shown it.
pub(super) struct ModelVisibleResult {
    pub(super) text: ResultText,
    pub(super) images: Vec<Image>,
    pub(super) failed: bool,
    /// The exit code, if the call was a process that ended with one.
    pub(super) exit_code: Option<i32>,
    /// The author of the text.
    pub(super) origin: Origin,
}

impl ModelVisibleResult {
    pub(super) fn error(text: impl AsRef<str>) -> Self {
        let text = prompts::not_started(text.as_ref());
        let (images, origin) = (Vec::new(), Origin::Callpark);
        Self { text, images, failed: true, exit_code: None, origin }
    }

    fn parked(call: &Call, elapsed: Duration) -> Self {
        let text = ResultText::own(prompts::parked_call(call, elapsed));
        let (images, origin) = (Vec::new(), Origin::Callpark);
        Self { text, images, failed: false, exit_code: None, origin }
    }

    /// Returns the result of a call that has ended.
    pub(super) fn of(call: &Call) -> Self {
        let exit_code = match &call.outcome {
            Some(Outcome::Result(result)) => match result.exit {
                Some(Exit::Code(code)) => Some(code),
                Some(Exit::Signal(_)) | None => None,
            },
            Some(Outcome::Failure(_)) | None => None,
        };
        Self {
            text: prompts::call_result(call, |_| false),
            images: images_of(call),
            failed: call.state != State::Succeeded,
            exit_code,
            origin: Origin::Tool,
        }
    }

    /// Truncates the text and selects the images to what one request may hold.
    pub(super) fn truncated(self, budget: &mut ImageBudget) -> Self {
        let mut text = self.text;
        text.truncate(MODEL_RESULT_BYTES_MAX);
        let images = budget.select(self.images, &mut text);
        Self { text, images, ..self }
    }
}

impl From<Error> for ModelVisibleResult {
    fn from(error: Error) -> Self {
        Self::error(error.to_string())
    }
}

/// Returns the result of a task that has ended, without naming the images, which are shown beside it.
pub(super) fn result_beside_images(call: &Call) -> ResultText {
    prompts::call_result(call, is_image)
}

/// A call that was started, with a note about its arguments for the model.
pub(super) struct StartedCall {
    handle: CallHandle,
    note: Option<String>,
}

/// Starts and awaits the calls of a turn.
pub(super) struct ToolCalls<'a> {
    run: &'a TurnRun,
}

impl<'a> ToolCalls<'a> {
    pub(super) fn new(run: &'a TurnRun) -> Self {
        Self { run }
    }

    /// Starts the calls in order, and waits for all of them. Calls run at the same time where their
    /// tools allow it.
    pub(super) async fn run_all(&self, calls: &[ModelCall]) -> Vec<ModelVisibleResult> {
        let mut started = Vec::with_capacity(calls.len());
        for call in calls {
            started.push(self.start(call).await);
        }
        let results = started.into_iter().map(|started| async {
            match started {
                Ok(started) => self.result(started).await,
                Err(error) => error,
            }
        });
        // The calls have limits of their own: while they are running, the turn isn't idle.
        let pause = Duration::from_secs(TURN_IDLE_SECONDS / 4);
        let mut all = std::pin::pin!(join_all(results));
        loop {
            tokio::select! {
                results = &mut all => return results,
                () = tokio::time::sleep(pause) => self.run.keep_alive().await,
            }
        }
    }

    /// Starts a call, or returns the error that the model is shown.
    pub(super) async fn start(&self, call: &ModelCall) -> Result<StartedCall, ModelVisibleResult> {
        let before = self.accepted_before(call).await?;
        let read = self.read_call(call).await;
        if let Some(handle) = before {
            let note = read.ok().and_then(|(_, coerced)| note_of(&coerced));
            return Ok(StartedCall { handle, note });
        }
        let (tool, coerced) = read?;
        let note = note_of(&coerced);
        let handle = self.start_read(call, tool, coerced.arguments).await?;
        Ok(StartedCall { handle, note })
    }

    /// Returns a handle of the call if an earlier server has started it.
    async fn accepted_before(
        &self,
        call: &ModelCall,
    ) -> Result<Option<CallHandle>, ModelVisibleResult> {
        match &self.run.attached {
            Some(_) => Ok(resume::accepted_before(&self.run.spec, call).await?),
            None => Ok(None),
        }
    }

    /// Finds the tool of a call, and reads the arguments.
    async fn read_call(
        &self,
        call: &ModelCall,
    ) -> Result<(&'a Tool, CoercedArguments), ModelVisibleResult> {
        let tools = &self.run.tools;
        let Some(tool) = tools.iter().find(|tool| tool.name == call.tool) else {
            let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
            return Err(ModelVisibleResult::error(prompts::unknown_tool(&call.tool, &names)));
        };
        let (text, coercing) = (call.arguments.clone(), tool.clone());
        let read = on_input(text.len(), move || read_arguments(&coercing, &text)).await;
        let read = read.map_err(ModelVisibleResult::error)?;
        match hidden_argument(tool, &read.arguments) {
            Some(name) => Err(ModelVisibleResult::error(prompts::argument_hidden(name))),
            None => Ok((tool, read)),
        }
    }

    async fn start_read(
        &self,
        call: &ModelCall,
        tool: &Tool,
        arguments: Arguments,
    ) -> Result<CallHandle, ModelVisibleResult> {
        let spec = &self.run.spec;
        let started = if tool.name == prompts::AGENT_TOOL && tool.kind == ToolKind::Agent {
            let agent = SubAgent::new(self.run, tool, call, &arguments).await?;
            self.start_own(call, tool, arguments, Work::InProcess(Box::new(agent))).await
        } else if is_task_tool(&call.tool) {
            let work = TaskTool::new(spec, call, &arguments)?;
            self.start_own(call, tool, arguments, Work::InProcess(Box::new(work))).await
        } else {
            let request = CallRequest {
                session_id: Some(spec.session_id),
                tool: call.tool.clone(),
                arguments,
                of_turn: Some((spec.turn_id, call.call_id)),
                follow_up: spec.session.follow_up,
                ..CallRequest::default()
            };
            spec.engine.calls().start(&spec.principal, request).await
        };
        match self.unless_resumed_later(started).await? {
            Started::Call(handle) => Ok(handle),
            Started::DryRun(_) => Err(ModelVisibleResult::error(prompts::NOTHING_STARTED)),
        }
    }

    /// Returns the result, unless it is the error that the server is about to stop, and the next one goes
    /// on with the turn: then this waits for the end of this server.
    async fn unless_resumed_later<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match self.run.spec.is_of_model() {
            true => resume::unless_stopping(result).await,
            false => result,
        }
    }

    /// Starts a call of a tool that only turns have.
    async fn start_own(
        &self,
        call: &ModelCall,
        tool: &Tool,
        arguments: Arguments,
        work: Work,
    ) -> Result<Started, Error> {
        let spec = &self.run.spec;
        let limit = tool.execution_timeout.unwrap_or(spec.engine.shared.options.execution_timeout);
        let is_task_tool = is_task_tool(&call.tool);
        let policy = CallPolicy {
            call_budget: tool.call_budget,
            execution_timeout: Some(limit),
            follow_up: match is_task_tool {
                true => FollowUpPolicy::None,
                false => spec.session.follow_up,
            },
            ..CallPolicy::default()
        };
        let start = Start {
            arguments_bytes: call.arguments.len() as u64,
            arguments,
            is_control: is_task_tool,
            ..spec.call_start(call.call_id, &call.tool, tool.kind, policy)
        };
        let hold = CallHold::admit(&spec.engine.shared, &spec.principal.tenant, &start)?;
        let asked = StartRequest { start, request: None, hold };
        let handle = spec.handle.clone();
        spec.engine
            .calls()
            .accept(&spec.principal, handle, spec.session_id, asked, work, None)
            .await
    }

    /// Waits until a call has ended or is parked, and returns its result.
    pub(super) async fn result(&self, started: StartedCall) -> ModelVisibleResult {
        let StartedCall { mut handle, note } = started;
        let engine = &self.run.spec.engine;
        let result = async {
            let settled = handle.wait_settled(|| None).await;
            let call = self.unless_resumed_later(settled).await?;
            if call.is_task() {
                return Ok(ModelVisibleResult::parked(&call, call.elapsed(engine.now())));
            }
            let (call, _) = engine.calls().with_full_output(call).await?;
            Ok::<_, Error>(ModelVisibleResult::of(&call))
        };
        let mut result = result.await.unwrap_or_else(ModelVisibleResult::from);
        if let Some(note) = note {
            result.text.note_after(note);
        }
        result
    }
}

/// Returns a note for the model about arguments that were converted.
fn note_of(coerced: &CoercedArguments) -> Option<String> {
    let converted = &coerced.converted;
    (!converted.is_empty()).then(|| prompts::arguments_converted(converted))
}

/// Reads arguments as a model writes them, in the form that the tool asks for.
fn read_arguments(tool: &Tool, text: &str) -> Result<CoercedArguments, String> {
    let coerced = coerce_arguments(tool, parse_arguments(text)?);
    match are_too_deep(&coerced.arguments) {
        true => Err(prompts::arguments_too_deep()),
        false => Ok(coerced),
    }
}

/// Gives a call that a model asks for its id in callpark.
pub(super) fn with_call_id(call: RequestedCall) -> ModelCall {
    let RequestedCall { id, tool, arguments, provider_data } = call;
    ModelCall { id, tool, arguments, call_id: CallId::random(), provider_data }
}

/// Returns the calls whose arguments have no end, in an answer that ends for this reason.
pub(super) fn incomplete_calls(calls: &[ModelCall], finish: FinishReason) -> Vec<CallId> {
    let is_whole = |call: &ModelCall| serde_json::from_str::<IgnoredAny>(&call.arguments).is_ok();
    match finish {
        FinishReason::Length => {
            calls.iter().filter(|call| !is_whole(call)).map(|call| call.call_id).collect()
        }
        FinishReason::Done | FinishReason::Refused => Vec::new(),
    }
}

/// Parses arguments as a model writes them: a JSON object, or nothing.
fn parse_arguments(text: &str) -> Result<Arguments, String> {
    if text.trim().is_empty() {
        return Ok(Arguments::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) if are_too_deep(&arguments) => {
            Err(prompts::arguments_too_deep())
        }
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err(prompts::ARGUMENTS_NOT_AN_OBJECT.into()),
        Err(error) => Err(prompts::arguments_not_json(&error)),
    }
}

/// Counts failed calls that a model repeats.
#[derive(Default)]
pub(super) struct Repetitions {
    last: Option<(String, String)>,
    count: u32,
}

impl Repetitions {
    /// Counts a call that has ended.
    ///
    /// # Errors
    ///
    /// Fails if the model has repeated a failing call too often without any change.
    pub(super) fn note(&mut self, call: &ModelCall, failed: bool) -> Result<(), TurnError> {
        if !failed {
            *self = Self::default();
            return Ok(());
        }
        let this = (call.tool.clone(), call.arguments.clone());
        if self.last.as_ref() == Some(&this) {
            self.count += 1;
        } else {
            self.last = Some(this);
            self.count = 1;
        }
        if self.count < REPEATED_FAILURES_MAX {
            return Ok(());
        }
        Err(TurnError {
            code: "repeated_failure".into(),
            message: format!(
                "the model called `{}` {} times in a row with the same arguments, and each call \
                 failed: change the prompt, or what the tool needs",
                call.tool, self.count
            ),
            retryable: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CallId;
    use crate::model::limits::ARGUMENTS_DEPTH_MAX;

    fn call(arguments: &str) -> ModelCall {
        let (id, tool) = ("a".into(), "t".into());
        ModelCall {
            id,
            tool,
            arguments: arguments.into(),
            call_id: CallId::random(),
            provider_data: None,
        }
    }

    #[test]
    fn only_equal_failures_in_a_row_count() {
        let mut seen = Repetitions::default();
        let steps = [("1", true), ("1", true), ("2", true), ("1", true), ("1", true)];
        for (arguments, failed) in steps {
            assert_eq!(seen.note(&call(arguments), failed), Ok(()));
        }
        assert_eq!(seen.note(&call("1"), false), Ok(()));
        for _ in 0..2 {
            assert_eq!(seen.note(&call("1"), true), Ok(()));
        }
        let error = seen.note(&call("1"), true).expect_err("is the third");
        assert_eq!((error.code.as_str(), error.retryable), ("repeated_failure", false));
    }

    #[test]
    fn arguments_are_an_object_or_nothing() {
        assert_eq!(parse_arguments(" "), Ok(Arguments::new()));
        assert_eq!(parse_arguments("{\"a\":1}").map(|a| a.len()), Ok(1));
        assert!(parse_arguments("[1]").is_err_and(|error| error.contains("object")));
        assert!(parse_arguments("{\"a\":").is_err_and(|error| error.contains("not valid JSON")));
        let nested = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        assert!(parse_arguments(&nested(ARGUMENTS_DEPTH_MAX)).is_ok());
        let deeper = parse_arguments(&nested(ARGUMENTS_DEPTH_MAX + 1));
        assert!(deeper.is_err_and(|error| error.contains("deeper than 32 levels")));
    }
}
