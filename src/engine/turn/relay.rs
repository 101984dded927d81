//! A turn that an agent plays by itself: what it tells becomes events, and its calls of callpark's
//! tools are run as a model's are.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::calls::{Told, exit_code, result};
use super::pictures::Room;
use super::play::{Begun, Turn};
use super::round::{Delta, Sort, turn_error};
use crate::agent::{
    Agent, AgentEvent, AgentRequest, Answering, CallAnswer, ModelError, ModelErrorCode, OwnCall,
    OwnCallEvent, WantedCall,
};
use crate::engine::call::StartRequest;
use crate::engine::run::json_depth::are_too_deep;
use crate::engine::sleep_until;
use crate::engine::text::truncate_middle;
use crate::engine::{CallHandle, Error, Started};
use crate::machine::Start;
use crate::model::limits::{
    MODEL_ANSWER_BYTES_MAX, OUTPUT_BYTES_MAX, TEXT_BYTES_MAX, TURN_IDLE_SECONDS,
};
use crate::model::{
    CallId, CallPolicy, ModelCall, OnDisconnect, StopReason, ToolKind, TurnError, TurnReport,
};
use crate::tool::{Work, WorkEvent};

/// What runs beside the reading of an agent: answers to its calls, and the calls of its own.
type Beside<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>;

/// One attempt that failed.
struct Fault {
    error: ModelError,
    /// It had called tools: the same prompt would call them again.
    has_called: bool,
}

/// Why an attempt came to no end.
enum Broken {
    Agent(Fault),
    Turn(TurnError),
}

impl From<TurnError> for Broken {
    fn from(error: TurnError) -> Self {
        Self::Turn(error)
    }
}

impl Turn {
    /// Asks the agent, and asks again where that does no harm: an agent that fails before it has
    /// called any tool.
    pub(super) async fn relay(
        &mut self,
        agent: &dyn Agent,
        begun: Begun,
    ) -> Result<StopReason, TurnError> {
        let request = self.agent_request(begun);
        let metrics = self.play.engine.shared.metrics.clone();
        let mut failures = 0;
        loop {
            let Fault { error, has_called } = match self.relay_once(agent, request.clone()).await {
                Ok((stop, text)) => {
                    metrics.model_request(agent.name(), Ok(()));
                    let report = TurnReport::Message { text: text.clone(), calls: Vec::new() };
                    self.tell(report).await?;
                    self.final_text = text;
                    return Ok(stop);
                }
                Err(Broken::Agent(fault)) => fault,
                Err(Broken::Turn(error)) => return Err(error),
            };
            metrics.model_request(agent.name(), Err(error.code.name()));
            failures += 1;
            let told = turn_error(&error);
            if has_called || !error.code.is_transient() || failures >= self.play.attempts_max {
                return Err(told);
            }
            self.attempt += 1;
            let delay = self.pause(failures);
            let attempt = self.attempt;
            self.tell(TurnReport::Retrying { attempt, delay, error: told }).await?;
            tokio::time::sleep(delay).await;
        }
    }

    fn agent_request(&self, begun: Begun) -> AgentRequest {
        let session = &self.play.session;
        let own = Some(&session.working_directory).filter(|path| !path.is_empty());
        let options = &self.play.engine.shared.options;
        AgentRequest {
            session_id: self.play.session_id,
            system: self.play.system.clone(),
            messages: begun.messages,
            messages_before: begun.messages_before,
            messages_after: begun.messages_before + if self.play.delivers { 1 } else { 2 },
            prompt: begun.prompt,
            attachments: begun.attachments,
            tools: self.tools.clone(),
            working_directory: own.map(PathBuf::from).or(options.working_directory.clone()),
            allowed_tools: session.allowed_tools.clone(),
        }
    }

    /// Why it stopped, and all that it said.
    async fn relay_once(
        &self,
        agent: &dyn Agent,
        request: AgentRequest,
    ) -> Result<(StopReason, String), Broken> {
        let mut stream = agent.turn(request);
        let (mut delta, mut whole) = (Delta::default(), String::new());
        let mut has_called = false;
        let mut beside: Beside<'_> = FuturesUnordered::new();
        let pause = Duration::from_secs(TURN_IDLE_SECONDS / 4);
        let mut told_alive = Instant::now();
        let ended = loop {
            let alive_at = (!beside.is_empty()).then(|| told_alive + pause);
            let event = tokio::select! {
                biased;
                Some(()) = beside.next() => continue,
                event = stream.next() => event,
                () = sleep_until(delta.due()) => {
                    self.show(&mut delta).await?;
                    continue;
                }
                // Calls have limits of their own: while they run, the turn isn't idle.
                () = sleep_until(alive_at) => {
                    self.is_alive().await;
                    told_alive = Instant::now();
                    continue;
                }
            };
            match event {
                Some(Ok(AgentEvent::Text(text))) => {
                    if whole.len() + text.len() > MODEL_ANSWER_BYTES_MAX {
                        break Err(too_large(agent));
                    }
                    whole.push_str(&text);
                    self.add(&mut delta, Sort::Text, &text).await?;
                }
                Some(Ok(AgentEvent::Reasoning(text))) => {
                    self.add(&mut delta, Sort::Reasoning, &text).await?;
                }
                Some(Ok(AgentEvent::Used(usage))) => {
                    self.used(usage, agent.name()).await?;
                }
                Some(Ok(AgentEvent::Call(wanted, answer))) => {
                    has_called = true;
                    self.show(&mut delta).await?;
                    beside.push(self.answer_agent(wanted, answer).boxed());
                }
                Some(Ok(AgentEvent::OwnCall(own))) => {
                    has_called = true;
                    self.show(&mut delta).await?;
                    let arguments = Value::Object(own.arguments.clone()).to_string();
                    let handle = self.start_followed(own).await?;
                    beside.push(self.note_when_settled(handle, arguments).boxed());
                }
                Some(Ok(AgentEvent::Finished(stop))) => break Ok(stop),
                Some(Err(error)) => break Err(error),
                None => break Err(cut(agent)),
            }
        };
        self.show(&mut delta).await?;
        drop(stream);
        // Nothing more comes of these; they only have to come to their ends.
        while beside.next().await.is_some() {}
        match ended {
            Ok(stop) => Ok((stop, whole)),
            Err(error) => Err(Broken::Agent(Fault { error, has_called })),
        }
    }

