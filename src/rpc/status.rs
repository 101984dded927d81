//! Conversion of errors to gRPC statuses: a code, a stable reason with metadata, and details.

use std::collections::HashMap;
use std::time::Duration;

use callpark_proto::v1::ErrorReason;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert::{InvalidRequest, PageError, Violation, ViolationReason};
use crate::auth::AuthError;
use crate::engine::Error;
use crate::machine::Refusal;
use crate::model::limits::{ERROR_NAME_BYTES_MAX, ERROR_TEXT_BYTES_MAX, ERROR_VIOLATIONS_MAX};
use crate::quota::Exceeded;
use crate::redact::redacted;
use crate::store::StoreError;
use crate::telemetry::TenantLimit;
use crate::tool::ArgumentError;

/// The `domain` of every `ErrorInfo`.
pub(crate) const DOMAIN: &str = "callpark";

/// The header with the address of the replica that can answer, in an error with the reason NOT_OWNER. It
/// is for the layer around the services, and does not leave the server.
pub(crate) const OWNER_HEADER: &str = "callpark-owner";

/// The delay before a retry of a request that was refused for a short time.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The delay before a retry of a request whose server cannot be reached: a few of them are longer than it
/// takes until another one has its sessions.
const RETRY_AFTER_OWNER: Duration = Duration::from_secs(2);

/// The delay before a retry of a request for which a session or the disk has no room.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);

/// An error with a reason, to which metadata and details can be added.
pub(crate) struct ErrorStatus {
    code: Code,
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
    owner: Option<String>,
}

impl ErrorStatus {
    pub(crate) fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        // It may repeat what a caller, a tool or a server has sent.
        let (message, metadata) = (redacted(&message.into()), HashMap::new());
        Self { code, reason, message, metadata, details: ErrorDetails::new(), owner: None }
    }

    /// Adds an entry to the metadata of the `ErrorInfo`.
    pub(crate) fn metadata(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.into(), shown_name(&value.to_string()));
        self
    }

    fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }

    /// Names the address of the replica that can answer, for the layer around the services.
    fn owner(mut self, address: String) -> Self {
        self.owner = Some(address);
        self
    }

    fn resource(mut self, kind: &str, name: &str) -> Self {
        let name = shown_name(name);
        self.details.set_resource_info(kind, name, "", self.message.clone());
        self
    }

    fn precondition(mut self, subject: &str) -> Self {
        let (kind, description) = (reason_name(self.reason), self.message.clone());
        self.details.add_precondition_failure_violation(kind, subject, description);
        self
    }

    fn violations(mut self, title: &str, invalid: InvalidRequest) -> Self {
        let InvalidRequest { mut violations, more } = invalid;
        let omitted = violations.len().saturating_sub(ERROR_VIOLATIONS_MAX) + more;
        violations.truncate(ERROR_VIOLATIONS_MAX);
        let mut listed = Vec::with_capacity(violations.len());
        let mut fields = Vec::with_capacity(violations.len());
        for Violation { field, reason, description } in violations {
            let field = truncate(&field, ERROR_NAME_BYTES_MAX);
            let description = truncate(&redacted(&description), ERROR_TEXT_BYTES_MAX);
            listed.push(match field.as_str() {
                "" => description.clone(),
                _ => format!("{field}: {description}"),
            });
            let mut violation = tonic_types::FieldViolation::new(field, description);
            violation.reason = reason.as_str().into();
            fields.push(violation);
        }
        if omitted > 0 {
            listed.push(format!("and {omitted} more"));
        }
        self.message = format!("{title}: {}", listed.join("; "));
        self.details.set_bad_request(fields);
        self
    }
}

impl From<ErrorStatus> for Status {
    fn from(error: ErrorStatus) -> Self {
        let ErrorStatus { code, reason, message, metadata, mut details, owner } = error;
        details.set_error_info(reason_name(reason), DOMAIN, metadata);
        let mut status = Self::with_error_details(code, message, details);
        if let Some(owner) = owner.and_then(|owner| owner.parse().ok()) {
            status.metadata_mut().insert(OWNER_HEADER, owner);
        }
        status
    }
}

/// Returns the reason as it is sent: the name of its value without the prefix of the enum.
pub(crate) fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// Returns the reason as a detail of an error inside a message.
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

/// Returns a status with a reason and no other details.
pub(crate) fn status(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    ErrorStatus::new(code, reason, message).into()
}

/// Returns the text, or its beginning and its size if it is longer than `bytes_max`.
pub(crate) fn truncate(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}… ({} bytes)", &text[..end], text.len())
}

impl From<InvalidRequest> for Status {
    fn from(invalid: InvalidRequest) -> Self {
        ErrorStatus::new(Code::InvalidArgument, ErrorReason::InvalidField, "")
            .violations("invalid request", invalid)
            .into()
    }
}

