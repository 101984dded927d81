//! Sessions: creating, reading, listing and closing them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::actor::ActorSource;
use super::follow_up::FollowUps;
use super::idempotency::{Claimed, unexpected_effect};
use super::{Error, RequestKey, Shared};
use crate::machine::{Close, Command, Reply, SESSION_CLOSED, Update};
use crate::model::limits::{OFFER_WAIT_SECONDS_MAX, PAGE_BYTES_MAX};
use crate::model::{
    Budget, FollowUpPolicy, Labels, Message, OnRestart, Principal, Session, SessionId,
    SessionUpdate, TaskLimitPolicy,
};
use crate::store::{RequestEffect, SessionPage, SessionQuery, StoredMessage};
use crate::telemetry::RecordKind;

/// The name of the built-in tool that runs a sub-agent. Sessions may allow it like other tools.
pub(crate) const AGENT_TOOL: &str = "agent";

/// The properties of a session to create.
#[derive(Debug, Clone, Default)]
pub struct NewSession {
    /// A description for people and models.
    pub description: String,
    /// The caller's labels.
    pub labels: Labels,
    /// The tools that its calls may use, or empty for all tools.
    pub allowed_tools: Vec<String>,
    /// The model of its agent, or empty for the default one.
    pub model: String,
    /// The system message of its agent, or empty for the server's.
    pub system_message: String,
    /// The maximum number of rounds of a turn, or 0 for the default.
    pub max_rounds: u32,
    /// The folder in which its command tools run, or empty for the server's default.
    pub working_directory: String,
    /// The maximum number of live calls, or `None` for the server's default.
    pub max_live_tasks: Option<u32>,
    /// The effect of reaching the maximum.
    pub task_limit_policy: TaskLimitPolicy,
    /// The ends of its agent's calls that lead to a follow-up, or `None` for all of them.
    pub follow_up: Option<FollowUpPolicy>,
    /// The fate of its turns when the server goes away.
    pub on_restart: OnRestart,
    /// The usage of models that it may have.
    pub budget: Budget,
    /// `true` if the session is created for a call that names none.
    pub implicit: bool,
    /// The number of agents above it.
    pub depth: u32,
}

impl NewSession {
    /// Returns the properties of a session for a call that names none.
    pub fn implicit() -> Self {
        Self { implicit: true, ..Self::default() }
    }

    /// Returns a session with these properties, which is not stored yet.
    pub(crate) fn build(self, shared: &Shared, principal: &Principal) -> Session {
        let stream_epoch = uuid::Uuid::new_v4().simple().to_string();
        let tenant = principal.tenant.clone();
        let session = Session::new(SessionId::random(), tenant, stream_epoch, shared.now());
        Session {
            description: self.description,
            labels: self.labels,
            allowed_tools: self.allowed_tools.into(),
            model: self.model,
            system_message: self.system_message.into(),
            max_rounds: self.max_rounds,
            working_directory: self.working_directory,
            max_live_tasks: self.max_live_tasks.unwrap_or(shared.options.live_tasks_default),
            task_limit_policy: self.task_limit_policy,
            follow_up: self.follow_up.unwrap_or(session.follow_up),
            on_restart: self.on_restart,
            budget: self.budget,
            implicit: self.implicit,
            depth: self.depth,
            ..session
        }
    }
}

/// The result of creating a session.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedSession {
    /// The session.
    pub session: Session,
    /// `true` if an earlier request with the same id created it.
    pub replayed: bool,
}

/// The result of updating a session.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdatedSession {
    /// The session.
    pub session: Session,
    /// `true` if an earlier request with the same id updated it.
    pub replayed: bool,
}

/// A page of the messages of a session's history.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageList {
    /// The messages with their numbers, oldest first.
    pub messages: Vec<(u64, Message)>,
    /// The number of the last message, or `None` if this is the last page.
    pub next: Option<u64>,
}

/// The result of closing a session.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedSession {
    /// The session.
    pub session: Session,
    /// The number of tasks that closing it cancelled.
    pub cancelled_tasks: u32,
    /// The number of detached tasks, which go on.
    pub detached_tasks: u32,
    /// `true` if the session had been closed before.
    pub replayed: bool,
}

/// The sessions of an engine.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

