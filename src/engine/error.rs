//! The errors of the engine, with one variant for each reason that a caller would act on
//! differently.

use crate::machine::Refusal;
use crate::quota::Exceeded;
use crate::store::StoreError;
use crate::tool::ArgumentError;

/// The reason why a call cannot have the standard input of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StdinFault {
    /// The tool is not a process.
    #[error("the tool is not a process and reads no standard input: leave it out")]
    NoProcess,
    /// The arguments give a standard input, too.
    #[error("the arguments give the standard input already: leave one of them out")]
    GivenTwice,
}

/// An error of the engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller has no such session.
    #[error("session `{0}` was not found: it may have expired, or never existed")]
    SessionNotFound(String),
    /// The caller has no such task.
    #[error(
        "background task `{0}` was not found: it may have expired, been deleted, or never existed"
    )]
    TaskNotFound(String),
    /// The caller has no such follow-up.
    #[error("follow-up `{0}` was not found: it may have expired, or never existed")]
    FollowUpNotFound(String),
    /// The caller has no such tool.
    #[error("tool `{0}` was not found: ListTools returns the tools that can be used")]
    ToolNotFound(String),
    /// The session's allowed tools exclude the tool.
    #[error(
        "tool `{tool}` is not allowed in session `{session_id}`: add it to the session's \
         allowed_tools with UpdateSession, or use another session"
    )]
    ToolNotAllowed {
        /// The tool.
        tool: String,
        /// The session.
        session_id: String,
    },
    /// The server has no such model.
    #[error("model `{name}` was not found: this server has {}", list_models(.models))]
    ModelNotFound {
        /// The requested name, or empty for the default model.
        name: String,
        /// The names of all models.
        models: Vec<String>,
    },
    /// The arguments do not fit the tool.
    #[error("the arguments do not fit tool `{tool}`: {}", list(.errors))]
    Arguments {
        /// The tool.
        tool: String,
        /// All errors of the arguments.
        errors: Vec<ArgumentError>,
    },
    /// The tool does not take the standard input of the request.
    #[error("tool `{tool}`: stdin: {fault}")]
    Stdin {
        /// The tool.
        tool: String,
        /// The reason.
        fault: StdinFault,
    },
    /// The request id was used for another request.
    #[error(
        "request id `{0}` was used before with other content: use a new UUID for each new request"
    )]
    RequestIdReused(String),
    /// The state of the session or task does not allow the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The tenant has reached a limit.
    #[error(transparent)]
    Exceeded(#[from] Exceeded),
    /// Events after the requested sequence have been trimmed.
    #[error(
        "events after sequence {after} were requested, but the log begins at {first}: start after \
         {} or set on_gap to SIGNAL", .first.saturating_sub(1)
    )]
    SequenceTrimmed {
        /// The requested sequence.
        after: u64,
        /// The sequence of the oldest event.
        first: u64,
    },
    /// The requested sequence has not been reached yet.
    #[error("events after sequence {after} were requested, but the newest is {head}")]
    SequenceAhead {
        /// The requested sequence.
        after: u64,
        /// The newest sequence.
        head: u64,
    },
    /// The requested sequence belongs to another log.
    #[error(
        "the session's log has stream_epoch `{actual}`, not `{asked}`: sequences of one epoch \
         have no meaning in another, start from the beginning"
    )]
    EpochMismatch {
        /// The requested epoch.
        asked: String,
        /// The epoch of the log.
        actual: String,
    },
    /// Another replica serves the session.
    #[error(
        "the session is served by another server, which cannot be reached now: repeat the request"
    )]
    NotOwner {
        /// The address of that replica.
        address: String,
    },
    /// The server ends the request, because it stops or because a stream has reached its age.
    #[error("the server ended the request, to stop or to spread its load: repeat it")]
    Draining,
    /// The caller's deadline passed before the answer.
    #[error("the deadline passed before the answer; the work continues")]
    DeadlineExceeded,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of this server.
    #[error("internal error: {0}")]
    Internal(String),
}

fn list_models(models: &[String]) -> String {
    match models {
        [] => "none for this caller: its configuration needs [[models]], or [[grants]] with them"
            .to_owned(),
        models => models.join(", "),
    }
}

fn list(errors: &[ArgumentError]) -> String {
    let line = |error: &ArgumentError| match error.path.as_str() {
        "" => error.description.clone(),
        path => format!("{path}: {}", error.description),
    };
    errors.iter().map(line).collect::<Vec<_>>().join("; ")
}
