//! Requests to start calls, and their results.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{CallHandle, CallHold};
use crate::engine::RequestKey;
use crate::machine::{Concurrency, Start};
use crate::model::{CallId, FollowUpPolicy, Labels, OnDisconnect, SessionId, TurnId};
use crate::tool::Arguments;

/// A request to start a call.
#[derive(Debug, Clone, Default)]
pub struct CallRequest {
    /// The session, or `None` to create one for the call.
    pub session_id: Option<SessionId>,
    /// The name of the tool.
    pub tool: String,
    /// The arguments of the tool.
    pub arguments: Arguments,
    /// The standard input of the process that the call runs, or empty for the one that the arguments
    /// give.
    pub stdin: Bytes,
    /// A description for people and models.
    pub description: String,
    /// The budget, or `None` for that of the tool.
    pub call_budget: Option<Duration>,
    /// The execution timeout, or `None` for that of the tool or else of the server.
    pub execution_timeout: Option<Duration>,
    /// The time without output after which the call times out, or `None` for no such limit.
    pub idle_timeout: Option<Duration>,
    /// The effect of the last caller's leaving.
    pub on_disconnect: OnDisconnect,
    /// The ends of the call that lead to a follow-up.
    pub follow_up: FollowUpPolicy,
    /// `true` if the call continues when its session is closed.
    pub detached: bool,
    /// The maximum size of the output to keep, or `None` for as much as possible.
    pub max_output_bytes: Option<u64>,
    /// The caller's labels.
    pub labels: Labels,
    /// The request id, or `None` if the request may have its effect again.
    pub request: Option<RequestKey>,
    /// `true` if the call starts in the background.
    pub background: bool,
    /// The effect of other live tasks of the session.
    pub concurrency: Concurrency,
    /// `true` if the request is checked only.
    pub dry_run: bool,
    /// The time at which the caller needs an answer, or `None` if it can wait.
    pub answer_at: Option<Instant>,
    /// The turn of an agent that makes the call, with the id of the call, or `None` for a call of
    /// a client.
    pub of_turn: Option<(TurnId, CallId)>,
}

/// The result of a dry run: what would have been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// The session of the request, or `None` if it named none.
    pub session_id: Option<SessionId>,
}

/// The result of a request to start a call.
#[derive(Debug)]
pub enum Started {
    /// The call was started, by this request or by an earlier one with the same id.
    Call(CallHandle),
    /// The request was checked only.
    DryRun(DryRun),
}

/// A start command that is admitted, with the id of its request.
pub(crate) struct StartRequest {
    pub(crate) start: Start,
    pub(crate) request: Option<RequestKey>,
    /// Counts the call for the limits of its tenant.
    pub(crate) hold: CallHold,
}
