//! Requests about turns.

use std::{collections::BTreeMap, time::Duration};

use callpark_proto::v1::start_request::Work;

use crate::{
    request::{builder, to_message},
    v1,
};

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
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a request does nothing until it is sent"]
pub struct RunTurn {
    message: v1::RunTurnRequest,
    background: Background,
}

/// The fields that the contract has for turns in the background only.
#[derive(Clone, Debug, Default, PartialEq)]
struct Background {
    execution_timeout: Option<prost_types::Duration>,
    follow_up: i32,
    detached: bool,
    labels: BTreeMap<String, String>,
    description: String,
    dry_run: bool,
}

impl RunTurn {
    /// Creates a turn with this prompt.
    pub fn new(prompt: impl Into<String>) -> Self {
        let message = v1::RunTurnRequest { prompt: prompt.into(), ..Default::default() };
        Self { message, background: Background::default() }
    }

    /// Runs the turn in this session. Default: a new session, named in the answer.
    pub fn session_id(mut self, session_id: impl Into<String>) -> Self {
        self.message.session_id = session_id.into();
        self
    }

    /// Sets the id under which the request can be repeated, a UUID. Default: the client creates one.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.message.request_id = request_id.into();
        self
    }

    /// Adds content to the prompt, such as an image.
    pub fn attachment(mut self, attachment: v1::Content) -> Self {
        self.message.attachments.push(attachment);
        self
    }

    /// Sets the model. Default: that of the session.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.message.model = model.into();
        self
    }

    /// Sets the system message. Default: that of the session.
    pub fn system_message(mut self, system_message: impl Into<String>) -> Self {
        self.message.system_message = system_message.into();
        self
    }

    /// Sets the maximum number of requests to the model. Default: that of the session.
    pub fn max_rounds(mut self, max_rounds: u32) -> Self {
        self.message.max_rounds = i32::try_from(max_rounds).unwrap_or(i32::MAX);
        self
    }

    /// Sets the maximum number of attempts of one request to the model. Default: that of the server.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.message.max_attempts = i32::try_from(max_attempts).unwrap_or(i32::MAX);
        self
    }

    /// Sets what happens if the session already runs a turn. Default: the prompt is refused. Not used
    /// by [`Tasks::start`](crate::Tasks::start).
    pub fn busy_policy(mut self, busy_policy: v1::BusyPolicy) -> Self {
        self.message.busy_policy = busy_policy.into();
        self
    }

    /// Sets the time limit of the turn. Only used by [`Tasks::start`](crate::Tasks::start).
    pub fn execution_timeout(mut self, execution_timeout: Duration) -> Self {
        self.background.execution_timeout = Some(to_message(execution_timeout));
        self
    }

    /// Sets which outcomes cause a follow-up. Only used by [`Tasks::start`](crate::Tasks::start).
    pub fn follow_up(mut self, follow_up: v1::FollowUpPolicy) -> Self {
        self.background.follow_up = follow_up.into();
        self
    }

    /// Lets the turn continue when its session is closed. Only used by
    /// [`Tasks::start`](crate::Tasks::start).
    pub fn detached(mut self) -> Self {
        self.background.detached = true;
        self
    }

    /// Adds a label, by which tasks can be listed. Only used by
    /// [`Tasks::start`](crate::Tasks::start).
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.background.labels.insert(key.into(), value.into());
        self
    }

    /// Sets the purpose of the turn, for people. Only used by [`Tasks::start`](crate::Tasks::start).
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.background.description = description.into();
        self
    }

    /// Checks the request and starts nothing. Only used by [`Tasks::start`](crate::Tasks::start).
    pub fn dry_run(mut self) -> Self {
        self.background.dry_run = true;
        self
    }
}

impl From<RunTurn> for v1::RunTurnRequest {
    fn from(request: RunTurn) -> Self {
        request.message
    }
}

impl From<RunTurn> for v1::StreamTurnRequest {
    fn from(request: RunTurn) -> Self {
        let v1::RunTurnRequest {
            session_id,
            prompt,
            attachments,
            model,
            system_message,
            max_rounds,
            request_id,
            busy_policy,
            max_attempts,
        } = request.message;
        Self {
            session_id,
            prompt,
            attachments,
            model,
            system_message,
            max_rounds,
            request_id,
            busy_policy,
            max_attempts,
        }
    }
}

impl From<RunTurn> for v1::StartRequest {
    fn from(request: RunTurn) -> Self {
        let RunTurn { message, background } = request;
        let v1::RunTurnRequest { session_id, request_id, .. } = message;
        let turn = v1::AgentTurn {
            prompt: message.prompt,
            attachments: message.attachments,
            model: message.model,
            system_message: message.system_message,
            max_rounds: message.max_rounds,
            max_attempts: message.max_attempts,
            description: background.description,
            execution_timeout: background.execution_timeout,
            follow_up: background.follow_up,
            detached: background.detached,
            labels: background.labels,
        };
        let (work, dry_run) = (Some(Work::AgentTurn(turn)), background.dry_run);
        Self { session_id, request_id, work, dry_run, ..Default::default() }
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
