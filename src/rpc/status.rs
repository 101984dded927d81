//! Errors become statuses: a code for the program, a reason that stays the same, and details.

use std::collections::HashMap;
use std::time::Duration;

use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert::{Invalid, PageFault};
use crate::auth::AuthError;
use crate::engine::Error;
use crate::machine::Refusal;
use crate::model::limits::{ERROR_FAULTS_MAX, ERROR_NAME_BYTES_MAX, ERROR_TEXT_BYTES_MAX};
use crate::store::StoreError;

/// The domain of every reason.
pub(crate) const DOMAIN: &str = "callpark";

/// When a caller that was turned away for a moment should come back.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The same where a full session or disk is waited for.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);

fn details(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

/// A status with a reason and nothing else.
pub(crate) fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, details(reason))
}

/// The reason as a detail of an error inside a message.
pub(crate) fn error_info(reason: &str) -> Any {
    let info = tonic_types::pb::ErrorInfo {
        reason: reason.into(),
        domain: DOMAIN.into(),
        metadata: HashMap::new(),
    };
    Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(),
        value: prost::Message::encode_to_vec(&info),
    }
}

/// An RPC that this server doesn't have.
pub(crate) fn unimplemented(what: &str) -> Status {
    let message = format!("{what} is not part of this server: it runs tools and background tasks");
    status(Code::Unimplemented, "NOT_IMPLEMENTED", message)
}

/// Bad fields, all of them.
pub(crate) fn invalid(Invalid(faults): Invalid) -> Status {
    bad_request("INVALID_FIELD", "invalid request", faults)
}

