//! Requests about sessions.

use crate::{request::builder, v1};

builder! {
    /// A session to create, for [`Sessions::create`](crate::Sessions::create).
    ///
    /// ```
    /// use callpark_client::{CreateSession, v1};
    ///
    /// let request = CreateSession::new().model("fast").allowed_tool("bash");
    /// let message = v1::CreateSessionRequest::from(request);
    /// assert_eq!(message.allowed_tools, ["bash"]);
    /// ```
    #[derive(Default)]
    CreateSession(CreateSessionRequest) {
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
        /// Sets the purpose of the session, for people. At most 4 KiB.
        description: text,
        /// Adds a label, by which sessions can be listed. At most 64.
        labels: label,
        /// Adds a tool to those that may be used in the session. Default: all tools.
        allowed_tools: choices(allowed_tool: &str),
        /// Sets the model of the turns that name none. Default: that of the server.
        model: text,
        /// Sets the system message of the turns that have none.
        system_message: text,
        /// Sets the maximum number of requests to the model in one turn, 1 to 1,000. Default: 50.
        max_rounds: count,
        /// Sets the working directory of the tools: an absolute path on the server. Default: that of the
        /// server.
        working_directory: text,
        /// Sets the maximum number of live tasks, 1 to 1,000. Default: 32.
        max_live_tasks: count,
        /// Sets what happens to work that would exceed the maximum number of live tasks.
        task_limit_policy: choice(v1::TaskLimitPolicy),
        /// Sets which outcomes of the background calls of its agent cause a follow-up. Default: all.
        follow_up: choice(v1::FollowUpPolicy),
        /// Sets what happens to its turns when the server goes away. Default: the next start of the
        /// server goes on with them.
        on_restart: choice(v1::OnRestart),
        /// Sets the usage of models that the session may have. Default: no limit.
        budget: number(v1::Budget),
    }
}

impl CreateSession {
    /// Creates a request with the defaults of the server.
    pub fn new() -> Self {
        Self::default()
    }
}

builder! {
    /// A selection of sessions, for [`Sessions::list`](crate::Sessions::list).
    ///
    /// ```
    /// use callpark_client::{ListSessions, v1};
    ///
    /// let request = ListSessions::new().state(v1::SessionState::Open).page_size(20);
    /// let message = v1::ListSessionsRequest::from(request);
    /// assert_eq!((message.state(), message.page_size), (v1::SessionState::Open, 20));
    /// ```
    #[derive(Default)]
    ListSessions(ListSessionsRequest) {
        /// Selects the sessions in this state.
        state: choice(v1::SessionState),
        /// Selects the sessions with this label. Repeated: with all of them.
        labels: label,
        /// Selects the sessions that were created after this time.
        created_after: time,
        /// Selects the sessions whose id begins with this text, such as `ses-3f2a`.
        session_id_prefix: text,
        /// Sets the number of sessions in one answer, 1 to 1,000. Default: 50.
        page_size: count,
        /// Continues after the answer with this `next_page_token`.
        page_token: text,
    }
}

impl ListSessions {
    /// Selects all sessions of the caller.
    pub fn new() -> Self {
        Self::default()
    }
}

builder! {
    /// A session to close, for [`Sessions::close`](crate::Sessions::close).
    ///
    /// ```
    /// use callpark_client::{CloseSession, v1};
    ///
    /// let message = v1::CloseSessionRequest::from(CloseSession::new("ses-1").reason("done"));
    /// assert_eq!((message.session_id.as_str(), message.reason.as_str()), ("ses-1", "done"));
    /// ```
    CloseSession(CloseSessionRequest) {
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
        /// Sets the reason, for the log.
        reason: text,
    }
}

impl CloseSession {
    /// Closes the session with this id.
    pub fn new(session_id: impl Into<String>) -> Self {
        let session_id = session_id.into();
        Self { message: v1::CloseSessionRequest { session_id, ..Default::default() } }
    }
}

builder! {
    /// A page of the history of a session, for
    /// [`Sessions::list_messages`](crate::Sessions::list_messages).
    ///
    /// ```
    /// use callpark_client::{ListMessages, v1};
    ///
    /// let message = v1::ListMessagesRequest::from(ListMessages::new("ses-1").page_size(20));
    /// assert_eq!((message.session_id.as_str(), message.page_size), ("ses-1", 20));
    /// ```
    ListMessages(ListMessagesRequest) {
        /// Sets the number of messages in one answer, 1 to 1,000. Default: 50.
        page_size: count,
        /// Continues after the answer with this `next_page_token`.
        page_token: text,
    }
}

impl ListMessages {
    /// Lists the messages of this session, from the oldest one on.
    pub fn new(session_id: impl Into<String>) -> Self {
        let session_id = session_id.into();
        Self { message: v1::ListMessagesRequest { session_id, ..Default::default() } }
    }
}

builder! {
    /// The events of a session to stream, for [`Sessions::events`](crate::Sessions::events).
    ///
    /// ```
    /// use callpark_client::{SessionEvents, v1};
    ///
    /// let request = SessionEvents::new("ses-1").start_after_sequence(41).follow(false);
    /// let message = v1::StreamSessionRequest::from(request);
    /// assert_eq!((message.start_after_sequence, message.follow), (Some(41), Some(false)));
    /// ```
    SessionEvents(StreamSessionRequest) {
        /// Streams the events after this sequence. 0: from the first event. Default: from the oldest
        /// event that the log still contains.
        start_after_sequence: number(i64),
        /// Sets the epoch that `start_after_sequence` belongs to. Default: not checked.
        stream_epoch: text,
        /// Streams only the events after the current head.
        from_now: flag,
        /// Adds a payload to those that are streamed. Default: all payloads.
        payloads: choices(payload: v1::PayloadKind),
        /// Sets whether live events follow after all events up to the head. Default: `true`.
        follow: number(bool),
        /// Sets what happens if requested events are no longer kept. Default: the stream delivers a
        /// [`Gap`](crate::SessionItem::Gap).
        on_gap: choice(v1::OnGap),
    }
}

impl SessionEvents {
    /// Streams the events of this session, from the oldest one on.
    pub fn new(session_id: impl Into<String>) -> Self {
        let session_id = session_id.into();
        Self { message: v1::StreamSessionRequest { session_id, ..Default::default() } }
    }
}
