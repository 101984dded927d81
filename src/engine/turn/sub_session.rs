//! Agents that work for an agent: the tool `agent` runs a turn in a session of its own.
//!
//! The session is made for the call and closed with it, so nothing of it outlives the call. It knows
//! nothing of the session above it: neither its history nor its tasks.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::calls::Told;
use super::play::{Play, Turn};
use super::{NewSession, TurnRequest};
use crate::engine::directory::Handle;
use crate::engine::{CallHandle, Engine, Error, Started};
use crate::machine::{Command, final_text};
use crate::model::limits::{PROMPT_BYTES_MAX, SUB_SESSION_DEPTH_MAX, SUB_SESSIONS_MAX};
use crate::model::{
    Call, CallId, Content, ContentKind, ModelCall, Principal, Progress, SessionId, StopReason,
    Tool, ToolKind, ToolResult, ToolSource, TurnReport,
};
use crate::tool::{Arguments, InProcess, ToolContext, Work, check_arguments};

/// The tool that runs an agent.
pub(in crate::engine) const AGENT: &str = "agent";

/// Places among the running turns that one such call takes: its own, and that of its agent's turn.
const PLACES: usize = 2;

/// A turn that works for a call of another session.
#[derive(Debug, Clone)]
pub struct SubSession {
    /// The session that is made for it.
    pub session: NewSession,
    /// The call.
    pub parent: CallId,
}

/// The tool, as a model of this turn sees it. None: this session may not have it.
pub(super) fn tool(play: &Play, others: &[Tool]) -> Option<Tool> {
    let session = &play.session;
    let allowed = &session.allowed_tools;
    let is_allowed = allowed.is_empty() || allowed.iter().any(|name| name == AGENT);
    // A tool of the configuration goes before ours.
    let is_taken = others.iter().any(|tool| tool.name == AGENT);
    if !is_allowed || is_taken || session.depth >= SUB_SESSION_DEPTH_MAX {
        return None;
    }
    let models: Vec<&str> = play.engine.shared.models.names().collect();
    let input_schema = json!({
        "type": "object",
        "properties": {
            "prompt": {
                "type": "string",
                "minLength": 1,
                "description": "The whole task: the agent sees nothing of this conversation.",
            },
            "model": {
                "type": "string",
                "enum": models,
                "description": "Its model. Default: the one that you are.",
            },
            "tools": {
                "type": "array",
                "items": { "type": "string" },
                "description": "The tools that it may use, by name. Default: all of yours.",
            },
        },
        "required": ["prompt"],
        "additionalProperties": false,
    });
    Some(Tool {
        name: AGENT.into(),
        description:
            "Gives a task to another agent, which works on it in a session of its own, and \
                      returns its final answer. Several can work at the same time."
                .into(),
        input_schema,
        output_schema: None,
        kind: ToolKind::Agent,
        read_only: false,
        destructive: false,
        idempotent: false,
        concurrent_safe: true,
        call_budget: Some(play.engine.shared.options.agent_call_budget),
        execution_timeout: None,
        source: ToolSource::BuiltIn,
    })
}

impl Turn {
    /// The call is for this session's own tool, and not for one of the configuration.
    pub(super) fn is_agent(&self, tool: &str) -> bool {
        let found = self.tools.iter().find(|candidate| candidate.name == tool);
        tool == AGENT && found.is_some_and(|tool| tool.kind == ToolKind::Agent)
    }

    pub(super) async fn start_agent(
        &self,
        call: &ModelCall,
        arguments: Arguments,
    ) -> Result<CallHandle, Told> {
        let play = &self.play;
        let Some(tool) = self.tools.iter().find(|tool| tool.name == AGENT) else {
            return Err(Told::failure("there is no tool `agent` in this session"));
        };
        let told = |error: Error| Told::failure(error.to_string());
        let unfit = |faults| told(Error::Arguments { tool: AGENT.into(), faults });
        check_arguments(tool, &arguments).map_err(unfit)?;
        let request = self.request_of(call, &arguments)?;
        self.check_room().await?;
        let work = SubAgent {
            engine: play.engine.clone(),
            who: play.who.clone(),
            parent: play.handle.clone(),
            call_id: call.call_id,
            model: request.model.clone(),
            request,
        };
        let work = Work::InProcess(Box::new(work));
        match self.start_own(call, tool, arguments, work).await.map_err(told)? {
            Started::Call(handle) => Ok(handle),
            Started::DryRun(_) => Err(Told::failure("nothing was started")),
        }
    }

