//! Starting calls.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::directory::Handle;
use super::handle::{Attachment, CallHandle};
use super::inbox::{Message, Origin};
use super::requests::{Claim, Claimed};
use super::{Engine, Error, NewSession, RequestKey};
use crate::machine::{Concurrency, Refusal, Start};
use crate::model::limits::OUTPUT_BYTES_MAX;
use crate::model::{
    CallId, CallPolicy, FollowUpPolicy, Labels, OnDisconnect, Principal, Session, SessionId, Tool,
    TurnId,
};
use crate::store::{RequestEffect, StoreError};
use crate::telemetry::CallCap;
use crate::tool::{ArgumentFault, Arguments, CallContext, ProviderUnavailable, ResolvedTool, Work};

/// A call that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct CallRequest {
    /// Its session; none: a new one.
    pub session_id: Option<SessionId>,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// What it is for.
    pub description: String,
    /// Its budget; none: the tool's.
    pub call_budget: Option<Duration>,
    /// Its hard limit; none: the tool's, or the server's.
    pub execution_timeout: Option<Duration>,
    /// Its limit of silence; none: there is none.
    pub idle_timeout: Option<Duration>,
    /// What happens when its last caller goes away.
    pub on_disconnect: OnDisconnect,
    /// When its end must be told.
    pub follow_up: FollowUpPolicy,
    /// It outlives its session's closing.
    pub detached: bool,
    /// How many bytes of its output are kept; none: as many as possible.
    pub max_output_bytes: Option<u64>,
    /// The caller's own marks.
    pub labels: Labels,
    /// The id of the request.
    pub request: Option<RequestKey>,
    /// It goes straight to the background.
    pub background: bool,
    /// What it does about tasks that are there.
    pub concurrency: Concurrency,
    /// Check everything, start nothing.
    pub dry_run: bool,
    /// The agent's turn that makes it, and the id that it gave the call.
    pub of_turn: Option<(TurnId, CallId)>,
}

/// What would have been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// The session that was named, if one was.
    pub session_id: Option<SessionId>,
}

/// What came of a [`CallRequest`].
#[derive(Debug)]
pub enum Started {
    /// A call.
    Call(CallHandle),
    /// Nothing, as was asked.
    DryRun(DryRun),
}

impl Engine {
    /// The tools that this caller may use, in this session if one is named; and the providers that
    /// offer none now.
    pub async fn tools(
        &self,
        who: &Principal,
        session_id: Option<SessionId>,
    ) -> Result<(Vec<Tool>, Vec<ProviderUnavailable>), Error> {
        let allowed = match session_id {
            Some(id) => self.own_session(who, id).await?.allowed_tools,
            None => Arc::default(),
        };
        // Every run has a hard limit: that of its tool, or the server's.
        let limit = self.shared.options.execution_timeout;
        let limited =
            |tool: Tool| Tool { execution_timeout: tool.execution_timeout.or(Some(limit)), ..tool };
        let (tools, unavailable) = self.shared.tools.list().await;
        let is_allowed = |tool: &Tool| allowed.is_empty() || allowed.contains(&tool.name);
        Ok((tools.into_iter().filter(is_allowed).map(limited).collect(), unavailable))
    }