impl From<PageError> for Status {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Invalid(request) => request.into(),
            PageError::Token => {
                let description = "is not the next_page_token of an answer to the same filters: \
                                   start again without a token";
                let violation = Violation {
                    field: "page_token".into(),
                    reason: ViolationReason::InvalidFormat,
                    description: description.into(),
                };
                ErrorStatus::new(Code::InvalidArgument, ErrorReason::PageTokenInvalid, "")
                    .violations("invalid page token", violation.into())
                    .into()
            }
        }
    }
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        let reason = match error {
            AuthError::Missing => ErrorReason::CredentialsMissing,
            AuthError::Invalid => ErrorReason::CredentialsInvalid,
            AuthError::Expired => ErrorReason::CredentialsExpired,
            AuthError::Revoked => ErrorReason::CredentialsRevoked,
        };
        status(Code::Unauthenticated, reason, error.to_string())
    }
}

/// Returns a name that a caller may have written, as an error shows it. Only as much of it is searched as may be
/// shown.
fn shown_name(name: &str) -> String {
    truncate(&redacted(&truncate(name, 4 * ERROR_NAME_BYTES_MAX)), ERROR_NAME_BYTES_MAX)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = truncate(&error.to_string(), 4 * ERROR_TEXT_BYTES_MAX);
        let error_status = |code, reason| ErrorStatus::new(code, reason, message.clone());
        let not_found = |reason, kind: &str, key: &str, id: &str| {
            error_status(Code::NotFound, reason)
                .resource(&format!("callpark.v1.{kind}"), id)
                .metadata(key, id)
        };
        let status = match error {
            Error::SessionNotFound(id) => {
                not_found(ErrorReason::SessionNotFound, "Session", "session_id", &id)
            }
            Error::TaskNotFound(id) => {
                not_found(ErrorReason::TaskNotFound, "Task", "background_id", &id)
            }
            Error::FollowUpNotFound(id) => {
                not_found(ErrorReason::FollowUpNotFound, "FollowUp", "follow_up_id", &id)
            }
            Error::ToolNotFound(name) => {
                not_found(ErrorReason::ToolNotFound, "Tool", "tool", &name)
            }
            Error::ModelNotFound { name, .. } => {
                not_found(ErrorReason::ModelNotFound, "Model", "model", &name)
            }
            Error::ToolNotAllowed { tool, session_id } => {
                error_status(Code::PermissionDenied, ErrorReason::ToolNotAllowed)
                    .metadata("tool", tool)
                    .metadata("session_id", session_id)
            }
            Error::Arguments { tool, errors } => invalid_arguments(&tool, errors),
            Error::Stdin { tool, fault } => invalid_stdin(&tool, fault.to_string()),
            Error::RequestIdReused(id) => {
                error_status(Code::AlreadyExists, ErrorReason::RequestIdReused)
                    .metadata("request_id", id)
            }
            Error::Refused(refusal) => refused(&refusal, message),
            Error::Exceeded(exceeded) => return Self::from(exceeded),
            Error::SequenceTrimmed { after, first } => {
                error_status(Code::OutOfRange, ErrorReason::SequenceTrimmed)
                    .metadata("sequence", after)
                    .metadata("first_sequence", first)
            }
            Error::SequenceAhead { after, head } => {
                error_status(Code::OutOfRange, ErrorReason::SequenceAhead)
                    .metadata("sequence", after)
                    .metadata("head_sequence", head)
            }
            Error::EpochMismatch { actual, .. } => {
                error_status(Code::OutOfRange, ErrorReason::StreamEpochMismatch)
                    .metadata("stream_epoch", actual)
            }
            Error::NotOwner { address } => error_status(Code::Unavailable, ErrorReason::NotOwner)
                .retry_after(RETRY_AFTER_OWNER)
                .owner(address),
            Error::Draining => {
                error_status(Code::Unavailable, ErrorReason::Draining).retry_after(RETRY_AFTER)
            }
            Error::DeadlineExceeded => {
                error_status(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded)
            }
            Error::Store(error) => store(&error, message),
            Error::Internal(cause) => {
                tracing::error!(cause, "internal error");
                let message = "internal error: see the server's log";
                ErrorStatus::new(Code::Internal, ErrorReason::Internal, message)
            }
        };
        status.into()
    }
}

impl From<Exceeded> for Status {
    fn from(exceeded: Exceeded) -> Self {
        let reason = match exceeded.limit {
            TenantLimit::StartsPerSecond | TenantLimit::RequestsPerSecond => {
                ErrorReason::RateLimited
            }
            TenantLimit::Streams
            | TenantLimit::LiveCalls
            | TenantLimit::RunningCalls
            | TenantLimit::OpenSessions => ErrorReason::QuotaExceeded,
        };
        let mut status = ErrorStatus::new(Code::ResourceExhausted, reason, exceeded.to_string())
            .retry_after(exceeded.retry_after)
            .metadata("limit", exceeded.limit)
            .metadata("maximum", &exceeded.maximum);
        let subject = format!("tenant:{}", exceeded.tenant);
        status.details.add_quota_failure_violation(subject, exceeded.description());
        status.into()
    }
}