    fn request_of(&self, call: &ModelCall, arguments: &Arguments) -> Result<TurnRequest, Told> {
        let session = &self.play.session;
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        let prompt = text("prompt").to_owned();
        if prompt.len() > PROMPT_BYTES_MAX {
            return Err(Told::failure(format!(
                "prompt must be at most {PROMPT_BYTES_MAX} bytes; put the rest into a file"
            )));
        }
        let wanted = arguments.get("tools").and_then(Value::as_array);
        let wanted = wanted.into_iter().flatten().filter_map(Value::as_str);
        let allowed_tools: Vec<String> = wanted.map(str::to_owned).collect();
        let is_mine = |name: &String| self.tools.iter().any(|tool| tool.name == *name);
        if let Some(name) = allowed_tools.iter().find(|name| !is_mine(name)) {
            return Err(Told::failure(format!("tools names `{name}`, which you don't have")));
        }
        let model = match text("model") {
            "" => self.play.player.name(),
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
            depth: session.depth + 1,
            ..NewSession::implicit()
        };
        Ok(TurnRequest {
            prompt,
            model: model.to_owned(),
            sub_session: Some(Box::new(SubSession { session: new, parent: call.call_id })),
            ..TurnRequest::default()
        })
    }

    /// Agents that wait for agents hold places that those need: rather than to wait for each other
    /// without end, they hear that there is no room.
    async fn check_room(&self) -> Result<(), Told> {
        let Play { engine, session_id, .. } = &self.play;
        let live = engine.shared.store.live_calls(*session_id).await;
        let live = live.map_err(|error| Told::failure(Error::from(error).to_string()))?;
        let agents = live.iter().filter(|call| call.tool == AGENT && call.turn.is_none()).count();
        if agents >= SUB_SESSIONS_MAX {
            return Err(Told::failure(format!(
                "{agents} agents work for this session, which is as many as there may be: wait for \
                 one of them to end"
            )));
        }
        if engine.shared.turn_slots.available_permits() < PLACES {
            return Err(Told::failure(
                "the server runs as many turns as it may: try again later, or do it yourself",
            ));
        }
        Ok(())
    }
}

/// The work of a call of the tool.
struct SubAgent {
    engine: Engine,
    who: Principal,
    /// The session of the call.
    parent: Handle,
    call_id: CallId,
    model: String,
    request: TurnRequest,
}

#[async_trait]
impl InProcess for SubAgent {
    async fn run(mut self: Box<Self>, context: ToolContext) -> ToolResult {
        match self.carry_out(context).await {
            Ok(result) => result,
            Err(error) => ToolResult {
                is_error: true,
                error_message: error.to_string(),
                ..ToolResult::default()
            },
        }
    }
}

impl SubAgent {
    async fn carry_out(&mut self, context: ToolContext) -> Result<ToolResult, Error> {
        let request = std::mem::take(&mut self.request);
        let Started::Call(mut turn) = self.engine.start_turn(&self.who, request).await? else {
            return Err(Error::Internal("an agent's turn wasn't started".into()));
        };
        let message = format!("an agent works in the session {}", turn.session_id);
        // Whoever doesn't hear of it finds the session by its task.
        context.progress(Progress { done: 0.0, total: None, message }).await;
        let stop = context.cancellation_token();
        let ended = stop.run_until_cancelled(turn.ended(None)).await;
        let (ended, left) = match ended {
            Some(ended) => (ended?, self.end_session(turn.session_id, "its agent is done").await?),
            None => {
                let reason = "the call that it worked for was stopped";
                let left = self.end_session(turn.session_id, reason).await?;
                (turn.ended(None).await?, left)
            }
        };
        self.add_usage(&ended).await;
        self.result(ended, left).await
    }

    /// Closes the session of the agent, and says how many calls that ended.
    async fn end_session(&self, id: SessionId, reason: &str) -> Result<u32, Error> {
        let closed = self.engine.close_session(&self.who, id, reason.to_owned(), None).await?;
        Ok(closed.cancelled_tasks)
    }

    /// What the agent has used adds to the sums above it.
    async fn add_usage(&self, ended: &Call) {
        let Some(usage) = ended.usage else { return };
        let report = TurnReport::Used { usage, model: self.model.clone() };
        let command = Command::Turn { call_id: self.call_id, report };
        if let Err(error) = self.engine.command(&self.parent, command, None).await {
            tracing::warn!(call_id = %self.call_id, %error, "an agent's usage was not counted");
        }
    }

    async fn result(&self, ended: Call, left: u32) -> Result<ToolResult, Error> {
        let mut text = final_text(&ended).to_owned();
        let outcome = self.engine.turn_outcome(ended).await?;
        let note = match &outcome.stop {
            Ok(StopReason::EndTurn) if text.is_empty() => "the agent ended without a word",
            Ok(StopReason::EndTurn | StopReason::Cancelled) | Err(_) => "",
            Ok(StopReason::MaxRounds) => "the agent had made as many rounds as it may",
            Ok(StopReason::MaxTokens) => "its last answer was cut at the limit of tokens",
            Ok(StopReason::Refusal) => "its model refused to go on",
        };
        let tasks = match left {
            0 => String::new(),
            count => format!("{count} of its calls still ran, and were cancelled"),
        };
        for note in [note, tasks.as_str()].into_iter().filter(|note| !note.is_empty()) {
            let separator = if text.is_empty() { "" } else { "\n" };
            text = format!("{text}{separator}[{note}]");
        }
        let error_message = match &outcome.stop {
            Ok(StopReason::Cancelled) => "the agent was stopped".to_owned(),
            Ok(_) => String::new(),
            Err(error) => format!("the agent failed: {} ({})", error.message, error.code),
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