    /// Checks a request whole, then starts its call; or finds the call that an earlier request
    /// with the same id started.
    pub async fn start(&self, who: &Principal, request: CallRequest) -> Result<Started, Error> {
        if self.shared.draining.is_cancelled() {
            self.shared.metrics.call_refused(CallCap::Draining);
            return Err(Error::Draining);
        }
        let found = self.shared.tools.find(&request.tool).boxed().await;
        let found = found.ok_or_else(|| Error::ToolNotFound(request.tool.clone()))?;
        let claims = &self.shared.claims;
        let store = self.shared.store.as_ref();
        let key = request.request.as_ref().filter(|_| !request.dry_run);
        let claim = match claims.claim(store, &who.tenant, key).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(effect) => return self.replay(who, effect, request.background).await,
        };
        let (handle, session) = self.session_of(who, request.session_id).await?;
        let work = self.prepare(&session, &found, &request.arguments)?;
        let tool = found.tool();
        if request.dry_run {
            let session_id = request.session_id;
            let start = self.start_command(tool.describe(), request).start;
            self.probe(handle, start).await?;
            return Ok(Started::DryRun(DryRun { session_id }));
        }
        let handle = match handle {
            Some(handle) => handle,
            None => self.shared.actor(Origin::New(Box::new((*session).clone()))),
        };
        let start = self.start_command(tool.describe(), request);
        self.accept(who, handle, session.id, start, work, claim).await
    }

    /// The session that is named, with its actor; none is named: a new one, which has none yet.
    pub(super) async fn session_of(
        &self,
        who: &Principal,
        session_id: Option<SessionId>,
    ) -> Result<(Option<Handle>, Arc<Session>), Error> {
        match session_id {
            Some(id) => {
                let (handle, session) = self.own_actor(who, id).await?;
                Ok((Some(handle), session))
            }
            None => Ok((None, Arc::new(self.new_session(who, NewSession::implicit())))),
        }
    }

    /// Asks the session whether it would take this; a new one takes everything.
    pub(super) async fn probe(&self, handle: Option<Handle>, start: Start) -> Result<(), Error> {
        let Some(handle) = handle else { return Ok(()) };
        let (start, (answer, answered)) = (Box::new(start), oneshot::channel());
        self.send(&handle, Message::Probe { start, answer }, answered).await?;
        Ok(())
    }

    fn prepare(
        &self,
        session: &Session,
        found: &ResolvedTool,
        arguments: &Arguments,
    ) -> Result<Work, Error> {
        let tool = found.tool();
        let name = &tool.describe().name;
        if !session.allowed_tools.is_empty() && !session.allowed_tools.contains(name) {
            return Err(Error::ToolNotFound(name.clone()));
        }
        let unfit = |faults: Vec<ArgumentFault>| Error::Arguments { tool: name.clone(), faults };
        let schema_faults = found.check(arguments).err().unwrap_or_default();
        let own = (!session.working_directory.is_empty())
            .then(|| std::path::PathBuf::from(&session.working_directory));
        let context = CallContext {
            working_directory: own.or_else(|| self.shared.options.working_directory.clone()),
            environment: self.shared.options.environment.clone(),
        };
        // What the schema has named isn't named again.
        let is_new = |fault: &ArgumentFault| schema_faults.iter().all(|f| f.path != fault.path);
        match tool.prepare(arguments, &context) {
            Ok(work) if schema_faults.is_empty() => Ok(work),
            Ok(_) => Err(unfit(schema_faults)),
            Err(faults) => {
                let more: Vec<_> = faults.into_iter().filter(is_new).collect();
                Err(unfit(schema_faults.into_iter().chain(more).collect()))
            }
        }
    }

    fn start_command(&self, tool: &Tool, request: CallRequest) -> Asked {
        let mut arguments_bytes = Count(0);
        // A count takes everything.
        let _ = serde_json::to_writer(&mut arguments_bytes, &request.arguments);
        let execution_timeout = request
            .execution_timeout
            .or(tool.execution_timeout)
            .unwrap_or(self.shared.options.execution_timeout);
        let policy = CallPolicy {
            call_budget: request.call_budget.or(tool.call_budget),
            execution_timeout: Some(execution_timeout),
            idle_timeout: request.idle_timeout,
            on_disconnect: request.on_disconnect,
            follow_up: request.follow_up,
            detached: request.detached,
            max_output_bytes: request.max_output_bytes.unwrap_or(OUTPUT_BYTES_MAX),
            exclusive: !tool.concurrent_safe,
            queued: false,
        };
        let (turn_id, call_id) = request.of_turn.unzip();
        let start = Start {
            call_id: call_id.unwrap_or_else(CallId::random),
            tool: request.tool,
            kind: tool.kind,
            description: request.description,
            arguments: request.arguments,
            arguments_bytes: arguments_bytes.0,
            policy,
            labels: request.labels,
            turn_id,
            turn: None,
            parent: None,
            background: request.background,
            concurrency: request.concurrency,
            is_control: false,
            has_slot: false,
        };
        Asked { start, request: request.request }
    }

    pub(super) async fn accept(
        &self,
        who: &Principal,
        handle: Handle,
        session_id: SessionId,
        asked: Asked,
        work: Work,
        claim: Option<Claim>,
    ) -> Result<Started, Error> {
        let Asked { start, request } = asked;
        let call_id = start.call_id;
        let attach = !start.background;
        let effect = RequestEffect::CallStarted { session_id, call_id };
        let record = self.record(who, request.as_ref(), effect);
        let changes = self.shared.calls.subscribe(&call_id);
        let (answer, answered) = oneshot::channel();
        let start = Box::new(start);
        let message = Message::Start { start, work, attach, request: record, claim, answer };
        // From here on the caller may leave at any time: then the attachment says so.
        let attachment = attach.then(|| Attachment {
            engine: self.clone(),
            handle: handle.clone(),
            call_id,
            is_silent: false,
        });
        let sent = self.send(&handle, message, answered).await;
        sent.inspect_err(|error| self.count_refusal(error))?;
        tracing::debug!(%session_id, %call_id, "call accepted");
        Ok(Started::Call(CallHandle {
            session_id,
            call_id,
            replayed: false,
            engine: self.clone(),
            changes,
            attachment,
        }))
    }

    fn count_refusal(&self, error: &Error) {
        let cap = match error {
            Error::Refused(Refusal::TaskLimit { .. }) => CallCap::LiveTasks,
            Error::Refused(Refusal::Busy { .. } | Refusal::TurnRunning) => CallCap::Concurrency,
            Error::Draining => CallCap::Draining,
            Error::Store(StoreError::Full(_)) => CallCap::Storage,
            _ => return,
        };
        self.shared.metrics.call_refused(cap);
    }

    pub(super) async fn replay(
        &self,
        who: &Principal,
        effect: RequestEffect,
        background: bool,
    ) -> Result<Started, Error> {
        let RequestEffect::CallStarted { session_id, call_id } = effect else {
            return Err(super::sessions::recorded_otherwise());
        };
        self.shared.metrics.request_replayed();
        let changes = self.shared.calls.subscribe(&call_id);
        let attachment = if background {
            None
        } else {
            let (handle, _) = self.own_actor(who, session_id).await?;
            // A call that has ended needs nobody to hold it.
            handle.inbox.send(Message::Attach(call_id)).await.map_err(|_| Error::Draining)?;
            Some(Attachment { engine: self.clone(), handle, call_id, is_silent: false })
        };
        Ok(Started::Call(CallHandle {
            session_id,
            call_id,
            replayed: true,
            engine: self.clone(),
            changes,
            attachment,
        }))
    }
}

/// A start with the request that asked for it.
pub(super) struct Asked {
    pub(super) start: Start,
    pub(super) request: Option<RequestKey>,
}

/// Counts what is written to it, in bytes.
struct Count(u64);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
