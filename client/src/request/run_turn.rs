//! Requests about turns.

use callpark_proto::v1::start_request::Work;

use crate::{request::builder, v1};

builder! {
    /// A prompt to an agent, for [`Turns::run`](crate::Turns::run),
    /// [`Turns::stream`](crate::Turns::stream) and [`Tasks::start`](crate::Tasks::start).
    ///
    /// ```
    /// use callpark_client::{RunTurn, v1};
    ///
    /// let request = RunTurn::new("Which tests fail?").session_id("ses-1").max_rounds(8);
    /// let message = v1::RunTurnRequest::from(request);
    /// assert_eq!((message.prompt.as_str(), message.max_rounds), ("Which tests fail?", 8));
    /// ```
    RunTurn(RunTurnRequest) {
        /// Runs the turn in this session. Default: a new session, named in the answer.
        session_id: text,
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
        /// Sets the model. Default: that of the session.
        model: text,
        /// Sets the system message. Default: that of the session.
        system_message: text,
        /// Sets the maximum number of requests to the model, 1 to 1,000. Default: that of the session.
        max_rounds: count,
        /// Sets the maximum number of attempts of one request to the model, 1 to 10. Default: 3.
        max_attempts: count,
        /// Sets what happens if the session already runs a turn. Default: the prompt is refused, or in
        /// [`Tasks::start`](crate::Tasks::start) what
        /// [`concurrency`](crate::StartTask::concurrency) says.
        busy_policy: choice(v1::BusyPolicy),
        /// Sets the time to wait for the end of the turn before it is parked; 0 parks it at once. At
        /// most 30 days. Default: no limit. Not used by [`Tasks::start`](crate::Tasks::start).
        call_budget: duration,
        /// Sets the time limit of the turn, from its start, parked or not. At most 30 days. Default:
        /// 24 h, or 600 s in [`Tasks::start`](crate::Tasks::start).
        execution_timeout: duration,
        /// Sets what happens to the turn if the caller disconnects before it is answered. Default: the
        /// turn is parked. Not used by [`Tasks::start`](crate::Tasks::start).
        on_disconnect: choice(v1::OnDisconnect),
        /// Sets which outcomes of the turn, once it is parked, cause a follow-up. Default: none.
        follow_up: choice(v1::FollowUpPolicy),
        /// Lets the turn, once it is parked, continue when its session is closed.
        detached: flag,
        /// Adds a label, by which tasks can be listed. At most 64.
        labels: label,
        /// Sets the purpose of the turn, for people. At most 4 KiB.
        description: text,
        /// Checks the request and starts nothing.
        dry_run: flag,
    }
}

impl RunTurn {
    /// Creates a turn with this prompt.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { message: v1::RunTurnRequest { prompt: prompt.into(), ..Default::default() } }
    }

    /// Adds content to the prompt, such as an image. At most 32 parts.
    pub fn attachment(mut self, attachment: v1::Content) -> Self {
        self.message.attachments.push(attachment);
        self
    }
}

/// The time to wait and what happens at a disconnect are dropped: work that starts in the background
/// has no caller that waits.
impl From<RunTurn> for v1::StartRequest {
    fn from(request: RunTurn) -> Self {
        let turn = v1::RunTurnRequest {
            call_budget: None,
            on_disconnect: v1::OnDisconnect::Unspecified.into(),
            ..request.message
        };
        Self { work: Some(Work::Turn(turn)), ..Default::default() }
    }
}

builder! {
    /// A turn to stop, for [`Turns::cancel`](crate::Turns::cancel).
    ///
    /// ```
    /// use callpark_client::{CancelTurn, v1};
    ///
    /// let message = v1::CancelTurnRequest::from(CancelTurn::new("ses-1").reason("wrong question"));
    /// assert_eq!(message.reason, "wrong question");
    /// ```
    CancelTurn(CancelTurnRequest) {
        /// Stops only this turn. Default: the turn that the session runs.
        turn_id: text,
        /// Sets the id under which the request can be repeated, a UUID. Default: the client creates
        /// one.
        request_id: text,
        /// Sets the reason, for the log.
        reason: text,
    }
}

impl CancelTurn {
    /// Stops the turn of this session.
    pub fn new(session_id: impl Into<String>) -> Self {
        Self {
            message: v1::CancelTurnRequest { session_id: session_id.into(), ..Default::default() },
        }
    }
}
