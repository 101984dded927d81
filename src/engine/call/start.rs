//! The start of a call.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::handle::{Attachment, CallHandle};
use super::wait::CallWatch;
use super::{CallHold, CallRequest, Calls, DryRun, StartRequest, Started, description};
use crate::engine::actor::{ActorHandle, ActorMessage, ActorSource};
use crate::engine::idempotency::{Claim, Claimed, unexpected_effect};
use crate::engine::{Error, NewSession, StdinFault};
use crate::machine::{Refusal, Start};
use crate::model::limits::{OFFER_WAIT_SECONDS_MAX, OUTPUT_BYTES_MAX};
use crate::model::{CallId, CallPolicy, Principal, ProcessSpec, Session, SessionId, Tenant, Tool};
use crate::store::{RequestEffect, StoreError};
use crate::telemetry::CallCap;
use crate::tool::{
    ArgumentError, Arguments, CallContext, ResolvedTool, Work, hidden_argument, on_input,
    rough_size, without_secrets,
};

/// The time for which a call that starts in the background waits for the provider of its tool before
/// it is accepted.
const BACKGROUND_PROVIDER_WAIT: Duration = Duration::from_secs(2);

impl Calls {
    /// Checks the whole request and starts its call, or returns the call that an earlier request
    /// with the same id started.
    ///
    /// # Errors
    ///
    /// [`Error`] has a variant for each reason that a caller would act on differently.
    pub async fn start(
        &self,
        principal: &Principal,
        request: CallRequest,
    ) -> Result<Started, Error> {
        if self.shared.draining.is_cancelled() {
            self.shared.metrics.call_refused(CallCap::Draining);
            return Err(Error::Draining);
        }
        let asked = Instant::now();
        let wait = provider_wait(&request, asked);
        let found = self.shared.find_tool(principal, &request.tool, wait).boxed().await?;
        let claims = &self.shared.claims;
        let store = self.shared.store.as_ref();
        let key = request.request.as_ref().filter(|_| !request.dry_run);
        let claim = match claims.claim(store, &principal.tenant, key).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(effect) => {
                return self.replay(principal, effect, request.background).await;
            }
        };
        let (handle, session) = self.session_of(principal, request.session_id).await?;
        let (is_dry_run, session_id) = (request.dry_run, request.session_id);
        let waits = found.waits();
        let bytes = rough_size(&request.arguments);
        let (calls, checked) = (self.clone(), session.clone());
        let tenant = principal.tenant.clone();
        let prepare = move || calls.prepare(&tenant, &checked, &found, request);
        let (mut start, work) = on_input(bytes, prepare).await?;
        if is_dry_run {
            self.probe(handle, start.start).await?;
            return Ok(Started::DryRun(DryRun { session_id }));
        }
        let handle = match handle {
            Some(handle) => handle,
            None => self.shared.actor(ActorSource::New(Box::new((*session).clone()))),
        };
        if waits {
            // The caller has waited for the provider already.
            let budget = &mut start.start.policy.call_budget;
            *budget = budget.map(|budget| budget.saturating_sub(asked.elapsed()));
        }
        self.accept(principal, handle, session.id, start, work, claim).await
    }

    /// Returns the session with its actor, or, if none is given, a new session that has no actor
    /// yet.
    pub(crate) async fn session_of(
        &self,
        principal: &Principal,
        session_id: Option<SessionId>,
    ) -> Result<(Option<ActorHandle>, Arc<Session>), Error> {
        match session_id {
            Some(id) => {
                let (handle, session) = self.shared.own_actor(principal, id).await?;
                Ok((Some(handle), session))
            }
            None => {
                let session = NewSession::implicit().build(&self.shared, principal);
                Ok((None, Arc::new(session)))
            }
        }
    }

    /// Checks whether the session would accept the call. A new session accepts every call.
    pub(crate) async fn probe(
        &self,
        handle: Option<ActorHandle>,
        start: Start,
    ) -> Result<(), Error> {
        let Some(handle) = handle else { return Ok(()) };
        let start = Box::new(start);
        handle.ask(|answer| ActorMessage::Probe { start, answer }).await?;
        Ok(())
    }

    /// Checks the arguments and the limits of the tenant, and returns the start of the call with its work.
    fn prepare(
        &self,
        tenant: &Tenant,
        session: &Session,
        found: &ResolvedTool,
        request: CallRequest,
    ) -> Result<(StartRequest, Work), Error> {
        let tool = found.tool().describe();
        if let Some(name) = hidden_argument(tool, &request.arguments) {
            let description = "this is the replacement of a secret in a record: send the secret";
            let error = ArgumentError { path: name.into(), description: description.into() };
            return Err(Error::Arguments { tool: tool.name.clone(), errors: vec![error] });
        }
        let work = self.work_of(session, found, &request.arguments)?;
        let work = with_stdin(work, &request)?;
        let key = request.request.clone();
        let start = self.start_command(found.tool().describe(), request);
        let hold = CallHold::admit(&self.shared, tenant, &start)?;
        Ok((StartRequest { start, request: key, hold }, work))
    }

    pub(in crate::engine) fn work_of(
        &self,
        session: &Session,
        found: &ResolvedTool,
        arguments: &Arguments,
    ) -> Result<Work, Error> {
        let tool = found.tool();
        let name = &tool.describe().name;
        if !session.allowed_tools.is_empty() && !session.allowed_tools.contains(name) {
            let session_id = session.id.to_string();
            return Err(Error::ToolNotAllowed { tool: name.clone(), session_id });
        }
        let invalid = |errors: Vec<ArgumentError>| Error::Arguments { tool: name.clone(), errors };
        let schema_errors = found.check(arguments).err().unwrap_or_default();
        let context = self.context_of(session);
        // A path is reported once: by the schema, if both find it.
        let is_new = |error: &ArgumentError| schema_errors.iter().all(|f| f.path != error.path);
        match tool.prepare(arguments, &context) {
            Ok(work) if schema_errors.is_empty() => Ok(work),
            Ok(_) => Err(invalid(schema_errors)),
            Err(errors) => {
                let more: Vec<_> = errors.into_iter().filter(is_new).collect();
                Err(invalid(schema_errors.into_iter().chain(more).collect()))
            }
        }
    }

    /// Returns the context of the calls of a session.
    pub(in crate::engine) fn context_of(&self, session: &Session) -> CallContext {
        let of_session = (!session.working_directory.is_empty())
            .then(|| std::path::PathBuf::from(&session.working_directory));
        CallContext {
            working_directory: of_session.or_else(|| self.shared.options.working_directory.clone()),
            environment: self.shared.options.environment.clone(),
        }
    }

    fn start_command(&self, tool: &Tool, request: CallRequest) -> Start {
        let mut arguments_bytes = ByteCount(0);
        // Writing to a counter cannot fail.
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
        let arguments = without_secrets(tool, request.arguments);
        let description = match request.description.is_empty() {
            true => description::of_arguments(tool, &arguments),
            false => request.description,
        };
        let (turn_id, call_id) = request.of_turn.unzip();
        Start {
            call_id: call_id.unwrap_or_else(CallId::random),
            tool: request.tool,
            kind: tool.kind,
            description,
            arguments,
            arguments_bytes: arguments_bytes.0,
            stdin_bytes: request.stdin.len() as u64,
            policy,
            labels: request.labels,
            turn_id,
            turn: None,
            parent: None,
            background: request.background,
            concurrency: request.concurrency,
            is_control: false,
            has_slot: false,
        }
    }

    /// Sends the start to the session's actor and returns a handle of the call, once it is
    /// accepted.
    pub(crate) async fn accept(
        &self,
        principal: &Principal,
        handle: ActorHandle,
        session_id: SessionId,
        start: StartRequest,
        work: Work,
        claim: Option<Claim>,
    ) -> Result<Started, Error> {
        let StartRequest { start, request, hold } = start;
        let call_id = start.call_id;
        let attach = !start.background;
        let effect = RequestEffect::CallStarted { session_id, call_id };
        let request = self.shared.request_record(principal, request.as_ref(), effect);
        let watch = CallWatch::of_new_call(&self.shared, call_id);
        // From here on the caller may leave at any time. The attachment then notifies the actor.
        let attachment = attach.then(|| Attachment::new(&self.shared, handle.clone(), call_id));
        let start = Box::new(start);
        handle
            .ask(|answer| ActorMessage::Start { start, work, attach, request, claim, hold, answer })
            .await
            .inspect_err(|error| self.count_refusal(error))?;
        tracing::debug!(%session_id, %call_id, "call accepted");
        Ok(Started::Call(CallHandle { session_id, call_id, replayed: false, watch, attachment }))
    }

    fn count_refusal(&self, error: &Error) {
        let cap = match error {
            Error::Refused(Refusal::TaskLimit { .. }) => CallCap::LiveTasks,
            Error::Refused(Refusal::Busy { .. } | Refusal::TurnRunning { .. }) => {
                CallCap::Concurrency
            }
            Error::Draining => CallCap::Draining,
            Error::Store(StoreError::Full(_)) => CallCap::Storage,
            _ => return,
        };
        self.shared.metrics.call_refused(cap);
    }

    /// Returns a handle of the call that an earlier request with the same id started.
    pub(crate) async fn replay(
        &self,
        principal: &Principal,
        effect: RequestEffect,
        background: bool,
    ) -> Result<Started, Error> {
        let RequestEffect::CallStarted { session_id, call_id } = effect else {
            return Err(unexpected_effect());
        };
        self.shared.metrics.request_replayed();
        let watch = CallWatch::new(&self.shared, call_id);
        let attachment = if background {
            None
        } else {
            let (handle, _) = self.shared.own_actor(principal, session_id).await?;
            Some(self.attachment(handle, call_id).await?)
        };
        Ok(Started::Call(CallHandle { session_id, call_id, replayed: true, watch, attachment }))
    }

    /// Returns a handle of a call that is live, or was, for a caller of this server's own.
    pub(crate) async fn attach(
        &self,
        handle: ActorHandle,
        session_id: SessionId,
        call_id: CallId,
    ) -> Result<CallHandle, Error> {
        let watch = CallWatch::new(&self.shared, call_id);
        let attachment = Some(self.attachment(handle, call_id).await?);
        Ok(CallHandle { session_id, call_id, replayed: true, watch, attachment })
    }

    async fn attachment(&self, handle: ActorHandle, call_id: CallId) -> Result<Attachment, Error> {
        // The actor ignores the message if the call has ended.
        let attach = ActorMessage::Attach(call_id);
        handle.inbox.send(attach).await.map_err(|_| Error::Draining)?;
        Ok(Attachment::new(&self.shared, handle, call_id))
    }
}