fn bad_request(reason: &str, what: &str, mut faults: Vec<(String, String)>) -> Status {
    let more = faults.len().saturating_sub(ERROR_FAULTS_MAX);
    faults.truncate(ERROR_FAULTS_MAX);
    let mut details = details(reason);
    let mut listed = Vec::with_capacity(faults.len());
    for (field, fault) in faults {
        let field = short(&field, ERROR_NAME_BYTES_MAX);
        let fault = short(&fault, ERROR_TEXT_BYTES_MAX);
        listed.push(if field.is_empty() { fault.clone() } else { format!("{field}: {fault}") });
        details.add_bad_request_violation(field, fault);
    }
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    let message = format!("{what}: {}", listed.join("; "));
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The text, cut where it is longer than an error should repeat.
pub(crate) fn short(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

impl From<PageFault> for Status {
    fn from(fault: PageFault) -> Self {
        match fault {
            PageFault::Fields(faults) => invalid(faults),
            PageFault::Token => {
                let fault = "is not a next_page_token of an answer to the same filters: begin \
                             again without one";
                bad_request(
                    "PAGE_TOKEN_INVALID",
                    "invalid page token",
                    vec![("page_token".into(), fault.into())],
                )
            }
        }
    }
}

/// Credentials that are missing or wrong.
pub(crate) fn unauthenticated(error: AuthError) -> Status {
    let reason = match error {
        AuthError::Missing => "CREDENTIALS_MISSING",
        AuthError::Invalid => "CREDENTIALS_INVALID",
    };
    status(Code::Unauthenticated, reason, error.to_string())
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = short(&error.to_string(), 4 * ERROR_TEXT_BYTES_MAX);
        match error {
            Error::SessionNotFound(id) => {
                not_found("SESSION_NOT_FOUND", "callpark.v1.Session", id, message)
            }
            Error::TaskNotFound(id) => not_found("TASK_NOT_FOUND", "callpark.v1.Task", id, message),
            Error::FollowUpNotFound(id) => {
                not_found("FOLLOW_UP_NOT_FOUND", "callpark.v1.FollowUp", id, message)
            }
            Error::ToolNotFound(name) => {
                not_found("TOOL_NOT_FOUND", "callpark.v1.Tool", name, message)
            }
            Error::ModelNotFound { name, .. } => {
                not_found("MODEL_NOT_FOUND", "callpark.v1.Model", name, message)
            }
            Error::Arguments { tool, faults } => {
                let field = |path: String| match path.as_str() {
                    "" => "arguments".to_owned(),
                    path if path.starts_with('[') => format!("arguments{path}"),
                    path => format!("arguments.{path}"),
                };
                let faults = faults.into_iter().map(|fault| (field(fault.path), fault.description));
                let tool = short(&tool, ERROR_NAME_BYTES_MAX);
                let what = format!("the arguments don't fit tool `{tool}`");
                bad_request("ARGUMENTS_INVALID", &what, faults.collect())
            }
            Error::RequestIdReused(_) => status(Code::AlreadyExists, "REQUEST_ID_REUSED", message),
            Error::Refused(refusal) => refused(&refusal, message),
            Error::SequenceTrimmed { .. } => status(Code::OutOfRange, "SEQUENCE_TRIMMED", message),
            Error::SequenceAhead { .. } => status(Code::OutOfRange, "SEQUENCE_AHEAD", message),
            Error::EpochMismatch { .. } => {
                status(Code::OutOfRange, "STREAM_EPOCH_MISMATCH", message)
            }
            Error::Draining => retry(Code::Unavailable, "DRAINING", message, RETRY_AFTER),
            Error::DeadlineExceeded => status(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message),
            Error::Store(error) => store(&error, message),
            Error::Internal(cause) => {
                tracing::error!(cause, "a defect of this server");
                status(Code::Internal, "INTERNAL", "internal error: see the server's log")
            }
        }
    }
}

fn not_found(reason: &str, kind: &str, name: String, message: String) -> Status {
    let mut details = details(reason);
    let name = short(&name, ERROR_NAME_BYTES_MAX);
    details.set_resource_info(kind, name, "", message.clone());
    Status::with_error_details(Code::NotFound, message, details)
}

fn retry(code: Code, reason: &str, message: String, after: Duration) -> Status {
    let mut details = details(reason);
    details.set_retry_info(Some(after));
    Status::with_error_details(code, message, details)
}

fn refused(refusal: &Refusal, message: String) -> Status {
    match refusal {
        Refusal::SessionClosed => precondition("SESSION_CLOSED", "callpark.v1.Session", message),
        // Nobody who asks hears of it: what somebody else has is passed over.
        Refusal::FollowUpTaken => retry(Code::Aborted, "FOLLOW_UP_TAKEN", message, RETRY_AFTER),
        Refusal::LeaseExpired => precondition("LEASE_EXPIRED", "callpark.v1.FollowUp", message),
        Refusal::FollowUpNotDeadLettered { .. } => {
            precondition("FOLLOW_UP_NOT_DEAD_LETTERED", "callpark.v1.FollowUp", message)
        }
        Refusal::TaskRunning => precondition("TASK_RUNNING", "callpark.v1.Task", message),
        Refusal::Busy { .. } | Refusal::TurnRunning => {
            retry(Code::Aborted, "SESSION_BUSY", message, RETRY_AFTER_FULL)
        }
        Refusal::TaskLimit { limit } => {
            let mut details = details("TASK_LIMIT");
            details.add_quota_failure_violation("max_live_tasks", format!("at most {limit}"));
            details.set_retry_info(Some(RETRY_AFTER_FULL));
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
    }
}

/// A state that forbids what was asked.
pub(crate) fn precondition(reason: &str, subject: &str, message: String) -> Status {
    let mut details = details(reason);
    details.add_precondition_failure_violation(reason, subject, message.clone());
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

fn store(error: &StoreError, message: String) -> Status {
    match error {
        StoreError::Full(_) => {
            retry(Code::ResourceExhausted, "STORAGE_FULL", message, RETRY_AFTER_FULL)
        }
        // Another server has taken the session over, or has used the id: ask again.
        StoreError::Conflict { .. } | StoreError::RequestTaken { .. } => {
            retry(Code::Unavailable, "NOT_OWNER", message, RETRY_AFTER)
        }
        StoreError::Broken(_) | StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
            tracing::error!(%error, "the store failed");
            let told = "the store can't be used now: see the server's log".into();
            retry(Code::Unavailable, "STORE_UNAVAILABLE", told, RETRY_AFTER_FULL)
        }
    }
}
