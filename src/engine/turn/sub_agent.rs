//! The tool `agent`, which runs a turn of another agent in a session of its own.
//!
//! The session is created for the call and closed with it, which stops all that still runs in it. The
//! agent has access neither to the history nor to the tasks of the session above it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::TurnRequest;
use super::budget;
use super::resume::unless_stopping;
use super::run::{TurnRun, TurnSpec};
use super::tool_calls::ModelVisibleResult;
use crate::agent::prompts::{self, AGENT_TOOL};
use crate::engine::actor::ActorHandle;
use crate::engine::{CallHandle, Engine, Error, NewSession, Shared, Started};
use crate::machine::{Command, final_text};
use crate::model::limits::{PROMPT_BYTES_MAX, SUB_SESSION_DEPTH_MAX, SUB_SESSIONS_MAX};
use crate::model::{
    Call, CallId, Content, ContentKind, ModelCall, Principal, Progress, Scopes, SessionId,
    StopReason, Tool, ToolKind, ToolResult, ToolSource, TurnReport,
};
use crate::store::StoreError;
use crate::tool::{Arguments, InProcess, ToolContext, check_arguments};

/// The turn slots of one call: its own turn, which waits, and that of its agent.
const TURN_SLOTS: usize = 2;

/// A session that is created for a call of another session.
#[derive(Debug, Clone)]
pub struct SubSession {
    /// The session.
    pub session: NewSession,
    /// The call that it works for.
    pub parent: CallId,
    /// `true` if its model is that of the turn of that call.
    pub inherits_model: bool,
}

/// Returns the tool, as the model of a turn is offered it, or `None` if the session must not have it.
pub(super) fn tool(spec: &TurnSpec) -> Option<Tool> {
    let session = &spec.session;
    let allowed = &session.allowed_tools;
    let is_allowed = allowed.is_empty() || allowed.iter().any(|name| name == AGENT_TOOL);
    // A tool of the configuration with this name takes precedence.
    let is_configured = spec.engine.shared.tools.has_own(AGENT_TOOL);
    if !is_allowed || is_configured || session.depth >= SUB_SESSION_DEPTH_MAX {
        return None;
    }
    let shared = &spec.engine.shared;
    let grants = &shared.options.grants;
    let own = spec.backend.name();
    let is_granted = |name: &&str| *name == own || grants.allows_model(&spec.principal, name);
    let models: Vec<&str> = shared.models.names().filter(is_granted).collect();
    Some(Tool {
        name: AGENT_TOOL.into(),
        description: prompts::AGENT_TOOL_DESCRIPTION.into(),
        input_schema: prompts::agent_tool_schema(&models),
        output_schema: None,
        kind: ToolKind::Agent,
        read_only: false,
        destructive: false,
        idempotent: false,
        concurrent_safe: true,
        call_budget: Some(spec.engine.shared.options.agent_call_budget),
        execution_timeout: None,
        source: ToolSource::BuiltIn,
        arguments_unchecked: false,
        secret_arguments: Vec::new(),
        warnings: Vec::new(),
    })
}

/// A call of the tool, which runs inside the server.
pub(super) struct SubAgent {
    engine: Engine,
    principal: Principal,
    /// The session of the call.
    parent: ActorHandle,
    call_id: CallId,
    model: String,
    task: AgentTask,
}

/// The turn of the agent of a call.
enum AgentTask {
    /// The turn is started.
    Start(Box<TurnRequest>),
    /// The turn was started by an earlier server, and goes on too, or has ended.
    Await(SessionId, CallId),
}

