//! Making, finding and closing sessions.

use super::inbox::Origin;
use super::requests::Claimed;
use super::{Engine, Error, RequestKey};
use crate::agent::prompts::AGENT_TOOL;
use crate::machine::{Close, Command, Reply, SESSION_CLOSED};
use crate::model::{
    FollowUpPolicy, Labels, Principal, Session, SessionId, SessionState, TaskLimitPolicy,
};
use crate::store::{RequestEffect, SessionPage, SessionQuery};

/// A session that somebody wants.
#[derive(Debug, Clone, Default)]
pub struct NewSession {
    /// What it is for.
    pub description: String,
    /// The caller's own marks.
    pub labels: Labels,
    /// The tools that its calls may use; empty: all.
    pub allowed_tools: Vec<String>,
    /// The model of its agent; empty: the default one.
    pub model: String,
    /// The system message of its agent.
    pub system_message: String,
    /// The rounds that a turn may take; 0: the default.
    pub max_rounds: u32,
    /// Where its command tools run; empty: the server's default.
    pub working_directory: String,
    /// Its cap of live calls; none: the server's default.
    pub max_live_tasks: Option<u32>,
    /// What happens at the cap.
    pub task_limit_policy: TaskLimitPolicy,
    /// Which ends of its agent's calls the agent must hear of; none: all.
    pub follow_up: Option<FollowUpPolicy>,
    /// Made by a call that named no session.
    pub implicit: bool,
    /// How many agents stand above it.
    pub depth: u32,
}

impl NewSession {
    /// The session of a call that named none.
    pub fn implicit() -> Self {
        Self { implicit: true, ..Self::default() }
    }
}

/// A session that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedSession {
    /// The session.
    pub session: Session,
    /// An earlier request with the same id made it.
    pub replayed: bool,
}

/// A session that was closed.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedSession {
    /// The session.
    pub session: Session,
    /// How many tasks closing it cancelled.
    pub cancelled_tasks: u32,
    /// How many detached ones go on.
    pub detached_tasks: u32,
    /// It had been closed before.
    pub replayed: bool,
}

impl Engine {
    pub(super) fn new_session(&self, who: &Principal, wanted: NewSession) -> Session {
        let now = self.now();
        Session {
            id: SessionId::random(),
            tenant: who.tenant.clone(),
            state: SessionState::Open,
            description: wanted.description,
            labels: wanted.labels,
            allowed_tools: wanted.allowed_tools.into(),
            model: wanted.model,
            system_message: wanted.system_message.into(),
            max_rounds: wanted.max_rounds,
            working_directory: wanted.working_directory,
            max_live_tasks: wanted.max_live_tasks.unwrap_or(self.shared.options.live_tasks_default),
            task_limit_policy: wanted.task_limit_policy,
            follow_up: wanted.follow_up.unwrap_or(FollowUpPolicy::OnFinish),
            implicit: wanted.implicit,
            depth: wanted.depth,
            stream_epoch: uuid::Uuid::new_v4().simple().to_string(),
            create_time: now,
            update_time: now,
            close_time: None,
            close_reason: String::new(),
            cancelled_tasks: 0,
            detached_tasks: 0,
            live_tasks: 0,
            usage: None,
            messages: 0,
            head_sequence: 0,
            first_sequence: 1,
        }
    }

    /// Makes a session, or finds the one that an earlier request with the same id made.
    pub async fn create_session(
        &self,
        who: &Principal,
        wanted: NewSession,
        request: Option<&RequestKey>,
    ) -> Result<CreatedSession, Error> {
        for name in &wanted.allowed_tools {
            if name != AGENT_TOOL && self.shared.tools.find(name).await.is_none() {
                return Err(Error::ToolNotFound(name.clone()));
            }
        }
        let store = self.shared.store.as_ref();
        let _claim = match self.shared.claims.claim(store, &who.tenant, request).await? {
            Claimed::First(claim) => claim,
            Claimed::Replay(RequestEffect::SessionCreated(id)) => {
                self.shared.metrics.request_replayed();
                let session = self.own_session(who, id).await?;
                return Ok(CreatedSession { session, replayed: true });
            }
            Claimed::Replay(_) => return Err(recorded_otherwise()),
        };
        let session = self.new_session(who, wanted);
        let record = self.record(who, request, RequestEffect::SessionCreated(session.id));
        let handle = self.shared.actor(Origin::New(Box::new(session.clone())));
        self.command(&handle, Command::Create, record).await?;
        Ok(CreatedSession { session, replayed: false })
    }

    /// A session.
    pub async fn get_session(&self, who: &Principal, id: SessionId) -> Result<Session, Error> {
        self.own_session(who, id).await
    }

    /// Sessions, newest first.
    pub async fn list_sessions(&self, query: SessionQuery) -> Result<SessionPage, Error> {
        Ok(self.shared.store.sessions(query).await?)
    }

    /// Closes a session for new calls and cancels those that aren't detached. Closing it again
    /// tells what closing did.
    pub async fn close_session(
        &self,
        who: &Principal,
        id: SessionId,
        reason: String,
        request: Option<&RequestKey>,
    ) -> Result<ClosedSession, Error> {
        let store = self.shared.store.as_ref();
        let (_claim, replayed) = match self.shared.claims.claim(store, &who.tenant, request).await?
        {
            Claimed::First(claim) => (claim, false),
            Claimed::Replay(_) => {
                self.shared.metrics.request_replayed();
                (None, true)
            }
        };
        let (handle, _) = self.own_actor(who, id).await?;
        let record = match replayed {
            true => None,
            false => self.record(who, request, RequestEffect::SessionClosed(id)),
        };
        let close = Close { requested_by: who.name.to_string(), reason };
        let reply = self.command(&handle, Command::Close(close), record).await?;
        let Reply::Closed { cancelled_tasks, detached_tasks, again } = reply else {
            return Err(Error::Internal("a session was closed without saying so".into()));
        };
        for agent in self.shared.models.agents() {
            let agent = agent.clone();
            self.shared.tracker.spawn(async move { agent.forget(id).await });
        }
        let (engine, caller) = (self.clone(), who.clone());
        self.shared.tracker.spawn(async move {
            let done = engine.suppress_all(&caller, id, SESSION_CLOSED).await;
            if let Err(error) = done {
                tracing::warn!(session_id = %id, %error, "follow-ups of a closed session wait still");
            }
        });
        let session = self.own_session(who, id).await?;
        let replayed = replayed || again;
        Ok(ClosedSession { session, cancelled_tasks, detached_tasks, replayed })
    }
}

/// The fingerprint holds the method, so one method never meets another's record.
pub(super) fn recorded_otherwise() -> Error {
    Error::Internal("a request was recorded as one of another method".into())
}