    /// Runs a call of a tool of callpark's. An agent that doesn't wait for the answer any more
    /// leaves the call to the background.
    async fn answer_agent(&self, wanted: WantedCall, mut answer: Answering) {
        let WantedCall { id, tool, arguments } = wanted;
        let call = ModelCall { id, tool, arguments, call_id: CallId::random() };
        let running = async {
            match self.start_call(&call).await {
                Ok(handle) => self.answer(handle).await,
                Err(told) => told,
            }
        };
        let told = tokio::select! {
            told = running => told,
            () = answer.closed() => return,
        };
        self.notes.add(0, &call.tool, &call.arguments, &told.text, told.exit_code);
        let Told { text, pictures, failed, .. } = told.cut(&mut Room::default());
        // Nobody waits: the log has the result.
        let _ = answer.send(CallAnswer { text, pictures, failed });
    }

    async fn note_when_settled(&self, mut handle: CallHandle, arguments: String) {
        match handle.wait_settled(None).await {
            Ok(call) => {
                self.notes.add(0, &call.tool, &arguments, &result(&call), exit_code(&call));
            }
            Err(error) => {
                let call_id = handle.call_id;
                tracing::debug!(%call_id, %error, "an agent's call isn't followed to its end");
            }
        }
    }

    /// Shows a call that the agent makes by itself.
    async fn start_followed(&self, own: OwnCall) -> Result<CallHandle, TurnError> {
        let OwnCall { tool, description, mut arguments, events } = own;
        if are_too_deep(&arguments) {
            let text = Value::Object(arguments).to_string();
            arguments = Map::from_iter([("json".to_owned(), text.into())]);
        }
        let play = &self.play;
        let policy = CallPolicy {
            execution_timeout: Some(play.engine.shared.options.execution_timeout),
            // Without its turn nobody hears how it ends.
            on_disconnect: OnDisconnect::Cancel,
            max_output_bytes: OUTPUT_BYTES_MAX,
            ..CallPolicy::default()
        };
        let start = Start {
            description: truncate_middle(&description, TEXT_BYTES_MAX),
            arguments_bytes: size_bytes(&arguments),
            arguments,
            // It runs already, however full the session is.
            is_control: true,
            ..play.start_of(CallId::random(), &tool, ToolKind::Agent, policy)
        };
        let events = futures::stream::unfold(events, |mut events| async move {
            let event = match events.recv().await? {
                OwnCallEvent::Output(data) => WorkEvent::Output(data),
                OwnCallEvent::Ended(mut result) => {
                    result.error_message = truncate_middle(&result.error_message, TEXT_BYTES_MAX);
                    WorkEvent::Ended(result)
                }
            };
            Some((event, events))
        });
        let (asked, handle) = (StartRequest { start, request: None }, play.handle.clone());
        let work = Work::Followed(events.boxed());
        let calls = play.engine.calls();
        let started = calls.accept(&play.who, handle, play.session_id, asked, work, None);
        match started.await {
            Ok(Started::Call(handle)) => Ok(handle),
            Ok(Started::DryRun(_)) => {
                Err(super::play::failure(&Error::Internal("an agent's call wasn't told".into())))
            }
            Err(error) => Err(super::play::failure(&error)),
        }
    }
}

fn cut(agent: &dyn Agent) -> ModelError {
    let message = format!("the agent {} ended its turn without an end", agent.name());
    ModelError { code: ModelErrorCode::Cut, message }
}

fn too_large(agent: &dyn Agent) -> ModelError {
    let message = format!(
        "the agent {} said more than {MODEL_ANSWER_BYTES_MAX} bytes in one turn",
        agent.name()
    );
    ModelError { code: ModelErrorCode::TooLarge, message }
}

fn size_bytes(arguments: &Map<String, Value>) -> u64 {
    serde_json::to_vec(arguments).map_or(0, |bytes| bytes.len() as u64)
}