impl SubAgent {
    /// Validates the arguments of a call.
    ///
    /// # Errors
    ///
    /// Fails with the text that the model is shown if the arguments are invalid, or if there is no
    /// room for another agent.
    pub(super) async fn new(
        run: &TurnRun,
        tool: &Tool,
        call: &ModelCall,
        arguments: &Arguments,
    ) -> Result<Self, ModelVisibleResult> {
        let spec = &run.spec;
        let invalid = |errors| Error::Arguments { tool: AGENT_TOOL.into(), errors };
        check_arguments(tool, arguments).map_err(invalid)?;
        let mut request = turn_request(run, call, arguments).map_err(ModelVisibleResult::error)?;
        if let Some(sub) = &mut request.sub_session {
            sub.session.budget = budget::of_sub_agent(run).await?;
        }
        check_capacity(spec).await?;
        Ok(Self {
            engine: spec.engine.clone(),
            principal: spec.principal.clone(),
            parent: spec.handle.clone(),
            call_id: call.call_id,
            model: request.model.clone(),
            task: AgentTask::Start(Box::new(request)),
        })
    }

    /// Returns the work of a call that an earlier server ran, or `None` if it has not started the agent.
    pub(super) async fn resumed(
        shared: &Arc<Shared>,
        parent: ActorHandle,
        call: &Call,
    ) -> Result<Option<Self>, StoreError> {
        let Some(own) = shared.store.call(call.id.of_agent()).await? else { return Ok(None) };
        let Some(turn) = &own.turn else { return Ok(None) };
        let name = turn.setup.as_ref().map_or(AGENT_TOOL, |setup| &setup.principal);
        Ok(Some(Self {
            engine: Engine { shared: shared.clone() },
            principal: Principal {
                tenant: call.tenant.clone(),
                name: name.into(),
                scopes: Scopes::default(),
            },
            parent,
            call_id: call.id,
            model: turn.model.clone(),
            task: AgentTask::Await(own.session_id, own.id),
        }))
    }

    /// Returns a handle of the agent's turn.
    async fn turn(&mut self, context: &ToolContext) -> Result<CallHandle, Error> {
        let request = match &mut self.task {
            AgentTask::Start(request) => std::mem::take(&mut **request),
            AgentTask::Await(session_id, call_id) => {
                let (handle, _) =
                    self.engine.shared.own_actor(&self.principal, *session_id).await?;
                return self.engine.calls().attach(handle, *session_id, *call_id).await;
            }
        };
        let started = self.engine.turns().start(&self.principal, request).await;
        let Started::Call(turn) = unless_stopping(started).await? else {
            return Err(Error::Internal("the turn of an agent was not started".into()));
        };
        let message = format!("an agent is working in the session {}", turn.session_id);
        // A caller that misses this can still find the session by its parent call.
        context.progress(Progress { done: 0.0, total: None, message }).await;
        Ok(turn)
    }

    async fn execute(&mut self, context: ToolContext) -> Result<ToolResult, Error> {
        let mut turn = self.turn(&context).await?;
        let stop = context.cancellation_token();
        let wait = async { unless_stopping(turn.wait_ended().await).await };
        let ended = stop.run_until_cancelled(wait).await;
        let (ended, cancelled_calls) = match ended {
            Some(ended) => {
                (ended?, self.close_session(turn.session_id, "its agent has ended").await?)
            }
            None => {
                let reason = "the call that it worked for was stopped";
                let cancelled_calls = self.close_session(turn.session_id, reason).await?;
                (turn.wait_ended().await?, cancelled_calls)
            }
        };
        self.add_usage(&ended).await;
        self.result(ended, cancelled_calls).await
    }

    /// Closes the session of the agent, and returns how many calls were cancelled by that.
    async fn close_session(&self, id: SessionId, reason: &str) -> Result<u32, Error> {
        let sessions = self.engine.sessions();
        let closed = sessions.close(&self.principal, id, reason.to_owned(), None).await?;
        Ok(closed.cancelled_tasks)
    }

    /// Adds the usage of the agent to that of the call.
    async fn add_usage(&self, ended: &Call) {
        let Some(usage) = ended.usage else { return };
        // An earlier server may have counted it just before it ended.
        let own = self.engine.shared.store.call(self.call_id).await;
        if matches!(own, Ok(Some(call)) if call.usage.is_some()) {
            return;
        }
        let report = TurnReport::Used { usage, model: self.model.clone() };
        let command = Command::Turn { call_id: self.call_id, report };
        if let Err(error) = self.parent.command(command, None).await {
            tracing::warn!(call_id = %self.call_id, %error, "the usage of an agent was not counted");
        }
    }