impl Sessions {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone() }
    }

    /// Creates a session, or returns the one that an earlier request with the same id created.
    ///
    /// # Errors
    ///
    /// [`Error::ToolNotFound`] if one of the allowed tools does not exist.
    pub async fn create(
        &self,
        principal: &Principal,
        new: NewSession,
        request: Option<&RequestKey>,
    ) -> Result<CreatedSession, Error> {
        self.check_tools(principal, &new.allowed_tools).await?;
        self.check_model(principal, &new.model)?;
        let store = self.shared.store.as_ref();
        let _claim = match self.shared.claims.claim(store, &principal.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(RequestEffect::SessionCreated(id)) => {
                self.shared.metrics.request_replayed();
                let session = self.shared.own_session(principal, id).await?;
                return Ok(CreatedSession { session, replayed: true });
            }
            Claimed::Replay(_) => return Err(unexpected_effect()),
        };
        let count = async |max| Ok::<_, Error>(store.open_sessions(&principal.tenant, max).await?);
        // Until the session is stored.
        let _held = self.shared.quotas.create_session(&principal.tenant, count).await?;
        let session = new.build(&self.shared, principal);
        let record = self.shared.request_record(
            principal,
            request,
            RequestEffect::SessionCreated(session.id),
        );
        let handle = self.shared.actor(ActorSource::New(Box::new(session.clone())));
        handle.command(Command::Create, record).await?;
        Ok(CreatedSession { session, replayed: false })
    }

    /// Returns a session.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session.
    pub async fn get(&self, principal: &Principal, id: SessionId) -> Result<Session, Error> {
        self.shared.own_session(principal, id).await
    }

    /// Returns a page of sessions, newest first.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if the sessions cannot be read.
    pub async fn list(&self, query: SessionQuery) -> Result<SessionPage, Error> {
        let page = self.shared.store.sessions(query).await?;
        for session_id in &page.unreadable {
            self.shared.metrics.record_unreadable(RecordKind::Session);
            tracing::error!(%session_id, "the record of the session cannot be read");
        }
        Ok(page)
    }

    /// Changes the settings of a session, for calls and turns that start later.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session, [`Error::ToolNotFound`] if one of
    /// the allowed tools does not exist, and [`Refusal::SessionClosed`].
    ///
    /// [`Refusal::SessionClosed`]: crate::machine::Refusal::SessionClosed
    pub async fn update(
        &self,
        principal: &Principal,
        id: SessionId,
        mut settings: SessionUpdate,
        request: Option<&RequestKey>,
    ) -> Result<UpdatedSession, Error> {
        let tools = settings.allowed_tools.as_deref().unwrap_or_default();
        self.check_tools(principal, tools).await?;
        self.check_model(principal, settings.model.as_deref().unwrap_or_default())?;
        if settings.max_live_tasks == Some(0) {
            settings.max_live_tasks = Some(self.shared.options.live_tasks_default);
        }
        let store = self.shared.store.as_ref();
        let claim = self.shared.claims.claim(store, &principal.tenant, request).await?;
        let (handle, _) = self.shared.own_actor(principal, id).await?;
        let replayed = match claim {
            Claimed::First(_claim) => {
                let effect = RequestEffect::SessionUpdated(id);
                let record = self.shared.request_record(principal, request, effect);
                let requested_by = principal.name.to_string();
                handle.command(Command::Update(Update { requested_by, settings }), record).await?;
                false
            }
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                true
            }
        };
        let session = self.shared.own_session(principal, id).await?;
        Ok(UpdatedSession { session, replayed })
    }

    /// Returns a page of the messages of a session's history after the number `after`, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session.
    pub async fn messages(
        &self,
        principal: &Principal,
        id: SessionId,
        after: u64,
        limit: u32,
    ) -> Result<MessageList, Error> {
        self.shared.own_session(principal, id).await?;
        let page = self.shared.store.messages_after(id, after, limit, PAGE_BYTES_MAX).await?;
        let mut messages = Vec::with_capacity(page.messages.len());
        for StoredMessage { number, body } in page.messages {
            let message = serde_json::from_str(&body).map_err(|cause| {
                Error::Internal(format!("message {number} of the history is corrupt: {cause}"))
            })?;
            messages.push((number, message));
        }
        let next = messages.last().map(|(number, _)| *number).filter(|_| page.has_more);
        Ok(MessageList { messages, next })
    }

    async fn check_tools(&self, principal: &Principal, names: &[String]) -> Result<(), Error> {
        // For all names together.
        let deadline = Instant::now() + Duration::from_secs(OFFER_WAIT_SECONDS_MAX);
        for name in names {
            let wait = deadline.saturating_duration_since(Instant::now());
            if name != AGENT_TOOL {
                self.shared.find_tool(principal, name, wait).await?;
            }
        }
        Ok(())
    }

    /// Checks that the caller may use the model, which need not exist yet, if it names one.
    fn check_model(&self, principal: &Principal, name: &str) -> Result<(), Error> {
        if !name.is_empty() && !self.shared.options.grants.allows_model(principal, name) {
            return Err(self.shared.model_not_found(principal, name));
        }
        Ok(())
    }

    /// Closes a session for new calls and cancels its calls that are not detached. Closing it again
    /// returns the first result.
    ///
    /// # Errors
    ///
    /// [`Error::SessionNotFound`] if the caller has no such session.
    pub async fn close(
        &self,
        principal: &Principal,
        id: SessionId,
        reason: String,
        request: Option<&RequestKey>,
    ) -> Result<ClosedSession, Error> {
        let store = self.shared.store.as_ref();
        let (_claim, replayed) =
            match self.shared.claims.claim(store, &principal.tenant, request).await? {
                Claimed::First(claim) => (claim, false),
                Claimed::Replay(_) => {
                    self.shared.metrics.request_replayed();
                    (None, true)
                }
            };
        let (handle, _) = self.shared.own_actor(principal, id).await?;
        let record = match replayed {
            true => None,
            false => {
                self.shared.request_record(principal, request, RequestEffect::SessionClosed(id))
            }
        };
        let close = Close { requested_by: principal.name.to_string(), reason };
        let reply = handle.command(Command::Close(close), record).await?;
        let Reply::Closed { cancelled_tasks, detached_tasks, again } = reply else {
            return Err(Error::Internal("closing a session had an unexpected reply".into()));
        };
        for agent in self.shared.models.agents() {
            let agent = agent.clone();
            self.shared.tracker.spawn(async move { agent.forget(id).await });
        }
        let (follow_ups, caller) = (FollowUps::new(&self.shared), principal.clone());
        self.shared.tracker.spawn(async move {
            if let Err(error) = follow_ups.suppress_all(&caller, id, SESSION_CLOSED).await {
                tracing::warn!(session_id = %id, %error, "follow-ups were not suppressed");
            }
        });
        let session = self.shared.own_session(principal, id).await?;
        let replayed = replayed || again;
        Ok(ClosedSession { session, cancelled_tasks, detached_tasks, replayed })
    }
}
