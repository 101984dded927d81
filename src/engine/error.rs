//! Why the engine didn't do as it was asked: one variant for each thing that a caller would do
//! differently.

use crate::machine::Refusal;
use crate::store::StoreError;
use crate::tool::ArgumentFault;

/// Why the engine didn't do as it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such session for this caller.
    #[error("session `{0}` was not found: it may have expired, or never existed")]
    SessionNotFound(String),
    /// No such task for this caller.
    #[error(
        "background task `{0}` was not found: it may have expired, been deleted, or never existed"
    )]
    TaskNotFound(String),
    /// No such follow-up for this caller.
    #[error("follow-up `{0}` was not found: it may have expired, or never existed")]
    FollowUpNotFound(String),
    /// No such tool for this caller.
    #[error("tool `{0}` was not found: ListTools gives those that can be used")]
    ToolNotFound(String),
    /// No such model.
    #[error("model `{name}` was not found: this server has {}", known(.models))]
    ModelNotFound {
        /// What was asked for; empty: the default one.
        name: String,
        /// Those that there are.
        models: Vec<String>,
    },
    /// The arguments don't fit the tool.
    #[error("the arguments don't fit tool `{tool}`: {}", listed(.faults))]
    Arguments {
        /// The tool.
        tool: String,
        /// Every fault.
        faults: Vec<ArgumentFault>,
    },
    /// The request id was used for something else.
    #[error(
        "request id `{0}` was used before with other content: use a new UUID for each new request"
    )]
    RequestIdReused(String),
    /// The state of the session or task forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The events after the asked sequence are gone.
    #[error(
        "events after sequence {after} were asked for, but the log begins at {first}: start after \
         {} or let on_gap be SIGNAL", .first.saturating_sub(1)
    )]
    SequenceTrimmed {
        /// What was asked for.
        after: u64,
        /// The oldest event that is left.
        first: u64,
    },
    /// There are no such events yet.
    #[error("events after sequence {after} were asked for, but the newest is {head}")]
    SequenceAhead {
        /// What was asked for.
        after: u64,
        /// The newest event.
        head: u64,
    },
    /// The sequence is of another log.
    #[error(
        "the session's log has stream_epoch `{actual}`, not `{asked}`: its sequences mean nothing \
         here, start from the beginning"
    )]
    EpochMismatch {
        /// What was asked for.
        asked: String,
        /// What it is.
        actual: String,
    },
    /// The server ends the request, to stop or because a stream has lasted long enough.
    #[error("the server ends this in good order, to stop or to spread its load: ask again")]
    Draining,
    /// The caller's deadline came before an answer.
    #[error("the deadline passed before the answer; the work goes on")]
    DeadlineExceeded,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of this server.
    #[error("internal error: {0}")]
    Internal(String),
}

fn known(models: &[String]) -> String {
    match models {
        [] => "none: add [[models]] to its configuration".to_owned(),
        models => models.join(", "),
    }
}

fn listed(faults: &[ArgumentFault]) -> String {
    let line = |fault: &ArgumentFault| match fault.path.as_str() {
        "" => fault.description.clone(),
        path => format!("{path}: {}", fault.description),
    };
    faults.iter().map(line).collect::<Vec<_>>().join("; ")
}