/// Returns how long a request may wait for the provider of its tool before it is accepted. What is
/// left of its budget is for the call itself.
fn provider_wait(request: &CallRequest, now: Instant) -> Duration {
    let longest = match request.background {
        true => BACKGROUND_PROVIDER_WAIT,
        false => Duration::from_secs(OFFER_WAIT_SECONDS_MAX),
    };
    let until_answer = request.answer_at.map(|at| at.saturating_duration_since(now));
    let limits = [request.call_budget, until_answer].into_iter().flatten();
    limits.map(|limit| limit / 2).fold(longest, Duration::min)
}

/// Gives the standard input of the request to the process of the work.
fn with_stdin(work: Work, request: &CallRequest) -> Result<Work, Error> {
    let data = &request.stdin;
    let fault = match work {
        work if data.is_empty() => return Ok(work),
        Work::Process(process) if process.stdin.is_none() => {
            return Ok(Work::Process(ProcessSpec { stdin: Some(data.clone()), ..process }));
        }
        Work::Process(_) => StdinFault::GivenTwice,
        Work::InProcess(_) | Work::Followed(_) => StdinFault::NoProcess,
    };
    Err(Error::Stdin { tool: request.tool.clone(), fault })
}

/// A writer that counts bytes.
struct ByteCount(u64);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