fn invalid_stdin(tool: &str, description: String) -> ErrorStatus {
    let (field, reason) = ("stdin".into(), ViolationReason::Conflict);
    let violation = Violation { field, reason, description };
    let shown = truncate(tool, ERROR_NAME_BYTES_MAX);
    ErrorStatus::new(Code::InvalidArgument, ErrorReason::ArgumentsInvalid, "")
        .violations(&format!("tool `{shown}`"), violation.into())
        .metadata("tool", tool)
}

fn invalid_arguments(tool: &str, errors: Vec<ArgumentError>) -> ErrorStatus {
    let violations = errors.into_iter().map(|error| Violation {
        field: argument_path(error.path),
        reason: ViolationReason::SchemaMismatch,
        description: error.description,
    });
    let shown = truncate(tool, ERROR_NAME_BYTES_MAX);
    let title = format!("the arguments do not satisfy the schema of tool `{shown}`");
    ErrorStatus::new(Code::InvalidArgument, ErrorReason::ArgumentsInvalid, "")
        .violations(&title, InvalidRequest { violations: violations.collect(), more: 0 })
        .metadata("tool", tool)
}

/// Returns the path of an argument as a field of the request.
fn argument_path(path: String) -> String {
    match path.as_str() {
        "" => "arguments".to_owned(),
        path if path.starts_with('[') => format!("arguments{path}"),
        path => format!("arguments.{path}"),
    }
}

fn refused(refusal: &Refusal, message: String) -> ErrorStatus {
    let error_status = |code, reason| ErrorStatus::new(code, reason, message);
    match refusal {
        Refusal::SessionClosed { session_id } => {
            error_status(Code::FailedPrecondition, ErrorReason::SessionClosed)
                .precondition("callpark.v1.Session")
                .metadata("session_id", session_id)
        }
        // Leases and deliveries skip such a follow-up: no request ends with this refusal.
        Refusal::FollowUpTaken { .. } => error_status(Code::Internal, ErrorReason::Internal),
        Refusal::LeaseExpired { call_id } => {
            error_status(Code::FailedPrecondition, ErrorReason::LeaseExpired)
                .precondition("callpark.v1.FollowUp")
                .metadata("follow_up_id", call_id.follow_up())
        }
        Refusal::FollowUpNotDeadLettered { call_id, state } => {
            error_status(Code::FailedPrecondition, ErrorReason::FollowUpNotDeadLettered)
                .precondition("callpark.v1.FollowUp")
                .metadata("follow_up_id", call_id.follow_up())
                .metadata("state", super::convert::follow_up_state_name(*state))
        }
        Refusal::TaskRunning { call_id } => {
            error_status(Code::FailedPrecondition, ErrorReason::TaskRunning)
                .precondition("callpark.v1.Task")
                .metadata("background_id", call_id.background())
        }
        Refusal::Busy { session_id, live } => error_status(Code::Aborted, ErrorReason::SessionBusy)
            .retry_after(RETRY_AFTER_FULL)
            .metadata("session_id", session_id)
            .metadata("live_tasks", live),
        Refusal::TurnRunning { session_id } => {
            error_status(Code::Aborted, ErrorReason::SessionBusy)
                .retry_after(RETRY_AFTER_FULL)
                .metadata("session_id", session_id)
        }
        Refusal::TaskLimit { session_id, limit } => {
            let mut status = error_status(Code::ResourceExhausted, ErrorReason::TaskLimit)
                .retry_after(RETRY_AFTER_FULL)
                .metadata("session_id", session_id)
                .metadata("limit", limit);
            let description = format!("at most {limit} live tasks in a session");
            status.details.add_quota_failure_violation("max_live_tasks", description);
            status
        }
    }
}

fn store(error: &StoreError, message: String) -> ErrorStatus {
    match error {
        StoreError::Full(_) => {
            ErrorStatus::new(Code::ResourceExhausted, ErrorReason::StorageFull, message)
                .retry_after(RETRY_AFTER_FULL)
        }
        // Another server has taken over the session or used the request id: a retry reaches it.
        StoreError::Conflict { .. } | StoreError::NotOwner | StoreError::RequestTaken { .. } => {
            ErrorStatus::new(Code::Unavailable, ErrorReason::NotOwner, message)
                .retry_after(RETRY_AFTER)
        }
        StoreError::Corrupt(_) => {
            tracing::error!(%error, "a record is damaged");
            let message = format!(
                "{error}: restore the store from a backup if you need it (`callpark restore`)"
            );
            ErrorStatus::new(Code::DataLoss, ErrorReason::RecordDamaged, message)
        }
        StoreError::Broken(_) | StoreError::Unavailable(_) => {
            tracing::error!(%error, "the store failed");
            let message = "the store cannot be used at the moment: see the server's log";
            ErrorStatus::new(Code::Unavailable, ErrorReason::StoreUnavailable, message)
                .retry_after(RETRY_AFTER_FULL)
        }
    }
}