    async fn result(&self, ended: Call, cancelled_calls: u32) -> Result<ToolResult, Error> {
        let text = final_text(&ended).to_owned();
        let stop = self.engine.turns().outcome(ended).await?.stop;
        let text = prompts::agent_answer(&text, &stop, cancelled_calls).render();
        let error_message = match &stop {
            Ok(StopReason::Cancelled) => prompts::AGENT_CANCELLED.to_owned(),
            Ok(_) => String::new(),
            Err(error) => prompts::agent_failed(error),
        };
        let content = Content { kind: ContentKind::Text(text), stream: None, offset: 0 };
        Ok(ToolResult {
            content: vec![content],
            is_error: !error_message.is_empty(),
            error_message,
            ..ToolResult::default()
        })
    }
}

#[async_trait]
impl InProcess for SubAgent {
    async fn run(mut self: Box<Self>, context: ToolContext) -> ToolResult {
        match self.execute(context).await {
            Ok(result) => result,
            Err(error) => ToolResult {
                is_error: true,
                error_message: error.to_string(),
                ..ToolResult::default()
            },
        }
    }
}

/// Returns the request for the agent's turn, or the text that the model is shown.
fn turn_request(
    run: &TurnRun,
    call: &ModelCall,
    arguments: &Arguments,
) -> Result<TurnRequest, String> {
    let session = &run.spec.session;
    let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
    let prompt = text("prompt").to_owned();
    if prompt.len() > PROMPT_BYTES_MAX {
        return Err(prompts::agent_prompt_too_long());
    }
    let names = arguments.get("tools").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let allowed_tools: Vec<String> = names.map(str::to_owned).collect();
    let is_own = |name: &String| run.tools.iter().any(|tool| tool.name == *name);
    if let Some(name) = allowed_tools.iter().find(|name| !is_own(name)) {
        return Err(prompts::agent_tool_unavailable(name));
    }
    let model = match text("model") {
        "" => run.spec.backend.name(),
        named => named,
    };
    let all = || session.allowed_tools.to_vec();
    let new = NewSession {
        description: format!("an agent of the session {}", session.id),
        allowed_tools: if allowed_tools.is_empty() { all() } else { allowed_tools },
        system_message: session.system_message.to_string(),
        max_rounds: session.max_rounds,
        working_directory: session.working_directory.clone(),
        max_live_tasks: Some(session.max_live_tasks),
        task_limit_policy: session.task_limit_policy,
        on_restart: session.on_restart,
        depth: session.depth + 1,
        ..NewSession::implicit()
    };
    Ok(TurnRequest {
        prompt,
        model: model.to_owned(),
        sub_session: Some(Box::new(SubSession {
            session: new,
            parent: call.call_id,
            inherits_model: model == run.spec.backend.name(),
        })),
        ..TurnRequest::default()
    })
}

/// Fails if there is no room for another agent. Agents that wait for agents hold slots that those
/// need, so a call that waited for a slot could wait forever.
async fn check_capacity(spec: &TurnSpec) -> Result<(), ModelVisibleResult> {
    let live = spec.engine.shared.store.live_calls(spec.session_id).await.map_err(Error::from)?;
    let agents = live.iter().filter(|call| call.tool == AGENT_TOOL && call.turn.is_none()).count();
    if agents >= SUB_SESSIONS_MAX {
        return Err(ModelVisibleResult::error(prompts::too_many_agents(agents)));
    }
    if spec.engine.shared.turn_slots.available_permits() < TURN_SLOTS {
        return Err(ModelVisibleResult::error(prompts::NO_SLOT_FOR_AGENT));
    }
    Ok(())
}
